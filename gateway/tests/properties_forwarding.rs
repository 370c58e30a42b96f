//! Properties of a message on their way from publisher to subscribers (MQTT 5 section 3.3.2.3).

mod support;

use support::*;

const QOS: [Qos; 3] = [AtMostOnce, AtLeastOnce, ExactlyOnce];

/// Every property a server forwards, user properties in between, in no particular order.
fn given() -> Vec<Vec<u8>> {
    let with_id = |id: u8, value: Vec<u8>| [vec![id], value].concat();
    vec![
        user_property("z", "first"),
        with_id(0x09, text(b"\x00\xff\x80 correlation")),
        with_id(0x03, text("application/x-\u{e9}\u{1F600}")),
        user_property("a", "second"),
        user_property("z", "first"),
        vec![0x01, 1],
        with_id(0x08, text("response/topic/\u{feff}x")),
        user_property("", ""),
        user_property("a", "third"),
    ]
}

fn all(given: &[Vec<u8>]) -> Vec<u8> {
    given.concat()
}

/// A raw MQTT 5 subscriber, so that not even our own reader of properties comes between.
fn subscriber(gateway: &Gateway, id: &str, filter: &str) -> Raw {
    let mut raw = Raw::connected(gateway, V5, id);
    raw.send(packet(0x82, &[&[0, 1, 0], &text(filter), &[0]]));
    raw.expect([0x90, 4, 0, 1, 0, 0]);
    raw
}

/// What a subscriber gets at QoS 0 with exactly these properties.
fn delivered(topic: &str, given: &[u8], payload: &[u8]) -> Vec<u8> {
    packet(0x30, &[&text(topic), &properties(&[given]), payload])
}

/// [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.3.2-20],
/// [MQTT-1.5.4-3]
#[test]
fn mqtt5_3_3_2_17_properties_are_forwarded_unaltered_and_in_order() {
    for_every_layout(|gateway| {
        let mut subscribers: Vec<_> = [
            "forward/topic",
            "forward/#",
            "+/topic",
            "$share/g/forward/+",
        ]
        .iter()
        .enumerate()
        .map(|(n, filter)| subscriber(gateway, &format!("subscriber-{n}"), filter))
        .collect();
        let mut publisher = gateway.client("publisher");
        for qos in QOS {
            let given = all(&given());
            publisher.publish_with("forward/topic", b"payload", qos, false, &given);
            for raw in &mut subscribers {
                raw.expect(delivered("forward/topic", &given, b"payload"));
            }
        }
        // Payload format 0 says something too, and one alone is as good as all.
        for one in given().into_iter().chain([vec![0x01, 0]]) {
            publisher.publish_with("forward/topic", b"\xff", AtLeastOnce, false, &one);
            for raw in &mut subscribers {
                raw.expect(delivered("forward/topic", &one, b"\xff"));
            }
        }
    });
}

/// [MQTT-3.3.2-17], [MQTT-3.3.2-18]: many user properties, equal names, more than one packet's worth of length
/// bytes.
#[test]
fn mqtt5_3_3_2_18_hundreds_of_user_properties_keep_their_order() {
    for_every_layout(|gateway| {
        let mut raw = subscriber(gateway, "subscriber", "many");
        let many: Vec<_> = (0..500)
            .map(|n| user_property(&format!("{}", n % 7), &format!("value {n}")))
            .collect();
        let mut publisher = gateway.client("publisher");
        publisher.publish_with("many", b"x", AtLeastOnce, false, &all(&many));
        raw.expect(delivered("many", &all(&many), b"x"));
    });
}

/// [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-20]: what belongs to one hop
/// (alias, expiry) stands between them and is not forwarded as it came.
#[test]
fn mqtt5_3_3_2_17_properties_of_the_hop_are_taken_out_from_between() {
    for_every_layout(|gateway| {
        let mut raw = subscriber(gateway, "subscriber", "hop/x");
        let mut publisher = gateway.client("publisher");
        for at in 0..=given().len() {
            let mut with_alias = given();
            with_alias.insert(at, vec![0x23, 0, 3]);
            publisher.publish_with("hop/x", b"y", AtLeastOnce, false, &all(&with_alias));
            raw.expect(delivered("hop/x", &all(&given()), b"y"));
            publisher.publish_with("", b"z", AtLeastOnce, false, &all(&with_alias));
            raw.expect(delivered("hop/x", &all(&given()), b"z"));
        }
    });
}

