//! What a CONNECT must be, and how it is answered.

use super::{options, Pair, LIMITS};
use crate::message::{Message, Qos};
use crate::mqtt::client::{ClientEvent, ConnectOptions};
use crate::mqtt::connect::Will;
use crate::mqtt::connection::{Accepted, Event};
use crate::mqtt::reason_code::ReasonCode;
use crate::mqtt::ProtocolVersion::{V3_1, V3_1_1, V5};

/// `bytes` to a fresh server: the reason of the violation, and what the server writes before it closes.
fn first_bytes(bytes: &[u8], reason: ReasonCode, answer: &[u8]) {
    let mut pair = Pair::new(V5);
    let (violation, written) = pair.server_refuses(bytes);
    assert_eq!(violation.reason, reason, "{bytes:02x?}: {violation}");
    assert_eq!(written, answer, "{bytes:02x?}: {violation}");
}

#[test]
fn mqtt5_3_1_0_1_the_first_packet_is_a_connect() {
    first_bytes(&[0xC0, 0], ReasonCode::ProtocolError, &[]);
    first_bytes(&[0x30], ReasonCode::ProtocolError, &[]); // one byte is enough
    first_bytes(b"GET / HTTP/1.1", ReasonCode::ProtocolError, &[]);
    first_bytes(&[0x11, 0], ReasonCode::MalformedPacket, &[]); // [MQTT-2.1.3-1]
}

#[test]
fn mqtt5_3_1_2_1_and_2_names_and_levels() {
    // Another name closes without a word.
    first_bytes(
        b"\x10\x0C\0\x04MQTX\x04\x02\0\0\0\0",
        ReasonCode::ProtocolError,
        &[],
    );
    first_bytes(
        b"\x10\x0C\0\x04mqtt\x04\x02\0\0\0\0",
        ReasonCode::ProtocolError,
        &[],
    );
    // Unknown levels are told so, in the form that is understood.
    let unsupported = ReasonCode::UnsupportedProtocolVersion;
    first_bytes(
        b"\x10\x0C\0\x04MQTT\x03\x02\0\0\0\0",
        unsupported,
        &[0x20, 2, 0, 1],
    );
    first_bytes(
        b"\x10\x0C\0\x04MQTT\x00\x02\0\0\0\0",
        unsupported,
        &[0x20, 2, 0, 1],
    );
    first_bytes(
        b"\x10\x0E\0\x06MQIsdp\x04\x02\0\0\0\0",
        unsupported,
        &[0x20, 2, 0, 1],
    );
    first_bytes(
        b"\x10\x0C\0\x04MQTT\x84\x02\0\0\0\0",
        unsupported,
        &[0x20, 2, 0, 1],
    );
    first_bytes(
        b"\x10\x0D\0\x04MQTT\x06\x02\0\0\0\0\0",
        unsupported,
        &[0x20, 3, 0, 0x84, 0],
    );
}

