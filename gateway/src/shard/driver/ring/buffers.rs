//! [`BufferRing`]: the buffers io_uring picks from when bytes arrive, one ring a shard.
//!
//! This file contains `unsafe`: the ring and its buffers are shared with the kernel. The kernel owns a buffer
//! from the moment it is published until a completion names it; this process owns it until it is recycled.

use std::alloc::{alloc_zeroed, dealloc, handle_alloc_error, Layout};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::IoUring;

use crate::shard::driver::{Received, RECEIVE_BYTES};

/// Buffers a shard; a power of two. With 4 KiB each they fill 2 MiB, twice what one turn may take.
pub(super) const BUFFERS: u16 = 512;

const PAGE: usize = 4_096;

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

/// Must outlive the kernel's use of it: see `RingDriver::drop`.
#[derive(Debug)]
pub(super) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    /// A power of two.
    count: u16,
    tail: u16,
}

impl BufferRing {
    /// Registers a full ring of `count` buffers as group [`GROUP`].
    pub(super) fn register(ring: &IoUring, count: u16) -> io::Result<BufferRing> {
        assert!(
            count.is_power_of_two(),
            "the tail wraps where the ring does"
        );
        let mut buffers = BufferRing {
            entries: allocate(entries_layout(count)).cast(),
            memory: allocate(memory_layout(count)),
            count,
            tail: 0,
        };
        let address = buffers.entries.as_ptr() as u64;
        // SAFETY: the entries are page aligned, zeroed, `count` long, and are freed only when the ring is gone
        // or nothing of it is under way any more.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(address, count, GROUP, 0)?;
        }
        for buffer in 0..count {
            buffers.publish(buffer);
        }
        Ok(buffers)
    }

    /// What the kernel wrote into a buffer that a completion named.
    pub(super) fn bytes(&self, received: &Received) -> &[u8] {
        let len = received.len as usize;
        assert!(
            received.buffer < self.count && len <= RECEIVE_BYTES,
            "the kernel names our buffers"
        );
        // SAFETY: in bounds by the line above; the memory was zeroed, so it is initialised; the kernel does not
        // write to it before it is published again, which takes the handle.
        unsafe {
            let start = self
                .memory
                .as_ptr()
                .add(usize::from(received.buffer) * RECEIVE_BYTES);
            std::slice::from_raw_parts(start, len)
        }
    }

    pub(super) fn recycle(&mut self, received: Received) {
        assert!(received.buffer < self.count, "the kernel names our buffers");
        self.publish(received.buffer);
    }

    /// Gives a buffer that this process owns to the kernel.
    fn publish(&mut self, buffer: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot` is within the ring. The kernel reads entries below the tail only, and there are as many
        // slots as buffers, so this slot's last entry was consumed before its buffer came back.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(slot);
            entry.set_addr(
                self.memory
                    .as_ptr()
                    .add(usize::from(buffer) * RECEIVE_BYTES) as u64,
            );
            entry.set_len(RECEIVE_BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry's reserved field, aligned for a u16, and both sides access it
        // atomically; Release makes the entry visible before it.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        entries_layout(self.count).size() + memory_layout(self.count).size()
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: both were allocated with these layouts, and the driver drops this only when the kernel is done.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout(self.count));
            dealloc(self.memory.as_ptr(), memory_layout(self.count));
        }
    }
}

fn entries_layout(count: u16) -> Layout {
    Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), PAGE)
        .expect("a page is a power of two")
}

fn memory_layout(count: u16) -> Layout {
    Layout::from_size_align(usize::from(count) * RECEIVE_BYTES, PAGE)
        .expect("a page is a power of two")
}

/// Zeroed pages; untouched ones cost nothing.
fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: no layout here has size 0.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
