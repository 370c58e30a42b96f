//! PUBLISH in both directions: topics, aliases, properties, quotas.

use super::{broken, Pair};
use crate::conversation::{Ack, Delivered, Delivery};
use crate::message::{Message, Qos};
use crate::mqtt::client::ClientEvent;
use crate::mqtt::connection::Event;
use crate::mqtt::reason_code::ReasonCode;
use crate::mqtt::ProtocolVersion;
use crate::mqtt::ProtocolVersion::{V3_1_1, V5};

#[test]
fn mqtt5_3_3_2_topic_names() {
    for version in ProtocolVersion::ALL {
        let check = |topic: &str, reason: ReasonCode| {
            let mut pair = Pair::connected(version);
            let violation = pair.publish(topic, Qos::AtMostOnce, 0).unwrap_err();
            assert_eq!(
                violation.reason, reason,
                "{version:?} {topic:?}: {violation}"
            );
        };
        check("a/+", ReasonCode::TopicNameInvalid); // [MQTT-3.3.2-2]
        check("#", ReasonCode::TopicNameInvalid);
        check("", ReasonCode::ProtocolError); // [MQTT-4.7.3-1]
        check("a\0b", ReasonCode::MalformedPacket); // [MQTT-1.5.4-2]
        check(&"x".repeat(1_025), ReasonCode::TopicNameInvalid);
        check(&"/".repeat(32), ReasonCode::TopicNameInvalid);
        broken(
            version,
            b"\x30\x04\0\x02\xC0\x80",
            ReasonCode::MalformedPacket,
        );
    }
}

#[test]
fn mqtt5_2_2_1_3_a_packet_id_is_not_0() {
    for version in [V3_1_1, V5] {
        let mut pair = Pair::connected(version);
        let violation = pair.publish("a", Qos::AtLeastOnce, 0).unwrap_err();
        assert_eq!(violation.reason, ReasonCode::ProtocolError);
    }
    broken(V3_1_1, b"\x82\x06\0\0\0\x01a\0", ReasonCode::ProtocolError);
    broken(V3_1_1, b"\xA2\x05\0\0\0\x01a", ReasonCode::ProtocolError);
}

#[test]
fn mqtt5_section_3_3_2_3_properties_of_publish_are_checked() {
    let check = |properties: &[u8], reason: ReasonCode| {
        let len = properties.len() as u8;
        broken(
            V5,
            &[&[0x30, 4 + len, 0, 1, b'a', len], properties].concat(),
            reason,
        );
    };
    check(&[0x01, 2], ReasonCode::ProtocolError); // payload format
    check(&[0x01, 1, 0x01, 1], ReasonCode::ProtocolError); // twice
    check(&[0x0B, 1], ReasonCode::ProtocolError); // [MQTT-3.3.4-6]
    check(&[0x08, 0, 1, b'+'], ReasonCode::ProtocolError); // [MQTT-3.3.2-14]
    check(&[0x11, 0, 0, 0, 1], ReasonCode::MalformedPacket); // session expiry
    check(&[0x23, 0, 0], ReasonCode::TopicAliasInvalid); // [MQTT-3.3.2-8]
    check(&[0x23, 0, 17], ReasonCode::TopicAliasInvalid); // [MQTT-3.3.2-9]
    check(&[0x03, 0, 2, b'a'], ReasonCode::MalformedPacket); // cut short
    broken(V5, b"\x30\x05\0\0\x03\x23\0", ReasonCode::MalformedPacket);
    broken(V5, b"\x30\x06\0\0\x03\x23\0\x01", ReasonCode::ProtocolError); // alias without a topic
}

#[test]
fn mqtt5_3_3_2_12_aliases_of_the_client_are_resolved() {
    let mut pair = Pair::connected(V5);
    let mut hear = |bytes: &[u8]| match pair.tell_server(bytes) {
        Ok(Some(Event::Publish(publish))) => publish.message,
        other => panic!("{other:?}"),
    };
    let introduced = hear(b"\x30\x09\0\x03a/b\x03\x23\0\x01");
    assert_eq!(
        (introduced.topic(), introduced.properties_bytes()),
        ("a/b", &[][..])
    );
    let by_alias = hear(b"\x30\x0F\0\0\x0B\x01\x01\x23\0\x01\x26\0\x01k\0\x00p");
    assert_eq!(by_alias.topic(), "a/b");
    assert_eq!(by_alias.properties_bytes(), b"\x01\x01\x26\0\x01k\0\x00");
    assert_eq!(by_alias.payload(), b"p");
    hear(b"\x30\x09\0\x03c/d\x03\x23\0\x01");
    assert_eq!(hear(b"\x30\x06\0\0\x03\x23\0\x01").topic(), "c/d");
}

