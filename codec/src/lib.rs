//! Tidegate's protocols, sans-io: bytes ⇄ packets ⇄ events, and each protocol's conversation rules.
//!
//! Nothing here reads a socket, a clock or a random number; time comes in as [`Millis`]. No bytes a peer
//! can send make this crate panic or reserve more than the limits it is given.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`cursor`] | bounded reader and writer; "need more" is a value, not an error |
//! | [`message`] | [`Message`], topic names and filters, [`Qos`]: what every protocol decodes to |
//! | [`conversation`] | the small contract all protocols share |
//! | [`mqtt`] | MQTT 3.1, 3.1.1 and 5 |

#![forbid(unsafe_code)]

pub mod conversation;
pub mod cursor;
pub mod message;
pub mod mqtt;
pub mod topic;

pub use conversation::{Ack, Delivery, FrameSink, Millis, Violation};
pub use message::{Message, Qos};
pub use mqtt::reason_code::ReasonCode;
pub use topic::TopicFilter;
