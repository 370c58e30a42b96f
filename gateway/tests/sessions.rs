//! Sessions: made, found, kept, discarded (MQTT 5 sections 3.1.2.4, 3.1.2.11.2 and 4.1, 3.1.1 sections 3.1.2.4
//! and 4.1).

mod support;

use support::*;
use ReasonCode::Success;

/// CONNECT with a session that outlives its connection, in every version's own words.
fn lasting(version: ProtocolVersion, client_id: &str) -> ConnectOptions {
    let session_expiry_interval = if version == V5 { 60 } else { 0 };
    ConnectOptions {
        clean_start: false,
        session_expiry_interval,
        ..options(version, client_id)
    }
}

/// [MQTT-3.1.2-5], [MQTT-3.1.2-6], [MQTT-3.1.2-23], [MQTT-3.1.3-2], [MQTT-3.1.4-4], [MQTT-3.2.2-3], [MQTT-4.5.0-1],
/// [3.1.1 MQTT-3.1.2-4], [3.1.1 MQTT-3.1.2-5], [3.1.1 MQTT-3.1.3-2], [3.1.1 MQTT-3.1.4-3], [3.1.1 MQTT-3.2.2-2],
/// [3.1.1 MQTT-3.2.2-3], [3.1.1 MQTT-4.1.0-1], [3.1.1 MQTT-4.5.0-1]
#[test]
fn mqtt5_3_1_2_5_a_session_is_resumed_with_subscriptions_and_messages() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            for leave_politely in [true, false] {
                let mut client = gateway.connect(lasting(version, "resumes"));
                assert!(!client.session_present(), "there is no session yet");
                client.subscribe("kept/#", ExactlyOnce);
                match leave_politely {
                    true => client.disconnect(),
                    false => client.vanish(),
                }
                gateway.await_total(0, |shard| shard.router.sessions_online);
                let mut publisher = gateway.client("publisher");
                publisher.publish("kept/1", "one", AtLeastOnce);
                publisher.publish("kept/1", "two", ExactlyOnce);
                publisher.disconnect();
                // A session is one client id's.
                let mut other = gateway.connect(options(version, "resume"));
                assert!(!other.session_present());
                other.expect_silence();
                other.disconnect();
                let mut client = gateway.connect(lasting(version, "resumes"));
                assert!(client.session_present());
                assert_eq!(client.expect_texts(2), ["one", "two"]);
                gateway
                    .client("publisher")
                    .publish("kept/2", "three", AtLeastOnce);
                assert_eq!(client.expect_publish().text(), "three");
                client.expect_silence();
                client.disconnect();
                gateway.connect(options(version, "resumes")).disconnect();
            }
        }
    });
}

/// [MQTT-3.1.2-4], [MQTT-3.1.4-4], [MQTT-3.2.2-2], [MQTT-3.2.2-3], [3.1.1 MQTT-3.1.2-6], [3.1.1 MQTT-3.1.4-3],
/// [3.1.1 MQTT-3.2.2-1]
#[test]
fn mqtt5_3_1_2_4_a_clean_start_discards_the_session() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let mut client = gateway.connect(lasting(version, "cleans"));
            client.subscribe("discarded", ExactlyOnce);
            client.disconnect();
            gateway
                .client("publisher")
                .publish("discarded", "old", AtLeastOnce);
            let clean = ConnectOptions {
                clean_start: true,
                ..lasting(version, "cleans")
            };
            let mut client = gateway.connect(clean.clone());
            assert!(!client.session_present());
            gateway
                .client("publisher")
                .publish("discarded", "new", AtLeastOnce);
            client.expect_silence();
            // Also where the session is in use.
            client.subscribe("discarded", AtLeastOnce);
            let mut newcomer = gateway.connect(clean);
            assert!(!newcomer.session_present());
            gateway
                .client("publisher")
                .publish("discarded", "newest", AtLeastOnce);
            newcomer.expect_silence();
            newcomer.disconnect();
            gateway.connect(options(version, "cleans")).disconnect();
        }
    });
}