#[test]
fn mqtt5_3_3_2_7_aliases_do_not_outlive_the_connection() {
    let mut pair = Pair::connected(V5);
    pair.tell_server(b"\x30\x09\0\x03a/b\x03\x23\0\x01")
        .unwrap();
    broken(V5, b"\x30\x06\0\0\x03\x23\0\x01", ReasonCode::ProtocolError);
}

#[test]
fn mqtt5_3_1_2_26_the_server_uses_aliases_as_far_as_the_client_allows() {
    let mut pair = Pair::connected_with(V5, |options| options.topic_alias_maximum = 1);
    let [first, second] =
        ["room/1", "room/2"].map(|topic| Message::new(topic, &[], b"x", Qos::AtMostOnce, false));
    let mut lengths = Vec::new();
    for message in [&first, &first, &second, &first] {
        pair.deliver(message, Qos::AtMostOnce, 0);
        lengths.push(pair.to_client.len());
        pair.client_hears(|event| match event {
            ClientEvent::Publish(view) => assert_eq!(view.topic, message.topic()),
            event => panic!("{event:?}"),
        });
    }
    assert_eq!(lengths, [15, 9, 12, 9]);
    // [MQTT-3.1.2-27]: none where the client said nothing.
    let mut pair = Pair::connected(V5);
    pair.deliver(&first, Qos::AtMostOnce, 0);
    assert_eq!(pair.to_client, b"\x30\x0A\0\x06room/1\0x");
}

#[test]
fn an_alias_is_not_introduced_by_a_packet_that_is_not_sent() {
    let mut pair = Pair::connected_with(V5, |options| {
        options.topic_alias_maximum = 9;
        options.maximum_packet_size = Some(40);
    });
    let large = Message::new("room/1", &[], &[0; 50], Qos::AtMostOnce, false);
    assert_eq!(
        pair.deliver(&large, Qos::AtMostOnce, 0),
        Delivered::TooLarge
    ); // [MQTT-3.1.2-24]
    assert!(pair.to_client.is_empty());
    let small = Message::new("room/1", &[], b"x", Qos::AtMostOnce, false);
    assert_eq!(pair.deliver(&small, Qos::AtMostOnce, 0), Delivered::Written);
    assert_eq!(pair.to_client.len(), 15, "the topic goes along");
}

