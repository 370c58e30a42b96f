//! What a client's connection waits for, and what it has not acknowledged: whether an answer of the server
//! answers anything.

use std::collections::VecDeque;

use super::frame::PacketType;
use super::protocol_error;
use crate::conversation::Violation;
use crate::message::Qos;
use crate::mqtt::reason_code::ReasonCode;

/// The exchanges of one connection, oldest first, which is also the order in which most of them end.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The session is older than the connection: exchanges may have begun before.
    pub(super) resumed: bool,
    /// Answers the server owes. As many as the user has requests in flight.
    owed: VecDeque<(u16, Owed)>,
    /// How many of `owed` belong to a PUBLISH.
    publishes: usize,
    /// Messages we have not acknowledged. At most our Receive Maximum.
    received: VecDeque<(u16, Received)>,
}

/// An answer to a request of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    PubAck,
    PubRec,
    /// PUBREC came, PUBREL is ours to send.
    Nothing,
    PubComp,
    SubAck {
        filters: usize,
    },
    UnsubAck {
        filters: usize,
    },
}

/// A message of QoS 1 or 2 on its way to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    AtLeastOnce,
    ExactlyOnce,
    /// PUBREC was sent.
    Recorded,
    /// PUBREL came.
    Released,
}

pub(super) const NO_REQUEST: Violation = protocol_error(
    "MQTT-2.2.1-5, MQTT-2.2.1-6",
    "answer to nothing that was asked",
);

impl Ledger {
    /// Unacknowledged messages of ours.
    pub(super) fn publishes(&self) -> usize {
        self.publishes
    }

    /// Requests of ours without their last answer.
    pub(super) fn unanswered(&self) -> usize {
        self.owed.len()
    }

    pub(super) fn expect(&mut self, packet_id: u16, owed: Owed) {
        self.publishes += usize::from(owed.is_publish());
        self.owed.push_back((packet_id, owed));
    }

    /// Takes the oldest entry of `packet_id` that `which` means; usually it is the first.
    pub(super) fn forget(&mut self, packet_id: u16, which: impl Fn(Owed) -> bool) -> Option<Owed> {
        let mut entries = self.owed.iter();
        let index = entries.position(|(id, owed)| *id == packet_id && which(*owed))?;
        let (_, owed) = self.owed.remove(index)?;
        self.publishes -= usize::from(owed.is_publish());
        Some(owed)
    }

    /// The answer `owed` came, and `next` is what the exchange waits for now.
    pub(super) fn answered(
        &mut self,
        packet_id: u16,
        owed: Owed,
        next: Option<Owed>,
    ) -> Result<(), Violation> {
        if self.forget(packet_id, |other| other == owed).is_none() && !self.resumed {
            return Err(NO_REQUEST);
        }
        if let Some(next) = next {
            self.expect(packet_id, next);
        }
        Ok(())
    }

    /// A message of QoS 1 or 2 came.
    pub(super) fn received(
        &mut self,
        packet_id: u16,
        qos: Qos,
        may_repeat: bool,
        maximum: usize,
    ) -> Result<(), Violation> {
        if self.received.iter().any(|(id, _)| *id == packet_id) {
            return if may_repeat {
                Ok(())
            } else {
                Err(protocol_error(
                    "MQTT-2.2.1-4",
                    "packet identifier still in use",
                ))
            };
        }
        if self.received.len() >= maximum {
            return Err(Violation::new(
                ReasonCode::ReceiveMaximumExceeded,
                "MQTT-3.3.4-9",
                "more unacknowledged messages than our Receive Maximum",
            ));
        }
        let received = match qos {
            Qos::ExactlyOnce => Received::ExactlyOnce,
            _ => Received::AtLeastOnce,
        };
        self.received.push_back((packet_id, received));
        Ok(())
    }

    /// PUBREL came.
    pub(super) fn released(&mut self, packet_id: u16) -> Result<(), Violation> {
        match self.received.iter_mut().find(|(id, _)| *id == packet_id) {
            Some((_, phase @ (Received::Recorded | Received::Released))) => {
                *phase = Received::Released;
                Ok(())
            }
            None if self.resumed => Ok(()),
            _ => Err(protocol_error("MQTT-4.3.3-4", "PUBREL without PUBREC")),
        }
    }

    /// We acknowledge with `packet`.
    pub(super) fn acknowledged(&mut self, packet: PacketType, packet_id: u16, reason: ReasonCode) {
        if packet == PacketType::PubRel {
            self.forget(packet_id, |owed| owed == Owed::Nothing);
            return self.expect(packet_id, Owed::PubComp);
        }
        let Some(index) = self.received.iter().position(|(id, _)| *id == packet_id) else {
            return;
        };
        if packet == PacketType::PubRec && !reason.is_error() {
            self.received[index].1 = Received::Recorded;
        } else {
            self.received.remove(index);
        }
    }
}

impl Owed {
    fn is_publish(self) -> bool {
        !matches!(self, Owed::SubAck { .. } | Owed::UnsubAck { .. })
    }
}
