//! The strict client at the other end, and what a session would remember about the exchanges with it.

use tidegate_codec::conversation::Ack;
use tidegate_codec::mqtt::client::{ClientConnection, ClientEvent};
use tidegate_codec::mqtt::connack::ConnAck;
use tidegate_codec::mqtt::connect::Connect;
use tidegate_codec::mqtt::connection::Event;
use tidegate_codec::mqtt::frame::PacketType;
use tidegate_codec::mqtt::reason_code::Side;
use tidegate_codec::mqtt::subscribe::SubscriptionOptions;
use tidegate_codec::mqtt::ProtocolVersion;
use tidegate_codec::{Qos, ReasonCode};

/// Deliveries under way; enough to reach any small Receive Maximum.
const INFLIGHT_MAX: usize = 8;

/// An answer the server owes.
#[derive(Debug, Clone, Copy)]
enum Owed {
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    SubAck(u16, usize),
    UnsubAck(u16, usize),
}

impl Owed {
    fn what(self) -> (PacketType, u16) {
        match self {
            Owed::PubAck(id) => (PacketType::PubAck, id),
            Owed::PubRec(id) => (PacketType::PubRec, id),
            Owed::PubRel(id) => (PacketType::PubRel, id),
            Owed::PubComp(id) => (PacketType::PubComp, id),
            Owed::SubAck(id, _) => (PacketType::SubAck, id),
            Owed::UnsubAck(id, _) => (PacketType::UnsubAck, id),
        }
    }
}

/// What a delivery waits for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Awaits {
    PubAck,
    PubRec,
    /// PUBREL is still to be written.
    Nothing,
    PubComp,
}

#[derive(Debug, Default)]
pub(super) struct Shadow {
    client: Option<ClientConnection>,
    connect: Connect,
    connack: Option<Box<ConnAck>>,
    owed: Vec<Owed>,
    /// QoS 2 ids whose PUBREC left and whose PUBREL has not come.
    recorded: Vec<u16>,
    inflight: Vec<(u16, Awaits)>,
}

/// Whether section 4.9 gives a piece of the quota back.
pub(super) fn ends_exchange(ack: &Ack<'_>) -> bool {
    match ack {
        Ack::PubAck { .. } | Ack::PubComp { .. } => true,
        Ack::PubRec { reason, again, .. } => reason.is_error() && !again,
        _ => false,
    }
}

impl Shadow {
    pub(super) fn has_connected(&self) -> bool {
        self.client.is_some()
    }

    /// The client sent this CONNECT.
    pub(super) fn connect(&mut self, connect: &Connect) {
        let mut client = ClientConnection::new(connect.version);
        client.connect(connect, &mut Vec::new());
        self.client = Some(client);
        self.connect = connect.clone();
    }

    pub(super) fn session_present(&self) -> bool {
        self.connack
            .as_ref()
            .is_some_and(|connack| connack.session_present)
    }

    /// What the server announced.
    pub(super) fn receive_maximum(&self) -> u16 {
        self.connack
            .as_ref()
            .expect("a PUBLISH needs a CONNACK")
            .receive_maximum
    }

    pub(super) fn keep_alive(&self) -> u16 {
        let granted = self
            .connack
            .as_ref()
            .and_then(|connack| connack.server_keep_alive);
        granted.unwrap_or(self.connect.keep_alive)
    }

    /// The client sent this, and the server understood it.
    pub(super) fn said(&mut self, event: &Event) {
        let client = self.client.as_mut().expect("CONNECT came first");
        let nowhere = &mut Vec::new();
        match *event {
            Event::Publish(ref publish) => {
                let (id, qos) = (publish.packet_id, publish.message.qos());
                client.publish("t", &[], qos, false, publish.dup, id, &[], nowhere);
                match qos {
                    Qos::AtMostOnce => {}
                    Qos::AtLeastOnce => self.owed.push(Owed::PubAck(id)),
                    Qos::ExactlyOnce => self.owed.push(Owed::PubRec(id)),
                }
            }
            Event::PubAck { packet_id, reason } => {
                if self.settle(packet_id, Awaits::PubAck, None) {
                    self.acknowledge(&Ack::PubAck { packet_id, reason });
                }
            }
            Event::PubRec { packet_id, reason } => {
                let next = (!reason.is_error()).then_some(Awaits::Nothing);
                if self.settle(packet_id, Awaits::PubRec, next) {
                    let again = false;
                    self.acknowledge(&Ack::PubRec {
                        packet_id,
                        reason,
                        again,
                    });
                    self.owed.extend(next.map(|_| Owed::PubRel(packet_id)));
                }
            }
            Event::PubRel { packet_id, reason } => {
                self.recorded.retain(|id| *id != packet_id);
                self.owed.push(Owed::PubComp(packet_id));
                self.acknowledge(&Ack::PubRel { packet_id, reason });
            }
            Event::PubComp { packet_id, reason } => {
                if self.settle(packet_id, Awaits::PubComp, None) {
                    self.acknowledge(&Ack::PubComp { packet_id, reason });
                }
            }
            Event::Subscribe(ref subscribe) => {
                let filters = subscribe.subscriptions.len();
                let asked = vec![("t", SubscriptionOptions::default()); filters];
                client.subscribe(subscribe.packet_id, &asked, None, nowhere);
                self.owed.push(Owed::SubAck(subscribe.packet_id, filters));
            }
            Event::Unsubscribe(ref unsubscribe) => {
                let filters = unsubscribe.filters.len();
                client.unsubscribe(unsubscribe.packet_id, &vec!["t"; filters], nowhere);
                self.owed
                    .push(Owed::UnsubAck(unsubscribe.packet_id, filters));
            }
            Event::Ping => client.ping(nowhere),
            Event::Disconnect { .. } => client.disconnect(ReasonCode::Success, None, nowhere),
            Event::Connect(_) => unreachable!("another verb's"),
        }
    }

