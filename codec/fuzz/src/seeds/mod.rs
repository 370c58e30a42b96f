//! The seeds: small inputs with a meaning each, written by the codec itself. `codec/tests/fuzz_corpus.rs` says how they
//! get to disk, and fails when they no longer are what this file says.

mod scripts;

use tidegate_codec::conversation::{Delivered, FrameSink};
use tidegate_codec::mqtt::auth::Auth;
use tidegate_codec::mqtt::connack::ConnAck;
use tidegate_codec::mqtt::connect::{Connect, Will};
use tidegate_codec::mqtt::disconnect::Disconnect;
use tidegate_codec::mqtt::frame::PacketType;
use tidegate_codec::mqtt::publish::PublishParts;
use tidegate_codec::mqtt::subscribe::{self, SubscriptionOptions};
use tidegate_codec::mqtt::{acks, ping, suback, unsuback, unsubscribe, ProtocolVersion};
use tidegate_codec::{Message, Qos, ReasonCode};

use Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};

/// Target, file name and contents.
pub type Seed = (&'static str, String, Vec<u8>);

const ALL: u32 = u32::MAX;
/// Bit 2 of `round_trip`'s settings.
const FROM_SERVER: u8 = 0b100;
/// Bits 4 to 7 of `mqtt_frame`'s: packets of up to 1,024 bytes.
const PACKETS_OF_1024: u8 = 6 << 4;
const FRESH: u8 = 0b100;

pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (number, version) in (0..).zip(ProtocolVersion::ALL) {
        let name = ["3.1", "3.1.1", "5"][usize::from(number)];
        let (client, server) = (client_packets(version), server_packets(version));
        let from_client = client.iter().map(|packet| (packet, number));
        let from_server = server.iter().map(|packet| (packet, number | FROM_SERVER));
        for ((what, packet), settings) in from_client.chain(from_server) {
            let input = [&[settings][..], packet].concat();
            seeds.push(("round_trip", format!("{what}_{name}"), input));
        }
        let stream = |packets: &[(&str, Vec<u8>)]| -> Vec<u8> {
            packets
                .iter()
                .flat_map(|(_, packet)| packet.clone())
                .collect()
        };
        for (what, packets, extra, seed) in [
            ("client", &client[1..], 0, 3),
            ("client_from_connect", &client[..], FRESH, 0),
            ("server", &server[1..], 0, 5),
        ] {
            let settings = number | PACKETS_OF_1024 | extra;
            let input = [&[settings, seed], &stream(packets)[..]].concat();
            seeds.push(("mqtt_frame", format!("{what}_{name}"), input));
        }
        let too_large = [&[number | FRESH, 0], &client[0].1[..]].concat();
        seeds.push(("mqtt_frame", format!("connect_too_large_{name}"), too_large));
        scripts::conversations(number, name, &mut seeds);
    }
    scripts::topic_filters(&mut seeds);
    seeds
}

