//! What the seeded world found, each as a story of its own. The number is the seed that showed it first; seeds mean
//! something else when the world changes, stories do not.

mod support;

use support::{message, options, will, Client, Options, Sent, World, HERE};
use tidegate_codec::mqtt::connection::Publish;
use tidegate_codec::topic::TopicLimits;
use tidegate_codec::Qos::{AtLeastOnce, ExactlyOnce};
use tidegate_codec::{Message, Millis, ReasonCode, TopicFilter};
use tidegate_shard_router::envelope::GroupName;
use tidegate_shard_router::key::ClientKey;
use tidegate_shard_router::restore::{
    RestoredDelivery, RestoredIncoming, RestoredSession, RestoredSubscription, Taken,
};
use tidegate_shard_router::store_op::{CommitSequence, ExchangeId};
use tidegate_shard_router::{Connecting, ConnectionId, Departure, ShardConfig, ShardId};

fn durable() -> Options {
    Options {
        keep_session: true,
        expiry: 60,
        ..Options::default()
    }
}

/// A world whose shards have a store that commits when told.
fn with_store(shards: u16, config: ShardConfig) -> World {
    let mut world = World::with(shards, config, 64);
    for recorder in &mut world.recorders {
        recorder.store = Some(Vec::new());
        recorder.committing = Some(0);
    }
    world
}

fn commit_all(world: &mut World) {
    for (shard, recorder) in world.shards.iter_mut().zip(&mut world.recorders) {
        let said = CommitSequence(recorder.committing.unwrap_or_default());
        shard.committed(world.now, said, recorder);
    }
    world.settle();
}

/// The connection breaks, and no other shard has a turn.
fn lose(world: &mut World, client: Client) {
    let i = client.shard.index();
    let fx = &mut world.recorders[i];
    let Client {
        session,
        connection,
        ..
    } = client;
    world.shards[i].disconnected(world.now, session, connection, Departure::Lost, fx);
}

/// The client comes back, and no other shard has a turn.
fn back(world: &mut World, client: Client, client_id: &str, expiry: u32) -> Client {
    let i = client.shard.index();
    let connection = ConnectionId {
        index: client.connection.index + 1_000,
        generation: 0,
    };
    let connecting = Connecting {
        instance: HERE,
        client_id: client_id.into(),
        clean_start: false,
        session_expiry_interval: expiry,
        receive_maximum: u16::MAX,
        will: None,
    };
    let fx = &mut world.recorders[i];
    let connected = world.shards[i].connect(world.now, connection, connecting, fx);
    world.shards[i].resume(world.now, connected.session, fx);
    Client {
        connection,
        session: connected.session,
        session_present: connected.session_present,
        ..client
    }
}

#[test]
fn seed_2162_suback_left_with_the_answer_to_an_earlier_subscribe() {
    let mut world = World::new(3);
    let name = world.id_on(0, "s");
    let (near, far) = (world.topic_on(1, "t"), world.topic_on(2, "t"));
    let subscriber = world.connect_with(&name, durable());
    world.subscribe_with(subscriber, &near, options(AtLeastOnce), None);
    lose(&mut world, subscriber);
    let subscriber = back(&mut world, subscriber, &name, 60);
    world.subscribe_with(subscriber, &far, options(AtLeastOnce), None);
    // Only the owner of the first filter has a turn.
    for shard in [0, 1, 0] {
        world.step(shard, 64);
    }
    assert_eq!(world.acks(subscriber), Vec::<String>::new());
    world.settle();
    assert_eq!(world.acks(subscriber), ["SUBACK 900 [GrantedQos1]"]);
}

#[test]
fn seed_2905_suback_left_for_a_filter_that_was_still_on_its_way_to_its_owner() {
    let mut world = World::new(2);
    let name = world.id_on(0, "s");
    let topic = world.topic_on(1, "t");
    let subscriber = world.connect_with(&name, durable());
    world.subscribe_with(subscriber, &topic, options(AtLeastOnce), None);
    lose(&mut world, subscriber);
    let subscriber = back(&mut world, subscriber, &name, 60);
    world.subscribe_with(subscriber, &topic, options(AtLeastOnce), None);
    assert_eq!(world.acks(subscriber), Vec::<String>::new());
    world.settle();
    assert_eq!(world.acks(subscriber), ["SUBACK 900 [GrantedQos1]"]);
}

