//! Clients that stop reading: what they lose, what they do not, and that nobody else notices.

mod support;

use std::time::{Duration, Instant};

use support::*;

/// Socket buffers are the kernel's; these are ours, made small so that they fill soon.
fn tight(settings: &mut NodeSettings) {
    settings.connection.write_queue_high_water = 64 << 10;
    settings.connection.write_queue_bytes_max = 256 << 10;
    settings.shard.queue_messages_max = 200;
}

/// Numbered messages, large enough that not many of them fit into a socket.
fn numbered(n: usize) -> Vec<u8> {
    let mut payload = vec![b'.'; 20_000];
    payload[..4].copy_from_slice(&(n as u32).to_be_bytes());
    payload
}

fn number(publication: &Publication) -> usize {
    u32::from_be_bytes(publication.payload[..4].try_into().unwrap()) as usize
}

/// [MQTT-4.6.0-6]: what a slow client gets is a subsequence in order, at every level, and its queue is bounded.
#[test]
fn a_slow_client_gets_what_its_bounds_hold_in_order_and_others_get_everything() {
    for_every_layout_with(tight, |gateway| {
        let mut slow = gateway.client("slow");
        slow.subscribe("flood", AtLeastOnce);
        let mut quick = gateway.client("quick");
        quick.subscribe("flood", AtLeastOnce);
        let mut publisher = gateway.client("publisher");
        let count = 1_000;
        for n in 0..count {
            let reason = publisher.publish("flood", numbered(n), AtLeastOnce);
            assert_eq!(reason, ReasonCode::Success);
            assert_eq!(number(&quick.expect_publish()), n);
        }
        let queued = gateway.total(|shard| shard.router.queued_messages);
        assert!((1..=200).contains(&queued), "{queued} wait");
        let mut got = Vec::new();
        while got.last() != Some(&(count - 1)) {
            got.push(number(&slow.expect_publish()));
        }
        assert!(
            got.windows(2).all(|pair| pair[0] < pair[1]),
            "in order, each once"
        );
        assert!(got.len() >= 200, "{} came", got.len());
        slow.expect_silence();
        gateway.await_total(0, |shard| shard.router.queued_messages);
    });
}

/// [MQTT-3.3.4-10]: what a slow subscriber is owed holds back neither its own answers nor its publisher's.
#[test]
fn a_closed_window_with_a_full_queue_stops_nobody() {
    for_every_layout_with(tight, |gateway| {
        let options = ConnectOptions {
            receive_maximum: 1,
            ..options(V5, "one at a time")
        };
        let mut narrow = gateway.connect(options);
        narrow.subscribe("flood/#", AtLeastOnce);
        let mut publisher = gateway.client("publisher");
        let started = Instant::now();
        for n in 0..500 {
            publisher.publish("flood/x", format!("{n}"), AtLeastOnce);
        }
        assert!(started.elapsed() < PATIENCE, "the publisher was held back");
        narrow.fence();
        // The first one is under way; of the others the newest 200 are there.
        let expected: Vec<_> = std::iter::once(0)
            .chain(300..500)
            .map(|n| format!("{n}"))
            .collect();
        assert_eq!(narrow.expect_texts(201), expected);
        narrow.expect_silence();
    });
}

/// [MQTT-4.1.0-1]: whoever is closed because it does not read keeps its session.
#[test]
fn a_stuck_client_is_closed_and_finds_its_session_again() {
    let short = |settings: &mut NodeSettings| {
        tight(settings);
        settings.connection.send_timeout = Duration::from_millis(200);
    };
    for_every_layout_with(short, |gateway| {
        let lasting = ConnectOptions {
            clean_start: false,
            session_expiry_interval: 60,
            ..options(V5, "stuck")
        };
        let mut stuck = gateway.connect(lasting.clone());
        stuck.subscribe("flood", AtLeastOnce);
        let mut publisher = gateway.client("publisher");
        let deadline = Instant::now() + PATIENCE;
        let mut last = 0;
        while gateway.disconnects("send_timeout") == 0 {
            last += 1;
            publisher.publish("flood", numbered(last), AtLeastOnce);
            assert!(Instant::now() < deadline, "nobody minds the stuck client");
        }
        last += 1;
        publisher.publish("flood", numbered(last), AtLeastOnce);
        drop(stuck);
        let mut back = gateway.connect(lasting);
        assert!(back.session_present());
        let mut before = 0;
        while before != last {
            let publication = back.expect_publish();
            assert!(number(&publication) > before);
            before = number(&publication);
        }
        back.expect_silence();
    });
}
