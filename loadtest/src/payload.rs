//! What stands in every payload the flooder publishes, so that each delivery can be checked by
//! itself.
//!
//! ```text
//! 0      4           8          12        20
//! | run  | publisher | sequence | sent_ns | filler …
//! ```
//!
//! All numbers are little-endian. `run` tells this run's messages from anybody else's on the same
//! topic, `sent_ns` is on the flooder's monotonic clock, and the filler is a fixed pattern whose
//! damage is noticed.

use std::ops::Range;

/// The smallest payload that can be checked.
pub(crate) const HEADER_BYTES: usize = 20;

/// The numbers in front of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) publisher: u32,
    pub(crate) sequence: u32,
    pub(crate) sent_ns: u64,
}

/// What a received payload turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Ours(Stamp),
    /// Not of this run: another flooder, a retained message, a foreign publisher.
    Foreign,
    /// Of this run, but with the wrong length or filler.
    Corrupt,
}

/// Writes and reads the payloads of one run.
#[derive(Debug, Clone)]
pub(crate) struct PayloadCodec {
    run: [u8; 4],
    filler: Box<[u8]>,
}

impl PayloadCodec {
    /// `bytes` is the size of a whole payload and at least [`HEADER_BYTES`].
    pub(crate) fn new(run: u32, bytes: usize) -> PayloadCodec {
        assert!(
            bytes >= HEADER_BYTES,
            "the command line refuses payloads below {HEADER_BYTES} bytes"
        );
        // 251 is prime, so that a shift by a power of two shows.
        let filler = (0..bytes - HEADER_BYTES).map(|i| (i % 251) as u8).collect();
        PayloadCodec {
            run: run.to_le_bytes(),
            filler,
        }
    }

    /// A payload with an empty stamp, to be stamped in place before each send.
    pub(crate) fn blank(&self) -> Vec<u8> {
        let mut payload = vec![0; HEADER_BYTES];
        payload[..4].copy_from_slice(&self.run);
        payload.extend_from_slice(&self.filler);
        payload
    }

    /// Puts the numbers into a payload made by [`PayloadCodec::blank`].
    pub(crate) fn stamp(payload: &mut [u8], stamp: Stamp) {
        payload[4..8].copy_from_slice(&stamp.publisher.to_le_bytes());
        payload[8..12].copy_from_slice(&stamp.sequence.to_le_bytes());
        payload[12..20].copy_from_slice(&stamp.sent_ns.to_le_bytes());
    }

    pub(crate) fn read(&self, payload: &[u8]) -> Reading {
        if payload.len() < HEADER_BYTES || payload[..4] != self.run {
            return Reading::Foreign;
        }
        if payload[HEADER_BYTES..] != *self.filler {
            return Reading::Corrupt;
        }
        Reading::Ours(Stamp {
            publisher: u32::from_le_bytes(fixed(payload, 4..8)),
            sequence: u32::from_le_bytes(fixed(payload, 8..12)),
            sent_ns: u64::from_le_bytes(fixed(payload, 12..20)),
        })
    }
}

fn fixed<const N: usize>(payload: &[u8], range: Range<usize>) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&payload[range]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        publisher: 7,
        sequence: 1_000_000,
        sent_ns: u64::MAX - 3,
    };

    fn stamped(codec: &PayloadCodec) -> Vec<u8> {
        let mut payload = codec.blank();
        PayloadCodec::stamp(&mut payload, STAMP);
        payload
    }

    #[test]
    fn a_stamp_comes_back_at_every_size() {
        for bytes in [HEADER_BYTES, 21, 64, 1_024] {
            let codec = PayloadCodec::new(42, bytes);
            let payload = stamped(&codec);
            assert_eq!(payload.len(), bytes);
            assert_eq!(codec.read(&payload), Reading::Ours(STAMP));
        }
    }

    #[test]
    fn payloads_of_another_run_are_foreign() {
        let payload = stamped(&PayloadCodec::new(42, 64));
        assert_eq!(PayloadCodec::new(43, 64).read(&payload), Reading::Foreign);
        assert_eq!(PayloadCodec::new(42, 64).read(b"short"), Reading::Foreign);
    }

    #[test]
    fn damage_behind_the_stamp_is_noticed() {
        let codec = PayloadCodec::new(42, 64);
        let mut payload = stamped(&codec);
        payload[40] ^= 1;
        assert_eq!(codec.read(&payload), Reading::Corrupt);
        let payload = stamped(&codec);
        assert_eq!(codec.read(&payload[..63]), Reading::Corrupt);
    }
}
