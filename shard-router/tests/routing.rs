//! Messages between shards: order, acknowledgements, credits, bounds. Each story with one, two and eight shards
//! where the number matters.

mod support;

use support::{message, options, Options, Sent, World};
use tidegate_codec::mqtt::subscribe::{RetainHandling, SubscriptionOptions};
use tidegate_codec::Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use tidegate_codec::ReasonCode;
use tidegate_shard_router::{Departure, DropReason, ShardConfig};

fn for_shards(story: impl Fn(World)) {
    for shards in [1, 2, 8] {
        story(World::new(shards));
    }
}

#[test]
fn a_message_reaches_subscribers_on_all_shards_once() {
    for_shards(|mut world| {
        let publisher = world.connect("publisher");
        let subscribers: Vec<_> = (0..20).map(|i| world.connect(&format!("s{i}"))).collect();
        for (i, &subscriber) in subscribers.iter().enumerate() {
            let filter = ["a/b/c", "a/b/+", "#", "+/b/c"][i % 4];
            world.subscribe(subscriber, filter, AtLeastOnce);
        }
        for (qos, id) in [(AtMostOnce, 0), (AtLeastOnce, 1), (ExactlyOnce, 2)] {
            world.publish(publisher, "a/b/c", "x", qos, id);
            for &subscriber in &subscribers {
                assert_eq!(world.payloads(subscriber), ["x"]);
            }
        }
        assert_eq!(world.acks(publisher), ["PUBACK 1", "PUBREC 2"]);
    });
}

#[test]
fn nobody_to_deliver_to_is_said() {
    for_shards(|mut world| {
        let publisher = world.connect("publisher");
        world.publish(publisher, "a/b/c", "x", AtLeastOnce, 1);
        world.publish(publisher, "$p2p/nobody", "x", AtLeastOnce, 2);
        let expected = [
            "PUBACK 1 NoMatchingSubscribers",
            "PUBACK 2 NoMatchingSubscribers",
        ];
        assert_eq!(world.acks(publisher), expected);
    });
}

#[test]
fn mqtt5_4_6_0_2_acknowledgements_keep_the_order_of_receipt_across_shards() {
    let mut world = World::new(2);
    let publisher = world.connect(&world.id_on(0, "p"));
    let near = world.topic_on(0, "near");
    let far = world.topic_on(1, "far");
    // The near message is decided at once, the far one only after shard 1 has answered.
    world.post(publisher, message(&far, "1", AtLeastOnce), 1);
    world.post(publisher, message(&near, "2", AtLeastOnce), 2);
    assert_eq!(world.acks(publisher), Vec::<String>::new());
    world.settle();
    let acks = world.acks(publisher);
    assert!(
        acks[0].starts_with("PUBACK 1") && acks[1].starts_with("PUBACK 2"),
        "{acks:?}"
    );
}

#[test]
fn a_puback_waits_until_the_subscriber_s_shard_holds_the_message() {
    let mut world = World::new(2);
    let publisher = world.connect(&world.id_on(0, "p"));
    let subscriber = world.connect(&world.id_on(1, "s"));
    let topic = world.topic_on(0, "t");
    world.subscribe(subscriber, &topic, AtLeastOnce);
    world.post(publisher, message(&topic, "x", AtLeastOnce), 1);
    world.step(0, 64);
    assert_eq!(world.acks(publisher), Vec::<String>::new());
    world.step(1, 64);
    assert_eq!(world.payloads(subscriber), ["x"]);
    assert_eq!(world.acks(publisher), Vec::<String>::new());
    world.step(0, 64);
    assert_eq!(world.acks(publisher), ["PUBACK 1"]);
}

#[test]
fn suback_waits_for_the_slice_owner_and_reading_pauses() {
    let mut world = World::new(2);
    let subscriber = world.connect(&world.id_on(0, "s"));
    let topic = world.topic_on(1, "t");
    world.subscribe_with(subscriber, &topic, options(AtLeastOnce), None);
    assert!(world.wire(subscriber).paused);
    assert_eq!(world.acks(subscriber), Vec::<String>::new());
    world.settle();
    assert_eq!(world.acks(subscriber), ["SUBACK 900 [GrantedQos1]"]);
    assert!(!world.wire(subscriber).paused);
}

