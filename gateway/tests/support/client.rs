//! A client on a blocking socket, strict about what the gateway says.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tidegate_codec::mqtt::client::{ClientConnection, ClientEvent, ConnectOptions};
use tidegate_codec::mqtt::connack::ConnAck;
use tidegate_codec::mqtt::subscribe::SubscriptionOptions;
use tidegate_codec::mqtt::ProtocolVersion;
use tidegate_codec::{Ack, Qos, ReasonCode};

/// How long anything may take. Far above what it takes, because test machines are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A plain CONNECT: clean start, no keep-alive, nothing special.
pub(crate) fn options(version: ProtocolVersion, client_id: &str) -> ConnectOptions {
    ConnectOptions {
        version,
        client_id: client_id.to_owned(),
        clean_start: true,
        keep_alive: 0,
        user_name: None,
        password: None,
        will: None,
        session_expiry_interval: 0,
        receive_maximum: 65_535,
        maximum_packet_size: None,
        topic_alias_maximum: 0,
        request_response_information: false,
        request_problem_information: true,
        user_properties: Vec::new(),
        authentication_method: None,
        authentication_data: None,
    }
}

/// A PUBLISH that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publication {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) packet_id: u16,
    pub(crate) message_expiry_interval: Option<u32>,
    pub(crate) subscription_ids: Vec<u32>,
    /// Forwarded properties in wire form.
    pub(crate) properties: Vec<u8>,
}

impl Publication {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("the payload is text")
    }
}

/// Anything the gateway can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    ConnAck {
        session_present: bool,
        reason: ReasonCode,
    },
    Publish(Publication),
    PubAck {
        packet_id: u16,
        reason: ReasonCode,
    },
    PubRec {
        packet_id: u16,
        reason: ReasonCode,
    },
    PubRel {
        packet_id: u16,
        reason: ReasonCode,
    },
    PubComp {
        packet_id: u16,
        reason: ReasonCode,
    },
    SubAck {
        packet_id: u16,
        reasons: Vec<ReasonCode>,
    },
    UnsubAck {
        packet_id: u16,
        reasons: Vec<ReasonCode>,
    },
    Pong,
    Disconnect {
        reason: ReasonCode,
    },
    /// The gateway closed the connection.
    Closed,
}

/// See the module. Verbs wait for their answer; what comes meanwhile is kept for later. The `send_` verbs do not
/// wait. Methods that expect something panic with what came instead.
pub(crate) struct Client {
    stream: TcpStream,
    connection: ClientConnection,
    input: Vec<u8>,
    /// Came while something else was waited for.
    kept: VecDeque<Packet>,
    last_packet_id: u16,
    connack: Option<ConnAck>,
    closed: bool,
}

