//! Shared subscriptions (MQTT 5 section 4.8.2).

mod support;

use std::time::Duration;

use support::*;
use ReasonCode::{GrantedQos1, Success};

/// Members of one group, each with its own QoS.
fn members(gateway: &Gateway, filter: &str, qos: &[Qos]) -> Vec<Client> {
    let member = |(n, &qos): (usize, &Qos)| {
        let mut member = gateway.client(&format!("member-{n}"));
        member.subscribe(filter, qos);
        member
    };
    qos.iter().enumerate().map(member).collect()
}

/// Takes `count` messages from whoever has some; answers what each one got.
fn collect(clients: &mut [Client], count: usize) -> Vec<Vec<String>> {
    let mut got = vec![Vec::new(); clients.len()];
    let deadline = std::time::Instant::now() + PATIENCE;
    while got.iter().map(Vec::len).sum::<usize>() < count {
        for (client, got) in clients.iter_mut().zip(&mut got) {
            client.fence();
            while let Some(Packet::Publish(publication)) = client.try_next(Duration::ZERO) {
                got.push(publication.text().to_owned());
                client.finish(&publication);
            }
        }
        assert!(std::time::Instant::now() < deadline, "only {got:?} came");
    }
    got
}

/// [MQTT-4.8.2-1], [MQTT-4.8.2-2]
#[test]
fn mqtt5_4_8_2_1_each_message_goes_to_one_member() {
    for_every_layout(|gateway| {
        for filter in [
            "$share/group/shared/#",
            "$share/group/+/topic",
            "$share/group/#",
        ] {
            let mut members = members(gateway, filter, &[ExactlyOnce; 4]);
            let mut publisher = gateway.client("publisher");
            for n in 0..60 {
                let qos = [AtMostOnce, AtLeastOnce, ExactlyOnce][n % 3];
                publisher.publish("shared/topic", format!("{n}"), qos);
            }
            let got = collect(&mut members, 60);
            let mut all: Vec<usize> = got
                .iter()
                .flatten()
                .map(|text| text.parse().unwrap())
                .collect();
            all.sort();
            assert_eq!(all, (0..60).collect::<Vec<_>>());
            assert!(
                got.iter().all(|got| got.len() >= 5),
                "everyone gets its part: {got:?}"
            );
            members.iter_mut().for_each(Client::expect_silence);
        }
    });
}

/// [MQTT-4.8.2-1]: groups and ordinary subscriptions know nothing of each other.
#[test]
fn mqtt5_4_8_2_1_every_group_and_every_subscription_gets_its_copy() {
    for_every_layout(|gateway| {
        let mut one = members(gateway, "$share/one/both/topic", &[AtLeastOnce; 2]);
        let mut two = vec![gateway.client("two")];
        two[0].subscribe("$share/two/both/topic", AtLeastOnce);
        let mut alone = gateway.client("alone");
        alone.subscribe("both/topic", AtLeastOnce);
        // A client may be in both ways.
        let mut twice = gateway.client("twice");
        twice.subscribe("$share/three/both/#", AtLeastOnce);
        twice.subscribe("both/+", AtLeastOnce);
        let mut publisher = gateway.client("publisher");
        for n in 0..10 {
            publisher.publish("both/topic", format!("{n}"), AtLeastOnce);
        }
        collect(&mut one, 10);
        collect(&mut two, 10);
        assert_eq!(alone.expect_texts(10).len(), 10);
        assert_eq!(twice.expect_texts(20).len(), 20);
        for client in one
            .iter_mut()
            .chain(&mut two)
            .chain([&mut alone, &mut twice])
        {
            client.expect_silence();
        }
    });
}

/// [MQTT-4.8.2-3], [MQTT-3.8.4-8]
#[test]
fn mqtt5_4_8_2_3_each_member_keeps_its_granted_qos() {
    for_every_layout(|gateway| {
        let qos = [AtMostOnce, AtLeastOnce, ExactlyOnce];
        let mut members = members(gateway, "$share/group/mixed", &qos);
        let mut publisher = gateway.client("publisher");
        for _ in 0..12 {
            publisher.publish("mixed", "x", ExactlyOnce);
        }
        let mut counts = [0; 3];
        for ((member, granted), count) in members.iter_mut().zip(qos).zip(&mut counts) {
            member.fence();
            while let Some(Packet::Publish(publication)) = member.try_next(Duration::ZERO) {
                assert_eq!(publication.qos, granted);
                *count += 1;
            }
        }
        assert_eq!(counts.iter().sum::<usize>(), 12);
        assert!(!counts.contains(&0), "{counts:?}");
    });
}

