//! `tidegate run`: from flags to a serving node, and to its end.

use std::collections::hash_map::RandomState;
use std::fmt::Display;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;

use serde_json::json;
use tidegate::node::{BoundListener, IoDriver, Node, NodeError};

use crate::admin::Admin;
use crate::cli::RunFlags;
use crate::config::{self, Config, Sources};
use crate::host::{cpu_list, ring, Host, Warnings};
use crate::{logging, notify, say, signals, Failure};

pub(crate) fn run(flags: &RunFlags) -> Result<(), Failure> {
    let host = Host::prepare();
    let config = load(flags, &host)?;
    logging::start(config.log_format, config.log_level).map_err(failed("the log"))?;
    let signals = signals::hold().map_err(failed("signals"))?;
    warn_of(&config, &host);
    let io = choose_io(&config, &host)?;

    let admin = bind_admin(config.admin)?;
    let admin_addr = admin.addr().map_err(failed("the admin address"))?;
    let state = admin.state();
    admin.serve().map_err(failed("the admin thread"))?;

    let settings = config::node_settings(&config, io, random_seed());
    let shards = settings.shards;
    let node = Node::start(settings).map_err(|error| node_failure(&error))?;
    state.serving(node.control(), shards);
    signals
        .obey(node.control(), state, config.drain_timeout)
        .map_err(failed("the signal thread"))?;
    announce(&config, node.listeners(), admin_addr, shards);
    notify(&[sd_notify::NotifyState::Ready]);

    node.join().map_err(|error| node_failure(&error))?;
    tracing::info!("drained");
    Ok(())
}

fn load(flags: &RunFlags, host: &Host) -> Result<Config, Failure> {
    let sources = Sources {
        file: flags.config.as_deref(),
        environment: std::env::vars_os().collect(),
        flags: flags.given(),
    };
    config::load(&sources, host)
        .map(|loaded| loaded.config)
        .map_err(Failure::Usage)
}

fn warn_of(config: &Config, host: &Host) {
    for line in Warnings::read().lines(host) {
        tracing::warn!("{line}");
    }
    if !config.allow_anonymous {
        tracing::warn!(
            "auth.allow_anonymous is false and no other authentication is built yet: \
             every client will be refused"
        );
    }
}

fn choose_io(config: &Config, host: &Host) -> Result<IoDriver, Failure> {
    let choice = ring::choose(config.io, host).map_err(Failure::Run)?;
    match choice.why {
        Some(why) => tracing::warn!("{why}"),
        None => tracing::info!(io = ?choice.io, "socket driver"),
    }
    Ok(choice.io)
}

fn bind_admin(addr: SocketAddr) -> Result<Admin, Failure> {
    Admin::bind(addr).map_err(|error| {
        Failure::Run(format!(
            "cannot listen on the admin address {addr}: {error}; --admin (admin.listen) chooses another"
        ))
    })
}

/// Which client lives on which shard is nobody's business outside, so that nobody can aim at one shard.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Says where everything is, and last that it serves.
fn announce(config: &Config, listeners: &[BoundListener], admin: SocketAddr, shards: u16) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        commit = env!("TIDEGATE_COMMIT"),
        shards,
        cpus = cpu_list::show(&config.cpus),
        "serving"
    );
    if config.json {
        return say(&ready_line(listeners, admin, shards));
    }
    for listener in listeners {
        say(&format!(
            "listening on {}://{}",
            config::scheme(listener.protocol),
            listener.addr
        ));
    }
    say(&format!("ready: admin http://{admin}, shards {shards}"));
}

/// One object with the names in the order of the contract, which a map would sort.
fn ready_line(listeners: &[BoundListener], admin: SocketAddr, shards: u16) -> String {
    let listeners = listeners.iter().map(|listener| {
        let protocol = config::scheme(listener.protocol);
        let addr = listener.addr;
        format!(
            r#"{{"protocol":{},"addr":{}}}"#,
            json!(protocol),
            json!(addr.to_string())
        )
    });
    let listeners = listeners.collect::<Vec<_>>().join(",");
    let admin = json!(admin.to_string());
    format!(r#"{{"event":"ready","listeners":[{listeners}],"admin":{admin},"shards":{shards}}}"#)
}

fn failed<E: Display>(what: &'static str) -> impl FnOnce(E) -> Failure {
    move |error| Failure::Run(format!("{what}: {error}"))
}

/// What went wrong, and the setting that helps.
fn node_failure(error: &NodeError) -> Failure {
    let hint = match error {
        NodeError::Listen { .. } => "; --listen (node.listen) chooses another address",
        NodeError::ShardStart { .. } => "; --io epoll needs neither io_uring nor locked memory",
        NodeError::ShardDied { .. } => "",
    };
    Failure::Run(format!("{error}{hint}"))
}

#[cfg(test)]
mod tests {
    use tidegate::node::Protocol;

    use super::*;

    #[test]
    fn the_ready_line_is_the_contracts() {
        let listener = BoundListener {
            protocol: Protocol::Mqtt,
            addr: "127.0.0.1:1883".parse().unwrap(),
        };
        assert_eq!(
            ready_line(&[listener], "127.0.0.1:18083".parse().unwrap(), 2),
            concat!(
                r#"{"event":"ready","listeners":[{"protocol":"mqtt","addr":"127.0.0.1:1883"}],"#,
                r#""admin":"127.0.0.1:18083","shards":2}"#
            )
        );
    }
}
