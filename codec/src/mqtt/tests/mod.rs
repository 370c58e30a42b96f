//! A server's and a client's connection facing each other, for the tests of this crate: two lines to make a pair,
//! one to speak, one to move the clock, one to expect.

mod client;
mod closing;
mod connecting;
mod packets;
mod publishing;
mod subscribing;

use crate::conversation::{Ack, Delivered, Delivery, Millis, Violation};
use crate::message::{Message, Qos};
use crate::mqtt::client::{ClientConnection, ClientEvent, ConnectOptions};
use crate::mqtt::connect::Connect;
use crate::mqtt::connection::{Accepted, Event, Limits, ServerConnection};
use crate::mqtt::reason_code::ReasonCode;
use crate::mqtt::ProtocolVersion;

pub(super) const LIMITS: Limits = Limits::DEFAULT;

/// Both ends of one connection, and what is on the wire between them.
pub(super) struct Pair {
    pub(super) now: Millis,
    pub(super) limits: Limits,
    pub(super) server: ServerConnection,
    pub(super) client: ClientConnection,
    pub(super) to_server: Vec<u8>,
    pub(super) to_client: Vec<u8>,
}

impl Pair {
    pub(super) fn new(version: ProtocolVersion) -> Pair {
        let now = Millis(1_000_000);
        Pair {
            now,
            limits: LIMITS,
            server: ServerConnection::with_connect_timeout(now, LIMITS.connect_timeout_ms),
            client: ClientConnection::new(version),
            to_server: Vec::new(),
            to_client: Vec::new(),
        }
    }

    /// A pair that shook hands.
    pub(super) fn connected(version: ProtocolVersion) -> Pair {
        Self::connected_with(version, |_| {})
    }

    /// A pair that shook hands over a CONNECT that `options` changed.
    pub(super) fn connected_with(
        version: ProtocolVersion,
        options: impl FnOnce(&mut ConnectOptions),
    ) -> Pair {
        let mut pair = Pair::new(version);
        let mut connect = ConnectOptions {
            client_id: "c".into(),
            ..ConnectOptions::default()
        };
        options(&mut connect);
        let connect = pair.connect(&connect).expect("a good CONNECT");
        pair.accept(&connect, &Accepted::default());
        pair.client_hears(|event| {
            assert!(
                matches!(event, ClientEvent::ConnAck(ack) if ack.reason == ReasonCode::Success)
            );
        });
        pair
    }

    /// The client speaks CONNECT, the server reads it.
    pub(super) fn connect(&mut self, options: &ConnectOptions) -> Result<Box<Connect>, Violation> {
        self.client.connect(options, &mut self.to_server);
        match self.server_reads()? {
            Some(Event::Connect(connect)) => Ok(connect),
            event => panic!("not a CONNECT: {event:?}"),
        }
    }

    pub(super) fn accept(&mut self, connect: &Connect, accepted: &Accepted) {
        self.server.accept(
            self.now,
            connect,
            accepted,
            &self.limits,
            &mut self.to_client,
        );
    }

    /// The server reads one packet of what is on its way.
    pub(super) fn server_reads(&mut self) -> Result<Option<Event>, Violation> {
        let mut input = &self.to_server[..];
        let event =
            self.server
                .handle_bytes(self.now, &mut input, &self.limits, &mut self.to_client);
        let taken = self.to_server.len() - input.len();
        self.to_server.drain(..taken);
        event
    }

    /// The server reads one packet, which must be good.
    pub(super) fn server_event(&mut self) -> Event {
        self.server_reads()
            .expect("a good packet")
            .expect("a whole packet")
    }

    /// Raw bytes to the server, and the one event they make.
    pub(super) fn tell_server(&mut self, bytes: &[u8]) -> Result<Option<Event>, Violation> {
        self.to_server.extend_from_slice(bytes);
        self.server_reads()
    }

    /// Raw bytes break a rule: its reason code, and what the server says before it closes.
    pub(super) fn server_refuses(&mut self, bytes: &[u8]) -> (Violation, Vec<u8>) {
        let violation = self.tell_server(bytes).expect_err("a violation");
        self.to_client.clear();
        self.server.fail(&violation, &mut self.to_client);
        assert!(self.server.is_closing());
        (violation, std::mem::take(&mut self.to_client))
    }

