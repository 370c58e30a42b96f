//! Message Expiry Interval (MQTT 5 section 3.3.2.3.3).

mod support;

use std::time::Duration;

use support::*;

fn expiry(seconds: u32) -> Vec<u8> {
    [&[0x02][..], &seconds.to_be_bytes()].concat()
}

fn lasting(client_id: &str) -> ConnectOptions {
    ConnectOptions {
        clean_start: false,
        session_expiry_interval: 600,
        ..options(V5, client_id)
    }
}

/// Lets a second and a bit pass: the one thing a story about expiry has to wait for.
fn let_a_second_pass(gateway: &Gateway) {
    gateway
        .client("clock")
        .expect_nothing_for(Duration::from_millis(1_100));
}

/// [MQTT-3.3.2-6]
#[test]
fn mqtt5_3_3_2_6_a_message_that_did_not_wait_keeps_its_interval() {
    for_every_layout(|gateway| {
        let mut subscriber = gateway.client("subscriber");
        subscriber.subscribe("expiry", ExactlyOnce);
        let mut publisher = gateway.client("publisher");
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            for seconds in [60, u32::MAX] {
                publisher.publish_with("expiry", "x", qos, false, &expiry(seconds));
                let left = subscriber.expect_publish().message_expiry_interval.unwrap();
                assert!(seconds - left <= 5, "{left} of {seconds}");
            }
            publisher.publish("expiry", "x", qos);
            assert_eq!(subscriber.expect_publish().message_expiry_interval, None);
        }
        // 3.1.1 knows no such thing, and gets the message.
        let mut old = gateway.client_v3("old");
        old.subscribe("expiry", AtMostOnce);
        publisher.publish_with("expiry", "x", AtLeastOnce, false, &expiry(60));
        assert_eq!(old.expect_publish().text(), "x");
    });
}

/// [MQTT-3.3.2-5], [MQTT-3.3.2-6]: for sessions, for retained messages, for a window that is closed.
#[test]
fn mqtt5_3_3_2_5_what_expired_is_not_delivered_and_what_waited_says_so() {
    at_once_in_every_layout(|gateway| {
        let mut sleeper = gateway.connect(lasting("sleeper"));
        sleeper.subscribe("expiry/#", ExactlyOnce);
        sleeper.disconnect();
        let mut narrow = gateway.connect(ConnectOptions {
            receive_maximum: 1,
            ..options(V5, "narrow")
        });
        narrow.subscribe("expiry/#", ExactlyOnce);
        let mut publisher = gateway.client("publisher");
        let mut publish = |topic: &str, text: &str, qos, seconds| {
            publisher.publish_with(topic, text, qos, true, &expiry(seconds));
        };
        publish("expiry/1", "first", AtLeastOnce, 100);
        publish("expiry/2", "short", AtLeastOnce, 1);
        publish("expiry/3", "short", ExactlyOnce, 1);
        publish("expiry/4", "long", ExactlyOnce, 100);
        // The window is closed, but the first one is on its way.
        let first = narrow.take_publish();
        assert_eq!(first.text(), "first");
        let_a_second_pass(gateway);

        let mut sleeper = gateway.connect(lasting("sleeper"));
        for text in ["first", "long"] {
            let publication = sleeper.expect_publish();
            assert_eq!(publication.text(), text);
            let left = publication.message_expiry_interval.unwrap();
            assert!((80..=99).contains(&left), "{left}");
        }
        sleeper.expect_silence();
        narrow.send_puback(first.packet_id);
        assert_eq!(narrow.expect_publish().text(), "long");
        narrow.expect_silence();
        let mut late = gateway.client("late");
        late.subscribe("expiry/#", AtMostOnce);
        let mut retained: Vec<_> = (0..2).map(|_| late.expect_publish()).collect();
        retained.sort_by_key(|publication| publication.topic.clone());
        for (publication, text) in retained.iter().zip(["first", "long"]) {
            assert_eq!(publication.text(), text);
            let left = publication.message_expiry_interval.unwrap();
            assert!((80..=99).contains(&left), "{left}");
        }
        late.subscribe("fence", AtMostOnce);
        late.publish("fence", "fence", AtLeastOnce);
        assert_eq!(late.expect_publish().text(), "fence");
        late.expect_silence();
    });
}

/// [MQTT-4.3.3-7], [MQTT-4.3.3-13], [MQTT-4.4.0-1]: what was sent once is sent again and completed, however old.
#[test]
fn mqtt5_4_3_3_7_expiry_does_not_apply_to_what_was_sent() {
    at_once_in_every_layout(|gateway| {
        let mut client = gateway.connect(lasting("client"));
        client.subscribe("sent", ExactlyOnce);
        let mut publisher = gateway.client("publisher");
        for text in ["sent", "recorded"] {
            publisher.publish_with("sent", text, ExactlyOnce, false, &expiry(1));
        }
        let sent = client.take_publish();
        let recorded = client.take_publish();
        client.send_pubrec(recorded.packet_id);
        client.expect_pubrel(recorded.packet_id);
        client.vanish();
        // On our side of the exchange as well: the message expires, its packet id does not.
        let receiver =
            publisher.send_publish_with("other", "in", ExactlyOnce, false, false, &expiry(1));
        publisher.expect_pubrec(receiver);
        let_a_second_pass(gateway);
        let mut client = gateway.connect(lasting("client"));
        let again = client.take_publish();
        assert_eq!(
            (again.packet_id, again.text(), again.dup),
            (sent.packet_id, "sent", true)
        );
        client.expect_packet(Packet::PubRel {
            packet_id: recorded.packet_id,
            reason: ReasonCode::Success,
        });
        client.send_pubrec(again.packet_id);
        client.expect_pubrel(again.packet_id);
        client.send_pubcomp(again.packet_id);
        client.expect_silence();
        publisher.send_pubrel(receiver);
        assert_eq!(publisher.expect_pubcomp(receiver), ReasonCode::Success);
    });
}
