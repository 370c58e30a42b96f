//! `mqtt://127.0.0.1:1883`: what a listener speaks and where.

use std::net::SocketAddr;

use crate::node::{ListenerSettings, Protocol};

use super::nearest::nearest;

/// Every scheme of the contract; without a protocol: it is not built yet.
const SCHEMES: &[(&str, Option<Protocol>)] = &[
    ("mqtt", Some(Protocol::Mqtt)),
    ("mqtts", None),
    ("ws", None),
    ("wss", None),
    ("stomp", None),
    ("stomps", None),
    ("jt808", None),
    ("jt808s", None),
    ("jt808+udp", None),
    ("gb32960", None),
    ("gb32960s", None),
];

/// The scheme of a protocol that is built.
pub fn scheme(protocol: Protocol) -> &'static str {
    let found = SCHEMES.iter().find(|(_, built)| *built == Some(protocol));
    found.expect("every built protocol has a scheme").0
}

/// The schemes a listener can have today, for help texts and errors.
pub(crate) fn built_schemes() -> String {
    let built = SCHEMES.iter().filter(|(_, protocol)| protocol.is_some());
    built
        .map(|(name, _)| format!("{name}://"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Reads a listener's URL; an error is a whole sentence about `text`.
pub(crate) fn parse(text: &str) -> Result<ListenerSettings, String> {
    let Some((name, rest)) = text.split_once("://") else {
        return Err(format!(
            "{text:?} has no scheme; mqtt://{text} would be right"
        ));
    };
    let protocol = parse_scheme(name).map_err(|why| format!("{text:?}: {why}"))?;
    let addr = rest.parse::<SocketAddr>().map_err(|_| {
        format!(
            "{text:?}: {rest:?} is not an address and port; \
             {name}://127.0.0.1:1883 or {name}://[::1]:1883 would be right"
        )
    })?;
    Ok(ListenerSettings { protocol, addr })
}

fn parse_scheme(name: &str) -> Result<Protocol, String> {
    match SCHEMES.iter().find(|(known, _)| *known == name) {
        Some((_, Some(protocol))) => Ok(*protocol),
        Some((_, None)) => Err(format!(
            "listeners of {name}:// are not built yet; built so far: {}",
            built_schemes()
        )),
        None => match nearest(name, SCHEMES.iter().map(|(known, _)| *known)) {
            Some(near) => Err(format!("no such scheme; did you mean {near}://?")),
            None => Err(format!("no such scheme; built so far: {}", built_schemes())),
        },
    }
}
