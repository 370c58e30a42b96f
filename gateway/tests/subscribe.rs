//! SUBSCRIBE, SUBACK and matching (MQTT 5 and 3.1.1 sections 3.8, 3.9 and 4.7).

mod support;

use support::*;
use ReasonCode::{GrantedQos1, GrantedQos2, QuotaExceeded, Success, TopicFilterInvalid};

const QOS: [Qos; 3] = [AtMostOnce, AtLeastOnce, ExactlyOnce];

/// [MQTT-3.8.4-1], [MQTT-3.8.4-2], [MQTT-3.8.4-6], [MQTT-3.8.4-7], [MQTT-2.2.1-6], [MQTT-2.2.2-1], [MQTT-3.9.3-2],
/// [3.1.1 MQTT-3.8.4-1], [3.1.1 MQTT-3.8.4-2], [3.1.1 MQTT-2.3.1-7], [3.1.1 MQTT-3.9.3-2]
#[test]
fn mqtt5_3_8_4_2_suback_bears_the_packet_id_and_the_granted_qos() {
    for_every_layout(|gateway| {
        let mut new = Raw::connected(gateway, V5, "new");
        let mut old = Raw::connected(gateway, V3_1_1, "old");
        for (id, qos) in [(0x0001u16, 0u8), (0x1234, 1), (0xffff, 2)] {
            new.send(packet(
                0x82,
                &[&id.to_be_bytes(), &[0], &text("some/filter"), &[qos]],
            ));
            new.expect(packet(0x90, &[&id.to_be_bytes(), &[0, qos]]));
            old.send(packet(
                0x82,
                &[&id.to_be_bytes(), &text("some/filter"), &[qos]],
            ));
            old.expect(packet(0x90, &[&id.to_be_bytes(), &[qos]]));
        }
    });
}

/// [MQTT-3.8.4-5], [MQTT-3.8.4-6], [MQTT-3.8.4-7], [MQTT-3.9.3-1], [MQTT-3.9.3-2], [3.1.1 MQTT-3.8.4-4],
/// [3.1.1 MQTT-3.8.4-5], [3.1.1 MQTT-3.9.3-1]
#[test]
fn mqtt5_3_8_4_5_many_filters_are_answered_by_one_suback_in_their_order() {
    for_every_layout(|gateway| {
        let filters = [
            "many/a",
            "many/+/b",
            "#",
            "many/a",
            "$share/g/many/c",
            "+/d",
            "many/e/#",
        ];
        let options: Vec<_> = filters
            .iter()
            .zip([2, 0, 1, 1, 2, 0, 2])
            .map(|(f, q)| (*f, at(QOS[q])))
            .collect();
        let expected = [
            GrantedQos2,
            Success,
            GrantedQos1,
            GrantedQos1,
            GrantedQos2,
            Success,
            GrantedQos2,
        ];
        for version in [V3_1_1, V5] {
            let mut client = gateway.connect(support::options(version, "many"));
            assert_eq!(client.subscribe_with(&options, None), expected);
            // The later of two equal filters counts.
            gateway
                .client("publisher")
                .publish("many/a", "x", ExactlyOnce);
            assert_eq!(client.expect_publish().qos, AtLeastOnce);
            client.expect_silence();
        }
    });
}

/// [MQTT-3.9.3-1], [MQTT-3.9.3-2], [MQTT-3.8.4-7], [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1], [MQTT-4.8.2-1],
/// [MQTT-4.8.2-2]: a filter that is none fails, those beside it do not.
#[test]
fn mqtt5_3_9_3_1_a_filter_that_is_none_fails_alone() {
    for_every_layout(|gateway| {
        let mut client = gateway.client("client");
        for bad in [
            "",
            "a#",
            "#/a",
            "a/#/b",
            "a/b#",
            "+a",
            "a+",
            "a/+b/c",
            "a/b+",
            "##",
            "++",
            "#+",
            "a/##",
            "$share",
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/g+/a",
            "$share/#/a",
            "$share/+/a",
            "$share/g/a#",
            "$share/g/#/a",
        ] {
            let all = [
                ("good/1", at(AtLeastOnce)),
                (bad, at(AtMostOnce)),
                ("good/2", at(AtMostOnce)),
            ];
            let reasons = client.subscribe_with(&all, None);
            assert_eq!(
                reasons,
                [GrantedQos1, TopicFilterInvalid, Success],
                "{bad:?}"
            );
        }
    });
}

