//! CONNECT, statement by statement: what is accepted, what is refused and how (MQTT 5 and 3.1.1 section 3.1).

mod support;

use std::collections::HashSet;
use std::sync::Arc;

use support::*;

/// CONNACK of MQTT 5 that refuses.
fn refusal(reason: ReasonCode) -> Vec<u8> {
    vec![0x20, 3, 0, reason as u8, 0]
}

/// Says CONNECT; the answer is exactly this, and the connection is closed.
fn refused(gateway: &Gateway, connect: &[u8], answer: &[u8]) {
    let mut raw = Raw::open(gateway);
    raw.send(connect);
    if !answer.is_empty() {
        raw.expect(answer);
    }
    raw.expect_closed();
}

/// [MQTT-3.1.0-1], [MQTT-3.2.0-1], [MQTT-3.14.0-1], [3.1.1 MQTT-3.1.0-1], [3.1.1 MQTT-3.2.0-1]
#[test]
fn mqtt5_3_1_0_1_what_is_not_connect_is_closed_without_a_word() {
    in_one_layout(|gateway| {
        let mut publisher = gateway.client("publisher");
        publisher.publish_retained("first/packet", "kept", AtLeastOnce);
        for first in [
            PINGREQ.to_vec(),
            packet(0x30, &[&text("first/packet"), b"not kept"]),
            packet(0x31, &[&text("first/packet"), &[0]]),
            packet(0x32, &[&text("first/packet"), &[0, 1, 0]]),
            packet(0x40, &[&[0, 1]]),
            packet(0x50, &[&[0, 1]]),
            packet(0x62, &[&[0, 1]]),
            packet(0x70, &[&[0, 1]]),
            packet(0x82, &[&[0, 1, 0], &text("first/packet"), &[0]]),
            packet(0xa2, &[&[0, 1, 0], &text("first/packet")]),
            packet(0xe0, &[]),
            packet(0xf0, &[&[0x18, 0]]),
            packet(0x20, &[&[0, 0]]),
            packet(0x00, &[]),
        ] {
            refused(gateway, &first, &[]);
        }
        let mut witness = gateway.client("witness");
        witness.subscribe("first/packet", AtMostOnce);
        assert_eq!(witness.expect_publish().text(), "kept");
        witness.expect_silence();
    });
}

/// [MQTT-3.1.0-2], [MQTT-3.2.0-2], [3.1.1 MQTT-3.1.0-2]
#[test]
fn mqtt5_3_1_0_2_a_second_connect_is_a_protocol_error() {
    for_every_layout(|gateway| {
        let mut new = Raw::connected(gateway, V5, "same");
        new.send(connect(V5, "same"));
        new.expect([0xe0, 1, 0x82]);
        new.expect_closed();
        // Also where it comes before the first one is answered.
        let mut hasty = Raw::open(gateway);
        hasty.send([connect(V5, "same"), connect(V5, "same")].concat());
        assert_eq!(hasty.next().map(|connack| connack[0]), Some(0x20));
        hasty.expect([0xe0, 1, 0x82]);
        hasty.expect_closed();
        let mut old = Raw::connected(gateway, V3_1_1, "same");
        old.send(connect(V3_1_1, "same"));
        old.expect_closed();
    });
}

/// [MQTT-3.1.2-1], [3.1.1 MQTT-3.1.2-1]
#[test]
fn mqtt5_3_1_2_1_another_protocol_name_is_closed() {
    in_one_layout(|gateway| {
        for name in ["MQTX", "mqtt", "MQT", "MQTTT", "", "MQISDP", "HTTP"] {
            for level in [3, 4, 5] {
                let head = [level, 2, 0, 0];
                let no_properties: &[u8] = if level == 5 { &[0] } else { &[] };
                let bytes = packet(0x10, &[&text(name), &head, no_properties, &text("c")]);
                refused(gateway, &bytes, &[]);
            }
        }
    });
}

/// [MQTT-3.1.2-2], [3.1.1 MQTT-3.1.2-2]
#[test]
fn mqtt5_3_1_2_2_another_protocol_level_is_refused_by_name() {
    in_one_layout(|gateway| {
        let with_level =
            |name, level| packet(0x10, &[&text(name), &[level, 2, 0, 0, 0, 0, 1], b"c"]);
        for level in [6, 7, 99] {
            let answer = refusal(ReasonCode::UnsupportedProtocolVersion);
            refused(gateway, &with_level("MQTT", level), &answer);
        }
        for (name, level) in [
            ("MQTT", 0),
            ("MQTT", 1),
            ("MQTT", 2),
            ("MQTT", 3),
            ("MQIsdp", 4),
        ] {
            refused(gateway, &with_level(name, level), &[0x20, 2, 0, 1]);
        }
    });
}

