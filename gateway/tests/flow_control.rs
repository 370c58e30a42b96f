//! Receive Maximum in both directions (MQTT 5 sections 3.3.4 and 4.9).

mod support;

use support::*;

/// A subscriber that takes `receive_maximum` messages at once.
fn narrow(gateway: &Gateway, receive_maximum: u16) -> Client {
    let options = ConnectOptions {
        receive_maximum,
        ..options(V5, "narrow")
    };
    let mut client = gateway.connect(options);
    client.subscribe("flow/#", ExactlyOnce);
    client
}

/// [MQTT-3.3.4-9], [MQTT-4.9.0-1], [MQTT-4.9.0-2]
#[test]
fn mqtt5_3_3_4_9_no_more_than_receive_maximum_is_unacknowledged() {
    for_every_layout(|gateway| {
        for receive_maximum in [1, 2, 5] {
            let mut client = narrow(gateway, receive_maximum);
            let mut publisher = gateway.client("publisher");
            for n in 0..12 {
                let qos = if n % 2 == 0 { AtLeastOnce } else { ExactlyOnce };
                publisher.publish("flow/topic", format!("{n}"), qos);
            }
            let mut under_way: std::collections::VecDeque<_> = (0..receive_maximum)
                .map(|_| client.take_publish())
                .collect();
            for next in usize::from(receive_maximum)..=12 {
                client.expect_silence();
                let oldest = under_way.pop_front().unwrap();
                match oldest.qos {
                    AtLeastOnce => client.send_puback(oldest.packet_id),
                    _ => {
                        // A PUBREC that takes the message frees nothing, PUBCOMP does.
                        client.send_pubrec(oldest.packet_id);
                        client.expect_pubrel(oldest.packet_id);
                        client.expect_silence();
                        client.send_pubcomp(oldest.packet_id);
                    }
                }
                if next < 12 {
                    let publication = client.take_publish();
                    assert_eq!(publication.text(), format!("{next}"));
                    under_way.push_back(publication);
                }
            }
            client.expect_silence();
            client.disconnect();
        }
    });
}

/// [MQTT-4.9.0-2], [MQTT-3.3.4-9]: an acknowledgement that refuses frees its place too.
#[test]
fn mqtt5_4_9_0_2_a_refused_message_frees_its_place() {
    for_every_layout(|gateway| {
        let mut client = narrow(gateway, 1);
        let mut publisher = gateway.client("publisher");
        for n in 0..6 {
            let qos = if n % 2 == 0 { AtLeastOnce } else { ExactlyOnce };
            publisher.publish("flow/topic", format!("{n}"), qos);
        }
        for n in 0..6 {
            let publication = client.take_publish();
            assert_eq!(publication.text(), format!("{n}"));
            client.expect_silence();
            let (packet_id, reason) = (publication.packet_id, ReasonCode::QuotaExceeded);
            client.send_ack(&match publication.qos {
                AtLeastOnce => tidegate_codec::Ack::PubAck { packet_id, reason },
                _ => tidegate_codec::Ack::PubRec {
                    packet_id,
                    reason,
                    again: false,
                },
            });
        }
        client.expect_silence();
    });
}

/// [MQTT-3.3.4-10], [MQTT-4.9.0-3]
#[test]
fn mqtt5_4_9_0_3_everything_else_goes_on_where_the_quota_is_zero() {
    for_every_layout(|gateway| {
        let mut client = narrow(gateway, 1);
        let mut publisher = gateway.client("publisher");
        publisher.publish("flow/topic", "first", ExactlyOnce);
        publisher.publish("flow/topic", "second", AtLeastOnce);
        let first = client.take_publish();
        client.ping();
        client.subscribe("else", AtMostOnce);
        client.unsubscribe(&["else"]);
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            client.publish("elsewhere", "x", qos);
        }
        client.send_pubrec(first.packet_id);
        client.expect_pubrel(first.packet_id);
        client.send_pubcomp(first.packet_id);
        assert_eq!(client.expect_publish().text(), "second");
    });
}

