//! Stories about coming in: CONNECT, hand-over to the home shard, takeover, refusals, timeouts.

mod support;

use support::*;

#[test]
fn a_client_connects_and_is_answered() {
    for_every_layout(|gateway| {
        for version in [V3_1, V3_1_1, V5] {
            let mut client = gateway.connect(options(version, "client"));
            assert!(!client.session_present());
            client.ping();
            client.disconnect();
        }
        gateway.await_total(0, |shard| shard.connections[0].2);
        assert_eq!(gateway.connects("accepted"), 3);
        assert_eq!(gateway.disconnects("client_disconnected"), 3);
    });
}

#[test]
fn a_client_lives_on_its_home_shard_wherever_it_was_accepted() {
    for_every_layout(|gateway| {
        let mut clients: Vec<_> = (0..64)
            .map(|n| gateway.client(&format!("client-{n}")))
            .collect();
        clients.iter_mut().for_each(Client::ping);
        let expected = |shard: u16| {
            let ids = (0..64).map(|n| format!("client-{n}"));
            ids.filter(|id| gateway.home_of(id) == shard).count() as u64
        };
        for snapshot in gateway.snapshots() {
            assert_eq!(snapshot.connections[0].2, expected(snapshot.shard));
            assert_eq!(snapshot.router.sessions_online, expected(snapshot.shard));
        }
        if gateway.layout.shards > 1 {
            assert!(gateway.total(|shard| shard.hand_overs_total) > 0);
        }
    });
}

/// [MQTT-4.2.0-1], [3.1.1 MQTT-7.1.1-1], [3.1.1 MQTT-7.0.0-2]: over TCP, with nothing but what the standard has.
#[test]
fn messages_of_every_qos_go_from_client_to_client() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let mut subscriber = gateway.connect(options(version, "subscriber"));
            let mut publisher = gateway.connect(options(version, "publisher"));
            subscriber.subscribe("fleet/+/state", ExactlyOnce);
            for (qos, text) in [
                (AtMostOnce, "zero"),
                (AtLeastOnce, "one"),
                (ExactlyOnce, "two"),
            ] {
                publisher.publish("fleet/7/state", text, qos);
                let publication = subscriber.expect_publish();
                assert_eq!((publication.text(), publication.qos), (text, qos));
                assert_eq!(publication.topic, "fleet/7/state");
            }
            subscriber.disconnect();
            publisher.disconnect();
        }
        gateway.await_total(6, |shard| shard.messages_delivered_total.iter().sum());
        assert_eq!(
            gateway.total(|shard| shard.delivery_seconds.counts.iter().sum()),
            6
        );
    });
}

#[test]
fn mqtt5_3_1_4_3_a_newcomer_takes_the_session_over_and_the_old_one_is_told() {
    for_every_layout(|gateway| {
        let mut old = gateway.client("same");
        let mut new = gateway.client("same");
        old.expect_disconnect(ReasonCode::SessionTakenOver);
        new.ping();
        let mut newest = gateway.client_v3("same");
        new.expect_disconnect(ReasonCode::SessionTakenOver);
        newest.ping();
        gateway.await_total(1, |shard| shard.connections[0].2);
        assert_eq!(gateway.total(|shard| shard.router.takeovers_total), 2);
    });
}

#[test]
fn mqtt5_3_1_4_5_what_is_sent_right_behind_connect_is_not_lost() {
    for_every_layout(|gateway| {
        for (n, version) in (0..16).zip([V3_1_1, V5].into_iter().cycle()) {
            let mut client = gateway.open(version);
            let mut bytes = Vec::new();
            let codec = client.codec();
            codec.connect(&options(version, &format!("hasty-{n}")), &mut bytes);
            codec.subscribe(1, &[("hasty", Default::default())], None, &mut bytes);
            codec.publish(
                "hasty",
                b"hello",
                AtMostOnce,
                false,
                false,
                0,
                &[],
                &mut bytes,
            );
            client.send_raw(&bytes);
            assert!(matches!(
                client.next(),
                Packet::ConnAck {
                    reason: ReasonCode::Success,
                    ..
                }
            ));
            assert!(matches!(
                client.next_where(is_suback),
                Packet::SubAck { .. }
            ));
            assert_eq!(client.expect_publish().text(), "hello");
        }
    });
}

fn is_suback(packet: &Packet) -> bool {
    matches!(packet, Packet::SubAck { .. })
}

#[test]
fn a_connect_may_come_byte_by_byte() {
    for_every_layout(|gateway| {
        let mut client = gateway.open(V5);
        let mut bytes = Vec::new();
        client.codec().connect(&options(V5, "slow"), &mut bytes);
        for byte in bytes {
            client.send_raw(&[byte]);
        }
        assert!(matches!(
            client.next(),
            Packet::ConnAck {
                reason: ReasonCode::Success,
                ..
            }
        ));
        client.ping();
    });
}

