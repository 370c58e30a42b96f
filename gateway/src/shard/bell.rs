//! [`EventFd`]: what wakes a shard that sleeps in its driver.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::event::{eventfd, EventfdFlags};
use tidegate_shard_router::Wake;

/// Written by whoever rings, watched by the driver. It is never read: every write wakes a watcher that waits for
/// edges, and its count would take centuries to overflow.
#[derive(Debug)]
pub(crate) struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    pub(crate) fn new() -> io::Result<Arc<EventFd>> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(EventFd { fd }))
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl std::os::fd::AsFd for EventFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The doorbell's clapper.
#[derive(Debug)]
pub(crate) struct BellWake(pub(crate) Arc<EventFd>);

impl Wake for BellWake {
    fn wake(&self) {
        // The only failure is a counter that is full, and then the watcher has edges enough.
        let _ = rustix::io::write(&self.0.fd, &1u64.to_ne_bytes());
    }
}