#[test]
fn a_subscribe_whose_commit_is_faster_than_its_owners_is_acknowledged() {
    let mut world = with_store(2, ShardConfig::default());
    let name = world.id_on(0, "s");
    let topic = world.topic_on(1, "t");
    let subscriber = world.connect_with(&name, durable());
    world.subscribe_with(subscriber, &topic, options(AtLeastOnce), None);
    let said = CommitSequence(world.recorders[0].committing.unwrap());
    world.shards[0].committed(world.now, said, &mut world.recorders[0]);
    assert_eq!(world.acks(subscriber), Vec::<String>::new());
    world.settle();
    assert_eq!(world.acks(subscriber), ["SUBACK 900 [GrantedQos1]"]);
}

#[test]
fn seed_24_unsuback_did_not_wait_for_what_an_earlier_connection_had_unsubscribed() {
    let mut world = with_store(1, ShardConfig::default());
    let client = world.connect_with("c", durable());
    world.subscribe(client, "a/b", AtLeastOnce);
    commit_all(&mut world);
    world.unsubscribe(client, "a/b");
    lose(&mut world, client);
    let client = back(&mut world, client, "c", 60);
    world.unsubscribe(client, "a/b");
    assert_eq!(world.acks(client), Vec::<String>::new());
    commit_all(&mut world);
    let expected = ["UNSUBACK 901 [NoSubscriptionExisted]"];
    assert_eq!(world.acks(client), expected);
}

#[test]
fn retained_messages_are_acknowledged_when_the_store_has_them() {
    for shards in [1, 2] {
        let mut world = with_store(shards, ShardConfig::default());
        let publisher = world.connect("p");
        world.retain(publisher, "a/b", "kept");
        assert_eq!(world.acks(publisher), Vec::<String>::new());
        commit_all(&mut world);
        assert_eq!(world.acks(publisher), ["PUBACK 77"]);
    }
}

#[test]
fn seed_1625_a_second_clear_was_acknowledged_before_the_first_one_was_stored() {
    let mut world = with_store(1, ShardConfig::default());
    let publisher = world.connect("p");
    world.retain(publisher, "a/b", "kept");
    commit_all(&mut world);
    world.acks(publisher);
    world.retain(publisher, "a/b", "");
    world.retain(publisher, "a/b", "");
    assert_eq!(world.acks(publisher), Vec::<String>::new());
    commit_all(&mut world);
    assert_eq!(world.acks(publisher), ["PUBACK 77", "PUBACK 77"]);
}

#[test]
fn seed_57_an_expired_retained_message_stayed_in_the_store() {
    let mut world = with_store(1, ShardConfig::default());
    let publisher = world.connect("p");
    let short = Message::new("a/b", &[], b"x", AtLeastOnce, true);
    world.post(publisher, short.with_expiry(Millis(2_000)), 1);
    world.wait(5_000);
    let subscriber = world.connect("s");
    world.subscribe(subscriber, "a/#", AtLeastOnce);
    let told = world.recorders[0].store.as_ref().unwrap();
    assert!(
        told.iter().any(|op| op.starts_with("DropRetained")),
        "{told:?}"
    );
}

#[test]
fn seed_9955_a_message_overtook_one_that_its_session_had_stored_while_it_was_durable() {
    let mut world = with_store(1, ShardConfig::default());
    let subscriber = world.connect("s");
    world.subscribe(subscriber, "a/b", ExactlyOnce);
    let publisher = world.connect_with("p", durable());
    world.post(publisher, message("a/b", "1", ExactlyOnce), 1);
    lose(&mut world, publisher);
    let publisher = back(&mut world, publisher, "p", 0);
    world.post(publisher, message("a/b", "2", ExactlyOnce), 2);
    assert_eq!(world.payloads(subscriber), Vec::<String>::new());
    commit_all(&mut world);
    assert_eq!(world.payloads(subscriber), ["1", "2"]);
}