/// [MQTT-3.10.4-2], [MQTT-3.10.4-5]
#[test]
fn nothing_is_delivered_after_unsuback() {
    for_shards(|mut world| {
        let publisher = world.connect("p");
        let subscriber = world.connect("s");
        world.subscribe(subscriber, "a/b", AtMostOnce);
        world.unsubscribe(subscriber, "a/b");
        world.publish(publisher, "a/b", "x", AtMostOnce, 0);
        let sent = world.sent(subscriber);
        assert_eq!(sent.len(), 2, "{sent:?}");
        assert_eq!(sent[1], Sent::Ack("UNSUBACK 901 [Success]".into()));
        world.unsubscribe(subscriber, "a/b");
        assert_eq!(
            world.acks(subscriber),
            ["UNSUBACK 901 [NoSubscriptionExisted]"]
        );
    });
}

/// [MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4], [3.1.1 MQTT-3.3.5-1]
#[test]
fn overlapping_subscriptions_give_one_copy_with_the_highest_qos_and_all_identifiers() {
    for_shards(|mut world| {
        let client = world.connect("c");
        world.subscribe_with(client, "a/b", options(AtMostOnce), Some(1));
        world.settle();
        world.subscribe_with(client, "a/+", options(AtLeastOnce), Some(2));
        world.settle();
        world.subscribe_with(client, "#", options(AtMostOnce), None);
        world.settle();
        world.sent(client);
        world.wire(client).subscription_ids.clear();
        world.publish(client, "a/b", "x", AtLeastOnce, 1);
        let publishes: Vec<_> = world.sent(client);
        let is_qos1 = |s: &Sent| {
            matches!(
                s,
                Sent::Publish {
                    qos: AtLeastOnce,
                    ..
                }
            )
        };
        assert_eq!(
            publishes.iter().filter(|sent| is_qos1(sent)).count(),
            1,
            "{publishes:?}"
        );
        let mut ids = world.wire(client).subscription_ids[0].clone();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2]);
    });
}

#[test]
fn mqtt5_3_8_3_3_no_local_keeps_a_client_s_own_messages_from_it() {
    for_shards(|mut world| {
        let client = world.connect("c");
        let other = world.connect("o");
        let no_local = SubscriptionOptions {
            no_local: true,
            ..options(AtMostOnce)
        };
        world.subscribe_with(client, "a/b", no_local, None);
        world.settle();
        world.publish(client, "a/b", "own", AtMostOnce, 0);
        world.publish(other, "a/b", "other", AtMostOnce, 0);
        assert_eq!(world.payloads(client), ["other"]);
    });
}

/// [MQTT-3.3.1-12], [MQTT-3.3.1-13]
#[test]
fn retain_as_published_decides_the_flag_of_live_messages() {
    for_shards(|mut world| {
        let client = world.connect("c");
        let as_published = SubscriptionOptions {
            retain_as_published: true,
            ..options(AtMostOnce)
        };
        world.subscribe_with(client, "a/b", as_published, None);
        world.settle();
        world.subscribe(client, "a/c", AtMostOnce);
        world.sent(client);
        for topic in ["a/b", "a/c"] {
            world.retain(client, topic, "x");
        }
        let flags: Vec<_> = world
            .sent(client)
            .into_iter()
            .filter_map(|sent| match sent {
                Sent::Publish { topic, retain, .. } => Some((topic, retain)),
                _ => None,
            })
            .collect();
        assert_eq!(flags, [("a/b".into(), true), ("a/c".to_owned(), false)]);
    });
}

/// [MQTT-3.3.1-6], [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11], [3.1.1 MQTT-3.3.1-6], [3.1.1 MQTT-3.3.1-8]
#[test]
fn retained_messages_greet_new_subscriptions_according_to_retain_handling() {
    for_shards(|mut world| {
        let client = world.connect("c");
        for i in 0..200 {
            world.retain(client, &format!("r/{i}/x"), &format!("{i}"));
        }
        world.retain(client, "r/7/x", "");
        for (filter, count) in [("r/#", 199), ("r/+/x", 199), ("r/5/x", 1), ("r/7/x", 0)] {
            let subscriber = world.connect("s");
            world.subscribe(subscriber, filter, AtMostOnce);
            let sent = world.sent(subscriber);
            let retained = sent
                .iter()
                .filter(|s| matches!(s, Sent::Publish { retain: true, .. }));
            assert_eq!(retained.count(), count, "{filter}");
        }
        let subscriber = world.connect("s");
        for (handling, expected) in [
            (RetainHandling::DoNotSend, 0),
            (RetainHandling::SendAtNewSubscribe, 0),
            (RetainHandling::SendAtSubscribe, 1),
        ] {
            let options = SubscriptionOptions {
                retain_handling: handling,
                ..options(AtMostOnce)
            };
            world.subscribe_with(subscriber, "r/5/x", options, None);
            world.settle();
            assert_eq!(world.payloads(subscriber).len(), expected, "{handling:?}");
        }
    });
}

