//! [`OutQueue`]: what waits to be sent on one connection, and the shard's pool of them.
//!
//! An idle connection holds no queue. The first byte for it takes one from the pool; when all is sent the queue
//! goes back. Small frames are copied one behind the other, so that all of a turn leaves in one send; bodies
//! above [`SHARE_FROM`] bytes are kept by reference and leave by a gathering send.

use std::ops::Range;
use std::sync::Arc;

use tidegate_codec::FrameSink;

/// Bodies up to this size are copied: a gathering send costs more than copying 256 bytes, which was measured.
pub(crate) const SHARE_FROM: usize = 256;

/// Slices one gathering send carries at most; the rest leaves with the next.
pub(crate) const SLICES_MAX: usize = 64;

/// Queues above this are freed instead of pooled, so that one burst does not stay in memory.
const POOLED_BYTES_MAX: usize = 16 << 10;

/// Queues the pool keeps at most: 1,024 of 16 KiB are 16 MiB a shard in the worst case.
const POOLED_MAX: usize = 1_024;

/// Sent bytes in front of the unsent ones are moved away once they outweigh them and this.
const COMPACT_FROM: usize = 64 << 10;

/// A body by reference; it stands in front of `bytes[at]`.
#[derive(Debug)]
struct Shared {
    at: usize,
    block: Arc<[u8]>,
    range: Range<usize>,
}

/// Bytes and shared bodies in the order they leave. Bounded by the connection's write queue limit, which its
/// shard enforces: above it the peer is disconnected.
#[derive(Debug, Default)]
pub(crate) struct OutQueue {
    bytes: Vec<u8>,
    bytes_sent: usize,
    shared: Vec<Shared>,
    shared_sent: usize,
    /// Unsent bytes of shared bodies.
    shared_len: usize,
    /// When the send under way was ordered or last made progress.
    pub(crate) progress_at_us: u64,
}

impl OutQueue {
    /// Unsent bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.bytes_sent + self.shared_len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The unsent bytes, where they are one slice.
    pub(crate) fn as_single(&self) -> Option<&[u8]> {
        (self.shared_len == 0).then(|| &self.bytes[self.bytes_sent..])
    }

    /// The unsent bytes in order; no slice is empty.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut position = self.bytes_sent;
        let mut shared = self.shared[self.shared_sent..].iter();
        let mut body: Option<&[u8]> = None;
        let mut done = false;
        std::iter::from_fn(move || loop {
            if let Some(body) = body.take() {
                return Some(body);
            }
            if done {
                return None;
            }
            let upto = match shared.next() {
                Some(next) => {
                    body = Some(&next.block[next.range.clone()]);
                    next.at
                }
                None => {
                    done = true;
                    self.bytes.len()
                }
            };
            let own = &self.bytes[position..upto];
            position = upto;
            if !own.is_empty() {
                return Some(own);
            }
        })
    }

    /// The first `sent` unsent bytes have left.
    pub(crate) fn advance(&mut self, mut sent: usize) {
        assert!(
            sent <= self.len(),
            "the kernel cannot send more than it was given"
        );
        while sent > 0 {
            let Some(next) = self.shared.get_mut(self.shared_sent) else {
                self.bytes_sent += sent;
                return;
            };
            let own = (next.at - self.bytes_sent).min(sent);
            self.bytes_sent += own;
            sent -= own;
            let body = next.range.len().min(sent);
            next.range.start += body;
            self.shared_len -= body;
            sent -= body;
            if next.range.is_empty() {
                // The reference goes now: a slow peer must not hold what it has received.
                next.block = Arc::from([]);
                next.range = 0..0;
                self.shared_sent += 1;
            }
        }
    }

    /// Moves what `later` holds behind what is here; `later` is empty afterwards.
    pub(crate) fn append(&mut self, later: &mut OutQueue) {
        self.compact();
        let shift = self.bytes.len();
        self.bytes
            .extend_from_slice(&later.bytes[later.bytes_sent..]);
        for mut shared in later.shared.drain(..).skip(later.shared_sent) {
            shared.at = shared.at - later.bytes_sent + shift;
            self.shared_len += shared.range.len();
            self.shared.push(shared);
        }
        later.clear();
    }

    fn compact(&mut self) {
        if self.bytes_sent < COMPACT_FROM || self.bytes_sent * 2 < self.bytes.len() {
            return;
        }
        self.bytes.drain(..self.bytes_sent);
        self.shared.drain(..self.shared_sent);
        for shared in &mut self.shared {
            shared.at -= self.bytes_sent;
        }
        self.shared_sent = 0;
        self.bytes_sent = 0;
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.shared.clear();
        self.bytes_sent = 0;
        self.shared_sent = 0;
        self.shared_len = 0;
    }

    /// User memory the queue occupies, shared bodies aside.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<OutQueue>() + self.bytes.capacity() + self.shared.capacity() * size_of::<Shared>()
    }
}

impl FrameSink for OutQueue {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn put_shared(&mut self, block: &Arc<[u8]>, range: Range<usize>) {
        if range.len() <= SHARE_FROM {
            return self.put(&block[range]);
        }
        self.shared_len += range.len();
        self.shared.push(Shared {
            at: self.bytes.len(),
            block: block.clone(),
            range,
        });
    }
}

