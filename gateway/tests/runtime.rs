//! Stories about the shard runtime itself: backpressure, limits, fairness, start and end.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::*;
use tidegate::node::{Node, NodeError};

#[test]
fn a_draining_gateway_says_goodbye_and_ends() {
    for_every_layout(|gateway| {
        let mut clients: Vec<_> = (0..20).map(|n| gateway.client(&format!("c{n}"))).collect();
        let mut unheard = gateway.open(V5);
        gateway.node().control().drain();
        for client in &mut clients {
            client.expect_disconnect(ReasonCode::ServerShuttingDown);
        }
        unheard.expect_closed();
    });
}

#[test]
fn large_messages_pass_whole() {
    for_every_layout(|gateway| {
        let mut subscriber = gateway.client("subscriber");
        subscriber.subscribe("large", AtLeastOnce);
        let mut publisher = gateway.client("publisher");
        for len in [
            0, 1, 255, 256, 257, 4_095, 4_096, 4_097, 65_535, 300_000, 1_000_000,
        ] {
            let payload: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            publisher.publish("large", &payload, AtLeastOnce);
            let publication = subscriber.expect_publish();
            assert!(publication.payload == payload, "{len} bytes");
        }
    });
}

#[test]
fn many_small_messages_share_a_send() {
    for_every_layout(|gateway| {
        let mut subscriber = gateway.client("subscriber");
        subscriber.subscribe("burst/#", AtMostOnce);
        let mut publisher = gateway.client("publisher");
        let sends = || {
            gateway.total(|shard| {
                let sends = ["entry_send", "send", "entry_send_gathered", "sendmsg"];
                let calls = shard.driver_calls_total.iter();
                calls
                    .filter(|(name, _)| sends.contains(name))
                    .map(|(_, count)| count)
                    .sum()
            })
        };
        let before = sends();
        let mut bytes = Vec::new();
        for n in 0..500 {
            let payload = format!("{n}");
            let codec = publisher.codec();
            codec.publish(
                "burst/x",
                payload.as_bytes(),
                AtMostOnce,
                false,
                false,
                0,
                &[],
                &mut bytes,
            );
        }
        publisher.send_raw(&bytes);
        for n in 0..500 {
            assert_eq!(subscriber.expect_publish().text(), format!("{n}"));
        }
        let used = sends() - before;
        assert!(used < 100, "{used} sends for 500 messages");
    });
}

#[test]
fn a_subscriber_that_does_not_read_loses_qos_0_and_nobody_waits_for_it() {
    for_every_layout_with(tight_queues, |gateway| {
        let mut slow = gateway.client("slow");
        slow.subscribe("flood", AtMostOnce);
        let mut quick = gateway.client("quick");
        quick.subscribe("flood", AtMostOnce);
        let mut publisher = gateway.client("publisher");
        let payload = vec![7; 10_000];
        // More than both kernels' buffers and the write queue hold together.
        for _ in 0..2_000 {
            publisher.send_publish("flood", &payload, AtMostOnce);
            quick.expect_publish();
        }
        publisher.ping();
        assert!(gateway.total(|shard| shard.router.dropped.iter().sum()) > 0);
        publisher.send_publish("flood", "last", AtMostOnce);
        quick.expect_publish();
        // What the slow one finds is a beginning of the stream, whole.
        assert_eq!(slow.expect_publish().payload, payload);
        slow.disconnect_after_reading();
    });
}

#[test]
fn qos_1_waits_in_the_session_for_a_subscriber_that_does_not_read() {
    for_every_layout_with(tight_queues, |gateway| {
        let mut slow = gateway.client("slow");
        slow.subscribe("flood", AtLeastOnce);
        let mut publisher = gateway.client("publisher");
        let payload = vec![7; 10_000];
        for n in 0..1_000u32 {
            let numbered = [&n.to_be_bytes()[..], &payload].concat();
            publisher.publish("flood", numbered, AtLeastOnce);
        }
        for n in 0..1_000u32 {
            let publication = slow.expect_publish();
            assert_eq!(publication.payload[..4], n.to_be_bytes());
        }
    });
}

/// Socket buffers are the kernel's; these are ours.
fn tight_queues(settings: &mut NodeSettings) {
    settings.connection.write_queue_high_water = 64 << 10;
    settings.connection.write_queue_bytes_max = 256 << 10;
}

#[test]
fn who_takes_none_of_its_bytes_is_closed_after_the_send_timeout() {
    let short = |settings: &mut NodeSettings| {
        tight_queues(settings);
        settings.connection.send_timeout = Duration::from_millis(200);
    };
    for_every_layout_with(short, |gateway| {
        let mut stuck = gateway.client("stuck");
        stuck.subscribe("flood", AtMostOnce);
        let mut publisher = gateway.client("publisher");
        let payload = vec![7; 100_000];
        let deadline = Instant::now() + PATIENCE;
        while gateway.disconnects("send_timeout") == 0 {
            publisher.publish("flood", &payload, AtMostOnce);
            publisher.ping();
            assert!(Instant::now() < deadline, "nobody minds the stuck client");
        }
        publisher.ping();
    });
}

