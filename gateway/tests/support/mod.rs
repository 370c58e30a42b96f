//! What every story needs: a gateway in this process, clients that speak to it over real sockets, and the layouts
//! a story must hold in.
//!
//! ```ignore
//! mod support;
//! use support::*;
//!
//! #[test]
//! fn a_message_reaches_its_subscriber() {
//!     for_every_layout(|gateway| {
//!         let mut subscriber = gateway.client("subscriber");
//!         subscriber.subscribe("a/+", Qos::AtLeastOnce);
//!         gateway.client("publisher").publish("a/b", "hello", Qos::AtLeastOnce);
//!         assert_eq!(subscriber.expect_publish().text(), "hello");
//!     });
//! }
//! ```
//!
//! Waiting for something is bounded by [`PATIENCE`]; a story never sleeps.

// Each story file is a crate of its own and uses a part of this.
#![allow(dead_code, unused_imports)]

mod client;
mod gateway;
mod raw;
mod story;

pub(crate) use client::{options, Client, Packet, Publication, PATIENCE};
pub(crate) use gateway::{
    for_every_layout, for_every_layout_with, settings, Gateway, Layout, LAYOUTS,
};
pub(crate) use raw::{
    connect, connect_with, packet, properties, text, user_property, variable_integer, Raw, PINGREQ,
    PINGRESP,
};
pub(crate) use story::{
    at, at_once_in_every_layout, at_once_in_every_layout_with, in_one_layout, in_one_layout_with,
    will,
};
pub(crate) use tidegate::node::{IoDriver, NodeSettings};
pub(crate) use tidegate_codec::mqtt::client::ConnectOptions;
pub(crate) use tidegate_codec::mqtt::connect::Will;
pub(crate) use tidegate_codec::mqtt::subscribe::{RetainHandling, SubscriptionOptions};
pub(crate) use tidegate_codec::mqtt::ProtocolVersion::{self, V3_1, V3_1_1, V5};
pub(crate) use tidegate_codec::Qos::{self, AtLeastOnce, AtMostOnce, ExactlyOnce};
pub(crate) use tidegate_codec::{Message, ReasonCode};
