//! Point to point: `$p2p/<clientId>` goes to one client, without a subscription.

mod support;

use support::*;
use ReasonCode::{NoMatchingSubscribers, Success};

const QOS: [Qos; 3] = [AtMostOnce, AtLeastOnce, ExactlyOnce];

fn lasting(version: ProtocolVersion, client_id: &str) -> ConnectOptions {
    let session_expiry_interval = if version == V5 { 60 } else { 0 };
    ConnectOptions {
        clean_start: false,
        session_expiry_interval,
        ..options(version, client_id)
    }
}

#[test]
fn a_message_reaches_the_client_it_names_at_the_publishers_qos() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let mut targets: Vec<_> = (0..8)
                .map(|n| gateway.connect(options(version, &format!("target-{n}"))))
                .collect();
            let mut publisher = gateway.connect(options(version, "publisher"));
            for (n, target) in targets.iter_mut().enumerate() {
                for qos in QOS {
                    let topic = format!("$p2p/target-{n}");
                    assert_eq!(publisher.publish(&topic, format!("{n}"), qos), Success);
                    let publication = target.expect_publish();
                    assert_eq!(
                        (publication.topic.as_str(), publication.qos),
                        (&*topic, qos)
                    );
                    assert_eq!(
                        (publication.text(), publication.retain),
                        (&*format!("{n}"), false)
                    );
                }
            }
            targets.iter_mut().for_each(Client::expect_silence);
        }
    });
}

#[test]
fn a_client_may_write_to_itself_and_to_ids_with_slashes() {
    for_every_layout(|gateway| {
        for id in ["plain", "with/slash", "$odd", "with space", "\u{1F600}"] {
            let mut client = gateway.client(id);
            assert_eq!(
                client.publish(&format!("$p2p/{id}"), "hello", AtLeastOnce),
                Success
            );
            assert_eq!(client.expect_publish().text(), "hello");
        }
    });
}

#[test]
fn it_reaches_nobody_else_whatever_they_subscribed() {
    for_every_layout(|gateway| {
        let mut curious = gateway.client("curious");
        for filter in [
            "#",
            "+/target",
            "$p2p/#",
            "$p2p/target",
            "$p2p/+",
            "$share/g/$p2p/#",
        ] {
            curious.subscribe(filter, AtLeastOnce);
        }
        let mut target = gateway.client("target");
        target.subscribe("$p2p/target", AtMostOnce);
        let mut publisher = gateway.client("publisher");
        for qos in QOS {
            publisher.publish("$p2p/target", "secret", qos);
            let publication = target.expect_publish();
            assert_eq!((publication.text(), publication.qos), ("secret", qos));
        }
        target.expect_silence();
        curious.expect_silence();
    });
}

#[test]
fn a_sleeping_session_gets_it_later_and_a_missing_client_never() {
    for_every_layout(|gateway| {
        let mut publisher = gateway.client("publisher");
        for version in [V3_1_1, V5] {
            gateway.connect(lasting(version, "sleeper")).disconnect();
            for qos in [AtLeastOnce, ExactlyOnce] {
                assert_eq!(publisher.publish("$p2p/sleeper", "later", qos), Success);
            }
            let mut sleeper = gateway.connect(lasting(version, "sleeper"));
            assert_eq!(sleeper.expect_texts(2), ["later", "later"]);
            sleeper.expect_silence();
            sleeper.disconnect();
            gateway.connect(options(version, "sleeper")).disconnect();
            for qos in [AtLeastOnce, ExactlyOnce] {
                let reason = publisher.publish("$p2p/sleeper", "never", qos);
                assert_eq!(reason, NoMatchingSubscribers);
            }
            let mut awake = gateway.connect(options(version, "sleeper"));
            awake.expect_silence();
        }
        assert_eq!(
            publisher.publish("$p2p/", "x", AtLeastOnce),
            NoMatchingSubscribers
        );
    });
}

/// [MQTT-4.4.0-1], [MQTT-3.3.4-9], [MQTT-3.3.2-17]: it is a message like any other in every further respect.
#[test]
fn order_window_and_properties_hold_for_it_too() {
    for_every_layout(|gateway| {
        let narrow = ConnectOptions {
            receive_maximum: 2,
            ..lasting(V5, "target")
        };
        let mut target = gateway.connect(narrow.clone());
        let mut publisher = gateway.client("publisher");
        let given = [user_property("k", "v"), [&[0x03][..], &text("t")].concat()].concat();
        for n in 0..6 {
            let qos = if n % 2 == 0 { AtLeastOnce } else { ExactlyOnce };
            publisher.publish_with("$p2p/target", format!("{n}"), qos, true, &given);
        }
        let first = target.take_publish();
        let second = target.take_publish();
        target.expect_silence();
        assert_eq!((first.text(), second.text()), ("0", "1"));
        assert_eq!(first.properties, given);
        target.vanish();
        let mut target = gateway.connect(narrow);
        target.expect_packet(Packet::Publish(Publication {
            dup: true,
            ..first.clone()
        }));
        target.expect_packet(Packet::Publish(Publication {
            dup: true,
            ..second.clone()
        }));
        target.finish(&first);
        target.finish(&second);
        assert_eq!(target.expect_texts(4), ["2", "3", "4", "5"]);
        target.expect_silence();
    });
}

/// No topic of the table: nothing is retained, and an empty name names nobody.
#[test]
fn retain_has_no_meaning_point_to_point() {
    for_every_layout(|gateway| {
        gateway
            .client("publisher")
            .publish_retained("$p2p/late", "x", AtLeastOnce);
        let mut late = gateway.client("late");
        late.subscribe("$p2p/late", AtLeastOnce);
        late.expect_silence();
        assert_eq!(gateway.total(|shard| shard.router.retained_messages), 0);
    });
}
