//! A connection that says exactly the bytes it is told, right or wrong, and shows exactly the bytes that come
//! back; and the few pieces such bytes are made of.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use tidegate_codec::mqtt::ProtocolVersion::{self, V5};

use super::client::PATIENCE;
use super::gateway::Gateway;

/// PINGREQ and its answer.
pub(crate) const PINGREQ: &[u8] = &[0xc0, 0];
pub(crate) const PINGRESP: &[u8] = &[0xd0, 0];

/// A packet: its first byte, the remaining length in its shortest form, and the parts of its body.
pub(crate) fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut packet = vec![first];
    packet.extend(variable_integer(body.len()));
    packet.extend(body);
    packet
}

/// A variable byte integer.
pub(crate) fn variable_integer(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = if value > 127 { 0x80 } else { 0 };
        bytes.push((value % 128) as u8 | more);
        value /= 128;
        if value == 0 {
            return bytes;
        }
    }
}

/// A length of two bytes, then the bytes: strings and binary data.
pub(crate) fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// Properties with their length in front.
pub(crate) fn properties(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [variable_integer(body.len()), body].concat()
}

/// A user property in wire form.
pub(crate) fn user_property(name: &str, value: &str) -> Vec<u8> {
    [&[0x26][..], &text(name), &text(value)].concat()
}

/// CONNECT with a clean start, no keep-alive and nothing else.
pub(crate) fn connect(version: ProtocolVersion, client_id: &str) -> Vec<u8> {
    connect_with(version, 0b10, &[], &[&text(client_id)])
}

/// CONNECT with these flags, these properties (MQTT 5 only) and this payload.
pub(crate) fn connect_with(
    version: ProtocolVersion,
    flags: u8,
    with_properties: &[&[u8]],
    payload: &[&[u8]],
) -> Vec<u8> {
    let (name, level) = version.name_and_level();
    let with_properties = if version == V5 {
        properties(with_properties)
    } else {
        Vec::new()
    };
    packet(
        0x10,
        &[
            &text(name),
            &[level, flags, 0, 0],
            &with_properties,
            &payload.concat(),
        ],
    )
}

/// See the module.
pub(crate) struct Raw {
    stream: TcpStream,
    /// MQTT 5 or an earlier one, told by the CONNACK that came.
    version: ProtocolVersion,
    input: Vec<u8>,
}

impl Raw {
    /// Nothing has been said.
    pub(crate) fn open(gateway: &Gateway) -> Raw {
        let stream = TcpStream::connect(gateway.addr).expect("the gateway accepts");
        stream.set_nodelay(true).unwrap();
        Raw {
            stream,
            version: ProtocolVersion::default(),
            input: Vec::new(),
        }
    }

    /// Connected with a clean start.
    pub(crate) fn connected(gateway: &Gateway, version: ProtocolVersion, client_id: &str) -> Raw {
        Raw::accepted(gateway, &connect(version, client_id)).0
    }

    /// Connected with this CONNECT, and the CONNACK that accepted it.
    pub(crate) fn accepted(gateway: &Gateway, connect: &[u8]) -> (Raw, Vec<u8>) {
        let mut raw = Raw::open(gateway);
        raw.send(connect);
        let connack = raw.next().expect("a CONNACK comes");
        assert_eq!(
            (connack[0], connack[3]),
            (0x20, 0),
            "expected to be accepted: {connack:02x?}"
        );
        if connack.len() > 4 {
            raw.version = V5; // Only there CONNACK has properties.
        }
        (raw, connack)
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .expect("the gateway still listens");
    }

    /// The same where the gateway may have closed already.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// The next packet, first byte to last; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        match self.next_within(PATIENCE) {
            Some(Came::Packet(packet)) => Some(packet),
            Some(Came::End) => None,
            None => panic!(
                "nothing came, neither a packet nor the end; so far {:02x?}",
                self.input
            ),
        }
    }

    /// What comes next is exactly this packet.
    pub(crate) fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        match self.next() {
            Some(packet) => assert_eq!(packet, expected, "got {packet:02x?}, not {expected:02x?}"),
            None => panic!("expected {expected:02x?}, got the end"),
        }
    }

    /// The connection ends, and nothing more is said.
    pub(crate) fn expect_closed(&mut self) {
        if let Some(packet) = self.next() {
            panic!("expected the end, got {packet:02x?}");
        }
        assert!(
            self.input.is_empty(),
            "half a packet before the end: {:02x?}",
            self.input
        );
    }

    /// Asks for an answer that comes behind everything that was under way; nothing was. Not a PINGREQ: its answer
    /// may wait for company.
    pub(crate) fn expect_silence(&mut self) {
        const ID: [u8; 2] = [0xfe, 0xdc];
        let filter = text("no/such/subscription");
        let no_properties: &[u8] = if self.version == V5 { &[0] } else { &[] };
        self.send(packet(0xa2, &[&ID, no_properties, &filter]));
        let reasons: &[u8] = if self.version == V5 { &[0, 0x11] } else { &[] };
        self.expect(packet(0xb0, &[&ID, reasons]));
    }

    /// Vanishes without a word.
    pub(crate) fn vanish(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn next_within(&mut self, time: Duration) -> Option<Came> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(len) = whole_packet(&self.input) {
                return Some(Came::Packet(self.input.drain(..len).collect()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Some(Came::End),
                Ok(len) => self.input.extend_from_slice(&chunk[..len]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return Some(Came::End),
                    _ => panic!("reading failed: {error}"),
                },
            }
        }
    }
}

enum Came {
    Packet(Vec<u8>),
    End,
}

/// The length of the packet at the front of `input`, where it is all there.
fn whole_packet(input: &[u8]) -> Option<usize> {
    let mut remaining = 0;
    for (at, &byte) in input.get(1..)?.iter().take(4).enumerate() {
        remaining |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let len = 2 + at + remaining;
            return (input.len() >= len).then_some(len);
        }
    }
    None
}
