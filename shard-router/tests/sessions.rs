//! What outlives a connection: redelivery, takeover, expiry, wills, share groups, and what the store is told.

mod support;

use support::{message, options, will, Options, Sent, World};
use tidegate_codec::mqtt::subscribe::SubscriptionOptions;
use tidegate_codec::Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use tidegate_codec::{Millis, ReasonCode};
use tidegate_shard_router::store_op::CommitSequence;
use tidegate_shard_router::{Departure, DropReason};

fn for_shards(story: impl Fn(World)) {
    for shards in [1, 2, 8] {
        story(World::new(shards));
    }
}

fn durable() -> Options {
    Options {
        keep_session: true,
        expiry: 60,
        ..Options::default()
    }
}

fn duplicates(sent: Vec<Sent>) -> Vec<(String, bool)> {
    let publishes = sent.into_iter().filter_map(|sent| match sent {
        Sent::Publish { payload, dup, .. } => Some((payload, dup)),
        _ => None,
    });
    publishes.collect()
}

#[test]
fn mqtt5_4_4_0_1_unacknowledged_messages_come_again_in_order_with_dup_before_new_ones() {
    for_shards(|mut world| {
        let publisher = world.connect("p");
        let subscriber = world.connect_with("s", durable());
        world.subscribe(subscriber, "a/b", ExactlyOnce);
        world.publish(publisher, "a/b", "1", AtLeastOnce, 1);
        world.publish(publisher, "a/b", "2", ExactlyOnce, 2);
        world.publish(publisher, "a/b", "3", ExactlyOnce, 3);
        world.pubrec(subscriber, 2);
        world.leave(subscriber, Departure::Lost);
        world.publish(publisher, "a/b", "4", AtLeastOnce, 4);
        let subscriber = world.connect_with("s", durable());
        assert!(subscriber.session_present);
        let sent = world.sent(subscriber);
        assert!(sent.contains(&Sent::Ack("PUBREL 2".into())), "{sent:?}");
        let expected = [("1", true), ("3", true), ("4", false)].map(|(p, d)| (p.to_owned(), d));
        assert_eq!(duplicates(sent), expected);
        world.pubcomp(subscriber, 2);
        world.pubrec(subscriber, 3);
        world.pubcomp(subscriber, 3);
        assert_eq!(world.acks(subscriber), ["PUBREL 3"]);
    });
}

/// [3.1.1 MQTT-4.4.0-1], [MQTT-4.3.2-3], [MQTT-4.3.3-3], [MQTT-4.3.3-5]: a reconnect is the only time at which
/// anything is sent again, however long the client is silent, and then everything is.
#[test]
fn mqtt5_4_4_0_1_time_alone_sends_nothing_again() {
    for_shards(|mut world| {
        let publisher = world.connect("p");
        let subscriber = world.connect_with("s", durable());
        world.subscribe(subscriber, "a/b", ExactlyOnce);
        world.publish(publisher, "a/b", "1", AtLeastOnce, 1);
        world.publish(publisher, "a/b", "2", ExactlyOnce, 2);
        world.publish(publisher, "a/b", "3", ExactlyOnce, 3);
        world.pubrec(subscriber, 2);
        world.sent(subscriber);
        for _ in 0..48 {
            world.wait(1_800_000);
            assert_eq!(world.sent(subscriber), []);
        }
        world.leave(subscriber, Departure::Lost);
        let subscriber = world.connect_with("s", durable());
        let sent = world.sent(subscriber);
        assert!(sent.contains(&Sent::Ack("PUBREL 2".into())), "{sent:?}");
        let again = [("1", true), ("3", true)].map(|(payload, dup)| (payload.to_owned(), dup));
        assert_eq!(duplicates(sent), again);
    });
}