#[test]
fn mqtt5_3_1_3_6_a_client_without_an_id_is_given_one() {
    for_every_layout(|gateway| {
        let mut ids = std::collections::HashSet::new();
        for _ in 0..8 {
            let mut client = gateway.client("");
            let id = client
                .connack()
                .assigned_client_id
                .clone()
                .expect("an id is assigned");
            assert!(id.len() >= 20 && ids.insert(id));
            client.ping();
        }
        // An id that its own shard chose never moves.
        assert_eq!(gateway.total(|shard| shard.hand_overs_total), 0);
    });
}

#[test]
fn what_is_no_connect_is_refused_where_it_arrived() {
    for_every_layout(|gateway| {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0xc0, 0],
            &[0x10, 0x02, 0, 9],
            &[0xff; 64],
        ] {
            let mut client = gateway.open(V5);
            client.send_raw(bytes);
            client.next_where(|packet| *packet == Packet::Closed);
        }
        gateway.await_total(0, |shard| shard.connections[0].2);
        assert_eq!(gateway.connects("accepted"), 0);
        assert_eq!(gateway.total(|shard| shard.hand_overs_total), 0);
    });
}

#[test]
fn who_does_not_connect_in_time_is_closed() {
    let short = |settings: &mut NodeSettings| {
        std::sync::Arc::make_mut(&mut settings.mqtt).connect_timeout_ms = 50;
    };
    for_every_layout_with(short, |gateway| {
        let mut silent = gateway.open(V5);
        let mut half = gateway.open(V5);
        half.send_raw(&[0x10, 100, 0, 4]);
        let mut quick = gateway.client("quick");
        silent.expect_closed();
        half.expect_closed();
        quick.ping();
        gateway.await_total(1, |shard| shard.connections[0].2);
    });
}

#[test]
fn mqtt5_3_1_2_22_who_is_silent_for_one_and_a_half_keep_alives_is_closed() {
    for_every_layout(|gateway| {
        let mut silent = gateway.connect(ConnectOptions {
            keep_alive: 1,
            ..options(V5, "silent")
        });
        let mut lively = gateway.connect(ConnectOptions {
            keep_alive: 1,
            ..options(V5, "lively")
        });
        while silent
            .try_next(std::time::Duration::from_millis(300))
            .is_none()
        {
            lively.ping();
        }
        lively.ping();
        assert_eq!(gateway.disconnects(ReasonCode::KeepAliveTimeout.name()), 1);
    });
}

#[test]
fn who_may_not_come_in_is_told_why() {
    let strict = |settings: &mut NodeSettings| settings.allow_anonymous = false;
    for_every_layout_with(strict, |gateway| {
        let refused =
            |options: ConnectOptions| gateway.open(options.version).expect_refused(&options);
        let with_password = |version| ConnectOptions {
            user_name: Some("user".to_owned()),
            password: Some(b"secret".to_vec()),
            ..options(version, "client")
        };
        assert_eq!(refused(options(V5, "client")), ReasonCode::NotAuthorized);
        assert_eq!(
            refused(with_password(V5)),
            ReasonCode::BadUserNameOrPassword
        );
        assert_eq!(
            refused(options(V3_1_1, "client")),
            ReasonCode::NotAuthorized
        );
        assert_eq!(
            refused(with_password(V3_1_1)),
            ReasonCode::BadUserNameOrPassword
        );
        let enhanced = ConnectOptions {
            authentication_method: Some("SCRAM-SHA-1".to_owned()),
            ..options(V5, "client")
        };
        assert_eq!(refused(enhanced), ReasonCode::BadAuthenticationMethod);
        gateway.await_total(0, |shard| shard.connections[0].2);
        assert_eq!(gateway.connects("accepted"), 0);
        let failures = gateway.total(|shard| shard.auth_failures_total.iter().map(|f| f.2).sum());
        assert_eq!(failures, 5);
    });
}

#[test]
fn mqtt5_3_1_0_2_a_second_connect_ends_the_connection() {
    for_every_layout(|gateway| {
        let mut client = gateway.client("twice");
        let mut bytes = Vec::new();
        gateway
            .open(V5)
            .codec()
            .connect(&options(V5, "twice"), &mut bytes);
        client.send_raw(&bytes);
        client.expect_disconnect(ReasonCode::ProtocolError);
        assert_eq!(gateway.disconnects(ReasonCode::ProtocolError.name()), 1);
    });
}
