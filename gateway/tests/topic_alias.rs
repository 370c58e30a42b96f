//! Topic aliases in both directions (MQTT 5 section 3.3.2.3.4).

mod support;

use support::*;

fn alias(number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    vec![0x23, high, low]
}

/// PUBLISH of QoS 0 with an alias.
fn publish(topic: &str, number: u16, payload: &str) -> Vec<u8> {
    packet(
        0x30,
        &[
            &text(topic),
            &properties(&[&alias(number)]),
            payload.as_bytes(),
        ],
    )
}

/// [MQTT-3.3.2-12], [MQTT-3.2.2-17]: every alias up to the announced maximum, given, used and given anew.
#[test]
fn mqtt5_3_3_2_12_every_announced_alias_is_accepted() {
    for_every_layout(|gateway| {
        let mut subscriber = gateway.client("subscriber");
        subscriber.subscribe("alias/#", AtMostOnce);
        let mut publisher = gateway.client("publisher");
        let mut expect = |topic: &str, text: &str| {
            let publication = subscriber.expect_publish();
            assert_eq!(
                (publication.topic.as_str(), publication.text()),
                (topic, text)
            );
        };
        for number in 1..=16 {
            // A message to a topic waits for its acknowledgement, because topics have different owners.
            let first = format!("alias/{number}");
            publisher.publish_with(&first, "given", AtLeastOnce, false, &alias(number));
            expect(&first, "given");
            publisher.publish_with("", "used", AtLeastOnce, false, &alias(number));
            expect(&first, "used");
        }
        for number in (1..=16).rev() {
            publisher.publish_with("", "still", ExactlyOnce, false, &alias(number));
            expect(&format!("alias/{number}"), "still");
            publisher.publish_with(
                "alias/other",
                "given anew",
                AtLeastOnce,
                false,
                &alias(number),
            );
            expect("alias/other", "given anew");
            publisher.publish_with("", "used anew", AtMostOnce, false, &alias(number));
            expect("alias/other", "used anew");
        }
    });
}

/// [MQTT-3.3.2-8], [MQTT-3.3.2-9], [MQTT-3.2.2-17], [MQTT-3.2.2-18]
#[test]
fn mqtt5_3_3_2_8_an_alias_out_of_range_is_invalid() {
    for_every_layout(|gateway| {
        for number in [0, 17, 65_535] {
            let mut raw = Raw::connected(gateway, V5, "client");
            raw.send(publish("alias/x", number, "x"));
            raw.expect([0xe0, 1, 0x94]);
            raw.expect_closed();
        }
    });
    let none = |settings: &mut NodeSettings| {
        std::sync::Arc::make_mut(&mut settings.mqtt).topic_alias_maximum = 0;
    };
    in_one_layout_with(none, |gateway| {
        assert_eq!(gateway.client("client").connack().topic_alias_maximum, 0);
        let mut raw = Raw::connected(gateway, V5, "client");
        raw.send(publish("alias/x", 1, "x"));
        raw.expect([0xe0, 1, 0x94]);
        raw.expect_closed();
    });
}

/// MQTT 5 section 3.3.2.3.4: an alias that was not given is a protocol error.
#[test]
fn mqtt5_3_3_2_3_4_an_unknown_alias_is_a_protocol_error() {
    for_every_layout(|gateway| {
        let mut raw = Raw::connected(gateway, V5, "client");
        raw.send(publish("alias/x", 1, "x"));
        raw.send(publish("", 2, "x"));
        raw.expect([0xe0, 1, 0x82]);
        raw.expect_closed();
        let mut raw = Raw::connected(gateway, V5, "client");
        raw.send(packet(0x30, &[&text(""), &[0], b"x"]));
        raw.expect([0xe0, 1, 0x82]);
        raw.expect_closed();
    });
}

/// [MQTT-3.3.2-7]
#[test]
fn mqtt5_3_3_2_7_aliases_end_with_their_connection() {
    for_every_layout(|gateway| {
        let expiry: &[&[u8]] = &[&[0x11, 0, 0, 0, 60]];
        let connect = connect_with(V5, 0, expiry, &[&text("client")]);
        let (mut first, _) = Raw::accepted(gateway, &connect);
        first.send(publish("alias/x", 1, "x"));
        first.expect_silence();
        let mut other = Raw::connected(gateway, V5, "other");
        other.send(publish("", 1, "x"));
        other.expect([0xe0, 1, 0x82]);
        first.vanish();
        let (mut second, connack) = Raw::accepted(gateway, &connect);
        assert_eq!(connack[2], 1, "the session is the same");
        second.send(publish("", 1, "x"));
        second.expect([0xe0, 1, 0x82]);
    });
}

/// [MQTT-3.1.2-26], [MQTT-3.1.2-27], [MQTT-3.3.2-11]: the client's codec refuses an alias it did not allow, and
/// resolves the others.
#[test]
fn mqtt5_3_1_2_26_no_alias_above_the_clients_maximum_is_sent() {
    for_every_layout(|gateway| {
        let mut clients: Vec<_> = [0, 1, 2, 65_535]
            .into_iter()
            .map(|topic_alias_maximum| {
                let id = format!("takes-{topic_alias_maximum}");
                let options = ConnectOptions {
                    topic_alias_maximum,
                    ..options(V5, &id)
                };
                let mut client = gateway.connect(options);
                client.subscribe("alias/#", AtMostOnce);
                client
            })
            .collect();
        let mut publisher = gateway.client("publisher");
        for round in 0..3 {
            for n in 0..10 {
                let (topic, text) = (format!("alias/{n}"), format!("{round} {n}"));
                publisher.publish(&topic, &text, AtLeastOnce);
                for client in &mut clients {
                    let publication = client.expect_publish();
                    assert_eq!(
                        (publication.topic.as_str(), publication.text()),
                        (&*topic, &*text)
                    );
                }
            }
        }
    });
}

/// [MQTT-3.1.2-27], [MQTT-3.3.2-7]: byte for byte, with and without; and given again on the next connection.
#[test]
fn mqtt5_3_1_2_27_aliases_are_sent_only_to_those_who_take_them() {
    for_every_layout(|gateway| {
        let connect = |maximum| {
            let properties: &[&[u8]] = &[&[0x11, 0, 0, 0, 60], &[0x22, 0, maximum]];
            connect_with(V5, 0, properties, &[&text("client")])
        };
        let (mut raw, _) = Raw::accepted(gateway, &connect(0));
        raw.send(packet(0x82, &[&[0, 1, 0], &text("alias/x"), &[0]]));
        raw.expect([0x90, 4, 0, 1, 0, 0]);
        let mut publisher = gateway.client("publisher");
        let plain = packet(0x30, &[&text("alias/x"), &[0], b"x"]);
        for _ in 0..3 {
            publisher.publish("alias/x", "x", AtLeastOnce);
            raw.expect(&plain);
        }
        for _ in 0..2 {
            raw.vanish();
            (raw, _) = Raw::accepted(gateway, &connect(1));
            publisher.publish("alias/x", "x", AtLeastOnce);
            // The first one bears the topic, with or without its alias.
            let first = raw.next().unwrap();
            assert!(
                [&plain, &publish("alias/x", 1, "x")].contains(&&first),
                "{first:02x?}"
            );
            publisher.publish("alias/x", "x", AtLeastOnce);
            let second = raw.next().unwrap();
            let known = [
                publish("alias/x", 1, "x"),
                publish("", 1, "x"),
                plain.clone(),
            ];
            assert!(known.contains(&second), "{second:02x?}");
        }
    });
}