#[test]
fn a_qos_2_exchange_with_a_durable_client_follows_its_commits() {
    let mut world = with_store(2, ShardConfig::default());
    let publisher = world.connect_with("p", durable());
    let subscriber = world.connect_with("s", durable());
    world.subscribe(subscriber, "a/b", ExactlyOnce);
    commit_all(&mut world);
    world.acks(subscriber);
    // Stored before it is forwarded, settled before PUBREC; its packet id stored before PUBLISH leaves.
    world.publish(publisher, "a/b", "x", ExactlyOnce, 7);
    assert_eq!(world.payloads(subscriber), Vec::<String>::new());
    commit_all(&mut world);
    assert_eq!(world.payloads(subscriber), Vec::<String>::new());
    commit_all(&mut world);
    commit_all(&mut world);
    assert_eq!(world.acks(publisher), ["PUBREC 7"]);
    let sent = world.sent(subscriber);
    assert!(
        matches!(
            &sent[..],
            [Sent::Publish {
                dup: false,
                packet_id: 1,
                ..
            }]
        ),
        "{sent:?}"
    );
    // PUBREL follows the commit of PUBREC, on this connection and on the next one.
    world.pubrec(subscriber, 1);
    assert_eq!(world.acks(subscriber), Vec::<String>::new());
    lose(&mut world, subscriber);
    let subscriber = back(&mut world, subscriber, "s", 60);
    assert_eq!(world.acks(subscriber), Vec::<String>::new());
    commit_all(&mut world);
    assert_eq!(world.acks(subscriber), ["PUBREL 1"]);
    // PUBCOMP follows the commit of PUBREL, also when it is asked for again.
    world.pubrel(publisher, 7);
    lose(&mut world, publisher);
    let publisher = back(&mut world, publisher, "p", 60);
    world.pubrel(publisher, 7);
    assert_eq!(world.acks(publisher), Vec::<String>::new());
    commit_all(&mut world);
    assert_eq!(
        world.acks(publisher),
        ["PUBCOMP 7 PacketIdentifierNotFound"]
    );
}

#[test]
fn seed_1262_messages_waited_for_ever_behind_one_that_expired_in_the_window() {
    let mut world = with_store(1, ShardConfig::default());
    let publisher = world.connect("p");
    let window = Options {
        receive_maximum: Some(1),
        ..durable()
    };
    let subscriber = world.connect_with("s", window);
    world.subscribe(subscriber, "a/b", ExactlyOnce);
    let short = message("a/b", "expires", ExactlyOnce).with_expiry(Millis(2_000));
    world.post(publisher, short, 1);
    for id in 2..=3 {
        world.publish(publisher, "a/b", &id.to_string(), AtLeastOnce, id);
    }
    world.wait(5_000);
    commit_all(&mut world);
    assert_eq!(world.payloads(subscriber), ["2"]);
}

#[test]
fn repeated_qos_2_messages_stop_at_the_bound_of_the_ack_ring() {
    let config = ShardConfig {
        receive_maximum: 2,
        ..ShardConfig::default()
    };
    let mut world = World::with(2, config, 64);
    let name = world.id_on(0, "p");
    let topic = world.topic_on(1, "t");
    let publisher = world.connect_with(&name, durable());
    for _ in 0..2 {
        let publish = Publish {
            message: message(&topic, "x", ExactlyOnce),
            packet_id: 1,
            dup: false,
        };
        let fx = &mut world.recorders[0];
        world.shards[0].publish(world.now, publisher.session, publish, fx);
    }
    assert!(world.wire(publisher).paused);
    world.settle();
    assert!(!world.wire(publisher).paused);
    assert_eq!(world.acks(publisher), ["PUBREC 1 NoMatchingSubscribers"; 2]);
}

