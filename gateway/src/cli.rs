//! The command line: what can be said, and the help that teaches it.
//!
//! Flags are taken as text: their values are read by the keys of the configuration, which also write the errors.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{Given, Place, Raw};

/// Version, commit and target.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("TIDEGATE_COMMIT"),
    ", target ",
    env!("TIDEGATE_TARGET"),
    ")"
);

#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version = VERSION,
    about = "A device gateway: MQTT 3.1, 3.1.1 and 5 over TCP, one pinned shard per CPU.",
    after_help = GENERAL_HELP,
    disable_help_subcommand = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway
    #[command(after_help = RUN_HELP)]
    Run(RunFlags),
    /// Check a configuration and print what would run, without running it
    #[command(after_help = CHECK_HELP)]
    Check(CheckFlags),
}

#[derive(Debug, Default, Args)]
pub(crate) struct RunFlags {
    /// TOML configuration; without it, the built-in development defaults
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Shards; each is one pinned thread [default: one per CPU this process may use]
    #[arg(long, value_name = "N")]
    shards: Option<String>,

    /// CPUs to pin shards to, such as 0-3,8 [default: all allowed]
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,

    /// Where clients connect, such as mqtt://127.0.0.1:1883 or mqtt://[::1]:0 (any free port);
    /// repeatable, replaces the configured listeners [default: mqtt://127.0.0.1:1883]
    #[arg(long, value_name = "URL", verbatim_doc_comment)]
    listen: Vec<String>,

    /// Metrics and health over HTTP [default: 127.0.0.1:18083]
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<String>,

    /// Where the embedded store will live; checked only, since nothing is stored yet: sessions
    /// and retained messages end with the process [default: ./tidegate-data]
    #[arg(long, value_name = "DIR", verbatim_doc_comment)]
    data_dir: Option<String>,

    /// Socket driver: ring (io_uring) or epoll [default: ring where the kernel allows it]
    #[arg(long, value_name = "DRIVER")]
    io: Option<String>,

    /// Let clients in without credentials [default: only while all listeners are on loopback]
    #[arg(long)]
    allow_anonymous: bool,

    /// Log lines on standard error as text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,

    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,