/// [MQTT-3.8.4-8], [3.1.1 MQTT-3.8.4-6]
#[test]
fn mqtt5_3_8_4_8_the_lower_qos_of_publisher_and_subscription_holds() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            for granted in QOS {
                let mut subscriber = gateway.connect(options(version, "subscriber"));
                subscriber.subscribe("lower/qos", granted);
                let mut publisher = gateway.client("publisher");
                for published in QOS {
                    publisher.publish("lower/qos", "x", published);
                    assert_eq!(subscriber.expect_publish().qos, granted.min(published));
                }
                subscriber.expect_silence();
            }
        }
    });
}

/// [MQTT-3.8.4-3], [3.1.1 MQTT-3.8.4-3]
#[test]
fn mqtt5_3_8_4_3_an_identical_filter_replaces_the_subscription() {
    for_every_layout(|gateway| {
        for filter in ["replaced/topic", "replaced/#", "+/topic"] {
            for version in [V3_1_1, V5] {
                let mut subscriber = gateway.connect(options(version, "subscriber"));
                let mut publisher = gateway.client("publisher");
                for qos in [ExactlyOnce, AtMostOnce, AtLeastOnce] {
                    subscriber.subscribe(filter, qos);
                    publisher.publish("replaced/topic", "x", ExactlyOnce);
                    assert_eq!(subscriber.expect_publish().qos, qos);
                    subscriber.expect_silence();
                }
                subscriber.unsubscribe(&[filter]);
                publisher.publish("replaced/topic", "x", ExactlyOnce);
                subscriber.expect_silence();
            }
        }
    });
}

/// [MQTT-3.8.4-4], [3.1.1 MQTT-3.8.4-3]: nothing is lost, and nothing comes twice, while a subscription is being
/// replaced.
#[test]
fn mqtt5_3_8_4_4_replacing_a_subscription_loses_no_message() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let mut subscriber = gateway.connect(options(version, "subscriber"));
            subscriber.subscribe("steady/#", AtLeastOnce);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut publisher = gateway.client("publisher");
                    for n in 0..200 {
                        publisher.publish("steady/topic", format!("{n}"), AtLeastOnce);
                    }
                });
                for round in 0..20u32 {
                    let id = (version == V5).then_some(round + 1);
                    subscriber.subscribe_with(&[("steady/#", at(AtLeastOnce))], id);
                }
            });
            for n in 0..200 {
                assert_eq!(subscriber.expect_publish().text(), format!("{n}"));
            }
            subscriber.expect_silence();
        }
    });
}

/// [MQTT-3.8.3-3]
#[test]
fn mqtt5_3_8_3_3_no_local_keeps_a_clients_own_messages_away() {
    for_every_layout(|gateway| {
        let no_local = SubscriptionOptions {
            no_local: true,
            ..at(ExactlyOnce)
        };
        let mut own = gateway.client("own");
        own.try_subscribe("local/topic", no_local);
        own.try_subscribe("local/wild/#", no_local);
        own.try_subscribe("+/elsewhere", no_local);
        let mut other = gateway.client("other");
        for topic in ["local/topic", "local/wild/x", "any/elsewhere"] {
            for qos in QOS {
                own.publish(topic, "own", qos);
                other.publish(topic, "other", qos);
                let publication = own.expect_publish();
                assert_eq!((publication.text(), publication.qos), ("other", qos));
            }
            own.expect_silence();
        }
        // Through another subscription the client has, its messages come.
        own.subscribe("local/+", AtMostOnce);
        own.publish("local/topic", "own", ExactlyOnce);
        assert_eq!(own.expect_publish().qos, AtMostOnce);
        // A later SUBSCRIBE takes the option back.
        own.unsubscribe(&["local/+"]);
        own.subscribe("local/topic", AtLeastOnce);
        own.publish("local/topic", "own", ExactlyOnce);
        assert_eq!(own.expect_publish().text(), "own");
        own.expect_silence();
    });
}

/// [MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4], [3.1.1 MQTT-3.3.5-1]
#[test]
fn mqtt5_3_3_4_2_overlapping_subscriptions_give_one_copy_at_the_highest_qos_with_all_identifiers() {
    for_every_layout(|gateway| {
        let mut new = gateway.client("new");
        let filters = [
            ("over/lap", AtMostOnce, Some(1)),
            ("over/+", ExactlyOnce, Some(268_435_455)),
            ("over/#", AtLeastOnce, None),
            ("#", AtLeastOnce, Some(300)),
            ("+/lap", AtMostOnce, Some(1)),
            ("over/other", ExactlyOnce, Some(4)),
        ];
        let mut old = gateway.client_v3("old");
        for (filter, qos, id) in filters {
            new.subscribe_with(&[(filter, at(qos))], id);
            old.subscribe(filter, qos);
        }
        let mut publisher = gateway.client("publisher");
        for qos in QOS {
            publisher.publish("over/lap", "x", qos);
            let publication = new.expect_publish();
            let mut ids = publication.subscription_ids.clone();
            ids.sort();
            ids.dedup();
            assert_eq!((publication.qos, ids), (qos, vec![1, 300, 268_435_455]));
            assert_eq!(old.expect_publish().qos, qos);
        }
        new.expect_silence();
        old.expect_silence();
    });
}

