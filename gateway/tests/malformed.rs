//! Bad packets: one line a case, what is answered, and that the connection beside it does not notice (MQTT 5
//! sections 1.5, 2, 4.13; 3.1.1 sections 1.5, 2, 4.8).

mod support;

use support::*;

const MALFORMED: u8 = 0x81;
const PROTOCOL: u8 = 0x82;

/// Sends each `wrong` on a connection of its own and expects DISCONNECT with its reason, or in 3.1.1 only the end.
/// Somebody else's messages go through after each of them.
fn each_is_refused(version: ProtocolVersion, cases: &[(&str, u8, Vec<u8>)]) {
    in_one_layout(|gateway| {
        let mut victim = gateway.client("victim");
        victim.subscribe("victim/#", AtLeastOnce);
        let mut publisher = gateway.client("publisher");
        for (what, reason, wrong) in cases {
            // With something right before and behind it in the same segment.
            let id = "wrong";
            let mut raw = Raw::connected(gateway, version, id);
            raw.try_send([PINGREQ, wrong, PINGREQ].concat());
            raw.expect(PINGRESP);
            if version == V5 {
                let answer = raw
                    .next()
                    .unwrap_or_else(|| panic!("{what}: closed without a word"));
                assert_eq!(answer, [0xe0, 1, *reason], "{what}: {answer:02x?}");
            }
            raw.expect_closed();
            publisher.publish("victim/topic", what, AtLeastOnce);
            let publication = victim.expect_publish();
            assert_eq!(
                (publication.topic.as_str(), publication.text()),
                ("victim/topic", *what)
            );
        }
        victim.expect_silence();
        gateway.await_total(2, |shard| shard.router.sessions_online);
    });
}

/// What may not stand in any string: surrogates, overlong forms, cut sequences, U+0000.
const BAD_STRINGS: [&[u8]; 9] = [
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xc0\x80",
    b"\xe0\x80\xaf",
    b"\xf4\x90\x80\x80",
    b"\xff",
    b"a\xc3",
    b"a\x80b",
    b"nu\0ll",
];

/// [MQTT-1.5.4-1], [MQTT-1.5.4-2], [MQTT-1.5.7-1], [MQTT-3.3.2-1], [MQTT-3.8.3-1], [MQTT-3.10.3-1], [MQTT-4.7.3-2]
#[test]
fn mqtt5_1_5_4_1_strings_are_well_formed() {
    let mut cases = Vec::new();
    for bad in BAD_STRINGS {
        let bad = text(bad);
        let pair = |name: &[u8], value: &[u8]| properties(&[&[0x26], name, value]);
        let good = text("good");
        cases.push(("topic name", MALFORMED, packet(0x30, &[&bad, &[0]])));
        cases.push((
            "topic filter",
            MALFORMED,
            packet(0x82, &[&[0, 1, 0], &bad, &[0]]),
        ));
        cases.push((
            "second filter",
            MALFORMED,
            packet(0x82, &[&[0, 1, 0], &good, &[0], &bad, &[0]]),
        ));
        cases.push(("unsubscribe", MALFORMED, packet(0xa2, &[&[0, 1, 0], &bad])));
        cases.push((
            "property name",
            MALFORMED,
            packet(0x30, &[&good, &pair(&bad, &good)]),
        ));
        cases.push((
            "property value",
            MALFORMED,
            packet(0x30, &[&good, &pair(&good, &bad)]),
        ));
        let reason = properties(&[&[0x1f], &bad]);
        cases.push((
            "reason string",
            MALFORMED,
            packet(0x40, &[&[0, 1, 0], &reason]),
        ));
    }
    each_is_refused(V5, &cases);
}

