//! CPU time and memory of the process under test, from `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use rustix::param::{clock_ticks_per_second, page_size};

/// What a set of processes has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
    pub(crate) rss_bytes: u64,
}

impl Usage {
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

/// The processes that are measured: those given or found, and their descendants.
#[derive(Debug, Clone, Default)]
pub(crate) struct Processes {
    pids: Vec<u32>,
}

impl Processes {
    pub(crate) fn of_pids(pids: &[u32]) -> Processes {
        let mut all: BTreeSet<u32> = pids.iter().copied().collect();
        let parents = parents();
        // Depth by depth; a process tree is never deeper than it is large.
        loop {
            let before = all.len();
            all.extend(
                parents
                    .iter()
                    .filter(|(_, parent)| all.contains(parent))
                    .map(|(pid, _)| *pid)
                    .collect::<Vec<_>>(),
            );
            if all.len() == before {
                return Processes {
                    pids: all.into_iter().collect(),
                };
            }
        }
    }

    /// The processes that listen on `addrs` on this host; empty where none can be seen.
    pub(crate) fn listening_on(addrs: &[SocketAddr]) -> Processes {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
            .map(|path| fs::read_to_string(path).unwrap_or_default());
        let inodes: BTreeSet<u64> = tables
            .iter()
            .flat_map(|table| listening_inodes(table, addrs))
            .collect();
        let pids: Vec<u32> = pids()
            .into_iter()
            .filter(|&pid| owns_socket(pid, &inodes))
            .collect();
        Processes::of_pids(&pids)
    }

    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pids.is_empty()
    }

    /// User and system time of all threads, and resident memory; a process that ended counts
    /// nothing.
    pub(crate) fn usage(&self) -> Usage {
        let mut total = Usage::default();
        for pid in &self.pids {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if let Some(usage) = parse_stat(&stat) {
                total.user_seconds += usage.user_seconds;
                total.system_seconds += usage.system_seconds;
                total.rss_bytes += usage.rss_bytes;
            }
        }
        total
    }
}

/// CPU time and memory of the flooder itself.
pub(crate) fn own_usage() -> Usage {
    parse_stat(&fs::read_to_string("/proc/self/stat").unwrap_or_default()).unwrap_or_default()
}

/// The fields of a `stat` line behind the command, whose name may hold spaces and brackets.
fn stat_fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace().collect())
}

/// Fields 14, 15 and 24 of proc(5): utime, stime and rss. The counts cover all threads of the
/// process.
fn parse_stat(stat: &str) -> Option<Usage> {
    let fields = stat_fields(stat)?;
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = clock_ticks_per_second() as f64;
    Some(Usage {
        user_seconds: field(14)? as f64 / ticks,
        system_seconds: field(15)? as f64 / ticks,
        rss_bytes: field(24)? * page_size() as u64,
    })
}

fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat_fields(&stat)?.get(1)?.parse().ok()
    };
    pids()
        .into_iter()
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect()
}

fn owns_socket(pid: u32, inodes: &BTreeSet<u64>) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false; // Not ours to look at, or gone.
    };
    entries.flatten().any(|entry| {
        let link = fs::read_link(entry.path()).ok();
        let inode = link
            .as_deref()
            .and_then(|link| link.to_str())
            .and_then(socket_inode);
        inode.is_some_and(|inode| inodes.contains(&inode))
    })
}

/// `socket:[12345]`, as the links in `/proc/PID/fd` read.
fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// Inodes of the listening sockets in a `/proc/net/tcp*` table that take connections to one of
/// `addrs`.
fn listening_inodes(table: &str, addrs: &[SocketAddr]) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let mut inodes = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(local), Some(&LISTEN), Some(inode)) =
            (fields.get(1), fields.get(3), fields.get(9))
        else {
            continue;
        };
        let (Some((ip, port)), Ok(inode)) = (parse_hex_addr(local), inode.parse()) else {
            continue;
        };
        if addrs.iter().any(|addr| {
            addr.port() == port && (ip.is_unspecified() || ip == addr.ip().to_canonical())
        }) {
            inodes.push(inode);
        }
    }
    inodes
}

/// `0100007F:075B`: the address in groups of four bytes, each in host order, and the port.
fn parse_hex_addr(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for group in ip.as_bytes().chunks(8) {
        let group = u32::from_str_radix(std::str::from_utf8(group).ok()?, 16).ok()?;
        bytes.extend_from_slice(&group.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
        _ => return None,
    };
    Some((ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::process;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:075B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:075B 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
   2: 00000000:075C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0
";

    #[test]
    fn only_listeners_that_take_the_address_are_found() {
        let find = |addr: &str| listening_inodes(TABLE, &[addr.parse().unwrap()]);
        assert_eq!(find("127.0.0.1:1883"), [4711]);
        assert_eq!(find("127.0.0.2:1883"), [0_u64; 0]);
        assert_eq!(find("10.1.2.3:1884"), [4713]);
    }

    #[test]
    fn hexadecimal_addresses_are_read() {
        let check = |text, expected: &str| {
            let (ip, port) = parse_hex_addr(text).unwrap();
            assert_eq!(SocketAddr::new(ip, port), expected.parse().unwrap());
        };
        check("0100007F:075B", "127.0.0.1:1883");
        check("00000000000000000000000001000000:075B", "[::1]:1883");
        check("0000000000000000FFFF00000100007F:075B", "127.0.0.1:1883");
    }

    #[test]
    fn a_command_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 99 1000000 512 18446744073709551615";
        let usage = parse_stat(stat).unwrap();
        let ticks = clock_ticks_per_second() as f64;
        assert_eq!(usage.cpu_seconds(), 300.0 / ticks);
        assert_eq!(usage.rss_bytes, 512 * page_size() as u64);
    }

    #[test]
    fn this_process_is_found_by_its_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = Processes::listening_on(&[listener.local_addr().unwrap()]);
        assert!(found.pids().contains(&process::id()));
        assert!(found.usage().rss_bytes > 0);
    }
}