    /// The client reads one packet and `expect` looks at it.
    pub(super) fn client_hears<T>(&mut self, expect: impl FnOnce(ClientEvent<'_>) -> T) -> T {
        let bytes = std::mem::take(&mut self.to_client);
        let mut input = &bytes[..];
        let event = self.client.handle_bytes(&mut input);
        let heard = expect(event.expect("a good packet").expect("a whole packet"));
        self.to_client = input.to_vec();
        heard
    }

    /// The client publishes, the server reads.
    pub(super) fn publish(
        &mut self,
        topic: &str,
        qos: Qos,
        packet_id: u16,
    ) -> Result<Message, Violation> {
        let out = &mut self.to_server;
        self.client
            .publish(topic, b"payload", qos, false, false, packet_id, &[], out);
        match self.server_reads()? {
            Some(Event::Publish(publish)) => Ok(publish.message),
            event => panic!("not a PUBLISH: {event:?}"),
        }
    }

    pub(super) fn deliver(&mut self, message: &Message, qos: Qos, packet_id: u16) -> Delivered {
        let delivery = Delivery {
            message,
            qos,
            retain: false,
            dup: false,
            packet_id,
            subscription_ids: &[],
            expiry_seconds: message.expiry_seconds(self.now),
        };
        self.server.deliver(&delivery, &mut self.to_client)
    }

    pub(super) fn server_acknowledges(&mut self, ack: &Ack<'_>) {
        self.server.acknowledge(ack, &mut self.to_client);
    }

    pub(super) fn advance(&mut self, milliseconds: u64) {
        self.now = self.now + milliseconds;
    }
}

/// A small seeded generator (xorshift64*): the same seed makes the same packets.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(super) fn chance(&mut self) -> bool {
        self.next() & 1 == 0
    }

    pub(super) fn maybe<T>(&mut self, make: impl FnOnce(&mut Rng) -> T) -> Option<T> {
        self.chance().then(|| make(self))
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Of all lengths up to `max`, with characters of one to four bytes, without U+0000.
    pub(super) fn text(&mut self, max: usize) -> String {
        (0..self.below(max + 1))
            .map(|_| self.pick(&['a', 'Z', '7', '-', 'é', '→', '\u{2A6D4}']))
            .collect()
    }

    pub(super) fn topic(&mut self) -> String {
        let levels: Vec<_> = (0..1 + self.below(4)).map(|_| self.text(6)).collect();
        format!("t{}", levels.join("/"))
    }

    pub(super) fn bytes(&mut self, max: usize) -> Vec<u8> {
        (0..self.below(max + 1))
            .map(|_| self.next() as u8)
            .collect()
    }

    /// A value of a random number of bits, so that small and large ones are as frequent.
    pub(super) fn number(&mut self, bits: u32) -> u32 {
        let bits = self.below(bits as usize + 1) as u32;
        (self.next() & ((1u64 << bits) - 1)) as u32
    }

    pub(super) fn qos(&mut self) -> Qos {
        self.pick(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce])
    }
}

/// `bytes` to a connected server break a rule, and the version's farewell follows.
pub(super) fn broken(version: ProtocolVersion, bytes: &[u8], reason: ReasonCode) {
    let mut pair = Pair::connected(version);
    let (violation, written) = pair.server_refuses(bytes);
    assert_eq!(
        violation.reason, reason,
        "{version:?} {bytes:02x?}: {violation}"
    );
    let farewell = [0xE0, 1, reason as u8];
    let expected: &[u8] = if version.is_v5() { &farewell } else { &[] };
    assert_eq!(written, expected, "{version:?} {bytes:02x?}: {violation}");
    let again = pair.tell_server(&[0xC0, 0]);
    assert!(
        matches!(again, Ok(None)),
        "nothing is read after a violation"
    );
}

pub(super) fn options(client_id: &str) -> ConnectOptions {
    ConnectOptions {
        client_id: client_id.into(),
        ..ConnectOptions::default()
    }
}