/// [3.1.1 MQTT-1.5.3-1], [3.1.1 MQTT-1.5.3-2], [3.1.1 MQTT-3.3.2-1], [3.1.1 MQTT-3.8.3-1],
/// [3.1.1 MQTT-3.10.3-1], [3.1.1 MQTT-4.7.3-2], [3.1.1 MQTT-4.8.0-1]
#[test]
fn mqtt311_1_5_3_1_strings_are_well_formed() {
    let mut cases = Vec::new();
    for bad in BAD_STRINGS {
        let bad = text(bad);
        cases.push(("topic name", 0, packet(0x30, &[&bad])));
        cases.push(("topic filter", 0, packet(0x82, &[&[0, 1], &bad, &[0]])));
        cases.push(("unsubscribe", 0, packet(0xa2, &[&[0, 1], &bad])));
    }
    each_is_refused(V3_1_1, &cases);
}

/// [MQTT-2.1.3-1], [MQTT-3.3.1-2], [MQTT-3.3.1-4], [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1],
/// [MQTT-3.14.1-1], [MQTT-3.15.1-1], [MQTT-4.13.1-1], [3.1.1 MQTT-2.2.2-1], [3.1.1 MQTT-2.2.2-2],
/// [3.1.1 MQTT-3.3.1-2], [3.1.1 MQTT-3.3.1-4], [3.1.1 MQTT-3.6.1-1], [3.1.1 MQTT-3.8.1-1],
/// [3.1.1 MQTT-3.10.1-1], [3.1.1 MQTT-3.14.1-1]
#[test]
fn mqtt5_2_1_3_1_reserved_flags_of_the_fixed_header_are_checked() {
    for version in [V3_1_1, V5] {
        let none: &[u8] = if version == V5 { &[0] } else { &[] };
        let topic = text("flags");
        let bodies: [(u8, u8, Vec<u8>); 8] = [
            (0x40, 0, vec![0, 1]),
            (0x50, 0, vec![0, 1]),
            (0x60, 2, vec![0, 1]),
            (0x70, 0, vec![0, 1]),
            (0x80, 2, [&[0, 1], none, &topic, &[0]].concat()),
            (0xa0, 2, [&[0, 1], none, &topic].concat()),
            (0xc0, 0, vec![]),
            (0xe0, 0, vec![]),
        ];
        let mut cases = Vec::new();
        for (first, right, body) in &bodies {
            for flags in (0..16).filter(|flags| flags != right) {
                cases.push(("flags", MALFORMED, packet(first | flags, &[body])));
            }
        }
        // Both QoS bits, with every other flag; DUP with QoS 0.
        for first in [0x36, 0x37, 0x3e, 0x3f] {
            cases.push(("QoS 3", MALFORMED, packet(first, &[&topic, &[0, 1], none])));
        }
        for first in [0x38, 0x39] {
            cases.push(("DUP and QoS 0", MALFORMED, packet(first, &[&topic, none])));
        }
        // The reserved types.
        for flags in 0..16 {
            cases.push(("type 0", MALFORMED, packet(flags, &[])));
        }
        if version == V3_1_1 {
            cases.push(("type 15", MALFORMED, packet(0xf0, &[])));
        }
        each_is_refused(version, &cases);
    }
}