/// [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.3.2-20]: through
/// the retained store and a sleeping session too.
#[test]
fn mqtt5_3_3_2_17_properties_survive_the_retained_store_and_a_sleeping_session() {
    for_every_layout(|gateway| {
        let given = all(&given());
        let mut publisher = gateway.client("publisher");
        let lasting = |clean_start| ConnectOptions {
            clean_start,
            session_expiry_interval: 60,
            ..options(V5, "sleeper")
        };
        let mut sleeper = gateway.connect(lasting(true));
        sleeper.subscribe("sleep/#", ExactlyOnce);
        sleeper.disconnect();
        publisher.publish_with("sleep/1", b"x", AtLeastOnce, true, &given);
        publisher.publish_with("sleep/2", b"x", ExactlyOnce, false, &given);
        let mut sleeper = gateway.connect(lasting(false));
        assert_eq!(sleeper.expect_publish().properties, given);
        // And when it is sent again.
        let second = sleeper.take_publish();
        assert_eq!(second.properties, given);
        sleeper.fence();
        sleeper.vanish();
        let mut sleeper = gateway.connect(lasting(false));
        sleeper.expect_packet(Packet::Publish(Publication {
            dup: true,
            ..second
        }));
        let mut late = Raw::connected(gateway, V5, "late");
        late.send(packet(0x82, &[&[0, 1, 0], &text("sleep/1"), &[0]]));
        late.expect([0x90, 4, 0, 1, 0, 0]);
        let retained = packet(0x31, &[&text("sleep/1"), &properties(&[&given]), b"x"]);
        late.expect(retained);
    });
}

/// Properties end where the version does: 3.1.1 subscribers get the payload, 3.1.1 publishers give none.
#[test]
fn mqtt311_subscribers_get_the_payload_without_properties() {
    for_every_layout(|gateway| {
        let mut old = Raw::connected(gateway, V3_1_1, "old");
        old.send(packet(0x82, &[&[0, 1], &text("versions"), &[0]]));
        old.expect([0x90, 3, 0, 1, 0]);
        let mut new = subscriber(gateway, "new", "versions");
        let given = all(&given());
        gateway
            .client("new publisher")
            .publish_with("versions", b"x", AtLeastOnce, false, &given);
        old.expect(packet(0x30, &[&text("versions"), b"x"]));
        new.expect(delivered("versions", &given, b"x"));
        gateway
            .client_v3("old publisher")
            .publish("versions", "y", AtLeastOnce);
        old.expect(packet(0x30, &[&text("versions"), b"y"]));
        new.expect(delivered("versions", &[], b"y"));
    });
}

/// [MQTT-3.3.4-6], [MQTT-3.3.2-13], [MQTT-3.3.2-14], [MQTT-3.3.2-19]: what a client may not say there.
#[test]
fn mqtt5_3_3_2_14_wrong_properties_of_a_publish_are_refused() {
    in_one_layout(|gateway| {
        use ReasonCode::{MalformedPacket, ProtocolError};
        let with_id = |id: u8, value: Vec<u8>| [vec![id], value].concat();
        for (wrong, reason) in [
            (vec![0x0b, 1], ProtocolError),
            (with_id(0x08, text("wild/+")), ProtocolError),
            (with_id(0x08, text("wild/#")), ProtocolError),
            (with_id(0x08, text(b"\xff")), MalformedPacket),
            (with_id(0x03, text(b"\xc0\x80")), MalformedPacket),
            (
                with_id(0x26, [text("k"), text(b"\xed\xbf\xbf")].concat()),
                MalformedPacket,
            ),
            (vec![0x01, 2], ProtocolError),
            (vec![0x01, 1, 0x01, 1], ProtocolError),
            (
                [with_id(0x03, text("a")), with_id(0x03, text("a"))].concat(),
                ProtocolError,
            ),
            (
                [with_id(0x08, text("a")), with_id(0x08, text("a"))].concat(),
                ProtocolError,
            ),
            (
                [with_id(0x09, text("a")), with_id(0x09, text("a"))].concat(),
                ProtocolError,
            ),
            (vec![0x02, 0, 0, 0, 1, 0x02, 0, 0, 0, 1], ProtocolError),
            (vec![0x11, 0, 0, 0, 1], MalformedPacket),
            (vec![0x02, 0, 0], MalformedPacket),
        ] {
            let mut raw = Raw::connected(gateway, V5, "client");
            raw.send(packet(
                0x30,
                &[&text("topic"), &properties(&[&wrong]), b"x"],
            ));
            raw.expect([0xe0, 1, reason as u8]);
            raw.expect_closed();
        }
    });
}
