//! Every packet, made by a seeded generator: it comes back as it was, from any split of its bytes, and damaged in
//! any way it never makes either side panic.

use super::{Pair, Rng, LIMITS};
use crate::conversation::{Delivered, Delivery, Millis};
use crate::cursor::{variable_integer, VariableInteger};
use crate::message::{Message, Qos};
use crate::mqtt::client::{ClientConnection, ConnectOptions};
use crate::mqtt::connack::ConnAck;
use crate::mqtt::connect::{Connect, Will};
use crate::mqtt::connection::{Event, ServerConnection};
use crate::mqtt::disconnect::Disconnect;
use crate::mqtt::frame::{frame_len, FrameLen, PacketType};
use crate::mqtt::properties::PublishPropertiesBuilder;
use crate::mqtt::publish::{encode_delivery, PublishParts, PublishView};
use crate::mqtt::reason_code::{ReasonCode, Side};
use crate::mqtt::suback::SubAck;
use crate::mqtt::subscribe::{self, RetainHandling, Subscribe, SubscriptionOptions};
use crate::mqtt::{acks, ping, suback, unsuback, unsubscribe, ProtocolVersion};

const SEEDS: std::ops::Range<u64> = 0..200;

fn packet_id(rng: &mut Rng) -> u16 {
    1 + rng.below(65_535) as u16
}

fn publish_properties(rng: &mut Rng) -> Vec<u8> {
    let mut builder = PublishPropertiesBuilder::new();
    if rng.chance() {
        builder.payload_format(rng.chance()).unwrap();
    }
    if rng.chance() {
        builder.content_type(&rng.text(9)).unwrap();
    }
    if rng.chance() {
        builder.response_topic(&rng.topic()).unwrap();
    }
    if rng.chance() {
        builder.correlation_data(&rng.bytes(9)).unwrap();
    }
    for _ in 0..rng.below(4) {
        builder.user_property(&rng.text(5), &rng.text(200)).unwrap();
    }
    builder.finish()
}

fn connect(rng: &mut Rng, version: ProtocolVersion) -> Connect {
    let user_name = rng.maybe(|rng| rng.text(9));
    let password = rng.maybe(|rng| rng.bytes(9));
    let v5 = version.is_v5();
    let method = rng.maybe(|rng| rng.text(5));
    Connect {
        version,
        client_id: format!("c{}", rng.text(20)),
        clean_start: rng.chance(),
        keep_alive: rng.number(16) as u16,
        password: password.filter(|_| v5 || user_name.is_some()),
        user_name,
        will: rng.maybe(will),
        session_expiry_interval: rng.number(32),
        receive_maximum: packet_id(rng),
        maximum_packet_size: rng.maybe(|rng| 1 + rng.number(31)),
        topic_alias_maximum: rng.number(16) as u16,
        request_response_information: rng.chance(),
        request_problem_information: rng.chance(),
        user_properties: (0..rng.below(3))
            .map(|_| (rng.text(4), rng.text(4)))
            .collect(),
        authentication_data: rng.maybe(|rng| rng.bytes(9)).filter(|_| method.is_some()),
        authentication_method: method,
    }
}

fn will(rng: &mut Rng) -> Will {
    let properties = publish_properties(rng);
    let message = Message::new(
        &rng.topic(),
        &properties,
        &rng.bytes(50),
        rng.qos(),
        rng.chance(),
    );
    let message_expiry_interval = rng.maybe(|rng| rng.number(32));
    Will {
        message,
        delay_interval: rng.number(32),
        message_expiry_interval,
    }
}

fn publish(rng: &mut Rng, version: ProtocolVersion) -> Vec<u8> {
    let qos = rng.qos();
    let message = Message::new(
        &rng.topic(),
        &publish_properties(rng),
        &rng.bytes(300),
        qos,
        rng.chance(),
    );
    let delivery = Delivery {
        message: &message,
        qos,
        retain: message.retain(),
        dup: rng.chance(),
        packet_id: packet_id(rng),
        subscription_ids: &[],
        expiry_seconds: rng.maybe(|rng| rng.number(32)),
    };
    let mut bytes = Vec::new();
    let written = encode_delivery(&delivery, version, None, u32::MAX, &mut bytes);
    assert_eq!(written, Delivered::Written);
    bytes
}

