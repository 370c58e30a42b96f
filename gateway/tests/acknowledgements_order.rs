//! The order of messages and of their acknowledgements (MQTT 5 and 3.1.1 section 4.6).

mod support;

use support::*;

/// A connection with everything it may have unacknowledged sent in one piece, to topics of many owners.
fn burst(client: &mut Client, qos: impl Fn(u16) -> Qos) {
    let mut bytes = Vec::new();
    for id in 1..=32 {
        let (topic, payload) = (format!("order/{id}"), format!("{id}"));
        let codec = client.codec();
        codec.publish(
            &topic,
            payload.as_bytes(),
            qos(id),
            false,
            false,
            id,
            &[],
            &mut bytes,
        );
    }
    client.send_raw(&bytes);
}

/// [MQTT-4.6.0-2], [3.1.1 MQTT-4.6.0-2], [3.1.1 MQTT-4.6.0-6]
#[test]
fn mqtt5_4_6_0_2_pubacks_leave_in_the_order_of_receipt() {
    for_every_layout(|gateway| {
        let mut subscriber = gateway.client("subscriber");
        subscriber.subscribe("order/#", AtMostOnce);
        for version in [V3_1_1, V5] {
            let mut publisher = gateway.connect(options(version, "publisher"));
            burst(&mut publisher, |_| AtLeastOnce);
            for packet_id in 1..=32 {
                publisher.expect_packet(Packet::PubAck {
                    packet_id,
                    reason: ReasonCode::Success,
                });
            }
        }
    });
}

/// [MQTT-4.6.0-3], [3.1.1 MQTT-4.6.0-3], [3.1.1 MQTT-4.6.0-6]
#[test]
fn mqtt5_4_6_0_3_pubrecs_leave_in_the_order_of_receipt() {
    for_every_layout(|gateway| {
        let mut subscriber = gateway.client("subscriber");
        subscriber.subscribe("order/#", AtMostOnce);
        for version in [V3_1_1, V5] {
            let mut publisher = gateway.connect(options(version, "publisher"));
            burst(&mut publisher, |_| ExactlyOnce);
            for packet_id in 1..=32 {
                publisher.expect_packet(Packet::PubRec {
                    packet_id,
                    reason: ReasonCode::Success,
                });
            }
            for packet_id in (1..=32).rev() {
                publisher.send_pubrel(packet_id);
            }
            for packet_id in (1..=32).rev() {
                publisher.expect_packet(Packet::PubComp {
                    packet_id,
                    reason: ReasonCode::Success,
                });
            }
        }
    });
}

/// [MQTT-4.6.0-2], [MQTT-4.6.0-3]: between the levels too, also where some messages find no subscriber.
#[test]
fn mqtt5_4_6_0_3_acknowledgements_of_both_levels_keep_their_order() {
    for_every_layout(|gateway| {
        let mut subscriber = gateway.client("subscriber");
        let somewhere = at(AtMostOnce);
        let filters: Vec<_> = (1..=32).step_by(3).map(|n| format!("order/{n}")).collect();
        let filters: Vec<_> = filters
            .iter()
            .map(|filter| (filter.as_str(), somewhere))
            .collect();
        subscriber.subscribe_with(&filters, None);
        let mut publisher = gateway.client("publisher");
        let qos = |id| {
            if id % 2 == 0 {
                AtLeastOnce
            } else {
                ExactlyOnce
            }
        };
        burst(&mut publisher, qos);
        for packet_id in 1..=32 {
            let reason = match packet_id % 3 {
                1 => ReasonCode::Success,
                _ => ReasonCode::NoMatchingSubscribers,
            };
            publisher.expect_packet(match qos(packet_id) {
                AtLeastOnce => Packet::PubAck { packet_id, reason },
                _ => Packet::PubRec { packet_id, reason },
            });
        }
    });
}

