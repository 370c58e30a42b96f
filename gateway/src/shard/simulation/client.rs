//! [`Client`]: one simulated client. It says what it is told and is strict about what comes back.

use std::collections::{BTreeMap, HashMap, HashSet};

use tidegate_codec::conversation::Ack;
use tidegate_codec::mqtt::client::{ClientConnection, ClientEvent, ConnectOptions};
use tidegate_codec::mqtt::connect::Will;
use tidegate_codec::mqtt::subscribe::SubscriptionOptions;
use tidegate_codec::mqtt::ProtocolVersion;
use tidegate_codec::{Message, Qos, ReasonCode};

use crate::shard::driver::simulated::{Chance, Found, Line};

/// Topics messages are published to, in order within each publisher.
pub(super) const TOPICS: usize = 6;

/// Who a client is; the same over all its connections.
#[derive(Clone, Debug)]
pub(super) struct Character {
    pub(super) client_id: String,
    pub(super) version: ProtocolVersion,
    /// Stays from beginning to end and receives everything that was acknowledged.
    pub(super) steady: bool,
    pub(super) clean_start: bool,
    pub(super) keep_alive: u16,
    /// The gateway may end its connections for a reason the world does not follow: a twin takes the client id
    /// over, a limit is reached.
    pub(super) may_be_closed: bool,
}

/// Where a message comes from: one connection of one client.
pub(super) type Origin = u32;

/// One message as its publisher knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sent {
    pub(super) origin: Origin,
    pub(super) topic: u8,
    pub(super) sequence: u32,
}

/// A message of QoS 1 or 2 that was acknowledged, and when it was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    pub(super) sent: Sent,
    pub(super) written_at: u64,
}

#[derive(Debug)]
struct Subscribed {
    filter: String,
    qos: Qos,
    /// The step at which SUBACK came.
    since: u64,
}

/// What a connection has seen of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Open,
    /// The gateway closed in order.
    Ended,
    Reset,
}

/// A connection from its first byte on.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) line: Line,
    pub(super) codec: ClientConnection,
    origin: Origin,
    /// Said and not taken by the network.
    pub(super) outgoing: Vec<u8>,
    /// Read and not yet a packet.
    incoming: Vec<u8>,
    next_packet_id: u16,
    unacknowledged: HashMap<u16, (Sent, u64)>,
    subscribing: HashMap<u16, Vec<(String, Qos)>>,
    /// Messages of QoS 2 that came and were not released.
    unreleased: u32,
    /// An earlier connection may still take the session over.
    pub(super) contested: bool,
    /// Nothing more is said.
    pub(super) leaving: bool,
    /// What the gateway said last before it closed.
    pub(super) reason: Option<ReasonCode>,
    pub(super) asked_connect: bool,
}

/// What a client was told, by kind and in order; of deliveries by where they come from.
pub(super) type Journal = BTreeMap<String, Vec<Vec<u8>>>;

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) character: Character,
    pub(super) talk: Option<Talk>,
    /// Kept where it is asked for.
    pub(super) journal: Option<Journal>,
    /// Reads until then in vain.
    pub(super) deaf_until: u64,
    /// Its earlier connections: what it wrote there may still arrive.
    pub(super) earlier: Vec<Line>,
    sequences: [u32; TOPICS],
    last_reason: Option<ReasonCode>,
    subscriptions: Vec<Subscribed>,
    /// Of a steady client: the last sequence of each publisher and topic, and all there were.
    last_seen: BTreeMap<(Origin, u8), u32>,
    seen: HashSet<Sent>,
}

