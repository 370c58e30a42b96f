//! A gateway in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::node::{ConnectionLimits, IoDriver, ListenerSettings, Node, NodeSettings, Protocol};
use tidegate::shard::snapshot::ShardSnapshot;
use tidegate_codec::mqtt::client::ConnectOptions;
use tidegate_codec::mqtt::connection::Limits;
use tidegate_codec::mqtt::ProtocolVersion;
use tidegate_codec::topic::TopicLimits;
use tidegate_shard_router::{InstanceId, Placement, ShardConfig};

use super::client::{options, Client, PATIENCE};

/// How a gateway is laid out on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) io: IoDriver,
    pub(crate) shards: u16,
}

/// What every story is told in: alone, with a neighbour, with many, and on the other driver.
pub(crate) const LAYOUTS: [Layout; 4] = [
    Layout {
        io: IoDriver::Ring,
        shards: 1,
    },
    Layout {
        io: IoDriver::Ring,
        shards: 2,
    },
    Layout {
        io: IoDriver::Ring,
        shards: 8,
    },
    Layout {
        io: IoDriver::Epoll,
        shards: 8,
    },
];

/// Tells the story to a fresh gateway in every layout; each must end cleanly afterwards.
pub(crate) fn for_every_layout(story: impl Fn(&Gateway)) {
    for_every_layout_with(|_| {}, story);
}

/// The same with other settings than [`settings`] gives.
pub(crate) fn for_every_layout_with(change: impl Fn(&mut NodeSettings), story: impl Fn(&Gateway)) {
    for layout in LAYOUTS {
        let mut settings = settings(layout);
        change(&mut settings);
        let named = NamesLayoutOnPanic(layout);
        let gateway = Gateway::start(settings);
        story(&gateway);
        gateway.end();
        drop(named);
    }
}

struct NamesLayoutOnPanic(Layout);

impl Drop for NamesLayoutOnPanic {
    // The test harness shows it beside the panic; there is no other channel.
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the story broke in {:?}", self.0);
        }
    }
}

/// The contract's default limits, one MQTT listener on a free port, everyone welcome.
pub(crate) fn settings(layout: Layout) -> NodeSettings {
    NodeSettings {
        shards: layout.shards,
        cpus: Vec::new(),
        io: layout.io,
        listeners: vec![ListenerSettings {
            protocol: Protocol::Mqtt,
            addr: "127.0.0.1:0".parse().unwrap(),
        }],
        mqtt: Arc::new(Limits {
            packet_bytes_max: 1 << 20,
            connect_bytes_max: 256 << 10,
            client_id_bytes_max: 256,
            topic: TopicLimits {
                bytes_max: 1_024,
                levels_max: 32,
            },
            receive_maximum: 32,
            topic_alias_maximum: 16,
            keep_alive_max: 3_600,
            session_expiry_max: 30 * 24 * 3_600,
            connect_timeout_ms: 10_000,
        }),
        shard: ShardConfig::default(),
        connection: ConnectionLimits {
            write_queue_bytes_max: 4 << 20,
            write_queue_high_water: 1 << 20,
            pre_auth_bytes_max: 256 << 10,
            pre_auth_budget_bytes: 16 << 20,
            connections_max: 10_000,
            send_timeout: Duration::from_secs(30),
        },
        allow_anonymous: true,
        drain_timeout: Duration::from_secs(5),
        placement_seed: 7,
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    node: Node,
    pub(crate) addr: SocketAddr,
    pub(crate) layout: Layout,
    placement: Placement,
}

impl Gateway {
    pub(crate) fn start(settings: NodeSettings) -> Gateway {
        let layout = Layout {
            io: settings.io,
            shards: settings.shards,
        };
        let placement = Placement::new(settings.shards, settings.placement_seed);
        let node = Node::start(settings).expect("the gateway starts");
        let addr = node.listeners()[0].addr;
        Gateway {
            node,
            addr,
            layout,
            placement,
        }
    }

    /// An MQTT 5 client with a clean start, connected.
    pub(crate) fn client(&self, client_id: &str) -> Client {
        self.connect(options(ProtocolVersion::V5, client_id))
    }

    /// The same with MQTT 3.1.1.
    pub(crate) fn client_v3(&self, client_id: &str) -> Client {
        self.connect(options(ProtocolVersion::V3_1_1, client_id))
    }

    /// A client that says what it is told to, and is accepted.
    pub(crate) fn connect(&self, options: ConnectOptions) -> Client {
        let mut client = self.open(options.version);
        client.connect(&options);
        client
    }

    /// A connection on which nothing has been said.
    pub(crate) fn open(&self, version: ProtocolVersion) -> Client {
        Client::open(self.addr, version)
    }

    /// A client id that begins with `name` and lives on `shard`.
    pub(crate) fn id_on(&self, shard: u16, name: &str) -> String {
        (0..)
            .map(|n| format!("{name}-{n}"))
            .find(|id| self.placement.home_shard(InstanceId(0), id).0 == shard)
            .unwrap()
    }

    pub(crate) fn home_of(&self, client_id: &str) -> u16 {
        self.placement.home_shard(InstanceId(0), client_id).0
    }

    /// A topic that begins with `prefix` and is owned by `shard`.
    pub(crate) fn topic_on(&self, shard: u16, prefix: &str) -> String {
        (0..)
            .map(|n| format!("{prefix}{n}/t"))
            .find(|topic| self.placement.slice_owner(InstanceId(0), topic).0 == shard)
            .unwrap()
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Of all shards; every one must answer.
    pub(crate) fn snapshots(&self) -> Vec<ShardSnapshot> {
        let snapshots = self.node.control().snapshots(PATIENCE);
        assert_eq!(
            snapshots.len(),
            usize::from(self.layout.shards),
            "every shard answers"
        );
        snapshots
    }

    /// A number added up over all shards.
    pub(crate) fn total(&self, number: impl Fn(&ShardSnapshot) -> u64) -> u64 {
        self.snapshots().iter().map(number).sum()
    }

    /// Looks until `number`, added up over all shards, is `expected`.
    pub(crate) fn await_total(&self, expected: u64, number: impl Fn(&ShardSnapshot) -> u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let total = self.total(&number);
            if total == expected {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "expected {expected}, it stays at {total}"
            );
            std::thread::yield_now();
        }
    }

    /// Disconnects counted under `reason`.
    pub(crate) fn disconnects(&self, reason: &str) -> u64 {
        self.total(|shard| labelled(&shard.disconnects_total, reason))
    }

    /// CONNECTs counted under `result`.
    pub(crate) fn connects(&self, result: &str) -> u64 {
        self.total(|shard| labelled(&shard.connects_total, result))
    }

    /// Connections there are now.
    pub(crate) fn connections(&self) -> u64 {
        self.total(|shard| shard.connections.iter().map(|(_, _, count)| count).sum())
    }

    /// Drains it; every shard must end without complaint.
    pub(crate) fn end(self) {
        self.node.control().drain();
        self.node.join().expect("every shard ends well");
    }
}

fn labelled(counts: &[(&'static str, &'static str, u64)], label: &str) -> u64 {
    counts
        .iter()
        .filter(|(_, name, _)| *name == label)
        .map(|(_, _, count)| count)
        .sum()
}
