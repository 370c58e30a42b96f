//! DISCONNECT from both sides (MQTT 5 and 3.1.1 section 3.14).

mod support;

use support::*;

/// [MQTT-3.14.4-1], [MQTT-3.14.4-2], [3.1.1 MQTT-3.14.4-1], [3.1.1 MQTT-3.14.4-2]: the server closes too, and says
/// nothing more.
#[test]
fn mqtt5_3_14_4_2_behind_a_disconnect_the_connection_is_closed() {
    for_every_layout(|gateway| {
        for disconnect in [
            &[0xe0, 0][..],
            &[0xe0, 1, 0],
            &[0xe0, 2, 0, 0],
            &[0xe0, 2, 4, 0],
        ] {
            let mut raw = Raw::connected(gateway, V5, "client");
            raw.send(disconnect);
            raw.expect_closed();
        }
        let mut raw = Raw::connected(gateway, V3_1_1, "client");
        raw.send([0xe0, 0]);
        raw.expect_closed();
        gateway.await_total(5, |shard| {
            let ended = shard.disconnects_total.iter();
            ended
                .filter(|(_, reason, _)| *reason == "client_disconnected")
                .map(|e| e.2)
                .sum()
        });
    });
}

/// [MQTT-3.14.4-1], [3.1.1 MQTT-3.14.4-2]: what follows it is not processed.
#[test]
fn mqtt5_3_14_4_1_nothing_behind_a_disconnect_is_processed() {
    for_every_layout(|gateway| {
        let mut witness = gateway.client("witness");
        witness.subscribe("behind", AtLeastOnce);
        for version in [V3_1_1, V5] {
            let no_properties: &[u8] = if version == V5 { &[0] } else { &[] };
            let publish =
                |payload: &[u8]| packet(0x32, &[&text("behind"), &[0, 1], no_properties, payload]);
            let mut raw = Raw::connected(gateway, version, "client");
            raw.send(
                [
                    publish(b"before"),
                    vec![0xe0, 0],
                    publish(b"after"),
                    PINGREQ.to_vec(),
                ]
                .concat(),
            );
            assert_eq!(witness.expect_publish().text(), "before");
            // The acknowledgement of what came before may still be said.
            while let Some(packet) = raw.next() {
                assert_eq!(packet[0], 0x40, "{packet:02x?}");
            }
        }
        gateway
            .client("publisher")
            .publish("behind", "fence", AtLeastOnce);
        assert_eq!(witness.expect_publish().text(), "fence");
        witness.expect_silence();
    });
}

/// [MQTT-3.14.2-1], [MQTT-3.14.1-1], [MQTT-2.1.3-1], [3.1.1 MQTT-3.14.1-1], [3.1.1 MQTT-2.2.2-2]
#[test]
fn mqtt5_3_14_1_1_a_wrong_disconnect_is_answered_and_closed() {
    in_one_layout(|gateway| {
        for (wrong, reason) in [
            (&[0xe1, 0][..], 0x81),
            (&[0xe2, 0], 0x81),
            (&[0xe8, 1, 0], 0x81),
            // Codes only a server may send, and codes that are none.
            (&[0xe0, 1, 0x8e], 0x82),
            (&[0xe0, 1, 0x8b], 0x82),
            (&[0xe0, 1, 0x9c], 0x82),
            (&[0xe0, 1, 0x11], 0x82),
            (&[0xe0, 1, 0x03], 0x81),
            (&[0xe0, 1, 0xff], 0x81),
            // Properties that do not belong here, or twice.
            (&[0xe0, 4, 0, 2, 0x01, 0], 0x81),
            (&[0xe0, 12, 0, 10, 0x11, 0, 0, 0, 0, 0x11, 0, 0, 0, 0], 0x82),
            (&[0xe0, 2, 0, 9], 0x81),
        ] {
            let mut raw = Raw::connected(gateway, V5, "client");
            raw.send(wrong);
            raw.expect([0xe0, 1, reason]);
            raw.expect_closed();
        }
        for wrong in [&[0xe1, 0][..], &[0xe4, 0], &[0xe0, 1, 0]] {
            let mut raw = Raw::connected(gateway, V3_1_1, "client");
            raw.send(wrong);
            raw.expect_closed();
        }
    });
}

/// MQTT 5 section 3.14.2.1: every code a client may send is taken, with properties.
#[test]
fn mqtt5_section_3_14_2_1_every_reason_of_a_client_is_taken() {
    in_one_layout(|gateway| {
        let codes = [
            0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
        ];
        for code in codes {
            let why = [&[0x1f][..], &text("because")].concat();
            let given = properties(&[&why, &user_property("a", "b"), &[0x11, 0, 0, 0, 0]]);
            let mut raw = Raw::connected(gateway, V5, "client");
            raw.send(packet(0xe0, &[&[code], &given]));
            raw.expect_closed();
        }
    });
}

/// [MQTT-3.14.2-1], [MQTT-3.14.2-2], [MQTT-3.14.2-3], [MQTT-3.14.2-4], [MQTT-4.13.2-1], [MQTT-3.14.4-1]: byte for
/// byte, without any property.
#[test]
fn mqtt5_3_14_2_2_what_the_server_says_is_the_reason_and_nothing_else() {
    for_every_layout(|gateway| {
        let mut old = Raw::connected(gateway, V5, "same");
        let mut new = Raw::connected(gateway, V5, "same");
        old.expect([0xe0, 1, 0x8e]);
        old.expect_closed();
        let mut old_version = Raw::connected(gateway, V3_1_1, "older");
        gateway.node().control().drain();
        new.expect([0xe0, 1, 0x8b]);
        new.expect_closed();
        // 3.1.1 has no words for it.
        old_version.expect_closed();
    });
}

/// [MQTT-3.1.2-24]: into less than five bytes no CONNACK fits, so the connection is closed without one.
#[test]
fn mqtt5_3_1_2_24_a_client_that_takes_no_connack_is_closed() {
    in_one_layout(|gateway| {
        for size in 1..=4 {
            let mut raw = Raw::open(gateway);
            raw.send(connect_with(
                V5,
                0b10,
                &[&[0x27, 0, 0, 0, size]],
                &[&text("tiny")],
            ));
            raw.expect_closed();
        }
        gateway.await_total(0, |shard| shard.router.sessions_online);
    });
}