/// What the client of a connection just opened says in its CONNECT.
fn connect_options(character: &Character, chance: &mut Chance, origin: Origin) -> ConnectOptions {
    let version = character.version;
    let will = (!character.steady && chance.percent(30)).then(|| Will {
        message: Message::new("will", &[], filler(origin, 0, 20), Qos::AtLeastOnce, false),
        delay_interval: 0,
        message_expiry_interval: None,
    });
    let expiry = match (version.is_v5(), character.clean_start) {
        (true, true) => 0,
        (true, false) => 2,
        (false, true) => 0,
        (false, false) => u32::MAX,
    };
    ConnectOptions {
        version,
        client_id: character.client_id.clone(),
        clean_start: character.clean_start,
        keep_alive: character.keep_alive,
        will,
        session_expiry_interval: expiry,
        receive_maximum: if version.is_v5() {
            *chance.pick(&[1, 5, 100])
        } else {
            u16::MAX
        },
        topic_alias_maximum: if version.is_v5() { 4 } else { 0 },
        ..ConnectOptions::default()
    }
}

/// All bytes in turn, long enough for any payload from any start.
static CYCLE: [u8; 1 << 16] = {
    let mut bytes = [0; 1 << 16];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = at as u8;
        at += 1;
    }
    bytes
};

fn filler(origin: Origin, sequence: u32, len: usize) -> &'static [u8] {
    let start = origin.wrapping_mul(31).wrapping_add(sequence) as u8;
    &CYCLE[usize::from(start)..][..len]
}

const MAGIC: u8 = 0xa5;

fn payload(sent: Sent, len: usize) -> Vec<u8> {
    let mut bytes = vec![MAGIC, sent.topic];
    bytes.extend(sent.origin.to_be_bytes());
    bytes.extend(sent.sequence.to_be_bytes());
    bytes.extend(filler(sent.origin, sent.sequence, len));
    bytes
}

/// Every byte of a payload follows from its head.
fn parse_payload(bytes: &[u8]) -> Sent {
    assert!(
        bytes.len() >= 10 && bytes[0] == MAGIC,
        "not a payload of ours: {bytes:?}"
    );
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let sent = Sent {
        origin: number(2),
        topic: bytes[1],
        sequence: number(6),
    };
    assert!(
        bytes == payload(sent, bytes.len() - 10),
        "payload of {sent:?} is damaged"
    );
    sent
}

/// Some share a slice owner and some do not.
pub(super) fn topic_name(topic: u8) -> String {
    format!("t/{}/{topic}", topic / 2)
}

fn matches(filter: &str, topic: u8) -> bool {
    filter == "#" || filter == "t/#" || filter == topic_name(topic) || {
        filter == format!("t/{}/+", topic / 2)
    }
}

