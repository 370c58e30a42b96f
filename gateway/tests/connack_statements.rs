//! CONNACK that accepts, statement by statement (MQTT 5 and 3.1.1 section 3.2).

mod support;

use support::*;

/// [MQTT-3.2.0-1], [MQTT-3.1.4-5], [3.1.1 MQTT-3.1.4-4], [3.1.1 MQTT-3.2.0-1]: a session with messages waiting
/// is answered first.
#[test]
fn mqtt5_3_2_0_1_connack_comes_before_everything_else() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let expiry = if version == V5 { 60 } else { 0 };
            let lasting = ConnectOptions {
                clean_start: false,
                session_expiry_interval: expiry,
                ..options(version, "lasting")
            };
            let mut client = gateway.connect(lasting.clone());
            client.subscribe("waiting", AtLeastOnce);
            client.disconnect();
            gateway
                .client("publisher")
                .publish("waiting", "message", AtLeastOnce);
            let mut client = gateway.open(version);
            let mut bytes = Vec::new();
            client.codec().connect(&lasting, &mut bytes);
            client.codec().ping(&mut bytes);
            client.send_raw(&bytes);
            let accepted = Packet::ConnAck {
                session_present: true,
                reason: ReasonCode::Success,
            };
            client.expect_packet(accepted);
            assert_eq!(client.expect_publish().text(), "message");
            gateway
                .connect(ConnectOptions {
                    clean_start: true,
                    ..lasting
                })
                .disconnect();
        }
    });
}

/// [MQTT-3.2.2-9], [MQTT-3.2.2-10], [MQTT-3.2.2-12], [MQTT-3.2.2-13]: everything optional is there, so nothing is
/// announced as missing and no will is refused for it.
#[test]
fn mqtt5_3_2_2_9_nothing_is_announced_as_unavailable() {
    for_every_layout(|gateway| {
        let will = will("will", "gone", ExactlyOnce, true);
        let mut client = gateway.connect(ConnectOptions {
            will,
            ..options(V5, "client")
        });
        let connack = client.connack();
        assert_eq!(connack.maximum_qos, ExactlyOnce);
        assert!(connack.retain_available && connack.wildcard_subscriptions_available);
        assert!(connack.subscription_ids_available && connack.shared_subscriptions_available);
        assert_eq!(
            (connack.receive_maximum, connack.topic_alias_maximum),
            (32, 16)
        );
        assert_eq!(connack.maximum_packet_size, Some(1 << 20));
        for (qos, granted) in [
            (AtMostOnce, ReasonCode::Success),
            (AtLeastOnce, ReasonCode::GrantedQos1),
            (ExactlyOnce, ReasonCode::GrantedQos2),
        ] {
            assert_eq!(client.try_subscribe("any", at(qos)), granted);
        }
    });
}

/// [MQTT-3.1.2-24], [MQTT-3.2.2-19], [MQTT-3.2.2-20]
#[test]
fn mqtt5_3_2_2_19_connack_fits_into_the_smallest_maximum_packet_size() {
    in_one_layout(|gateway| {
        for size in 5..40u8 {
            // A keep-alive, so that none has to be announced.
            let bytes = packet(
                0x10,
                &[
                    &text("MQTT"),
                    &[5, 0b10, 0, 60],
                    &properties(&[&[0x27, 0, 0, 0, size]]),
                    &text("small"),
                ],
            );
            let (mut raw, connack) = Raw::accepted(gateway, &bytes);
            assert!(
                connack.len() <= usize::from(size),
                "{} bytes for {size}",
                connack.len()
            );
            if size < 8 {
                raw.send(PINGREQ);
                raw.expect(PINGRESP);
            }
        }
    });
}
