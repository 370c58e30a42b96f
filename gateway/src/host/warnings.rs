//! What this host sets too low, and the command that raises it.

use std::fs;

use super::ring::LOCKED_BYTES_MIN;
use super::Host;

/// Connections a host for devices should be able to hold; also what `fs.nr_open` is by default.
const FILES_WANTED: u64 = 1 << 20;
/// The kernel's own default: fewer drops connections of a reconnect storm before they are accepted.
const BACKLOG_WANTED: u64 = 4_096;
/// The kernel's default range has 28,232 ports; whoever narrowed it may run out towards one backend.
const PORTS_WANTED: u64 = 28_232;

/// What the checks look at, apart from the process's own limits. None: not there, so not in the way.
#[derive(Debug, Default)]
pub struct Warnings {
    nr_open: Option<u64>,
    somaxconn: Option<u64>,
    port_range: Option<(u64, u64)>,
    conntrack_max: Option<u64>,
}

impl Warnings {
    pub fn read() -> Warnings {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
        Warnings {
            nr_open: number("/proc/sys/fs/nr_open"),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            port_range: fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
                .ok()
                .and_then(|text| range_of(&text)),
            // The file exists only while the module is loaded.
            conntrack_max: number("/proc/sys/net/netfilter/nf_conntrack_max"),
        }
    }

    /// One line each: what, how much, what for, and the exact command.
    pub fn lines(&self, host: &Host) -> Vec<String> {
        let mut lines = Vec::new();
        // Before the open files, which cannot be raised above it.
        if let Some(nr_open) = self.nr_open.filter(|nr_open| *nr_open < FILES_WANTED) {
            lines.push(format!(
                "fs.nr_open is {nr_open}, no process may open more files; \
                 run: sudo sysctl -w fs.nr_open={FILES_WANTED}"
            ));
        }
        if host.open_files < FILES_WANTED {
            lines.push(format!(
                "open files: {} allowed, so fewer connections; \
                 run before starting: sudo prlimit --pid $$ --nofile={FILES_WANTED} \
                 (systemd: LimitNOFILE={FILES_WANTED})",
                host.open_files
            ));
        }
        if host.locked_bytes < LOCKED_BYTES_MIN {
            lines.push(format!(
                "locked memory: {} bytes allowed, io_uring needs {LOCKED_BYTES_MIN}; \
                 run before starting: sudo prlimit --pid $$ --memlock=unlimited \
                 (systemd: LimitMEMLOCK=infinity)",
                host.locked_bytes
            ));
        }
        if let Some(backlog) = self.somaxconn.filter(|backlog| *backlog < BACKLOG_WANTED) {
            lines.push(format!(
                "net.core.somaxconn is {backlog}, a storm of connections will be dropped; \
                 run: sudo sysctl -w net.core.somaxconn={BACKLOG_WANTED}"
            ));
        }
        if let Some((first, last)) = self.port_range {
            let ports = (last + 1).saturating_sub(first);
            if ports < PORTS_WANTED {
                lines.push(format!(
                    "net.ipv4.ip_local_port_range has {ports} ports for outgoing connections; \
                     run: sudo sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\""
                ));
            }
        }
        // Each connection takes an entry; without one its packets are dropped.
        let tracked = self
            .conntrack_max
            .filter(|max| *max < host.open_files.min(FILES_WANTED));
        if let Some(max) = tracked {
            lines.push(format!(
                "net.netfilter.nf_conntrack_max is {max}, connections beyond it lose packets; \
                 run: sudo sysctl -w net.netfilter.nf_conntrack_max={}",
                2 * FILES_WANTED
            ));
        }
        lines
    }
}

/// `32768\t60999`
fn range_of(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(open_files: u64, locked_bytes: u64) -> Host {
        Host {
            cpus: vec![0, 1],
            memory_bytes: 8 << 30,
            open_files,
            locked_bytes,
        }
    }

    #[test]
    fn a_well_set_host_is_quiet() {
        let warnings = Warnings {
            nr_open: Some(1 << 20),
            somaxconn: Some(4_096),
            port_range: range_of("32768\t60999\n"),
            conntrack_max: None,
        };
        assert_eq!(
            warnings.lines(&host(1 << 20, 8 << 20)),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_low_limit_names_the_command_that_raises_it() {
        let warnings = Warnings {
            nr_open: Some(65_536),
            somaxconn: Some(128),
            port_range: Some((60_000, 60_999)),
            conntrack_max: Some(1_000),
        };
        let lines = warnings.lines(&host(20_000, 65_536));
        let commands = [
            "sudo sysctl -w fs.nr_open=1048576",
            "sudo prlimit --pid $$ --nofile=1048576",
            "sudo prlimit --pid $$ --memlock=unlimited",
            "sudo sysctl -w net.core.somaxconn=4096",
            "sudo sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"",
            "sudo sysctl -w net.netfilter.nf_conntrack_max=2097152",
        ];
        assert_eq!(lines.len(), commands.len());
        for (line, command) in lines.iter().zip(commands) {
            assert!(line.contains(command), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }
}
