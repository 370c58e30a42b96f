//! Whether this kernel lets us have the ring the driver is built for.
//!
//! What the ring can do beyond that, its driver finds out and logs.

use std::io;

use crate::node::IoDriver;
use io_uring::IoUring;
use rustix::io::Errno;

use super::Host;

/// glommio makes no executor with less memory to lock.
pub(super) const LOCKED_BYTES_MIN: u64 = 512 << 10;

/// Which driver runs.
#[derive(Debug)]
pub struct Choice {
    pub io: IoDriver,
    /// Why it is the slower one, where nobody asked for that: a line for the operator.
    pub why: Option<String>,
}

/// Takes what was asked for, else the ring where it can be had. An error is a line for the operator.
pub fn choose(asked: Option<IoDriver>, host: &Host) -> Result<Choice, String> {
    match asked {
        Some(IoDriver::Epoll) => Ok(Choice {
            io: IoDriver::Epoll,
            why: None,
        }),
        // Who insists gets the ring of an older kernel, too.
        Some(IoDriver::Ring) => match probe(host, Wanted::AnyRing) {
            Ok(()) => Ok(Choice {
                io: IoDriver::Ring,
                why: None,
            }),
            Err(why) => Err(format!("no io ring here: {why}; or run with --io epoll")),
        },
        None => Ok(match probe(host, Wanted::FastRing) {
            Ok(()) => Choice {
                io: IoDriver::Ring,
                why: None,
            },
            Err(why) => Choice {
                io: IoDriver::Epoll,
                why: Some(format!("io epoll, since no ring: {why}")),
            },
        }),
    }
}

enum Wanted {
    AnyRing,
    /// With completions worked on when asked for. Kernel 6.1 brought it; older ones also lack half of what makes
    /// the ring faster than epoll.
    FastRing,
}

fn probe(host: &Host, wanted: Wanted) -> Result<(), String> {
    if host.locked_bytes < LOCKED_BYTES_MIN {
        return Err("it needs 512 KiB of locked memory (prlimit --memlock)".to_owned());
    }
    let mut builder = IoUring::builder();
    if let Wanted::FastRing = wanted {
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    let ring: io::Result<IoUring> = builder.build(8);
    ring.map(drop).map_err(|error| reason(&error))
}

fn reason(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::PERM) => "io_uring is forbidden (sysctl -w kernel.io_uring_disabled=0 allows \
                              it; in a container, its seccomp profile does)"
            .to_owned(),
        Some(Errno::NOSYS) => "this kernel has no io_uring".to_owned(),
        Some(Errno::INVAL) => "this kernel is older than 6.1".to_owned(),
        _ => format!("io_uring_setup: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(locked_bytes: u64) -> Host {
        Host {
            cpus: vec![0],
            memory_bytes: 1 << 30,
            open_files: 1_024,
            locked_bytes,
        }
    }

    #[test]
    fn little_locked_memory_means_epoll_unless_the_ring_was_asked_for() {
        let choice = choose(None, &host(64 << 10)).unwrap();
        assert_eq!(choice.io, IoDriver::Epoll);
        let why = choice.why.unwrap();
        assert!(why.contains("512 KiB"), "{why}");
        let error = choose(Some(IoDriver::Ring), &host(64 << 10)).unwrap_err();
        assert!(error.ends_with("or run with --io epoll"), "{error}");
        assert_eq!(choose(Some(IoDriver::Epoll), &host(0)).unwrap().why, None);
    }

    #[test]
    fn errors_say_what_allows_the_ring() {
        assert!(reason(&io::Error::from_raw_os_error(1)).contains("kernel.io_uring_disabled=0"));
        assert_eq!(
            reason(&io::Error::from_raw_os_error(22)),
            "this kernel is older than 6.1"
        );
    }
}
