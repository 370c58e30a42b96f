//! The window of QoS 1 and 2 deliveries a client has not acknowledged yet, in the order they were sent.

use std::collections::VecDeque;

use tidegate_codec::Qos;

use super::offline_queue::Queued;
use crate::store_op::CommitSequence;

/// What the client still has to say.
#[derive(Debug)]
pub(crate) enum Stage {
    /// PUBACK or PUBREC. The message is kept for sending it again.
    Published(Queued),
    /// PUBCOMP; PUBREL was sent, and only it is sent again.
    Released { sequence: u64 },
}

#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) packet_id: u16,
    pub(crate) stage: Stage,
    /// Its PUBLISH left once: from now on it bears DUP.
    pub(crate) tried: bool,
    /// Its next packet leaves when the store has got this far. QoS 2 only: what the client knows of a packet id,
    /// the store must know, or a restart would take it for another.
    pub(crate) leaves_after: Option<CommitSequence>,
}

impl InFlight {
    /// The key of its message in the store.
    pub(crate) fn sequence(&self) -> u64 {
        match &self.stage {
            Stage::Published(queued) => queued.sequence,
            Stage::Released { sequence } => *sequence,
        }
    }
}

/// Bounded by the smaller of the client's Receive Maximum and `inflight_max`, as they were when it was filled.
#[derive(Debug, Default)]
pub(crate) struct Inflight {
    window: VecDeque<InFlight>,
    /// How many, from the front, were sent on this connection. The others belong to an earlier one.
    sent: usize,
    last_packet_id: u16,
}

impl Inflight {
    pub(crate) fn len(&self) -> usize {
        self.window.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    /// Everything in the window was sent on this connection.
    pub(crate) fn all_sent(&self) -> bool {
        self.sent == self.window.len()
    }

    /// The connection is gone: everything has to be sent again [MQTT-4.4.0-1].
    pub(crate) fn forget_sent(&mut self) {
        self.sent = 0;
    }

    /// The oldest that was not sent on this connection.
    pub(crate) fn next_unsent(&self) -> Option<&InFlight> {
        self.window.get(self.sent)
    }

    pub(crate) fn sent_count(&self) -> usize {
        self.sent
    }

    pub(crate) fn mark_sent(&mut self) {
        self.window[self.sent].tried = true;
        self.sent += 1;
    }

    /// A packet id that is not in use. The window is far smaller than the 65,535 ids there are, so the search ends.
    pub(crate) fn next_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.wrapping_add(1).max(1);
            if !self
                .window
                .iter()
                .any(|flying| flying.packet_id == self.last_packet_id)
            {
                return self.last_packet_id;
            }
        }
    }

    /// Puts a delivery that was just sent at the end of the window.
    pub(crate) fn push_sent(&mut self, packet_id: u16, queued: Queued) {
        debug_assert!(
            self.all_sent(),
            "nothing overtakes what has to be sent again"
        );
        self.window.push_back(InFlight {
            packet_id,
            stage: Stage::Published(queued),
            tried: true,
            leaves_after: None,
        });
        self.sent += 1;
    }

    /// Puts a delivery at the end of the window that leaves in its turn, not before `leaves_after`.
    pub(crate) fn push_unsent(
        &mut self,
        packet_id: u16,
        queued: Queued,
        leaves_after: Option<CommitSequence>,
    ) {
        self.window.push_back(InFlight {
            packet_id,
            stage: Stage::Published(queued),
            tried: false,
            leaves_after,
        });
    }

    /// Puts back what was in the window when the process ended, in its order.
    pub(crate) fn restore(&mut self, packet_id: u16, stage: Stage) {
        self.last_packet_id = self.last_packet_id.max(packet_id);
        self.window.push_back(InFlight {
            packet_id,
            stage,
            tried: true,
            leaves_after: None,
        });
    }

    /// PUBREL leaves when the store has got this far.
    pub(crate) fn delay_release(&mut self, packet_id: u16, leaves_after: CommitSequence) {
        if let Some(at) = self.position(packet_id) {
            self.window[at].leaves_after = Some(leaves_after);
        }
    }

    /// PUBACK, or a PUBREC that refuses: takes the delivery out.
    pub(crate) fn acknowledge(&mut self, packet_id: u16, qos: Qos) -> Option<Queued> {
        let at = self.position(packet_id)?;
        match &self.window[at].stage {
            Stage::Published(queued) if queued.qos == qos => {}
            _ => return None,
        }
        match self.take(at).stage {
            Stage::Published(queued) => Some(queued),
            Stage::Released { .. } => None,
        }
    }

    /// PUBREC: the message is forgotten, its packet id kept. `None` for an id that is not known as QoS 2.
    pub(crate) fn release(&mut self, packet_id: u16) -> Option<Recorded> {
        let at = self.position(packet_id)?;
        let stage = &mut self.window[at].stage;
        let sequence = match stage {
            Stage::Published(queued) if queued.qos == Qos::ExactlyOnce => queued.sequence,
            Stage::Published(_) => return None,
            Stage::Released { .. } => return Some(Recorded::Before),
        };
        match std::mem::replace(stage, Stage::Released { sequence }) {
            Stage::Published(queued) => Some(Recorded::Now(queued)),
            Stage::Released { .. } => None,
        }
    }

    /// PUBCOMP: the packet id is free. Answers the sequence of the message.
    pub(crate) fn complete(&mut self, packet_id: u16) -> Option<u64> {
        let at = self.position(packet_id)?;
        match self.window[at].stage {
            Stage::Released { sequence } => {
                self.take(at);
                Some(sequence)
            }
            Stage::Published(_) => None,
        }
    }

    /// Drops the oldest unsent delivery, which has expired or is too large for the new connection.
    pub(crate) fn drop_next_unsent(&mut self) -> Option<InFlight> {
        self.window.remove(self.sent)
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = InFlight> {
        self.sent = 0;
        std::mem::take(&mut self.window).into_iter()
    }

    /// Clients acknowledge mostly in order, so the search from the front is short.
    fn position(&self, packet_id: u16) -> Option<usize> {
        self.window
            .iter()
            .position(|flying| flying.packet_id == packet_id)
    }

    fn take(&mut self, at: usize) -> InFlight {
        if at < self.sent {
            self.sent -= 1;
        }
        self.window
            .remove(at)
            .expect("the position was found a moment ago")
    }
}

