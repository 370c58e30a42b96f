//! What the gateway runs with: built-in defaults, then the file, then the environment, then flags.
//!
//! [`keys::KEYS`] is the one list of everything that can be set. Whatever its source, a value goes through its
//! key, so a flag, an environment variable and a line of the file are checked alike and refused in the same words.

mod environment;
mod file;
mod keys;
mod listener_url;
mod nearest;
mod node_settings;
mod place;
mod rules;
mod value;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::node::{IoDriver, ListenerSettings, Protocol};
use tidegate_codec::TopicFilter;

pub use keys::{Key, KEYS};
pub use listener_url::scheme;
pub use node_settings::node_settings;
pub use place::{Place, Problem};
pub use value::{Given, Raw};

use crate::host::Host;

/// Everything that can be set; one field a key of [`KEYS`].
#[derive(Clone, Debug)]
pub struct Config {
    pub shards: u64,
    pub cpus: Vec<usize>,
    /// None: the ring where the kernel allows it, else epoll.
    pub io: Option<IoDriver>,
    pub listeners: Vec<ListenerSettings>,
    pub data_dir: PathBuf,
    pub drain_timeout: Duration,
    pub admin: SocketAddr,
    pub allow_anonymous: bool,
    pub log_format: LogFormat,
    pub log_level: LogLevel,
    pub json: bool,
    pub limits: Limits,
    pub denied_topics: Vec<TopicFilter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The numbers of `[limits]`, as wide as the widest; [`KEYS`] holds each to the range of where it goes.
#[derive(Clone, Debug)]
pub struct Limits {
    pub packet_bytes_max: u64,
    pub connect_bytes_max: u64,
    pub connect_timeout: Duration,
    pub client_id_bytes_max: u64,
    pub topic_bytes_max: u64,
    pub topic_levels_max: u64,
    pub receive_maximum: u64,
    pub topic_alias_maximum: u64,
    pub keep_alive_max: Duration,
    pub session_expiry_max: Duration,
    pub subscriptions_max: u64,
    pub replicated_filters_max: u64,
    pub inflight_max: u64,
    pub queue_messages_max: u64,
    pub queue_bytes_max: u64,
    pub retained_messages_max: u64,
    pub retained_bytes_max: u64,
    pub publish_credits: u64,
    pub memory_bytes_max: u64,
    pub connections_max: u64,
    pub write_queue_bytes_max: u64,
    pub write_queue_high_water: u64,
    pub send_timeout: Duration,
    pub pre_auth_bytes_max: u64,
    pub pre_auth_budget_bytes: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Config {
    /// What runs when nothing is said; some of it depends on the host.
    pub fn defaults(host: &Host) -> Config {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Config {
            shards: host.cpus.len() as u64,
            cpus: host.cpus.clone(),
            io: None,
            listeners: vec![ListenerSettings {
                protocol: Protocol::Mqtt,
                addr: loopback(1883),
            }],
            data_dir: PathBuf::from("./tidegate-data"),
            drain_timeout: Duration::from_secs(10),
            admin: loopback(18083),
            allow_anonymous: false,
            log_format: LogFormat::Text,
            log_level: LogLevel::Info,
            json: false,
            limits: Limits::defaults(host),
            denied_topics: Vec::new(),
        }
    }

    /// Whether every listener can be reached from this machine only.
    pub fn only_loopback(&self) -> bool {
        self.listeners
            .iter()
            .all(|listener| is_loopback(&listener.addr))
    }
}

/// `::ffff:127.0.0.1` is loopback too, which `IpAddr::is_loopback` alone denies.
fn is_loopback(addr: &SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

impl Limits {
    fn defaults(host: &Host) -> Limits {
        Limits {
            packet_bytes_max: MIB,
            connect_bytes_max: 256 * KIB,
            connect_timeout: Duration::from_secs(10),
            client_id_bytes_max: 256,
            topic_bytes_max: 1_024,
            topic_levels_max: 32,
            receive_maximum: 32,
            topic_alias_maximum: 16,
            keep_alive_max: Duration::from_secs(3_600),
            session_expiry_max: Duration::from_secs(30 * 24 * 3_600),
            subscriptions_max: 1_000,
            replicated_filters_max: 1_000,
            inflight_max: 256,
            queue_messages_max: 10_000,
            queue_bytes_max: 16 * MIB,
            retained_messages_max: 1_000_000,
            retained_bytes_max: GIB,
            publish_credits: 1_024,
            // 80 %: what is left is for the kernel's socket buffers and for the process's own tables.
            memory_bytes_max: (host.memory_bytes / 5 * 4 / MIB).max(16) * MIB,
            connections_max: host.connections_max(),
            write_queue_bytes_max: 4 * MIB,
            write_queue_high_water: MIB,
            send_timeout: Duration::from_secs(30),
            pre_auth_bytes_max: 256 * KIB,
            pre_auth_budget_bytes: 64 * MIB,
        }
    }
}

/// Where values come from, weakest first.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    pub file: Option<&'a Path>,
    /// The whole environment; other programs' variables are passed over.
    pub environment: Vec<(OsString, OsString)>,
    /// By key name.
    pub flags: Vec<(&'static str, Given)>,
}

/// A configuration that can be run, and for each key of [`KEYS`] who said so.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub places: Vec<Place>,
}

impl Loaded {
    /// Where `key` was set; [`Place::Default`] where it was not.
    fn place(&self, key: &str) -> &Place {
        let index = keys::index(key).expect("only names of KEYS are asked for");
        &self.places[index]
    }

