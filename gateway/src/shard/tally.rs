//! [`Tally`]: what a shard counts about connections and bytes. Plain numbers that only its thread writes.

use tidegate_codec::ReasonCode;

use super::snapshot::{LatencyHistogram, LATENCY_BUCKETS_US};

/// Why a connection ended, as the `reason` label of the disconnect metric says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// We ended it, with this reason code.
    Reason(ReasonCode),
    /// The client said DISCONNECT.
    ClientDisconnected,
    /// The peer closed without a word.
    PeerClosed,
    /// The peer's host reset the connection, or the network gave up.
    ConnectionReset,
    /// The peer took none of its bytes for longer than the send timeout.
    SendTimeout,
    /// Its write queue grew above the hard limit.
    WriteQueueFull,
    /// A defect of ours in a codec; only this connection is given up.
    CodecPanicked,
}

const PLAIN_ENDINGS: [&str; 6] = [
    "client_disconnected",
    "peer_closed",
    "connection_reset",
    "send_timeout",
    "write_queue_full",
    "codec_panicked",
];

impl Ending {
    fn plain_index(self) -> Option<usize> {
        match self {
            Ending::Reason(_) => None,
            Ending::ClientDisconnected => Some(0),
            Ending::PeerClosed => Some(1),
            Ending::ConnectionReset => Some(2),
            Ending::SendTimeout => Some(3),
            Ending::WriteQueueFull => Some(4),
            Ending::CodecPanicked => Some(5),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Ending::Reason(reason) => reason.name(),
            plain => plain.plain_index().map_or("", |index| PLAIN_ENDINGS[index]),
        }
    }
}

/// Counts by reason code; the code itself is kept for its name.
#[derive(Debug)]
struct ByReason {
    counts: [u64; 256],
    codes: [Option<ReasonCode>; 256],
}

impl ByReason {
    fn new() -> ByReason {
        ByReason {
            counts: [0; 256],
            codes: [None; 256],
        }
    }

    fn count(&mut self, reason: ReasonCode) {
        self.counts[reason as usize] += 1;
        self.codes[reason as usize] = Some(reason);
    }

    fn iter(&self) -> impl Iterator<Item = (ReasonCode, u64)> + '_ {
        self.codes
            .iter()
            .zip(self.counts)
            .filter_map(|(code, count)| Some(((*code)?, count)))
    }
}

/// Totals since start.
#[derive(Debug)]
pub(crate) struct Tally {
    accepted: u64,
    refused: ByReason,
    /// Connections that ended before their CONNECT was decoded, by plain ending.
    unheard: [u64; PLAIN_ENDINGS.len()],
    disconnects: ByReason,
    plain_disconnects: [u64; PLAIN_ENDINGS.len()],
    pub(crate) received: [u64; 3],
    pub(crate) delivered: [u64; 3],
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) accept_pauses: u64,
    pub(crate) hand_overs: u64,
    pub(crate) hand_overs_refused: u64,
    pub(crate) busy_us: u64,
    pub(crate) turns: u64,
    pub(crate) turn_seconds: LatencyHistogram,
    pub(crate) delivery_seconds: LatencyHistogram,
    /// Few pairs ever occur; a list keeps them in order of first sight.
    auth_failures: Vec<(&'static str, &'static str, u64)>,
    /// Deliveries of this turn by the read stamp of their message. Messages read together share one stamp, so
    /// this stays short; beyond [`STAMPS_MAX`] the clock of the turn's start has to do.
    stamps: Vec<(u32, u32)>,
}