fn subscribe(rng: &mut Rng, version: ProtocolVersion) -> Vec<u8> {
    let filters: Vec<_> = (0..1 + rng.below(5)).map(|_| rng.topic()).collect();
    let subscriptions: Vec<_> = filters
        .iter()
        .map(|filter| (&filter[..], options(rng)))
        .collect();
    let id = rng.maybe(|rng| 1 + rng.number(27));
    let mut bytes = Vec::new();
    subscribe::encode(packet_id(rng), &subscriptions, id, version, &mut bytes);
    bytes
}

fn options(rng: &mut Rng) -> SubscriptionOptions {
    use RetainHandling::*;
    SubscriptionOptions {
        maximum_qos: rng.qos(),
        no_local: rng.chance(),
        retain_as_published: rng.chance(),
        retain_handling: rng.pick(&[SendAtSubscribe, SendAtNewSubscribe, DoNotSend]),
    }
}

fn reason(rng: &mut Rng, packet: PacketType, side: Side) -> ReasonCode {
    let valid = ReasonCode::ALL
        .into_iter()
        .filter(|code| code.is_valid_in(packet, side));
    rng.pick(&valid.collect::<Vec<_>>())
}

fn ack(rng: &mut Rng, version: ProtocolVersion, packet: PacketType) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reason = reason(rng, packet, Side::Client);
    acks::encode(
        packet,
        packet_id(rng),
        reason,
        version,
        u32::MAX,
        &mut bytes,
    );
    bytes
}

/// Every packet a connected client may send, with other contents for every seed.
fn client_packets(seed: u64, version: ProtocolVersion) -> Vec<Vec<u8>> {
    use PacketType::*;
    let mut rng = Rng::new(seed);
    let mut packets: Vec<_> = [PubAck, PubRec, PubRel, PubComp]
        .into_iter()
        .map(|packet| ack(&mut rng, version, packet))
        .collect();
    packets.push(publish(&mut rng, version));
    packets.push(subscribe(&mut rng, version));
    let filters = [rng.topic(), rng.topic()];
    let mut bytes = Vec::new();
    unsubscribe::encode(
        packet_id(&mut rng),
        &[&filters[0], &filters[1]],
        version,
        &mut bytes,
    );
    packets.push(bytes);
    packets.push(ping::PINGREQ.to_vec());
    let session_expiry_interval = rng.maybe(|rng| rng.number(20));
    let reason = reason(&mut rng, Disconnect, Side::Client);
    let mut bytes = Vec::new();
    self::Disconnect {
        reason,
        session_expiry_interval,
    }
    .encode(version, u32::MAX, &mut bytes);
    packets.push(bytes);
    packets
}

/// Every packet a server may send.
fn server_packets(seed: u64, version: ProtocolVersion) -> Vec<Vec<u8>> {
    use PacketType::*;
    let mut rng = Rng::new(seed);
    let mut packets: Vec<_> = [PubAck, PubRec, PubRel, PubComp]
        .into_iter()
        .map(|packet| ack(&mut rng, version, packet))
        .collect();
    packets.push(publish(&mut rng, version));
    let mut put = |write: &mut dyn FnMut(&mut Rng, &mut Vec<u8>)| {
        let mut bytes = Vec::new();
        write(&mut rng, &mut bytes);
        packets.push(bytes);
    };
    put(&mut |rng, out| {
        connack(rng).encode(version, u32::MAX, out);
    });
    put(&mut |rng, out| {
        let reasons: Vec<_> = (0..rng.below(9))
            .map(|_| reason(rng, SubAck, Side::Server))
            .collect();
        suback::encode(packet_id(rng), &reasons, version, u32::MAX, out);
    });
    put(&mut |rng, out| {
        let reasons: Vec<_> = (0..rng.below(9))
            .map(|_| reason(rng, UnsubAck, Side::Server))
            .collect();
        unsuback::encode(packet_id(rng), &reasons, version, u32::MAX, out);
    });
    put(&mut |_, out| ping::encode_response(out));
    put(&mut |rng, out| {
        let reason = reason(rng, Disconnect, Side::Server);
        self::Disconnect::new(reason).encode(version, u32::MAX, out);
    });
    packets
}