/// [MQTT-3.3.4-3], [MQTT-3.8.4-3]: an identifier belongs to one SUBSCRIBE, also on what waited or is retained.
#[test]
fn mqtt5_3_3_4_3_subscription_identifiers_follow_their_subscription() {
    for_every_layout(|gateway| {
        let lasting = |clean_start| ConnectOptions {
            clean_start,
            session_expiry_interval: 60,
            ..options(V5, "identified")
        };
        let mut publisher = gateway.client("publisher");
        publisher.publish_retained("ident/retained", "kept", AtLeastOnce);
        let mut client = gateway.connect(lasting(true));
        client.subscribe_with(
            &[("ident/#", at(AtLeastOnce)), ("other/#", at(AtLeastOnce))],
            Some(7),
        );
        assert_eq!(client.expect_publish().subscription_ids, [7]);
        publisher.publish("other/x", "x", AtLeastOnce);
        assert_eq!(client.expect_publish().subscription_ids, [7]);
        client.disconnect();
        publisher.publish("ident/x", "x", AtLeastOnce);
        let mut client = gateway.connect(lasting(false));
        assert_eq!(client.expect_publish().subscription_ids, [7]);
        let no_retained = SubscriptionOptions {
            retain_handling: RetainHandling::DoNotSend,
            ..at(AtLeastOnce)
        };
        client.subscribe_with(&[("ident/#", no_retained)], Some(8));
        publisher.publish("ident/x", "x", AtLeastOnce);
        assert_eq!(client.expect_publish().subscription_ids, [8]);
        client.subscribe_with(&[("ident/#", no_retained)], None);
        publisher.publish("ident/x", "x", AtLeastOnce);
        assert_eq!(client.expect_publish().subscription_ids, [0; 0]);
    });
}

/// Everything [`mqtt5_4_7_1_filters_match_what_the_standard_says`] publishes to.
const TOPICS: [&str; 21] = [
    "sport",
    "sport/",
    "sport/tennis",
    "sport/tennis/player1",
    "sport/tennis/player1/ranking",
    "sport/tennis/player1/score/wimbledon",
    "sport/tennis/player2",
    "/finance",
    "finance",
    "/",
    "//",
    "a//b",
    "a/b",
    "A/b",
    "a/ b",
    "a/\u{e9}",
    "a/e\u{301}",
    "\u{feff}a/b",
    "sport/$x",
    "x",
    "a/b/c/d/e/f/g",
];

/// [MQTT-3.3.2-3], [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1], [MQTT-4.7.3-4], [MQTT-1.5.4-3],
/// [3.1.1 MQTT-3.3.2-3], [3.1.1 MQTT-4.7.1-2], [3.1.1 MQTT-4.7.1-3], [3.1.1 MQTT-4.7.3-1], [3.1.1 MQTT-4.7.3-4],
/// [3.1.1 MQTT-3.8.3-2], [3.1.1 MQTT-1.5.3-3]
#[test]
fn mqtt5_4_7_1_filters_match_what_the_standard_says() {
    for_every_layout(|gateway| {
        let mut publisher = gateway.client("publisher");
        for (filter, expected) in [
            ("sport/tennis/player1/#", &[3, 4, 5][..]),
            ("sport/#", &[0, 1, 2, 3, 4, 5, 6, 18]),
            ("sport/tennis/+", &[3, 6]),
            ("sport/+", &[1, 2, 18]),
            ("sport/+/player1", &[3]),
            ("+/tennis/#", &[2, 3, 4, 5, 6]),
            ("+", &[0, 8, 19]),
            ("+/+", &[1, 2, 7, 9, 12, 13, 14, 15, 16, 17, 18]),
            ("/+", &[7, 9]),
            ("/#", &[7, 9, 10]),
            ("a/+/b", &[11]),
            ("a//b", &[11]),
            ("a/b", &[12]),
            ("A/b", &[13]),
            ("a/ b", &[14]),
            ("a/\u{e9}", &[15]),
            ("a/e\u{301}", &[16]),
            ("\u{feff}a/b", &[17]),
            ("sport/$x", &[18]),
            ("/", &[9]),
            ("//", &[10]),
            ("+/+/+", &[3, 6, 10, 11]),
            ("a/b/c/d/e/f/g", &[20]),
            ("a/+/c/+/e/+/g", &[20]),
            ("finance", &[8]),
        ] {
            for version in [V3_1_1, V5] {
                let mut subscriber = gateway.connect(options(version, "subscriber"));
                subscriber.subscribe(filter, AtMostOnce);
                let mut last = 0;
                for (n, topic) in TOPICS.iter().enumerate() {
                    last = publisher.send_publish(topic, format!("{n}"), AtLeastOnce);
                }
                publisher.expect_puback(last);
                let mut got: Vec<_> = (0..expected.len())
                    .map(|_| subscriber.expect_publish())
                    .map(|got| (got.text().parse::<usize>().unwrap(), got.topic))
                    .collect();
                got.sort();
                let expected: Vec<_> = expected
                    .iter()
                    .map(|&n| (n, TOPICS[n].to_owned()))
                    .collect();
                assert_eq!(got, expected, "{filter}");
                subscriber.expect_silence();
            }
        }
    });
}

