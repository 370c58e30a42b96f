//! What this server owes a publisher: acknowledgements leave in the order the messages came
//! [MQTT-4.6.0-2], [MQTT-4.6.0-3], however their tickets complete.

use std::collections::VecDeque;

use tidegate_codec::{Ack, ReasonCode};

use crate::planted::{is_planted, Defect};

/// One PUBACK or PUBREC that will leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owed {
    packet_id: u16,
    exactly_once: bool,
    /// The answer to a repeated PUBLISH.
    again: bool,
    /// `None` while the ticket is open.
    reason: Option<ReasonCode>,
}

/// One connection's acknowledgements, oldest first. Bounded by our Receive Maximum: at the bound the connection's
/// reading pauses until the oldest has left.
#[derive(Debug, Default)]
pub(crate) struct AckRing {
    owed: VecDeque<Owed>,
}

impl AckRing {
    pub(crate) fn len(&self) -> usize {
        self.owed.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// Owes an acknowledgement; `reason` where it is known already.
    pub(crate) fn owe(
        &mut self,
        packet_id: u16,
        exactly_once: bool,
        again: bool,
        reason: Option<ReasonCode>,
    ) {
        self.owed.push_back(Owed {
            packet_id,
            exactly_once,
            again,
            reason,
        });
    }

    /// The ticket of a packet id completed: everything owed for it is known.
    pub(crate) fn settle(&mut self, packet_id: u16, exactly_once: bool, reason: ReasonCode) {
        let same =
            |owed: &&mut Owed| owed.packet_id == packet_id && owed.exactly_once == exactly_once;
        for owed in self.owed.iter_mut().filter(same) {
            owed.reason.get_or_insert(reason);
        }
    }

    /// The oldest acknowledgement, if nothing before it is open.
    pub(crate) fn pop(&mut self) -> Option<Ack<'static>> {
        if is_planted(Defect::AckOutOfTurn) {
            let known = self.owed.iter().position(|owed| owed.reason.is_some())?;
            self.owed.swap(0, known);
        }
        let reason = self.owed.front()?.reason?;
        let Owed {
            packet_id,
            exactly_once,
            again,
            ..
        } = self.owed.pop_front()?;
        Some(if exactly_once {
            Ack::PubRec {
                packet_id,
                reason,
                again,
            }
        } else {
            Ack::PubAck { packet_id, reason }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt5_4_6_0_2_acknowledgements_leave_in_order_of_receipt() {
        let mut ring = AckRing::default();
        ring.owe(1, false, false, None);
        ring.owe(2, true, false, None);
        ring.owe(3, false, false, Some(ReasonCode::Success));
        assert_eq!(ring.pop(), None);
        ring.settle(2, true, ReasonCode::Success);
        assert_eq!(ring.pop(), None);
        ring.settle(1, false, ReasonCode::NoMatchingSubscribers);
        let reason = ReasonCode::NoMatchingSubscribers;
        assert_eq!(
            ring.pop(),
            Some(Ack::PubAck {
                packet_id: 1,
                reason
            })
        );
        let reason = ReasonCode::Success;
        assert_eq!(
            ring.pop(),
            Some(Ack::PubRec {
                packet_id: 2,
                reason,
                again: false
            })
        );
        assert_eq!(
            ring.pop(),
            Some(Ack::PubAck {
                packet_id: 3,
                reason
            })
        );
        assert!(ring.is_empty());
    }
}
