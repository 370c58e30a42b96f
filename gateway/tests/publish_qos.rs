//! PUBLISH and its acknowledgements in both directions (MQTT 5 and 3.1.1 sections 3.3 to 3.7 and 4.3).

mod support;

use std::collections::HashSet;

use support::*;

fn deny(settings: &mut NodeSettings) {
    let limits = tidegate_codec::topic::TopicLimits {
        bytes_max: 64,
        levels_max: 8,
    };
    settings.shard.denied = vec![tidegate_codec::TopicFilter::parse("denied/#", limits).unwrap()];
}

/// PUBLISH of MQTT 5 without properties.
fn publish(first: u8, topic: &str, packet_id: u8, payload: &str) -> Vec<u8> {
    let id = [0, packet_id];
    let id = if first & 0x06 == 0 { &id[..0] } else { &id };
    packet(first, &[&text(topic), id, &[0], payload.as_bytes()])
}

/// The same of 3.1.1.
fn publish_v311(first: u8, topic: &str, packet_id: u8, payload: &str) -> Vec<u8> {
    let id = [0, packet_id];
    let id = if first & 0x06 == 0 { &id[..0] } else { &id };
    packet(first, &[&text(topic), id, payload.as_bytes()])
}

/// A raw client of `version` that has subscribed to `filter`.
fn subscribed(gateway: &Gateway, version: ProtocolVersion, filter: &str, qos: u8) -> Raw {
    let mut raw = Raw::connected(gateway, version, "subscriber");
    subscribe(&mut raw, version, filter, qos);
    raw
}

fn subscribe(raw: &mut Raw, version: ProtocolVersion, filter: &str, qos: u8) {
    let no_properties: &[u8] = if version == V5 { &[0] } else { &[] };
    raw.send(packet(
        0x82,
        &[&[0, 9], no_properties, &text(filter), &[qos]],
    ));
    raw.expect(packet(0x90, &[&[0, 9], no_properties, &[qos]]));
}

/// A raw client whose session outlives its connection, of both versions.
fn lasting(gateway: &Gateway, version: ProtocolVersion) -> (Raw, Vec<u8>) {
    let expiry: &[&[u8]] = &[&[0x11, 0, 0, 0, 60]];
    Raw::accepted(
        gateway,
        &connect_with(version, 0, expiry, &[&text("subscriber")]),
    )
}

/// [MQTT-4.3.1-1], [MQTT-2.2.1-2], [MQTT-3.3.1-2], [3.1.1 MQTT-4.3.1-1], [3.1.1 MQTT-2.3.1-5],
/// [3.1.1 MQTT-3.3.1-2]
#[test]
fn mqtt5_4_3_1_1_qos_0_is_sent_without_packet_id_and_dup() {
    for_every_layout(|gateway| {
        let mut new = subscribed(gateway, V5, "zero", 2);
        let mut publisher = gateway.client("publisher");
        publisher.publish("zero", "x", AtMostOnce);
        new.expect([0x30, 8, 0, 4, b'z', b'e', b'r', b'o', 0, b'x']);
        let mut old = subscribed(gateway, V3_1_1, "zero", 2);
        publisher.publish("zero", "x", AtMostOnce);
        old.expect([0x30, 7, 0, 4, b'z', b'e', b'r', b'o', b'x']);
        old.expect_silence();
    });
}

