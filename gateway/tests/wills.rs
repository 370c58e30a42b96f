//! Wills (MQTT 5 sections 3.1.2.5 and 3.1.3.2, 3.1.1 section 3.1.2.5).

mod support;

use support::*;
use ReasonCode::DisconnectWithWill;

const QOS: [Qos; 3] = [AtMostOnce, AtLeastOnce, ExactlyOnce];

fn witness(gateway: &Gateway) -> Client {
    let mut witness = gateway.client("witness");
    witness.subscribe("will/#", ExactlyOnce);
    witness
}

/// CONNECT with a will.
fn with_will(version: ProtocolVersion, client_id: &str, qos: Qos, retain: bool) -> ConnectOptions {
    ConnectOptions {
        will: will("will/topic", client_id, qos, retain),
        ..options(version, client_id)
    }
}

/// A will that waits `delay` seconds, with a session that lasts `expiry` seconds.
fn delayed(client_id: &str, delay: u32, expiry: u32) -> ConnectOptions {
    let mut options = with_will(V5, client_id, AtLeastOnce, false);
    options.will.as_mut().unwrap().delay_interval = delay;
    ConnectOptions {
        session_expiry_interval: expiry,
        clean_start: false,
        ..options
    }
}

/// [MQTT-3.1.2-7], [MQTT-3.1.2-8], [MQTT-3.1.2-12], [MQTT-3.1.2-14], [3.1.1 MQTT-3.1.2-8], [3.1.1 MQTT-3.1.2-14],
/// [3.1.1 MQTT-3.1.2-16]
#[test]
fn mqtt5_3_1_2_8_the_will_is_published_when_the_connection_is_lost() {
    for_every_layout(|gateway| {
        let mut witness = witness(gateway);
        for version in [V3_1_1, V5] {
            for qos in QOS {
                let client = gateway.connect(with_will(version, "lost", qos, false));
                witness.expect_silence();
                client.vanish();
                let publication = witness.expect_publish();
                assert_eq!(
                    (publication.topic.as_str(), publication.text()),
                    ("will/topic", "lost")
                );
                assert_eq!((publication.qos, publication.retain), (qos, false));
                // It is removed once it was published [MQTT-3.1.2-10], and not retained.
                let mut late = gateway.client("late");
                late.subscribe("will/#", AtMostOnce);
                late.expect_silence();
                witness.expect_silence();
            }
        }
    });
}

/// [MQTT-3.1.2-15], [3.1.1 MQTT-3.1.2-17]
#[test]
fn mqtt5_3_1_2_15_a_will_with_retain_is_retained() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            for qos in QOS {
                let mut witness = witness(gateway);
                gateway
                    .connect(with_will(version, "retains", qos, true))
                    .vanish();
                assert!(!witness.expect_publish().retain);
                let mut late = gateway.client("late");
                late.subscribe("will/topic", ExactlyOnce);
                let publication = late.expect_publish();
                assert_eq!((publication.text(), publication.retain), ("retains", true));
                assert_eq!(publication.qos, qos);
                gateway
                    .client("cleaner")
                    .publish_retained("will/topic", "", AtLeastOnce);
            }
        }
    });
}

/// [MQTT-3.1.2-8], [MQTT-3.1.2-10], [MQTT-3.14.4-3], [3.1.1 MQTT-3.1.2-8], [3.1.1 MQTT-3.1.2-10],
/// [3.1.1 MQTT-3.1.2-12], [3.1.1 MQTT-3.14.4-3]
#[test]
fn mqtt5_3_14_4_3_disconnect_deletes_the_will() {
    for_every_layout(|gateway| {
        let mut witness = witness(gateway);
        for version in [V3_1_1, V5] {
            gateway
                .connect(with_will(version, "polite", ExactlyOnce, true))
                .disconnect();
            gateway.connect(options(version, "polite")).vanish();
        }
        let mut lasting = gateway.connect(delayed("polite", 0, 60));
        lasting.disconnect();
        gateway.await_total(1, |shard| shard.router.sessions_online);
        witness.expect_silence();
        assert_eq!(gateway.total(|shard| shard.router.wills_published_total), 0);
    });
}