impl Client {
    pub(super) fn new(character: Character) -> Client {
        Client {
            character,
            talk: None,
            journal: None,
            deaf_until: 0,
            earlier: Vec::new(),
            sequences: [0; TOPICS],
            last_reason: None,
            subscriptions: Vec::new(),
            last_seen: BTreeMap::new(),
            seen: HashSet::new(),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.talk
            .as_ref()
            .is_some_and(|talk| talk.codec.is_connected() && !talk.leaving)
    }

    pub(super) fn may_speak(&self) -> bool {
        self.talk
            .as_ref()
            .is_some_and(|talk| talk.asked_connect && !talk.leaving && talk.reason.is_none())
    }

    /// A connection without a word said yet.
    pub(super) fn open(&mut self, line: Line, origin: Origin) {
        self.sequences = [0; TOPICS];
        self.subscriptions.clear();
        self.talk = Some(Talk {
            line,
            unreleased: 0,
            contested: false,
            codec: ClientConnection::new(self.character.version),
            origin,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            next_packet_id: 1,
            unacknowledged: HashMap::new(),
            subscribing: HashMap::new(),
            leaving: false,
            reason: None,
            asked_connect: false,
        });
    }

    fn talk(&mut self) -> &mut Talk {
        self.talk.as_mut().expect("a client speaks on a connection")
    }

    pub(super) fn connect(&mut self, chance: &mut Chance) {
        let talk = self.talk.as_mut().expect("a client speaks on a connection");
        let options = connect_options(&self.character, chance, talk.origin);
        talk.codec.connect(&options, &mut talk.outgoing);
        talk.asked_connect = true;
    }

    pub(super) fn subscribe(&mut self, filters: &[(String, Qos)]) {
        let talk = self.talk();
        let packet_id = talk.packet_id();
        let options = |qos| SubscriptionOptions {
            maximum_qos: qos,
            ..SubscriptionOptions::default()
        };
        let asked: Vec<_> = filters
            .iter()
            .map(|(filter, qos)| (filter.as_str(), options(*qos)))
            .collect();
        talk.codec
            .subscribe(packet_id, &asked, None, &mut talk.outgoing);
        talk.subscribing.insert(packet_id, filters.to_vec());
    }

    pub(super) fn unsubscribe(&mut self, filter: &str) {
        self.subscriptions.retain(|have| have.filter != filter);
        let talk = self.talk();
        let packet_id = talk.packet_id();
        talk.codec
            .unsubscribe(packet_id, &[filter], &mut talk.outgoing);
        talk.subscribing.insert(packet_id, Vec::new());
    }

    /// Whether one more message of this quality may be published.
    pub(super) fn may_publish(&self, qos: Qos) -> bool {
        let Some(talk) = &self.talk else { return false };
        // An id of a persistent session may still be known from an earlier connection.
        let fresh_ids = self.character.clean_start || qos != Qos::ExactlyOnce;
        // Before CONNACK nobody knows what the gateway takes.
        let quota = if talk.codec.is_connected() {
            talk.codec.send_quota().min(100)
        } else {
            2
        };
        fresh_ids && (qos == Qos::AtMostOnce || talk.unacknowledged.len() < quota)
    }

    pub(super) fn publish(&mut self, topic: u8, qos: Qos, len: usize, now: u64) {
        let sequence = self.sequences[usize::from(topic)];
        self.sequences[usize::from(topic)] += 1;
        let talk = self.talk();
        let sent = Sent {
            origin: talk.origin,
            topic,
            sequence,
        };
        let packet_id = if qos == Qos::AtMostOnce {
            0
        } else {
            talk.packet_id()
        };
        let body = payload(sent, len);
        talk.codec.publish(
            &topic_name(topic),
            &body,
            qos,
            false,
            false,
            packet_id,
            &[],
            &mut talk.outgoing,
        );
        if qos != Qos::AtMostOnce {
            talk.unacknowledged.insert(packet_id, (sent, now));
        }
    }

    /// A retained message outside the ordered topics.
    pub(super) fn retain(&mut self, len: usize) {
        let talk = self.talk();
        let body = filler(talk.origin, 1, len);
        let out = &mut talk.outgoing;
        talk.codec
            .publish("r/kept", body, Qos::AtMostOnce, true, false, 0, &[], out);
    }

    pub(super) fn ping(&mut self) {
        let talk = self.talk();
        talk.codec.ping(&mut talk.outgoing);
    }

    pub(super) fn disconnect(&mut self, reason: ReasonCode) {
        let talk = self.talk();
        talk.codec.disconnect(reason, None, &mut talk.outgoing);
        talk.leaving = true;
    }

    /// Leaves before the answer to CONNECT has come.
    pub(super) fn disconnect_early(&mut self) {
        let talk = self.talk();
        talk.outgoing.extend([0xe0, 0]);
        talk.leaving = true;
    }

    /// Writes some of what is to be said. `true`: something moved.
    pub(super) fn write_some(
        &mut self,
        max: usize,
        write: impl FnOnce(Line, &[u8]) -> usize,
    ) -> bool {
        let Some(talk) = &mut self.talk else {
            return false;
        };
        let len = talk.outgoing.len().min(max);
        if len == 0 {
            return false;
        }
        let taken = write(talk.line, &talk.outgoing[..len]);
        talk.outgoing.drain(..taken);
        taken > 0
    }

    /// Reads once and acts on the packets among what came.
    pub(super) fn read_some(
        &mut self,
        now: u64,
        acknowledged: &mut Vec<Acknowledged>,
        read: impl FnOnce(Line) -> Found,
    ) -> Option<End> {
        let line = self.talk.as_ref()?.line;
        match read(line) {
            Found::Nothing => None,
            Found::End => Some(End::Ended),
            Found::Reset => Some(End::Reset),
            Found::Bytes(bytes) => {
                let talk = self.talk();
                talk.incoming.extend(bytes);
                let incoming = std::mem::take(&mut talk.incoming);
                let mut input = incoming.as_slice();
                while self.handle(&mut input, now, acknowledged) {}
                let rest = input.to_vec();
                self.talk().incoming = rest;
                Some(End::Open)
            }
        }
    }

    /// One packet. `false`: there is none.
    fn handle(
        &mut self,
        input: &mut &[u8],
        now: u64,
        acknowledged: &mut Vec<Acknowledged>,
    ) -> bool {
        let talk = self
            .talk
            .as_mut()
            .expect("a client reads from a connection");
        let before = *input;
        let mut kept = None;
        let event = match talk.codec.handle_bytes(input) {
            Ok(Some(event)) => event,
            Ok(None) => return false,
            Err(violation) => panic!(
                "{}: {violation}, {:?}",
                self.character.client_id, talk.codec
            ),
        };
        let mut answer = None;
        match event {
            ClientEvent::ConnAck(connack) => {
                if connack.reason != ReasonCode::Success {
                    talk.reason = Some(connack.reason);
                    self.last_reason = talk.reason;
                }
            }
            ClientEvent::Publish(publish) => {
                let (qos, packet_id) = (publish.qos, publish.packet_id);
                talk.unreleased += u32::from(qos == Qos::ExactlyOnce);
                let reason = ReasonCode::Success;
                answer = match qos {
                    Qos::AtMostOnce => None,
                    Qos::AtLeastOnce => Some(Ack::PubAck { packet_id, reason }),
                    Qos::ExactlyOnce => Some(Ack::PubRec {
                        packet_id,
                        reason,
                        again: false,
                    }),
                };
                if publish.topic.starts_with("t/") {
                    let sent = parse_payload(publish.payload);
                    assert_eq!(publish.topic, topic_name(sent.topic));
                    // Packet ids and aliases depend on what else is delivered.
                    let kind = format!("delivery from {} to {}", sent.origin, sent.topic);
                    let head = [qos as u8, u8::from(publish.retain), u8::from(publish.dup)];
                    kept = Some((kind, [&head, publish.payload].concat()));
                    if self.character.steady {
                        let last = self
                            .last_seen
                            .insert((sent.origin, sent.topic), sent.sequence);
                        assert!(
                            last.is_none_or(|last| last < sent.sequence),
                            "{}: {sent:?} after {last:?}",
                            self.character.client_id
                        );
                        self.seen.insert(sent);
                    }
                }
            }
            ClientEvent::PubAck { packet_id, .. } | ClientEvent::PubComp { packet_id, .. } => {
                // A message is this client's until the exchange is over.
                if let Some((sent, written_at)) = talk.unacknowledged.remove(&packet_id) {
                    acknowledged.push(Acknowledged { sent, written_at });
                }
            }
            ClientEvent::PubRec { packet_id, reason } => {
                assert!(!reason.is_error(), "PUBREC says {reason:?}");
                answer = Some(Ack::PubRel {
                    packet_id,
                    reason: ReasonCode::Success,
                });
            }
            ClientEvent::PubRel { packet_id, .. } => {
                kept = Some(("PUBREL".to_owned(), Vec::new()));
                // One may come again after a reconnect.
                talk.unreleased = talk.unreleased.saturating_sub(1);
                answer = Some(Ack::PubComp {
                    packet_id,
                    reason: ReasonCode::Success,
                });
            }
            ClientEvent::SubAck { packet_id, reasons } => {
                let filters = talk
                    .subscribing
                    .remove(&packet_id)
                    .expect("a SUBACK answers");
                for ((filter, qos), reason) in filters.into_iter().zip(reasons) {
                    assert_eq!(reason as u8, qos as u8, "SUBACK for {filter}");
                    self.subscriptions.retain(|have| have.filter != filter);
                    self.subscriptions.push(Subscribed {
                        filter,
                        qos,
                        since: now,
                    });
                }
            }
            ClientEvent::UnsubAck { packet_id, .. } => {
                talk.subscribing.remove(&packet_id);
            }
            ClientEvent::Pong => {}
            ClientEvent::Auth(_) => panic!("AUTH that nobody asked for"),
            ClientEvent::Disconnect { reason } => {
                talk.reason = Some(reason);
                self.last_reason = talk.reason;
            }
        }
        if let Some(journal) = &mut self.journal {
            let packet = &before[..before.len() - input.len()];
            let (kind, content) =
                kept.unwrap_or_else(|| (format!("packets 0x{:02x}", packet[0]), packet.to_vec()));
            journal.entry(kind).or_default().push(content);
        }
        if let Some(ack) = answer {
            if !talk.leaving {
                talk.codec.acknowledge(&ack, &mut talk.outgoing);
            }
        }
        true
    }

    /// What the gateway said against this client last, on any connection.
    pub(super) fn last_reason(&self) -> Option<ReasonCode> {
        self.last_reason
    }

    /// Filters that hold now.
    pub(super) fn filters(&self) -> Vec<String> {
        self.subscriptions
            .iter()
            .map(|have| have.filter.clone())
            .collect()
    }

    /// Of a steady client: whether it has what it must have, and how much that is.
    pub(super) fn check_received(&self, acknowledged: &[Acknowledged]) -> u64 {
        let mut had = 0;
        for Acknowledged { sent, written_at } in acknowledged {
            let due = self.subscriptions.iter().any(|have| {
                have.qos != Qos::AtMostOnce
                    && have.since < *written_at
                    && matches(&have.filter, sent.topic)
            });
            assert!(
                !due || self.seen.contains(sent),
                "{} never got {sent:?}, which was acknowledged",
                self.character.client_id
            );
            had += u64::from(due);
        }
        had
    }

    /// How many messages of ordered topics came.
    pub(super) fn seen(&self) -> usize {
        self.seen.len()
    }

    /// Whether a message of this topic comes to this client.
    pub(super) fn hears(&self, topic: u8) -> bool {
        self.subscriptions
            .iter()
            .any(|have| matches(&have.filter, topic))
    }

    /// Everything is said, and everything that was asked is answered.
    pub(super) fn is_answered(&self) -> bool {
        self.talk.as_ref().is_some_and(|talk| {
            let said = talk.outgoing.is_empty() && talk.codec.is_connected();
            said && talk.codec.unanswered() == 0 && talk.unreleased == 0
        })
    }

    /// Nobody owes this client an answer.
    pub(super) fn check_answered(&self) {
        let Some(talk) = self.talk.as_ref().filter(|_| self.is_connected()) else {
            return;
        };
        let name = &self.character.client_id;
        assert_eq!(talk.codec.unanswered(), 0, "{name} waits for answers");
        assert!(talk.unacknowledged.is_empty(), "{name} waits for PUBACK");
        assert!(talk.incoming.is_empty(), "{name} has half a packet");
        assert!(talk.outgoing.is_empty(), "{name} has more to say");
    }
}

impl Talk {
    fn packet_id(&mut self) -> u16 {
        loop {
            let id = self.next_packet_id;
            self.next_packet_id = self.next_packet_id.checked_add(1).unwrap_or(1);
            if !self.unacknowledged.contains_key(&id) && !self.subscribing.contains_key(&id) {
                return id;
            }
        }
    }
}
