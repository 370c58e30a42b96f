//! The seeded world: shards, what lies between them and their clients, time, and everything that goes wrong.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use tidegate_codec::mqtt::connect::Will;
use tidegate_codec::Millis;
use tidegate_shard_router::mailbox::mesh;
use tidegate_shard_router::{
    Connecting, ConnectionId, Departure, Doorbell, InstanceId, Placement, Shard, ShardId, Step,
    Wake,
};

use crate::client::Client;
use crate::coverage::Coverage;
use crate::driver::{Connection, Down, Fx, Outside, State};
use crate::ledger::Ledger;
use crate::lives::Entry;
use crate::mishaps::Kicks;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::store::ModelStore;

pub(crate) const HERE: InstanceId = InstanceId(0);

/// A shard with its bell and its sleep.
pub(crate) struct Place {
    pub(crate) shard: Shard,
    bell: Arc<Doorbell>,
    rung: Arc<AtomicBool>,
    /// Does not sleep: it was busy, or something was said to it.
    pub(crate) awake: bool,
    /// When it wakes by itself.
    wake_at: Millis,
    pub(crate) stalled_until: usize,
    /// How far it knows the store to be.
    pub(crate) told: u64,
}

/// A connection between its decoded CONNECT and its session.
#[derive(Debug)]
pub(crate) struct HandOver {
    pub(crate) connection: usize,
    pub(crate) client: usize,
    pub(crate) decoded_at: Millis,
    pub(crate) ready_at_step: usize,
    pub(crate) clean_start: bool,
    pub(crate) expiry: u32,
    pub(crate) receive_maximum: u16,
    /// The letter and its delay in seconds.
    pub(crate) will: Option<(usize, u32)>,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) outside: Outside,
    pub(crate) places: Vec<Place>,
    pub(crate) placement: Placement,
    pub(crate) clients: Vec<Client>,
    pub(crate) hand_overs: Vec<HandOver>,
    /// Connections something may still happen to.
    pub(crate) live: Vec<usize>,
    pub(crate) kicked_at: Kicks,
    pub(crate) coverage: Coverage,
    /// Nothing goes wrong any more.
    pub(crate) calm: bool,
}

struct Flag(Arc<AtomicBool>);

impl Wake for Flag {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl World {
    pub(crate) fn new(plan: Plan, verbose: bool) -> World {
        let mut rng = Rng::new(plan.seed ^ 0x5eed);
        let mut ledger = Ledger::default();
        let name = |i| Client {
            name: format!("c{i}"),
            ..Client::default()
        };
        let clients: Vec<_> = (0..plan.clients).map(name).collect();
        ledger.current = vec![None; clients.len()];
        ledger.may_drop = plan.config.queue_messages_max < 1_000;
        let outside = Outside {
            now: Millis(1_000),
            step: 0,
            connections: Vec::new(),
            ledger,
            store: ModelStore::new(plan.store),
            names: clients
                .iter()
                .map(|client: &Client| client.name.clone())
                .collect(),
            verbose,
        };
        let placement = Placement::new(plan.shards, rng.next());
        let places = build(&plan, &placement);
        let coverage = Coverage::default();
        World {
            rng,
            outside,
            places,
            placement,
            clients,
            hand_overs: Vec::new(),
            live: Vec::new(),
            kicked_at: Kicks::new(),
            coverage,
            calm: false,
            plan,
        }
    }

    /// One step of the run: the seed decides all of it.
    pub(crate) fn step(&mut self) {
        self.outside.step += 1;
        self.outside.now = self.outside.now + self.rng.below(20) as u64;
        self.go_wrong();
        self.store_moves();
        for _ in 0..self.plan.turns {
            let shard = self.rng.below(self.places.len());
            let envelopes = self.rng.between(0, self.plan.envelopes);
            self.turn(shard, envelopes);
        }
        for _ in 0..self.plan.acts {
            let client = self.rng.below(self.clients.len());
            self.act(client);
        }
        for _ in 0..self.plan.moves {
            self.move_packets();
        }
    }

    pub(crate) fn is_stalled(&self, shard: usize) -> bool {
        self.places[shard].stalled_until > self.outside.step
    }

    /// A shard's turn, unless it sleeps and nothing wakes it. Answers whether it had one.
    pub(crate) fn turn(&mut self, shard: usize, envelopes_max: usize) -> bool {
        if self.is_stalled(shard) {
            return false;
        }
        self.take_hand_overs(shard);
        let now = self.outside.now;
        let place = &mut self.places[shard];
        let due = place.wake_at <= now;
        if !place.awake && !place.rung.swap(false, Ordering::Relaxed) && !due {
            return false;
        }
        place.bell.awake();
        let fx = &mut Fx {
            shard: shard as u16,
            outside: &mut self.outside,
        };
        let progress = place.shard.step(now, Step { envelopes_max }, fx);
        place.wake_at = place.shard.poll_timeout(now);
        place.awake = progress.busy || !place.bell.doze(|| place.shard.mailbox_is_empty());
        self.check_bounds(shard);
        true
    }