/// [MQTT-1.5.5-1], [MQTT-2.2.2-1], [MQTT-4.13.1-1]: lengths too long, longer than needed, or beyond the packet.
#[test]
fn mqtt5_1_5_5_1_lengths_are_checked() {
    let topic = text("lengths");
    each_is_refused(
        V5,
        &[
            (
                "remaining length of five bytes",
                MALFORMED,
                vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01],
            ),
            (
                "remaining length never ends",
                MALFORMED,
                vec![0x30, 0xff, 0xff, 0xff, 0xff],
            ),
            (
                "remaining length not minimal",
                MALFORMED,
                vec![0xc0, 0x80, 0x00],
            ),
            (
                "property length not minimal",
                MALFORMED,
                packet(0x30, &[&topic, &[0x80, 0x00]]),
            ),
            (
                "property length of five bytes",
                MALFORMED,
                packet(0x30, &[&topic, &[0x80, 0x80, 0x80, 0x80, 1]]),
            ),
            (
                "properties beyond the packet",
                MALFORMED,
                packet(0x30, &[&topic, &[9, 1, 1]]),
            ),
            (
                "property cut by the property length",
                MALFORMED,
                packet(0x30, &[&topic, &[1, 1, 1]]),
            ),
            ("no property length", MALFORMED, packet(0x30, &[&topic])),
            (
                "no property length in SUBSCRIBE",
                MALFORMED,
                packet(0x82, &[&[0, 1]]),
            ),
            (
                "subscription identifier not minimal",
                MALFORMED,
                packet(0x82, &[&[0, 1, 3, 0x0b, 0x81, 0], &topic, &[0]]),
            ),
            (
                "topic beyond the packet",
                MALFORMED,
                packet(0x30, &[&[0, 9], b"short"]),
            ),
            ("nothing at all", MALFORMED, packet(0x30, &[])),
            ("half a length", MALFORMED, packet(0x30, &[&[0]])),
            ("no packet identifier", MALFORMED, packet(0x32, &[&topic])),
            (
                "half a packet identifier",
                MALFORMED,
                packet(0x32, &[&topic, &[0]]),
            ),
            (
                "filter beyond the packet",
                MALFORMED,
                packet(0x82, &[&[0, 1, 0, 0, 9], b"short"]),
            ),
            (
                "filter without options",
                MALFORMED,
                packet(0x82, &[&[0, 1, 0], &topic]),
            ),
            ("PINGREQ with a body", MALFORMED, packet(0xc0, &[&[0]])),
            ("PUBACK without an id", MALFORMED, packet(0x40, &[])),
            ("PUBREL with half an id", MALFORMED, packet(0x62, &[&[0]])),
            (
                "bytes behind the properties of PUBACK",
                MALFORMED,
                packet(0x40, &[&[0, 1, 0, 0, 0]]),
            ),
        ],
    );
}

/// [3.1.1 MQTT-4.8.0-1], [3.1.1 MQTT-3.14.1-1]
#[test]
fn mqtt311_4_8_0_1_lengths_are_checked() {
    let topic = text("lengths");
    each_is_refused(
        V3_1_1,
        &[
            (
                "remaining length of five bytes",
                0,
                vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01],
            ),
            (
                "topic beyond the packet",
                0,
                packet(0x30, &[&[0, 9], b"short"]),
            ),
            ("nothing at all", 0, packet(0x30, &[])),
            ("no packet identifier", 0, packet(0x32, &[&topic])),
            (
                "filter beyond the packet",
                0,
                packet(0x82, &[&[0, 1, 0, 9], b"short"]),
            ),
            ("filter without a QoS", 0, packet(0x82, &[&[0, 1], &topic])),
            ("PINGREQ with a body", 0, packet(0xc0, &[&[0]])),
            ("PUBACK with a reason", 0, packet(0x40, &[&[0, 1, 0]])),
            ("PUBACK without an id", 0, packet(0x40, &[])),
            ("PUBREL with half an id", 0, packet(0x62, &[&[0]])),
            ("DISCONNECT with a body", 0, packet(0xe0, &[&[0]])),
        ],
    );
}

/// [MQTT-2.2.1-3], [MQTT-2.2.1-2], [3.1.1 MQTT-2.3.1-1], [3.1.1 MQTT-4.8.0-1]
#[test]
fn mqtt5_2_2_1_3_packet_identifier_0_is_a_protocol_error() {
    let topic = text("zero");
    for version in [V3_1_1, V5] {
        let none: &[u8] = if version == V5 { &[0] } else { &[] };
        each_is_refused(
            version,
            &[
                (
                    "PUBLISH QoS 1",
                    PROTOCOL,
                    packet(0x32, &[&topic, &[0, 0], none]),
                ),
                (
                    "PUBLISH QoS 2",
                    PROTOCOL,
                    packet(0x34, &[&topic, &[0, 0], none]),
                ),
                (
                    "SUBSCRIBE",
                    PROTOCOL,
                    packet(0x82, &[&[0, 0], none, &topic, &[0]]),
                ),
                (
                    "UNSUBSCRIBE",
                    PROTOCOL,
                    packet(0xa2, &[&[0, 0], none, &topic]),
                ),
                ("PUBACK", PROTOCOL, packet(0x40, &[&[0, 0]])),
                ("PUBREC", PROTOCOL, packet(0x50, &[&[0, 0]])),
                ("PUBREL", PROTOCOL, packet(0x62, &[&[0, 0]])),
                ("PUBCOMP", PROTOCOL, packet(0x70, &[&[0, 0]])),
            ],
        );
    }
}

