//! The list of everything that can be set: name, flag, meaning, range, and the field it ends in.
//!
//! One entry makes a key of the file, an environment variable, a line of `tidegate check`, and its error texts.

use std::time::Duration;

use super::place::Problem;
use super::value::{show_bytes, show_time, Given};
use super::{Config, GIB, KIB, MIB};

mod special;

/// Something that can be set.
pub struct Key {
    /// `section.key`.
    pub name: &'static str,
    /// The flag of `tidegate run` that sets it too.
    pub flag: Option<&'static str>,
    /// What it means, in a line.
    pub about: &'static str,
    kind: Kind,
}

/// How a value is read, and what is right.
enum Kind {
    Count {
        field: fn(&mut Config) -> &mut u64,
        min: u64,
        max: u64,
    },
    Bytes {
        field: fn(&mut Config) -> &mut u64,
        min: u64,
        max: u64,
    },
    /// `step` is how finely the field counts.
    Time {
        field: fn(&mut Config) -> &mut Duration,
        min: Duration,
        max: Duration,
        step: Duration,
    },
    Switch {
        field: fn(&mut Config) -> &mut bool,
    },
    /// Anything else; `set` returns a whole sentence.
    Special {
        set: fn(&mut Config, &Given) -> Result<(), Problem>,
        show: fn(&Config) -> String,
    },
}

impl Key {
    /// Checks `given` and puts it in its field.
    pub fn set(&self, config: &mut Config, given: &Given) -> Result<(), Problem> {
        let refused = |why: String| {
            let text = format!("{} {why}; {} is right", given.raw.shown(), self.right());
            Err(Problem::new(given.place.clone(), self.name, text))
        };
        match self.kind {
            Kind::Count { field, min, max } | Kind::Bytes { field, min, max } => {
                let (number, wanted) = match self.kind {
                    Kind::Bytes { .. } => (given.raw.bytes(), "a size"),
                    _ => (given.raw.integer(), "a whole number"),
                };
                let Some(number) = number else {
                    return refused(given.raw.is_not(wanted));
                };
                match u64::try_from(number) {
                    Ok(number) if (min..=max).contains(&number) => *field(config) = number,
                    _ => return refused("is out of range".to_owned()),
                }
            }
            Kind::Time {
                field,
                min,
                max,
                step,
            } => {
                let Some(time) = given.raw.time() else {
                    return refused(given.raw.is_not("a time"));
                };
                if !(min..=max).contains(&time) {
                    return refused("is out of range".to_owned());
                }
                if time.as_nanos() % step.as_nanos() != 0 {
                    return refused(format!("is finer than {}", show_time(step)));
                }
                *field(config) = time;
            }
            Kind::Switch { field } => {
                let Some(value) = given.raw.boolean() else {
                    return refused(given.raw.is_not("true or false"));
                };
                *field(config) = value;
            }
            Kind::Special { set, .. } => {
                set(config, given).map_err(|problem| Problem {
                    key: self.name.into(),
                    ..problem
                })?;
            }
        }
        Ok(())
    }

    /// The value in force, as it could be written.
    pub fn show(&self, config: &Config) -> String {
        // Fields are named by a function that gives them for writing; one list of them is enough.
        let mut config = config.clone();
        match self.kind {
            Kind::Count { field, .. } => field(&mut config).to_string(),
            Kind::Bytes { field, .. } => format!("{:?}", show_bytes(*field(&mut config))),
            Kind::Time { field, .. } => format!("{:?}", show_time(*field(&mut config))),
            Kind::Switch { field } => field(&mut config).to_string(),
            Kind::Special { show, .. } => show(&config),
        }
    }

    /// The value in force, where it is a size.
    pub fn bytes(&self, config: &Config) -> Option<u64> {
        match self.kind {
            Kind::Bytes { field, .. } => Some(*field(&mut config.clone())),
            _ => None,
        }
    }

    /// What a right value looks like.
    fn right(&self) -> String {
        match self.kind {
            Kind::Count { min, max, .. } => format!("a whole number from {min} to {max}"),
            Kind::Bytes { min, max, .. } => {
                format!(
                    "a size from {} to {}, such as \"1 MiB\",",
                    show_bytes(min),
                    show_bytes(max)
                )
            }
            Kind::Time { min, max, .. } => {
                format!(
                    "a time from {} to {}, such as \"90s\",",
                    show_time(min),
                    show_time(max)
                )
            }
            Kind::Switch { .. } => "true or false".to_owned(),
            Kind::Special { .. } => unreachable!("special keys write whole sentences"),
        }
    }
}

