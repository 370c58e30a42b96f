//! What a peer may not exceed, and what it is told (contract, "Default limits").

mod support;

use std::sync::Arc;

use support::*;
use tidegate_codec::topic::TopicLimits;
use tidegate_codec::TopicFilter;
use ReasonCode::{GrantedQos1, NotAuthorized, Success, TopicFilterInvalid};

/// [MQTT-3.2.2-15], MQTT 5 section 3.1.2.11.4: a packet above our maximum is refused from its header alone.
#[test]
fn mqtt5_3_2_2_15_a_packet_above_our_maximum_is_too_large() {
    let small = |settings: &mut NodeSettings| {
        Arc::make_mut(&mut settings.mqtt).packet_bytes_max = 1_000;
    };
    for_every_layout_with(small, |gateway| {
        let mut witness = gateway.client("witness");
        assert_eq!(witness.connack().maximum_packet_size, Some(1_000));
        witness.subscribe("size", AtLeastOnce);
        let payload = [b'x'; 1_000];
        for (version, head) in [(V5, 3 + 6 + 1), (V3_1_1, 3 + 6)] {
            let none: &[u8] = if version == V5 { &[0] } else { &[] };
            let publish = |len: usize| packet(0x30, &[&text("size"), none, &payload[..len - head]]);
            assert_eq!((publish(1_000).len(), publish(1_001).len()), (1_000, 1_001));
            let mut raw = Raw::connected(gateway, version, "sender");
            raw.send(publish(1_000));
            assert_eq!(witness.expect_publish().payload.len(), 1_000 - head);
            raw.send(publish(1_001));
            if version == V5 {
                raw.expect([0xe0, 1, 0x95]);
            }
            raw.expect_closed();
            let mut raw = Raw::connected(gateway, version, "sender");
            raw.send([0x30, 0xff, 0xff, 0xff, 0x7f]);
            if version == V5 {
                raw.expect([0xe0, 1, 0x95]);
            }
            raw.expect_closed();
        }
        witness.expect_silence();
    });
}

/// [MQTT-3.1.2-24], [MQTT-3.1.2-25]: what does not fit is left out as if it had been delivered.
#[test]
fn mqtt5_3_1_2_25_what_the_client_cannot_take_is_discarded() {
    for_every_layout(|gateway| {
        let lasting = |maximum_packet_size| ConnectOptions {
            clean_start: false,
            session_expiry_interval: 60,
            maximum_packet_size,
            receive_maximum: 1,
            ..options(V5, "small")
        };
        let mut small = gateway.connect(lasting(Some(100)));
        small.subscribe("size/#", ExactlyOnce);
        let mut other = gateway.client("other");
        other.subscribe("size/#", AtMostOnce);
        let mut publisher = gateway.client("publisher");
        // Fixed header 2, topic 8, packet id 2, property length 1: 87 bytes of payload make 100.
        for qos in [AtLeastOnce, ExactlyOnce] {
            for (len, fits) in [(87, true), (88, false), (5_000, false), (1, true)] {
                let reason = publisher.publish("size/x", vec![b'x'; len], qos);
                assert_eq!(reason, Success);
                assert_eq!(other.expect_publish().payload.len(), len);
                if fits {
                    assert_eq!(small.expect_publish().payload.len(), len);
                }
            }
        }
        publisher.publish("size/x", [b'x'; 90], AtMostOnce);
        other.expect_publish();
        small.expect_silence();
        small.disconnect();
        // Neither do they wait for a connection that could take them, where they were sent already.
        publisher.publish("size/x", [b'x'; 500], AtLeastOnce);
        publisher.publish("size/x", "fits", AtLeastOnce);
        let mut small = gateway.connect(lasting(Some(100)));
        assert_eq!(small.expect_publish().text(), "fits");
        small.expect_silence();
        small.disconnect();
        let mut small = gateway.connect(lasting(None));
        small.expect_silence();
    });
}

/// [MQTT-3.1.2-24]: what was sent on a wider connection and does not fit into the new one is given up.
#[test]
fn mqtt5_3_1_2_24_what_is_sent_again_keeps_to_the_new_maximum() {
    for_every_layout(|gateway| {
        let lasting = |maximum_packet_size| ConnectOptions {
            clean_start: false,
            session_expiry_interval: 60,
            maximum_packet_size,
            ..options(V5, "shrinks")
        };
        let mut client = gateway.connect(lasting(None));
        client.subscribe("shrink", ExactlyOnce);
        let mut publisher = gateway.client("publisher");
        publisher.publish("shrink", [b'x'; 200], AtLeastOnce);
        publisher.publish("shrink", "short", ExactlyOnce);
        publisher.publish("shrink", [b'x'; 200], ExactlyOnce);
        for _ in 0..3 {
            client.take_publish();
        }
        client.vanish();
        let mut client = gateway.connect(lasting(Some(60)));
        assert_eq!(client.expect_publish().text(), "short");
        client.expect_silence();
    });
}