#[test]
fn mqtt5_3_3_4_7_receive_maximum_counts_what_is_not_acknowledged() {
    let mut pair = Pair::connected(V5);
    let success = ReasonCode::Success;
    for packet_id in 1..=32 {
        let qos = if packet_id % 2 == 0 {
            Qos::ExactlyOnce
        } else {
            Qos::AtLeastOnce
        };
        pair.publish("a", qos, packet_id).unwrap();
    }
    assert_eq!(pair.client.send_quota(), 0);
    pair.publish("a", Qos::AtMostOnce, 0).unwrap();
    // What ends an exchange gives back; PUBREC without an error does not.
    pair.server_acknowledges(&Ack::PubRec {
        packet_id: 2,
        reason: success,
        again: false,
    });
    pair.server_acknowledges(&Ack::PubAck {
        packet_id: 1,
        reason: success,
    });
    pair.publish("a", Qos::AtLeastOnce, 101).unwrap();
    pair.server_acknowledges(&Ack::PubComp {
        packet_id: 2,
        reason: success,
    });
    pair.publish("a", Qos::AtLeastOnce, 102).unwrap();
    let refused = ReasonCode::NotAuthorized;
    pair.server_acknowledges(&Ack::PubRec {
        packet_id: 4,
        reason: refused,
        again: false,
    });
    pair.publish("a", Qos::AtLeastOnce, 103).unwrap();
    pair.server_acknowledges(&Ack::PubRec {
        packet_id: 6,
        reason: refused,
        again: true,
    });
    let violation = pair.publish("a", Qos::AtLeastOnce, 104).unwrap_err();
    assert_eq!(violation.reason, ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn mqtt5_4_9_the_quota_never_exceeds_its_maximum() {
    let mut pair = Pair::connected(V5);
    for packet_id in 1..9 {
        let ack = Ack::PubComp {
            packet_id,
            reason: ReasonCode::Success,
        };
        pair.server_acknowledges(&ack); // of exchanges on an earlier connection
    }
    (1..=32).for_each(|id| drop(pair.publish("a", Qos::AtLeastOnce, id).unwrap()));
    assert!(pair.publish("a", Qos::AtLeastOnce, 33).is_err());
}

#[test]
fn receive_maximum_is_not_known_before_mqtt_5() {
    let mut pair = Pair::connected(V3_1_1);
    (1..=200).for_each(|id| drop(pair.publish("a", Qos::AtLeastOnce, id).unwrap()));
}

#[test]
fn mqtt5_3_3_a_message_keeps_what_it_came_with() {
    let mut pair = Pair::connected(V5);
    let bytes =
        b"\x3D\x1B\0\x03a/b\x12\x34\x11\x02\0\0\0\x0A\x01\x01\x03\0\x01t\x26\0\x01k\0\x00hi";
    let Ok(Some(Event::Publish(publish))) = pair.tell_server(bytes) else {
        panic!()
    };
    assert_eq!((publish.packet_id, publish.dup), (0x1234, true));
    let message = publish.message;
    assert_eq!((message.topic(), message.payload()), ("a/b", &b"hi"[..]));
    assert_eq!((message.qos(), message.retain()), (Qos::ExactlyOnce, true));
    assert_eq!(message.expires_at(), pair.now + 10_000);
    let properties = message.properties();
    assert_eq!(
        (properties.payload_format(), properties.content_type()),
        (Some(true), Some("t"))
    );
    assert_eq!(
        properties.user_properties().collect::<Vec<_>>(),
        [("k", "")]
    );
}

#[test]
fn mqtt5_3_3_2_6_a_delivery_says_what_is_left_of_its_expiry() {
    let mut pair = Pair::connected(V5);
    let expires_at = pair.now + 60_000;
    let message = Message::new("a", &[], b"x", Qos::AtLeastOnce, false).with_expiry(expires_at);
    pair.advance(45_500);
    let delivery = Delivery {
        message: &message,
        qos: Qos::AtLeastOnce,
        retain: true,
        dup: false,
        packet_id: 5,
        subscription_ids: &[1, 200],
        expiry_seconds: message.expiry_seconds(pair.now),
    };
    pair.server.deliver(&delivery, &mut pair.to_client);
    pair.client_hears(|event| {
        let ClientEvent::Publish(view) = event else {
            panic!("{event:?}")
        };
        assert_eq!(view.message_expiry_interval, Some(15));
        assert_eq!(view.subscription_ids().collect::<Vec<_>>(), [1, 200]); // [MQTT-3.3.4-4]
        assert_eq!(
            (view.packet_id, view.retain, view.payload),
            (5, true, &b"x"[..])
        );
    });
}

#[test]
fn a_message_crosses_versions_without_its_properties() {
    let mut publisher = Pair::connected(V5);
    let bytes = b"\x32\x10\0\x03a/b\0\x01\x06\x01\x01\x03\0\x01thi";
    let Ok(Some(Event::Publish(publish))) = publisher.tell_server(bytes) else {
        panic!()
    };
    let mut subscriber = Pair::connected(V3_1_1);
    subscriber.deliver(&publish.message, Qos::AtLeastOnce, 7);
    assert_eq!(subscriber.to_client, b"\x32\x09\0\x03a/b\0\x07hi");
    subscriber.to_client.clear();
    subscriber.deliver(&publish.message, Qos::AtMostOnce, 0);
    assert_eq!(subscriber.to_client, b"\x30\x07\0\x03a/bhi");
}

#[test]
fn mqtt5_4_3_3_qos_2_in_both_directions() {
    let success = ReasonCode::Success;
    for version in ProtocolVersion::ALL {
        let mut pair = Pair::connected(version);
        let message = pair.publish("a", Qos::ExactlyOnce, 3).unwrap();
        pair.server_acknowledges(&Ack::PubRec {
            packet_id: 3,
            reason: success,
            again: false,
        });
        pair.client_hears(|event| {
            assert!(matches!(event, ClientEvent::PubRec { packet_id: 3, .. }));
        });
        let rel = Ack::PubRel {
            packet_id: 3,
            reason: success,
        };
        pair.client.acknowledge(&rel, &mut pair.to_server);
        assert!(matches!(
            pair.server_event(),
            Event::PubRel { packet_id: 3, .. }
        ));
        pair.server_acknowledges(&Ack::PubComp {
            packet_id: 3,
            reason: success,
        });
        pair.client_hears(|event| {
            assert!(matches!(event, ClientEvent::PubComp { packet_id: 3, .. }));
        });
        assert_eq!(pair.client.unanswered(), 0);

        pair.deliver(&message, Qos::ExactlyOnce, 9);
        pair.client_hears(|event| {
            assert!(matches!(event, ClientEvent::Publish(view) if view.packet_id == 9));
        });
        let rec = Ack::PubRec {
            packet_id: 9,
            reason: success,
            again: false,
        };
        pair.client.acknowledge(&rec, &mut pair.to_server);
        assert!(matches!(
            pair.server_event(),
            Event::PubRec { packet_id: 9, .. }
        ));
        pair.server_acknowledges(&Ack::PubRel {
            packet_id: 9,
            reason: success,
        });
        pair.client_hears(|event| {
            assert!(matches!(event, ClientEvent::PubRel { packet_id: 9, .. }));
        });
        let comp = Ack::PubComp {
            packet_id: 9,
            reason: success,
        };
        pair.client.acknowledge(&comp, &mut pair.to_server);
        assert!(matches!(
            pair.server_event(),
            Event::PubComp { packet_id: 9, .. }
        ));
    }
}