/// [MQTT-4.8.2-4]
#[test]
fn mqtt5_4_8_2_4_qos_2_is_completed_with_the_member_it_was_sent_to() {
    for_every_layout(|gateway| {
        let lasting = |clean_start| ConnectOptions {
            clean_start,
            session_expiry_interval: 60,
            ..options(V5, "first")
        };
        let mut first = gateway.connect(lasting(true));
        first.subscribe("$share/group/two", ExactlyOnce);
        let mut publisher = gateway.client("publisher");
        publisher.publish("two", "sent", ExactlyOnce);
        publisher.publish("two", "recorded", ExactlyOnce);
        let sent = first.take_publish();
        let recorded = first.take_publish();
        first.send_pubrec(recorded.packet_id);
        first.expect_pubrel(recorded.packet_id);
        let mut second = gateway.client("second");
        second.subscribe("$share/group/two", ExactlyOnce);
        first.vanish();
        second.expect_silence();
        let mut first = gateway.connect(lasting(false));
        first.expect_packet(Packet::Publish(Publication { dup: true, ..sent }));
        first.expect_packet(Packet::PubRel {
            packet_id: recorded.packet_id,
            reason: Success,
        });
        second.expect_silence();
    });
}

/// [MQTT-4.8.2-5]: and with nobody else; QoS 1 goes to another member instead of being lost.
#[test]
fn mqtt5_4_8_2_5_qos_2_dies_with_its_session_and_qos_1_goes_on() {
    for_every_layout(|gateway| {
        let mut first = gateway.client("first");
        first.subscribe("$share/group/ends", ExactlyOnce);
        let mut publisher = gateway.client("publisher");
        publisher.publish("ends", "two", ExactlyOnce);
        publisher.publish("ends", "one", AtLeastOnce);
        publisher.publish("ends", "recorded", ExactlyOnce);
        let _two = first.take_publish();
        let _one = first.take_publish();
        let recorded = first.take_publish();
        first.send_pubrec(recorded.packet_id);
        first.expect_pubrel(recorded.packet_id);
        let mut second = gateway.client("second");
        second.subscribe("$share/group/ends", ExactlyOnce);
        first.vanish();
        let again = second.expect_publish();
        assert_eq!(
            (again.text(), again.qos, again.dup),
            ("one", AtLeastOnce, false)
        );
        second.expect_silence();
    });
}

/// [MQTT-4.8.2-6]
#[test]
fn mqtt5_4_8_2_6_what_a_member_refuses_goes_to_nobody_else() {
    for_every_layout(|gateway| {
        let lasting = ConnectOptions {
            clean_start: false,
            session_expiry_interval: 60,
            ..options(V5, "refuses")
        };
        let mut refuses = gateway.connect(lasting.clone());
        refuses.subscribe("$share/group/refused", ExactlyOnce);
        let mut publisher = gateway.client("publisher");
        for qos in [AtLeastOnce, ExactlyOnce] {
            publisher.publish("refused", "no", qos);
            let publication = refuses.take_publish();
            let (packet_id, reason) = (publication.packet_id, ReasonCode::NotAuthorized);
            refuses.send_ack(&match qos {
                AtLeastOnce => tidegate_codec::Ack::PubAck { packet_id, reason },
                _ => tidegate_codec::Ack::PubRec {
                    packet_id,
                    reason,
                    again: false,
                },
            });
        }
        refuses.fence();
        let mut other = gateway.client("other");
        other.subscribe("$share/group/refused", ExactlyOnce);
        refuses.vanish();
        other.expect_silence();
        let mut refuses = gateway.connect(lasting);
        refuses.expect_silence();
        gateway.connect(options(V5, "refuses")).disconnect();
        other.expect_silence();
    });
}

/// [MQTT-3.8.3-4]
#[test]
fn mqtt5_3_8_3_4_no_local_on_a_shared_subscription_is_a_protocol_error() {
    for_every_layout(|gateway| {
        let mut raw = Raw::connected(gateway, V5, "client");
        raw.send(packet(0x82, &[&[0, 1, 0], &text("$share/g/a"), &[0x04]]));
        raw.expect([0xe0, 1, 0x82]);
        raw.expect_closed();
    });
}