#[test]
fn a_smaller_window_after_the_reconnect_is_respected() {
    let mut world = World::new(2);
    let publisher = world.connect("p");
    let subscriber = world.connect_with("s", durable());
    world.subscribe(subscriber, "a/b", AtLeastOnce);
    for i in 1..=6 {
        world.publish(publisher, "a/b", &i.to_string(), AtLeastOnce, i);
    }
    world.leave(subscriber, Departure::Lost);
    let back = Options {
        receive_maximum: Some(2),
        ..durable()
    };
    let subscriber = world.connect_with("s", back);
    assert_eq!(world.payloads(subscriber), ["1", "2"]);
    world.puback(subscriber, 1);
    assert_eq!(world.payloads(subscriber), ["3"]);
}

#[test]
fn mqtt5_4_3_3_10_a_repeated_qos_2_publish_is_acknowledged_and_not_delivered_again() {
    for_shards(|mut world| {
        let publisher = world.connect_with("p", durable());
        let subscriber = world.connect("s");
        world.subscribe(subscriber, "a/b", ExactlyOnce);
        world.publish(publisher, "a/b", "x", ExactlyOnce, 5);
        world.publish(publisher, "a/b", "x", ExactlyOnce, 5);
        world.leave(publisher, Departure::Lost);
        let publisher = world.connect_with("p", durable());
        world.publish(publisher, "a/b", "x", ExactlyOnce, 5);
        assert_eq!(world.acks(publisher), ["PUBREC 5"]);
        world.pubrel(publisher, 5);
        assert_eq!(world.acks(publisher), ["PUBCOMP 5"]);
        assert_eq!(world.payloads(subscriber), ["x"]);
        world.publish(publisher, "a/b", "y", ExactlyOnce, 5);
        assert_eq!(world.payloads(subscriber), ["y"]);
    });
}

#[test]
fn a_message_repeated_while_its_ticket_is_open_is_acknowledged_on_the_new_connection() {
    let mut world = World::new(2);
    let publisher_id = world.id_on(0, "p");
    let publisher = world.connect_with(&publisher_id, durable());
    let subscriber = world.connect(&world.id_on(1, "s"));
    let topic = world.topic_on(1, "t");
    world.subscribe(subscriber, &topic, ExactlyOnce);
    world.post(publisher, message(&topic, "x", ExactlyOnce), 5);
    // The connection breaks and comes back before shard 1 has seen the message.
    world.shards[0].disconnected(
        world.now,
        publisher.session,
        publisher.connection,
        Departure::Lost,
        &mut world.recorders[0],
    );
    let again = message(&topic, "x", ExactlyOnce);
    let publisher = world.connect_with(&publisher_id, durable());
    world.post(publisher, again, 5);
    world.settle();
    assert_eq!(world.acks(publisher), ["PUBREC 5"]);
    assert_eq!(world.payloads(subscriber), ["x"]);
}

#[test]
fn mqtt5_3_1_4_3_a_second_connection_takes_the_session_over() {
    for_shards(|mut world| {
        let first = world.connect_with("c", durable());
        world.subscribe(first, "a/b", AtLeastOnce);
        world.sent(first);
        let second = world.connect_with("c", durable());
        assert!(second.session_present);
        assert_eq!(
            world.sent(first),
            [Sent::Closed(ReasonCode::SessionTakenOver)]
        );
        world.publish(second, "a/b", "x", AtMostOnce, 0);
        assert_eq!(world.payloads(second), ["x"]);
        // The old connection's end is none of the session's business any more.
        world.leave(first, Departure::Lost);
        world.publish(second, "a/b", "y", AtMostOnce, 0);
        assert_eq!(world.payloads(second), ["y"]);
        assert_eq!(world.total(|c| c.takeovers_total), 1);
        assert_eq!(world.total(|c| c.sessions_online), 1);
    });
}

/// [MQTT-3.1.2-4], [MQTT-3.1.4-4], [3.1.1 MQTT-3.1.2-6]
#[test]
fn a_clean_start_ends_the_session_before_it() {
    for_shards(|mut world| {
        let first = world.connect_with("c", durable());
        world.subscribe(first, "a/b", AtLeastOnce);
        world.disconnect(first);
        let second = world.connect_with(
            "c",
            Options {
                expiry: 60,
                ..Options::default()
            },
        );
        assert!(!second.session_present);
        world.publish(second, "a/b", "x", AtMostOnce, 0);
        assert_eq!(world.payloads(second), Vec::<String>::new());
        assert_eq!(world.total(|c| c.subscriptions), 0);
    });
}