/// [MQTT-4.6.0-4], [3.1.1 MQTT-4.6.0-4]
#[test]
fn mqtt5_4_6_0_4_pubrels_leave_in_the_order_of_the_pubrecs() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let mut subscriber = gateway.connect(options(version, "subscriber"));
            subscriber.subscribe("order/#", ExactlyOnce);
            let mut publisher = gateway.client("publisher");
            for n in 0..10 {
                publisher.publish("order/x", format!("{n}"), ExactlyOnce);
            }
            let mut ids: Vec<_> = (0..10)
                .map(|_| subscriber.take_publish().packet_id)
                .collect();
            ids.swap(0, 7);
            ids.swap(3, 9);
            ids.iter().for_each(|&id| subscriber.send_pubrec(id));
            for &packet_id in &ids {
                subscriber.expect_packet(Packet::PubRel {
                    packet_id,
                    reason: ReasonCode::Success,
                });
            }
            ids.iter().rev().for_each(|&id| subscriber.send_pubcomp(id));
            subscriber.expect_silence();
        }
    });
}

/// [MQTT-4.6.0-5], [MQTT-4.6.0-6], [3.1.1 MQTT-4.6.0-5], [3.1.1 MQTT-4.6.0-6]
#[test]
fn mqtt5_4_6_0_5_every_topic_is_ordered_for_every_subscriber() {
    for_every_layout(|gateway| {
        let mut subscribers: Vec<_> = (0..6)
            .map(|n| {
                let version = if n % 2 == 0 { V3_1_1 } else { V5 };
                let mut client = gateway.connect(options(version, &format!("subscriber-{n}")));
                client.subscribe(["order/topic", "order/#", "+/topic"][n / 2], ExactlyOnce);
                client
            })
            .collect();
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            let mut publisher = gateway.client("publisher");
            for n in 0..100 {
                let text = format!("{n}");
                publisher.send_publish("order/topic", &text, qos);
                // Within our Receive Maximum.
                if qos == ExactlyOnce {
                    publisher.expect_pubrec(n + 1);
                    publisher.send_pubrel(n + 1);
                    publisher.expect_pubcomp(n + 1);
                } else if qos == AtLeastOnce && n % 16 == 15 {
                    publisher.expect_puback(n + 1);
                }
            }
            let expected: Vec<_> = (0..100).map(|n| format!("{n}")).collect();
            for subscriber in &mut subscribers {
                assert_eq!(subscriber.expect_texts(100), expected, "{qos:?}");
            }
        }
    });
}

/// [MQTT-4.6.0-1], [MQTT-4.4.0-1], [3.1.1 MQTT-4.6.0-1], [3.1.1 MQTT-4.6.0-6]
#[test]
fn mqtt5_4_6_0_1_what_is_sent_again_keeps_its_order_and_goes_first() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let lasting = ConnectOptions {
                clean_start: false,
                session_expiry_interval: if version == V5 { 60 } else { 0 },
                ..options(version, &format!("{version:?}"))
            };
            let mut subscriber = gateway.connect(lasting.clone());
            subscriber.subscribe("order/#", ExactlyOnce);
            let mut publisher = gateway.client("publisher");
            let qos = |n| if n % 2 == 0 { AtLeastOnce } else { ExactlyOnce };
            for n in 0..20 {
                publisher.publish("order/topic", format!("{n}"), qos(n));
            }
            let first: Vec<_> = (0..20).map(|_| subscriber.take_publish()).collect();
            // Acknowledged are 4 and 12; 7 is half done.
            subscriber.send_puback(first[4].packet_id);
            subscriber.send_puback(first[12].packet_id);
            subscriber.send_pubrec(first[7].packet_id);
            subscriber.expect_pubrel(first[7].packet_id);
            subscriber.fence();
            subscriber.vanish();
            gateway.await_total(1, |shard| shard.router.sessions_offline);
            for n in 20..30 {
                publisher.publish("order/topic", format!("{n}"), qos(n));
            }
            let mut subscriber = gateway.connect(lasting);
            for n in (0..20).filter(|n| ![4, 12].contains(n)) {
                let packet_id = first[n].packet_id;
                if n == 7 {
                    subscriber.expect_packet(Packet::PubRel {
                        packet_id,
                        reason: ReasonCode::Success,
                    });
                    continue;
                }
                let again = Publication {
                    dup: true,
                    ..first[n].clone()
                };
                subscriber.expect_packet(Packet::Publish(again));
            }
            for n in 20..30 {
                let publication = subscriber.take_publish();
                assert_eq!(
                    (publication.text(), publication.dup),
                    (format!("{n}").as_str(), false)
                );
            }
            subscriber.disconnect_after_reading();
            gateway
                .connect(options(version, &format!("{version:?}")))
                .disconnect();
        }
    });
}
