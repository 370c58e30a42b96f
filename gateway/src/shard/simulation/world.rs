//! [`World`]: some shards, their clients and one clock, stepped by chance in one thread.
//!
//! The shards are real workers with the real lanes and mailboxes between them; only their driver and the order of
//! things are simulated. A shard that sleeps stays asleep until its bell, an event or its timeout ends that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{bounded, Receiver, Sender};
use tidegate_codec::mqtt::connection::Limits;
use tidegate_codec::mqtt::ProtocolVersion;
use tidegate_codec::{Qos, ReasonCode};
use tidegate_shard_router::envelope::Envelope;
use tidegate_shard_router::mailbox::Mailboxes;
use tidegate_shard_router::{mailbox, Doorbell, Placement, Shard, ShardConfig, ShardId};

use super::client::{topic_name, Acknowledged, Character, Client, End, Origin, TOPICS};
use crate::auth::Policy;
use crate::node::ConnectionLimits;
use crate::shard::decode::Core;
use crate::shard::driver::simulated::{
    Chance, Faults, Network, SharedBell, SimulatedBell, SimulatedDriver,
};
use crate::shard::driver::{Driver, Wait};
use crate::shard::effects::Connections;
use crate::shard::hand_over::HandOver;
use crate::shard::worker::{Command, Parts, Worker, COMMAND_SLOTS};

/// Every quality of service.
pub(super) const QOS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

/// Turns in a row in which a shard neither did anything nor slept.
const FRUITLESS_MAX: u32 = 64;

/// Longer than any connection may take to go once its client has left: lingering, session expiry, keep-alive.
const FAREWELL_US: u64 = 15_000_000;

/// What a world is made of.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) shards: usize,
    pub(super) steady: usize,
    pub(super) churning: usize,
    pub(super) steps: u64,
    pub(super) room: usize,
    pub(super) window: usize,
    pub(super) mailbox_slots: usize,
    pub(super) hand_over_slots: usize,
    pub(super) connections_max: usize,
    pub(super) high_water: usize,
    pub(super) publish_credits: u32,
    pub(super) receive_maximum: u16,
    pub(super) inflight_max: u16,
    /// The largest payload.
    pub(super) payload_max: usize,
    pub(super) drain: bool,
    /// `None`: seeded, each shard its own.
    pub(super) faults: Option<Faults>,
}

impl Plan {
    pub(super) fn seeded(seed: u64) -> Plan {
        let mut chance = Chance::new(seed);
        let chance = &mut chance;
        let room = *chance.pick(&[100, 1_500, 20_000, 300_000]);
        let window = *chance.pick(&[100, 1_500, 20_000, 300_000]);
        Plan {
            seed,
            shards: chance.within(1..5),
            steady: chance.within(1..4),
            churning: chance.within(1..9),
            steps: chance.within(200..500) as u64,
            room,
            window,
            mailbox_slots: *chance.pick(&[4, 16, 128]),
            hand_over_slots: *chance.pick(&[1, 2, 128]),
            connections_max: *chance.pick(&[8, 1_000, 1_000]),
            high_water: *chance.pick(&[500, 20_000, 1 << 20]),
            publish_credits: *chance.pick(&[2, 16, 1_024]),
            receive_maximum: *chance.pick(&[2, 32]),
            inflight_max: *chance.pick(&[2, 256]),
            payload_max: (*chance.pick(&[50, 1_000, 20_000])).min(20 * room.min(window)),
            drain: chance.percent(25),
            faults: None,
        }
    }

    /// A quiet world with nobody in it yet, for stories.
    pub(super) fn story(shards: usize) -> Plan {
        Plan {
            shards,
            steady: 0,
            churning: 0,
            steps: 0,
            room: 1 << 20,
            window: 1 << 20,
            mailbox_slots: 128,
            hand_over_slots: 128,
            connections_max: 1_000,
            high_water: 1 << 20,
            publish_credits: 1_024,
            receive_maximum: 32,
            inflight_max: 256,
            payload_max: 100,
            drain: false,
            faults: Some(Faults::NONE),
            ..Plan::seeded(1)
        }
    }
}

