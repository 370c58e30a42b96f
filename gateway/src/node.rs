//! The node: every shard of this process, from start to join.
//!
//! The command line and the admin side know shards only through this file.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded, Receiver, RecvTimeoutError, Sender};
use tidegate_codec::mqtt::connection::Limits;
use tidegate_shard_router::{mailbox, Doorbell, Placement, ShardConfig, ShardId};

use crate::auth::Policy;
use crate::shard::bell::{BellWake, EventFd};
use crate::shard::clock::Clock;
use crate::shard::launch::{launch, Plan, Report};
use crate::shard::listener;
use crate::shard::snapshot::ShardSnapshot;
use crate::shard::worker::{Command, COMMAND_SLOTS};

pub use crate::shard::driver::ring::RingFeatures;

/// Which system calls move the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoDriver {
    /// io_uring inside a glommio executor.
    Ring,
    /// epoll on bare threads: for kernels before 6.1, where io_uring is forbidden, and as reference in tests.
    Epoll,
}

/// What a listener speaks. One variant a scheme that is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Mqtt,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    pub protocol: Protocol,
    /// Port 0: any free one, the same on every shard.
    pub addr: SocketAddr,
}

/// Bounds of a connection that are the driver's, not the protocol's.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Bytes waiting to be sent; above it the peer is disconnected.
    pub write_queue_bytes_max: usize,
    /// Above this no new message is taken for the connection (QoS 0 is dropped, QoS 1 and 2 wait in the session).
    pub write_queue_high_water: usize,
    /// Bytes one connection may make us hold before its CONNECT is accepted.
    pub pre_auth_bytes_max: usize,
    /// The same for all connections of a shard together.
    pub pre_auth_budget_bytes: usize,
    /// Connections per shard; accepting pauses at the bound.
    pub connections_max: usize,
    /// A connection whose peer takes none of its queued bytes for this long is closed.
    pub send_timeout: Duration,
}

/// Everything a node is started with.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    pub shards: u16,
    /// CPUs to pin shards to, in turn. Empty: shards are not pinned.
    pub cpus: Vec<usize>,
    pub io: IoDriver,
    pub listeners: Vec<ListenerSettings>,
    pub mqtt: Arc<Limits>,
    pub shard: ShardConfig,
    pub connection: ConnectionLimits,
    /// Clients without credentials are let in.
    pub allow_anonymous: bool,
    pub drain_timeout: Duration,
    /// Of the placement hash; random in production.
    pub placement_seed: u64,
}

/// A listener that is bound on every shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundListener {
    pub protocol: Protocol,
    pub addr: SocketAddr,
}

/// Why a node could not start, or did not go on.
#[derive(Debug)]
pub enum NodeError {
    /// The address cannot be bound.
    Listen {
        addr: SocketAddr,
        error: std::io::Error,
    },
    /// A shard's executor, ring or thread could not be made.
    ShardStart { shard: u16, error: String },
    /// A shard's thread ended by itself.
    ShardDied { shard: u16, error: String },
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeError::Listen { addr, error } => write!(f, "cannot listen on {addr}: {error}"),
            NodeError::ShardStart { shard, error } => {
                write!(f, "shard {shard} cannot start: {error}")
            }
            NodeError::ShardDied { shard, error } => write!(f, "shard {shard} died: {error}"),
        }
    }
}

impl std::error::Error for NodeError {}

/// A running node. Dropping it ends every shard at once.
#[derive(Debug)]
pub struct Node {
    listeners: Vec<BoundListener>,
    control: NodeControl,
    threads: Vec<JoinHandle<()>>,
    reports: Receiver<(ShardId, Report)>,
    ring_features: Option<RingFeatures>,
}

/// A handle for other threads; cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeControl {
    lanes: Arc<[CommandLane]>,
    drain_timeout: Duration,
}

/// The way to one shard.
#[derive(Debug)]
struct CommandLane {
    /// [`COMMAND_SLOTS`] wide; the asker waits while it is full.
    commands: Sender<Command>,
    doorbell: Arc<Doorbell>,
}

impl Node {
    /// Binds, starts every shard's thread, and returns when each has reported that it serves.
    pub fn start(settings: NodeSettings) -> Result<Node, NodeError> {
        assert!(settings.shards > 0, "a node has at least one shard");
        let (listeners, sockets) = bind_all(&settings.listeners, settings.shards)?;
        let (plans, lanes) = plan(&settings, sockets)?;
        let control = NodeControl {
            lanes: lanes.into(),
            drain_timeout: settings.drain_timeout,
        };
        // A shard reports twice in its life, so this holds two reports a shard at most.
        let (reporter, reports) = unbounded();
        let threads = Vec::new();
        let mut node = Node {
            listeners,
            control,
            threads,
            reports,
            ring_features: None,
        };
        for plan in plans {
            let shard = plan.id.0;
            let thread = launch(plan, reporter.clone()).map_err(|error| NodeError::ShardStart {
                shard,
                error: error.to_string(),
            })?;
            node.threads.push(thread);
        }
        node.await_serving()?;
        Ok(node)
    }