/// [MQTT-4.3.2-1], [MQTT-4.3.2-2], [MQTT-4.3.2-3], [MQTT-2.2.1-4], [MQTT-4.4.0-1], [3.1.1 MQTT-2.3.1-4],
/// [3.1.1 MQTT-4.3.2-1], [3.1.1 MQTT-4.4.0-1]: sent once while the connection lasts, again on the next one.
#[test]
fn mqtt5_4_3_2_3_qos_1_is_unacknowledged_until_its_puback() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let publish = if version == V5 { publish } else { publish_v311 };
            let (mut raw, _) = lasting(gateway, version);
            subscribe(&mut raw, version, "one", 1);
            let mut publisher = gateway.client("publisher");
            publisher.publish("one", "a", AtLeastOnce);
            raw.expect(publish(0x32, "one", 1, "a"));
            publisher.publish("one", "b", AtLeastOnce);
            raw.expect(publish(0x32, "one", 2, "b"));
            raw.expect_silence();
            raw.send([0x40, 2, 0, 1]);
            raw.expect_silence();
            raw.vanish();
            let (mut raw, connack) = lasting(gateway, version);
            assert_eq!(connack[2], 1, "the session is there");
            raw.expect(publish(0x3a, "one", 2, "b"));
            raw.send([0x40, 2, 0, 2]);
            raw.expect_silence();
            raw.vanish();
            let (mut raw, _) = lasting(gateway, version);
            raw.expect_silence();
            raw.vanish();
            Raw::connected(gateway, version, "subscriber").vanish();
        }
    });
}

/// [MQTT-4.3.2-4], [MQTT-4.3.2-5], [MQTT-2.2.1-5], [MQTT-3.3.4-1], [MQTT-3.3.1-3], [3.1.1 MQTT-4.3.2-2],
/// [3.1.1 MQTT-2.3.1-6], [3.1.1 MQTT-3.3.4-1], [3.1.1 MQTT-3.3.1-3]
#[test]
fn mqtt5_4_3_2_5_behind_its_puback_a_packet_id_is_a_new_message_whatever_dup_says() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let publish = if version == V5 { publish } else { publish_v311 };
            let mut subscriber = subscribed(gateway, V5, "one", 0);
            let mut publisher = Raw::connected(gateway, version, "publisher");
            for first in [0x32, 0x3a, 0x3a] {
                publisher.send(publish(first, "one", 7, "again"));
                publisher.expect([0x40, 2, 0, 7]);
                // DUP is not propagated.
                subscriber.expect(self::publish(0x30, "one", 0, "again"));
            }
            subscriber.expect_silence();
        }
    });
}

/// [MQTT-3.3.1-3], [3.1.1 MQTT-3.3.1-3]: at QoS 1 and 2 too, DUP is the server's own.
#[test]
fn mqtt5_3_3_1_3_dup_of_a_publisher_is_not_propagated() {
    for_every_layout(|gateway| {
        let mut subscriber = subscribed(gateway, V5, "dup", 2);
        let mut publisher = Raw::connected(gateway, V5, "publisher");
        publisher.send(publish(0x3a, "dup", 1, "one"));
        publisher.expect([0x40, 2, 0, 1]);
        publisher.send(publish(0x3c, "dup", 2, "two"));
        publisher.expect([0x50, 2, 0, 2]);
        subscriber.expect(publish(0x32, "dup", 1, "one"));
        subscriber.expect(publish(0x34, "dup", 2, "two"));
    });
}

/// [MQTT-4.3.3-8], [MQTT-4.3.3-10], [MQTT-4.3.3-11], [MQTT-4.3.3-12], [MQTT-2.2.1-5], [MQTT-3.3.4-1],
/// [3.1.1 MQTT-4.3.3-2], [3.1.1 MQTT-2.3.1-6], [3.1.1 MQTT-3.3.4-1]
#[test]
fn mqtt5_4_3_3_10_qos_2_is_delivered_once_until_its_pubcomp() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let publish = if version == V5 { publish } else { publish_v311 };
            let mut subscriber = subscribed(gateway, V5, "two", 0);
            let mut publisher = Raw::connected(gateway, version, "publisher");
            publisher.send(publish(0x34, "two", 5, "first"));
            publisher.expect([0x50, 2, 0, 5]);
            for _ in 0..3 {
                publisher.send(publish(0x3c, "two", 5, "first"));
                publisher.expect([0x50, 2, 0, 5]);
            }
            // Another payload under the same id is the same message too.
            publisher.send(publish(0x34, "two", 5, "other"));
            publisher.expect([0x50, 2, 0, 5]);
            publisher.send([0x62, 2, 0, 5]);
            publisher.expect([0x70, 2, 0, 5]);
            publisher.send(publish(0x3c, "two", 5, "second"));
            publisher.expect([0x50, 2, 0, 5]);
            subscriber.expect(self::publish(0x30, "two", 0, "first"));
            subscriber.expect(self::publish(0x30, "two", 0, "second"));
            subscriber.expect_silence();
        }
    });
}