/// One shard and how it sleeps.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) worker: Worker<SimulatedDriver>,
    commands: Sender<Command>,
    doorbell: Arc<Doorbell>,
    /// In its wait, until when.
    waits: Option<(Wait, u64)>,
    fruitless: u32,
    pub(super) turns: u64,
    /// Turns without an event to come, in which none came and no order was given.
    idle_turns: u64,
    pub(super) ended: bool,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) network: Network,
    pub(super) chance: Chance,
    pub(super) placement: Placement,
    pub(super) seats: Vec<Seat>,
    pub(super) clients: Vec<Client>,
    pub(super) acknowledged: Vec<Acknowledged>,
    /// Counts everything that happens, so that events have an order.
    pub(super) step: u64,
    origins: Origin,
    /// Messages a steady client had to have and had.
    held_to_account: u64,
    /// A shard that does nothing until then.
    stalled: (usize, u64),
    /// The gateway was told to drain: it may close anybody.
    draining: bool,
}

impl World {
    pub(super) fn new(plan: Plan) -> World {
        let mut chance = Chance::new(plan.seed ^ 0x5eed);
        let network = Network::new(chance.next(), plan.shards, plan.room, plan.window);
        let placement = Placement::new(plan.shards as u16, plan.seed);
        let bells: Vec<Arc<SimulatedBell>> = (0..plan.shards).map(|_| Arc::default()).collect();
        let doorbells: Vec<_> = bells
            .iter()
            .map(|bell| Arc::new(Doorbell::new(Box::new(SharedBell(bell.clone())))))
            .collect();
        let envelopes = mailbox::mesh(&doorbells, plan.mailbox_slots);
        let hand_overs = mailbox::mesh(&doorbells, plan.hand_over_slots);
        let ends = bells.into_iter().zip(envelopes).zip(hand_overs);
        let mut seats = Vec::new();
        for (index, ((bell, mailboxes), hand_overs)) in ends.enumerate() {
            let faults = plan.faults.clone();
            let faults = faults.unwrap_or_else(|| Faults::seeded(&mut chance));
            let driver = SimulatedDriver::new(index, &network, faults, bell);
            let (commands, receiver) = bounded(COMMAND_SLOTS);
            let parts = parts(
                &plan,
                index,
                driver.now_us(),
                doorbells[index].clone(),
                (mailboxes, hand_overs),
                receiver,
            );
            seats.push(Seat {
                worker: Worker::new(driver, parts),
                commands,
                doorbell: doorbells[index].clone(),
                waits: None,
                fruitless: 0,
                turns: 0,
                idle_turns: 0,
                ended: false,
            });
        }
        let clients = (0..plan.steady + plan.churning)
            .map(|number| Client::new(character(&plan, number, &mut chance)))
            .collect();
        World {
            network,
            chance,
            placement,
            seats,
            clients,
            acknowledged: Vec::new(),
            step: 0,
            origins: 0,
            held_to_account: 0,
            stalled: (0, 0),
            draining: false,
            plan,
        }
    }