#[test]
fn a_replay_waits_for_a_slow_subscriber_and_loses_nothing() {
    for shards in [1, 2] {
        let config = ShardConfig {
            queue_messages_max: 100,
            ..ShardConfig::default()
        };
        let mut world = World::with(shards, config, 1_024);
        let publisher = world.connect("p");
        for i in 0..500 {
            world.retain(publisher, &format!("r/{i:03}/x"), &format!("{i:03}"));
        }
        let subscriber = world.connect("s");
        world.wire(subscriber).room = Some(10);
        world.subscribe(subscriber, "r/#", AtMostOnce);
        let mut got = world.payloads(subscriber);
        while got.len() < 500 {
            world.wire(subscriber).room = Some(10);
            world.writable(subscriber);
            let more = world.payloads(subscriber);
            assert!(!more.is_empty(), "stuck at {}", got.len());
            got.extend(more);
        }
        got.sort();
        got.dedup();
        assert_eq!(got.len(), 500);
    }
}

#[test]
fn what_is_retained_behind_a_suback_comes_live_and_not_in_the_replay() {
    for_shards(|mut world| {
        let publisher = world.connect("p");
        for i in 0..100 {
            world.retain(publisher, &format!("r/{i:03}/x"), "old");
        }
        let narrow = Options {
            receive_maximum: Some(3),
            ..Options::default()
        };
        let subscriber = world.connect_with("s", narrow);
        // A second time, a filter that the owners know already.
        for round in 0..2 {
            world.subscribe(subscriber, "+/#", AtLeastOnce);
            let changed: Vec<_> = (0..120).step_by(7).map(|i| format!("r/{i:03}/x")).collect();
            for topic in &changed {
                world.retain(publisher, topic, &format!("new {round}"));
            }
            let mut live = Vec::new();
            let mut replayed = Vec::new();
            for id in 1..=400 {
                for sent in world.sent(subscriber) {
                    if let Sent::Publish {
                        topic,
                        payload,
                        retain,
                        ..
                    } = sent
                    {
                        let list = if retain { &mut replayed } else { &mut live };
                        list.push((topic, payload));
                    }
                }
                world.puback(subscriber, id);
            }
            assert_eq!(
                live,
                changed
                    .iter()
                    .map(|t| (t.clone(), format!("new {round}")))
                    .collect::<Vec<_>>()
            );
            let stale = |(_, payload): &&(String, String)| *payload == format!("new {round}");
            assert_eq!(replayed.iter().find(stale), None);
            replayed.sort();
            replayed.dedup();
            assert!(replayed.len() >= 100 - changed.len(), "{}", replayed.len());
        }
    });
}

#[test]
fn a_replay_pushes_nothing_out_of_a_short_queue() {
    for (shards, queue_messages_max) in [(1, 1), (2, 3), (2, 65)] {
        let config = ShardConfig {
            queue_messages_max,
            ..ShardConfig::default()
        };
        let mut world = World::with(shards, config, 1_024);
        let publisher = world.connect("p");
        for i in 0..200 {
            world.retain(publisher, &format!("r/{i:03}/x"), &format!("{i:03}"));
        }
        let options = Options {
            receive_maximum: Some(1),
            ..Options::default()
        };
        let subscriber = world.connect_with("s", options);
        world.subscribe(subscriber, "r/#", AtLeastOnce);
        let mut got = 0;
        for id in 1..=200 {
            got += world.payloads(subscriber).len();
            world.puback(subscriber, id);
        }
        assert_eq!(got, 200);
        assert_eq!(
            world.total(|c| c.dropped[DropReason::QueueFull as usize]),
            0
        );
    }
}

