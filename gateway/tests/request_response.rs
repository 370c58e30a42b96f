//! Request and response (MQTT 5 section 4.10).

mod support;

use support::*;
use tidegate_codec::mqtt::properties::Property;

/// A request with its response topic and correlation data.
fn request(response_topic: &str, correlation: &[u8]) -> Vec<u8> {
    [
        &[0x08][..],
        &text(response_topic),
        &[0x09],
        &text(correlation),
    ]
    .concat()
}

fn answer_properties(correlation: &[u8]) -> Vec<u8> {
    [&[0x09][..], &text(correlation)].concat()
}

/// The response topic and correlation data of a request.
fn asked_for(request: &Publication) -> (String, Vec<u8>) {
    let (mut topic, mut correlation) = (None, None);
    for property in request.given_properties() {
        match property {
            Property::ResponseTopic(name) => topic = Some(name.to_owned()),
            Property::CorrelationData(data) => correlation = Some(data.to_vec()),
            other => panic!("{other:?}"),
        }
    }
    (
        topic.expect("a response topic"),
        correlation.expect("correlation data"),
    )
}

/// [MQTT-3.3.2-13], [MQTT-3.3.2-15], [MQTT-3.3.2-16]
#[test]
fn mqtt5_4_10_a_responder_finds_the_way_back() {
    for_every_layout(|gateway| {
        let mut responder = gateway.client("responder");
        responder.subscribe("service/+", ExactlyOnce);
        let mut requesters: Vec<_> = (0..4)
            .map(|n| {
                let mut requester = gateway.client(&format!("requester-{n}"));
                requester.subscribe(&format!("reply/{n}"), ExactlyOnce);
                requester
            })
            .collect();
        for (n, requester) in requesters.iter_mut().enumerate() {
            for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
                let correlation = [n as u8, qos as u8, 0, 0xff];
                let properties = request(&format!("reply/{n}"), &correlation);
                requester.publish_with("service/sum", "1 + 1", qos, false, &properties);
                let (topic, data) = asked_for(&responder.expect_publish());
                assert_eq!(data, correlation);
                responder.publish_with(&topic, "2", qos, false, &answer_properties(&data));
                let response = requester.expect_publish();
                assert_eq!((response.text(), response.qos), ("2", qos));
                assert_eq!(response.properties, answer_properties(&correlation));
            }
        }
        requesters.iter_mut().for_each(Client::expect_silence);
    });
}

/// The response topic may name one client directly, without a subscription of its own.
#[test]
fn a_response_may_go_point_to_point() {
    for_every_layout(|gateway| {
        let mut responder = gateway.client("responder");
        responder.subscribe("service", AtLeastOnce);
        let mut requester = gateway.client("requester");
        requester.publish_with(
            "service",
            "?",
            AtLeastOnce,
            false,
            &request("$p2p/requester", b"7"),
        );
        let (topic, data) = asked_for(&responder.expect_publish());
        responder.publish_with(&topic, "!", AtLeastOnce, false, &answer_properties(&data));
        assert_eq!(requester.expect_publish().text(), "!");
    });
}

/// Requests may be shared among responders, each answered once.
#[test]
fn many_requests_are_answered_once_each_by_a_group_of_responders() {
    for_every_layout(|gateway| {
        let mut requester = gateway.client("requester");
        requester.subscribe("reply", AtLeastOnce);
        std::thread::scope(|scope| {
            let responders: Vec<_> = (0..3)
                .map(|n| {
                    let mut responder = gateway.client(&format!("responder-{n}"));
                    responder.subscribe("$share/g/service", AtLeastOnce);
                    responder
                })
                .collect();
            for mut responder in responders {
                scope.spawn(move || loop {
                    let request = responder.expect_publish();
                    if request.text() == "stop" {
                        // One goes, and its part falls to the others.
                        return responder.disconnect();
                    }
                    let (topic, data) = asked_for(&request);
                    responder.publish_with(
                        &topic,
                        "!",
                        AtLeastOnce,
                        false,
                        &answer_properties(&data),
                    );
                });
            }
            let mut answered = std::collections::HashSet::new();
            for n in 0..30u8 {
                let properties = request("reply", &[n]);
                requester.publish_with("service", "?", AtLeastOnce, false, &properties);
                let answer = requester.expect_publish();
                assert!(
                    answered.insert(answer.properties),
                    "{n} was answered before"
                );
            }
            for left in (0..3).rev() {
                requester.publish("service", "stop", AtLeastOnce);
                gateway.await_total(left + 1, |shard| shard.router.sessions_online);
            }
        });
    });
}