/// [MQTT-4.3.3-10], [MQTT-4.4.0-1], [3.1.1 MQTT-4.3.3-2]: the client may come back in between.
#[test]
fn mqtt5_4_3_3_10_a_qos_2_packet_id_is_remembered_across_connections() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let publish = if version == V5 { publish } else { publish_v311 };
            let mut subscriber = gateway.client("witness");
            subscriber.subscribe("two", AtMostOnce);
            let (mut publisher, _) = lasting(gateway, version);
            publisher.send(publish(0x34, "two", 5, "once"));
            publisher.expect([0x50, 2, 0, 5]);
            publisher.vanish();
            let (mut publisher, _) = lasting(gateway, version);
            publisher.send(publish(0x3c, "two", 5, "once"));
            publisher.expect([0x50, 2, 0, 5]);
            publisher.vanish();
            let (mut publisher, _) = lasting(gateway, version);
            publisher.send([0x62, 2, 0, 5]);
            publisher.expect([0x70, 2, 0, 5]);
            assert_eq!(subscriber.expect_publish().text(), "once");
            subscriber.expect_silence();
        }
    });
}

/// [MQTT-4.3.3-9], [MQTT-3.5.2-1], [MQTT-3.4.2-1]: an id that was refused is new again.
#[test]
fn mqtt5_4_3_3_9_behind_a_pubrec_that_refuses_a_packet_id_is_a_new_message() {
    for_every_layout_with(deny, |gateway| {
        let mut subscriber = subscribed(gateway, V5, "allowed", 0);
        let mut publisher = Raw::connected(gateway, V5, "publisher");
        publisher.send(publish(0x34, "denied/x", 5, "no"));
        publisher.expect([0x50, 3, 0, 5, 0x87]);
        publisher.send(publish(0x34, "allowed", 5, "yes"));
        publisher.expect([0x50, 2, 0, 5]);
        publisher.send([0x62, 2, 0, 5]);
        publisher.expect([0x70, 2, 0, 5]);
        subscriber.expect(publish(0x30, "allowed", 0, "yes"));
        publisher.send(publish(0x32, "denied/x", 6, "no"));
        publisher.expect([0x40, 3, 0, 6, 0x87]);
        publisher.send(publish(0x30, "denied/x", 0, "no"));
        publisher.expect_silence();
        subscriber.expect_silence();
    });
}

/// [3.1.1 MQTT-3.3.5-2]: there is no way to say no, so the acknowledgement is positive.
#[test]
fn mqtt311_3_3_5_2_what_may_not_be_published_is_acknowledged_and_goes_nowhere() {
    for_every_layout_with(deny, |gateway| {
        let mut witness = gateway.client("witness");
        witness.subscribe("#", AtLeastOnce);
        let mut publisher = Raw::connected(gateway, V3_1_1, "publisher");
        publisher.send(publish_v311(0x33, "denied/x", 1, "no"));
        publisher.expect([0x40, 2, 0, 1]);
        publisher.send(publish_v311(0x35, "denied/x", 2, "no"));
        publisher.expect([0x50, 2, 0, 2]);
        publisher.send([0x62, 2, 0, 2]);
        publisher.expect([0x70, 2, 0, 2]);
        witness.expect_silence();
    });
}

/// [MQTT-3.4.2-1], [MQTT-3.5.2-1]: 0x10 where nobody listens (MQTT 5 section 3.4.2.1).
#[test]
fn mqtt5_3_4_2_1_a_message_without_subscribers_is_acknowledged_as_such() {
    for_every_layout(|gateway| {
        let mut publisher = Raw::connected(gateway, V5, "publisher");
        publisher.send(publish(0x32, "nobody", 1, "x"));
        publisher.expect([0x40, 3, 0, 1, 0x10]);
        publisher.send(publish(0x34, "nobody", 2, "x"));
        publisher.expect([0x50, 3, 0, 2, 0x10]);
        publisher.send([0x62, 2, 0, 2]);
        publisher.expect([0x70, 2, 0, 2]);
        let mut old = Raw::connected(gateway, V3_1_1, "old");
        old.send(publish_v311(0x32, "nobody", 1, "x"));
        old.expect([0x40, 2, 0, 1]);
    });
}