    /// What happened in all drivers, and what the shards counted.
    pub(super) fn coverage(&self) -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        let mut count = |what, n| *all.entry(what).or_insert(0) += n;
        for seat in &self.seats {
            let happened = &seat.worker.driver.happened;
            count("split receives", happened.split_receives);
            count("rests without buffer", happened.rests_without_buffer);
            count("late bytes", happened.late_bytes);
            count("short sends", happened.short_sends);
            count("stalled sends", happened.stalled_sends);
            count("accept stalls", happened.accept_stalls);
            count("sends cut by close", happened.sends_cut_by_close);
            count("events of closing", happened.events_of_closing);
            count("closes", happened.closes);
            let tally = &seat.worker.core.connections.tally;
            count("hand-overs", tally.hand_overs);
            count("hand-overs refused", tally.hand_overs_refused);
            count("accept pauses", tally.accept_pauses);
            let pauses = seat.worker.core.connections.output_pauses;
            count("pauses by output", pauses);
            count("deliveries", tally.delivered.iter().sum());
        }
        count("acknowledged", self.acknowledged.len() as u64);
        count("drains", u64::from(self.draining));
        count("held to account", self.held_to_account);
        all
    }

    /// From the first connection to the last slot given back.
    pub(super) fn run(&mut self) {
        self.settle_in();
        for _ in 0..self.plan.steps {
            self.live();
        }
        self.come_to_rest();
        self.check_rest();
        if self.plan.drain {
            self.drain();
        } else {
            self.everybody_leaves();
            self.check_empty();
        }
    }

    /// Steady clients come first and subscribe.
    fn settle_in(&mut self) {
        for index in 0..self.plan.steady {
            while !self.clients[index].is_connected() {
                if self.clients[index].talk.is_none() {
                    self.dial(index);
                    self.clients[index].connect(&mut self.chance);
                }
                self.come_to_rest();
            }
            let qos = *self.chance.pick(&QOS);
            let filters = match self.chance.within(0..4) {
                0 => vec![("#".to_owned(), qos)],
                1 => vec![
                    ("t/#".to_owned(), qos),
                    ("t/0/+".to_owned(), Qos::ExactlyOnce),
                ],
                2 => vec![(topic_name(1), qos), (topic_name(3), Qos::AtLeastOnce)],
                _ => (0..TOPICS as u8).map(|t| (topic_name(t), qos)).collect(),
            };
            self.clients[index].subscribe(&filters);
        }
        self.come_to_rest();
    }

    /// One step of life: somebody does something, some shard goes on, time passes.
    fn live(&mut self) {
        self.step += 1;
        if self.chance.percent(2) {
            let until = self.step + self.chance.within(5..50) as u64;
            self.stalled = (self.chance.within(0..self.seats.len()), until);
        }
        for _ in 0..self.chance.within(1..4) {
            let seat = self.chance.within(0..self.seats.len());
            if self.stalled.0 != seat || self.stalled.1 <= self.step {
                self.step_seat(seat, false);
            }
        }
        if self.chance.percent(1) {
            (0..self.clients.len()).for_each(|index| self.act(index));
        }
        for _ in 0..self.chance.within(1..4) {
            let index = self.chance.within(0..self.clients.len());
            self.step_client(index);
        }
        if self.chance.percent(70) {
            let index = self.chance.within(0..self.clients.len());
            self.act(index);
        }
        let us = match self.chance.within(0..100) {
            0 => 600_000,
            1..=10 => 20_000,
            _ => self.chance.within(1..300),
        };
        self.network.pass_time(us as u64);
    }

    // Shards.

    /// Lets a shard go on by half a turn: to its wait, or through what ended it. `true`: it did.
    pub(super) fn step_seat(&mut self, index: usize, fair: bool) -> bool {
        let now_us = self.network.now_us();
        let early = !fair && self.chance.percent(2);
        let seat = &mut self.seats[index];
        if seat.ended {
            return false;
        }
        let worker = &mut seat.worker;
        match seat.waits {
            None => {
                let Some(wait) = worker.before_wait() else {
                    seat.ended = true;
                    return true;
                };
                let sleeps = !wait.timeout.is_zero();
                if sleeps {
                    check_sleeper(worker);
                }
                let until = now_us + wait.timeout.as_micros() as u64;
                seat.waits = Some((wait, until));
            }
            Some((wait, until)) => {
                // Anything may end a sleep: a signal does.
                let woken = worker.driver.would_wake();
                if until > now_us && !woken && !early {
                    return false;
                }
                seat.waits = None;
                seat.turns += 1;
                let activity = worker.driver.activity;
                let waiting = !worker.core.shard.mailbox_is_empty()
                    || !worker.hand_overs.inbox.is_empty()
                    || !worker.core.connections.resumed.is_empty();
                worker.driver.wait(wait).expect("a simulated wait succeeds");
                worker.after_wait();
                let idle = worker.driver.activity == activity;
                seat.idle_turns += u64::from(idle && !woken);
                let fruitful =
                    !idle || waiting || worker.core.connections.work > 0 || !wait.timeout.is_zero();
                seat.fruitless = if fruitful { 0 } else { seat.fruitless + 1 };
                assert!(
                    seat.fruitless < FRUITLESS_MAX,
                    "shard {index} neither works nor sleeps"
                );
                self.network.notice_dropped();
            }
        }
        true
    }

    /// When the next sleeper wakes by itself.
    fn next_wake_us(&self) -> u64 {
        let waits = self.seats.iter().filter(|seat| !seat.ended);
        let until = waits.filter_map(|seat| seat.waits.map(|(_, until)| until));
        until.min().unwrap_or(u64::MAX)
    }

    /// Goes on until nothing moves any more without time passing.
    pub(super) fn run_until_still(&mut self) {
        for _ in 0..200_000 {
            self.step += 1;
            let mut moved = false;
            for index in 0..self.seats.len() {
                moved |= self.step_seat(index, true);
            }
            for index in 0..self.clients.len() {
                moved |= self.step_client(index);
            }
            self.network.pass_time(1);
            if !moved {
                let sleepers = self.seats.iter().filter(|seat| seat.waits.is_some());
                sleepers.for_each(|seat| check_sleeper(&seat.worker));
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// Lets so much time pass, with everything that happens meanwhile.
    pub(super) fn run_for(&mut self, us: u64) {
        let end = self.network.now_us() + us;
        loop {
            self.run_until_still();
            let now_us = self.network.now_us();
            if now_us >= end || self.seats.iter().all(|seat| seat.ended) {
                return;
            }
            let next = self.next_wake_us().clamp(now_us + 1, end);
            self.network.pass_time(next - now_us);
        }
    }

    /// Everybody listens, and time passes until everything is answered and the shards idle.
    pub(super) fn come_to_rest(&mut self) {
        for client in &mut self.clients {
            client.deaf_until = 0;
        }
        self.run_for(1_000_000);
    }

    // Clients.

    pub(super) fn dial(&mut self, index: usize) {
        let shard = self.chance.within(0..self.seats.len());
        self.dial_at(index, shard);
    }

    pub(super) fn dial_at(&mut self, index: usize, shard: usize) {
        let line = self.network.dial(shard);
        self.origins += 1;
        let origin = self.origins;
        let client = &mut self.clients[index];
        client.open(line, origin);
        client
            .earlier
            .retain(|&earlier| !self.network.is_closed_by_gateway(earlier));
        if let Some(talk) = &mut client.talk {
            talk.contested = !client.earlier.is_empty();
        }
        client.earlier.push(line);
    }

    /// A client writes and reads some. `true`: something moved.
    pub(super) fn step_client(&mut self, index: usize) -> bool {
        let piece = match self.chance.within(0..4) {
            0 => self.chance.within(1..20),
            1 => self.chance.within(1..2_000),
            _ => usize::MAX,
        };
        let client = &mut self.clients[index];
        if client.talk.is_none() {
            return false;
        }
        let network = &self.network;
        let mut moved = client.write_some(piece, |line, bytes| network.write(line, bytes));
        if client.deaf_until > self.step {
            return moved;
        }
        let acknowledged = &mut self.acknowledged;
        let end = client.read_some(self.step, acknowledged, |line| network.read(line, piece));
        match end {
            None => {}
            Some(End::Open) => moved = true,
            Some(end) => {
                self.ended(index, end);
                moved = true;
            }
        }
        moved
    }

    /// The gateway has closed: it must have had a reason.
    fn ended(&mut self, index: usize, end: End) {
        let client = &mut self.clients[index];
        let talk = client.talk.take().expect("a connection ends once");
        // A hand-over lane may be full, a shard may have no slot left.
        let limits = talk.reason == Some(ReasonCode::QuotaExceeded)
            || talk.reason == Some(ReasonCode::ServerBusy)
            || talk.reason == Some(ReasonCode::ServerUnavailable);
        let refused = limits && !talk.codec.is_connected();
        let full = !talk.codec.is_connected() && self.plan.connections_max < 100;
        let silent = !talk.asked_connect;
        let forgiven = client.character.may_be_closed || talk.contested || self.draining;
        assert!(
            talk.leaving || refused || full || silent || forgiven,
            "{} was closed ({end:?}, {:?}) while {:?}",
            client.character.client_id,
            talk.reason,
            talk.codec
        );
        if end == End::Ended && !talk.leaving {
            self.network.hang_up(talk.line);
        }
    }

    /// Something a client might do.
    fn act(&mut self, index: usize) {
        let steady = self.clients[index].character.steady;
        if self.clients[index].talk.is_none() {
            if !steady {
                self.come(index);
            }
            return;
        }
        if !self.clients[index].may_speak() {
            if !steady && self.chance.percent(20) {
                self.vanish(index);
            }
            return;
        }
        let deaf_until = self.step + self.chance.within(5..60) as u64;
        match self.chance.within(0..100) {
            0..=54 => self.publish_some(index),
            55..=64 => self.ping_some(index),
            65..=74 => self.clients[index].deaf_until = deaf_until,
            75..=84 if !steady => self.subscribe_some(index),
            85..=88 if !steady && self.clients[index].is_connected() => {
                self.clients[index].disconnect(ReasonCode::Success);
            }
            89..=92 if !steady => self.vanish(index),
            93 if !steady => self.clients[index].retain(40),
            94..=95 => self.ask_snapshot(),
            _ => {}
        }
    }

    /// A connection, mostly with CONNECT, sometimes with more behind it, sometimes with silence.
    fn come(&mut self, index: usize) {
        let network = &self.network;
        let earlier = &self.clients[index].earlier;
        let closed = earlier
            .iter()
            .all(|&line| network.is_closed_by_gateway(line));
        if !closed && self.chance.percent(70) {
            return;
        }
        self.dial(index);
        if self.chance.percent(4) {
            return;
        }
        self.clients[index].connect(&mut self.chance);
        if self.chance.percent(30) {
            self.subscribe_some(index);
        }
        if self.chance.percent(30) {
            self.publish_some(index);
        }
        if self.chance.percent(5) {
            self.clients[index].disconnect_early();
        }
    }

    fn publish_some(&mut self, index: usize) {
        let count = match self.chance.within(0..12) {
            0 => self.chance.within(20..150),
            1..=3 => self.chance.within(1..12),
            _ => 1,
        };
        for _ in 0..count {
            let qos = *self.chance.pick(&QOS);
            let topic = self.chance.within(0..TOPICS) as u8;
            let largest = if count > 12 {
                60
            } else {
                self.plan.payload_max
            };
            let len = self.chance.within(0..largest);
            if self.clients[index].may_publish(qos) {
                self.clients[index].publish(topic, qos, len, self.step);
            }
        }
    }

    fn ping_some(&mut self, index: usize) {
        let count = if self.chance.percent(10) {
            self.chance.within(10..600)
        } else {
            1
        };
        (0..count).for_each(|_| self.clients[index].ping());
    }

    fn subscribe_some(&mut self, index: usize) {
        let filters = self.clients[index].filters();
        if !filters.is_empty() && self.chance.percent(40) {
            let filter = self.chance.pick(&filters).clone();
            return self.clients[index].unsubscribe(&filter);
        }
        let qos = *self.chance.pick(&QOS);
        let topic = self.chance.within(0..TOPICS) as u8;
        let filter = match self.chance.within(0..5) {
            0 => "#".to_owned(),
            1 => "t/#".to_owned(),
            2 => format!("t/{}/+", topic / 2),
            _ => topic_name(topic),
        };
        self.clients[index].subscribe(&[(filter, qos)]);
    }

    /// Without a word of farewell, in one of the ways there are.
    fn vanish(&mut self, index: usize) {
        let way = self.chance.within(0..4);
        let client = &mut self.clients[index];
        let Some(talk) = &mut client.talk else {
            return;
        };
        if talk.leaving {
            return;
        }
        let line = talk.line;
        match way {
            0 => {
                // Goes on listening, as a half-closed connection does.
                talk.outgoing.clear();
                talk.leaving = true;
                return self.network.finish(line);
            }
            1 => self.network.reset(line),
            _ => self.network.hang_up(line),
        }
        client.talk = None;
    }

    fn ask_snapshot(&mut self) {
        let seat = self.chance.within(0..self.seats.len());
        let (reply, _answers) = bounded(1);
        let seat = &self.seats[seat];
        if seat.commands.try_send(Command::Snapshot(reply)).is_ok() {
            seat.doorbell.ring();
        }
    }

    // Ends.

    /// Nobody waits for anything, and waiting costs nothing.
    fn check_rest(&mut self) {
        for client in &self.clients {
            client.check_answered();
            if client.character.steady {
                assert!(client.is_connected(), "a steady client stays");
                self.held_to_account += client.check_received(&self.acknowledged);
            }
        }
        for seat in &self.seats {
            let census = seat.worker.core.shard.census();
            assert_eq!((census.parked, census.overflow), (0, 0), "{census:?}");
        }
        let before: Vec<_> = self.seats.iter().map(|seat| seat.idle_turns).collect();
        self.run_for(4_000_000);
        for (seat, before) in self.seats.iter().zip(before) {
            let turns = seat.idle_turns - before;
            // A turn a second, one a wheel tick that is due, and what keep-alives end.
            assert!(
                turns < 100,
                "{turns} turns in 4 s in which nothing happened"
            );
        }
    }

    pub(super) fn everybody_leaves(&mut self) {
        for index in 0..self.clients.len() {
            if self.clients[index].is_connected() && self.chance.percent(60) {
                self.clients[index].disconnect(ReasonCode::Success);
            } else if self.clients[index].talk.is_some() {
                self.vanish(index);
            }
        }
        self.run_for(FAREWELL_US);
        for client in &self.clients {
            let name = &client.character.client_id;
            assert!(client.talk.is_none(), "{name} was never told the end");
        }
    }

    /// Everything that was lent is back.
    pub(super) fn check_empty(&self) {
        assert_eq!(self.network.held_by_gateway(), 0, "descriptors are held");
        for (seat, index) in self.seats.iter().zip(0..) {
            let Core { shard, connections } = &seat.worker.core;
            assert_eq!(connections.slab.len(), 0, "slots of shard {index}");
            assert_eq!(seat.worker.driver.held(), (0, 0), "sockets, buffers");
            assert_eq!(connections.out_pool.lent, 0, "out-queues of shard {index}");
            assert_eq!(connections.remainders.lent, 0, "remainders of {index}");
            assert_eq!(connections.pre_auth_bytes, 0, "of shard {index}");
            assert!(shard.mailbox_is_empty() && seat.worker.hand_overs.inbox.is_empty());
            let census = shard.census();
            let held = [
                census.sessions,
                census.home_filters,
                census.slice_filters,
                census.timers,
                census.tickets,
                census.parked,
                census.overflow,
                census.credits_out as usize,
            ];
            assert_eq!(held, [0; 8], "{census:?}");
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        let somebody_is_deaf = self.chance.percent(50);
        for index in 0..self.clients.len() {
            self.publish_some(self.plan.steady - 1);
            if somebody_is_deaf && self.chance.percent(50) {
                self.clients[index].deaf_until = u64::MAX;
            }
        }
        let hears = |client: &Client| client.is_connected() && client.deaf_until == 0;
        let connected: Vec<_> = (0..self.clients.len())
            .filter(|&index| hears(&self.clients[index]))
            .collect();
        for seat in &self.seats {
            let within = Duration::from_secs(3);
            seat.commands
                .try_send(Command::Drain(within))
                .expect("the lane has room");
            seat.doorbell.ring();
        }
        // Who listens is gone as soon as he has heard; only the deaf have their second.
        let patience = if somebody_is_deaf { 3_500_000 } else { 400_000 };
        let told_by = self.network.now_us() + patience;
        while !self.seats.iter().all(|seat| seat.ended) {
            assert!(self.network.now_us() < told_by, "a shard does not drain");
            self.run_until_still();
            let now_us = self.network.now_us();
            let next = self.next_wake_us().clamp(now_us + 1, now_us + 100_000);
            self.network.pass_time(next - now_us);
        }
        self.run_until_still();
        for index in connected {
            let client = &self.clients[index];
            let name = &client.character.client_id;
            assert!(client.talk.is_none(), "{name} is not told of the drain");
        }
        for seat in &self.seats {
            let connections = &seat.worker.core.connections;
            assert_eq!(
                connections.slab.len(),
                0,
                "nobody is waited for longer than a second"
            );
        }
    }

    pub(super) fn home_of(&self, client_id: &str) -> usize {
        let instance = tidegate_shard_router::InstanceId(0);
        self.placement.home_shard(instance, client_id).index()
    }
}

/// What a worker of this plan is made of, whatever its driver.
pub(super) fn parts(
    plan: &Plan,
    index: usize,
    now_us: u64,
    doorbell: Arc<Doorbell>,
    lanes: (Mailboxes<Envelope>, Mailboxes<Box<HandOver>>),
    commands: Receiver<Command>,
) -> Parts {
    let (mailboxes, hand_overs) = lanes;
    let config = ShardConfig {
        receive_maximum: plan.receive_maximum,
        inflight_max: plan.inflight_max,
        publish_credits: plan.publish_credits,
        ..ShardConfig::default()
    };
    let mqtt = Limits {
        receive_maximum: plan.receive_maximum,
        session_expiry_max: 5,
        ..Limits::DEFAULT
    };
    let limits = ConnectionLimits {
        write_queue_bytes_max: plan.high_water + 2 * plan.payload_max + 600,
        write_queue_high_water: plan.high_water,
        pre_auth_bytes_max: 256 << 10,
        pre_auth_budget_bytes: 16 << 20,
        connections_max: plan.connections_max,
        send_timeout: Duration::from_secs(20),
    };
    let placement = Placement::new(plan.shards as u16, plan.seed);
    let id = ShardId(index as u16);
    let shard = Shard::new(id, placement.clone(), config, mailboxes);
    let connections = Connections::new(limits, Arc::new(mqtt), now_us);
    Parts {
        core: Core { shard, connections },
        placement,
        policy: Policy {
            allow_anonymous: true,
        },
        doorbell,
        hand_overs,
        commands,
    }
}

/// A shard that goes to sleep has nothing left to do.
fn check_sleeper(worker: &Worker<SimulatedDriver>) {
    let Core { shard, connections } = &worker.core;
    assert!(shard.mailbox_is_empty(), "sleeps with mail");
    assert!(worker.hand_overs.inbox.is_empty(), "sleeps with hand-overs");
    assert!(
        connections.resumed.is_empty(),
        "sleeps with bytes to decode"
    );
    assert!(connections.dirty.is_empty(), "sleeps with orders to give");
    assert!(connections.doomed.is_empty(), "sleeps with somebody to end");
    assert!(connections.notices.is_empty(), "sleeps with news");
}

fn character(plan: &Plan, number: usize, chance: &mut Chance) -> Character {
    let steady = number < plan.steady;
    let churner = number.saturating_sub(plan.steady);
    // The first two that churn share a client id and take each other over.
    let twin = !steady && churner < 2 && plan.churning >= 4;
    let client_id = match (steady, twin) {
        (true, _) => format!("steady-{number}"),
        (_, true) => "twin".to_owned(),
        _ => format!("churn-{number}"),
    };
    let keep_alive = if !steady && chance.percent(20) { 2 } else { 0 };
    Character {
        client_id,
        version: *chance.pick(&ProtocolVersion::ALL),
        steady,
        clean_start: steady || chance.percent(60),
        keep_alive,
        may_be_closed: twin || keep_alive > 0,
    }
}