/// [MQTT-3.8.3-2], [MQTT-3.8.3-4], [MQTT-3.8.3-5], [MQTT-3.10.3-2], [MQTT-4.13.1-1]
#[test]
fn mqtt5_3_8_3_5_wrong_subscribes_and_unsubscribes_are_refused() {
    let topic = text("sub");
    let with_options = |byte| packet(0x82, &[&[0, 1, 0], &topic, &[byte]]);
    each_is_refused(
        V5,
        &[
            ("no filter", PROTOCOL, packet(0x82, &[&[0, 1, 0]])),
            ("no filter to leave", PROTOCOL, packet(0xa2, &[&[0, 1, 0]])),
            ("QoS 3", PROTOCOL, with_options(3)),
            ("retain handling 3", PROTOCOL, with_options(0x30)),
            ("reserved bit 6", MALFORMED, with_options(0x40)),
            ("reserved bit 7", MALFORMED, with_options(0x80)),
            (
                "no local, shared",
                PROTOCOL,
                packet(0x82, &[&[0, 1, 0], &text("$share/g/a"), &[4]]),
            ),
            (
                "identifier 0",
                PROTOCOL,
                packet(0x82, &[&[0, 1, 2, 0x0b, 0], &topic, &[0]]),
            ),
            (
                "identifier twice",
                PROTOCOL,
                packet(0x82, &[&[0, 1, 4, 0x0b, 1, 0x0b, 2], &topic, &[0]]),
            ),
            (
                "property of PUBLISH",
                MALFORMED,
                packet(0x82, &[&[0, 1, 2, 0x01, 1], &topic, &[0]]),
            ),
            (
                "identifier in UNSUBSCRIBE",
                MALFORMED,
                packet(0xa2, &[&[0, 1, 2, 0x0b, 1], &topic]),
            ),
        ],
    );
}

/// [3.1.1 MQTT-3.8.3-3], [3.1.1 MQTT-3.8.3-4], [3.1.1 MQTT-3.10.3-2], [3.1.1 MQTT-4.7.1-2], [3.1.1 MQTT-4.7.1-3],
/// [3.1.1 MQTT-4.7.3-1], [3.1.1 MQTT-4.8.0-1]
#[test]
fn mqtt311_3_8_3_4_wrong_subscribes_and_unsubscribes_are_closed() {
    let topic = text("sub");
    let mut cases = vec![
        ("no filter", 0, packet(0x82, &[&[0, 1]])),
        ("no filter to leave", 0, packet(0xa2, &[&[0, 1]])),
    ];
    for byte in [3, 4, 0x10, 0x40, 0x80, 0xff] {
        cases.push(("options", 0, packet(0x82, &[&[0, 1], &topic, &[byte]])));
    }
    for filter in ["", "a#", "#/a", "a/#/b", "+a", "a+", "a/b+/c"] {
        cases.push(("filter", 0, packet(0x82, &[&[0, 1], &text(filter), &[0]])));
        cases.push((
            "filter to leave",
            0,
            packet(0xa2, &[&[0, 1], &text(filter)]),
        ));
    }
    each_is_refused(V3_1_1, &cases);
}