    /// Print one JSON object when ready, instead of lines for people
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckFlags {
    /// The TOML configuration to check
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,

    /// Print one JSON object instead of lines for people
    #[arg(long)]
    json: bool,
}

const GENERAL_HELP: &str = "\
Examples:
  tidegate run                                   MQTT on 127.0.0.1:1883, metrics on 127.0.0.1:18083
  tidegate run --config /etc/tidegate.toml       as configured
  tidegate check --config /etc/tidegate.toml     what would run

`tidegate COMMAND --help` explains a command.

Exit codes:
  0  success
  1  failure at run time: a port is taken, a shard died, a drain was overdue
  2  bad usage or bad configuration";

const RUN_HELP: &str = "\
Examples:
  tidegate run
  tidegate run --shards 4 --cpus 0-3 --listen mqtt://127.0.0.1:1883 --listen mqtt://[::1]:1883
  tidegate run --listen mqtt://0.0.0.0:1883 --allow-anonymous
  tidegate run --listen mqtt://127.0.0.1:0 --admin 127.0.0.1:0 --json    any free ports, for scripts

Configuration:
  Every flag but --config is a key of the file too, and every key SECTION.KEY is an environment
  variable TIDEGATE__SECTION__KEY: --shards 4, [node] shards = 4 and TIDEGATE__NODE__SHARDS=4 are the
  same. A flag wins over the environment, the environment over the file, the file over the default.
  `tidegate check` lists all keys with the values in force.

Listeners:
  mqtt:// is built; other schemes of the contract are refused until they are. A listener that other
  machines can reach needs --allow-anonymous, since no authentication is built yet.

Signals:
  SIGTERM, SIGINT  drain: stop accepting, say goodbye, exit 0 within node.drain_timeout (10 s);
                   a SIGINT a second or more later ends the process at once with exit code 1
  SIGHUP           ignored: nothing can be reloaded yet

HTTP on the admin address:
  GET /metrics     Prometheus text format
  GET /healthz     200 while the process is alive
  GET /readyz      200 while serving, 503 while starting or draining

Exit codes:
  0  drained on request
  1  failure at run time: a port is taken, a shard died, a drain was overdue
  2  bad usage or bad configuration";

const CHECK_HELP: &str = "\
Examples:
  tidegate check --config ops/examples/minimal.toml
  TIDEGATE__NODE__SHARDS=8 tidegate check --config /etc/tidegate.toml

The environment counts as it would for `tidegate run`. Nothing is bound and nothing is written.

Exit codes:
  0  the configuration can be run
  2  it cannot; each problem is one line with file, line, column and key";

/// What was asked for; None: nothing, and the help has been printed. Bad usage ends the process with exit code 2,
/// `--help` and `--version` with 0.
pub(crate) fn parse() -> Option<Command> {
    let line = CommandLine::parse();
    if line.command.is_none() {
        // A closed standard output is no reason to fail over a help text.
        let _ = CommandLine::command().print_help();
    }
    line.command
}

impl RunFlags {
    /// The flags that were given, as values of their keys.
    pub(crate) fn given(&self) -> Vec<(&'static str, Given)> {
        let texts = [
            ("node.shards", "--shards", &self.shards),
            ("node.cpus", "--cpus", &self.cpus),
            ("node.io", "--io", &self.io),
            ("node.data_dir", "--data-dir", &self.data_dir),
            ("admin.listen", "--admin", &self.admin),
            ("log.format", "--log-format", &self.log_format),
            ("log.level", "--log-level", &self.log_level),
        ];
        let mut given: Vec<_> = texts
            .into_iter()
            .filter_map(|(key, flag, text)| Some((key, value(flag, Raw::Text(text.clone()?)))))
            .collect();
        if !self.listen.is_empty() {
            let urls = self
                .listen
                .iter()
                .map(|url| value("--listen", Raw::Text(url.clone())));
            given.push(("node.listen", value("--listen", Raw::List(urls.collect()))));
        }
        if self.allow_anonymous {
            given.push((
                "auth.allow_anonymous",
                value("--allow-anonymous", Raw::Boolean(true)),
            ));
        }
        given.extend(json_flag(self.json));
        given
    }
}

impl CheckFlags {
    pub(crate) fn given(&self) -> Vec<(&'static str, Given)> {
        json_flag(self.json).into_iter().collect()
    }
}

fn json_flag(set: bool) -> Option<(&'static str, Given)> {
    set.then(|| ("output.json", value("--json", Raw::Boolean(true))))
}

fn value(flag: &'static str, raw: Raw) -> Given {
    Given {
        raw,
        place: Place::Flag(flag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KEYS;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    /// A flag that is missing in `given` would be taken and then ignored.
    #[test]
    fn every_flag_has_its_key_and_every_key_its_flag() {
        let line =
            "tidegate run --config x --shards 1 --cpus 0 --listen mqtt://127.0.0.1:0 --admin a \
            --data-dir d --io ring --allow-anonymous --log-format text --log-level info --json";
        let line = CommandLine::try_parse_from(line.split_whitespace()).unwrap();
        let Some(Command::Run(flags)) = line.command else {
            panic!("run was asked for")
        };
        let mut wired: Vec<_> = flags.given().iter().map(|(key, _)| *key).collect();
        let mut known: Vec<_> = KEYS
            .iter()
            .filter(|key| key.flag.is_some())
            .map(|key| key.name)
            .collect();
        wired.sort_unstable();
        known.sort_unstable();
        assert_eq!(wired, known);

        let command = CommandLine::command();
        let run = command.find_subcommand("run").unwrap();
        let flags = run.get_arguments().filter_map(clap::Arg::get_long);
        let mut flags: Vec<_> = flags
            .filter(|flag| *flag != "config")
            .map(|flag| format!("--{flag}"))
            .collect();
        let mut known: Vec<_> = KEYS
            .iter()
            .filter_map(|key| key.flag)
            .map(str::to_owned)
            .collect();
        flags.sort_unstable();
        known.sort_unstable();
        assert_eq!(flags, known);
    }
}
