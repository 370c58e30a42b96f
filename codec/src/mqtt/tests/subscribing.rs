//! SUBSCRIBE and UNSUBSCRIBE: options, filters, answers.

use super::{broken, Pair};
use crate::conversation::Ack;
use crate::message::Qos;
use crate::mqtt::client::ClientEvent;
use crate::mqtt::connection::Event;
use crate::mqtt::reason_code::ReasonCode;
use crate::mqtt::subscribe::{RetainHandling, SubscriptionOptions};
use crate::mqtt::ProtocolVersion;
use crate::mqtt::ProtocolVersion::{V3_1, V3_1_1, V5};
use crate::topic::TopicError;

/// The reason code of a SUBSCRIBE of MQTT 5 with one filter and these properties, or its filter's error.
fn subscribe(
    version: ProtocolVersion,
    filter: &str,
    options: u8,
    properties: &[u8],
) -> Result<Option<TopicError>, ReasonCode> {
    let mut body = vec![0, 1];
    if version.is_v5() {
        body.push(properties.len() as u8);
        body.extend(properties);
    }
    body.extend((filter.len() as u16).to_be_bytes());
    body.extend(filter.bytes());
    body.push(options);
    let mut pair = Pair::connected(version);
    match pair.tell_server(&[&[0x82, body.len() as u8], &body[..]].concat()) {
        Ok(Some(Event::Subscribe(subscribe))) => {
            Ok(subscribe.subscriptions[0].filter.as_ref().err().copied())
        }
        Err(violation) => Err(violation.reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn mqtt5_3_8_3_5_subscription_options_are_checked() {
    let check = |version, options, expected| {
        assert_eq!(
            subscribe(version, "a", options, &[]),
            expected,
            "{version:?} {options:#b}"
        );
    };
    let (malformed, error) = (
        Err(ReasonCode::MalformedPacket),
        Err(ReasonCode::ProtocolError),
    );
    for options in [0, 1, 2] {
        check(V3_1, options, Ok(None));
        check(V3_1_1, options, Ok(None));
        check(V5, options | 0b10_1100, Ok(None));
    }
    check(V3_1_1, 3, malformed); // [3.1.1 MQTT-3.8.3-4]
    check(V3_1_1, 0b100, malformed);
    check(V5, 3, error);
    check(V5, 0b11_0000, error); // retain handling 3
    check(V5, 0b0100_0000, malformed);
    check(V5, 0b1000_0000, malformed);
}

#[test]
fn mqtt5_3_8_3_2_a_subscribe_has_at_least_one_filter() {
    broken(V3_1_1, &[0x82, 2, 0, 1], ReasonCode::ProtocolError); // [3.1.1 MQTT-3.8.3-3]
    broken(V5, &[0x82, 3, 0, 1, 0], ReasonCode::ProtocolError);
    broken(V5, b"\x82\x06\0\x01\0\0\x01a", ReasonCode::MalformedPacket); // without options
}

#[test]
fn mqtt5_3_8_3_4_no_local_on_a_shared_subscription_is_a_protocol_error() {
    assert_eq!(
        subscribe(V5, "$share/g/a", 0b100, &[]),
        Err(ReasonCode::ProtocolError)
    );
    assert_eq!(subscribe(V5, "$share/g/a", 0, &[]), Ok(None));
}

#[test]
fn mqtt5_3_8_2_1_2_subscription_identifiers() {
    assert_eq!(
        subscribe(V5, "a", 0, &[0x0B, 0]),
        Err(ReasonCode::ProtocolError)
    );
    assert_eq!(
        subscribe(V5, "a", 0, &[0x0B, 1, 0x0B, 1]),
        Err(ReasonCode::ProtocolError)
    );
    assert_eq!(
        subscribe(V5, "a", 0, &[0x0B, 0x81, 0]),
        Err(ReasonCode::MalformedPacket)
    );
    assert_eq!(
        subscribe(V5, "a", 0, &[0x0B, 0xFF, 0xFF, 0xFF, 0x7F]),
        Ok(None)
    );
    assert_eq!(
        subscribe(V5, "a", 0, &[0x01, 1]),
        Err(ReasonCode::MalformedPacket)
    );
}

#[test]
fn mqtt5_4_7_1_filters_that_are_none() {
    // MQTT 5 answers each with a reason code of its own; 3.1.1 closes [3.1.1 MQTT-4.8.0-1].
    for (filter, error) in [
        ("a#", TopicError::MisplacedWildcard),
        ("", TopicError::Empty),
    ] {
        assert_eq!(subscribe(V5, filter, 0, &[]), Ok(Some(error)));
        assert_eq!(
            subscribe(V3_1_1, filter, 0, &[]),
            Err(ReasonCode::ProtocolError)
        );
    }
    // What breaks no rule of 3.1.1 is answered there too.
    for version in [V3_1_1, V5] {
        let check = |filter, error| {
            assert_eq!(
                subscribe(version, filter, 0, &[]),
                Ok(Some(error)),
                "{version:?}"
            );
        };
        check("$share/g", TopicError::BadShare);
        check(&"/".repeat(40), TopicError::TooManyLevels);
        assert_eq!(
            subscribe(version, "a\0", 0, &[]),
            Err(ReasonCode::MalformedPacket)
        );
    }
}

#[test]
fn mqtt5_3_8_4_1_a_subscription_from_end_to_end() {
    for version in ProtocolVersion::ALL {
        let mut pair = Pair::connected(version);
        let wanted = SubscriptionOptions {
            maximum_qos: Qos::AtLeastOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::DoNotSend,
        };
        let filters = [
            ("a/+", wanted),
            ("b", SubscriptionOptions::qos(Qos::ExactlyOnce)),
        ];
        pair.client
            .subscribe(11, &filters, Some(77), &mut pair.to_server);
        let Event::Subscribe(subscribe) = pair.server_event() else {
            panic!()
        };
        let v5 = version.is_v5();
        assert_eq!(subscribe.subscription_id, v5.then_some(77));
        let expected = if v5 {
            wanted
        } else {
            SubscriptionOptions::qos(Qos::AtLeastOnce)
        };
        assert_eq!(subscribe.subscriptions[0].options, expected);
        let reasons = [ReasonCode::GrantedQos1, ReasonCode::TopicFilterInvalid];
        pair.server_acknowledges(&Ack::SubAck {
            packet_id: 11,
            reasons: &reasons,
        });
        pair.client_hears(|event| {
            let ClientEvent::SubAck {
                packet_id: 11,
                reasons,
            } = event
            else {
                panic!("{event:?}")
            };
            assert_eq!(reasons[0], ReasonCode::GrantedQos1);
            assert!(reasons[1].is_error());
        });
        pair.client.unsubscribe(12, &["a/+"], &mut pair.to_server);
        assert!(matches!(pair.server_event(), Event::Unsubscribe(u) if u.packet_id == 12));
        let reasons = [ReasonCode::Success];
        pair.server_acknowledges(&Ack::UnsubAck {
            packet_id: 12,
            reasons: &reasons,
        });
        pair.client_hears(|event| assert!(matches!(event, ClientEvent::UnsubAck { .. })));
        assert_eq!(pair.client.unanswered(), 0);
    }
}
