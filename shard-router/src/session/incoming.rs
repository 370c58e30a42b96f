//! QoS 2 packet ids of the client, from PUBLISH to PUBREL: a message that comes again under one of them is
//! acknowledged again and not delivered again [MQTT-4.3.3-10].

use tidegate_codec::ReasonCode;

use crate::store_op::Commit;

#[derive(Clone, Copy, Debug)]
struct Entry {
    packet_id: u16,
    /// `None` while its ticket is open.
    reason: Option<ReasonCode>,
    /// The store has its message.
    stored: bool,
}

/// Bounded by our Receive Maximum, which counts a QoS 2 message until its PUBCOMP.
#[derive(Debug)]
pub(crate) struct Incoming {
    entries: Vec<Entry>,
    /// When the last message that had to be stored first goes its way. None overtakes it.
    pub(crate) leaves_after: Commit,
}

impl Default for Incoming {
    fn default() -> Self {
        Incoming {
            entries: Vec::new(),
            leaves_after: Commit::Done,
        }
    }
}

/// What is known of a packet id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is new, and noted now.
    New,
    /// It is known; its ticket is open (`None`) or was answered.
    Again(Option<ReasonCode>),
}

impl Incoming {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn receive(&mut self, packet_id: u16) -> Known {
        if let Some(entry) = self
            .entries
            .iter()
            .find(|entry| entry.packet_id == packet_id)
        {
            return Known::Again(entry.reason);
        }
        self.entries.push(Entry {
            packet_id,
            reason: None,
            stored: false,
        });
        Known::New
    }

    /// Puts back what was there when the process ended; `reason` where its ticket was answered.
    pub(crate) fn restore(&mut self, packet_id: u16, reason: Option<ReasonCode>) {
        self.entries.push(Entry {
            packet_id,
            reason,
            stored: true,
        });
    }

    pub(crate) fn note_stored(&mut self, packet_id: u16) {
        if let Some(entry) = self.entries.iter_mut().find(|e| e.packet_id == packet_id) {
            entry.stored = true;
        }
    }

    pub(crate) fn is_stored(&self, packet_id: u16) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.packet_id == packet_id && entry.stored)
    }

    /// The ticket completed. A reason that is an error forgets the id: PUBREC ends the exchange.
    pub(crate) fn settle(&mut self, packet_id: u16, reason: ReasonCode) {
        if reason.is_error() {
            self.entries.retain(|entry| entry.packet_id != packet_id);
        } else if let Some(entry) = self.entries.iter_mut().find(|e| e.packet_id == packet_id) {
            entry.reason = Some(reason);
        }
    }

    /// PUBREL: `false` when the id is not known.
    pub(crate) fn release(&mut self, packet_id: u16) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.packet_id != packet_id);
        self.entries.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt5_4_3_3_10_an_id_is_new_once_until_it_is_released() {
        let mut incoming = Incoming::default();
        assert_eq!(incoming.receive(5), Known::New);
        assert_eq!(incoming.receive(5), Known::Again(None));
        incoming.settle(5, ReasonCode::Success);
        assert_eq!(incoming.receive(5), Known::Again(Some(ReasonCode::Success)));
        assert!(incoming.release(5));
        assert!(!incoming.release(5));
        assert_eq!(incoming.receive(5), Known::New);
    }
}
