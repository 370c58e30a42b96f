//! A faithful MQTT 5 client: its half of the session, packet ids, both QoS exchanges, resending on resume.

use std::collections::{BTreeSet, VecDeque};

use tidegate_codec::Qos;

use crate::driver::{Asked, Down, Up};
use crate::ledger::{How, Ledger};

/// A message the client has not got rid of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving {
    packet_id: u16,
    letter: usize,
    qos: Qos,
    /// PUBREC came; PUBREL is what it repeats.
    released: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) name: String,
    /// The connection it uses, and whether it has read its CONNACK.
    pub(crate) connection: Option<usize>,
    pub(crate) connected: bool,
    /// The ledger's session its own half belongs to.
    pub(crate) session: Option<usize>,
    pub(crate) session_expiry: u32,
    pub(crate) last_packet_id: u16,
    pub(crate) outgoing: VecDeque<Leaving>,
    /// QoS 2 packet ids of the server, from PUBLISH to PUBREL.
    pub(crate) incoming: BTreeSet<u16>,
    /// Answers it has yet to send, in order.
    pub(crate) answers: VecDeque<Up>,
    /// The packet id of a SUBSCRIBE or UNSUBSCRIBE that is not answered.
    pub(crate) asking: Option<u16>,
    /// What it asked for and was not answered: asked again on the next connection.
    pub(crate) unanswered: Option<Vec<Asked>>,
    /// It knows that the server may have another session than the one it remembers.
    pub(crate) must_start_clean: bool,
}

impl Client {
    pub(crate) fn unacknowledged(&self) -> usize {
        self.outgoing.len()
    }

    pub(crate) fn next_packet_id(&mut self) -> u16 {
        loop {
            // Few ids, so that they are used again soon.
            self.last_packet_id = self.last_packet_id % 40 + 1;
            let id = self.last_packet_id;
            if self.asking != Some(id)
                && self.outgoing.iter().all(|leaving| leaving.packet_id != id)
            {
                return id;
            }
        }
    }

    pub(crate) fn publish(&mut self, letter: usize, qos: Qos) -> Up {
        if qos == Qos::AtMostOnce {
            return Up::Publish {
                letter,
                packet_id: 0,
                dup: false,
            };
        }
        let packet_id = self.next_packet_id();
        self.outgoing.push_back(Leaving {
            packet_id,
            letter,
            qos,
            released: false,
        });
        Up::Publish {
            letter,
            packet_id,
            dup: false,
        }
    }

    /// The connection is gone; what it was about to say on it is void.
    pub(crate) fn lose_connection(&mut self) {
        self.connection = None;
        self.connected = false;
        self.answers.clear();
        self.asking = None;
    }

    /// Forgets its half of the session.
    pub(crate) fn forget(&mut self) {
        self.session = None;
        self.outgoing.clear();
        self.incoming.clear();
    }

    /// Reads one packet. Answers what it sends at once; acknowledgements wait in [`Client::answers`].
    pub(crate) fn read(&mut self, packet: Down, connection: usize, ledger: &mut Ledger) -> Vec<Up> {
        match packet {
            Down::ConnAck { session, present } => return self.connected(session, present),
            Down::Publish {
                letter,
                packet_id,
                qos,
                retain,
                dup,
            } => {
                let how = How { qos, retain, dup };
                if self.takes(packet_id, how) {
                    let session = self.session.expect("CONNACK comes first");
                    ledger.received(session, connection, letter, how);
                }
            }
            Down::PubAck(id) => {
                let at = self
                    .outgoing
                    .iter()
                    .position(|l| l.packet_id == id && l.qos == Qos::AtLeastOnce);
                let leaving = self
                    .outgoing
                    .remove(at.expect("PUBACK for a packet id that is not in use"));
                ledger.letters[leaving.expect("it stands there").letter].known_acked = true;
            }
            Down::PubRec(id, reason) => {
                let at = self
                    .outgoing
                    .iter()
                    .position(|l| l.packet_id == id && l.qos == Qos::ExactlyOnce);
                let at = at.expect("PUBREC for a packet id that is not in use");
                if reason.is_error() {
                    self.outgoing.remove(at);
                } else {
                    self.outgoing[at].released = true;
                    self.answers.push_back(Up::PubRel(id));
                }
            }
            Down::PubComp(id) => {
                let at = self
                    .outgoing
                    .iter()
                    .position(|l| l.packet_id == id && l.released);
                self.outgoing
                    .remove(at.expect("PUBCOMP for a packet id that was not released"));
            }
            Down::PubRel(id) => {
                self.incoming.remove(&id);
                self.answers.push_back(Up::PubComp(id));
            }
            Down::SubAck(id) | Down::UnsubAck(id) => {
                self.unanswered = None;
                assert_eq!(
                    self.asking.take(),
                    Some(id),
                    "SUBACK or UNSUBACK nobody waits for"
                );
            }
            Down::Closed => self.lose_connection(),
        }
        Vec::new()
    }

    fn connected(&mut self, session: usize, present: bool) -> Vec<Up> {
        self.connected = true;
        if !present || self.session != Some(session) {
            self.forget();
        }
        self.session = Some(session);
        let again = |leaving: &Leaving| match leaving.released {
            true => Up::PubRel(leaving.packet_id),
            false => Up::Publish {
                letter: leaving.letter,
                packet_id: leaving.packet_id,
                dup: true,
            },
        };
        self.outgoing.iter().map(again).collect()
    }

    /// Owes the acknowledgement. `false`: a QoS 2 message it knows.
    fn takes(&mut self, packet_id: u16, how: How) -> bool {
        match how.qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => self.answers.push_back(Up::PubAck(packet_id)),
            Qos::ExactlyOnce => {
                self.answers.push_back(Up::PubRec(packet_id));
                let known = !self.incoming.insert(packet_id);
                assert!(
                    how.dup || !known,
                    "a QoS 2 packet id was used again before it was released"
                );
                return !known;
            }
        }
        true
    }
}