/// [MQTT-3.1.2-23], [MQTT-4.1.0-2]
#[test]
fn a_session_ends_when_its_expiry_has_passed_and_gives_its_memory_back() {
    for_shards(|mut world| {
        let publisher = world.connect("p");
        let subscriber = world.connect_with("s", durable());
        world.subscribe(subscriber, "a/b", AtLeastOnce);
        world.disconnect(subscriber);
        world.publish(publisher, "a/b", "x", AtLeastOnce, 1);
        world.wait(59_999);
        assert_eq!(world.total(|c| c.sessions_offline), 1);
        world.wait(1);
        assert_eq!(world.total(|c| c.sessions_offline), 0);
        assert_eq!(world.total(|c| c.sessions_expired_total), 1);
        assert_eq!(
            world.total(|c| c.queued_messages + c.queued_bytes + c.subscriptions),
            0
        );
        assert!(!world.connect_with("s", durable()).session_present);
        world.sent(publisher);
        world.publish(publisher, "a/b", "x", AtLeastOnce, 1);
        assert_eq!(world.acks(publisher), ["PUBACK 1 NoMatchingSubscribers"]);
    });
}

/// [MQTT-3.3.2-5]
#[test]
fn an_expired_message_is_not_delivered() {
    for_shards(|mut world| {
        let publisher = world.connect("p");
        let subscriber = world.connect_with("s", durable());
        world.subscribe(subscriber, "a/b", AtLeastOnce);
        world.disconnect(subscriber);
        let expires_at = Millis(world.now.0 + 1_000);
        world.post(
            publisher,
            message("a/b", "old", AtLeastOnce).with_expiry(expires_at),
            1,
        );
        world.post(publisher, message("a/b", "new", AtLeastOnce), 2);
        world.wait(1_000);
        let subscriber = world.connect_with("s", durable());
        assert_eq!(world.payloads(subscriber), ["new"]);
        assert_eq!(world.total(|c| c.dropped[DropReason::Expired as usize]), 1);
    });
}

#[test]
fn mqtt5_3_1_2_8_a_will_is_published_once_when_the_connection_is_lost() {
    for_shards(|mut world| {
        let watcher = world.connect("w");
        world.subscribe(watcher, "will/x", AtLeastOnce);
        let with_will = |delay| Options {
            will: Some(will("will/x", "gone", delay)),
            ..durable()
        };
        let client = world.connect_with("c", with_will(0));
        world.leave(client, Departure::Lost);
        assert_eq!(world.payloads(watcher), ["gone"]);
        world.wait(120_000);
        assert_eq!(world.payloads(watcher), Vec::<String>::new());
        // A clean goodbye drops it, reason 4 keeps it.
        let client = world.connect_with("c", with_will(0));
        world.disconnect(client);
        assert_eq!(world.payloads(watcher), Vec::<String>::new());
        let client = world.connect_with("c", with_will(0));
        world.leave(
            client,
            Departure::WithWill {
                session_expiry_interval: None,
            },
        );
        assert_eq!(world.payloads(watcher), ["gone"]);
    });
}

/// The client's own session lives on while its will is published; with No Local it does not get it.
#[test]
fn mqtt5_3_8_3_3_a_will_does_not_come_back_to_a_no_local_subscription() {
    for_shards(|mut world| {
        let with_will = Options {
            will: Some(will("will/x", "gone", 0)),
            ..durable()
        };
        let client = world.connect_with("c", with_will);
        let no_local = SubscriptionOptions {
            no_local: true,
            ..options(AtLeastOnce)
        };
        world.subscribe_with(client, "will/#", no_local, None);
        world.settle();
        let watcher = world.connect("w");
        world.subscribe(watcher, "will/x", AtLeastOnce);
        world.leave(client, Departure::Lost);
        assert_eq!(world.payloads(watcher), ["gone"]);
        let back = world.connect_with("c", durable());
        assert!(back.session_present);
        assert_eq!(world.payloads(back), Vec::<String>::new());
    });
}