/// [MQTT-4.3.3-11], [MQTT-3.7.2-1]
#[test]
fn mqtt5_3_7_2_1_a_pubrel_of_an_unknown_packet_id_is_completed() {
    for_every_layout(|gateway| {
        let mut new = Raw::connected(gateway, V5, "new");
        new.send([0x62, 2, 0x12, 0x34]);
        new.expect([0x70, 3, 0x12, 0x34, 0x92]);
        let mut old = Raw::connected(gateway, V3_1_1, "old");
        old.send([0x62, 2, 0x12, 0x34]);
        old.expect([0x70, 2, 0x12, 0x34]);
    });
}

/// [MQTT-4.3.3-1], [MQTT-4.3.3-2], [MQTT-4.3.3-3], [MQTT-4.3.3-4], [MQTT-4.3.3-5], [MQTT-4.3.3-6],
/// [MQTT-4.4.0-1], [MQTT-3.3.1-1], [MQTT-3.6.2-1], [3.1.1 MQTT-4.3.3-1], [3.1.1 MQTT-4.4.0-1],
/// [3.1.1 MQTT-3.3.1-1]
#[test]
fn mqtt5_4_3_3_6_qos_2_is_sent_again_until_pubrec_and_pubrel_until_pubcomp() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let publish = if version == V5 { publish } else { publish_v311 };
            let (mut raw, _) = lasting(gateway, version);
            subscribe(&mut raw, version, "two", 2);
            gateway.client("publisher").publish("two", "x", ExactlyOnce);
            raw.expect(publish(0x34, "two", 1, "x"));
            raw.vanish();
            let (mut raw, _) = lasting(gateway, version);
            raw.expect(publish(0x3c, "two", 1, "x"));
            raw.send([0x50, 2, 0, 1]);
            raw.expect([0x62, 2, 0, 1]);
            raw.send([0x50, 2, 0, 1]);
            raw.expect([0x62, 2, 0, 1]);
            raw.vanish();
            for _ in 0..2 {
                let (mut raw, _) = lasting(gateway, version);
                raw.expect([0x62, 2, 0, 1]);
                raw.expect_silence();
                raw.vanish();
            }
            let (mut raw, _) = lasting(gateway, version);
            raw.expect([0x62, 2, 0, 1]);
            raw.send([0x70, 2, 0, 1]);
            raw.expect_silence();
            raw.vanish();
            let (mut raw, _) = lasting(gateway, version);
            raw.expect_silence();
            raw.vanish();
            Raw::connected(gateway, version, "subscriber").vanish();
        }
    });
}

/// [MQTT-4.4.0-2], [MQTT-4.3.3-4]: PUBACK and PUBREC that refuse end the exchange.
#[test]
fn mqtt5_4_4_0_2_what_the_client_refused_is_not_sent_again() {
    for_every_layout(|gateway| {
        let (mut raw, _) = lasting(gateway, V5);
        subscribe(&mut raw, V5, "refused", 2);
        let mut publisher = gateway.client("publisher");
        publisher.publish("refused", "one", AtLeastOnce);
        raw.expect(publish(0x32, "refused", 1, "one"));
        raw.send([0x40, 4, 0, 1, 0x97, 0]);
        publisher.publish("refused", "two", ExactlyOnce);
        raw.expect(publish(0x34, "refused", 2, "two"));
        raw.send([0x50, 3, 0, 2, 0x80]);
        raw.expect_silence();
        raw.vanish();
        let (mut raw, _) = lasting(gateway, V5);
        raw.expect_silence();
    });
}

