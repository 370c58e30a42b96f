//! One thread's publishers and ledgers: when to publish, and what a delivery or an acknowledgement
//! means.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;

use hdrhistogram::Histogram;
use tidegate_codec::conversation::Delivered;
use tidegate_codec::mqtt::client::ClientConnection;
use tidegate_codec::Qos;

use super::shared::{Counter, Shared, Tally};
use super::window::{Release, Window};
use crate::ledger::{Ledger, Verdict};
use crate::outcome::nanosecond_histogram;
use crate::pacer::Pacer;
use crate::payload::{PayloadCodec, Reading, Stamp};

/// Bytes waiting for one socket above which its publisher pauses until they have left.
const BACKLOG_BYTES: usize = 256 * 1024;
/// Packet ids run from 1 to 65,535.
const PACKET_IDS: u32 = 65_535;

/// One publisher of this thread.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// In the plan.
    pub(crate) number: u32,
    /// The client it publishes through, on this thread.
    pub(crate) client: u32,
    pub(crate) topic: String,
    /// Clients that must receive each message.
    pub(crate) receivers: u32,
    /// Messages in flight at most: the window, or what the broker grants where that is less.
    pub(crate) limit: u32,
    /// The number of the next message.
    pub(crate) sequence: u32,
    /// Paced messages that are due and not yet sent.
    credit: u64,
    /// In `Traffic::ready`.
    is_ready: bool,
    /// The window held back what was due, so that what follows counts from when it was due.
    is_behind: bool,
    /// Its socket takes no more for now.
    is_backlogged: bool,
    /// Since when the window is full; 0 while it is not.
    blocked_since_ns: u64,
}

impl Publisher {
    pub(crate) fn new(
        number: u32,
        client: u32,
        topic: String,
        receivers: u32,
        limit: u32,
    ) -> Publisher {
        Publisher {
            number,
            client,
            topic,
            receivers,
            limit,
            sequence: 0,
            credit: 0,
            is_ready: false,
            is_behind: false,
            is_backlogged: false,
            blocked_since_ns: 0,
        }
    }

    fn is_blocked(&self, window: &Window) -> bool {
        self.sequence >= self.limit && window.holds(self.sequence - self.limit)
    }

    fn note_blocked(&mut self, now_ns: u64) {
        self.is_behind = true;
        if self.blocked_since_ns == 0 {
            self.blocked_since_ns = now_ns;
        }
    }
}

/// A QoS 2 delivery whose exchange is not over.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    packet_id: u16,
    publisher: u32,
    sequence: u32,
}

/// One thread's share of the traffic.
#[derive(Debug)]
pub(crate) struct Traffic {
    thread: u32,
    qos: Qos,
    payloads: PayloadCodec,
    /// Stamped again for each message.
    payload: Vec<u8>,
    /// By client of this thread.
    pub(crate) ledgers: Vec<Ledger>,
    /// By client of this thread, at QoS 2: what waits for its PUBREL; as long as the windows allow.
    unreleased: Vec<VecDeque<InFlight>>,
    pub(crate) publishers: Vec<Publisher>,
    /// Publishers that may be able to send; each at most once.
    ready: Vec<u32>,
    /// Emptied by turns with `ready`, so that neither is allocated again.
    turn: Vec<u32>,
    /// By thread: publishers there that this thread has freed.
    freed: Vec<Vec<u32>>,
    /// Set while a rate is kept.
    pacer: Option<Pacer>,
    is_publishing: bool,
    /// Messages sent within count for the latency.
    measured: Range<u64>,
    pub(crate) latency: Histogram<u64>,
    pub(crate) tally: Tally,
}

impl Traffic {
    pub(crate) fn new(
        thread: u32,
        threads: u32,
        qos: Qos,
        payloads: PayloadCodec,
        ledgers: Vec<Ledger>,
        publishers: Vec<Publisher>,
    ) -> Traffic {
        Traffic {
            thread,
            qos,
            unreleased: ledgers.iter().map(|_| VecDeque::new()).collect(),
            payload: payloads.blank(),
            payloads,
            ledgers,
            ready: Vec::with_capacity(publishers.len()),
            turn: Vec::with_capacity(publishers.len()),
            freed: vec![Vec::new(); threads as usize],
            publishers,
            pacer: None,
            is_publishing: false,
            measured: u64::MAX..u64::MAX,
            latency: nanosecond_histogram(),
            tally: Tally::default(),
        }
    }

    /// Begins to publish: at `rate` messages a second on this thread, or as the windows allow.
    pub(crate) fn start(&mut self, rate: Option<f64>, now_ns: u64) {
        self.is_publishing = !self.publishers.is_empty();
        match rate {
            Some(rate) if self.is_publishing => self.pacer = Some(Pacer::new(rate, now_ns)),
            _ => (0..self.publishers.len() as u32).for_each(|index| self.make_ready(index)),
        }
    }

    pub(crate) fn stop(&mut self) {
        self.is_publishing = false;
        self.pacer = None;
    }