pub(crate) fn index(name: &str) -> Option<usize> {
    KEYS.iter().position(|key| key.name == name)
}

pub(crate) fn section(name: &str) -> &str {
    name.split_once('.').map_or("", |(section, _)| section)
}

pub(crate) fn last_word(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, word)| word)
}

/// Each section once, in the order of the list.
pub(crate) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> = KEYS.iter().map(|key| section(key.name)).collect();
    sections.dedup();
    sections
}

pub(crate) fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| section(key.name) == name)
}

const fn key(name: &'static str, about: &'static str, kind: Kind) -> Key {
    Key {
        name,
        flag: None,
        about,
        kind,
    }
}

const fn flag(name: &'static str, flag: &'static str, about: &'static str, kind: Kind) -> Key {
    Key {
        name,
        flag: Some(flag),
        about,
        kind,
    }
}

const fn count(field: fn(&mut Config) -> &mut u64, min: u64, max: u64) -> Kind {
    Kind::Count { field, min, max }
}

const fn bytes(field: fn(&mut Config) -> &mut u64, min: u64, max: u64) -> Kind {
    Kind::Bytes { field, min, max }
}

/// Seconds; the field counts whole ones.
const fn seconds(field: fn(&mut Config) -> &mut Duration, min: u64, max: u64) -> Kind {
    let step = Duration::from_secs(1);
    Kind::Time {
        field,
        min: Duration::from_secs(min),
        max: Duration::from_secs(max),
        step,
    }
}

/// Milliseconds.
const fn millis(field: fn(&mut Config) -> &mut Duration, min: u64, max: u64) -> Kind {
    let step = Duration::from_millis(1);
    Kind::Time {
        field,
        min: Duration::from_millis(min),
        max: Duration::from_millis(max),
        step,
    }
}

const DAY: u64 = 24 * 3_600;
const HOUR_MS: u64 = 3_600_000;
const U16_MAX: u64 = u16::MAX as u64;
const U32_MAX: u64 = u32::MAX as u64;
const TIB: u64 = 1 << 40;
/// A remaining length of four bytes, with its fixed header [MQTT-1.5.5].
const MQTT_PACKET_BYTES_MAX: u64 = 268_435_455 + 5;