/// [MQTT-3.1.2-3], [MQTT-3.1.4-1], [3.1.1 MQTT-3.1.2-3], [3.1.1 MQTT-3.1.4-1]
#[test]
fn mqtt5_3_1_2_3_the_reserved_connect_flag_must_be_0() {
    in_one_layout(|gateway| {
        let bytes = connect_with(V5, 0b11, &[], &[&text("c")]);
        refused(gateway, &bytes, &refusal(ReasonCode::MalformedPacket));
        let bytes = connect_with(V3_1_1, 0b11, &[], &[&text("c")]);
        refused(gateway, &bytes, &[]);
    });
}

const USER: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL: u8 = 0x04;
const CLEAN: u8 = 0x02;

/// [MQTT-3.1.2-9], [MQTT-3.1.2-11], [MQTT-3.1.2-12], [MQTT-3.1.2-13], [MQTT-3.1.2-16], [MQTT-3.1.2-17],
/// [MQTT-3.1.2-18], [MQTT-3.1.2-19], [MQTT-3.1.3-1], [MQTT-3.1.3-3], [MQTT-3.1.3-4], [MQTT-3.1.3-11],
/// [MQTT-3.1.3-12], [MQTT-3.1.4-1]
#[test]
fn mqtt5_3_1_4_1_a_connect_whose_flags_and_payload_disagree_is_refused() {
    in_one_layout(|gateway| {
        let (id, topic, body) = (text("client"), text("will/topic"), text("will"));
        let (user, bad) = (text("user"), text(b"\xc3\x28"));
        let none: &[u8] = &[0];
        let malformed: &[(u8, &[&[u8]])] = &[
            (CLEAN | 0x08, &[&id]),
            (CLEAN | 0x10, &[&id]),
            (CLEAN | WILL_RETAIN, &[&id]),
            (CLEAN | WILL | 0x18, &[&id, none, &topic, &body]),
            (CLEAN | WILL, &[&id]),
            (CLEAN | WILL, &[&id, none]),
            (CLEAN | WILL, &[&id, none, &topic]),
            (CLEAN | USER, &[&id]),
            (CLEAN, &[&id, &user]),
            (CLEAN | USER | PASSWORD, &[&id, &user]),
            (CLEAN | PASSWORD, &[&id]),
            (CLEAN | USER, &[&id, &user, &user]),
            (CLEAN, &[]),
            (CLEAN, &[&[0, 9], b"short"]),
            (CLEAN, &[&bad]),
            (CLEAN | WILL, &[&id, none, &bad, &body]),
            (CLEAN | USER, &[&id, &bad]),
            (CLEAN, &[&text("nu\0ll")]),
            (CLEAN, &[&text(b"\xed\xa0\x80")]),
            (CLEAN | USER, &[&id, &text("nu\0ll")]),
        ];
        for (flags, payload) in malformed {
            let bytes = connect_with(V5, *flags, &[], payload);
            refused(gateway, &bytes, &refusal(ReasonCode::MalformedPacket));
        }
    });
}