    /// Says something to a shard, which then has a turn soon.
    pub(crate) fn tell<T>(
        &mut self,
        shard: usize,
        verb: impl FnOnce(&mut Shard, Millis, &mut Fx<'_>) -> T,
    ) -> T {
        let now = self.outside.now;
        let place = &mut self.places[shard];
        place.awake = true;
        verb(
            &mut place.shard,
            now,
            &mut Fx {
                shard: shard as u16,
                outside: &mut self.outside,
            },
        )
    }

    fn take_hand_overs(&mut self, shard: usize) {
        let mut at = 0;
        while at < self.hand_overs.len() {
            let hand_over = &self.hand_overs[at];
            let home = self.outside.connections[hand_over.connection].shard;
            if usize::from(home) == shard && hand_over.ready_at_step <= self.outside.step {
                let hand_over = self.hand_overs.remove(at);
                if !self.refuses(shard, &hand_over) {
                    self.attach(hand_over);
                }
            } else {
                at += 1;
            }
        }
    }

    /// At home, authenticated: the client gets its session.
    fn attach(&mut self, hand_over: HandOver) {
        let HandOver {
            connection,
            client,
            clean_start,
            expiry,
            receive_maximum,
            will,
            ..
        } = hand_over;
        let shard = usize::from(self.outside.connections[connection].shard);
        let now = self.outside.now;
        self.outside
            .say(|| format!("client {client} attaches as connection {connection}: {hand_over:?}"));
        if let Some(session) = self.outside.ledger.current[client] {
            if self.outside.ledger.sessions[session].connection.is_some() {
                self.outside.ledger.leaves(session, now, Departure::Lost);
            }
        }
        if clean_start {
            self.outside.ledger.ends_with_clean_start(client);
        }
        if clean_start {
            // Whoever did not see this start clean must do so again.
            let of = &mut self.clients[client];
            of.must_start_clean = of.connection != Some(connection);
        }
        let message = will.map(|(letter, delay_interval)| {
            let message = self.outside.ledger.message_of(letter);
            Box::new(Will {
                message,
                delay_interval,
                message_expiry_interval: None,
            })
        });
        let connecting = Connecting {
            instance: HERE,
            client_id: self.clients[client].name.as_str().into(),
            clean_start,
            session_expiry_interval: expiry,
            receive_maximum,
            will: message,
        };
        let id = connection_id(connection);
        let connected = self.tell(shard, |shard, now, fx| {
            shard.connect(now, id, connecting, fx)
        });
        let present = connected.session_present;
        let entry = Entry {
            client,
            connection,
            clean_start,
            expiry,
            will: will.map(|(letter, _)| letter),
        };
        let session = self.outside.ledger.attached(entry, present, now);
        if !present {
            self.outside.ledger.sessions[session].born_with = self.outside.store.said();
        }
        let attached = &mut self.outside.connections[connection];
        attached.state = State::Attached(connected.session);
        attached.session = session;
        attached.down.push_back(Down::ConnAck { session, present });
        self.tell(shard, |shard, now, fx| {
            shard.resume(now, connected.session, fx)
        });
    }

    /// Opens a connection of a client and sends its CONNECT.
    pub(crate) fn open(&mut self, client: usize, mut hand_over: HandOver) {
        let home = self.placement.home_shard(HERE, &self.clients[client].name);
        let window = usize::from(hand_over.receive_maximum.min(self.plan.config.inflight_max));
        let connection = Connection::new(client, home.0, self.plan.high_water, window);
        if self.hand_overs.iter().any(|other| other.client == client) {
            self.coverage.crossing_hand_overs += 1;
        }
        hand_over.connection = self.outside.connections.len();
        self.clients[client].connection = Some(hand_over.connection);
        self.outside.connections.push(connection);
        self.live.push(hand_over.connection);
        self.hand_overs.push(hand_over);
    }

    /// Bounds of everything in a shard that has just moved.
    fn check_bounds(&mut self, shard: usize) {
        let (plan, place) = (&self.plan, &mut self.places[shard]);
        let census = place.shard.census();
        self.coverage.observe(&census, place.shard.counters());
        assert!(
            place.shard.mailbox_depth() <= plan.slots * self.places.len(),
            "mailbox above its bound"
        );
        let config = &plan.config;
        assert!(
            census.queue_longest <= config.queue_messages_max as usize,
            "session queue above its bound"
        );
        assert!(
            census.window_longest <= usize::from(config.inflight_max),
            "window above its bound"
        );
        // One a connection, as many whose connection is gone, and a few.
        assert!(
            census.parked_publishers <= 2 * census.sessions + 16,
            "parked messages above their bound: {census:?}"
        );
        assert!(
            census.ack_ring_longest <= usize::from(config.receive_maximum),
            "ack ring above its bound"
        );
    }
}

pub(crate) fn connection_id(connection: usize) -> ConnectionId {
    ConnectionId {
        index: connection as u32,
        generation: 0,
    }
}

pub(crate) fn build(plan: &Plan, placement: &Placement) -> Vec<Place> {
    let rung: Vec<_> = (0..placement.shards())
        .map(|_| Arc::new(AtomicBool::new(false)))
        .collect();
    let bell = |flag: &Arc<AtomicBool>| Arc::new(Doorbell::new(Box::new(Flag(flag.clone()))));
    let bells: Vec<_> = rung.iter().map(bell).collect();
    let mailboxes = mesh(&bells, plan.slots).into_iter().enumerate();
    let place = |(i, mailboxes): (usize, _)| Place {
        shard: Shard::new(
            ShardId(i as u16),
            placement.clone(),
            plan.config.clone(),
            mailboxes,
        ),
        bell: bells[i].clone(),
        rung: rung[i].clone(),
        awake: true,
        wake_at: Millis(0),
        stalled_until: 0,
        told: 0,
    };
    mailboxes.map(place).collect()
}

impl World {
    /// What the run has met.
    pub(crate) fn into_coverage(mut self) -> Coverage {
        for place in &mut self.places {
            self.coverage.absorb(place.shard.counters());
        }
        self.coverage.wills_cancelled = self.outside.ledger.wills_cancelled;
        self.coverage
    }
}