    fn is_set(&self, key: &str) -> bool {
        *self.place(key) != Place::Default
    }
}

/// Reads all sources and checks the whole. Every problem found is returned, not only the first.
pub fn load(sources: &Sources<'_>, host: &Host) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let given = match sources.file {
        Some(path) => file::read(path, &mut problems),
        None => Vec::new(),
    };
    load_over(given, problems, sources, host)
}

/// As [`load`], with the file's text in hand; `name` is what problems call it.
pub fn load_text(
    name: &str,
    text: &str,
    sources: &Sources<'_>,
    host: &Host,
) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let given = file::parse(name.into(), text, &mut problems);
    load_over(given, problems, sources, host)
}

/// Puts environment and flags over what the file gave.
fn load_over(
    mut given: Vec<(usize, Given)>,
    mut problems: Vec<Problem>,
    sources: &Sources<'_>,
    host: &Host,
) -> Result<Loaded, Vec<Problem>> {
    given.extend(environment::read(&sources.environment, &mut problems));
    given.extend(sources.flags.iter().map(|(name, given)| {
        (
            keys::index(name).expect("flags are wired to names of KEYS"),
            given.clone(),
        )
    }));
    settle(given, problems, host)
}

/// Sets what was given, weakest source first, and checks the whole.
fn settle(
    given: Vec<(usize, Given)>,
    mut problems: Vec<Problem>,
    host: &Host,
) -> Result<Loaded, Vec<Problem>> {
    let mut loaded = Loaded {
        config: Config::defaults(host),
        places: vec![Place::Default; KEYS.len()],
    };
    for (index, given) in strongest(given) {
        match KEYS[index].set(&mut loaded.config, &given) {
            Ok(()) => loaded.places[index] = given.place,
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        rules::derive(&mut loaded);
        rules::check(&loaded, host, &mut problems);
    }
    if problems.is_empty() {
        return Ok(loaded);
    }
    problems.sort_by_key(|problem| problem.place.position());
    Err(problems)
}

/// Keeps the last word on each key: a flag heals a wrong line of the file, as an operator expects.
fn strongest(given: Vec<(usize, Given)>) -> Vec<(usize, Given)> {
    let mut last: Vec<Option<Given>> = vec![None; KEYS.len()];
    for (index, given) in given {
        last[index] = Some(given);
    }
    last.into_iter()
        .enumerate()
        .filter_map(|(index, given)| Some((index, given?)))
        .collect()
}

#[cfg(test)]
mod tests;
