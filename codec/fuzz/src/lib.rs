//! What the fuzz targets do with their bytes. `codec/tests/fuzz_corpus.rs` includes this file too, and feeds it the
//! committed corpora with a stable compiler.
//!
//! | target | what is fed | what must hold |
//! | --- | --- | --- |
//! | [`mqtt_frame`] | a stream to either side | whole or in pieces, the same packets |
//! | [`mqtt_server_connection`] | a conversation: packets right, wrong and raw, mixed with the driver's verbs | the contract of `ServerConnection` |
//! | [`mqtt_client_connection`] | a server's bytes, mixed with a user's verbs | the contract of `ClientConnection` |
//! | [`round_trip`] | one packet | what decodes comes back from its encoding |
//! | [`topic_filter`] | limits, a filter and a name | the naive reading of the standard |

pub mod meter;
pub mod mqtt_client_connection;
pub mod mqtt_frame;
pub mod mqtt_server_connection;
pub mod round_trip;
pub mod seeds;
pub mod show;
pub mod topic_filter;

/// A target's name, which is also its corpus's, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 5] = [
    ("mqtt_client_connection", mqtt_client_connection::run),
    ("mqtt_frame", mqtt_frame::run),
    ("mqtt_server_connection", mqtt_server_connection::run),
    ("round_trip", round_trip::run),
    ("topic_filter", topic_filter::run),
];