fn packet(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

fn publish(qos: Qos, topic: &str, properties: &[u8], version: ProtocolVersion) -> Vec<u8> {
    let parts = PublishParts {
        topic,
        payload: b"payload",
        qos,
        retain: qos == AtLeastOnce,
        dup: qos == ExactlyOnce,
        packet_id: 7,
        properties,
    };
    packet(|out| assert_eq!(parts.encode(version, ALL, out), Delivered::Written))
}

/// CONNECT first.
fn client_packets(version: ProtocolVersion) -> Vec<(&'static str, Vec<u8>)> {
    let will = Message::new("gone", b"\x03\0\x01t", b"bye", AtLeastOnce, true);
    let connect = Connect {
        version,
        client_id: "client".into(),
        clean_start: false,
        keep_alive: 60,
        user_name: Some("user".into()),
        password: Some(b"secret".to_vec()),
        will: Some(Will {
            message: will,
            delay_interval: 5,
            message_expiry_interval: Some(60),
        }),
        session_expiry_interval: 3_600,
        receive_maximum: 10,
        maximum_packet_size: Some(512),
        topic_alias_maximum: 4,
        user_properties: vec![("name".into(), "value".into())],
        ..Connect::default()
    };
    let options = SubscriptionOptions::qos(AtLeastOnce);
    let subscriptions = [("a/+/c", options), ("$share/group/#", options)];
    let id = version.is_v5().then_some(5);
    let ack = |kind, reason| packet(|out| acks::encode(kind, 7, reason, version, ALL, out));
    let mut packets = vec![
        ("connect", packet(|out| connect.encode(version, out))),
        ("publish_qos0", publish(AtMostOnce, "a/b", b"", version)),
        ("publish_qos1", publish(AtLeastOnce, "a/b", b"", version)),
        ("publish_qos2", publish(ExactlyOnce, "é/→", b"", version)),
        (
            "subscribe",
            packet(|out| subscribe::encode(7, &subscriptions, id, version, out)),
        ),
        (
            "unsubscribe",
            packet(|out| unsubscribe::encode(7, &["a/+/c", "#"], version, out)),
        ),
        (
            "puback",
            ack(PacketType::PubAck, ReasonCode::NoMatchingSubscribers),
        ),
        ("pubrec", ack(PacketType::PubRec, ReasonCode::QuotaExceeded)),
        ("pubrel", ack(PacketType::PubRel, ReasonCode::Success)),
        (
            "pubcomp",
            ack(PacketType::PubComp, ReasonCode::PacketIdentifierNotFound),
        ),
        ("pingreq", packet(ping::encode_request)),
    ];
    if version.is_v5() {
        let expiry = b"\x02\0\0\0\x05\x03\0\x01t\x26\0\x01k\0\x01v";
        let torn = b"\x01\x01\x02\0\0\0\x05\x08\0\x01r\x09\0\x01d";
        packets.push((
            "publish_alias",
            publish(AtMostOnce, "a/b", b"\x23\0\x01", version),
        ));
        packets.push((
            "publish_alias_again",
            publish(AtMostOnce, "", b"\x23\0\x01", version),
        ));
        packets.push((
            "publish_properties",
            publish(AtLeastOnce, "a/b", expiry, version),
        ));
        packets.push((
            "publish_properties_apart",
            publish(AtMostOnce, "a/b", torn, version),
        ));
    }
    let goodbye = Disconnect {
        reason: ReasonCode::DisconnectWithWill,
        session_expiry_interval: Some(9),
    };
    packets.push((
        "disconnect",
        packet(|out| goodbye.encode(version, ALL, out)),
    ));
    packets
}

/// CONNACK first.
fn server_packets(version: ProtocolVersion) -> Vec<(&'static str, Vec<u8>)> {
    use ReasonCode::{GrantedQos1, NoSubscriptionExisted, Success, UnspecifiedError};
    let connack = ConnAck {
        session_expiry_interval: Some(60),
        receive_maximum: 32,
        maximum_qos: AtLeastOnce,
        retain_available: false,
        maximum_packet_size: Some(512),
        assigned_client_id: Some("assigned".into()),
        topic_alias_maximum: 4,
        reason_string: Some("why".into()),
        user_properties: vec![("name".into(), "value".into())],
        server_keep_alive: Some(30),
        response_information: Some("here".into()),
        ..ConnAck::new(Success, false)
    };
    let put = |write: &dyn Fn(&mut Vec<u8>)| packet(|out| write(out));
    let granted = [GrantedQos1, UnspecifiedError];
    let gone = [Success, NoSubscriptionExisted];
    let mut packets = vec![
        (
            "connack",
            put(&|out| assert_eq!(connack.encode(version, ALL, out), Delivered::Written)),
        ),
        ("pingresp", put(&|out| ping::encode_response(out))),
        (
            "suback",
            put(&|out| suback::encode(7, &granted, version, ALL, out)),
        ),
        (
            "unsuback",
            put(&|out| unsuback::encode(7, &gone, version, ALL, out)),
        ),
    ];
    if version.is_v5() {
        let auth = Auth {
            reason: ReasonCode::ContinueAuthentication,
            method: "method".into(),
            data: Some(b"data".to_vec()),
        };
        let ids = b"\x0b\x05\x0b\xff\xff\xff\x7f";
        let goodbye = Disconnect::new(ReasonCode::SessionTakenOver);
        packets.push(("auth", put(&|out| auth.encode(out))));
        packets.push((
            "publish_subscription_ids",
            publish(AtLeastOnce, "a/b", ids, version),
        ));
        packets.push((
            "disconnect_by_server",
            put(&|out| goodbye.encode(version, ALL, out)),
        ));
    } else {
        // MQTT 3.1 reserves the byte that 3.1.1 keeps the session present flag in.
        packets.push((
            "connack_session_present",
            put(&|out| out.put(&[0x20, 2, 1, 0])),
        ));
    }
    packets
}