#[test]
fn mqtt5_3_1_3_9_a_delayed_will_is_cancelled_by_the_client_s_return() {
    for_shards(|mut world| {
        let watcher = world.connect("w");
        world.subscribe(watcher, "will/x", AtLeastOnce);
        let with_will = || Options {
            will: Some(will("will/x", "gone", 30)),
            ..durable()
        };
        let client = world.connect_with("c", with_will());
        world.leave(client, Departure::Lost);
        world.wait(29_999);
        let client = world.connect_with("c", with_will());
        world.wait(100_000);
        assert_eq!(world.payloads(watcher), Vec::<String>::new());
        world.leave(client, Departure::Lost);
        world.wait(30_000);
        assert_eq!(world.payloads(watcher), ["gone"]);
        // The end of the session does not wait for the delay.
        let client = world.connect_with("c", with_will());
        world.leave(client, Departure::Lost);
        world.connect("c");
        assert_eq!(world.payloads(watcher), ["gone"]);
    });
}

/// [MQTT-3.1.2-8]
#[test]
fn a_will_delayed_beyond_the_session_comes_at_its_end() {
    let mut world = World::new(2);
    let watcher = world.connect("w");
    world.subscribe(watcher, "will/x", AtLeastOnce);
    let options = Options {
        will: Some(will("will/x", "gone", 3_600)),
        ..durable()
    };
    let client = world.connect_with("c", options);
    world.leave(client, Departure::Lost);
    world.wait(60_000);
    assert_eq!(world.payloads(watcher), ["gone"]);
    let options = Options {
        will: Some(will("will/x", "at once", 3_600)),
        ..Options::default()
    };
    let client = world.connect_with("c", options);
    world.leave(client, Departure::Lost);
    assert_eq!(world.payloads(watcher), ["at once"]);
}

#[test]
fn a_share_group_gets_each_message_once_and_its_members_take_turns() {
    for_shards(|mut world| {
        let publisher = world.connect("p");
        let members: Vec<_> = (0..6).map(|i| world.connect(&format!("m{i}"))).collect();
        for &member in &members {
            world.subscribe(member, "$share/g/a/+", AtLeastOnce);
        }
        let alone = world.connect("alone");
        world.subscribe(alone, "a/b", AtLeastOnce);
        for i in 0..60 {
            world.publish(publisher, "a/b", &i.to_string(), AtLeastOnce, i + 1);
        }
        let counts: Vec<_> = members.iter().map(|&m| world.payloads(m).len()).collect();
        assert_eq!(counts, [10; 6]);
        assert_eq!(world.payloads(alone).len(), 60);
        assert_eq!(world.acks(publisher).len(), 60);
    });
}

/// A subscription that is shared is not taken together with others, so there are two copies, each for its own.
#[test]
fn mqtt5_3_3_4_5_of_two_copies_each_bears_the_identifier_of_its_subscription() {
    for_shards(|mut world| {
        let client = world.connect("c");
        world.subscribe_with(client, "$share/g/a/b", options(AtLeastOnce), Some(1));
        world.settle();
        world.subscribe_with(client, "a/+", options(AtMostOnce), Some(2));
        world.settle();
        world.sent(client);
        world.publish(client, "a/b", "x", AtLeastOnce, 1);
        let granted: Vec<_> = world
            .sent(client)
            .into_iter()
            .filter_map(|sent| match sent {
                Sent::Publish { qos, .. } => Some(qos),
                _ => None,
            })
            .collect();
        let ids = std::mem::take(&mut world.wire(client).subscription_ids);
        let mut copies: Vec<_> = ids.into_iter().zip(granted).collect();
        copies.sort();
        assert_eq!(copies, [(vec![1], AtLeastOnce), (vec![2], AtMostOnce)]);
        // Where one of them has none, its copy bears none.
        world.subscribe(client, "a/+", AtMostOnce);
        world.publish(client, "a/b", "x", AtLeastOnce, 2);
        let mut ids = std::mem::take(&mut world.wire(client).subscription_ids);
        ids.sort();
        assert_eq!(ids, [vec![], vec![1]]);
    });
}