/// Topic names and filters beyond the limits of bytes and levels: 0x90, 0x8F; 3.1.1 closes, and says 0x80.
#[test]
fn mqtt5_4_7_3_topics_above_the_limits_are_refused() {
    in_one_layout(|gateway| {
        let levels = |count: usize| vec!["l"; count].join("/");
        let long = |len: usize| "t".repeat(len);
        let mut client = gateway.client("client");
        let mut old = gateway.client_v3("old");
        for good in [levels(32), long(1_024)] {
            for client in [&mut client, &mut old] {
                assert_eq!(client.try_subscribe(&good, at(AtLeastOnce)), GrantedQos1);
            }
            client.publish(&good, "x", AtLeastOnce);
            old.publish(&good, "x", AtLeastOnce);
            for client in [&mut client, &mut old] {
                assert_eq!(client.expect_texts(2), ["x", "x"]);
            }
        }
        for bad in [levels(33), long(1_025), levels(300)] {
            assert_eq!(
                client.try_subscribe(&bad, at(AtLeastOnce)),
                TopicFilterInvalid
            );
            let reason = old.try_subscribe(&bad, at(AtLeastOnce));
            assert_eq!(reason, ReasonCode::UnspecifiedError);
            let mut new = gateway.client("publisher");
            new.send_publish(&bad, "x", AtMostOnce);
            new.expect_disconnect(ReasonCode::TopicNameInvalid);
            let mut old = gateway.client_v3("publisher");
            old.send_publish(&bad, "x", AtLeastOnce);
            old.expect_closed();
        }
        client.expect_silence();
        old.expect_silence();
    });
}

fn deny(settings: &mut NodeSettings) {
    let limits = TopicLimits {
        bytes_max: 64,
        levels_max: 8,
    };
    let denied = ["denied/#", "part/+/secret"];
    settings.shard.denied = denied
        .map(|f| TopicFilter::parse(f, limits).unwrap())
        .to_vec();
}

/// [MQTT-3.9.3-2], [MQTT-3.8.4-7], [3.1.1 MQTT-3.9.3-2], MQTT 5 sections 3.4.2.1 and 3.9.3: what is denied is
/// refused by name, and stays so through wider filters.
#[test]
fn mqtt5_3_9_3_2_denied_topics_are_not_authorized() {
    for_every_layout_with(deny, |gateway| {
        let mut client = gateway.client("client");
        for (filter, expected) in [
            ("denied/x", NotAuthorized),
            ("denied/#", NotAuthorized),
            ("denied", NotAuthorized),
            ("denied/+/x", NotAuthorized),
            ("$share/g/denied/x", NotAuthorized),
            ("part/a/secret", NotAuthorized),
            ("part/+/secret", NotAuthorized),
            ("part/a/open", GrantedQos1),
            ("deniedx", GrantedQos1),
            ("#", GrantedQos1),
        ] {
            assert_eq!(
                client.try_subscribe(filter, at(AtLeastOnce)),
                expected,
                "{filter}"
            );
        }
        let mut raw = Raw::connected(gateway, V3_1_1, "old");
        raw.send(packet(
            0x82,
            &[&[0, 1], &text("denied/x"), &[1], &text("open"), &[1]],
        ));
        raw.expect([0x90, 4, 0, 1, 0x80, 1]);
        let mut publisher = gateway.client("publisher");
        for topic in ["denied/x", "denied", "part/b/secret"] {
            for qos in [AtLeastOnce, ExactlyOnce] {
                assert_eq!(publisher.publish(topic, "x", qos), NotAuthorized, "{topic}");
            }
            publisher.publish(topic, "x", AtMostOnce);
        }
        assert_eq!(publisher.publish("part/b/open", "x", AtLeastOnce), Success);
        assert_eq!(client.expect_publish().topic, "part/b/open");
        client.expect_silence();
        // A will that may not be published goes nowhere either.
        let doomed = ConnectOptions {
            will: will("denied/will", "x", AtLeastOnce, true),
            ..options(V5, "doomed")
        };
        gateway.connect(doomed).vanish();
        gateway.await_total(3, |shard| shard.router.sessions_online);
        client.expect_silence();
    });
}
