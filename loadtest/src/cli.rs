//! The command line: one subcommand a scenario, made from the list in [`crate::scenario`].

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Command};
use tidegate_codec::mqtt::ProtocolVersion;
use tidegate_codec::Qos;

use crate::payload::HEADER_BYTES;
use crate::scenario::SCENARIOS;
use crate::target::Target;

const ABOUT: &str =
    "Floods an MQTT broker with connections and messages, and checks every delivery it expects.";

const LONG_ABOUT: &str = "\
Floods an MQTT broker with connections and messages, and checks every delivery it expects.

Every payload bears its publisher, a sequence number and the time of sending. At the end each subscriber's ledger
is compared with what was published: what is missing was lost, what came twice is a duplicate, what came
after a later message is out of order.

Exit code: 0 when everything expected came, once and in order; 1 when something was lost, out of order, or
duplicated at QoS 0 or 2, or a connection failed; 2 on bad usage.";

const EXAMPLES: &str = "\
Examples:
  tidegate-flood fanout --clients 1000                 one publisher, 1,000 subscribers, 4 messages in flight
  tidegate-flood p2p --clients 1000 --qos 1 --cpu 1    1,000 pairs on CPU 1; keep the broker on CPU 0
  tidegate-flood p2p --rate 20000 --duration 30        latency at a steady 20,000 messages a second
  tidegate-flood connect --clients 15000 --subscribe-own --keep-alive 10 --duration 30
  tidegate-flood fanin --report fanin.html             a page of charts
  tidegate-flood fanout --target mqtt://127.0.0.1:1884 --json | jq .checks

`tidegate-flood SCENARIO --help` explains every flag.";

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("TIDEGATE_COMMIT"),
    ", ",
    env!("TIDEGATE_TARGET"),
    ")"
);

/// What all scenarios have in common.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadArgs {
    /// Broker to load, mqtt://HOST:PORT; repeatable: clients take the targets in turn
    #[arg(
        long = "target",
        value_name = "URL",
        default_value = "mqtt://127.0.0.1:1883",
        help_heading = "Target"
    )]
    pub(crate) targets: Vec<Target>,

    /// Process to measure; found by itself where the target listens on this host; repeatable
    #[arg(long = "pid", value_name = "PID", help_heading = "Target")]
    pub(crate) pids: Vec<u32>,

    /// MQTT version: 3.1.1 or 5
    #[arg(long = "mqtt", value_name = "VERSION", default_value = "3.1.1", value_parser = parse_version, help_heading = "Target")]
    pub(crate) version: ProtocolVersion,

    /// User name of every client
    #[arg(long, value_name = "NAME", help_heading = "Target")]
    pub(crate) username: Option<String>,

    /// Password of every client
    #[arg(
        long,
        value_name = "TEXT",
        requires = "username",
        help_heading = "Target"
    )]
    pub(crate) password: Option<String>,

    /// Number of clients; what they do is the scenario's
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Clients")]
    pub(crate) clients: u32,

    /// Client ids are this and a number; give every flooder its own
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "flood-",
        help_heading = "Clients"
    )]
    pub(crate) client_id_prefix: String,

    /// Put in front of every topic and filter, so that two flooders do not meet
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        help_heading = "Clients"
    )]
    pub(crate) topic_prefix: String,

    /// Seconds of keep-alive, which is also how often each client pings; 0: none
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        help_heading = "Clients"
    )]
    pub(crate) keep_alive: u16,

    /// New connections a second; unlimited when left out
    #[arg(long, value_name = "R", value_parser = parse_rate, help_heading = "Clients")]
    pub(crate) connect_rate: Option<f64>,

    /// Connections being opened at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Clients")]
    pub(crate) opening: u32,

    /// How long a client may take from connect to ready
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration, help_heading = "Clients")]
    pub(crate) connect_timeout: Duration,

    /// Source addresses, comma separated; on loopback as many of 127.0.0.x as needed are taken
    #[arg(
        long = "source",
        value_name = "ADDR",
        value_delimiter = ',',
        help_heading = "Clients"
    )]
    pub(crate) sources: Vec<IpAddr>,

    /// QoS of publishes and subscriptions: 0, 1 or 2
    #[arg(long, value_name = "QOS", default_value = "0", value_parser = parse_qos, help_heading = "Traffic")]
    pub(crate) qos: Qos,

    /// Bytes of a payload, at least 20
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = parse_payload, help_heading = "Traffic")]
    pub(crate) payload: usize,

    /// Messages a second over all publishers; without it each publisher keeps its window full
    #[arg(long, value_name = "R", value_parser = parse_rate, help_heading = "Traffic")]
    pub(crate) rate: Option<f64>,

    /// Messages in flight a publisher: sent and not yet with every receiver (and acknowledged, at
    /// QoS 1 and 2) [default: 4; with --rate 256]
    #[arg(long, value_name = "W", value_parser = clap::value_parser!(u32).range(1..=65_535), help_heading = "Traffic")]
    pub(crate) inflight: Option<u32>,

    /// How long traffic is measured (`connect`: how long connections are held)
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration, help_heading = "Traffic")]
    pub(crate) duration: Duration,

    /// Traffic before the measurement; its deliveries are checked all the same
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration, help_heading = "Traffic")]
    pub(crate) warmup: Duration,

    /// At the end, how long to wait for stragglers after the last delivery
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration, help_heading = "Traffic")]
    pub(crate) grace: Duration,

    /// After this a missing delivery no longer blocks its publisher's window; the ledger still
    /// waits for it
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration, help_heading = "Traffic")]
    pub(crate) loss_timeout: Duration,

    /// Threads that drive connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256), help_heading = "Flooder")]
    pub(crate) threads: u32,

    /// CPUs to pin the threads to, such as 1 or 1,3 or 2-5; taken in turn
    #[arg(long = "cpu", value_name = "LIST", value_parser = parse_cpus, help_heading = "Flooder")]
    pub(crate) cpus: Option<CpuList>,

    /// Print the result as one JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,

    /// Write a self-contained page of charts
    #[arg(long, value_name = "FILE.html", help_heading = "Output")]
    pub(crate) report: Option<PathBuf>,

    /// No progress on stderr
    #[arg(long, help_heading = "Output")]
    pub(crate) quiet: bool,
}