/// [MQTT-4.3.3-4], [MQTT-3.6.2-1], [MQTT-3.6.2-2], [MQTT-3.6.2-3]: a PUBREC of an id nobody knows is answered all
/// the same, with its reason and nothing else.
#[test]
fn mqtt5_3_6_2_1_a_pubrec_of_an_unknown_packet_id_is_released() {
    for_every_layout(|gateway| {
        let mut new = Raw::connected(gateway, V5, "new");
        new.send([0x50, 2, 0x12, 0x34]);
        new.expect([0x62, 3, 0x12, 0x34, 0x92]);
        let mut old = Raw::connected(gateway, V3_1_1, "old");
        old.send([0x50, 2, 0x12, 0x34]);
        old.expect([0x62, 2, 0x12, 0x34]);
        // And acknowledgements of nothing are nothing.
        for raw in [&mut new, &mut old] {
            raw.send([0x40, 2, 0x12, 0x34, 0x70, 2, 0x12, 0x34]);
            raw.expect_silence();
        }
    });
}

/// [MQTT-4.3.2-3], [MQTT-4.3.3-3], [MQTT-2.2.1-5]: PUBACK does not acknowledge QoS 2, PUBREC not QoS 1.
#[test]
fn mqtt5_4_3_3_3_an_acknowledgement_of_the_other_qos_is_none() {
    for_every_layout(|gateway| {
        let (mut raw, _) = lasting(gateway, V5);
        subscribe(&mut raw, V5, "wrong", 2);
        let mut publisher = gateway.client("publisher");
        publisher.publish("wrong", "one", AtLeastOnce);
        publisher.publish("wrong", "two", ExactlyOnce);
        raw.expect(publish(0x32, "wrong", 1, "one"));
        raw.expect(publish(0x34, "wrong", 2, "two"));
        raw.send([0x40, 2, 0, 2, 0x70, 2, 0, 1, 0x70, 2, 0, 2]);
        raw.expect_silence();
        raw.vanish();
        let (mut raw, _) = lasting(gateway, V5);
        raw.expect(publish(0x3a, "wrong", 1, "one"));
        raw.expect(publish(0x3c, "wrong", 2, "two"));
        raw.expect_silence();
    });
}

/// [MQTT-2.2.1-4], [MQTT-4.3.2-1], [MQTT-4.3.3-1], [3.1.1 MQTT-2.3.1-4]
#[test]
fn mqtt5_2_2_1_4_packet_ids_of_what_is_unacknowledged_differ() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let mut subscriber = gateway.connect(options(version, "subscriber"));
            subscriber.subscribe("ids/#", ExactlyOnce);
            let mut publisher = gateway.client("publisher");
            for n in 0..60 {
                let qos = if n % 2 == 0 { AtLeastOnce } else { ExactlyOnce };
                publisher.publish(&format!("ids/{n}"), "x", qos);
            }
            let taken: Vec<_> = (0..60).map(|_| subscriber.take_publish()).collect();
            let ids: HashSet<_> = taken
                .iter()
                .map(|publication| publication.packet_id)
                .collect();
            assert_eq!((ids.len(), ids.contains(&0)), (60, false));
        }
    });
}

/// [MQTT-4.5.0-1], [3.1.1 MQTT-4.5.0-1], [MQTT-3.3.2-3], [3.1.1 MQTT-3.3.2-3]
#[test]
fn mqtt5_4_5_0_1_a_message_goes_to_every_session_with_a_matching_subscription() {
    for_every_layout(|gateway| {
        let filters = ["all/#", "all/+", "all/x", "+/x", "#", "all/y", "all", "+"];
        let mut clients: Vec<_> = filters
            .iter()
            .zip([V3_1_1, V5].into_iter().cycle())
            .map(|(filter, version)| {
                let mut client = gateway.connect(options(version, &format!("of {filter}")));
                client.subscribe(filter, AtLeastOnce);
                client
            })
            .collect();
        let mut publisher = gateway.client("publisher");
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            publisher.publish("all/x", "message", qos);
        }
        for client in &mut clients[..5] {
            for _ in 0..3 {
                let publication = client.expect_publish();
                assert_eq!(
                    (publication.topic.as_str(), publication.text()),
                    ("all/x", "message")
                );
            }
        }
        clients.iter_mut().for_each(Client::expect_silence);
    });
}