/// [3.1.1 MQTT-3.1.2-9], [3.1.1 MQTT-3.1.2-11], [3.1.1 MQTT-3.1.2-13], [3.1.1 MQTT-3.1.2-14],
/// [3.1.1 MQTT-3.1.2-15], [3.1.1 MQTT-3.1.2-18], [3.1.1 MQTT-3.1.2-19], [3.1.1 MQTT-3.1.2-20],
/// [3.1.1 MQTT-3.1.2-21], [3.1.1 MQTT-3.1.2-22], [3.1.1 MQTT-3.1.3-1], [3.1.1 MQTT-3.1.3-3],
/// [3.1.1 MQTT-3.1.3-4], [3.1.1 MQTT-3.1.3-10], [3.1.1 MQTT-3.1.3-11], [3.1.1 MQTT-3.1.4-1],
/// [3.1.1 MQTT-3.2.2-6]
#[test]
fn mqtt311_3_1_4_1_a_connect_whose_flags_and_payload_disagree_is_closed() {
    in_one_layout(|gateway| {
        let (id, topic, body) = (text("client"), text("will/topic"), text("will"));
        let (user, bad) = (text("user"), text(b"\xc3\x28"));
        let malformed: &[(u8, &[&[u8]])] = &[
            (CLEAN | 0x08, &[&id]),
            (CLEAN | 0x10, &[&id]),
            (CLEAN | WILL_RETAIN, &[&id]),
            (CLEAN, &[&id, &topic, &body]),
            (CLEAN | WILL | 0x18, &[&id, &topic, &body]),
            (CLEAN | WILL, &[&id]),
            (CLEAN | WILL, &[&id, &topic]),
            (CLEAN | USER, &[&id]),
            (CLEAN, &[&id, &user]),
            (CLEAN | USER | PASSWORD, &[&id, &user]),
            (CLEAN | USER, &[&id, &user, &user]),
            (CLEAN | PASSWORD, &[&id, &user]),
            (CLEAN, &[]),
            (CLEAN, &[&bad]),
            (CLEAN | WILL, &[&id, &bad, &body]),
            (CLEAN | USER, &[&id, &bad]),
        ];
        for (flags, payload) in malformed {
            refused(gateway, &connect_with(V3_1_1, *flags, &[], payload), &[]);
        }
    });
}

/// [MQTT-2.2.2-1], [MQTT-3.1.4-1], [MQTT-3.2.2-8]: properties of CONNECT out of place, range or number.
#[test]
fn mqtt5_section_3_1_2_11_connect_properties_are_checked() {
    in_one_layout(|gateway| {
        use ReasonCode::{MalformedPacket, ProtocolError};
        let cases: &[(&[u8], ReasonCode)] = &[
            (&[0x21, 0, 0], ProtocolError),
            (&[0x27, 0, 0, 0, 0], ProtocolError),
            (&[0x19, 2], ProtocolError),
            (&[0x17, 2], ProtocolError),
            (&[0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1], ProtocolError),
            (&[0x21, 0, 1, 0x21, 0, 1], ProtocolError),
            (&[0x27, 0, 0, 1, 0, 0x27, 0, 0, 1, 0], ProtocolError),
            (&[0x22, 0, 1, 0x22, 0, 1], ProtocolError),
            (&[0x16, 0, 1, 7], ProtocolError),
            (&[0x01, 0], MalformedPacket),
            (&[0x23, 0, 1], MalformedPacket),
            (&[0x7f, 0], MalformedPacket),
            (&[0x11, 0, 0], MalformedPacket),
            (&[0x26, 0, 1, b'a', 0, 1, 0xff], MalformedPacket),
        ];
        for (wrong, reason) in cases {
            let bytes = connect_with(V5, CLEAN, &[wrong], &[&text("c")]);
            refused(gateway, &bytes, &refusal(*reason));
        }
    });
}

/// [MQTT-3.1.2-12], [MQTT-3.1.2-17], [MQTT-3.1.2-19], [MQTT-3.1.3-1], [MQTT-3.1.4-5], [MQTT-3.2.2-1],
/// [MQTT-3.2.2-3], [3.1.1 MQTT-3.1.2-19], [3.1.1 MQTT-3.1.2-21], [3.1.1 MQTT-3.1.3-1], [3.1.1 MQTT-3.1.4-4],
/// [3.1.1 MQTT-3.2.2-3]
#[test]
fn mqtt5_3_1_3_1_every_field_in_its_order_is_accepted() {
    for_every_layout(|gateway| {
        let (id, topic, body) = (text("client"), text("will/topic"), text("will"));
        let (user, password) = (text("user"), text(b"\0\xff binary"));
        let none: &[u8] = &[0];
        for qos in [0, 0x08, 0x10] {
            let flags = CLEAN | WILL | WILL_RETAIN | USER | PASSWORD | qos;
            let payload: &[&[u8]] = &[&id, none, &topic, &body, &user, &password];
            let (mut raw, connack) = Raw::accepted(gateway, &connect_with(V5, flags, &[], payload));
            assert_eq!(connack[2], 0, "reserved flags and session present are 0");
            raw.send([0xe0, 0]);
            raw.expect_closed();
            let payload: &[&[u8]] = &[&id, &topic, &body, &user, &password];
            let (mut raw, connack) =
                Raw::accepted(gateway, &connect_with(V3_1_1, flags, &[], payload));
            assert_eq!(connack, [0x20, 2, 0, 0]);
            raw.send([0xe0, 0]);
            raw.expect_closed();
        }
        // MQTT 5 section 3.1.2.9: a password without a user name.
        Raw::accepted(
            gateway,
            &connect_with(V5, CLEAN | PASSWORD, &[], &[&id, &password]),
        );
    });
}

