//! UNSUBSCRIBE and UNSUBACK (MQTT 5 and 3.1.1 sections 3.10 and 3.11).

mod support;

use support::*;
use ReasonCode::{NoSubscriptionExisted, Success, TopicFilterInvalid};

/// [MQTT-3.10.4-4], [MQTT-3.10.4-5], [MQTT-2.2.1-6], [MQTT-3.11.3-2], [3.1.1 MQTT-3.10.4-4],
/// [3.1.1 MQTT-3.10.4-5], [3.1.1 MQTT-2.3.1-7]
#[test]
fn mqtt5_3_10_4_5_unsuback_bears_the_packet_id_also_where_nothing_was_subscribed() {
    for_every_layout(|gateway| {
        let mut new = Raw::connected(gateway, V5, "new");
        let mut old = Raw::connected(gateway, V3_1_1, "old");
        for id in [[0, 1], [0x12, 0x34], [0xff, 0xff]] {
            new.send(packet(0xa2, &[&id, &[0], &text("never")]));
            new.expect([0xb0, 4, id[0], id[1], 0, 0x11]);
            old.send(packet(0xa2, &[&id, &text("never")]));
            old.expect([0xb0, 2, id[0], id[1]]);
        }
        new.send(packet(0x82, &[&[0, 1, 0], &text("ever"), &[0]]));
        new.expect([0x90, 4, 0, 1, 0, 0]);
        new.send(packet(0xa2, &[&[0, 2, 0], &text("ever")]));
        new.expect([0xb0, 4, 0, 2, 0, 0]);
    });
}

/// [MQTT-3.10.4-1], [MQTT-3.10.4-2], [3.1.1 MQTT-3.10.4-1], [3.1.1 MQTT-3.10.4-2]
#[test]
fn mqtt5_3_10_4_2_nothing_published_later_is_delivered() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            for filter in ["un/sub", "un/#", "+/sub", "#"] {
                let mut client = gateway.connect(options(version, "client"));
                client.subscribe(filter, ExactlyOnce);
                let mut publisher = gateway.client("publisher");
                publisher.publish("un/sub", "before", AtLeastOnce);
                client.unsubscribe(&[filter]);
                for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
                    publisher.publish("un/sub", "after", qos);
                }
                assert_eq!(client.expect_publish().text(), "before");
                client.expect_silence();
            }
        }
    });
}

/// [MQTT-3.10.4-1], [3.1.1 MQTT-3.10.4-1]
#[test]
fn mqtt5_3_10_4_1_filters_are_compared_character_by_character() {
    for_every_layout(|gateway| {
        let mut new = gateway.client("new");
        let mut old = gateway.client_v3("old");
        for client in [&mut new, &mut old] {
            client.subscribe("exact/+", AtLeastOnce);
        }
        let others = [
            "exact/x", "exact/#", "Exact/+", "exact/+/", "/exact/+", "#", "exact",
        ];
        assert_eq!(new.unsubscribe(&others), [NoSubscriptionExisted; 7]);
        old.unsubscribe(&others);
        let mut publisher = gateway.client("publisher");
        publisher.publish("exact/x", "still", AtLeastOnce);
        for client in [&mut new, &mut old] {
            assert_eq!(client.expect_publish().text(), "still");
            client.unsubscribe(&["exact/+"]);
        }
        publisher.publish("exact/x", "no more", AtLeastOnce);
        new.expect_silence();
        old.expect_silence();
    });
}

/// [MQTT-3.10.4-6], [MQTT-3.11.3-1], [MQTT-3.11.3-2], [3.1.1 MQTT-3.10.4-6]
#[test]
fn mqtt5_3_10_4_6_many_filters_are_answered_by_one_unsuback_in_their_order() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let mut client = gateway.connect(options(version, "client"));
            for filter in ["m/1", "m/+/2", "#", "$share/g/m/4"] {
                client.subscribe(filter, AtLeastOnce);
            }
            let filters = [
                "m/1",
                "m/none",
                "#",
                "m/1",
                "$share/g/m/4",
                "$share/h/m/4",
                "m/+/2",
            ];
            let reasons = client.unsubscribe(&filters);
            if version == V5 {
                let existed = [true, false, true, false, true, false, true];
                let expected = existed.map(|existed| {
                    if existed {
                        Success
                    } else {
                        NoSubscriptionExisted
                    }
                });
                assert_eq!(reasons, expected);
            }
            let mut publisher = gateway.client("publisher");
            for topic in ["m/1", "m/x/2", "m/4"] {
                publisher.publish(topic, "x", AtLeastOnce);
            }
            client.expect_silence();
        }
    });
}

/// [MQTT-3.11.3-1], [MQTT-3.11.3-2]: a filter that is none fails alone.
#[test]
fn mqtt5_3_11_3_2_a_filter_that_is_none_is_answered_as_such() {
    for_every_layout(|gateway| {
        let mut client = gateway.client("client");
        client.subscribe("good", AtMostOnce);
        let expected = [TopicFilterInvalid, Success, TopicFilterInvalid];
        assert_eq!(client.unsubscribe(&["a/#/b", "good", "$share/g"]), expected);
    });
}

/// [MQTT-3.10.4-3], [3.1.1 MQTT-3.10.4-3]
#[test]
fn mqtt5_3_10_4_3_what_was_being_delivered_is_completed() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let expiry = if version == V5 { 60 } else { 0 };
            let lasting = ConnectOptions {
                clean_start: false,
                session_expiry_interval: expiry,
                ..options(version, "client")
            };
            let mut client = gateway.connect(lasting.clone());
            client.subscribe("complete", ExactlyOnce);
            let mut publisher = gateway.client("publisher");
            publisher.publish("complete", "one", AtLeastOnce);
            publisher.publish("complete", "two", ExactlyOnce);
            publisher.publish("complete", "three", ExactlyOnce);
            let one = client.take_publish();
            let two = client.take_publish();
            let three = client.take_publish();
            client.unsubscribe(&["complete"]);
            client.send_pubrec(two.packet_id);
            client.expect_pubrel(two.packet_id);
            client.vanish();
            // The exchanges go on with the session, without its subscription.
            let mut client = gateway.connect(lasting.clone());
            client.expect_packet(Packet::Publish(Publication { dup: true, ..one }));
            client.expect_packet(Packet::PubRel {
                packet_id: two.packet_id,
                reason: Success,
            });
            client.expect_packet(Packet::Publish(Publication {
                dup: true,
                ..three.clone()
            }));
            client.send_pubrec(three.packet_id);
            client.expect_pubrel(three.packet_id);
            publisher.publish("complete", "four", AtLeastOnce);
            client.expect_silence();
            gateway.connect(options(version, "client")).disconnect();
        }
    });
}

/// [MQTT-3.10.4-2]: a burst that is under way may still come, but nothing behind UNSUBACK.
#[test]
fn mqtt5_3_10_4_2_unsuback_is_the_end_also_under_load() {
    for_every_layout(|gateway| {
        let mut client = gateway.client("client");
        client.subscribe("load/#", AtMostOnce);
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                let mut publisher = gateway.client("publisher");
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    publisher.publish("load/x", "x", AtLeastOnce);
                }
            });
            for _ in 0..20 {
                client.take_publish();
            }
            client.unsubscribe(&["load/#"]);
            // What came before UNSUBACK was kept on the way to it.
            while client.try_next(std::time::Duration::ZERO).is_some() {}
            for _ in 0..20 {
                client.expect_silence();
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            publisher.join().unwrap();
        });
    });
}