fn connack(rng: &mut Rng) -> ConnAck {
    let reason = reason(rng, PacketType::ConnAck, Side::Server);
    ConnAck {
        session_expiry_interval: rng.maybe(|rng| rng.number(32)),
        receive_maximum: packet_id(rng),
        maximum_qos: rng.qos(),
        retain_available: rng.chance(),
        maximum_packet_size: rng.maybe(|rng| 1 + rng.number(31)),
        assigned_client_id: rng.maybe(|rng| rng.text(9)),
        topic_alias_maximum: rng.number(16) as u16,
        reason_string: rng.maybe(|rng| rng.text(9)),
        user_properties: (0..rng.below(3))
            .map(|_| (rng.text(4), rng.text(4)))
            .collect(),
        wildcard_subscriptions_available: rng.chance(),
        subscription_ids_available: rng.chance(),
        shared_subscriptions_available: rng.chance(),
        server_keep_alive: rng.maybe(|rng| rng.number(16) as u16),
        response_information: rng.maybe(|rng| rng.text(9)),
        server_reference: rng.maybe(|rng| rng.text(9)),
        authentication_method: rng.maybe(|rng| rng.text(9)),
        authentication_data: rng.maybe(|rng| rng.bytes(9)),
        ..ConnAck::new(reason, rng.chance() && reason == ReasonCode::Success)
    }
}

