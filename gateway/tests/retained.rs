//! Retained messages (MQTT 5 sections 3.3.1.3 and 3.8.3.1, 3.1.1 section 3.3.1.3).

mod support;

use support::*;

const QOS: [Qos; 3] = [AtMostOnce, AtLeastOnce, ExactlyOnce];

fn handling(retain_handling: RetainHandling) -> SubscriptionOptions {
    SubscriptionOptions {
        retain_handling,
        ..at(ExactlyOnce)
    }
}

/// A fresh client that subscribes to `filter` gets exactly these messages (topic, payload), in any order.
fn newcomer_gets(
    gateway: &Gateway,
    version: ProtocolVersion,
    filter: &str,
    expected: &[(&str, &str)],
) {
    let mut newcomer = gateway.connect(options(version, "newcomer"));
    newcomer.subscribe(filter, ExactlyOnce);
    let mut got: Vec<_> = (0..expected.len())
        .map(|_| newcomer.expect_publish())
        .inspect(|publication| assert!(publication.retain && !publication.dup))
        .map(|publication| (publication.topic.clone(), publication.text().to_owned()))
        .collect();
    got.sort();
    let mut expected: Vec<_> = expected
        .iter()
        .map(|(topic, text)| (topic.to_string(), text.to_string()))
        .collect();
    expected.sort();
    assert_eq!(got, expected, "{filter}");
    // Retained messages are asked for behind SUBACK; a live one comes behind all of them.
    newcomer.subscribe("fence", AtMostOnce);
    newcomer.publish("fence", "fence", AtLeastOnce);
    assert_eq!(newcomer.expect_publish().topic, "fence");
    newcomer.expect_silence();
}

/// [MQTT-3.3.1-5], [MQTT-3.3.1-8], [MQTT-3.3.1-9], [3.1.1 MQTT-3.3.1-5], [3.1.1 MQTT-3.3.1-6],
/// [3.1.1 MQTT-3.3.1-7], [3.1.1 MQTT-3.3.1-8], [3.1.1 MQTT-3.3.1-12]
#[test]
fn mqtt5_3_3_1_5_the_last_retained_message_of_a_topic_is_kept() {
    for_every_layout(|gateway| {
        let mut publisher = gateway.client("publisher");
        for version in [V3_1_1, V5] {
            for qos in QOS {
                publisher.publish_retained("kept/topic", "first", ExactlyOnce);
                publisher.publish_retained("kept/topic", format!("{qos:?}"), qos);
                publisher.publish("kept/topic", "not retained", qos);
                publisher.publish("kept/topic", "", qos);
                // A live message of QoS 1 is acknowledged behind those of QoS 0 on its topic.
                publisher.publish("kept/topic", "fence", AtLeastOnce);
                let expected = [("kept/topic", &*format!("{qos:?}"))];
                for filter in ["kept/topic", "kept/+", "kept/#", "+/topic", "#"] {
                    newcomer_gets(gateway, version, filter, &expected);
                }
                newcomer_gets(gateway, version, "kept", &[]);
                newcomer_gets(gateway, version, "kept/topic/+", &[]);
            }
        }
    });
}

/// [MQTT-3.3.1-6], [MQTT-3.3.1-7], [3.1.1 MQTT-3.3.1-10], [3.1.1 MQTT-3.3.1-11]
#[test]
fn mqtt5_3_3_1_6_an_empty_message_clears_and_is_delivered_as_any_other() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            for qos in QOS {
                let mut publisher = gateway.connect(options(version, "publisher"));
                publisher.publish_retained("clear/topic", "kept", AtLeastOnce);
                publisher.publish_retained("clear/other", "kept", AtLeastOnce);
                let mut subscriber = gateway.connect(options(version, "subscriber"));
                subscriber.subscribe("clear/topic", AtLeastOnce);
                assert_eq!(subscriber.expect_publish().text(), "kept");
                publisher.publish_retained("clear/topic", "", qos);
                let publication = subscriber.expect_publish();
                assert_eq!((publication.text(), publication.retain), ("", false));
                newcomer_gets(gateway, version, "clear/#", &[("clear/other", "kept")]);
                // Clearing what is not there stores nothing either.
                publisher.publish_retained("clear/topic", "", AtLeastOnce);
                newcomer_gets(gateway, version, "clear/topic", &[]);
            }
        }
    });
}