    /// When this thread must wake for its pace.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        self.pacer.as_ref().map(Pacer::next_due_ns)
    }

    pub(crate) fn has_ready(&self) -> bool {
        self.is_publishing && !self.ready.is_empty()
    }

    /// Gives what has become due to the publishers in turn.
    pub(crate) fn release_due(&mut self, now_ns: u64) {
        let Some(pacer) = &mut self.pacer else {
            return;
        };
        let first = pacer.released();
        let due = pacer.take_due(now_ns, u64::MAX);
        let count = self.publishers.len() as u64;
        for message in first..first + due {
            let index = (message % count) as u32;
            self.publishers[index as usize].credit += 1;
            self.make_ready(index);
        }
    }

    /// Lets the main thread's decision on what is measured take effect.
    pub(crate) fn observe_measurement(&mut self, shared: &Shared) {
        let start = shared.measure_start_ns.load(Ordering::Relaxed);
        self.measured = start..shared.measure_end_ns.load(Ordering::Relaxed);
    }

    /// The publishers to try now; hand the vector back to [`Traffic::end_turn`].
    pub(crate) fn begin_turn(&mut self) -> Vec<u32> {
        let mut turn = std::mem::take(&mut self.turn);
        std::mem::swap(&mut turn, &mut self.ready);
        for &index in &turn {
            self.publishers[index as usize].is_ready = false;
        }
        turn
    }

    pub(crate) fn end_turn(&mut self, mut turn: Vec<u32>) {
        turn.clear();
        self.turn = turn;
    }

    /// The publisher may be able to send.
    pub(crate) fn make_ready(&mut self, index: u32) {
        let publisher = &mut self.publishers[index as usize];
        if !publisher.is_ready {
            publisher.is_ready = true;
            self.ready.push(index);
        }
    }

    /// The publisher's socket is full; it goes on after [`Traffic::continue_after_backlog`].
    pub(crate) fn hold_for_backlog(&mut self, index: u32) {
        self.publishers[index as usize].is_backlogged = true;
    }

    /// Everything that waited for the publisher's socket has left.
    pub(crate) fn continue_after_backlog(&mut self, index: u32) {
        let publisher = &mut self.publishers[index as usize];
        if std::mem::take(&mut publisher.is_backlogged) {
            self.make_ready(index);
        }
    }

    /// Writes as many messages of one publisher as pace, window and backlog allow.
    pub(crate) fn publish(
        &mut self,
        shared: &Shared,
        index: u32,
        now_ns: u64,
        conversation: &mut ClientConnection,
        out: &mut Vec<u8>,
    ) -> Delivered {
        while self.is_publishing {
            let publisher = &mut self.publishers[index as usize];
            if out.len() >= BACKLOG_BYTES {
                publisher.is_backlogged = true;
                break;
            }
            if self.pacer.is_some() && publisher.credit == 0 {
                publisher.is_behind = false;
                break;
            }
            let window = &shared.windows[publisher.number as usize];
            if publisher.is_blocked(window) {
                publisher.note_blocked(now_ns);
                break;
            }
            publisher.blocked_since_ns = 0;
            let sequence = publisher.sequence;
            let sent_ns = self.sent_ns(index, now_ns);
            let publisher = &mut self.publishers[index as usize];
            let stamp = Stamp {
                publisher: publisher.number,
                sequence,
                sent_ns,
            };
            PayloadCodec::stamp(&mut self.payload, stamp);
            window.open(sequence, publisher.receivers, self.qos != Qos::AtMostOnce);
            let id = packet_id(sequence);
            let (topic, payload) = (&publisher.topic, &self.payload);
            let written =
                conversation.publish(topic, payload, self.qos, false, false, id, &[], out);
            if written == Delivered::TooLarge {
                return Delivered::TooLarge;
            }
            publisher.sequence += 1;
            publisher.credit = publisher.credit.saturating_sub(1);
            self.tally.add(Counter::Published, 1);
            self.tally
                .add(Counter::Expected, u64::from(publisher.receivers));
        }
        Delivered::Written
    }

    /// What the next message of a publisher counts from: now, or, where the window held it back,
    /// when it was due. Else a broker that stalls would also stall the clock it is measured with.
    fn sent_ns(&self, index: u32, now_ns: u64) -> u64 {
        let publisher = &self.publishers[index as usize];
        match &self.pacer {
            Some(pacer) if publisher.is_behind => {
                let publishers = self.publishers.len() as u64;
                pacer
                    .due_ns(u64::from(publisher.sequence) * publishers + u64::from(index))
                    .min(now_ns)
            }
            _ => now_ns,
        }
    }

    /// Checks one delivery to `client`.
    pub(crate) fn deliver(
        &mut self,
        shared: &Shared,
        client: u32,
        packet_id: u16,
        payload: &[u8],
        now_ns: u64,
    ) {
        let stamp = match self.payloads.read(payload) {
            Reading::Ours(stamp) => stamp,
            Reading::Foreign => return self.tally.add(Counter::Foreign, 1),
            Reading::Corrupt => return self.tally.add(Counter::Corrupt, 1),
        };
        match self.ledgers[client as usize].record(stamp.publisher, stamp.sequence) {
            Verdict::New => {}
            Verdict::Late => self.tally.add(Counter::OutOfOrder, 1),
            Verdict::Duplicate => return self.tally.add(Counter::Duplicates, 1),
            Verdict::Unexpected => return self.tally.add(Counter::Unexpected, 1),
        }
        self.tally.add(Counter::Received, 1);
        if self.measured.contains(&stamp.sent_ns) {
            self.latency
                .saturating_record(now_ns.saturating_sub(stamp.sent_ns));
        }
        let message = InFlight {
            packet_id,
            publisher: stamp.publisher,
            sequence: stamp.sequence,
        };
        if self.qos == Qos::ExactlyOnce {
            self.unreleased[client as usize].push_back(message);
        } else {
            self.delivered(shared, &message);
        }
    }

    /// The broker finished a QoS 2 exchange with `client`: PUBREL. Only now the message is no
    /// longer in flight, or a broker that delivers faster than it reads would be driven out of
    /// packet ids.
    pub(crate) fn released(&mut self, shared: &Shared, client: u32, packet_id: u16) {
        self.tally.add(Counter::Released, 1);
        let unreleased = &mut self.unreleased[client as usize];
        // Nearly always the first.
        let at = unreleased
            .iter()
            .position(|message| message.packet_id == packet_id);
        if let Some(message) = at.and_then(|at| unreleased.remove(at)) {
            self.delivered(shared, &message);
        }
    }

    fn delivered(&mut self, shared: &Shared, message: &InFlight) {
        if shared.windows[message.publisher as usize].delivered(message.sequence) == Release::Freed
        {
            self.free(shared, message.publisher);
        }
    }

    /// The broker acknowledged a message of this thread's publisher `index`: PUBACK or PUBCOMP.
    pub(crate) fn acknowledged(&mut self, shared: &Shared, index: u32, packet_id: u16) {
        let publisher = &self.publishers[index as usize];
        let number = publisher.number;
        let Some(sequence) = sequence_of(packet_id, publisher.sequence) else {
            return self.tally.add(Counter::Unexpected, 1);
        };
        match shared.windows[number as usize].acknowledged(sequence) {
            Release::Unknown => return self.tally.add(Counter::Unexpected, 1),
            Release::Pending => {}
            Release::Freed => self.free(shared, number),
        }
        self.tally.add(Counter::Acknowledged, 1);
    }

    /// Stops waiting for deliveries that have blocked a window for `timeout_ns`.
    pub(crate) fn write_off(&mut self, shared: &Shared, now_ns: u64, timeout_ns: u64) {
        for index in 0..self.publishers.len() as u32 {
            let publisher = &mut self.publishers[index as usize];
            let since = publisher.blocked_since_ns;
            if since == 0 || now_ns.saturating_sub(since) < timeout_ns {
                continue;
            }
            publisher.blocked_since_ns = now_ns;
            // Everything in flight is as old as the head, or nearly so.
            let window = &shared.windows[publisher.number as usize];
            let in_flight = publisher.sequence.saturating_sub(publisher.limit)..publisher.sequence;
            let missing: u64 = in_flight
                .filter(|&sequence| window.holds(sequence))
                .map(|sequence| u64::from(window.write_off(sequence)))
                .sum();
            self.tally.add(Counter::WrittenOff, missing);
            self.make_ready(index);
        }
    }

    /// Publishers here that other threads have freed.
    pub(crate) fn take_freed(&mut self, freed: &mut Vec<u32>) {
        freed.drain(..).for_each(|index| self.make_ready(index));
    }

    /// Tells the other threads which of their publishers were freed here.
    pub(crate) fn post_freed(&mut self, shared: &Shared) {
        for (freed, desk) in self.freed.iter_mut().zip(&shared.desks) {
            if !freed.is_empty() {
                desk.mailbox.post(freed);
            }
        }
    }

    fn free(&mut self, shared: &Shared, number: u32) {
        let place = shared.places[number as usize];
        if place.thread == self.thread {
            self.make_ready(place.index);
        } else {
            self.freed[place.thread as usize].push(place.index);
        }
    }
}

fn packet_id(sequence: u32) -> u16 {
    (sequence % PACKET_IDS + 1) as u16
}

/// The latest sequence number below `next` that bears `packet_id`.
fn sequence_of(packet_id: u16, next: u32) -> Option<u32> {
    let id = u32::from(packet_id).checked_sub(1)?;
    let back = (next % PACKET_IDS + PACKET_IDS - 1 - id) % PACKET_IDS + 1;
    next.checked_sub(back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_ids_lead_back_to_their_sequence_numbers() {
        for next in [1, 2, 4, 65_534, 65_535, 65_536, 65_537, 1_000_000, u32::MAX] {
            for sequence in next.saturating_sub(4)..next {
                assert_ne!(packet_id(sequence), 0);
                assert_eq!(
                    sequence_of(packet_id(sequence), next),
                    Some(sequence),
                    "{next}"
                );
            }
        }
        assert_eq!(sequence_of(0, 5), None);
        assert_eq!(sequence_of(9, 5), None);
    }
}