    fn await_serving(&mut self) -> Result<(), NodeError> {
        for _ in 0..self.threads.len() {
            let (shard, report) = self
                .reports
                .recv()
                .expect("a shard reports before its thread ends");
            match report {
                Report::Serving(features) => self.ring_features = features,
                Report::Ended(ended) => {
                    let error = ended.err().unwrap_or_else(|| "it ended".to_owned());
                    return Err(NodeError::ShardStart {
                        shard: shard.0,
                        error,
                    });
                }
            }
        }
        if let Some(features) = self.ring_features {
            tracing::info!(
                defer_taskrun = features.defer_taskrun,
                multishot_receive = features.multishot_receive,
                min_wait = features.min_wait,
                "io_uring"
            );
        }
        Ok(())
    }

    pub fn listeners(&self) -> &[BoundListener] {
        &self.listeners
    }

    /// What the kernel's io_uring was found to do; `None` on epoll.
    pub fn ring_features(&self) -> Option<RingFeatures> {
        self.ring_features
    }

    pub fn control(&self) -> NodeControl {
        self.control.clone()
    }

    /// Waits until every shard has ended after [`NodeControl::drain`], or the first has died.
    pub fn join(self) -> Result<(), NodeError> {
        for _ in 0..self.threads.len() {
            let (shard, report) = self
                .reports
                .recv()
                .expect("a shard reports before its thread ends");
            if let Report::Ended(Err(error)) = report {
                return Err(NodeError::ShardDied {
                    shard: shard.0,
                    error,
                });
            }
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.control.tell_all(|| Command::Stop);
        for thread in self.threads.drain(..) {
            // How it ended was reported.
            let _ = thread.join();
        }
    }
}

impl NodeControl {
    /// Asks every shard for its numbers and waits at most `timeout`; a shard that does not answer is left out.
    pub fn snapshots(&self, timeout: Duration) -> Vec<ShardSnapshot> {
        let deadline = Instant::now() + timeout;
        let (reply, answers) = bounded(self.lanes.len());
        for lane in self.lanes.iter() {
            lane.tell(Command::Snapshot(reply.clone()), deadline);
        }
        drop(reply);
        let mut snapshots = Vec::with_capacity(self.lanes.len());
        while snapshots.len() < self.lanes.len() {
            match answers.recv_deadline(deadline) {
                Ok(snapshot) => snapshots.push(snapshot),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        snapshots.sort_by_key(|snapshot: &ShardSnapshot| snapshot.shard);
        snapshots
    }

    /// Stops accepting, tells MQTT 5 clients 0x8B, flushes, closes; [`Node::join`] then returns.
    pub fn drain(&self) {
        self.tell_all(|| Command::Drain(self.drain_timeout));
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        let deadline = Instant::now() + TELL_PATIENCE;
        for lane in self.lanes.iter() {
            lane.tell(command(), deadline);
        }
    }
}

/// A shard that takes no command for this long has bigger troubles than the command.
const TELL_PATIENCE: Duration = Duration::from_secs(2);

impl CommandLane {
    fn tell(&self, command: Command, deadline: Instant) {
        // A shard that has ended, or does not take it in time, stays without.
        let _ = self.commands.send_deadline(command, deadline);
        self.doorbell.ring();
    }
}

/// The sockets of one shard, one a listener.
type ShardSockets = Vec<OwnedFd>;

fn bind_all(
    settings: &[ListenerSettings],
    shards: u16,
) -> Result<(Vec<BoundListener>, Vec<ShardSockets>), NodeError> {
    let mut listeners = Vec::new();
    let mut by_shard: Vec<ShardSockets> = (0..shards).map(|_| Vec::new()).collect();
    for ListenerSettings { protocol, addr } in settings {
        let (bound, sockets) = listener::bind(*addr, shards)
            .map_err(|error| NodeError::Listen { addr: *addr, error })?;
        listeners.push(BoundListener {
            protocol: *protocol,
            addr: bound,
        });
        for (of_shard, socket) in by_shard.iter_mut().zip(sockets) {
            of_shard.push(socket);
        }
    }
    Ok((listeners, by_shard))
}

fn plan(
    settings: &NodeSettings,
    sockets: Vec<ShardSockets>,
) -> Result<(Vec<Plan>, Vec<CommandLane>), NodeError> {
    let shards = usize::from(settings.shards);
    let bells = (0..settings.shards)
        .map(|shard| {
            let made = EventFd::new();
            made.map_err(|error| NodeError::ShardStart {
                shard,
                error: error.to_string(),
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let doorbell = |bell: &Arc<EventFd>| Arc::new(Doorbell::new(Box::new(BellWake(bell.clone()))));
    let doorbells: Vec<_> = bells.iter().map(doorbell).collect();
    // Hand-overs have lanes of their own: a storm of connects must not take the place of messages. One that
    // finds its lane full is refused, so the lane holds what a storm brings in some turns.
    let slots = mailbox::slots_per_sender(shards);
    let envelopes = mailbox::mesh(&doorbells, slots);
    let hand_overs = mailbox::mesh(&doorbells, slots);
    let clock = Clock::start();
    let mut lanes = Vec::new();
    let mut plans = Vec::new();
    let ends = sockets.into_iter().zip(envelopes).zip(hand_overs);
    for (index, ((listeners, mailboxes), hand_overs)) in ends.enumerate() {
        let (commands, receiver) = bounded(COMMAND_SLOTS);
        lanes.push(CommandLane {
            commands,
            doorbell: doorbells[index].clone(),
        });
        plans.push(Plan {
            id: ShardId(index as u16),
            io: settings.io,
            cpu: (!settings.cpus.is_empty()).then(|| settings.cpus[index % settings.cpus.len()]),
            listeners,
            clock,
            bell: bells[index].clone(),
            doorbell: doorbells[index].clone(),
            placement: Placement::new(settings.shards, settings.placement_seed),
            policy: Policy {
                allow_anonymous: settings.allow_anonymous,
            },
            shard: settings.shard.clone(),
            connection: settings.connection.clone(),
            mqtt: settings.mqtt.clone(),
            mailboxes,
            hand_overs,
            commands: receiver,
        });
    }
    Ok((plans, lanes))
}

#[cfg(test)]
mod tests {
    use tidegate_codec::topic::TopicLimits;

    use super::*;

    fn settings(io: IoDriver) -> NodeSettings {
        NodeSettings {
            shards: 3,
            cpus: Vec::new(),
            io,
            listeners: vec![ListenerSettings {
                protocol: Protocol::Mqtt,
                addr: "127.0.0.1:0".parse().unwrap(),
            }],
            mqtt: Arc::new(Limits {
                packet_bytes_max: 1 << 20,
                connect_bytes_max: 1 << 16,
                client_id_bytes_max: 256,
                topic: TopicLimits {
                    bytes_max: 1_024,
                    levels_max: 32,
                },
                receive_maximum: 32,
                topic_alias_maximum: 16,
                keep_alive_max: 3_600,
                session_expiry_max: 3_600,
                connect_timeout_ms: 10_000,
            }),
            shard: ShardConfig::default(),
            connection: ConnectionLimits {
                write_queue_bytes_max: 4 << 20,
                write_queue_high_water: 1 << 20,
                pre_auth_bytes_max: 256 << 10,
                pre_auth_budget_bytes: 16 << 20,
                connections_max: 1_000,
                send_timeout: Duration::from_secs(30),
            },
            allow_anonymous: true,
            drain_timeout: Duration::from_secs(5),
            placement_seed: 1,
        }
    }

    #[test]
    fn a_shard_that_dies_ends_the_node() {
        for io in [IoDriver::Ring, IoDriver::Epoll] {
            let node = Node::start(settings(io)).unwrap();
            let lane = &node.control.lanes[1];
            lane.tell(Command::Panic, Instant::now() + TELL_PATIENCE);
            match node.join() {
                Err(NodeError::ShardDied { shard: 1, error }) => {
                    assert!(error.contains("told to"), "{error}");
                }
                other => panic!("expected the death of shard 1, got {other:?}"),
            }
        }
    }

    #[test]
    fn a_node_that_is_dropped_frees_its_port() {
        let mut settings = settings(IoDriver::Ring);
        for _ in 0..3 {
            let node = Node::start(settings.clone()).unwrap();
            let addr = node.listeners()[0].addr;
            let client = std::net::TcpStream::connect(addr).unwrap();
            drop(node);
            drop(client);
            settings.listeners[0].addr = addr;
        }
    }

    #[test]
    fn snapshots_come_from_every_shard_in_order() {
        let node = Node::start(settings(IoDriver::Epoll)).unwrap();
        let control = node.control();
        let shards = |control: &NodeControl| -> Vec<u16> {
            let snapshots = control.snapshots(Duration::from_secs(5));
            snapshots.iter().map(|snapshot| snapshot.shard).collect()
        };
        assert_eq!(shards(&control), [0, 1, 2]);
        control.drain();
        node.join().unwrap();
        // Nobody is left to answer, and nobody waits for them.
        assert_eq!(shards(&control), []);
    }
}