#[test]
fn point_to_point_needs_no_subscription_and_survives_an_absence() {
    for_shards(|mut world| {
        let publisher = world.connect("p");
        let target = world.connect_with(
            "t",
            Options {
                expiry: 60,
                ..Options::default()
            },
        );
        world.publish(publisher, "$p2p/t", "1", AtLeastOnce, 1);
        assert_eq!(world.payloads(target), ["1"]);
        world.puback(target, 1);
        world.disconnect(target);
        world.publish(publisher, "$p2p/t", "2", AtLeastOnce, 2);
        assert_eq!(world.acks(publisher), ["PUBACK 1", "PUBACK 2"]);
        let back = Options {
            keep_session: true,
            expiry: 60,
            ..Options::default()
        };
        let target = world.connect_with("t", back);
        assert!(target.session_present);
        assert_eq!(world.payloads(target), ["2"]);
    });
}

#[test]
fn other_dollar_topics_are_acknowledged_and_go_nowhere() {
    for_shards(|mut world| {
        let client = world.connect("c");
        world.subscribe(client, "$x/#", AtMostOnce);
        world.sent(client);
        world.publish(client, "$x/y", "x", AtLeastOnce, 1);
        assert_eq!(
            world.sent(client),
            [Sent::Ack("PUBACK 1 NoMatchingSubscribers".into())]
        );
        assert_eq!(
            world.total(|c| c.dropped[DropReason::DollarTopic as usize]),
            1
        );
    });
}

#[test]
fn denied_topics_are_refused_both_ways() {
    let limits = tidegate_codec::topic::TopicLimits {
        bytes_max: 99,
        levels_max: 9,
    };
    let denied = vec![tidegate_codec::TopicFilter::parse("test/no/#", limits).unwrap()];
    let config = ShardConfig {
        denied,
        ..ShardConfig::default()
    };
    let mut world = World::with(2, config, 64);
    let client = world.connect("c");
    world.subscribe(client, "test/no/way", AtMostOnce);
    world.publish(client, "test/no/way", "x", AtLeastOnce, 1);
    world.publish(client, "test/no/way", "x", ExactlyOnce, 2);
    let expected = [
        "SUBACK 900 [NotAuthorized]",
        "PUBACK 1 NotAuthorized",
        "PUBREC 2 NotAuthorized",
    ];
    assert_eq!(world.acks(client), expected);
}

#[test]
fn without_credits_the_publisher_is_parked_and_goes_on_in_order() {
    let config = ShardConfig {
        publish_credits: 2,
        ..ShardConfig::default()
    };
    let mut world = World::with(2, config, 64);
    let publisher = world.connect(&world.id_on(0, "p"));
    let subscriber = world.connect(&world.id_on(1, "s"));
    let topic = world.topic_on(1, "t");
    world.subscribe(subscriber, &topic, AtLeastOnce);
    for id in 1..=3 {
        assert!(!world.wire(publisher).paused);
        world.post(publisher, message(&topic, &id.to_string(), AtLeastOnce), id);
    }
    assert!(world.wire(publisher).paused);
    world.settle();
    assert!(!world.wire(publisher).paused);
    assert_eq!(world.payloads(subscriber), ["1", "2", "3"]);
    assert_eq!(world.acks(publisher), ["PUBACK 1", "PUBACK 2", "PUBACK 3"]);
    assert_eq!(world.total(|c| c.parked_connections), 0);
}

#[test]
fn a_parked_publisher_that_leaves_can_send_qos_2_again() {
    let config = ShardConfig {
        publish_credits: 1,
        ..ShardConfig::default()
    };
    let mut world = World::with(2, config, 64);
    let publisher_id = world.id_on(0, "p");
    let durable = || Options {
        keep_session: true,
        expiry: 60,
        ..Options::default()
    };
    let publisher = world.connect_with(&publisher_id, durable());
    let subscriber = world.connect(&world.id_on(1, "s"));
    let topic = world.topic_on(1, "t");
    world.subscribe(subscriber, &topic, ExactlyOnce);
    world.post(publisher, message(&topic, "1", ExactlyOnce), 1);
    world.post(publisher, message(&topic, "2", ExactlyOnce), 2);
    world.leave(publisher, Departure::Lost);
    let publisher = world.connect_with(&publisher_id, durable());
    world.publish(publisher, &topic, "1", ExactlyOnce, 1);
    world.publish(publisher, &topic, "2", ExactlyOnce, 2);
    assert_eq!(world.acks(publisher), ["PUBREC 1", "PUBREC 2"]);
    assert_eq!(world.payloads(subscriber), ["1", "2"]);
}