/// [MQTT-3.3.1-12], [MQTT-3.3.1-13], [3.1.1 MQTT-3.3.1-9]
#[test]
fn mqtt5_3_3_1_12_retain_is_cleared_for_subscriptions_that_do_not_ask_for_it() {
    for_every_layout(|gateway| {
        let as_published = SubscriptionOptions {
            retain_as_published: true,
            ..at(AtLeastOnce)
        };
        let mut plain = gateway.client("plain");
        plain.subscribe("rap/#", AtLeastOnce);
        let mut old = gateway.client_v3("old");
        old.subscribe("rap/#", AtLeastOnce);
        let mut exact = gateway.client("exact");
        exact.try_subscribe("rap/#", as_published);
        let mut both = gateway.client("both");
        both.subscribe("rap/#", AtLeastOnce);
        both.try_subscribe("rap/+", as_published);
        let mut publisher = gateway.client("publisher");
        for qos in QOS {
            for retain in [true, false] {
                publisher.publish_with("rap/topic", "x", qos, retain, &[]);
                assert!(!plain.expect_publish().retain);
                assert!(!old.expect_publish().retain);
                assert_eq!(exact.expect_publish().retain, retain);
                assert_eq!(both.expect_publish().retain, retain);
            }
        }
    });
}

/// [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11], [MQTT-3.8.4-4]
#[test]
fn mqtt5_3_3_1_10_retain_handling_says_when_retained_messages_are_sent() {
    use RetainHandling::{DoNotSend, SendAtNewSubscribe, SendAtSubscribe};
    for_every_layout(|gateway| {
        gateway
            .client("publisher")
            .publish_retained("handling/topic", "kept", ExactlyOnce);
        for filter in ["handling/topic", "handling/#", "+/topic"] {
            for (n, (first, second, counts)) in [
                (SendAtSubscribe, SendAtSubscribe, [1, 1]),
                (SendAtNewSubscribe, SendAtNewSubscribe, [1, 0]),
                (DoNotSend, DoNotSend, [0, 0]),
                (DoNotSend, SendAtNewSubscribe, [0, 0]),
                (DoNotSend, SendAtSubscribe, [0, 1]),
                (SendAtNewSubscribe, SendAtSubscribe, [1, 1]),
            ]
            .into_iter()
            .enumerate()
            {
                let mut client = gateway.client(&format!("client-{n}"));
                client.subscribe("fence", AtMostOnce);
                for (options, count) in [first, second].into_iter().zip(counts) {
                    client.try_subscribe(filter, handling(options));
                    for _ in 0..count {
                        let publication = client.expect_publish();
                        assert_eq!((publication.text(), publication.retain), ("kept", true));
                    }
                    client.publish("fence", "fence", AtLeastOnce);
                    assert_eq!(
                        client.expect_publish().text(),
                        "fence",
                        "{first:?} {second:?}"
                    );
                }
                // Unsubscribed, it is new again.
                client.unsubscribe(&[filter]);
                client.try_subscribe(filter, handling(SendAtNewSubscribe));
                assert_eq!(client.expect_publish().text(), "kept");
            }
        }
    });
}

/// [3.1.1 MQTT-3.8.4-3]: re-subscribing sends retained messages again.
#[test]
fn mqtt311_3_8_4_3_subscribing_again_sends_what_is_retained_again() {
    for_every_layout(|gateway| {
        gateway
            .client("publisher")
            .publish_retained("again/topic", "kept", AtLeastOnce);
        let mut client = gateway.client_v3("client");
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            client.subscribe("again/#", qos);
            let publication = client.expect_publish();
            assert!(publication.retain);
            assert_eq!(
                (publication.text(), publication.qos),
                ("kept", qos.min(AtLeastOnce))
            );
        }
    });
}

