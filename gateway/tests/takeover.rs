//! Two connections of one client id (MQTT 5 section 3.1.4, 3.1.1 section 3.1.4).

mod support;

use support::*;

/// [MQTT-3.1.4-3], [3.1.1 MQTT-3.1.4-2]
#[test]
fn mqtt5_3_1_4_3_the_newcomer_wins_whatever_the_versions() {
    for_every_layout(|gateway| {
        for old_version in [V3_1, V3_1_1, V5] {
            for new_version in [V3_1, V3_1_1, V5] {
                let mut old = Raw::connected(gateway, old_version, "same");
                let mut new = Raw::connected(gateway, new_version, "same");
                if old_version == V5 {
                    old.expect([0xe0, 1, 0x8e]);
                }
                old.expect_closed();
                new.expect_silence();
                new.vanish();
            }
        }
    });
}

/// [MQTT-3.1.4-3], [MQTT-3.2.2-6]: only who may come in takes over, and nobody else is told of a session.
#[test]
fn mqtt5_3_1_4_3_a_refused_newcomer_takes_nothing_over() {
    for_every_layout(|gateway| {
        let mut old = gateway.client("same");
        let method = ConnectOptions {
            authentication_method: Some("unknown".to_owned()),
            ..options(V5, "same")
        };
        let refused = gateway.open(V5).expect_refused(&method);
        assert_eq!(refused, ReasonCode::BadAuthenticationMethod);
        let mut broken = Raw::open(gateway);
        broken.send(connect_with(V5, 0b11, &[], &[&text("same")]));
        broken.expect([0x20, 3, 0, 0x81, 0]);
        old.expect_silence();
    });
}

/// [MQTT-3.1.4-3], [MQTT-3.1.2-5], [MQTT-4.4.0-1], [3.1.1 MQTT-3.1.4-2], [3.1.1 MQTT-4.4.0-1]: the newcomer goes on
/// where the old connection was, in both directions.
#[test]
fn mqtt5_3_1_4_3_the_session_goes_on_with_the_newcomer() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let expiry = if version == V5 { 60 } else { 0 };
            let lasting = ConnectOptions {
                clean_start: false,
                session_expiry_interval: expiry,
                ..options(version, "same")
            };
            let mut old = gateway.connect(lasting.clone());
            old.subscribe("takeover/#", ExactlyOnce);
            let mut publisher = gateway.client("publisher");
            publisher.publish("takeover/1", "one", AtLeastOnce);
            publisher.publish("takeover/1", "two", ExactlyOnce);
            let one = old.take_publish();
            let two = old.take_publish();
            // Its own QoS 2 message is half way.
            let id = old.send_publish("elsewhere", "x", ExactlyOnce);
            old.expect_pubrec(id);
            let mut new = gateway.connect(lasting);
            assert!(new.session_present());
            new.expect_packet(Packet::Publish(Publication {
                dup: true,
                ..one.clone()
            }));
            new.expect_packet(Packet::Publish(Publication {
                dup: true,
                ..two.clone()
            }));
            new.finish(&one);
            new.finish(&two);
            new.send_pubrel(id);
            assert_eq!(new.expect_pubcomp(id), ReasonCode::Success);
            publisher.publish("takeover/2", "three", AtLeastOnce);
            assert_eq!(new.expect_publish().text(), "three");
            new.expect_silence();
            gateway.connect(options(version, "same")).disconnect();
        }
    });
}

/// [MQTT-3.1.4-3]: however many come at once, one stays, and all others end.
#[test]
fn mqtt5_3_1_4_3_of_many_newcomers_one_stays() {
    at_once_in_every_layout(|gateway| {
        let mut all: Vec<_> = (0..20).map(|_| Raw::open(gateway)).collect();
        for (n, raw) in all.iter_mut().enumerate() {
            raw.send(connect(if n % 2 == 0 { V5 } else { V3_1_1 }, "crowd"));
        }
        // Everyone is accepted in some order; everyone but the last is told or closed.
        for raw in &mut all {
            let connack = raw.next().expect("a CONNACK comes");
            assert_eq!((connack[0], connack[2], connack[3]), (0x20, 0, 0));
        }
        gateway.await_total(1, |shard| shard.connections[0].2);
        assert_eq!(gateway.total(|shard| shard.router.takeovers_total), 19);
        assert_eq!(gateway.total(|shard| shard.router.sessions_online), 1);
    });
}

/// [MQTT-3.1.4-3]: what the old connection said before it lost its session counts, what comes later does not.
#[test]
fn mqtt5_3_1_4_3_the_old_connection_says_nothing_more() {
    for_every_layout(|gateway| {
        let mut witness = gateway.client("witness");
        witness.subscribe("late", AtLeastOnce);
        let mut old = Raw::connected(gateway, V5, "same");
        let publish = |id, payload: &[u8]| packet(0x32, &[&text("late"), &[0, id, 0], payload]);
        old.send(publish(1, b"in time"));
        old.expect([0x40, 2, 0, 1]);
        let _new = Raw::connected(gateway, V5, "same");
        old.try_send(publish(2, b"too late"));
        old.expect([0xe0, 1, 0x8e]);
        old.expect_closed();
        assert_eq!(witness.expect_publish().text(), "in time");
        gateway
            .client("publisher")
            .publish("late", "fence", AtLeastOnce);
        assert_eq!(witness.expect_publish().text(), "fence");
        witness.expect_silence();
    });
}
