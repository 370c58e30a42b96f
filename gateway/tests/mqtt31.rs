//! MQTT 3.1, the protocol named `MQIsdp`: what differs from 3.1.1.

mod support;

use support::*;

/// CONNECT of 3.1, byte for byte.
fn connect31(flags: u8, payload: &[&[u8]]) -> Vec<u8> {
    packet(
        0x10,
        &[&text("MQIsdp"), &[3, flags, 0, 0], &payload.concat()],
    )
}

#[test]
fn a_client_of_3_1_talks_to_clients_of_every_version() {
    for_every_layout(|gateway| {
        let mut clients = [V3_1, V3_1_1, V5].map(|version| {
            let mut client = gateway.connect(options(version, &format!("{version:?}")));
            client.subscribe("versions/#", ExactlyOnce);
            client
        });
        for from in 0..3 {
            for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
                clients[from].publish("versions/x", format!("{from}"), qos);
                for client in &mut clients {
                    let publication = client.expect_publish();
                    assert_eq!(
                        (publication.text(), publication.qos),
                        (&*format!("{from}"), qos)
                    );
                }
            }
        }
        clients.iter_mut().for_each(Client::expect_silence);
    });
}

/// MQTT 3.1 section 3.2: the first byte of CONNACK is reserved, so there is no session present flag.
#[test]
fn connack_of_3_1_has_no_session_present_flag() {
    for_every_layout(|gateway| {
        for _ in 0..3 {
            let (mut raw, connack) = Raw::accepted(gateway, &connect31(0, &[&text("lasting")]));
            assert_eq!(connack, [0x20, 2, 0, 0]);
            raw.send(packet(0x82, &[&[0, 1], &text("kept"), &[1]]));
            raw.expect([0x90, 3, 0, 1, 1]);
            raw.send([0xe0, 0]);
            raw.expect_closed();
        }
        gateway
            .client("publisher")
            .publish("kept", "x", AtLeastOnce);
        let (mut raw, _) = Raw::accepted(gateway, &connect31(0, &[&text("lasting")]));
        raw.expect(packet(0x32, &[&text("kept"), &[0, 1], b"x"]));
    });
}

/// MQTT 3.1 section 3.1: identifier rejected without one. Ours may be longer than its 23 characters.
#[test]
fn a_client_of_3_1_needs_an_id() {
    for_every_layout(|gateway| {
        for flags in [0, 2] {
            let mut raw = Raw::open(gateway);
            raw.send(connect31(flags, &[&text("")]));
            raw.expect([0x20, 2, 0, 2]);
            raw.expect_closed();
        }
        Raw::accepted(
            gateway,
            &connect31(2, &[&text("an-id-of-more-than-twenty-three-characters")]),
        );
    });
}

/// MQTT 3.1 sections 2.1 and 3.1: the remaining length takes precedence over the flags of user name and password,
/// and flags that later versions reserve are not used.
#[test]
fn flags_that_later_versions_check_are_not_used_in_3_1() {
    for_every_layout(|gateway| {
        for flags in [0x80, 0xc0, 0x01] {
            Raw::accepted(gateway, &connect31(flags | 2, &[&text("lenient")]));
        }
        let payload: &[&[u8]] = &[&text("lenient"), &text("user")];
        let (mut raw, _) = Raw::accepted(gateway, &connect31(0xc2, payload));
        // DUP on SUBSCRIBE, UNSUBSCRIBE and PUBREL, and unused bits beside the QoS.
        raw.send(packet(0x8a, &[&[0, 1], &text("a"), &[0xf9]]));
        raw.expect([0x90, 3, 0, 1, 1]);
        raw.send(packet(0x34, &[&text("b"), &[0, 2], b"x"]));
        raw.expect([0x50, 2, 0, 2]);
        raw.send([0x6a, 2, 0, 2]);
        raw.expect([0x70, 2, 0, 2]);
        raw.send(packet(0xaa, &[&[0, 3], &text("a")]));
        raw.expect([0xb0, 2, 0, 3]);
    });
}

/// What no version allows is closed in this one too.
#[test]
fn what_is_malformed_in_every_version_is_closed() {
    in_one_layout(|gateway| {
        for wrong in [
            packet(0x36, &[&text("a"), &[0, 1], b"x"]),
            packet(0x30, &[&text("a/#"), b"x"]),
            packet(0x30, &[&text(""), b"x"]),
            packet(0x82, &[&[0, 1]]),
            packet(0x82, &[&[0, 0], &text("a"), &[0]]),
            packet(0x82, &[&[0, 1], &text("a"), &[3]]),
            packet(0x30, &[&text(b"\xff"), b"x"]),
            vec![0x00, 0],
            vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01],
        ] {
            let (mut raw, _) = Raw::accepted(gateway, &connect31(2, &[&text("wrong")]));
            raw.send(&wrong);
            raw.expect_closed();
        }
        let mut raw = Raw::open(gateway);
        raw.send(packet(
            0x10,
            &[&text("MQIsdp"), &[5, 2, 0, 0, 0], &text("c")],
        ));
        raw.expect([0x20, 2, 0, 1]);
        raw.expect_closed();
    });
}