/// [MQTT-3.3.2-2], [MQTT-4.7.0-1], [MQTT-4.7.3-1], [MQTT-3.3.4-6], [3.1.1 MQTT-3.3.2-2], [3.1.1 MQTT-4.7.1-1],
/// [3.1.1 MQTT-4.7.3-1]
#[test]
fn mqtt5_3_3_2_2_wildcards_have_no_place_in_a_topic_name() {
    for version in [V3_1_1, V5] {
        let none: &[u8] = if version == V5 { &[0] } else { &[] };
        let mut cases = Vec::new();
        for topic in ["#", "+", "a/#", "a/+/b", "a+", "a#b", "+/", "$p2p/+"] {
            for first in [0x30, 0x31] {
                cases.push(("wildcard", 0x90, packet(first, &[&text(topic), none, b"x"])));
            }
            cases.push((
                "wildcard",
                0x90,
                packet(0x32, &[&text(topic), &[0, 1], none, b"x"]),
            ));
            cases.push((
                "wildcard",
                0x90,
                packet(0x34, &[&text(topic), &[0, 1], none, b"x"]),
            ));
        }
        cases.push(("empty", PROTOCOL, packet(0x30, &[&text(""), none, b"x"])));
        each_is_refused(version, &cases);
    }
}

/// MQTT 5 section 2.1.2: packets that only servers send. [3.1.1 MQTT-4.8.0-1]
#[test]
fn mqtt5_2_1_2_packets_of_a_server_are_protocol_errors() {
    for version in [V3_1_1, V5] {
        each_is_refused(
            version,
            &[
                ("CONNACK", PROTOCOL, packet(0x20, &[&[0, 0, 0]])),
                ("SUBACK", PROTOCOL, packet(0x90, &[&[0, 1, 0, 0]])),
                ("UNSUBACK", PROTOCOL, packet(0xb0, &[&[0, 1, 0, 0]])),
                ("PINGRESP", PROTOCOL, packet(0xd0, &[])),
            ],
        );
    }
}

/// [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-4.13.1-1]
#[test]
fn mqtt5_3_4_2_1_acknowledgements_have_their_own_reason_codes() {
    let mut cases = Vec::new();
    for (first, wrong) in [
        (0x40, [0x92, 0x01, 0x04, 0x8e]),
        (0x50, [0x92, 0x01, 0x04, 0x8e]),
        (0x62, [0x10, 0x87, 0x80, 0x01]),
        (0x70, [0x10, 0x87, 0x80, 0x01]),
    ] {
        for code in wrong {
            cases.push((
                "reason of another packet",
                PROTOCOL,
                packet(first, &[&[0, 1, code]]),
            ));
        }
        for code in [0x03, 0x7f, 0xa3, 0xff] {
            cases.push(("no reason", MALFORMED, packet(first, &[&[0, 1, code]])));
        }
        let twice = properties(&[&[0x1f, 0, 1, b'a'], &[0x1f, 0, 1, b'a']]);
        cases.push((
            "reason string twice",
            PROTOCOL,
            packet(first, &[&[0, 1, 0], &twice]),
        ));
        let other: &[u8] = &[0, 1, 0, 2, 0x01, 0];
        cases.push(("property of PUBLISH", MALFORMED, packet(first, &[other])));
    }
    each_is_refused(V5, &cases);
}

/// [MQTT-4.13.1-1], [3.1.1 MQTT-4.8.0-1]: bytes that mean nothing, in many pieces and from many clients at once,
/// leave the others alone.
#[test]
fn mqtt5_4_13_1_noise_harms_nobody_else() {
    for_every_layout(|gateway| {
        let mut victim = gateway.client("victim");
        victim.subscribe("victim", AtLeastOnce);
        let mut publisher = gateway.client("publisher");
        // A small generator: the same noise every time.
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..100 {
            let version = if round % 2 == 0 { V5 } else { V3_1_1 };
            let mut raw = Raw::connected(gateway, version, "noise");
            for _ in 0..next() % 4 + 1 {
                let noise: Vec<_> = (0..next() % 64).map(|_| next() as u8).collect();
                raw.try_send(noise);
            }
            if round % 10 == 0 {
                publisher.publish("victim", format!("{round}"), AtLeastOnce);
                // Noise may be a message, but not on this topic.
                assert_eq!(victim.expect_publish().text(), format!("{round}"));
            }
            raw.vanish();
        }
        victim.expect_silence();
    });
}