/// [MQTT-4.7.2-1], [3.1.1 MQTT-4.7.2-1]
#[test]
fn mqtt5_4_7_2_1_leading_wildcards_do_not_match_dollar_topics() {
    for_every_layout(|gateway| {
        let mut clients = [V3_1_1, V5].map(|version| {
            let mut client = gateway.connect(options(version, &format!("{version:?}")));
            for filter in ["#", "+/+", "+/a/#", "+", "/#"] {
                client.subscribe(filter, AtLeastOnce);
            }
            client
        });
        let mut publisher = gateway.client("publisher");
        for topic in ["$SYS/x", "$dollar/a", "$dollar/a/b", "$", "$p2p/nobody"] {
            assert_eq!(
                publisher.publish(topic, "x", AtLeastOnce),
                ReasonCode::NoMatchingSubscribers
            );
        }
        publisher.publish("a/$b", "x", AtLeastOnce);
        for client in &mut clients {
            assert_eq!(client.expect_publish().topic, "a/$b");
            client.expect_silence();
        }
    });
}

/// [MQTT-4.7.3-3], [3.1.1 MQTT-4.7.3-3]: a topic may be as long as its length field can say, where it is allowed.
#[test]
fn mqtt5_4_7_3_3_topics_of_65535_bytes_pass() {
    let generous = |settings: &mut NodeSettings| {
        std::sync::Arc::make_mut(&mut settings.mqtt).topic.bytes_max = 65_535;
    };
    for_every_layout_with(generous, |gateway| {
        let long = format!("long/{}", "x".repeat(65_530));
        for version in [V3_1_1, V5] {
            let mut client = gateway.connect(options(version, "client"));
            client.subscribe(&long, AtLeastOnce);
            client.publish(&long, "x", AtLeastOnce);
            assert_eq!(client.expect_publish().topic, long);
        }
    });
}

/// [MQTT-3.9.3-2], [3.1.1 MQTT-3.9.3-2], [MQTT-3.8.4-7]: beyond its quota a client is refused, filter by filter,
/// and may go on when it has given one back.
#[test]
fn mqtt5_3_9_3_2_subscriptions_above_the_quota_are_refused() {
    let few = |settings: &mut NodeSettings| {
        settings.shard.subscriptions_max = 3;
        settings.shard.replicated_filters_max = 1;
    };
    for_every_layout_with(few, |gateway| {
        let mut new = gateway.client("new");
        assert_eq!(new.try_subscribe("#", at(AtMostOnce)), Success);
        assert_eq!(new.try_subscribe("+/wide", at(AtMostOnce)), QuotaExceeded);
        let all = ["q/1", "q/2", "q/3", "q/1"].map(|filter| (filter, at(AtLeastOnce)));
        let expected = [GrantedQos1, GrantedQos1, QuotaExceeded, GrantedQos1];
        assert_eq!(new.subscribe_with(&all, None), expected);
        new.unsubscribe(&["q/1"]);
        assert_eq!(new.try_subscribe("q/3", at(AtMostOnce)), Success);
        let mut old = Raw::connected(gateway, V3_1_1, "old");
        let filters: Vec<_> = (b'1'..=b'4')
            .flat_map(|n| [0, 3, b'q', b'/', n, 1])
            .collect();
        old.send(packet(0x82, &[&[0, 1], &filters]));
        old.expect([0x90, 6, 0, 1, 1, 1, 1, 0x80]);
    });
}
