//! What this host gives the process: CPUs, memory, descriptors, a ring.
//!
//! Read once at start. What is too low becomes one warning each, with the command that raises it.

pub mod cpu_list;
mod memory;
pub mod ring;
mod warnings;

use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use rustix::thread::{sched_getaffinity, CpuSet};

pub use warnings::Warnings;

/// The facts that defaults and checks are made from.
#[derive(Clone, Debug)]
pub struct Host {
    /// CPUs this process may use, in order.
    pub cpus: Vec<usize>,
    /// Memory of the host, or of the tightest cgroup around this process.
    pub memory_bytes: u64,
    /// Descriptors this process may open, its own soft limit raised.
    pub open_files: u64,
    /// Bytes this process may lock in memory.
    pub locked_bytes: u64,
}

/// Descriptors that are not connections: the standard three, the admin port and its clients, logs.
const FILES_RESERVED: u64 = 128;
/// glommio's three rings and their eventfds, our ring, the listeners.
const FILES_PER_SHARD: u64 = 16;
/// What one shard is built to hold.
const SHARD_CONNECTIONS_MAX: u64 = 1_000_000;

impl Host {
    /// Raises this process's own soft limits to the hard ones, then looks around.
    pub fn prepare() -> Host {
        Host {
            cpus: allowed_cpus(),
            memory_bytes: memory::available_bytes(),
            open_files: raise(Resource::Nofile),
            locked_bytes: raise(Resource::Memlock),
        }
    }

    /// Connections one shard may hold by default: all descriptors, since nobody knows how clients spread.
    pub fn connections_max(&self) -> u64 {
        let other = FILES_RESERVED + FILES_PER_SHARD * self.cpus.len() as u64;
        self.open_files
            .saturating_sub(other)
            .clamp(1, SHARD_CONNECTIONS_MAX)
    }
}

fn allowed_cpus() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU)
            .filter(|cpu| set.is_set(*cpu))
            .collect(),
        // More CPUs than the set has room for; any count is right, none can be named.
        Err(_) => (0..std::thread::available_parallelism().map_or(1, usize::from)).collect(),
    }
}

/// The limit now in force.
fn raise(resource: Resource) -> u64 {
    let before = getrlimit(resource);
    let wanted = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    let after = match setrlimit(resource, wanted) {
        Ok(()) => wanted,
        Err(_) => before,
    };
    after.current.unwrap_or(u64::MAX)
}
