//! Source addresses: how many connections one host can open to one port, and how to get past that.
//!
//! A connection is named by both addresses and both ports. Towards one listener only the local port
//! varies, and the kernel chooses it from `ip_local_port_range`: about 28,000 values. A second
//! source address doubles that. On loopback all of 127.0.0.0/8 is ours, so the flooder takes as
//! many as it needs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::failure::Failure;

/// Share of the port range that is used: other programs need ports too, and the search for a free
/// one grows long towards the end.
const USABLE_PERCENT: u32 = 90;

/// The source addresses of a run; empty where the kernel chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources {
    addresses: Vec<IpAddr>,
}

impl Sources {
    /// Spreads `clients` over `given`, or, where none are given and the targets are on loopback,
    /// over as many loopback addresses as are needed with `ports` local ports each.
    pub(crate) fn plan(
        clients: u32,
        targets: &[SocketAddr],
        given: &[IpAddr],
        ports: u32,
    ) -> Result<Sources, Failure> {
        let usable = (ports / 100 * USABLE_PERCENT).max(1);
        if !given.is_empty() {
            return Sources::given(clients, given, usable);
        }
        // Unbound sockets choose their port at connect, so each target has the whole range.
        let listeners = targets.len().max(1) as u32;
        if clients <= usable.saturating_mul(listeners) {
            return Ok(Sources {
                addresses: Vec::new(),
            });
        }
        let needed = clients.div_ceil(usable);
        if !targets.iter().all(|target| is_loopback_v4(target.ip())) {
            return Err(Failure::Usage(format!(
                "{clients} connections need {needed} source addresses of {usable} local ports each: name \
                 them with --source, or widen net.ipv4.ip_local_port_range"
            )));
        }
        let addresses = (0..needed).map(|n| IpAddr::V4(loopback(n + 1))).collect();
        Ok(Sources { addresses })
    }

    fn given(clients: u32, given: &[IpAddr], usable: u32) -> Result<Sources, Failure> {
        let room = usable.saturating_mul(given.len() as u32);
        if clients > room {
            return Err(Failure::Usage(format!(
                "{clients} connections need {} source addresses, --source names {}: each gives {usable} \
                 local ports (net.ipv4.ip_local_port_range)",
                clients.div_ceil(usable),
                given.len()
            )));
        }
        Ok(Sources {
            addresses: given.to_vec(),
        })
    }

    /// The source address of client number `client`, or `None` where the kernel chooses.
    pub(crate) fn of(&self, client: u32) -> Option<IpAddr> {
        let count = self.addresses.len();
        (count > 0).then(|| self.addresses[client as usize % count])
    }

    pub(crate) fn len(&self) -> usize {
        self.addresses.len()
    }
}

/// How many local ports the kernel may choose from.
pub(crate) fn local_ports() -> u32 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    parse_port_range(&text).unwrap_or(28_232)
}

fn parse_port_range(text: &str) -> Option<u32> {
    let mut numbers = text
        .split_whitespace()
        .map(|number| number.parse::<u32>().ok());
    let (low, high) = (numbers.next()??, numbers.next()??);
    high.checked_sub(low).map(|width| width + 1)
}

fn is_loopback_v4(ip: IpAddr) -> bool {
    ip.is_ipv4() && ip.is_loopback()
}

/// 127.0.0.1, 127.0.0.2 … leaving out 127.x.x.0 and 127.x.x.255, which some tools take for
/// broadcasts.
fn loopback(n: u32) -> Ipv4Addr {
    let (block, host) = ((n - 1) / 254, (n - 1) % 254 + 1);
    Ipv4Addr::new(127, (block >> 8) as u8, block as u8, host as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn few_clients_leave_the_choice_to_the_kernel() {
        let sources = Sources::plan(15_000, &[addr("127.0.0.1:1883")], &[], 28_232).unwrap();
        assert_eq!(sources.of(7), None);
        let two = [addr("127.0.0.1:1883"), addr("127.0.0.1:1884")];
        assert_eq!(Sources::plan(40_000, &two, &[], 28_232).unwrap().len(), 0);
    }

    #[test]
    fn loopback_addresses_share_the_clients_within_the_port_limit() {
        let sources = Sources::plan(100_000, &[addr("127.0.0.1:1883")], &[], 28_232).unwrap();
        let mut uses = HashMap::new();
        for client in 0..100_000 {
            *uses.entry(sources.of(client).unwrap()).or_insert(0) += 1;
        }
        assert_eq!(uses.len(), 4);
        assert!(
            uses.values().all(|&clients| clients <= 28_232 / 100 * 90),
            "{uses:?}"
        );
    }

    #[test]
    fn addresses_that_are_too_few_are_refused_with_the_number_needed() {
        let target = [addr("192.0.2.7:1883")];
        let error = Sources::plan(60_000, &target, &[], 28_232).unwrap_err();
        assert!(
            error.to_string().contains("need 3 source addresses"),
            "{error}"
        );
        let given: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        assert_eq!(
            Sources::plan(60_000, &target, &given, 28_232)
                .unwrap_err()
                .exit_code(),
            2
        );
        assert_eq!(
            Sources::plan(50_000, &target, &given, 28_232)
                .unwrap()
                .of(3),
            Some(given[1])
        );
    }

    #[test]
    fn loopback_addresses_never_end_in_0_or_255() {
        assert_eq!(loopback(1), Ipv4Addr::new(127, 0, 0, 1));
        assert_eq!(loopback(254), Ipv4Addr::new(127, 0, 0, 254));
        assert_eq!(loopback(255), Ipv4Addr::new(127, 0, 1, 1));
    }

    #[test]
    fn the_port_range_is_read() {
        assert_eq!(parse_port_range("32768\t60999\n"), Some(28_232));
        assert_eq!(parse_port_range("what"), None);
    }
}