fn body(packet: &[u8]) -> &[u8] {
    match variable_integer(&packet[1..]) {
        VariableInteger::Value { value, len, .. } => {
            assert_eq!(packet.len(), 1 + len + value as usize, "remaining length");
            &packet[1 + len..]
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn connects_come_back() {
    for version in ProtocolVersion::ALL {
        for seed in SEEDS {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            connect(&mut Rng::new(seed), version).encode(version, &mut first);
            let mut form = ProtocolVersion::default();
            let decoded = Connect::decode(body(&first), &LIMITS, &mut form).unwrap();
            decoded.encode(version, &mut second);
            assert_eq!((first, version), (second, form), "seed {seed}");
        }
    }
}

#[test]
fn publishes_come_back() {
    for version in ProtocolVersion::ALL {
        for seed in SEEDS {
            let first = publish(&mut Rng::new(seed), version);
            let view = PublishView::decode(first[0] & 0x0F, body(&first), version).unwrap();
            let message = view.to_message(Millis(0));
            let delivery = Delivery {
                message: &message,
                qos: message.qos(),
                retain: message.retain(),
                dup: view.dup,
                packet_id: view.packet_id,
                subscription_ids: &[],
                expiry_seconds: view.message_expiry_interval,
            };
            let mut second = Vec::new();
            encode_delivery(&delivery, version, None, u32::MAX, &mut second);
            assert_eq!(first, second, "seed {seed}");
            let parts = PublishParts {
                topic: view.topic,
                payload: view.payload,
                qos: view.qos,
                retain: view.retain,
                dup: view.dup,
                packet_id: view.packet_id,
                properties: view.properties().as_bytes(),
            };
            let mut third = Vec::new();
            parts.encode(version, u32::MAX, &mut third);
            assert_eq!(first, third, "seed {seed}");
        }
    }
}

#[test]
fn subscribes_come_back() {
    for version in ProtocolVersion::ALL {
        for seed in SEEDS {
            let first = subscribe(&mut Rng::new(seed), version);
            let decoded = Subscribe::decode(body(&first), version, LIMITS.topic).unwrap();
            let subscriptions: Vec<_> = decoded
                .subscriptions
                .iter()
                .map(|requested| (requested.filter.as_ref().unwrap().text(), requested.options))
                .collect();
            let mut second = Vec::new();
            let id = decoded.subscription_id;
            subscribe::encode(decoded.packet_id, &subscriptions, id, version, &mut second);
            assert_eq!(first, second, "seed {seed}");
        }
    }
}

#[test]
fn connacks_and_subacks_come_back() {
    for seed in SEEDS {
        let version = ProtocolVersion::V5;
        let rng = &mut Rng::new(seed);
        let mut bytes = Vec::new();
        let mut sent = connack(rng);
        sent.maximum_qos = sent.maximum_qos.max(Qos::AtMostOnce);
        sent.encode(version, u32::MAX, &mut bytes);
        assert_eq!(
            ConnAck::decode(body(&bytes), version),
            Ok(sent),
            "seed {seed}"
        );
        let reasons: Vec<_> = (0..rng.below(300))
            .map(|_| reason(rng, PacketType::SubAck, Side::Server))
            .collect();
        let mut bytes = Vec::new();
        suback::encode(3, &reasons, version, u32::MAX, &mut bytes);
        let expected = SubAck {
            packet_id: 3,
            reasons,
        };
        assert_eq!(
            SubAck::decode(body(&bytes), version),
            Ok(expected),
            "seed {seed}"
        );
    }
}

/// What a fresh, connected server makes of `bytes` that come in two pieces.
fn server_hears(version: ProtocolVersion, pieces: [&[u8]; 2]) -> String {
    let mut pair = Pair::connected_with(version, |options| options.session_expiry_interval = 9);
    let mut heard = Vec::new();
    for piece in pieces {
        if let Some(event) = pair.tell_server(piece).expect("a good packet") {
            heard.push(event);
        }
    }
    assert!(pair.to_server.is_empty());
    format!("{heard:?}")
}

#[test]
fn packets_are_the_same_from_any_split() {
    for version in ProtocolVersion::ALL {
        for packet in client_packets(7, version)
            .into_iter()
            .chain(client_packets(8, version))
        {
            let whole = server_hears(version, [&packet, &[]]);
            assert!(whole.len() > 2, "one event of {packet:02x?}");
            for split in 1..packet.len() {
                assert_eq!(
                    server_hears(version, [&packet[..split], &packet[split..]]),
                    whole
                );
                let need = frame_len(&packet[..split], u32::MAX);
                assert!(
                    matches!(need, FrameLen::Need(n) if n <= packet.len() - split),
                    "{need:?}"
                );
            }
            assert_eq!(
                frame_len(&packet, u32::MAX),
                FrameLen::Complete(packet.len())
            );
        }
    }
}

#[test]
fn a_connect_is_the_same_from_any_split() {
    for version in ProtocolVersion::ALL {
        let mut packet = Vec::new();
        connect(&mut Rng::new(5), version).encode(version, &mut packet);
        for split in 1..packet.len() {
            let mut pair = Pair::new(version);
            assert!(pair.tell_server(&packet[..split]).unwrap().is_none());
            assert!(matches!(
                pair.tell_server(&packet[split..]),
                Ok(Some(Event::Connect(_)))
            ));
        }
    }
}

/// Bodies cut short, with a remaining length that fits, and single bits flipped.
fn damaged(packet: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let body = body(packet);
    for len in 0..body.len().min(127) {
        all.push([&[packet[0], len as u8], &body[..len]].concat());
    }
    for bit in 0..packet.len() * 8 {
        let mut flipped = packet.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        all.push(flipped);
    }
    all
}

fn feed_server(mut server: ServerConnection, mut bytes: &[u8]) {
    let mut out = Vec::new();
    loop {
        match server.handle_bytes(Millis(0), &mut bytes, &LIMITS, &mut out) {
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(violation) => return server.fail(&violation, &mut out),
        }
    }
}

fn feed_client(mut client: ClientConnection, mut bytes: &[u8]) {
    while let Ok(Some(_)) = client.handle_bytes(&mut bytes) {}
}

fn connecting_client(version: ProtocolVersion) -> ClientConnection {
    let mut client = ClientConnection::new(version);
    let options = ConnectOptions {
        client_id: "c".into(),
        ..ConnectOptions::default()
    };
    client.connect(&options, &mut Vec::new());
    client
}

#[test]
fn damaged_packets_never_panic() {
    for version in ProtocolVersion::ALL {
        for seed in 0..4 {
            for packet in client_packets(seed, version) {
                for bytes in damaged(&packet) {
                    feed_server(Pair::connected(version).server, &bytes);
                }
            }
            for packet in server_packets(seed, version) {
                for bytes in damaged(&packet) {
                    feed_client(Pair::connected(version).client, &bytes);
                    feed_client(connecting_client(version), &bytes);
                }
            }
            let mut packet = Vec::new();
            connect(&mut Rng::new(seed), version).encode(version, &mut packet);
            for bytes in damaged(&packet) {
                feed_server(ServerConnection::new(Millis(0)), &bytes);
            }
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    for seed in 0..20_000 {
        let rng = &mut Rng::new(seed);
        let version = rng.pick(&ProtocolVersion::ALL);
        let mut bytes = rng.bytes(60);
        if let [first, second, ..] = &mut bytes[..] {
            // Mostly a plausible header, so that the bodies are reached.
            *first = rng.pick(&[
                0x30, 0x32, 0x34, 0x3D, 0x62, 0x82, 0xA2, 0x40, 0xE0, 0xF0, *first,
            ]);
            *second = rng.pick(&[*second % 40, *second]);
        }
        feed_server(Pair::connected(version).server, &bytes);
        feed_client(Pair::connected(version).client, &bytes);
        bytes.splice(0..0, *b"\x10\x30\0\x04MQTT\x05");
        feed_server(ServerConnection::new(Millis(0)), &bytes);
    }
}