impl LoadArgs {
    /// Messages in flight a publisher.
    pub(crate) fn inflight(&self) -> u32 {
        // A paced run wants the pace to decide, not the window: 256 at 20,000 messages a second
        // from one publisher are 13 ms, beyond what a healthy broker takes.
        let default = if self.rate.is_some() { 256 } else { 4 };
        self.inflight.unwrap_or(default)
    }
}

/// CPUs from a list such as `0,2-3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CpuList(pub(crate) Vec<usize>);

/// The whole command line; scenario flags are added by each scenario.
pub(crate) fn command() -> Command {
    let command = Command::new("tidegate-flood")
        .version(VERSION)
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand_value_name("SCENARIO")
        .subcommand_help_heading("Scenarios");
    SCENARIOS.iter().fold(command, |command, scenario| {
        let subcommand = (scenario.augment_args)(Command::new(scenario.name));
        // The texts come last: argument groups would put their own in their place.
        let subcommand = LoadArgs::augment_args(subcommand)
            .about(scenario.about)
            .long_about(scenario.about)
            .after_help(scenario.examples);
        command.subcommand(subcommand)
    })
}

fn parse_version(text: &str) -> Result<ProtocolVersion, String> {
    match text {
        "3.1.1" | "311" | "4" => Ok(ProtocolVersion::V3_1_1),
        "5" | "5.0" => Ok(ProtocolVersion::V5),
        _ => Err("3.1.1 or 5".to_owned()),
    }
}

fn parse_qos(text: &str) -> Result<Qos, String> {
    text.parse()
        .ok()
        .and_then(Qos::from_u8)
        .ok_or_else(|| "0, 1 or 2".to_owned())
}

fn parse_payload(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if (HEADER_BYTES..=16 << 20).contains(&bytes) => Ok(bytes),
        _ => Err(format!(
            "{HEADER_BYTES} (what the checks need) to 16777216 bytes"
        )),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate <= 1e8 => Ok(rate),
        _ => Err("a number a second, above 0".to_owned()),
    }
}

/// `10`, `10s`, `500ms`, `2m`, `1h`; a bare number is seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err("a time such as 10s, 500ms or 2m".to_owned()),
    };
    let seconds = number
        .parse::<f64>()
        .map_err(|_| "a time such as 10s, 500ms or 2m".to_owned())?;
    if seconds * scale > 1e7 {
        return Err("at most 115 days".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds * scale))
}

fn parse_cpus(text: &str) -> Result<CpuList, String> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) if first <= last && last < 4_096 => cpus.extend(first..=last),
            _ => return Err("CPU numbers such as 1 or 0,2-3".to_owned()),
        }
    }
    Ok(CpuList(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn times_have_units_and_default_to_seconds() {
        let check = |text, milliseconds| {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        };
        check("10", 10_000);
        check("1.5s", 1_500);
        check("250ms", 250);
        check("2m", 120_000);
        assert!(parse_duration("soon").is_err());
        assert!(parse_duration("5d").is_err());
    }

    #[test]
    fn cpu_lists_know_ranges() {
        assert_eq!(parse_cpus("1"), Ok(CpuList(vec![1])));
        assert_eq!(parse_cpus("0,2-4"), Ok(CpuList(vec![0, 2, 3, 4])));
        assert!(parse_cpus("3-1").is_err() && parse_cpus("one").is_err());
    }

    #[test]
    fn values_out_of_range_are_usage_errors() {
        for args in [
            ["p2p", "--qos", "3"],
            ["p2p", "--payload", "19"],
            ["p2p", "--rate", "0"],
            ["p2p", "--inflight", "0"],
            ["p2p", "--clients", "0"],
            ["p2p", "--target", "wss://x"],
        ] {
            let error = command()
                .try_get_matches_from(["tidegate-flood"].iter().chain(&args))
                .unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
    }
}