#[test]
fn who_asks_without_reading_the_answers_is_stopped() {
    for_every_layout_with(tight_queues, |gateway| {
        let mut greedy = gateway.client("greedy");
        greedy
            .stream()
            .set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let pings = [0xc0, 0].repeat(32 << 10);
        // Far more than the kernel's buffers hold: at some point nobody reads us any more, or we are closed.
        let stopped = (0..1_000).any(|_| greedy.try_send_raw(&pings).is_err());
        assert!(stopped);
        gateway.client("other").ping();
    });
}

#[test]
fn accepting_pauses_at_the_bound_and_goes_on_when_a_slot_is_free() {
    for layout in LAYOUTS.into_iter().filter(|layout| layout.shards == 1) {
        let mut settings = settings(layout);
        settings.connection.connections_max = 10;
        let gateway = Gateway::start(settings);
        let mut clients: Vec<_> = (0..10).map(|n| gateway.client(&format!("c{n}"))).collect();
        let mut late = gateway.open(V5);
        late.send_connect(&options(V5, "late"));
        clients.iter_mut().for_each(Client::ping);
        late.expect_nothing_for(Duration::from_millis(100));
        assert_eq!(gateway.connections(), 10);
        assert_eq!(gateway.total(|shard| shard.accept_pauses_total), 1);
        let turns = gateway.total(|shard| shard.turns_total);
        late.expect_nothing_for(Duration::from_millis(100));
        assert!(
            gateway.total(|shard| shard.turns_total) - turns < 20,
            "a pause does not spin"
        );
        clients.pop().unwrap().disconnect();
        assert!(matches!(
            late.next(),
            Packet::ConnAck {
                reason: ReasonCode::Success,
                ..
            }
        ));
        gateway.end();
    }
}

#[test]
fn bytes_before_connect_are_bounded() {
    let tight = |settings: &mut NodeSettings| {
        settings.connection.pre_auth_budget_bytes = 20_000;
        Arc::make_mut(&mut settings.mqtt).connect_bytes_max = 100_000;
    };
    for_every_layout_with(tight, |gateway| {
        let shards = usize::from(gateway.layout.shards);
        // A CONNECT of 60,000 bytes of which 9,000 come: two a shard fit into its budget.
        let mut start = vec![0x10, 0xe0, 0xd4, 0x03, 0, 4];
        start.extend(b"MQTT");
        start.resize(9_000, 0);
        let mut crowd: Vec<_> = (0..shards * 12).map(|_| gateway.open(V5)).collect();
        for client in &mut crowd {
            client.send_raw(&start);
        }
        let closed = |client: &mut Client| {
            client
                .try_next(Duration::from_millis(50))
                .is_some_and(|packet| packet == Packet::Closed)
        };
        let closed = crowd
            .iter_mut()
            .map(closed)
            .filter(|closed| *closed)
            .count();
        assert!(
            closed >= shards * 12 - shards * 2 - shards,
            "{closed} were closed"
        );
        drop(crowd);
        gateway.await_total(0, |shard| shard.connections[0].2);
        gateway.client("welcome").ping();
    });
}

#[test]
fn a_busy_mailbox_starves_no_socket_and_a_busy_socket_no_mailbox() {
    for layout in LAYOUTS.into_iter().filter(|layout| layout.shards > 1) {
        let gateway = Gateway::start(settings(layout));
        let topic = gateway.topic_on(1, "flood");
        // Shard 1 is home to the witness and owner of the flooded topic: its mailbox is busy with what the
        // flooder on shard 0 publishes, its sockets with the flooder that lives there.
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flooders: Vec<_> = [0, 1]
            .map(|shard| {
                let mut flooder = gateway.client(&gateway.id_on(shard, "flooder"));
                let (stop, topic) = (stop.clone(), topic.clone());
                std::thread::spawn(move || {
                    let mut bytes = Vec::new();
                    for _ in 0..1_000 {
                        let codec = flooder.codec();
                        codec.publish(&topic, b"x", AtMostOnce, false, false, 0, &[], &mut bytes);
                    }
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        flooder.send_raw(&bytes);
                    }
                })
            })
            .into_iter()
            .collect();
        let mut witness = gateway.client(&gateway.id_on(1, "witness"));
        let mut far = gateway.client(&gateway.id_on(0, "far"));
        witness.subscribe("quiet/+", AtLeastOnce);
        let mut worst = Duration::ZERO;
        for n in 0..50 {
            let started = Instant::now();
            // A socket of the busy shard, and a mailbox in each direction.
            witness.ping();
            far.publish("quiet/a", format!("{n}"), AtLeastOnce);
            assert_eq!(witness.expect_publish().text(), format!("{n}"));
            worst = worst.max(started.elapsed());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        flooders
            .into_iter()
            .for_each(|flooder| flooder.join().unwrap());
        // Whoever is starved waits as long as the flood lasts; eight shards on a busy machine with two CPUs take
        // seconds too, because each waits for its turn on them.
        assert!(worst < Duration::from_secs(10), "{worst:?} in {layout:?}");
        gateway.end();
    }
}