/// [MQTT-3.14.4-3], [MQTT-3.1.2-8]: only reason 0x00 deletes it (MQTT 5 section 3.14.2.1).
#[test]
fn mqtt5_3_14_4_3_disconnect_with_another_reason_publishes_the_will() {
    for_every_layout(|gateway| {
        let mut witness = witness(gateway);
        for reason in [
            DisconnectWithWill,
            ReasonCode::UnspecifiedError,
            ReasonCode::ProtocolError,
            ReasonCode::AdministrativeAction,
        ] {
            let mut client = gateway.connect(with_will(V5, "wants", AtLeastOnce, false));
            client.disconnect_with(reason);
            assert_eq!(witness.expect_publish().text(), "wants");
        }
        witness.expect_silence();
    });
}

/// [MQTT-3.1.2-8], [3.1.1 MQTT-3.1.2-8]: whoever breaks the rules is closed, and its will published.
#[test]
fn mqtt5_3_1_2_8_a_protocol_error_publishes_the_will() {
    for_every_layout(|gateway| {
        let mut witness = witness(gateway);
        for version in [V3_1_1, V5] {
            for wrong in [
                &[0xc1, 0][..],
                &[0x30, 3, 0, 1, b'#'],
                &[0x82, 2, 0, 1],
                &[0x20, 2, 0, 0],
            ] {
                let mut client = gateway.connect(with_will(version, "breaks", AtLeastOnce, false));
                client.send_raw(wrong);
                client.next_where(|packet| *packet == Packet::Closed);
                assert_eq!(witness.expect_publish().text(), "breaks");
            }
        }
        witness.expect_silence();
    });
}

/// [MQTT-3.1.2-8], [MQTT-3.1.4-3], [3.1.1 MQTT-3.1.2-8], [3.1.1 MQTT-3.1.4-2]: a takeover closes the old
/// connection, and no DISCONNECT came on it.
#[test]
fn mqtt5_3_1_4_3_a_takeover_publishes_the_will_of_the_old_connection() {
    for_every_layout(|gateway| {
        let mut witness = witness(gateway);
        for version in [V3_1_1, V5] {
            let mut old = gateway.connect(with_will(version, "same", AtLeastOnce, false));
            let mut new = gateway.connect(options(version, "same"));
            assert_eq!(witness.expect_publish().text(), "same");
            if version == V5 {
                old.expect_disconnect(ReasonCode::SessionTakenOver);
            } else {
                old.expect_closed();
            }
            new.disconnect();
        }
        witness.expect_silence();
    });
}

/// [MQTT-3.1.3-9], [MQTT-3.1.2-8]
#[test]
fn mqtt5_3_1_3_9_a_client_that_returns_before_the_delay_cancels_its_will() {
    at_once_in_every_layout(|gateway| {
        let mut witness = witness(gateway);
        gateway.connect(delayed("stays away", 1, 60)).vanish();
        // Another one with the same moment shows that it has passed.
        gateway.connect(delayed("returns", 1, 60)).vanish();
        let mut back = gateway.connect(ConnectOptions {
            will: None,
            ..delayed("returns", 0, 60)
        });
        assert!(back.session_present());
        // And one that takes its own session over before it was lost.
        let _old = gateway.connect(delayed("takes over", 1, 60));
        let mut new = gateway.connect(ConnectOptions {
            will: None,
            ..delayed("takes over", 0, 60)
        });
        assert!(new.session_present());
        assert_eq!(witness.expect_publish().text(), "stays away");
        gateway.connect(delayed("fence", 0, 60)).vanish();
        assert_eq!(witness.expect_publish().text(), "fence");
        witness.expect_silence();
        back.ping();
        new.ping();
    });
}

/// [MQTT-3.1.2-8], [MQTT-3.1.3-9]: the end of the session comes first (MQTT 5 section 3.1.3.2.2).
#[test]
fn mqtt5_3_1_2_8_the_end_of_the_session_publishes_a_will_that_still_waits() {
    at_once_in_every_layout(|gateway| {
        let mut witness = witness(gateway);
        // Ends with its connection.
        gateway.connect(delayed("brief", 1_000, 0)).vanish();
        assert_eq!(witness.expect_publish().text(), "brief");
        // Is discarded by a clean start, offline or not.
        gateway.connect(delayed("cleaned", 1_000, 60)).vanish();
        gateway.await_total(1, |shard| shard.router.sessions_offline);
        gateway.connect(options(V5, "cleaned")).disconnect();
        assert_eq!(witness.expect_publish().text(), "cleaned");
        let mut old = gateway.connect(delayed("taken", 1_000, 60));
        gateway.connect(options(V5, "taken")).disconnect();
        old.expect_disconnect(ReasonCode::SessionTakenOver);
        assert_eq!(witness.expect_publish().text(), "taken");
        // Expires.
        gateway.connect(delayed("expires", 1_000, 1)).vanish();
        assert_eq!(witness.expect_publish().text(), "expires");
        witness.expect_silence();
    });
}