#[test]
fn leaving_a_share_group_does_not_end_the_replay_of_its_plain_filter() {
    let mut world = World::new(1);
    let publisher = world.connect("p");
    for i in 0..100 {
        world.retain(publisher, &format!("r/{i:03}"), "x");
    }
    let window = Options {
        receive_maximum: Some(1),
        ..Options::default()
    };
    let subscriber = world.connect_with("s", window);
    world.subscribe(subscriber, "$share/g/r/#", AtLeastOnce);
    world.subscribe(subscriber, "r/#", AtLeastOnce);
    world.unsubscribe(subscriber, "$share/g/r/#");
    let mut got = 0;
    for id in 1..=100 {
        got += world.payloads(subscriber).len();
        world.puback(subscriber, id);
    }
    assert_eq!(got, 100);
}

#[test]
fn a_kick_closes_the_connection_and_refuses_what_was_decoded_before() {
    let mut world = World::new(1);
    let watcher = world.connect("w");
    world.subscribe(watcher, "will/x", AtLeastOnce);
    let with_will = Options {
        will: Some(will("will/x", "gone", 0)),
        ..durable()
    };
    let client = world.connect_with("c", with_will);
    let (now, fx) = (world.now, &mut world.recorders[0]);
    let reason = ReasonCode::AdministrativeAction;
    assert!(world.shards[0].kick(now, HERE, "c", reason, fx));
    assert!(!world.shards[0].kick(now, HERE, "c", reason, fx));
    world.settle();
    assert_eq!(world.sent(client), [Sent::Closed(reason)]);
    assert_eq!(world.payloads(watcher), ["gone"]);
    assert!(world.shards[0].is_stale(HERE, "c", now));
    assert!(!world.shards[0].is_stale(HERE, "c", now + 1));
    assert!(!world.shards[0].is_stale(HERE, "w", now));
    assert!(world.connect_with("c", durable()).session_present);
}

fn stored(client_id: &str) -> RestoredSession {
    RestoredSession {
        client: ClientKey {
            instance: HERE,
            client_id: client_id.into(),
        },
        expiry_seconds: 60,
        expires_at: Millis(61_000),
        will: None,
        subscriptions: Vec::new(),
        deliveries: Vec::new(),
        incoming: Vec::new(),
        taken: Vec::new(),
    }
}

fn restore(world: &mut World, sessions: &[RestoredSession], retained: &[Message]) {
    for shard in &mut world.shards {
        for session in sessions {
            shard.restore_session(session);
        }
        for message in retained {
            shard.restore_retained(HERE, message);
        }
    }
    for (shard, recorder) in world.shards.iter_mut().zip(&mut world.recorders) {
        shard.restored(world.now, 1, recorder);
    }
}

fn subscription(filter: &str) -> RestoredSubscription {
    let limits = TopicLimits {
        bytes_max: 99,
        levels_max: 9,
    };
    RestoredSubscription {
        filter: TopicFilter::parse(filter, limits).unwrap(),
        options: options(ExactlyOnce),
        subscription_id: None,
    }
}

