//! More ways to tell a story than [`for_every_layout`](super::for_every_layout), and more that can be expected.

use std::time::Duration;

use tidegate::node::{IoDriver, NodeSettings};
use tidegate_codec::mqtt::connect::Will;
use tidegate_codec::mqtt::properties::{Property, PublishProperties};
use tidegate_codec::mqtt::subscribe::SubscriptionOptions;
use tidegate_codec::{Message, Qos, ReasonCode};

use super::client::{Client, Packet, Publication};
use super::gateway::{settings, Gateway, Layout, LAYOUTS};

/// For stories about the form of packets, which no layout changes.
pub(crate) const ONE_LAYOUT: Layout = Layout {
    io: IoDriver::Ring,
    shards: 2,
};

/// Tells a story about the form of packets to one gateway.
pub(crate) fn in_one_layout(story: impl FnOnce(&Gateway)) {
    in_one_layout_with(|_| {}, story);
}

/// The same with other settings than [`settings`] gives.
pub(crate) fn in_one_layout_with(
    change: impl FnOnce(&mut NodeSettings),
    story: impl FnOnce(&Gateway),
) {
    let mut settings = settings(ONE_LAYOUT);
    change(&mut settings);
    let gateway = Gateway::start(settings);
    story(&gateway);
    gateway.end();
}

/// Tells the story in every layout at the same time: for stories in which a clock must pass.
pub(crate) fn at_once_in_every_layout(story: impl Fn(&Gateway) + Sync) {
    at_once_in_every_layout_with(|_| {}, story);
}

/// The same with other settings than [`settings`] gives.
pub(crate) fn at_once_in_every_layout_with(
    change: impl Fn(&mut NodeSettings) + Sync,
    story: impl Fn(&Gateway) + Sync,
) {
    std::thread::scope(|scope| {
        let tell = |layout| {
            let mut settings = settings(layout);
            change(&mut settings);
            let gateway = Gateway::start(settings);
            story(&gateway);
            gateway.end();
        };
        let told = LAYOUTS.map(|layout| (layout, scope.spawn(move || tell(layout))));
        for (layout, thread) in told {
            assert!(thread.join().is_ok(), "the story broke in {layout:?}");
        }
    });
}

/// Subscription options that only name a QoS.
pub(crate) fn at(qos: Qos) -> SubscriptionOptions {
    SubscriptionOptions::qos(qos)
}

/// A will without delay and properties.
pub(crate) fn will(topic: &str, payload: &str, qos: Qos, retain: bool) -> Option<Will> {
    let message = Message::new(topic, &[], payload.as_bytes(), qos, retain);
    Some(Will {
        message,
        delay_interval: 0,
        message_expiry_interval: None,
    })
}

impl Client {
    /// Asks for an answer that comes after everything that was under way to this client; nothing was.
    ///
    /// A message that another client published is under way from its PUBACK or PUBCOMP on, wherever it lives.
    pub(crate) fn expect_silence(&mut self) {
        self.fence();
        let came = self.try_next(Duration::ZERO);
        assert_eq!(came, None, "expected nothing");
    }

    /// The next `count` messages, acknowledged, as texts.
    pub(crate) fn expect_texts(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| self.expect_publish().text().to_owned())
            .collect()
    }

    /// Asks for an answer that comes behind everything that was under way to this client; all that is kept. Not a
    /// PINGREQ: its answer may wait for company.
    pub(crate) fn fence(&mut self) {
        self.unsubscribe(&["no/such/subscription"]);
    }

    /// Acknowledges a message that was taken, PUBREL and PUBCOMP included.
    pub(crate) fn finish(&mut self, publication: &Publication) {
        let id = publication.packet_id;
        match publication.qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => self.send_puback(id),
            Qos::ExactlyOnce => {
                self.send_pubrec(id);
                self.expect_pubrel(id);
                self.send_pubcomp(id);
            }
        }
    }

    /// What SUBACK said about one filter.
    pub(crate) fn try_subscribe(
        &mut self,
        filter: &str,
        options: SubscriptionOptions,
    ) -> ReasonCode {
        let reasons = self.subscribe_with(&[(filter, options)], None);
        assert_eq!(reasons.len(), 1, "one reason a filter");
        reasons[0]
    }

    /// Nothing but the answer to a request that is under way comes next.
    pub(crate) fn expect_packet(&mut self, expected: Packet) {
        assert_eq!(self.next(), expected);
    }
}

impl Publication {
    /// The properties a publisher gave, in their order; what the gateway adds is not among them.
    pub(crate) fn given_properties(&self) -> Vec<Property<'_>> {
        let all = PublishProperties::new(&self.properties);
        all.iter().filter(Property::is_forwardable).collect()
    }
}