/// [MQTT-4.7.0-1], [MQTT-4.7.3-1], [MQTT-3.1.4-1], [3.1.1 MQTT-4.7.1-1], [3.1.1 MQTT-4.7.3-1]
#[test]
fn mqtt5_4_7_0_1_a_will_topic_is_a_topic_name() {
    in_one_layout(|gateway| {
        for topic in ["will/#", "+/will", "", "w#"] {
            let (id, topic, body) = (text("client"), text(topic), text("will"));
            let bytes = connect_with(V5, CLEAN | WILL, &[], &[&id, &[0], &topic, &body]);
            refused(gateway, &bytes, &refusal(ReasonCode::TopicNameInvalid));
            let bytes = connect_with(V3_1_1, CLEAN | WILL, &[], &[&id, &topic, &body]);
            refused(gateway, &bytes, &[]);
        }
    });
}

/// [MQTT-3.1.4-1], MQTT 5 section 3.1.3.2: properties of a will out of place, range or number.
#[test]
fn mqtt5_section_3_1_3_2_will_properties_are_checked() {
    in_one_layout(|gateway| {
        use ReasonCode::{MalformedPacket, ProtocolError};
        let cases: &[(&[u8], ReasonCode)] = &[
            (&[0x01, 2], ProtocolError),
            (&[0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 1], ProtocolError),
            (&[0x02, 0, 0, 0, 1, 0x02, 0, 0, 0, 1], ProtocolError),
            (&[0x08, 0, 1, b'#'], ProtocolError),
            (&[0x23, 0, 1], MalformedPacket),
            (&[0x11, 0, 0, 0, 1], MalformedPacket),
            (&[0x03, 0, 1, 0xff], MalformedPacket),
            (&[0x18, 0, 0], MalformedPacket),
        ];
        for (wrong, reason) in cases {
            let payload: &[&[u8]] = &[&text("c"), &properties(&[wrong]), &text("will"), &text("x")];
            let bytes = connect_with(V5, CLEAN | WILL, &[], payload);
            refused(gateway, &bytes, &refusal(*reason));
        }
    });
}

/// [MQTT-3.1.2-28]
#[test]
fn mqtt5_3_1_2_28_response_information_is_not_sent_unasked() {
    for_every_layout(|gateway| {
        for asked in [false, true] {
            let options = ConnectOptions {
                request_response_information: asked,
                ..options(V5, "asks")
            };
            // Not even to whom asks: responses go to whatever topic the request names.
            assert_eq!(
                gateway.connect(options).connack().response_information,
                None
            );
        }
    });
}

/// [MQTT-3.1.2-29], [MQTT-3.4.2-2], [MQTT-3.4.2-3], [MQTT-3.5.2-2], [MQTT-3.5.2-3], [MQTT-3.7.2-2],
/// [MQTT-3.7.2-3], [MQTT-3.9.2-1], [MQTT-3.9.2-2], [MQTT-3.11.2-1], [MQTT-3.11.2-2]
#[test]
fn mqtt5_3_1_2_29_no_answer_bears_a_reason_string() {
    let strict = |settings: &mut NodeSettings| {
        let limits = tidegate_codec::topic::TopicLimits {
            bytes_max: 64,
            levels_max: 8,
        };
        settings.shard.denied =
            vec![tidegate_codec::TopicFilter::parse("denied/#", limits).unwrap()];
    };
    for_every_layout_with(strict, |gateway| {
        for asked in [0, 1] {
            let bytes = connect_with(V5, CLEAN, &[&[0x17, asked]], &[&text("no-strings")]);
            let (mut raw, _) = Raw::accepted(gateway, &bytes);
            raw.send(packet(0x82, &[&[0, 1, 0], &text("denied/x"), &[0]]));
            raw.expect([0x90, 4, 0, 1, 0, 0x87]);
            raw.send(packet(0x32, &[&text("denied/x"), &[0, 2, 0]]));
            raw.expect([0x40, 3, 0, 2, 0x87]);
            raw.send(packet(0x34, &[&text("denied/x"), &[0, 3, 0]]));
            raw.expect([0x50, 3, 0, 3, 0x87]);
            raw.send(packet(0x62, &[&[0, 3]]));
            raw.expect([0x70, 3, 0, 3, 0x92]);
            raw.send(packet(0xa2, &[&[0, 4, 0], &text("denied/x")]));
            raw.expect([0xb0, 4, 0, 4, 0, 0x11]);
            raw.send([0xe0, 0]);
            raw.expect_closed();
        }
    });
}