/// [MQTT-3.8.4-8], [MQTT-3.3.1-5], [3.1.1 MQTT-3.3.1-5]: the QoS is stored too.
#[test]
fn mqtt5_3_8_4_8_a_retained_message_has_the_lower_qos_of_both() {
    for_every_layout(|gateway| {
        let mut publisher = gateway.client("publisher");
        for published in QOS {
            publisher.publish_retained("lower", "kept", published);
            publisher.publish("lower", "fence", AtLeastOnce);
            for (version, granted) in [V3_1_1, V5]
                .into_iter()
                .flat_map(|v| QOS.map(|qos| (v, qos)))
            {
                let mut client = gateway.connect(options(version, "client"));
                client.subscribe("lower", granted);
                assert_eq!(client.expect_publish().qos, published.min(granted));
            }
        }
    });
}

/// [MQTT-3.3.1-9], [3.1.1 MQTT-3.3.1-6]: all matching ones, from all owners, each once; also more than fit at once.
#[test]
fn mqtt5_3_3_1_9_a_wildcard_brings_every_matching_retained_message() {
    for_every_layout(|gateway| {
        let mut publisher = gateway.client("publisher");
        for n in 0..300 {
            publisher.publish_retained(&format!("wide/{n}"), format!("{n}"), AtLeastOnce);
        }
        publisher.publish_retained("$dollar/1", "hidden", AtLeastOnce);
        publisher.publish_retained("narrow/1", "other", AtLeastOnce);
        for (version, filter) in [(V3_1_1, "wide/+"), (V5, "wide/#"), (V5, "+/+")] {
            for qos in [AtMostOnce, ExactlyOnce] {
                let options = ConnectOptions {
                    receive_maximum: 7,
                    ..options(version, "client")
                };
                let mut client = gateway.connect(options);
                client.subscribe(filter, qos);
                let expected = if filter == "+/+" { 301 } else { 300 };
                let mut got: Vec<_> = (0..expected)
                    .map(|_| client.expect_publish().topic)
                    .collect();
                got.sort();
                got.dedup();
                assert_eq!(got.len(), expected, "each once");
                client.expect_silence();
            }
        }
    });
}

/// [3.1.1 MQTT-3.1.2-7], [MQTT-3.3.1-5]: the end of its publisher's session does not end it.
#[test]
fn mqtt311_3_1_2_7_retained_messages_are_no_part_of_a_session() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let mut publisher = gateway.connect(options(version, "publisher"));
            publisher.publish_retained("outlives", "kept", AtLeastOnce);
            publisher.disconnect();
            gateway.await_total(0, |shard| shard.router.sessions_online);
            newcomer_gets(gateway, version, "outlives", &[("outlives", "kept")]);
        }
    });
}

/// The bound holds: a new topic is delivered and not kept, a kept one may still change.
#[test]
fn retained_messages_above_their_bound_are_delivered_and_not_kept() {
    let few = |settings: &mut NodeSettings| settings.shard.retained_messages_max = 2;
    in_one_layout_with(few, |gateway| {
        let mut witness = gateway.client("witness");
        witness.subscribe("bound/#", AtMostOnce);
        let mut publisher = gateway.client("publisher");
        // All of one owner, where the bound is the slice's.
        for topic in ["bound/x/1", "bound/x/2", "bound/x/3", "bound/x/2"] {
            publisher.publish_retained(topic, "new", AtLeastOnce);
            assert_eq!(witness.expect_publish().topic, topic);
        }
        newcomer_gets(
            gateway,
            V5,
            "bound/#",
            &[("bound/x/1", "new"), ("bound/x/2", "new")],
        );
    });
}