/// [3.1.1 MQTT-3.1.2-6]: state of a clean session is not reused. MQTT 5 says so with an expiry of 0.
#[test]
fn mqtt311_3_1_2_6_a_clean_session_ends_with_its_connection() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let mut client = gateway.connect(options(version, "brief"));
            client.subscribe("brief", AtLeastOnce);
            client.disconnect();
            gateway.await_total(0, |shard| shard.router.sessions_online);
            assert_eq!(gateway.total(|shard| shard.router.sessions_offline), 0);
            let mut client = gateway.connect(lasting(version, "brief"));
            assert!(!client.session_present());
            gateway
                .client("publisher")
                .publish("brief", "x", AtLeastOnce);
            client.expect_silence();
            client.disconnect();
            gateway.connect(options(version, "brief")).disconnect();
        }
    });
}

/// MQTT 5 section 3.1.2.11.2: clean start 0 with an expiry of 0 resumes, and ends with the connection.
#[test]
fn mqtt5_3_1_2_23_an_expiry_of_0_ends_the_session_that_was_resumed() {
    for_every_layout(|gateway| {
        let mut client = gateway.connect(lasting(V5, "ends"));
        client.subscribe("ends", AtLeastOnce);
        client.disconnect();
        let brief = ConnectOptions {
            clean_start: false,
            ..options(V5, "ends")
        };
        let mut client = gateway.connect(brief.clone());
        assert!(client.session_present());
        client.disconnect();
        assert!(!gateway.connect(brief).session_present());
    });
}

/// [MQTT-4.1.0-1], [MQTT-4.1.0-2], [MQTT-3.1.2-23], [3.1.1 MQTT-4.1.0-2]
#[test]
fn mqtt5_4_1_0_2_a_session_is_discarded_when_its_expiry_has_passed_and_not_before() {
    at_once_in_every_layout(|gateway| {
        let for_a_second = |client_id| ConnectOptions {
            session_expiry_interval: 1,
            ..lasting(V5, client_id)
        };
        let mut stays = gateway.connect(for_a_second("stays"));
        stays.subscribe("expiry", AtLeastOnce);
        // One of 3.1.1 lasts as long as its connection, too.
        let mut clean = gateway.client_v3("clean");
        clean.subscribe("expiry", AtLeastOnce);
        let mut leaves = gateway.connect(for_a_second("leaves"));
        leaves.subscribe("expiry", AtLeastOnce);
        let mut returns = gateway.connect(lasting(V5, "returns"));
        returns.subscribe("expiry", AtLeastOnce);
        leaves.disconnect();
        returns.disconnect();
        assert_eq!(gateway.total(|shard| shard.router.sessions_offline), 2);
        gateway.await_total(1, |shard| shard.router.sessions_expired_total);
        gateway
            .client("publisher")
            .publish("expiry", "late", AtLeastOnce);
        // Connected for longer than its expiry.
        assert_eq!(stays.expect_publish().text(), "late");
        assert_eq!(clean.expect_publish().text(), "late");
        let mut leaves = gateway.connect(for_a_second("leaves"));
        assert!(!leaves.session_present());
        leaves.expect_silence();
        let mut returns = gateway.connect(lasting(V5, "returns"));
        assert!(returns.session_present());
        assert_eq!(returns.expect_publish().text(), "late");
    });
}

/// MQTT 5 section 3.14.2.2.2: DISCONNECT may change how long the session lasts, but not give life to one that
/// was to end.
#[test]
fn mqtt5_3_14_2_2_2_disconnect_may_change_the_expiry() {
    for_every_layout(|gateway| {
        let with_expiry = |seconds: u8| packet(0xe0, &[&[0, 5, 0x11, 0, 0, 0, seconds]]);
        let lasting =
            |seconds| connect_with(V5, 0, &[&[0x11, 0, 0, 0, seconds]], &[&text("changes")]);
        let (mut raw, _) = Raw::accepted(gateway, &lasting(60));
        raw.send(with_expiry(0));
        raw.expect_closed();
        let (mut raw, connack) = Raw::accepted(gateway, &lasting(1));
        assert_eq!(connack[2], 0, "the session has ended");
        raw.send(with_expiry(60));
        raw.expect_closed();
        let (mut raw, connack) = Raw::accepted(gateway, &lasting(0));
        assert_eq!(connack[2], 1, "the session is kept");
        raw.send(with_expiry(1));
        raw.expect([0xe0, 1, 0x82]);
        raw.expect_closed();
        let (_, connack) = Raw::accepted(gateway, &lasting(0));
        assert_eq!(connack[2], 0, "it ended with its connection");
    });
}