/// [MQTT-3.1.2-10], [MQTT-3.1.2-7]: a will belongs to the CONNECT it came with.
#[test]
fn mqtt5_3_1_2_10_every_connect_replaces_the_will() {
    for_every_layout(|gateway| {
        let mut witness = witness(gateway);
        let mut client = gateway.connect(delayed("replaced", 0, 60));
        client.disconnect();
        let other = ConnectOptions {
            will: will("will/other", "other", AtLeastOnce, false),
            ..delayed("replaced", 0, 60)
        };
        gateway.connect(other).vanish();
        assert_eq!(witness.expect_publish().text(), "other");
        gateway
            .connect(ConnectOptions {
                will: None,
                ..delayed("replaced", 0, 60)
            })
            .vanish();
        gateway.await_total(1, |shard| shard.router.sessions_online);
        witness.expect_silence();
    });
}

/// [MQTT-3.1.3-10], [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16],
/// [MQTT-3.3.2-20]
#[test]
fn mqtt5_3_1_3_10_a_will_carries_its_properties_in_order() {
    for_every_layout(|gateway| {
        let given = [
            &user_property("b", "1")[..],
            &[0x01, 1],
            &user_property("a", "2"),
            &[&[0x03][..], &text("text/plain")].concat(),
            &[&[0x08][..], &text("answer/here")].concat(),
            &user_property("b", "3"),
            &[&[0x09][..], &text(b"\0\x01")].concat(),
            &user_property("b", "1"),
        ];
        let delay: &[u8] = &[0x18, 0, 0, 0, 0];
        let mut all = given.to_vec();
        all.insert(3, delay);
        let payload: &[&[u8]] = &[
            &text("will"),
            &properties(&all),
            &text("will/topic"),
            &text(b"\xff payload"),
        ];
        let connect = connect_with(V5, 0b110, &[], payload);
        let mut raw = Raw::connected(gateway, V5, "raw witness");
        raw.send(packet(0x82, &[&[0, 1, 0], &text("will/topic"), &[0]]));
        raw.expect([0x90, 4, 0, 1, 0, 0]);
        Raw::accepted(gateway, &connect).0.vanish();
        let parts: &[&[u8]] = &[&text("will/topic"), &properties(&given), b"\xff payload"];
        raw.expect(packet(0x30, parts));
    });
}

/// MQTT 5 section 3.1.3.2.4: the expiry of a will counts from its publication.
#[test]
fn mqtt5_3_1_3_2_4_the_expiry_of_a_will_counts_from_its_publication() {
    for_every_layout(|gateway| {
        let mut witness = witness(gateway);
        let mut options = with_will(V5, "expires", AtLeastOnce, false);
        options.will.as_mut().unwrap().message_expiry_interval = Some(1_000);
        gateway.connect(options).vanish();
        let left = witness.expect_publish().message_expiry_interval.unwrap();
        assert!((995..=1_000).contains(&left), "{left}");
    });
}

/// A will is a message like any other: to many subscribers, to shared ones, to one client by its id.
#[test]
fn a_will_goes_wherever_messages_go() {
    for_every_layout(|gateway| {
        let mut target = gateway.client("target");
        let mut members = ["one", "two"].map(|id| {
            let mut member = gateway.client(id);
            member.subscribe("$share/g/will/#", AtLeastOnce);
            member
        });
        let to = |topic| ConnectOptions {
            will: will(topic, "last words", ExactlyOnce, false),
            ..options(V5, "c")
        };
        gateway.connect(to("$p2p/target")).vanish();
        assert_eq!(target.expect_publish().text(), "last words");
        gateway.connect(to("will/shared")).vanish();
        gateway.await_total(2, |shard| shard.router.wills_published_total);
        let mut got = 0;
        while got == 0 {
            for member in &mut members {
                member.fence();
                got += usize::from(member.try_next(std::time::Duration::ZERO).is_some());
            }
        }
        assert_eq!(got, 1);
    });
}