/// [MQTT-3.1.3-5], [3.1.1 MQTT-3.1.3-5]
#[test]
fn mqtt5_3_1_3_5_client_ids_of_1_to_23_letters_and_digits_are_accepted() {
    in_one_layout(|gateway| {
        let alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let ids = (1..=23).map(|len| &alphabet[..len]);
        for id in ids.chain([&alphabet[20..43], &alphabet[39..]]) {
            for version in [V3_1_1, V5] {
                let mut client = gateway.connect(options(version, id));
                assert_eq!(client.connack().assigned_client_id, None);
                client.disconnect();
            }
        }
    });
}

/// [MQTT-3.1.3-2], [MQTT-3.1.3-6], [MQTT-3.1.3-7], [MQTT-3.2.2-16]
#[test]
fn mqtt5_3_1_3_7_an_assigned_client_id_is_as_good_as_a_provided_one() {
    for_every_layout(|gateway| {
        let lasting = |id: &str, clean_start| ConnectOptions {
            session_expiry_interval: 60,
            clean_start,
            ..options(V5, id)
        };
        let mut ids = HashSet::new();
        for _ in 0..4 {
            let mut nameless = gateway.connect(lasting("", false));
            assert!(!nameless.session_present());
            let id = nameless.connack().assigned_client_id.clone().unwrap();
            nameless.subscribe("assigned", AtLeastOnce);
            nameless.disconnect();
            let mut named = gateway.connect(lasting(&id, false));
            assert!(named.session_present());
            assert_eq!(named.connack().assigned_client_id, None);
            gateway
                .client("publisher")
                .publish("assigned", "hello", AtLeastOnce);
            assert_eq!(named.expect_publish().text(), "hello");
            assert!(ids.insert(id), "an id is assigned once");
        }
    });
}

/// [3.1.1 MQTT-3.1.3-6], [3.1.1 MQTT-3.1.3-7], [3.1.1 MQTT-3.1.3-8], [3.1.1 MQTT-3.2.2-4], [3.1.1 MQTT-3.2.2-5]
#[test]
fn mqtt311_3_1_3_8_an_empty_client_id_needs_a_clean_session() {
    for_every_layout(|gateway| {
        refused(
            gateway,
            &connect_with(V3_1_1, 0, &[], &[&text("")]),
            &[0x20, 2, 0, 2],
        );
        let mut nameless: Vec<_> = (0..8)
            .map(|_| Raw::connected(gateway, V3_1_1, ""))
            .collect();
        // All eight are somebody else: nobody takes another's session over.
        nameless.iter_mut().for_each(Raw::expect_silence);
        gateway.await_total(8, |shard| shard.router.sessions_online);
    });
}

/// [MQTT-3.1.3-8], [MQTT-3.2.2-6], [MQTT-3.2.2-7], [MQTT-4.13.2-1], [3.1.1 MQTT-3.1.3-9], [3.1.1 MQTT-3.2.2-4],
/// [3.1.1 MQTT-3.2.2-5]
#[test]
fn mqtt5_3_1_3_8_a_client_id_above_the_limit_is_refused_and_closed() {
    for_every_layout(|gateway| {
        let (good, long) = ("i".repeat(256), "i".repeat(257));
        for version in [V3_1_1, V5] {
            gateway.connect(options(version, &good)).disconnect();
        }
        refused(
            gateway,
            &connect(V5, &long),
            &refusal(ReasonCode::ClientIdentifierNotValid),
        );
        refused(gateway, &connect(V3_1_1, &long), &[0x20, 2, 0, 2]);
    });
}

/// [MQTT-3.1.4-2], [MQTT-3.2.2-6], [MQTT-3.2.2-7], [3.1.1 MQTT-3.2.2-4], [3.1.1 MQTT-3.2.2-5]
#[test]
fn mqtt5_3_1_4_2_who_is_not_authorized_is_told_and_closed() {
    for_every_layout_with(
        |settings| settings.allow_anonymous = false,
        |gateway| {
            refused(
                gateway,
                &connect(V5, "c"),
                &refusal(ReasonCode::NotAuthorized),
            );
            refused(gateway, &connect(V3_1_1, "c"), &[0x20, 2, 0, 5]);
            let payload: &[&[u8]] = &[&text("c"), &text("user"), &text("password")];
            let bytes = connect_with(V5, CLEAN | USER | PASSWORD, &[], payload);
            refused(gateway, &bytes, &refusal(ReasonCode::BadUserNameOrPassword));
            let bytes = connect_with(V3_1_1, CLEAN | USER | PASSWORD, &[], payload);
            refused(gateway, &bytes, &[0x20, 2, 0, 4]);
        },
    );
}