#[test]
fn what_the_store_kept_comes_back_on_any_number_of_shards() {
    let delivery = |sequence, payload: Option<&str>, packet_id| RestoredDelivery {
        sequence,
        message: payload.map(|payload| message("a/b", payload, ExactlyOnce)),
        qos: ExactlyOnce,
        retain: false,
        subscription_ids: Vec::new(),
        group: None,
        packet_id,
    };
    for shards in [1, 2, 8] {
        let mut world = World::new(shards);
        let subscriber = RestoredSession {
            will: Some((will("w/s", "gone", 5), Millis(31_000))),
            subscriptions: ["a/b", "$share/g/c/d", "+/e"].map(subscription).into(),
            deliveries: vec![
                delivery(3, None, Some(1)),
                delivery(4, Some("sent"), Some(2)),
                delivery(5, Some("waits"), None),
            ],
            ..stored("s")
        };
        let watcher = RestoredSession {
            subscriptions: vec![subscription("w/+")],
            ..stored("w")
        };
        let kept = Message::new("r/t", &[], b"kept", AtLeastOnce, true);
        restore(&mut world, &[subscriber, watcher], &[kept]);
        // Filters hold before anybody connects, and the will fires in its time.
        let publisher = world.connect("p");
        for topic in ["a/b", "c/d", "x/e"] {
            world.publish(publisher, topic, topic, AtLeastOnce, 1);
        }
        assert_eq!(world.acks(publisher), ["PUBACK 1"; 3]);
        world.wait(30_000);
        let watcher = world.connect_with("w", durable());
        assert_eq!(world.payloads(watcher), ["gone"]);
        let subscriber = world.connect_with("s", durable());
        assert!(subscriber.session_present);
        let sent = world.sent(subscriber);
        assert_eq!(sent[0], Sent::Ack("PUBREL 1".into()));
        let of = |sent: &Sent| match sent {
            Sent::Publish { payload, dup, .. } => Some((payload.clone(), *dup)),
            _ => None,
        };
        let got: Vec<_> = sent.iter().filter_map(of).collect();
        let expected = [
            ("sent", true),
            ("waits", false),
            ("a/b", false),
            ("c/d", false),
            ("x/e", false),
        ];
        assert_eq!(
            got,
            expected.map(|(payload, dup)| (payload.to_owned(), dup))
        );
        let late = world.connect("late");
        world.subscribe(late, "r/#", AtLeastOnce);
        assert_eq!(world.payloads(late), ["kept"]);
        assert_eq!(world.total(|c| c.queued_messages + c.sessions_offline), 0);
    }
}

#[test]
fn a_qos_2_message_that_had_not_reached_everybody_goes_on_after_a_restart_and_comes_once() {
    for shards in [1, 2, 8] {
        let mut world = with_store(shards, ShardConfig::default());
        let exchange = ExchangeId {
            run: 0,
            shard: ShardId(5),
            number: 9,
        };
        let incoming = |packet_id, message| RestoredIncoming {
            packet_id,
            exchange,
            message,
        };
        let publisher = RestoredSession {
            incoming: vec![
                incoming(7, Some(message("a/b", "x", ExactlyOnce))),
                incoming(8, None),
            ],
            ..stored("p")
        };
        let had_it = RestoredSession {
            subscriptions: vec![subscription("a/b"), subscription("$share/g/a/b")],
            taken: vec![Taken {
                exchange,
                group: None,
            }],
            ..stored("had")
        };
        let had_it_by_group = RestoredSession {
            subscriptions: vec![subscription("a/+")],
            taken: vec![Taken {
                exchange,
                group: Some(GroupName {
                    share_name: "g".into(),
                    filter: "a/b".into(),
                }),
            }],
            ..stored("other")
        };
        restore(&mut world, &[publisher, had_it, had_it_by_group], &[]);
        world.settle();
        let publisher = world.connect_with("p", durable());
        for id in [7, 8] {
            world.publish(publisher, "a/b", "x", ExactlyOnce, id);
        }
        for _ in 0..4 {
            commit_all(&mut world);
        }
        assert_eq!(world.acks(publisher), ["PUBREC 7", "PUBREC 8"]);
        for name in ["had", "other"] {
            let subscriber = world.connect_with(name, durable());
            commit_all(&mut world);
            // One had its own copy and lacked its group's; the other the reverse.
            assert_eq!(world.payloads(subscriber), ["x"], "{name}");
        }
    }
}

#[test]
fn a_client_that_comes_back_again_and_again_does_not_pile_up_parked_messages() {
    let config = ShardConfig {
        publish_credits: 1,
        ..ShardConfig::default()
    };
    let mut world = World::with(2, config, 64);
    let name = world.id_on(0, "p");
    let topic = world.topic_on(1, "t");
    let mut publisher = world.connect_with(&name, durable());
    world.post(
        publisher,
        message(&topic, "holds the credit", AtLeastOnce),
        1,
    );
    for _ in 0..1_000 {
        world.post(publisher, message(&topic, "waits", AtLeastOnce), 2);
        lose(&mut world, publisher);
        publisher = back(&mut world, publisher, &name, 60);
    }
    assert!(world.shards[0].census().parked <= 17);
}