    fn acknowledge(&mut self, ack: &Ack<'_>) {
        let client = self.client.as_mut().expect("CONNECT came first");
        client.acknowledge(ack, &mut Vec::new());
    }

    /// An answer to a delivery moves it on; one that answers nothing is passed over, as a session does.
    fn settle(&mut self, packet_id: u16, awaits: Awaits, next: Option<Awaits>) -> bool {
        let mut entries = self.inflight.iter();
        let Some(index) = entries.position(|entry| *entry == (packet_id, awaits)) else {
            return false;
        };
        match next {
            Some(next) => self.inflight[index].1 = next,
            None => drop(self.inflight.remove(index)),
        }
        true
    }

    /// The server pays one answer it owes: `give` is the verb.
    pub(super) fn answer(&mut self, which: u8, reason: u8, mut give: impl FnMut(&Ack<'_>)) {
        if self.owed.is_empty() {
            return;
        }
        let owed = self.owed[usize::from(which) % self.owed.len()];
        // A client that uses a packet id twice at once is answered in its own order.
        let same = |other: &Owed| other.what() == owed.what();
        let index = self.owed.iter().position(same).expect("one is the same");
        let owed = self.owed.remove(index);
        let reason_for = |packet| {
            let reason = ReasonCode::ALL[usize::from(reason) % ReasonCode::ALL.len()];
            // Errors that do not fit are the codec's to fit; other codes that do not fit mean nothing.
            match reason.is_valid_in(packet, Side::Server) || reason.is_error() {
                true => reason,
                false => ReasonCode::Success,
            }
        };
        match owed {
            Owed::PubAck(packet_id) => {
                let reason = reason_for(PacketType::PubAck);
                give(&Ack::PubAck { packet_id, reason });
            }
            Owed::PubRec(packet_id) => {
                let reason = reason_for(PacketType::PubRec);
                let again = self.recorded.contains(&packet_id);
                give(&Ack::PubRec {
                    packet_id,
                    reason,
                    again,
                });
                match reason.is_error() {
                    true => self.recorded.retain(|id| *id != packet_id),
                    false if again => {}
                    false => self.recorded.push(packet_id),
                }
            }
            Owed::PubRel(packet_id) => {
                let reason = ReasonCode::Success;
                give(&Ack::PubRel { packet_id, reason });
                self.settle(packet_id, Awaits::Nothing, Some(Awaits::PubComp));
            }
            Owed::PubComp(packet_id) => {
                let reason = reason_for(PacketType::PubComp);
                give(&Ack::PubComp { packet_id, reason });
            }
            Owed::SubAck(packet_id, filters) => {
                let reasons = &vec![reason_for(PacketType::SubAck); filters];
                give(&Ack::SubAck { packet_id, reasons });
            }
            Owed::UnsubAck(packet_id, filters) => {
                let reasons = &vec![reason_for(PacketType::UnsubAck); filters];
                give(&Ack::UnsubAck { packet_id, reasons });
            }
        }
    }

    /// A packet id for one more delivery; `None` where the client takes no more [MQTT-3.3.4-9].
    pub(super) fn packet_id(&self, qos: Qos) -> Option<u16> {
        if qos == Qos::AtMostOnce {
            return Some(0);
        }
        let maximum = usize::from(self.connect.receive_maximum).min(INFLIGHT_MAX);
        let free = |id: &u16| self.inflight.iter().all(|(used, _)| used != id);
        (self.inflight.len() < maximum).then(|| (1..).find(free).expect("few are in use"))
    }

    /// A delivery was written.
    pub(super) fn sent(&mut self, packet_id: u16, qos: Qos) {
        match qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => self.inflight.push((packet_id, Awaits::PubAck)),
            Qos::ExactlyOnce => self.inflight.push((packet_id, Awaits::PubRec)),
        }
    }

    /// Whole packets, each of which the client accepts.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        let nobody = &mut ClientConnection::new(ProtocolVersion::default());
        let client = self.client.as_mut().unwrap_or(nobody);
        loop {
            match client.handle_bytes(&mut bytes) {
                Ok(Some(ClientEvent::ConnAck(connack))) => {
                    if connack.reason == ReasonCode::Success {
                        self.connack = Some(connack);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => return assert!(bytes.is_empty(), "half a packet: {bytes:02x?}"),
                Err(violation) => panic!("the server wrote {bytes:02x?}: {violation}"),
            }
        }
    }
}
