//! [`Flights`]: the sends that are with the kernel, and what it reads while it works on them.
//!
//! This file contains `unsafe` in one place: message headers point to memory that must not move. They are boxed
//! together with the queue whose bytes they name, and both stay put until the completion.

use tidegate_shard_router::ConnectionId;

use crate::shard::out_queue::{OutQueue, SLICES_MAX};

/// Headers kept for the next gathering send.
const POOLED_MAX: usize = 64;

/// No send is under way.
pub(super) const NONE: u32 = u32::MAX;

/// One send.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: ConnectionId,
    pub(super) queue: Box<OutQueue>,
    /// Bytes of the order that left before the flight began.
    pub(super) sent_before: usize,
    message: Option<Box<Gather>>,
}

/// What a gathering send shows the kernel.
struct Gather {
    header: libc::msghdr,
    slices: [libc::iovec; SLICES_MAX],
}

impl std::fmt::Debug for Gather {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gather")
            .field("slices", &self.header.msg_iovlen)
            .finish_non_exhaustive()
    }
}

/// How a flight's bytes are described to the kernel. The pointers hold until the flight lands.
pub(super) enum Payload {
    Single { bytes: *const u8, len: u32 },
    Gathered(*const libc::msghdr),
}

/// All flights of a shard.
#[derive(Debug, Default)]
pub(super) struct Flights {
    slots: Vec<Option<Flight>>,
    free: Vec<u32>,
    // Boxed on purpose: what the kernel reads must not move.
    #[allow(clippy::vec_box)]
    gathers: Vec<Box<Gather>>,
}

impl Flights {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn start(
        &mut self,
        id: ConnectionId,
        queue: Box<OutQueue>,
        sent_before: usize,
    ) -> u32 {
        let flight = Some(Flight {
            id,
            queue,
            sent_before,
            message: None,
        });
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = flight;
                slot
            }
            None => {
                self.slots.push(flight);
                self.slots.len() as u32 - 1
            }
        }
    }

    /// The unsent bytes of a flight, as one send takes them.
    pub(super) fn payload(&mut self, slot: u32) -> Payload {
        let flight = self.slots[slot as usize]
            .as_mut()
            .expect("a flight is described before it lands");
        if let Some(bytes) = flight.queue.as_single() {
            let len = bytes.len().min(i32::MAX as usize) as u32;
            return Payload::Single {
                bytes: bytes.as_ptr(),
                len,
            };
        }
        let gathers = &mut self.gathers;
        let gather = flight
            .message
            .get_or_insert_with(|| gathers.pop().unwrap_or_else(Gather::empty));
        Payload::Gathered(gather.describe(&flight.queue))
    }

    pub(super) fn land(&mut self, slot: u32) -> Flight {
        let mut flight = self.slots[slot as usize]
            .take()
            .expect("a flight lands once");
        self.free.push(slot);
        if let Some(gather) = flight.message.take() {
            if self.gathers.len() < POOLED_MAX {
                self.gathers.push(gather);
            }
        }
        flight
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Flight> {
        self.slots.iter().flatten()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let queues: usize = self.iter().map(|flight| flight.queue.memory_bytes()).sum();
        self.slots.capacity() * size_of::<Option<Flight>>()
            + self.free.capacity() * size_of::<u32>()
            + self.gathers.len() * size_of::<Gather>()
            + queues
    }
}

impl Gather {
    fn empty() -> Box<Gather> {
        let slice = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: a message header is plain data, for which zero means "nothing given".
        let header = unsafe { std::mem::zeroed() };
        Box::new(Gather {
            header,
            slices: [slice; SLICES_MAX],
        })
    }

    fn describe(&mut self, queue: &OutQueue) -> *const libc::msghdr {
        let mut count = 0;
        for (slot, slice) in self.slices.iter_mut().zip(queue.slices()) {
            slot.iov_base = slice.as_ptr().cast_mut().cast();
            slot.iov_len = slice.len();
            count += 1;
        }
        self.header.msg_iov = self.slices.as_mut_ptr();
        self.header.msg_iovlen = count;
        &self.header
    }
}