/// [MQTT-3.1.4-6], [3.1.1 MQTT-3.1.4-5]
#[test]
fn mqtt5_3_1_4_6_nothing_behind_a_refused_connect_is_processed() {
    for_every_layout(|gateway| {
        let long = "i".repeat(257);
        let publish = packet(0x31, &[&text("refused"), &[0], b"not to be seen"]);
        let bytes = [connect(V5, &long), publish, PINGREQ.to_vec()].concat();
        refused(
            gateway,
            &bytes,
            &refusal(ReasonCode::ClientIdentifierNotValid),
        );
        let publish = packet(0x31, &[&text("refused"), b"not to be seen"]);
        let bytes = [connect(V3_1_1, &long), publish, PINGREQ.to_vec()].concat();
        refused(gateway, &bytes, &[0x20, 2, 0, 2]);
        let mut witness = gateway.client("witness");
        witness.subscribe("refused", AtLeastOnce);
        gateway
            .client("publisher")
            .publish("refused", "seen", AtLeastOnce);
        assert_eq!(witness.expect_publish().text(), "seen");
        witness.expect_silence();
        assert_eq!(
            gateway.total(|shard| shard.messages_received_total.iter().sum()),
            1
        );
    });
}

/// [MQTT-4.12.0-1], [MQTT-4.12.0-4], [MQTT-3.1.2-30]: and nobody hears what such a client says without waiting.
#[test]
fn mqtt5_4_12_0_1_an_unknown_authentication_method_is_refused() {
    for_every_layout(|gateway| {
        let mut witness = gateway.client("witness");
        witness.subscribe("hasty", AtLeastOnce);
        let method = [&[0x15][..], &text("SCRAM-SHA-1")].concat();
        let data = [&[0x16][..], &text("data")].concat();
        let bytes = connect_with(V5, CLEAN, &[&method, &data], &[&text("c")]);
        refused(
            gateway,
            &bytes,
            &refusal(ReasonCode::BadAuthenticationMethod),
        );
        let hasty = packet(0x31, &[&text("hasty"), &[0], b"without waiting"]);
        refused(
            gateway,
            &[bytes, hasty].concat(),
            &refusal(ReasonCode::BadAuthenticationMethod),
        );
        witness.publish("hasty", "after waiting", AtLeastOnce);
        assert_eq!(witness.expect_publish().text(), "after waiting");
        witness.expect_silence();
    });
}

/// [MQTT-4.12.0-6], [MQTT-4.12.0-7], [MQTT-3.15.1-1]: AUTH is not for those who named no method.
#[test]
fn mqtt5_4_12_0_7_auth_without_a_method_is_a_protocol_error() {
    in_one_layout(|gateway| {
        for auth in [
            vec![0xf0, 0],
            packet(0xf0, &[&[0x19, 0]]),
            packet(0xf0, &[&[0x18, 0]]),
        ] {
            let (mut raw, connack) = Raw::accepted(gateway, &connect(V5, "c"));
            assert!(
                !connack[5..].contains(&0x15),
                "no authentication method: {connack:02x?}"
            );
            raw.send(auth);
            raw.expect([0xe0, 1, 0x82]);
            raw.expect_closed();
        }
        let mut raw = Raw::connected(gateway, V5, "c");
        raw.send([0xf1, 0]);
        raw.expect([0xe0, 1, 0x81]);
        raw.expect_closed();
    });
}

/// A CONNECT above its own limit is refused from its first bytes: MQTT 5 0x95, 3.1.1 without a word.
#[test]
fn a_connect_above_its_limit_is_refused_before_it_is_there() {
    let small = |settings: &mut NodeSettings| {
        Arc::make_mut(&mut settings.mqtt).connect_bytes_max = 1_000;
    };
    for_every_layout_with(small, |gateway| {
        let announced = |level| [&[0x10, 0xff, 0x7f][..], &text("MQTT"), &[level]].concat();
        refused(gateway, &announced(5), &refusal(ReasonCode::PacketTooLarge));
        refused(gateway, &announced(4), &[]);
    });
}