/// What a PUBREC meant.
#[derive(Debug)]
pub(crate) enum Recorded {
    Now(Queued),
    /// It came before; PUBREL is sent again.
    Before,
}

#[cfg(test)]
mod tests {
    use tidegate_codec::Message;

    use super::super::offline_queue::SubscriptionIds;
    use super::*;

    fn queued(qos: Qos) -> Queued {
        Queued {
            message: Message::new("a", &[], b"", qos, false),
            qos,
            retain: false,
            subscription_ids: SubscriptionIds::None,
            group: None,
            sequence: 9,
        }
    }

    #[test]
    fn packet_ids_skip_zero_and_those_in_use() {
        let mut inflight = Inflight {
            last_packet_id: 65_534,
            ..Inflight::default()
        };
        let id = inflight.next_packet_id();
        inflight.push_sent(id, queued(Qos::AtLeastOnce));
        assert_eq!((id, inflight.next_packet_id()), (65_535, 1));
        inflight.last_packet_id = 65_534;
        assert_eq!(inflight.next_packet_id(), 1);
    }

    #[test]
    fn a_puback_does_not_acknowledge_qos_2() {
        let mut inflight = Inflight::default();
        inflight.push_sent(1, queued(Qos::ExactlyOnce));
        assert!(inflight.acknowledge(1, Qos::AtLeastOnce).is_none());
        assert!(matches!(inflight.release(1), Some(Recorded::Now(_))));
        assert!(matches!(inflight.release(1), Some(Recorded::Before)));
        assert_eq!((inflight.complete(1), inflight.len()), (Some(9), 0));
    }

    #[test]
    fn an_acknowledgement_from_the_middle_keeps_count_of_what_was_sent() {
        let mut inflight = Inflight::default();
        for id in 1..=3 {
            inflight.push_sent(id, queued(Qos::AtLeastOnce));
        }
        inflight.forget_sent();
        inflight.mark_sent();
        assert!(inflight.acknowledge(1, Qos::AtLeastOnce).is_some());
        assert_eq!(inflight.next_unsent().map(|f| f.packet_id), Some(2));
        assert!(inflight.acknowledge(3, Qos::AtLeastOnce).is_some());
        assert_eq!(inflight.sent_count(), 0);
    }
}
