//! Where the load goes: `mqtt://HOST:PORT`, resolved once.

use std::fmt;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use crate::failure::Failure;

const DEFAULT_PORT: u16 = 1883;

/// One listener of the broker under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) addr: SocketAddr,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Target, String> {
        let place = url
            .strip_prefix("mqtt://")
            .or_else(|| url.strip_prefix("tcp://"))
            .unwrap_or(url);
        if place.contains("://") {
            return Err(format!("`{url}`: only mqtt://HOST:PORT is spoken here"));
        }
        let place = place.trim_end_matches('/');
        let with_port = if has_port(place) {
            place.to_owned()
        } else {
            format!("{place}:{DEFAULT_PORT}")
        };
        let addr = with_port
            .to_socket_addrs()
            .map_err(|error| {
                format!("`{url}`: {error}; write mqtt://HOST:PORT or mqtt://[IPv6]:PORT")
            })?
            .next()
            .ok_or_else(|| format!("`{url}`: the name has no address"))?;
        Ok(Target {
            url: format!("mqtt://{with_port}"),
            addr,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl Target {
    /// Fails early, and with one clear line, where nobody listens.
    pub(crate) fn probe(&self) -> Result<(), Failure> {
        match TcpStream::connect_timeout(&self.addr, Duration::from_secs(5)) {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::Run(format!(
                "{self}: {error}; is a broker listening there? Name another one with --target"
            ))),
        }
    }

    /// Whether the address belongs to this host, so that the process behind it can be measured.
    pub(crate) fn is_on_this_host(&self) -> bool {
        // Only an address of this host can be bound to.
        UdpSocket::bind((self.addr.ip(), 0)).is_ok()
    }
}

fn has_port(place: &str) -> bool {
    let after_bracket = place.rsplit_once(']').map_or(place, |(_, rest)| rest);
    after_bracket.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: &str) {
        assert_eq!(
            url.parse::<Target>().unwrap().addr,
            expected.parse().unwrap(),
            "{url}"
        );
    }

    #[test]
    fn urls_and_bare_addresses_are_understood() {
        check("mqtt://127.0.0.1:1884", "127.0.0.1:1884");
        check("mqtt://127.0.0.1", "127.0.0.1:1883");
        check("127.0.0.1:1", "127.0.0.1:1");
        check("tcp://127.0.0.1:1883/", "127.0.0.1:1883");
        check("mqtt://[::1]:1884", "[::1]:1884");
        check("mqtt://[::1]", "[::1]:1883");
    }

    #[test]
    fn other_schemes_are_refused_by_name() {
        let error = "mqtts://127.0.0.1:8883".parse::<Target>().unwrap_err();
        assert!(
            error.contains("mqtts://") && error.contains("mqtt://HOST:PORT"),
            "{error}"
        );
        assert!("mqtt://127.0.0.1:http".parse::<Target>().is_err());
    }

    #[test]
    fn loopback_is_on_this_host() {
        assert!("127.0.0.1:1".parse::<Target>().unwrap().is_on_this_host());
        assert!(!"192.0.2.1:1".parse::<Target>().unwrap().is_on_this_host());
    }
}