/// The expiry is capped, and the cap announced (MQTT 5 section 3.2.2.3.2).
#[test]
fn mqtt5_3_2_2_3_2_a_capped_expiry_is_announced() {
    for_every_layout(|gateway| {
        let month = 30 * 24 * 3_600;
        for (asked, announced) in [
            (60, None),
            (month, None),
            (month + 1, Some(month)),
            (u32::MAX, Some(month)),
        ] {
            let options = ConnectOptions {
                session_expiry_interval: asked,
                ..options(V5, "capped")
            };
            assert_eq!(
                gateway.connect(options).connack().session_expiry_interval,
                announced
            );
        }
    });
}

/// [3.1.1 MQTT-3.1.2-4], [MQTT-3.1.2-5]: the versions share one session; 3.1.1 sessions do not expire.
#[test]
fn mqtt311_3_1_2_4_a_session_may_be_resumed_with_another_version() {
    for_every_layout(|gateway| {
        let mut client = gateway.connect(lasting(V3_1_1, "upgrades"));
        client.subscribe("versions", ExactlyOnce);
        client.disconnect();
        let mut publisher = gateway.client("publisher");
        publisher.publish("versions", "one", ExactlyOnce);
        let mut client = gateway.connect(lasting(V5, "upgrades"));
        assert!(client.session_present());
        let publication = client.take_publish();
        assert_eq!(publication.text(), "one");
        client.vanish();
        let mut client = gateway.connect(lasting(V3_1_1, "upgrades"));
        assert!(client.session_present());
        client.expect_packet(Packet::Publish(Publication {
            dup: true,
            ..publication
        }));
    });
}

/// [MQTT-3.1.2-5], [MQTT-4.4.0-1]: many messages of many topics survive many connections, each once and in order.
#[test]
fn mqtt5_4_4_0_1_a_client_that_comes_and_goes_misses_nothing() {
    for_every_layout(|gateway| {
        let mut client = gateway.connect(lasting(V5, "restless"));
        client.subscribe("restless/+", ExactlyOnce);
        let mut publisher = gateway.client("publisher");
        let mut next = 0;
        for round in 0..10 {
            for n in 0..10 {
                let text = format!("{}", round * 10 + n);
                assert_eq!(publisher.publish("restless/x", text, ExactlyOnce), Success);
            }
            for _ in 0..7 {
                assert_eq!(client.expect_publish().text(), format!("{next}"));
                next += 1;
            }
            client.fence();
            client.vanish();
            client = gateway.connect(lasting(V5, "restless"));
            assert!(client.session_present());
        }
        while next < 100 {
            assert_eq!(client.expect_publish().text(), format!("{next}"));
            next += 1;
        }
        client.expect_silence();
    });
}

/// [MQTT-3.1.2-5]: what the session held is bounded; the oldest message goes, and the newest stay.
#[test]
fn a_sleeping_session_keeps_the_newest_messages() {
    let small = |settings: &mut NodeSettings| settings.shard.queue_messages_max = 10;
    for_every_layout_with(small, |gateway| {
        let mut client = gateway.connect(lasting(V5, "sleeps"));
        client.subscribe("sleeps", AtLeastOnce);
        client.disconnect();
        let mut publisher = gateway.client("publisher");
        for n in 0..25 {
            assert_eq!(
                publisher.publish("sleeps", format!("{n}"), AtLeastOnce),
                Success
            );
        }
        let mut client = gateway.connect(lasting(V5, "sleeps"));
        let expected: Vec<_> = (15..25).map(|n| format!("{n}")).collect();
        assert_eq!(client.expect_texts(10), expected);
        client.expect_silence();
    });
}