/// [MQTT-4.8.2-5]: of QoS 2, while QoS 1 goes on to another member.
#[test]
fn what_a_member_did_not_acknowledge_goes_to_another_when_its_session_ends() {
    for_shards(|mut world| {
        let publisher = world.connect("p");
        let first = world.connect("m0");
        world.subscribe(first, "$share/g/a/b", ExactlyOnce);
        world.publish(publisher, "a/b", "1", AtLeastOnce, 1);
        world.publish(publisher, "a/b", "2", ExactlyOnce, 2);
        assert_eq!(world.payloads(first), ["1", "2"]);
        let second = world.connect("m1");
        world.subscribe(second, "$share/g/a/b", ExactlyOnce);
        world.leave(first, Departure::Lost);
        // QoS 2 was sent to the first already; it must not be sent to another.
        assert_eq!(world.payloads(second), ["1"]);
        assert_eq!(world.total(|c| c.shared_redistributed_total), 1);
    });
}

#[test]
fn members_that_are_away_get_nothing_while_others_are_here() {
    for_shards(|mut world| {
        let publisher = world.connect("p");
        let away = world.connect_with("m0", durable());
        let here = world.connect_with("m1", durable());
        for member in [away, here] {
            world.subscribe(member, "$share/g/a/b", AtLeastOnce);
        }
        world.disconnect(away);
        for i in 0..10 {
            world.publish(publisher, "a/b", &i.to_string(), AtLeastOnce, i + 1);
        }
        assert_eq!(world.payloads(here).len(), 10);
        world.disconnect(here);
        world.publish(publisher, "a/b", "kept", AtLeastOnce, 11);
        assert_eq!(world.acks(publisher).len(), 11);
        let back: Vec<_> = ["m0", "m1"]
            .map(|id| world.connect_with(id, durable()))
            .into_iter()
            .collect();
        let got: Vec<_> = back
            .iter()
            .flat_map(|&m| duplicates(world.sent(m)))
            .collect();
        let kept = got.iter().filter(|(payload, _)| payload == "kept").count();
        assert_eq!(kept, 1, "{got:?}");
    });
}

#[test]
fn acknowledgements_of_durable_things_wait_for_the_commit() {
    let mut world = World::new(2);
    for recorder in &mut world.recorders {
        recorder.store = Some(Vec::new());
        recorder.committing = Some(0);
    }
    let publisher = world.connect("p");
    let subscriber = world.connect_with("s", durable());
    world.subscribe(subscriber, "a/b", AtLeastOnce);
    assert_eq!(world.acks(subscriber), Vec::<String>::new());
    commit_all(&mut world);
    assert_eq!(world.acks(subscriber), ["SUBACK 900 [GrantedQos1]"]);
    world.publish(publisher, "a/b", "x", AtLeastOnce, 1);
    assert_eq!(world.payloads(subscriber), ["x"]);
    assert_eq!(world.acks(publisher), Vec::<String>::new());
    commit_all(&mut world);
    assert_eq!(world.acks(publisher), ["PUBACK 1"]);
}

fn commit_all(world: &mut World) {
    for (shard, recorder) in world.shards.iter_mut().zip(&mut world.recorders) {
        let said = CommitSequence(recorder.committing.unwrap_or_default());
        shard.committed(world.now, said, recorder);
    }
    world.settle();
}

#[test]
fn nothing_of_a_clean_session_reaches_the_store() {
    let mut world = World::new(2);
    for recorder in &mut world.recorders {
        recorder.store = Some(Vec::new());
    }
    let client = world.connect("c");
    world.subscribe(client, "a/b", ExactlyOnce);
    world.publish(client, "a/b", "x", ExactlyOnce, 1);
    world.pubrec(client, 1);
    world.pubcomp(client, 1);
    world.pubrel(client, 1);
    world.disconnect(client);
    let told: Vec<_> = world
        .recorders
        .iter_mut()
        .filter_map(|r| r.store.take())
        .flatten()
        .collect();
    assert_eq!(told, Vec::<String>::new());
}