/// [MQTT-3.3.4-7]: our own maximum is 32, and who exceeds it is told (MQTT 5 section 3.3.4).
#[test]
fn mqtt5_3_3_4_7_more_than_our_receive_maximum_is_an_error() {
    for_every_layout(|gateway| {
        let publish = |id: u8| packet(0x34, &[&text("flow/in"), &[0, id, 0], b"x"]);
        let mut raw = Raw::connected(gateway, V5, "eager");
        for id in 1..=32 {
            raw.send(publish(id));
            raw.expect([0x50, 3, 0, id, 0x10]);
        }
        // Completing one makes place for one.
        raw.send([0x62, 2, 0, 1]);
        raw.expect([0x70, 2, 0, 1]);
        raw.send(publish(33));
        raw.expect([0x50, 3, 0, 33, 0x10]);
        raw.expect_silence();
        raw.send(publish(34));
        raw.expect([0xe0, 1, 0x93]);
        raw.expect_closed();
        // 3.1.1 knows no such maximum.
        let mut old = Raw::connected(gateway, V3_1_1, "old");
        for id in 1..=100 {
            old.send(packet(0x34, &[&text("flow/in"), &[0, id], b"x"]));
            old.expect([0x50, 2, 0, id]);
        }
        old.expect_silence();
    });
}

/// [MQTT-3.3.4-7]: who keeps to it never meets it, at either level, and across connections.
#[test]
fn mqtt5_3_3_4_7_who_keeps_to_our_receive_maximum_may_go_on_for_ever() {
    for_every_layout(|gateway| {
        let lasting = ConnectOptions {
            clean_start: false,
            session_expiry_interval: 60,
            ..options(V5, "steady")
        };
        let mut client = gateway.connect(lasting.clone());
        for round in 0..6 {
            for qos in [AtLeastOnce, ExactlyOnce] {
                let ids: Vec<_> = (0..32)
                    .map(|_| client.send_publish("flow/in", "x", qos))
                    .collect();
                for &id in &ids {
                    match qos {
                        AtLeastOnce => client.expect_puback(id),
                        _ => client.expect_pubrec(id),
                    };
                }
                if qos == ExactlyOnce && round % 2 == 0 {
                    // The quota starts anew with a connection; the exchanges go on.
                    client.vanish();
                    client = gateway.connect(lasting.clone());
                    assert!(client.session_present());
                }
                if qos == ExactlyOnce {
                    ids.iter().for_each(|&id| client.send_pubrel(id));
                    ids.iter()
                        .for_each(|&id| assert!(!client.expect_pubcomp(id).is_error()));
                }
            }
        }
        client.ping();
    });
}

/// [MQTT-3.3.4-9], [MQTT-4.4.0-1]: what is sent again on a narrower connection keeps to its maximum.
#[test]
fn mqtt5_3_3_4_9_a_smaller_receive_maximum_holds_for_what_is_sent_again() {
    for_every_layout(|gateway| {
        let lasting = |receive_maximum| ConnectOptions {
            clean_start: false,
            session_expiry_interval: 60,
            receive_maximum,
            ..options(V5, "shrinks")
        };
        let mut client = gateway.connect(lasting(10));
        client.subscribe("flow/#", ExactlyOnce);
        let mut publisher = gateway.client("publisher");
        for n in 0..8 {
            let qos = if n % 2 == 0 { AtLeastOnce } else { ExactlyOnce };
            publisher.publish("flow/topic", format!("{n}"), qos);
        }
        let first: Vec<_> = (0..8).map(|_| client.take_publish()).collect();
        client.send_pubrec(first[1].packet_id);
        client.expect_pubrel(first[1].packet_id);
        client.vanish();
        // PUBREL stands for a message that still counts.
        let mut client = gateway.connect(lasting(2));
        let again = |n: usize| Publication {
            dup: true,
            ..first[n].clone()
        };
        client.expect_packet(Packet::Publish(again(0)));
        let packet_id = first[1].packet_id;
        client.expect_packet(Packet::PubRel {
            packet_id,
            reason: ReasonCode::Success,
        });
        client.expect_silence();
        client.send_pubcomp(packet_id);
        client.expect_packet(Packet::Publish(again(2)));
        client.expect_silence();
        client.finish(&first[0]);
        for n in 3..8 {
            client.expect_packet(Packet::Publish(again(n)));
            client.expect_silence();
            client.finish(&first[n - 1]);
        }
        client.finish(&first[7]);
        client.expect_silence();
    });
}