impl Client {
    pub(crate) fn open(addr: SocketAddr, version: ProtocolVersion) -> Client {
        let stream = TcpStream::connect(addr).expect("the gateway accepts");
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            connection: ClientConnection::new(version),
            input: Vec::new(),
            kept: VecDeque::new(),
            last_packet_id: 0,
            connack: None,
            closed: false,
        }
    }

    // Connecting.

    /// Says CONNECT and expects to be accepted.
    pub(crate) fn connect(&mut self, options: &ConnectOptions) -> &ConnAck {
        self.send_connect(options);
        match self.next() {
            Packet::ConnAck {
                reason: ReasonCode::Success,
                ..
            } => {}
            other => panic!("expected to be accepted, got {other:?}"),
        }
        self.connack()
    }

    /// Says CONNECT, expects to be refused, and the connection to be closed.
    pub(crate) fn expect_refused(&mut self, options: &ConnectOptions) -> ReasonCode {
        self.send_connect(options);
        let reason = match self.next() {
            Packet::ConnAck { reason, .. } => reason,
            other => panic!("expected to be refused, got {other:?}"),
        };
        self.expect_closed();
        reason
    }

    /// What the last CONNACK said.
    pub(crate) fn connack(&self) -> &ConnAck {
        self.connack.as_ref().expect("a CONNACK came")
    }

    pub(crate) fn session_present(&self) -> bool {
        self.connack().session_present
    }

    pub(crate) fn disconnect(&mut self) {
        self.disconnect_with(ReasonCode::Success);
    }

    pub(crate) fn disconnect_with(&mut self, reason: ReasonCode) {
        let mut bytes = Vec::new();
        self.connection.disconnect(reason, None, &mut bytes);
        self.send_raw(&bytes);
        self.expect_closed();
    }

    /// Says goodbye and reads what is left until the end.
    pub(crate) fn disconnect_after_reading(&mut self) {
        let mut bytes = Vec::new();
        self.connection
            .disconnect(ReasonCode::Success, None, &mut bytes);
        self.send_raw(&bytes);
        while self.next() != Packet::Closed {}
    }

    /// Vanishes without a word.
    pub(crate) fn vanish(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Closes the sending half only.
    pub(crate) fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    // Messages.

    /// Publishes and goes through the whole exchange of its QoS; the reason is that of PUBACK or PUBREC.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        payload: impl AsRef<[u8]>,
        qos: Qos,
    ) -> ReasonCode {
        self.publish_with(topic, payload, qos, false, &[])
    }

    pub(crate) fn publish_retained(
        &mut self,
        topic: &str,
        payload: impl AsRef<[u8]>,
        qos: Qos,
    ) -> ReasonCode {
        self.publish_with(topic, payload, qos, true, &[])
    }

    /// `properties` in MQTT 5 wire form.
    pub(crate) fn publish_with(
        &mut self,
        topic: &str,
        payload: impl AsRef<[u8]>,
        qos: Qos,
        retain: bool,
        properties: &[u8],
    ) -> ReasonCode {
        let id = self.send_publish_with(topic, payload, qos, retain, false, properties);
        match qos {
            Qos::AtMostOnce => ReasonCode::Success,
            Qos::AtLeastOnce => self.expect_puback(id),
            Qos::ExactlyOnce => {
                let reason = self.expect_pubrec(id);
                if !reason.is_error() {
                    self.send_pubrel(id);
                    self.expect_pubcomp(id);
                }
                reason
            }
        }
    }

    /// Sends a PUBLISH and waits for nothing; the packet id is 0 for QoS 0.
    pub(crate) fn send_publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: Qos) -> u16 {
        self.send_publish_with(topic, payload, qos, false, false, &[])
    }

    pub(crate) fn send_publish_with(
        &mut self,
        topic: &str,
        payload: impl AsRef<[u8]>,
        qos: Qos,
        retain: bool,
        dup: bool,
        properties: &[u8],
    ) -> u16 {
        let id = if qos == Qos::AtMostOnce {
            0
        } else {
            self.next_packet_id()
        };
        let mut bytes = Vec::new();
        let payload = payload.as_ref();
        self.connection
            .publish(topic, payload, qos, retain, dup, id, properties, &mut bytes);
        self.send_raw(&bytes);
        id
    }

    /// The next message; it is acknowledged as its QoS demands, PUBREL and PUBCOMP included.
    pub(crate) fn expect_publish(&mut self) -> Publication {
        let publication = self.take_publish();
        match publication.qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => self.send_puback(publication.packet_id),
            Qos::ExactlyOnce => {
                self.send_pubrec(publication.packet_id);
                self.expect_pubrel(publication.packet_id);
                self.send_pubcomp(publication.packet_id);
            }
        }
        publication
    }

    /// The next message, not acknowledged.
    pub(crate) fn take_publish(&mut self) -> Publication {
        match self.next_where(|packet| matches!(packet, Packet::Publish(_) | Packet::Closed)) {
            Packet::Publish(publication) => publication,
            other => panic!("expected a message, got {other:?}"),
        }
    }

    /// Sends `answer` as acknowledgement.
    pub(crate) fn send_ack(&mut self, ack: &Ack<'_>) {
        let mut bytes = Vec::new();
        self.connection.acknowledge(ack, &mut bytes);
        self.send_raw(&bytes);
    }

    pub(crate) fn send_puback(&mut self, packet_id: u16) {
        self.send_ack(&Ack::PubAck {
            packet_id,
            reason: ReasonCode::Success,
        });
    }

    pub(crate) fn send_pubrec(&mut self, packet_id: u16) {
        self.send_ack(&Ack::PubRec {
            packet_id,
            reason: ReasonCode::Success,
            again: false,
        });
    }

    pub(crate) fn send_pubrel(&mut self, packet_id: u16) {
        self.send_ack(&Ack::PubRel {
            packet_id,
            reason: ReasonCode::Success,
        });
    }

    pub(crate) fn send_pubcomp(&mut self, packet_id: u16) {
        self.send_ack(&Ack::PubComp {
            packet_id,
            reason: ReasonCode::Success,
        });
    }

    pub(crate) fn expect_puback(&mut self, id: u16) -> ReasonCode {
        self.expect("PUBACK", |packet| match packet {
            Packet::PubAck { packet_id, reason } if *packet_id == id => Some(*reason),
            _ => None,
        })
    }

    pub(crate) fn expect_pubrec(&mut self, id: u16) -> ReasonCode {
        self.expect("PUBREC", |packet| match packet {
            Packet::PubRec { packet_id, reason } if *packet_id == id => Some(*reason),
            _ => None,
        })
    }

    pub(crate) fn expect_pubrel(&mut self, id: u16) -> ReasonCode {
        self.expect("PUBREL", |packet| match packet {
            Packet::PubRel { packet_id, reason } if *packet_id == id => Some(*reason),
            _ => None,
        })
    }

    pub(crate) fn expect_pubcomp(&mut self, id: u16) -> ReasonCode {
        self.expect("PUBCOMP", |packet| match packet {
            Packet::PubComp { packet_id, reason } if *packet_id == id => Some(*reason),
            _ => None,
        })
    }

    // Subscriptions.

    /// Subscribes to one filter and expects it to be granted.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: Qos) {
        let options = SubscriptionOptions {
            maximum_qos: qos,
            ..Default::default()
        };
        let reasons = self.subscribe_with(&[(filter, options)], None);
        assert_eq!(reasons.len(), 1);
        assert!(!reasons[0].is_error(), "{filter} was refused: {reasons:?}");
    }

    /// Subscribes and gives back what SUBACK said.
    pub(crate) fn subscribe_with(
        &mut self,
        subscriptions: &[(&str, SubscriptionOptions)],
        subscription_id: Option<u32>,
    ) -> Vec<ReasonCode> {
        let id = self.send_subscribe(subscriptions, subscription_id);
        self.expect("SUBACK", |packet| match packet {
            Packet::SubAck { packet_id, reasons } if *packet_id == id => Some(reasons.clone()),
            _ => None,
        })
    }

    pub(crate) fn send_subscribe(
        &mut self,
        subscriptions: &[(&str, SubscriptionOptions)],
        subscription_id: Option<u32>,
    ) -> u16 {
        let id = self.next_packet_id();
        let mut bytes = Vec::new();
        self.connection
            .subscribe(id, subscriptions, subscription_id, &mut bytes);
        self.send_raw(&bytes);
        id
    }

    /// Unsubscribes and gives back what UNSUBACK said (nothing before MQTT 5).
    pub(crate) fn unsubscribe(&mut self, filters: &[&str]) -> Vec<ReasonCode> {
        let id = self.next_packet_id();
        let mut bytes = Vec::new();
        self.connection.unsubscribe(id, filters, &mut bytes);
        self.send_raw(&bytes);
        self.expect("UNSUBACK", |packet| match packet {
            Packet::UnsubAck { packet_id, reasons } if *packet_id == id => Some(reasons.clone()),
            _ => None,
        })
    }

    // Everything else.

    /// PINGREQ and its answer. What came before the answer is kept.
    pub(crate) fn ping(&mut self) {
        let mut bytes = Vec::new();
        self.connection.ping(&mut bytes);
        self.send_raw(&bytes);
        self.expect("PINGRESP", |packet| (*packet == Packet::Pong).then_some(()));
    }

    /// Nothing is kept and nothing comes for `time`. Prefer a message that must come afterwards.
    pub(crate) fn expect_nothing_for(&mut self, time: Duration) {
        if let Some(packet) = self.try_next(time) {
            panic!("expected nothing, got {packet:?}");
        }
    }

    /// DISCONNECT (MQTT 5) with this reason, then the end.
    pub(crate) fn expect_disconnect(&mut self, expected: ReasonCode) {
        match self.next_where(|packet| matches!(packet, Packet::Disconnect { .. } | Packet::Closed))
        {
            Packet::Disconnect { reason } => assert_eq!(reason, expected),
            other => panic!("expected DISCONNECT, got {other:?}"),
        }
        self.expect_closed();
    }

    /// The gateway closes the connection and says nothing more.
    pub(crate) fn expect_closed(&mut self) {
        match self.next() {
            Packet::Closed => {}
            other => panic!("expected the end of the connection, got {other:?}"),
        }
    }

    /// Whatever comes next.
    pub(crate) fn next(&mut self) -> Packet {
        self.try_next(PATIENCE).expect("nothing came")
    }

    /// Whatever comes next within `time`.
    pub(crate) fn try_next(&mut self, time: Duration) -> Option<Packet> {
        match self.kept.pop_front() {
            Some(packet) => Some(packet),
            None => self.receive(Instant::now() + time),
        }
    }

    /// The next packet that is wanted; others are kept in order.
    pub(crate) fn next_where(&mut self, wanted: impl Fn(&Packet) -> bool) -> Packet {
        if let Some(at) = self.kept.iter().position(&wanted) {
            return self.kept.remove(at).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.receive(deadline) {
                Some(packet) if wanted(&packet) => return packet,
                Some(Packet::Closed) => return Packet::Closed,
                Some(packet) => self.kept.push_back(packet),
                None => panic!("what was waited for did not come; kept: {:?}", self.kept),
            }
        }
    }

    fn expect<T>(&mut self, what: &str, wanted: impl Fn(&Packet) -> Option<T>) -> T {
        let packet = self.next_where(|packet| wanted(packet).is_some());
        wanted(&packet).unwrap_or_else(|| panic!("expected {what}, got {packet:?}"))
    }

    /// Bytes as they are, right or wrong.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream
            .write_all(bytes)
            .expect("the gateway still listens");
    }

    /// The same where the gateway may have closed already.
    pub(crate) fn try_send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(crate) fn send_connect(&mut self, options: &ConnectOptions) {
        let mut bytes = Vec::new();
        self.connection.connect(options, &mut bytes);
        self.send_raw(&bytes);
    }

    /// Lets the codec of this client write into `bytes` without sending, for stories about bytes that arrive in
    /// one piece or in many.
    pub(crate) fn codec(&mut self) -> &mut ClientConnection {
        &mut self.connection
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    pub(crate) fn next_packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        self.last_packet_id
    }

    /// The next packet from the socket; `None` when time is up.
    fn receive(&mut self, deadline: Instant) -> Option<Packet> {
        loop {
            if let Some(packet) = self.decode() {
                return Some(packet);
            }
            if self.closed {
                return Some(Packet::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => self.closed = true,
                Ok(len) => self.input.extend_from_slice(&chunk[..len]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => self.closed = true,
                    _ => panic!("reading failed: {error}"),
                },
            }
        }
    }

    fn decode(&mut self) -> Option<Packet> {
        let mut input = &self.input[..];
        let event = self
            .connection
            .handle_bytes(&mut input)
            .expect("the gateway keeps the rules")?;
        let packet = match event {
            ClientEvent::ConnAck(connack) => {
                let packet = Packet::ConnAck {
                    session_present: connack.session_present,
                    reason: connack.reason,
                };
                self.connack = Some(*connack);
                packet
            }
            ClientEvent::Publish(publish) => Packet::Publish(Publication {
                topic: publish.topic.to_owned(),
                payload: publish.payload.to_vec(),
                qos: publish.qos,
                retain: publish.retain,
                dup: publish.dup,
                packet_id: publish.packet_id,
                message_expiry_interval: publish.message_expiry_interval,
                subscription_ids: publish.subscription_ids().collect(),
                properties: publish.properties().as_bytes().to_vec(),
            }),
            ClientEvent::PubAck { packet_id, reason } => Packet::PubAck { packet_id, reason },
            ClientEvent::PubRec { packet_id, reason } => Packet::PubRec { packet_id, reason },
            ClientEvent::PubRel { packet_id, reason } => Packet::PubRel { packet_id, reason },
            ClientEvent::PubComp { packet_id, reason } => Packet::PubComp { packet_id, reason },
            ClientEvent::SubAck { packet_id, reasons } => Packet::SubAck { packet_id, reasons },
            ClientEvent::UnsubAck { packet_id, reasons } => Packet::UnsubAck { packet_id, reasons },
            ClientEvent::Pong => Packet::Pong,
            ClientEvent::Auth(auth) => panic!("nobody asked for {auth:?}"),
            ClientEvent::Disconnect { reason } => Packet::Disconnect { reason },
        };
        let taken = self.input.len() - input.len();
        self.input.drain(..taken);
        Some(packet)
    }
}