/// Queues that wait for a connection with something to say. One a shard.
#[derive(Debug, Default)]
pub(crate) struct OutQueuePool {
    /// At most [`POOLED_MAX`]; what comes back beyond that is freed.
    // Boxed on purpose: connections hold one word, and a queue must not move while it is being sent.
    #[allow(clippy::vec_box)]
    free: Vec<Box<OutQueue>>,
    /// Taken and not given back.
    #[cfg(test)]
    pub(crate) lent: usize,
}

impl OutQueuePool {
    pub(crate) fn take(&mut self) -> Box<OutQueue> {
        #[cfg(test)]
        {
            self.lent += 1;
        }
        self.free.pop().unwrap_or_default()
    }

    pub(crate) fn give(&mut self, mut queue: Box<OutQueue>) {
        #[cfg(test)]
        {
            self.lent -= 1;
        }
        queue.clear();
        if self.free.len() < POOLED_MAX && queue.memory_bytes() <= POOLED_BYTES_MAX {
            self.free.push(queue);
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.free.iter().map(|queue| queue.memory_bytes()).sum()
    }
}

/// The sink a codec writes to: takes a queue from the pool with the first byte.
#[derive(Debug)]
pub(crate) struct PooledSink<'a> {
    pub(crate) queue: &'a mut Option<Box<OutQueue>>,
    pub(crate) pool: &'a mut OutQueuePool,
}

impl PooledSink<'_> {
    fn queue(&mut self) -> &mut OutQueue {
        self.queue.get_or_insert_with(|| self.pool.take())
    }
}

impl FrameSink for PooledSink<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.queue().put(bytes);
    }

    fn put_shared(&mut self, block: &Arc<[u8]>, range: Range<usize>) {
        self.queue().put_shared(block, range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(queue: &OutQueue) -> Vec<u8> {
        queue.slices().flatten().copied().collect()
    }

    fn body(byte: u8) -> Arc<[u8]> {
        vec![byte; 300].into()
    }

    /// `ab` + 300 × 1 + `cd` + 300 × 2 + 300 × 3 + `e`
    fn mixed() -> (OutQueue, Vec<u8>) {
        let mut queue = OutQueue::default();
        queue.put(b"ab");
        queue.put_shared(&body(1), 0..300);
        queue.put(b"cd");
        queue.put_shared(&body(2), 0..300);
        queue.put_shared(&body(3), 0..300);
        queue.put(b"e");
        let mut plain: Vec<u8> = Vec::new();
        plain.extend(b"ab");
        plain.extend([1; 300]);
        plain.extend(b"cd");
        plain.extend([2; 300]);
        plain.extend([3; 300]);
        plain.extend(b"e");
        (queue, plain)
    }

    #[test]
    fn order_is_kept_whatever_is_sent_at_once() {
        for step in [1, 2, 3, 299, 300, 301, 302, 400, 905] {
            let (mut queue, plain) = mixed();
            let mut sent = 0;
            while !queue.is_empty() {
                assert_eq!(flat(&queue), plain[sent..], "step {step}, sent {sent}");
                let now = step.min(queue.len());
                queue.advance(now);
                sent += now;
            }
            assert_eq!(sent, plain.len());
            assert!(queue.slices().next().is_none());
        }
    }

    #[test]
    fn what_is_left_and_what_came_meanwhile_stay_in_order() {
        for sent in [0, 1, 2, 100, 302, 303, 304, 700, 904] {
            let (mut queue, plain) = mixed();
            queue.advance(sent);
            let (mut later, later_plain) = mixed();
            later.advance(1);
            queue.append(&mut later);
            assert!(later.is_empty());
            let expected = [&plain[sent..], &later_plain[1..]].concat();
            assert_eq!(
                (flat(&queue), queue.len()),
                (expected.clone(), expected.len())
            );
        }
    }

    #[test]
    fn short_bodies_are_copied_and_long_ones_shared() {
        let block = body(7);
        let mut queue = OutQueue::default();
        queue.put_shared(&block, 0..SHARE_FROM);
        assert!(queue.as_single().is_some());
        assert_eq!(Arc::strong_count(&block), 1);
        queue.put_shared(&block, 0..SHARE_FROM + 1);
        assert!(queue.as_single().is_none());
        assert_eq!(Arc::strong_count(&block), 2);
        queue.advance(queue.len());
        assert_eq!(Arc::strong_count(&block), 1);
    }

    #[test]
    fn a_long_queue_gives_its_sent_bytes_back_when_it_grows() {
        let mut queue = OutQueue::default();
        queue.put(&vec![1; 3 * COMPACT_FROM]);
        queue.advance(2 * COMPACT_FROM);
        let mut later = OutQueue::default();
        later.put(b"more");
        queue.append(&mut later);
        assert_eq!(queue.bytes_sent, 0);
        assert_eq!(queue.len(), COMPACT_FROM + 4);
        assert!(flat(&queue).ends_with(b"more"));
    }

    #[test]
    fn the_pool_keeps_small_queues_only() {
        let mut pool = OutQueuePool::default();
        let mut queue = pool.take();
        queue.put(&[0; 100]);
        pool.give(queue);
        assert!(pool.memory_bytes() > 0);
        let mut queue = pool.take();
        assert!(queue.is_empty());
        queue.put(&vec![0; POOLED_BYTES_MAX + 1]);
        pool.give(queue);
        assert_eq!(pool.memory_bytes(), 0);
    }
}
