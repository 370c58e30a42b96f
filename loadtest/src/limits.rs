//! Open files and CPUs: raising what may be raised, and saying clearly what may not.

use std::num::NonZeroU64;

use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use rustix::thread::{sched_setaffinity, set_current_timer_slack, CpuSet};

use crate::failure::Failure;

/// Files beside the connections: standard streams, epoll and wake-up descriptors, `/proc` files
/// while reading.
const RESERVED_FILES: u64 = 48;

/// Raises the soft limit of open files as far as the hard limit allows, and checks that `clients`
/// fit.
pub(crate) fn make_room(clients: u32, threads: u32) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // A refusal shows as the old limit below, which is what counts.
    let _ = setrlimit(Resource::Nofile, raised);
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    check_room(clients, threads, allowed)
}

fn check_room(clients: u32, threads: u32, allowed: u64) -> Result<(), Failure> {
    let room = allowed.saturating_sub(RESERVED_FILES + 2 * u64::from(threads));
    if u64::from(clients) <= room {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{clients} connections need more open files than the {allowed} this process may have: at most {room} \
         connections are possible here; raise the hard limit (`ulimit -Hn`, LimitNOFILE=) or run several \
         flooders, each with its own --client-id-prefix"
    )))
}

/// Pins the calling thread to one CPU.
pub(crate) fn pin_to(cpu: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(Failure::Usage(format!("--cpu {cpu}: no such CPU")));
    }
    set.set(cpu);
    sched_setaffinity(None, &set)
        .map_err(|error| Failure::system(&format!("--cpu {cpu}: cannot pin a thread to it"), error))
}

/// Lets timers of this thread fire on time: the default slack of 50 us would show in every paced
/// latency.
pub(crate) fn sharpen_timers() {
    // Where it is refused the waits are a little longer, no more.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifteen_thousand_fit_into_twenty_thousand_files() {
        assert_eq!(check_room(15_000, 1, 20_000), Ok(()));
        assert_eq!(check_room(19_950, 1, 20_000), Ok(()));
    }

    #[test]
    fn too_many_are_refused_with_the_number_possible() {
        let error = check_room(20_000, 1, 20_000).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.to_string().contains("at most 19950 connections"),
            "{error}"
        );
    }
}