const STAMPS_MAX: usize = 64;

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally {
            accepted: 0,
            refused: ByReason::new(),
            unheard: [0; PLAIN_ENDINGS.len()],
            disconnects: ByReason::new(),
            plain_disconnects: [0; PLAIN_ENDINGS.len()],
            received: [0; 3],
            delivered: [0; 3],
            bytes_received: 0,
            bytes_sent: 0,
            accept_pauses: 0,
            hand_overs: 0,
            hand_overs_refused: 0,
            busy_us: 0,
            turns: 0,
            turn_seconds: LatencyHistogram::default(),
            delivery_seconds: LatencyHistogram::default(),
            auth_failures: Vec::new(),
            stamps: Vec::new(),
        }
    }

    pub(crate) fn count_accepted(&mut self) {
        self.accepted += 1;
    }

    /// A connection that never got a session.
    pub(crate) fn count_refused(&mut self, ending: Ending) {
        match (ending, ending.plain_index()) {
            (Ending::Reason(reason), _) => self.refused.count(reason),
            (_, Some(index)) => self.unheard[index] += 1,
            _ => {}
        }
    }

    pub(crate) fn count_disconnect(&mut self, ending: Ending) {
        match (ending, ending.plain_index()) {
            (Ending::Reason(reason), _) => self.disconnects.count(reason),
            (_, Some(index)) => self.plain_disconnects[index] += 1,
            _ => {}
        }
    }

    pub(crate) fn count_auth_failure(&mut self, kind: &'static str, reason: &'static str) {
        let found = self
            .auth_failures
            .iter_mut()
            .find(|(k, r, _)| (*k, *r) == (kind, reason));
        match found {
            Some((_, _, count)) => *count += 1,
            None => self.auth_failures.push((kind, reason, 1)),
        }
    }

    /// A delivery was queued; it is measured when the turn's sends are ordered.
    pub(crate) fn count_delivery(&mut self, qos: usize, read_at_us: u32, now_us: u64) {
        self.delivered[qos] += 1;
        if read_at_us == 0 {
            return;
        }
        let known = self
            .stamps
            .last_mut()
            .filter(|(stamp, _)| *stamp == read_at_us);
        if let Some((_, count)) = known {
            *count += 1;
        } else if self.stamps.len() < STAMPS_MAX {
            self.stamps.push((read_at_us, 1));
        } else {
            observe(
                &mut self.delivery_seconds,
                elapsed_us(read_at_us, now_us),
                1,
            );
        }
    }

    /// The sends of this turn have been ordered.
    pub(crate) fn deliveries_left(&mut self, now_us: u64) {
        for (stamp, count) in self.stamps.drain(..) {
            observe(
                &mut self.delivery_seconds,
                elapsed_us(stamp, now_us),
                u64::from(count),
            );
        }
    }

    pub(crate) fn turn_ended(&mut self, busy_us: u64) {
        self.busy_us += busy_us;
        self.turns += 1;
        observe(&mut self.turn_seconds, busy_us, 1);
    }

    pub(crate) fn connects(&self, protocol: &'static str) -> Vec<Labelled> {
        let refused = self
            .refused
            .iter()
            .map(|(reason, n)| (protocol, reason.name(), n));
        let unheard = PLAIN_ENDINGS
            .iter()
            .zip(self.unheard)
            .map(|(name, n)| (protocol, *name, n));
        let all = refused.chain(unheard.filter(|(_, _, n)| *n > 0));
        std::iter::once((protocol, "accepted", self.accepted))
            .chain(all)
            .collect()
    }

    pub(crate) fn disconnects(&self, protocol: &'static str) -> Vec<Labelled> {
        let reasons = self
            .disconnects
            .iter()
            .map(|(reason, n)| (protocol, reason.name(), n));
        let plain = PLAIN_ENDINGS.iter().zip(self.plain_disconnects);
        reasons
            .chain(
                plain
                    .map(|(name, n)| (protocol, *name, n))
                    .filter(|(_, _, n)| *n > 0),
            )
            .collect()
    }

    pub(crate) fn auth_failures(&self) -> Vec<Labelled> {
        self.auth_failures.clone()
    }
}

/// Two labels and a count.
pub(crate) type Labelled = (&'static str, &'static str, u64);

/// The stamp of a message read at `now_us`: its low bits, never 0, which means "not measured".
pub(crate) fn read_stamp(now_us: u64) -> u32 {
    (now_us as u32).max(1)
}

/// Stamps wrap after 71 minutes, which no message in motion takes.
fn elapsed_us(stamp: u32, now_us: u64) -> u64 {
    u64::from((now_us as u32).wrapping_sub(stamp))
}

fn observe(histogram: &mut LatencyHistogram, us: u64, count: u64) {
    let bucket = LATENCY_BUCKETS_US.partition_point(|&bound| bound < us);
    histogram.counts[bucket] += count;
    histogram.sum_us += us * count;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let mut histogram = LatencyHistogram::default();
        for us in [0, 10, 11, 1_000_000, 1_000_001] {
            observe(&mut histogram, us, 1);
        }
        assert_eq!(histogram.counts[0], 2);
        assert_eq!(histogram.counts[1], 1);
        assert_eq!(histogram.counts[LATENCY_BUCKETS_US.len() - 1], 1);
        assert_eq!(histogram.counts[LATENCY_BUCKETS_US.len()], 1);
        assert_eq!(histogram.sum_us, 2_000_022);
    }

    #[test]
    fn deliveries_are_measured_when_their_turn_is_sent() {
        let mut tally = Tally::new();
        for _ in 0..3 {
            tally.count_delivery(1, read_stamp(1_000), 1_005);
        }
        tally.count_delivery(0, 0, 1_005);
        assert_eq!(tally.delivery_seconds.sum_us, 0);
        tally.deliveries_left(1_040);
        assert_eq!(tally.delivery_seconds.sum_us, 3 * 40);
        assert_eq!(tally.delivered, [1, 3, 0]);
    }

    #[test]
    fn a_stamp_survives_the_wrap_of_its_bits() {
        let now = u64::from(u32::MAX) + 20;
        assert_eq!(elapsed_us(read_stamp(now - 30), now), 30);
    }

    #[test]
    fn labels_are_built_from_what_was_counted() {
        let mut tally = Tally::new();
        tally.count_accepted();
        tally.count_refused(Ending::Reason(ReasonCode::NotAuthorized));
        tally.count_refused(Ending::PeerClosed);
        tally.count_disconnect(Ending::SendTimeout);
        assert_eq!(tally.connects("mqtt").len(), 3);
        assert_eq!(tally.disconnects("mqtt"), [("mqtt", "send_timeout", 1)]);
    }
}