#[test]
fn an_idle_gateway_hardly_wakes() {
    for layout in LAYOUTS {
        let gateway = Gateway::start(settings(layout));
        let mut clients: Vec<_> = (0..100).map(|n| gateway.client(&format!("c{n}"))).collect();
        clients.iter_mut().for_each(Client::ping);
        let turns = || gateway.total(|shard| shard.turns_total);
        let before = turns();
        // The one place that waits for time to pass: what must not happen has no event to wait for.
        clients[0].expect_nothing_for(Duration::from_millis(300));
        let woken = turns() - before;
        assert!(
            woken <= 6 * u64::from(layout.shards),
            "{woken} turns in 300 ms in {layout:?}"
        );
        gateway.end();
    }
}

#[test]
fn a_shard_that_cannot_start_is_an_error_and_not_a_hang() {
    for layout in LAYOUTS {
        let settings = NodeSettings {
            cpus: vec![0, 1_000_000],
            ..settings(layout)
        };
        let expected = u16::from(layout.shards > 1);
        match Node::start(settings) {
            Ok(_) => assert_eq!(layout.shards, 1, "the only shard is on CPU 0"),
            Err(NodeError::ShardStart { shard, error }) => {
                assert_eq!(shard % 2, expected);
                assert!(error.contains("CPU"), "{error}");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_port_that_another_gateway_serves_is_an_error() {
    let gateway = Gateway::start(settings(LAYOUTS[1]));
    let mut second = settings(LAYOUTS[1]);
    second.listeners[0].addr = gateway.addr;
    match Node::start(second) {
        Err(NodeError::Listen { addr, error }) => {
            assert_eq!(addr, gateway.addr);
            assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        }
        other => panic!("expected an error, got {other:?}"),
    }
    gateway.end();
}

#[test]
fn listeners_speak_ipv6_too() {
    for layout in LAYOUTS {
        let mut settings = settings(layout);
        settings.listeners.push(settings.listeners[0].clone());
        settings.listeners[1].addr = "[::1]:0".parse().unwrap();
        let gateway = Gateway::start(settings);
        let addr = gateway.node().listeners()[1].addr;
        let mut client = Client::open(addr, V5);
        client.connect(&options(V5, "six"));
        client.ping();
        gateway.end();
    }
}

#[test]
fn a_peer_that_closes_its_half_still_gets_its_answers() {
    for_every_layout(|gateway| {
        let mut witness = gateway.client("witness");
        witness.subscribe("last/words", AtLeastOnce);
        let mut client = gateway.client("leaving");
        let id = client.send_publish("last/words", "bye", AtLeastOnce);
        client.finish_sending();
        assert_eq!(witness.expect_publish().text(), "bye");
        // Alone on its shard the answer is written in the turn that sees the end.
        if gateway.layout.shards == 1 {
            assert_eq!(client.expect_puback(id), ReasonCode::Success);
        }
    });
}

#[test]
fn a_thousand_clients_that_come_at_once_are_all_let_in() {
    for_every_layout(|gateway| {
        let mut clients: Vec<_> = (0..1_000).map(|_| gateway.open(V5)).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.send_connect(&options(V5, &format!("storm-{n}")));
        }
        for client in &mut clients {
            let accepted = ReasonCode::Success;
            assert!(matches!(client.next(), Packet::ConnAck { reason, .. } if reason == accepted));
        }
        assert_eq!(gateway.connections(), 1_000);
    });
}

#[test]
fn a_storm_of_connects_and_vanishing_clients_leaves_nothing_behind() {
    for_every_layout(|gateway| {
        for round in 0..5 {
            let clients: Vec<_> = (0..100)
                .map(|n| gateway.client(&format!("c{}", (n + round) % 120)))
                .collect();
            for (n, client) in clients.into_iter().enumerate() {
                match n % 3 {
                    0 => client.vanish(),
                    1 => drop(client),
                    _ => {
                        let mut client = client;
                        client.try_send_raw(&[0xe0, 0]).unwrap();
                    }
                }
            }
        }
        gateway.await_total(0, |shard| shard.connections[0].2);
        gateway.await_total(0, |shard| shard.router.sessions_online);
    });
}
