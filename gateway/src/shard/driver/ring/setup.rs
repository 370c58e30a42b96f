//! What this kernel's io_uring can do, and a ring made accordingly.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use io_uring::IoUring;
use tidegate_shard_router::ConnectionId;

use super::RingDriver;
use crate::shard::driver::{Driver, Event, Pace, Receive, Wait};

const SUBMISSIONS: u32 = 4_096;

/// Eight times the submissions: a multishot entry completes many times.
const COMPLETIONS: u32 = 32_768;

/// What this kernel's io_uring can do; each is dropped singly where it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFeatures {
    /// Linux 6.1: completions are worked on when the shard asks for them, not when they happen.
    pub defer_taskrun: bool,
    /// Linux 6.0: one entry receives until it is cancelled.
    pub multishot_receive: bool,
    /// Linux 6.12: a wait for many completions that settles for one.
    pub min_wait: bool,
}

impl RingFeatures {
    /// Everything; what a kernel has not is found out when the ring is made.
    pub(crate) const ALL: RingFeatures = RingFeatures {
        defer_taskrun: true,
        multishot_receive: true,
        min_wait: true,
    };
}
/// The ring, and whether its work is deferred. Older kernels refuse flags they do not know.
pub(super) fn build_ring(defer_taskrun: bool) -> io::Result<(IoUring, bool)> {
    if defer_taskrun {
        let built = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(SUBMISSIONS);
        match built {
            Ok(ring) => return Ok((ring, true)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    let ring = IoUring::builder()
        .setup_cqsize(COMPLETIONS)
        .build(SUBMISSIONS)?;
    Ok((ring, false))
}

impl RingDriver {
    /// Whether a multishot receive on a pair of sockets goes on after its first bytes.
    pub(super) fn try_multishot_receive(&mut self) -> io::Result<bool> {
        let (mut near, far) = UnixStream::pair()?;
        near.write_all(b"?")?;
        let id = ConnectionId {
            index: 0,
            generation: 0,
        };
        self.adopt(id, far.into());
        self.receive(id, Receive::Continuous);
        let mut supported = None;
        let mut near = Some(near);
        loop {
            self.wait(Wait {
                timeout: Duration::from_secs(1),
                pace: Pace::Prompt,
            })?;
            if self.batch.is_empty() && self.ready.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "io_uring does not answer",
                ));
            }
            while let Some(event) = self.next() {
                match event {
                    Event::Received { received, .. } => {
                        supported = Some(self.sockets[0].armed.is_some());
                        self.recycle(received);
                        near = None;
                        self.close(id);
                    }
                    Event::Ended { .. } => {
                        near = None;
                        self.close(id);
                    }
                    Event::Closed { .. } => {
                        drop(near);
                        self.sockets.clear();
                        return Ok(supported.unwrap_or(false));
                    }
                    _ => {}
                }
            }
        }
    }
}
