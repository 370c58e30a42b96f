//! [`Remainder`]: received bytes that could not be decoded yet, and the shard's pool of them.

/// Buffers above this are freed instead of pooled.
const POOLED_BYTES_MAX: usize = 16 << 10;

/// At most this many buffers wait in the pool: 4 MiB a shard.
const POOLED_MAX: usize = 256;

/// A split packet, or what came while reading was paused. Bounded by the packet limit, before CONNECT by the
/// pre-authentication limit, and while paused by what was already on its way when the driver stopped reading.
#[derive(Debug, Default)]
pub(crate) struct Remainder {
    bytes: Vec<u8>,
    start: usize,
}

impl Remainder {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if self.start * 2 > self.bytes.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Only the last `left` bytes are still undecoded.
    pub(crate) fn keep_last(&mut self, left: usize) {
        self.start = self.bytes.len() - left;
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Remainder>() + self.bytes.capacity()
    }
}

/// Buffers without a connection. One a shard.
#[derive(Debug, Default)]
pub(crate) struct RemainderPool {
    // Boxed on purpose: a connection holds one word.
    #[allow(clippy::vec_box)]
    free: Vec<Box<Remainder>>,
    /// Taken and not given back.
    #[cfg(test)]
    pub(crate) lent: usize,
}

impl RemainderPool {
    pub(crate) fn take(&mut self) -> Box<Remainder> {
        #[cfg(test)]
        {
            self.lent += 1;
        }
        self.free.pop().unwrap_or_default()
    }

    pub(crate) fn give(&mut self, mut remainder: Box<Remainder>) {
        #[cfg(test)]
        {
            self.lent -= 1;
        }
        if self.free.len() < POOLED_MAX && remainder.bytes.capacity() <= POOLED_BYTES_MAX {
            remainder.bytes.clear();
            remainder.start = 0;
            self.free.push(remainder);
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.free
            .iter()
            .map(|remainder| remainder.memory_bytes())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decoded_goes_and_what_comes_is_added_behind() {
        let mut remainder = Remainder::default();
        remainder.append(b"abcdef");
        remainder.keep_last(2);
        assert_eq!(remainder.as_slice(), b"ef");
        remainder.append(b"gh");
        assert_eq!((remainder.as_slice(), remainder.len()), (&b"efgh"[..], 4));
        assert_eq!(remainder.bytes.len(), 4);
    }
}