/// MQTT 5 section 4.8.2: no retained messages for a shared subscription, whatever its options say.
#[test]
fn mqtt5_4_8_2_a_shared_subscription_gets_no_retained_messages() {
    for_every_layout(|gateway| {
        let mut publisher = gateway.client("publisher");
        publisher.publish_retained("kept/topic", "kept", AtLeastOnce);
        let mut member = gateway.client("member");
        for _ in 0..2 {
            assert_eq!(
                member.try_subscribe("$share/g/kept/#", at(AtLeastOnce)),
                GrantedQos1
            );
            member.subscribe("fence", AtMostOnce);
            member.publish("fence", "fence", AtLeastOnce);
            assert_eq!(member.expect_publish().text(), "fence");
        }
        publisher.publish_retained("kept/topic", "live", AtLeastOnce);
        let publication = member.expect_publish();
        assert_eq!((publication.text(), publication.retain), ("live", false));
    });
}

/// [MQTT-3.3.4-3], [MQTT-3.3.1-13]: options and identifier are each member's own.
#[test]
fn mqtt5_3_3_4_3_a_member_has_its_own_identifier_and_options() {
    for_every_layout(|gateway| {
        let mut member = gateway.client("member");
        let options = SubscriptionOptions {
            retain_as_published: true,
            ..at(AtLeastOnce)
        };
        member.subscribe_with(&[("$share/g/own", options)], Some(77));
        gateway
            .client("publisher")
            .publish_retained("own", "x", AtLeastOnce);
        let publication = member.expect_publish();
        assert_eq!(
            (publication.subscription_ids.as_slice(), publication.retain),
            (&[77][..], true)
        );
        member.subscribe_with(&[("$share/g/own", at(AtMostOnce))], Some(78));
        gateway.client("publisher").publish("own", "x", AtLeastOnce);
        let publication = member.expect_publish();
        assert_eq!(
            (publication.subscription_ids.as_slice(), publication.qos),
            (&[78][..], AtMostOnce)
        );
    });
}

/// [MQTT-3.10.4-2]: a member that leaves gets nothing more, and the others everything.
#[test]
fn mqtt5_3_10_4_2_who_leaves_the_group_gets_nothing_more() {
    for_every_layout(|gateway| {
        let mut members = members(gateway, "$share/group/leave", &[AtLeastOnce; 3]);
        assert_eq!(members[0].unsubscribe(&["$share/group/leave"]), [Success]);
        members.remove(1).disconnect();
        gateway.await_total(2, |shard| shard.router.sessions_online);
        let mut publisher = gateway.client("publisher");
        for n in 0..10 {
            assert_eq!(
                publisher.publish("leave", format!("{n}"), AtLeastOnce),
                Success
            );
        }
        assert_eq!(members[1].expect_texts(10).len(), 10);
        members.iter_mut().for_each(Client::expect_silence);
        members[1].unsubscribe(&["$share/group/leave"]);
        let reason = publisher.publish("leave", "nobody", AtLeastOnce);
        assert_eq!(reason, ReasonCode::NoMatchingSubscribers);
    });
}

/// Members that are here are asked before those whose session only waits; without one it waits with a session.
#[test]
fn a_group_prefers_members_that_are_here() {
    for_every_layout(|gateway| {
        let lasting = ConnectOptions {
            clean_start: false,
            session_expiry_interval: 60,
            ..options(V5, "asleep")
        };
        let mut asleep = gateway.connect(lasting.clone());
        asleep.subscribe("$share/group/prefer", AtLeastOnce);
        asleep.disconnect();
        let mut publisher = gateway.client("publisher");
        publisher.publish("prefer", "waits", AtLeastOnce);
        let mut awake = members(gateway, "$share/group/prefer", &[AtLeastOnce]);
        for n in 0..10 {
            publisher.publish("prefer", format!("{n}"), AtLeastOnce);
        }
        assert_eq!(awake[0].expect_texts(10).len(), 10);
        awake[0].expect_silence();
        let mut asleep = gateway.connect(lasting);
        assert_eq!(asleep.expect_publish().text(), "waits");
        asleep.expect_silence();
    });
}