#[test]
fn mqtt5_3_1_4_1_a_wrong_connect_is_told_so_in_mqtt_5_only() {
    let malformed = ReasonCode::MalformedPacket;
    let connack = [0x20, 3, 0, 0x81, 0];
    // The reserved flag [MQTT-3.1.2-3].
    first_bytes(b"\x10\x0C\0\x04MQTT\x04\x03\0\0\0\0", malformed, &[]);
    first_bytes(b"\x10\x0D\0\x04MQTT\x05\x03\0\0\0\0\0", malformed, &connack);
    // Cut short, and with more than there should be.
    first_bytes(b"\x10\x0B\0\x04MQTT\x04\x02\0\0\0", malformed, &[]);
    first_bytes(b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\0X", malformed, &[]);
    first_bytes(
        b"\x10\x0E\0\x04MQTT\x05\x02\0\0\0\0\0X",
        malformed,
        &connack,
    );
    // A remaining length longer than needed [MQTT-1.5.5-1] is MQTT 5's affair only.
    first_bytes(
        b"\x10\x8D\0\0\x04MQTT\x05\x02\0\0\0\0\0",
        malformed,
        &connack,
    );
    let mut pair = Pair::new(V3_1_1);
    let event = pair.tell_server(b"\x10\x8C\0\0\x04MQTT\x04\x02\0\0\0\0");
    assert!(matches!(event, Ok(Some(Event::Connect(_)))));
}

#[test]
fn mqtt5_3_1_2_will_flags() {
    let malformed = ReasonCode::MalformedPacket;
    for flags in [0b0000_1010, 0b0001_0010, 0b0010_0010] {
        // QoS or RETAIN without a will [MQTT-3.1.2-11], [MQTT-3.1.2-13].
        first_bytes(
            &[b"\x10\x0C\0\x04MQTT\x04", &[flags][..], b"\0\0\0\0"].concat(),
            malformed,
            &[],
        );
    }
    // Will QoS 3 [MQTT-3.1.2-12].
    first_bytes(
        b"\x10\x11\0\x04MQTT\x04\x1E\0\0\0\0\0\x01w\0\0",
        malformed,
        &[],
    );
    // The will flag without a will [MQTT-3.1.2-9].
    first_bytes(b"\x10\x0C\0\x04MQTT\x04\x06\0\0\0\0", malformed, &[]);
    // A will topic that is none [MQTT-4.7.0-1].
    let invalid = ReasonCode::TopicNameInvalid;
    first_bytes(
        b"\x10\x11\0\x04MQTT\x04\x06\0\0\0\0\0\x01#\0\0",
        invalid,
        &[],
    );
    first_bytes(
        b"\x10\x12\0\x04MQTT\x05\x06\0\0\0\0\0\0\0\x00\0\0",
        invalid,
        &[0x20, 3, 0, 0x90, 0],
    );
}

#[test]
fn mqtt5_3_1_2_a_will_comes_with_all_it_has() {
    let properties = b"\x03\0\x01t";
    let message = Message::new("w/t", properties, b"gone", Qos::AtLeastOnce, true);
    let will = Will {
        message,
        delay_interval: 30,
        message_expiry_interval: Some(60),
    };
    let mut pair = Pair::new(V5);
    let connect = pair
        .connect(&ConnectOptions {
            will: Some(will),
            ..options("c")
        })
        .unwrap();
    let will = connect.will.unwrap();
    assert_eq!(
        (will.message.topic(), will.message.payload()),
        ("w/t", &b"gone"[..])
    );
    assert_eq!(
        (will.message.qos(), will.message.retain()),
        (Qos::AtLeastOnce, true)
    );
    assert_eq!(will.message.properties_bytes(), properties);
    assert_eq!(
        (will.delay_interval, will.message_expiry_interval),
        (30, Some(60))
    );
}

#[test]
fn mqtt311_3_1_2_22_a_password_needs_a_user_name() {
    let malformed = ReasonCode::MalformedPacket;
    first_bytes(b"\x10\x0F\0\x04MQTT\x04\x42\0\0\0\0\0\x01p", malformed, &[]);
    let options = ConnectOptions {
        password: Some(b"p".to_vec()),
        ..options("c")
    };
    let connect = Pair::new(V5).connect(&options).unwrap();
    assert_eq!(
        (connect.user_name, connect.password.as_deref()),
        (None, Some(&b"p"[..]))
    );
    // MQTT 3.1: flags without the fields.
    let mut pair = Pair::new(V3_1);
    let event = pair.tell_server(b"\x10\x0F\0\x06MQIsdp\x03\xC2\0\0\0\x01c");
    assert!(matches!(event, Ok(Some(Event::Connect(connect))) if connect.user_name.is_none()));
}

#[test]
fn mqtt31_disregards_header_flags_and_will_flags_without_a_will() {
    let accepted = |bytes: &[u8]| {
        let mut pair = Pair::new(V3_1);
        matches!(pair.tell_server(bytes), Ok(Some(Event::Connect(connect))) if connect.will.is_none())
    };
    // DUP, QoS and RETAIN "are not used in the CONNECT message" of 3.1.
    for first in 0x10..=0x1F {
        let mut bytes = *b"\x10\x0F\0\x06MQIsdp\x03\x02\0\0\0\x01c";
        bytes[0] = first;
        assert!(accepted(&bytes), "{first:#x}");
    }
    for will_flags in [0x08, 0x10, 0x18, 0x20, 0x38] {
        let mut bytes = *b"\x10\x0F\0\x06MQIsdp\x03\x02\0\0\0\x01c";
        bytes[11] |= will_flags;
        assert!(accepted(&bytes), "{will_flags:#x}");
    }
    // Later versions mind both.
    first_bytes(
        b"\x11\x0D\0\x04MQTT\x04\x02\0\0\0\x01c",
        ReasonCode::MalformedPacket,
        &[],
    );
}

#[test]
fn mqtt311_3_1_3_8_an_empty_client_id_needs_a_clean_session() {
    let invalid = ReasonCode::ClientIdentifierNotValid;
    first_bytes(
        b"\x10\x0C\0\x04MQTT\x04\x00\0\0\0\0",
        invalid,
        &[0x20, 2, 0, 2],
    );
    first_bytes(
        b"\x10\x0E\0\x06MQIsdp\x03\x02\0\0\0\0",
        invalid,
        &[0x20, 2, 0, 2],
    );
    for version in [V3_1_1, V5] {
        assert_eq!(
            Pair::new(version).connect(&options("")).unwrap().client_id,
            ""
        );
    }
    let unclean = ConnectOptions {
        clean_start: false,
        ..options("")
    };
    assert!(Pair::new(V5).connect(&unclean).is_ok());
    let mut bytes = Vec::new();
    options(&"x".repeat(257)).encode(V5, &mut bytes);
    first_bytes(&bytes, invalid, &[0x20, 3, 0, 0x85, 0]);
}

#[test]
fn mqtt5_section_3_1_2_11_properties_of_connect_are_checked() {
    let check = |properties: &[u8], reason: ReasonCode| {
        let remaining = 13 + properties.len() as u8;
        let head = [0x10, remaining, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0];
        let bytes = [&head[..], &[properties.len() as u8], properties, &[0, 0]].concat();
        first_bytes(&bytes, reason, &[0x20, 3, 0, reason as u8, 0]);
    };
    check(&[0x21, 0, 0], ReasonCode::ProtocolError); // receive maximum 0
    check(&[0x27, 0, 0, 0, 0], ReasonCode::ProtocolError); // maximum packet size 0
    check(&[0x17, 2], ReasonCode::ProtocolError); // request problem information
    check(&[0x19, 2], ReasonCode::ProtocolError); // request response information
    check(
        &[0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1],
        ReasonCode::ProtocolError,
    ); // twice
    check(&[0x16, 0, 0], ReasonCode::ProtocolError); // authentication data alone
    check(&[0x23, 0, 1], ReasonCode::MalformedPacket); // topic alias
    check(&[0x12, 0, 0], ReasonCode::MalformedPacket); // assigned client id
    check(&[0x7E, 0], ReasonCode::MalformedPacket); // no property
    check(&[0x11, 0, 0], ReasonCode::MalformedPacket); // cut short
}

#[test]
fn a_connect_above_its_limit_is_refused_at_its_header() {
    let large = ReasonCode::PacketTooLarge;
    first_bytes(
        b"\x10\xFF\xFF\x7F\0\x04MQTT\x05",
        large,
        &[0x20, 3, 0, 0x95, 0],
    );
    first_bytes(b"\x10\xFF\xFF\x7F\0\x04MQTT\x04", large, &[]);
    first_bytes(b"\x10\xFF\xFF\x7FX", large, &[]);
    // In which form to say so is not known yet.
    assert!(matches!(
        Pair::new(V5).tell_server(b"\x10\xFF\xFF\x7F\0\x04MQ"),
        Ok(None)
    ));
    first_bytes(
        b"\x10\xFF\xFF\xFF\xFF\x7F",
        ReasonCode::MalformedPacket,
        &[],
    );
}

#[test]
fn mqtt5_3_1_4_6_nothing_is_read_before_the_driver_accepts() {
    let mut pair = Pair::new(V3_1_1);
    let connect = pair.connect(&options("c")).unwrap();
    assert!(matches!(pair.tell_server(&[0xC0, 0]), Ok(None)));
    assert_eq!(pair.to_server, [0xC0, 0]);
    pair.accept(&connect, &Accepted::default());
    assert!(matches!(pair.server_event(), Event::Ping));
}

/// [MQTT-3.2.2-6], [MQTT-3.2.2-8], [3.1.1 MQTT-3.2.2-4]: whatever session there is, a refusal speaks of none.
#[test]
fn mqtt5_3_2_2_refusals_have_the_form_of_their_version() {
    let refusal = |version, reason| {
        let mut pair = Pair::new(version);
        pair.connect(&options("c")).unwrap();
        pair.server.refuse(reason, &mut pair.to_client);
        assert!(pair.server.is_closing());
        pair.to_client
    };
    assert_eq!(
        refusal(V3_1_1, ReasonCode::BadUserNameOrPassword),
        [0x20, 2, 0, 4]
    );
    assert_eq!(refusal(V3_1_1, ReasonCode::NotAuthorized), [0x20, 2, 0, 5]);
    assert_eq!(refusal(V3_1_1, ReasonCode::QuotaExceeded), [0x20, 2, 0, 3]);
    assert_eq!(
        refusal(V5, ReasonCode::QuotaExceeded),
        [0x20, 3, 0, 0x97, 0]
    );
    assert_eq!(
        refusal(V5, ReasonCode::BadAuthenticationMethod),
        [0x20, 3, 0, 0x8C, 0]
    );
}

#[test]
fn mqtt5_3_2_2_connack_announces_what_differs_from_what_was_asked() {
    let mut pair = Pair::new(V5);
    let options = ConnectOptions {
        session_expiry_interval: u32::MAX,
        keep_alive: 7_200,
        clean_start: false,
        ..options("")
    };
    let connect = pair.connect(&options).unwrap();
    let accepted = Accepted {
        session_present: true,
        assigned_client_id: Some("auto-1".into()),
        session_expiry_interval: LIMITS.session_expiry_max,
    };
    pair.accept(&connect, &accepted);
    pair.client_hears(|event| {
        let ClientEvent::ConnAck(connack) = event else {
            panic!("{event:?}")
        };
        assert!(connack.session_present);
        assert_eq!(connack.assigned_client_id.as_deref(), Some("auto-1")); // [MQTT-3.2.2-16]
        assert_eq!(
            connack.session_expiry_interval,
            Some(LIMITS.session_expiry_max)
        );
        assert_eq!(connack.server_keep_alive, Some(3_600)); // [MQTT-3.2.2-21]
        assert_eq!(connack.receive_maximum, 32);
        assert_eq!(connack.maximum_packet_size, Some(1 << 20));
        assert_eq!(connack.topic_alias_maximum, 16);
        assert_eq!(connack.reason_string, None);
    });
}

#[test]
fn mqtt5_3_2_2_connack_is_silent_about_what_was_granted_as_asked() {
    let mut pair = Pair::new(V5);
    let connect = pair
        .connect(&ConnectOptions {
            keep_alive: 60,
            ..options("c")
        })
        .unwrap();
    pair.accept(&connect, &Accepted::default());
    // Receive Maximum 32, Maximum Packet Size 1 MiB, Topic Alias Maximum 16, and nothing else.
    let expected = b"\x20\x0E\0\0\x0B\x21\0\x20\x27\0\x10\0\0\x22\0\x10";
    assert_eq!(pair.to_client, expected);
    let mut pair = Pair::new(V3_1_1);
    let connect = pair
        .connect(&ConnectOptions {
            clean_start: false,
            ..options("c")
        })
        .unwrap();
    assert_eq!(connect.session_expiry_interval, u32::MAX);
    pair.accept(
        &connect,
        &Accepted {
            session_present: true,
            ..Accepted::default()
        },
    );
    assert_eq!(pair.to_client, [0x20, 2, 1, 0]);
}

#[test]
fn mqtt5_3_1_2_24_a_connack_fits_the_clients_maximum_packet_size() {
    for (max, len) in [
        (16, Some(16)),
        (15, Some(13)),
        (12, Some(8)),
        (7, Some(5)),
        (4, None),
    ] {
        let mut pair = Pair::new(V5);
        let options = ConnectOptions {
            maximum_packet_size: Some(max),
            keep_alive: 9,
            ..options("c")
        };
        let connect = pair.connect(&options).unwrap();
        pair.accept(&connect, &Accepted::default());
        assert_eq!(pair.server.is_closing(), len.is_none(), "{max}");
        assert_eq!(pair.to_client.len(), len.unwrap_or(0), "{max}");
    }
}
