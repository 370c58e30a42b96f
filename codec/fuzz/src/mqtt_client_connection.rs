//! A client's conversation: a server's bytes, right and wrong, cut anywhere, mixed with what its user says.
//!
//! What must hold: no panic; one event a packet; nothing written above the server's Maximum Packet Size; the quota
//! within what was granted; no message with QoS 1 or 2 above our own Receive Maximum; every topic a name; what a
//! packet costs in memory is bounded by its bytes.
//!
//! Fed: settings, then operations, see [`Talk::step`]. Every number is read from the front, one byte mostly, so that
//! seeds can be written by hand.

use arbitrary::{Result, Unstructured};
use tidegate_codec::conversation::Ack;
use tidegate_codec::mqtt::client::{ClientConnection, ClientEvent, ConnectOptions};
use tidegate_codec::mqtt::connack::ConnAck;
use tidegate_codec::mqtt::disconnect::Disconnect;
use tidegate_codec::mqtt::frame::{frame_len, FrameLen, PacketType};
use tidegate_codec::mqtt::publish::PublishParts;
use tidegate_codec::mqtt::subscribe::SubscriptionOptions;
use tidegate_codec::mqtt::{acks, ping, suback, unsuback, ProtocolVersion};
use tidegate_codec::{Qos, ReasonCode};

use super::meter;

/// Enough for three small messages under way, and for a count that is reached.
const RECEIVE_MAXIMUM: u16 = 3;
const ALIAS_MAXIMUM: u16 = 4;

const TOPICS: [&str; 6] = ["a", "a/b", "topic/1", "", "a/+", "$SYS/x"];
const PROPERTIES: [&[u8]; 8] = [
    b"",
    b"\x23\0\x01",
    b"\x23\0\x04",
    b"\x23\0\x05",
    b"\x0b\x01\x0b\x02",
    b"\x02\0\0\0\x05\x03\0\x01t",
    b"\x26\0\x01k\0\x01v",
    b"\x11\0\0\0\0",
];

pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(settings) = input.arbitrary() else {
        return;
    };
    let mut talk = Talk::new(settings);
    while !input.is_empty() && talk.step(&mut input).unwrap_or(false) {}
}

struct Talk {
    version: ProtocolVersion,
    client: ClientConnection,
    /// Sent by the server and not yet arrived.
    wire: Vec<u8>,
    arrived: Vec<u8>,
    /// QoS 1 and 2 messages of the server that are not acknowledged, where MQTT 5 counts them.
    received: Vec<u16>,
    granted: u16,
    packet_bytes_max: u32,
}

fn pick<T: Copy>(input: &mut Unstructured<'_>, from: &[T]) -> Result<T> {
    Ok(from[usize::from(input.arbitrary::<u8>()?) % from.len()])
}

impl Talk {
    /// Bits 0 and 1 are the version, bit 2 the clean start, bit 3 an authentication method.
    fn new(settings: u8) -> Talk {
        let version = ProtocolVersion::ALL[usize::from(settings & 0b11) % 3];
        let mut client = ClientConnection::new(version);
        let options = ConnectOptions {
            version,
            client_id: "c".into(),
            clean_start: settings & 0b100 != 0,
            receive_maximum: RECEIVE_MAXIMUM,
            topic_alias_maximum: ALIAS_MAXIMUM,
            authentication_method: (settings & 0b1000 != 0).then(|| "method".to_owned()),
            ..ConnectOptions::default()
        };
        client.connect(&options, &mut Vec::new());
        Talk {
            version,
            client,
            wire: Vec::new(),
            arrived: Vec::new(),
            received: Vec::new(),
            granted: u16::MAX,
            packet_bytes_max: u32::MAX,
        }
    }

    /// One operation: 0 to 4 send something, 5 and 6 let bytes arrive, the others are the user's. `false`: the
    /// server broke a rule, and the user turns away.
    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<bool> {
        let mut out = Vec::new();
        match input.arbitrary::<u8>()? % 12 {
            0 => {
                let len = usize::from(input.arbitrary::<u8>()?).min(input.len());
                self.wire.extend_from_slice(input.bytes(len)?);
            }
            1 => self.server_connack(input)?,
            2 => self.server_publish(input)?,
            3 => self.server_other(input)?,
            4 => {
                let [at, change]: [u8; 2] = input.arbitrary()?;
                let len = self.wire.len().max(1);
                if let Some(byte) = self.wire.iter_mut().rev().nth(usize::from(at) % len) {
                    *byte ^= change;
                }
            }
            5 | 6 => {
                let len = match input.arbitrary::<u8>()? {
                    u8::MAX => usize::MAX,
                    len => usize::from(len),
                };
                self.arrived
                    .extend(self.wire.drain(..len.min(self.wire.len())));
                return Ok(self.read());
            }
            7 => {
                let [what, id, len]: [u8; 3] = input.arbitrary()?;
                let qos = Qos::from_u8(what & 0b11).unwrap_or_default();
                let payload = vec![0; len.into()];
                self.client
                    .publish("a", &payload, qos, false, false, id.into(), &[], &mut out);
                assert!(
                    out.len() <= self.packet_bytes_max as usize,
                    "[MQTT-3.2.2-15]"
                );
            }
            8 => {
                let [id, count]: [u8; 2] = input.arbitrary()?;
                let asked = vec![("a", SubscriptionOptions::default()); usize::from(count % 4)];
                self.client.subscribe(id.into(), &asked, None, &mut out);
            }
            9 => {
                let [id, count]: [u8; 2] = input.arbitrary()?;
                let filters = vec!["a"; usize::from(count % 4)];
                self.client.unsubscribe(id.into(), &filters, &mut out);
            }
            10 => self.user_acknowledges(input)?,
            _ => match input.arbitrary::<u8>()? {
                0 => self
                    .client
                    .disconnect(ReasonCode::DisconnectWithWill, Some(5), &mut out),
                _ => self.client.ping(&mut out),
            },
        }
        assert!(self.client.send_quota() <= self.granted.into());
        Ok(true)
    }

