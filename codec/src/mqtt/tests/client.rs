//! What a strict client objects to.

use super::{options, Pair};
use crate::message::{Message, Qos};
use crate::mqtt::client::{ClientEvent, ConnectOptions};
use crate::mqtt::reason_code::ReasonCode;
use crate::mqtt::subscribe::SubscriptionOptions;
use crate::mqtt::ProtocolVersion;
use crate::mqtt::ProtocolVersion::{V3_1, V3_1_1, V5};

/// Raw bytes of a server that a strict client must object to.
fn client_objects(version: ProtocolVersion, bytes: &[u8], rule: &str) {
    let mut pair = Pair::connected(version);
    pair.client.subscribe(
        1,
        &[("a", SubscriptionOptions::default())],
        None,
        &mut Vec::new(),
    );
    let mut input = bytes;
    let violation = loop {
        match pair.client.handle_bytes(&mut input) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("{bytes:02x?} pass, {rule} is broken"),
            Err(violation) => break violation,
        }
    };
    assert!(violation.rule.contains(rule), "{bytes:02x?}: {violation}");
}

#[test]
fn a_client_sees_what_a_server_does_wrong() {
    client_objects(V5, b"\x20\x03\0\0\0", "MQTT-3.2.0-2");
    client_objects(V5, b"\x90\x05\0\x01\0\0\0", "MQTT-3.8.4-6");
    client_objects(V5, b"\x90\x04\0\x02\0\0", "MQTT-2.2.1-6");
    client_objects(V3_1_1, b"\x40\x02\0\x07", "MQTT-2.2.1-5");
    client_objects(V5, b"\xD0\0", "MQTT-3.12.4-1");
    client_objects(V5, b"\xC0\0", "2.1.2");
    client_objects(V3_1_1, b"\xE0\0", "2.1.2");
    client_objects(V5, b"\x30\x05\0\x01+\0x", "MQTT-3.3.2-2");
    client_objects(V5, b"\x30\x07\0\x01a\x03\x23\0\x01", "MQTT-3.3.2-9"); // and 11
    client_objects(V5, b"\x3A\x06\0\x01a\0\x07\0", "MQTT-3.3.1-3");
    client_objects(
        V5,
        b"\x32\x06\0\x01a\0\x07\0\x32\x06\0\x01a\0\x07\0",
        "MQTT-2.2.1-4",
    );
    client_objects(V5, b"\x62\x02\0\x07", "MQTT-4.3.3-4");
    client_objects(V5, b"\xE0\x01\x8E\xC0\0", "MQTT-3.14.4-1");
    client_objects(V5, b"\xF0\x06\x18\x04\x15\0\x01m", "MQTT-4.12.0-6");
}

#[test]
fn a_client_counts_its_receive_maximum() {
    let mut pair = Pair::connected_with(V5, |options| options.receive_maximum = 2);
    let message = Message::new("a", &[], b"x", Qos::AtLeastOnce, false);
    for packet_id in 1..=2 {
        pair.deliver(&message, Qos::AtLeastOnce, packet_id);
        pair.client_hears(|event| assert!(matches!(event, ClientEvent::Publish(_))));
    }
    pair.deliver(&message, Qos::AtLeastOnce, 3);
    let mut input = &pair.to_client[..];
    let violation = pair.client.handle_bytes(&mut input).unwrap_err();
    assert_eq!(violation.reason, ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn a_client_takes_nothing_before_the_connack() {
    let mut pair = Pair::new(V5);
    pair.client.connect(&options("c"), &mut Vec::new());
    let violation = pair
        .client
        .handle_bytes(&mut &b"\x30\x04\0\x01a\0"[..])
        .unwrap_err();
    assert_eq!(violation.rule, "MQTT-3.2.0-1");
}

/// MQTT 3.1 section 3.2 reserves the byte in which 3.1.1 put the session present flag. Found by `round_trip`: a
/// client that had asked for a clean session took it for that flag, and objected.
#[test]
fn mqtt31_a_reserved_connack_byte_is_no_session_present() {
    for byte in [0, 1, 0xFF] {
        let mut pair = Pair::new(V3_1);
        pair.client.connect(&options("c"), &mut Vec::new());
        let connack = [0x20, 2, byte, 0];
        let event = pair.client.handle_bytes(&mut &connack[..]);
        match event.expect("a good packet") {
            Some(ClientEvent::ConnAck(connack)) => assert!(!connack.session_present),
            event => panic!("not a CONNACK: {event:?}"),
        }
    }
}

/// MQTT 3.1 has no words for a session that goes on.
#[test]
fn mqtt31_a_client_that_asked_for_its_old_session_may_have_got_it_untold() {
    let mut pair = Pair::new(V3_1);
    let connect = ConnectOptions {
        clean_start: false,
        ..options("returns")
    };
    pair.client.connect(&connect, &mut Vec::new());
    // CONNACK, a PUBLISH with DUP and QoS 1, and a PUBREL, both begun on an earlier connection.
    let said = [0x20, 2, 0, 0, 0x3A, 5, 0, 1, b't', 0, 7, 0x62, 2, 0, 8];
    let mut input = &said[..];
    for _ in 0..3 {
        let event = pair.client.handle_bytes(&mut input);
        assert!(matches!(event, Ok(Some(_))), "{event:?}");
    }
}

/// [MQTT-3.3.2-7]: and none of them on another connection.
#[test]
fn mqtt5_3_3_2_10_a_client_understands_every_alias_up_to_its_maximum() {
    const MAXIMUM: u16 = 300;
    let publish = |topic: &str, alias: u16| {
        let mut packet = vec![0x30, 6 + topic.len() as u8, 0, topic.len() as u8];
        packet.extend(topic.bytes());
        packet.extend([3, 0x23]);
        packet.extend(alias.to_be_bytes());
        packet
    };
    let mut pair = Pair::connected_with(V5, |options| options.topic_alias_maximum = MAXIMUM);
    let named = (1..=MAXIMUM).map(|alias| (format!("topic {alias}"), alias));
    let used: Vec<_> = (1..=MAXIMUM).map(|alias| (String::new(), alias)).collect();
    for (topic, alias) in named.chain(used) {
        let packet = publish(&topic, alias);
        match pair.client.handle_bytes(&mut &packet[..]) {
            Ok(Some(ClientEvent::Publish(view))) => {
                assert_eq!(view.topic, format!("topic {alias}"));
            }
            other => panic!("alias {alias}: {other:?}"),
        }
    }
    let above = publish("a", MAXIMUM + 1);
    let violation = pair.client.handle_bytes(&mut &above[..]).unwrap_err();
    assert_eq!(violation.reason, ReasonCode::TopicAliasInvalid);
    let mut pair = Pair::connected_with(V5, |options| options.topic_alias_maximum = MAXIMUM);
    let unknown = publish("", 1);
    assert!(pair.client.handle_bytes(&mut &unknown[..]).is_err());
}