#[test]
fn a_full_mailbox_drops_qos_0_and_delays_the_rest_in_order() {
    let mut world = World::with(2, ShardConfig::default(), 4);
    let publisher = world.connect(&world.id_on(0, "p"));
    let subscriber = world.connect(&world.id_on(1, "s"));
    let topic = world.topic_on(0, "t");
    world.subscribe(subscriber, &topic, AtLeastOnce);
    for i in 0..20 {
        let qos = if i % 2 == 0 { AtMostOnce } else { AtLeastOnce };
        world.post(publisher, message(&topic, &format!("{i:02}"), qos), i + 1);
    }
    world.settle();
    let got = world.payloads(subscriber);
    let mut sorted = got.clone();
    sorted.sort();
    assert_eq!(got, sorted, "order holds");
    let acknowledged = got
        .iter()
        .filter(|p| p.parse::<u32>().unwrap() % 2 == 1)
        .count();
    assert_eq!(acknowledged, 10, "nothing acknowledged is lost");
    let dropped = world.total(|c| c.dropped[DropReason::MailboxFull as usize]);
    assert_eq!(got.len() as u64 + dropped, 20);
    assert!(dropped > 0);
}

#[test]
fn a_slow_subscriber_s_window_and_queue_hold_their_bounds() {
    let config = ShardConfig {
        queue_messages_max: 10,
        inflight_max: 5,
        ..ShardConfig::default()
    };
    let mut world = World::with(2, config, 64);
    let publisher = world.connect("p");
    let subscriber = world.connect("s");
    world.subscribe(subscriber, "a/b", AtLeastOnce);
    for i in 0..30 {
        world.publish(publisher, "a/b", &i.to_string(), AtLeastOnce, i + 1);
    }
    assert_eq!(world.payloads(subscriber), ["0", "1", "2", "3", "4"]);
    assert_eq!(world.total(|c| c.queued_messages), 10);
    assert_eq!(
        world.total(|c| c.dropped[DropReason::QueueFull as usize]),
        15
    );
    for id in 1..=5 {
        world.puback(subscriber, id);
    }
    // The oldest went, so the newest ten are there.
    assert_eq!(world.payloads(subscriber), ["20", "21", "22", "23", "24"]);
}

#[test]
fn a_connection_that_takes_nothing_loses_qos_0_and_keeps_qos_1() {
    for_shards(|mut world| {
        let publisher = world.connect("p");
        let subscriber = world.connect("s");
        world.subscribe(subscriber, "a/b", AtLeastOnce);
        world.wire(subscriber).room = Some(0);
        world.publish(publisher, "a/b", "lost", AtMostOnce, 0);
        world.publish(publisher, "a/b", "kept", AtLeastOnce, 1);
        assert_eq!(
            world.total(|c| c.dropped[DropReason::SlowSubscriber as usize]),
            1
        );
        world.wire(subscriber).room = None;
        world.writable(subscriber);
        assert_eq!(world.payloads(subscriber), ["kept"]);
        world.publish(publisher, "a/b", "again", AtMostOnce, 0);
        assert_eq!(world.payloads(subscriber), ["again"]);
    });
}

#[test]
fn a_refused_filter_is_named_and_the_others_hold() {
    let mut world = World::new(1);
    let client = world.connect("c");
    world.subscribe(client, "a/#/b", AtMostOnce);
    assert_eq!(world.acks(client), ["SUBACK 900 [TopicFilterInvalid]"]);
    let config = ShardConfig {
        subscriptions_max: 1,
        ..ShardConfig::default()
    };
    let mut world = World::with(2, config, 64);
    let client = world.connect("c");
    for (filter, expected) in [
        ("a/b", "Success"),
        ("a/c", "QuotaExceeded"),
        ("a/b", "GrantedQos1"),
    ] {
        let qos = if expected == "GrantedQos1" {
            AtLeastOnce
        } else {
            AtMostOnce
        };
        world.subscribe(client, filter, qos);
        assert_eq!(world.acks(client), [format!("SUBACK 900 [{expected}]")]);
    }
}

#[test]
fn a_pubrel_for_an_unknown_id_is_answered() {
    let mut world = World::new(1);
    let client = world.connect("c");
    world.pubrel(client, 9);
    world.pubrec(client, 9);
    let unknown = ReasonCode::PacketIdentifierNotFound;
    assert_eq!(
        world.acks(client),
        [
            format!("PUBCOMP 9 {unknown:?}"),
            format!("PUBREL 9 {unknown:?}")
        ]
    );
}