    fn user_acknowledges(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let [what, packet_id]: [u8; 2] = input.arbitrary()?;
        let packet_id = packet_id.into();
        let reason = match what & 0b100 {
            0 => ReasonCode::Success,
            _ => ReasonCode::QuotaExceeded,
        };
        let again = false;
        let ack = match what & 0b11 {
            0 => Ack::PubAck { packet_id, reason },
            1 => Ack::PubRec {
                packet_id,
                reason,
                again,
            },
            2 => Ack::PubRel { packet_id, reason },
            _ => Ack::PubComp { packet_id, reason },
        };
        if matches!(ack, Ack::PubAck { .. } | Ack::PubComp { .. }) || what & 0b111 == 0b101 {
            self.received.retain(|id| *id != packet_id);
        }
        let mut out = Vec::new();
        self.client.acknowledge(&ack, &mut out);
        assert!(
            out.len() <= self.packet_bytes_max as usize,
            "[MQTT-3.2.2-15]"
        );
        Ok(())
    }

    /// Reads what has arrived, packet by packet.
    fn read(&mut self) -> bool {
        loop {
            let mut input = &self.arrived[..];
            let foretold = frame_len(input, u32::MAX);
            // A table of what the user asked may grow with an answer.
            let tables = 64 * self.client.unanswered();
            let (result, allocated) = meter::allocated(|| self.client.handle_bytes(&mut input));
            let taken = self.arrived.len() - input.len();
            let most = if taken == 0 {
                0
            } else {
                1_024 + 64 * taken + tables
            };
            assert!(
                allocated <= most,
                "{allocated} bytes for a packet of {taken}"
            );
            match result {
                Ok(None) => {
                    assert_eq!(taken, 0);
                    return true;
                }
                Ok(Some(event)) => {
                    assert_eq!(foretold, FrameLen::Complete(taken));
                    match event {
                        ClientEvent::ConnAck(connack) if connack.reason == ReasonCode::Success => {
                            self.granted = connack.receive_maximum;
                            self.packet_bytes_max = connack.maximum_packet_size.unwrap_or(u32::MAX);
                        }
                        ClientEvent::Publish(view) => {
                            assert!(
                                !view.topic.is_empty() && !view.topic.contains(['+', '#', '\0'])
                            );
                            assert_eq!(view.packet_id == 0, view.qos == Qos::AtMostOnce);
                            if view.packet_id != 0 && self.version.is_v5() {
                                assert!(!self.received.contains(&view.packet_id), "[MQTT-2.2.1-4]");
                                self.received.push(view.packet_id);
                                assert!(self.received.len() <= RECEIVE_MAXIMUM.into());
                            }
                        }
                        _ => {}
                    }
                }
                Err(_) => return false,
            }
            self.arrived.drain(..taken);
        }
    }

    fn server_connack(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let [how, maximum]: [u8; 2] = input.arbitrary()?;
        let reason = match how & 0b11 {
            3 => pick(input, &ReasonCode::ALL)?,
            _ => ReasonCode::Success,
        };
        let connack = ConnAck {
            receive_maximum: if how & 0b100 == 0 {
                u16::MAX
            } else {
                1 + u16::from(maximum)
            },
            maximum_packet_size: (how & 0b1000 != 0).then_some(1 + u32::from(maximum)),
            authentication_method: (how & 0b1_0000 != 0).then(|| "method".to_owned()),
            response_information: (how & 0b10_0000 != 0).then(|| "here".to_owned()),
            assigned_client_id: (how & 0b100_0000 != 0).then(|| "c".to_owned()),
            ..ConnAck::new(reason, how & 0b1000_0000 != 0)
        };
        connack.encode(self.version, u32::MAX, &mut self.wire);
        Ok(())
    }

    fn server_publish(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let [how, packet_id]: [u8; 2] = input.arbitrary()?;
        let parts = PublishParts {
            topic: pick(input, &TOPICS)?,
            payload: b"payload",
            qos: Qos::from_u8(how & 0b11).unwrap_or_default(),
            retain: how & 0b100 != 0,
            dup: how & 0b1000 != 0,
            packet_id: packet_id.into(),
            properties: PROPERTIES[usize::from(how >> 5)],
        };
        parts.encode(self.version, u32::MAX, &mut self.wire);
        Ok(())
    }

    fn server_other(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        use PacketType::{PubAck, PubComp, PubRec, PubRel};
        let [which, id]: [u8; 2] = input.arbitrary()?;
        let (packet_id, version, out) = (id.into(), self.version, &mut self.wire);
        match which % 8 {
            index @ 0..=3 => {
                let packet = [PubAck, PubRec, PubRel, PubComp][usize::from(index)];
                let reason = match which & 0b1000 {
                    0 => ReasonCode::Success,
                    _ => pick(input, &ReasonCode::ALL)?,
                };
                acks::encode(packet, packet_id, reason, version, u32::MAX, out);
            }
            4 | 5 => {
                let count = usize::from(input.arbitrary::<u8>()? % 4);
                let reasons = vec![pick(input, &ReasonCode::ALL)?; count];
                match which % 8 {
                    4 => suback::encode(packet_id, &reasons, version, u32::MAX, out),
                    _ => unsuback::encode(packet_id, &reasons, version, u32::MAX, out),
                }
            }
            6 => ping::encode_response(out),
            _ => Disconnect::new(pick(input, &ReasonCode::ALL)?).encode(version, u32::MAX, out),
        }
        Ok(())
    }
}