pub const KEYS: &[Key] = &[
    flag(
        "node.shards",
        "--shards",
        "shards; each is one pinned thread that owns its clients",
        count(|c| &mut c.shards, 1, 1_024),
    ),
    flag(
        "node.cpus",
        "--cpus",
        "CPUs to pin shards to, in turn",
        special::CPUS,
    ),
    flag(
        "node.io",
        "--io",
        "what moves the bytes: ring (io_uring), epoll or auto",
        special::IO,
    ),
    flag(
        "node.listen",
        "--listen",
        "where clients connect",
        special::LISTEN,
    ),
    flag(
        "node.data_dir",
        "--data-dir",
        "where the store will live; nothing is stored there yet",
        special::DATA_DIR,
    ),
    key(
        "node.drain_timeout",
        "how long a drain may take before the process ends all the same",
        millis(|c| &mut c.drain_timeout, 100, HOUR_MS),
    ),
    flag(
        "admin.listen",
        "--admin",
        "where metrics and health are served over HTTP",
        special::ADMIN,
    ),
    flag(
        "auth.allow_anonymous",
        "--allow-anonymous",
        "let clients in without credentials; unset: only while all listeners are on loopback",
        Kind::Switch {
            field: |c| &mut c.allow_anonymous,
        },
    ),
    flag(
        "log.format",
        "--log-format",
        "text or json",
        special::LOG_FORMAT,
    ),
    flag(
        "log.level",
        "--log-level",
        "error, warn, info, debug or trace",
        special::LOG_LEVEL,
    ),
    flag(
        "output.json",
        "--json",
        "print JSON on standard output, for scripts",
        Kind::Switch {
            field: |c| &mut c.json,
        },
    ),
    key(
        "topics.deny",
        "topic filters nobody may publish or subscribe to",
        special::DENIED_TOPICS,
    ),
    key(
        "limits.packet_bytes_max",
        "largest MQTT packet",
        bytes(
            |c| &mut c.limits.packet_bytes_max,
            KIB,
            MQTT_PACKET_BYTES_MAX,
        ),
    ),
    key(
        "limits.connect_bytes_max",
        "largest CONNECT packet",
        bytes(
            |c| &mut c.limits.connect_bytes_max,
            KIB,
            MQTT_PACKET_BYTES_MAX,
        ),
    ),
    key(
        "limits.connect_timeout",
        "how long a connection may take to send its CONNECT",
        millis(|c| &mut c.limits.connect_timeout, 100, HOUR_MS),
    ),
    key(
        "limits.client_id_bytes_max",
        "longest client id",
        // Servers must take ids of 23 bytes [MQTT-3.1.3-5].
        count(|c| &mut c.limits.client_id_bytes_max, 23, U16_MAX),
    ),
    key(
        "limits.topic_bytes_max",
        "longest topic name or filter",
        count(|c| &mut c.limits.topic_bytes_max, 16, U16_MAX),
    ),
    key(
        "limits.topic_levels_max",
        "levels of a topic name or filter",
        count(|c| &mut c.limits.topic_levels_max, 1, U16_MAX),
    ),
    key(
        "limits.receive_maximum",
        "unacknowledged QoS 1 and 2 messages from one client",
        count(|c| &mut c.limits.receive_maximum, 1, U16_MAX),
    ),
    key(
        "limits.topic_alias_maximum",
        "topic aliases of one client; 0: none",
        count(|c| &mut c.limits.topic_alias_maximum, 0, U16_MAX),
    ),
    key(
        "limits.keep_alive_max",
        "cap on the keep-alive of MQTT 5 clients",
        seconds(|c| &mut c.limits.keep_alive_max, 1, U16_MAX),
    ),
    key(
        "limits.session_expiry_max",
        "how long a session may outlive its connection",
        seconds(|c| &mut c.limits.session_expiry_max, 0, 10 * 365 * DAY),
    ),
    key(
        "limits.subscriptions_max",
        "subscriptions of one client",
        count(|c| &mut c.limits.subscriptions_max, 1, U32_MAX),
    ),
    key(
        "limits.replicated_filters_max",
        "filters of one client with a wildcard in their first levels; every shard holds them",
        count(|c| &mut c.limits.replicated_filters_max, 0, U32_MAX),
    ),
    key(
        "limits.inflight_max",
        "unacknowledged QoS 1 and 2 deliveries to one client",
        count(|c| &mut c.limits.inflight_max, 1, U16_MAX),
    ),
    key(
        "limits.queue_messages_max",
        "messages waiting for one session; the oldest is dropped above it",
        count(|c| &mut c.limits.queue_messages_max, 1, U32_MAX),
    ),
    key(
        "limits.queue_bytes_max",
        "the same in bytes",
        bytes(|c| &mut c.limits.queue_bytes_max, KIB, TIB),
    ),
    key(
        "limits.retained_messages_max",
        "retained messages of one shard",
        count(|c| &mut c.limits.retained_messages_max, 0, U32_MAX),
    ),
    key(
        "limits.retained_bytes_max",
        "the same in bytes",
        bytes(|c| &mut c.limits.retained_bytes_max, 0, TIB),
    ),
    key(
        "limits.publish_credits",
        "QoS 1 and 2 messages on their way from one shard through another",
        count(|c| &mut c.limits.publish_credits, 1, 1 << 20),
    ),
    key(
        "limits.memory_bytes_max",
        "queued payload of the whole process; divided over the shards",
        bytes(|c| &mut c.limits.memory_bytes_max, 16 * MIB, 1_024 * TIB),
    ),
    key(
        "limits.connections_max",
        "connections of one shard",
        count(|c| &mut c.limits.connections_max, 1, 16 << 20),
    ),
    key(
        "limits.write_queue_bytes_max",
        "bytes waiting to be sent to one client; above it the client is disconnected",
        bytes(|c| &mut c.limits.write_queue_bytes_max, 4 * KIB, GIB),
    ),
    key(
        "limits.write_queue_high_water",
        "above it QoS 0 is dropped for the client and QoS 1 and 2 wait in its session",
        bytes(|c| &mut c.limits.write_queue_high_water, KIB, GIB),
    ),
    key(
        "limits.send_timeout",
        "a client that takes none of its queued bytes for this long is disconnected",
        millis(|c| &mut c.limits.send_timeout, 1_000, HOUR_MS),
    ),
    key(
        "limits.pre_auth_bytes_max",
        "bytes held for one connection before its CONNECT is accepted",
        bytes(|c| &mut c.limits.pre_auth_bytes_max, KIB, GIB),
    ),
    key(
        "limits.pre_auth_budget_bytes",
        "the same for all connections of one shard together",
        bytes(|c| &mut c.limits.pre_auth_budget_bytes, KIB, TIB),
    ),
];
