//! [`Worker`]: one shard's loop.
//!
//! ```text
//! settle → wait → dispatch events → resume → hand-overs → commands → timers → step, and again
//! ```
//!
//! Every phase has a bound, and a turn that leaves something over does not sleep: neither a busy mailbox nor a
//! busy socket keeps the other waiting for more than one turn. [`Shard::step`](tidegate_shard_router::Shard) comes
//! last, because it is what posts and rings for all that the phases before it caused.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use tidegate_codec::mqtt::connect::Connect;
use tidegate_codec::mqtt::connection::ServerConnection;
use tidegate_codec::{Millis, ReasonCode};
use tidegate_shard_router::mailbox::Mailboxes;
use tidegate_shard_router::shard::Step;
use tidegate_shard_router::{ConnectionId, Doorbell, Placement, ShardId};

use super::clock::millis;
use super::connection::{mark, State};
use super::decode::Core;
use super::driver::{Driver, Event, Pace, Receive, Wait};
use super::hand_over::{HandOver, IdSource};
use super::snapshot::ShardSnapshot;
use super::tally::Ending;
use super::timers::{Entry, Tick};
use crate::auth::Policy;

/// Envelopes one turn takes from the mailbox.
const ENVELOPES_MAX: usize = 256;

/// Visits to connections whose remainder one turn decodes.
const RESUMED_MAX: usize = 256;

/// Timers one turn looks at.
const TIMERS_MAX: usize = 4_096;

/// The longest sleep: everything that must wake a shard rings its bell, so this only bounds a mistake.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// From this many events in a turn on, waiting a little for more pays.
const BATCH_FROM: usize = 16;

/// Below so many connections there is nothing to save by naps.
const NAP_FROM: usize = 1_024;

/// A shard naps when for so long nothing but pings came, and nothing was delivered.
const QUIET_US: u64 = 1_000_000;

/// How often sends under way are looked through for stuck ones.
const STUCK_CHECK_US: u64 = 500_000;

/// How long accepting rests after the process ran out of descriptors, unless one of ours is closed before.
const ACCEPT_REST_US: u64 = 250_000;

/// A paused connection's timer is looked at again after this.
const PAUSED_TIMER_MS: u64 = 2_000;

/// What the node asks of a shard. The lane is bounded by [`COMMAND_SLOTS`]; a full one makes the asker wait.
#[derive(Debug)]
pub(crate) enum Command {
    Snapshot(Sender<ShardSnapshot>),
    /// Stop accepting, say goodbye, flush for at most this long, end.
    Drain(Duration),
    /// End at once: another shard has died.
    Stop,
    #[cfg(test)]
    Panic,
}

pub(crate) const COMMAND_SLOTS: usize = 16;

/// What a worker is made of, beside its driver.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) core: Core,
    pub(crate) placement: Placement,
    pub(crate) policy: Policy,
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) hand_overs: Mailboxes<Box<HandOver>>,
    pub(crate) commands: Receiver<Command>,
}

/// One shard: its mind, its connections, its driver. Lives and dies on its thread.
#[derive(Debug)]
pub(crate) struct Worker<D> {
    pub(super) id: ShardId,
    pub(super) driver: D,
    pub(super) core: Core,
    pub(super) placement: Placement,
    pub(super) policy: Policy,
    pub(super) hand_overs: Mailboxes<Box<HandOver>>,
    pub(super) id_source: IdSource,
    /// The mind was told something after its step: it has to be stepped before the shard sleeps.
    pub(super) touched: bool,
    doorbell: Arc<Doorbell>,
    commands: Receiver<Command>,
    /// A phase of the last turn left something over.
    busy: bool,
    /// The end of the last wait.
    turn_started_us: u64,
    stuck_checked_us: u64,
    accepting: Accepting,
    /// Set by [`Command::Drain`] and [`Command::Stop`]: when to end even if peers have not taken their last bytes.
    drain_until_us: Option<u64>,
    /// Kept to reuse its memory.
    due: Vec<(Tick, Entry)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Yes,
    /// No slot is left: goes on when one is freed.
    AtLimit,
    /// No descriptor was left: goes on when one is freed, or at this time.
    Starved {
        until_us: u64,
    },
    Stopped,
}

impl<D: Driver> Worker<D> {
    pub(crate) fn new(driver: D, parts: Parts) -> Worker<D> {
        let Parts {
            core,
            placement,
            policy,
            doorbell,
            hand_overs,
            commands,
        } = parts;
        let now_us = driver.now_us();
        Worker {
            id: core.shard.id(),
            driver,
            core,
            placement,
            policy,
            hand_overs,
            id_source: IdSource::new(),
            touched: false,
            doorbell,
            commands,
            busy: false,
            turn_started_us: now_us,
            stuck_checked_us: now_us,
            accepting: Accepting::Yes,
            drain_until_us: None,
            due: Vec::new(),
        }
    }

    /// Serves until it is told to end.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        while self.turn()? {}
        Ok(())
    }

    /// One turn. `false`: the shard has drained.
    pub(crate) fn turn(&mut self) -> io::Result<bool> {
        let Some(wait) = self.before_wait() else {
            return Ok(false);
        };
        self.driver.wait(wait)?;
        self.after_wait();
        Ok(true)
    }

    /// Settles what the last turn left, and says how long to sleep. `None`: the shard has drained.
    pub(super) fn before_wait(&mut self) -> Option<Wait> {
        self.settle();
        self.account_turn();
        (!self.has_drained()).then(|| self.choose_wait())
    }

    /// Everything that came, each kind up to its bound.
    pub(super) fn after_wait(&mut self) {
        self.doorbell.awake();
        self.start_turn();
        while let Some(event) = self.driver.next() {
            self.dispatch(event);
        }
        let mut busy = self.driver.has_more();
        busy |= self.resume_some();
        busy |= self.take_hand_overs();
        self.take_commands();
        busy |= self.sweep_timers();
        self.housekeep();
        self.touched = false;
        let step = Step {
            envelopes_max: ENVELOPES_MAX,
        };
        let now = self.core.connections.now;
        busy |= self
            .core
            .shard
            .step(now, step, &mut self.core.connections)
            .busy;
        self.busy = busy;
    }

    fn account_turn(&mut self) {
        let now_us = self.driver.now_us();
        let tally = &mut self.core.connections.tally;
        tally.deliveries_left(now_us);
        tally.turn_ended(now_us.saturating_sub(self.turn_started_us));
    }

    fn start_turn(&mut self) {
        let now_us = self.driver.now_us();
        self.turn_started_us = now_us;
        self.core.connections.now_us = now_us;
        self.core.connections.now = millis(now_us);
        self.core.connections.work = 0;
    }

    /// Sleeps only where nothing is left over and, after the bell was set, nothing has come in between.
    fn choose_wait(&mut self) -> Wait {
        let look = Wait {
            timeout: Duration::ZERO,
            pace: Pace::Prompt,
        };
        let connections = &self.core.connections;
        let left_over = self.busy
            || self.touched
            || !connections.resumed.is_empty()
            || !connections.dirty.is_empty()
            || !connections.doomed.is_empty();
        if left_over {
            return look;
        }
        let (shard, inbox) = (&self.core.shard, &self.hand_overs.inbox);
        let commands = &self.commands;
        if !self
            .doorbell
            .doze(|| shard.mailbox_is_empty() && inbox.is_empty() && commands.is_empty())
        {
            return look;
        }
        Wait {
            timeout: self.sleep_time(),
            pace: self.choose_pace(),
        }
    }

    /// Most of what an idle connection costs are wake-ups, the shard's and its peer's. Where many connections only
    /// ping, what comes waits a little for company.
    fn choose_pace(&self) -> Pace {
        let connections = &self.core.connections;
        let quiet_us = connections.now_us.saturating_sub(connections.lively_at_us);
        if self.driver.batch_len() >= BATCH_FROM {
            Pace::Batch
        } else if connections.slab.len() >= NAP_FROM && quiet_us >= QUIET_US {
            Pace::Nap
        } else {
            Pace::Prompt
        }
    }

    fn sleep_time(&self) -> Duration {
        let connections = &self.core.connections;
        let next = connections
            .wheel
            .poll_timeout()
            .min(self.core.shard.poll_timeout(connections.now));
        let mut until_us = match next {
            Millis::NEVER => u64::MAX,
            Millis(ms) => ms.saturating_mul(1_000),
        };
        if let Accepting::Starved { until_us: resume } = self.accepting {
            until_us = until_us.min(resume);
        }
        if let Some(drain) = self.drain_until_us {
            until_us = until_us.min(drain);
        }
        if self.driver.sends_under_way() > 0 {
            until_us = until_us.min(self.stuck_checked_us + STUCK_CHECK_US);
        }
        // The turn's own clock is good enough: sleeping too long by a turn's length harms nobody, and too short
        // a sleep is followed by another.
        let sleep = until_us.saturating_sub(connections.now_us);
        Duration::from_micros(sleep).min(SLEEP_MAX)
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Accepted { listener, socket } => self.accepted(listener, socket),
            Event::AcceptStalled { error } => self.accept_stalled(&error),
            Event::Received { id, received } => {
                let connect = self.core.received(id, self.driver.bytes(&received));
                self.driver.recycle(received);
                self.after_received(id, connect);
            }
            Event::Ended { id, error } => self.core.ended(id, error),
            Event::Sent { id, bytes, queue } => self.sent(id, bytes, queue),
            Event::SendFailed { id, error, queue } => self.send_failed(id, &error, queue),
            Event::Closed { id } => self.closed(id),
        }
    }

    fn accepted(&mut self, listener: usize, socket: std::os::fd::OwnedFd) {
        if self.accepting == Accepting::Stopped || self.drain_until_us.is_some() {
            return;
        }
        // Accepts that were on their way when accepting paused find no slot: closed, as a full backlog would.
        if self.is_full() {
            return;
        }
        let connections = &mut self.core.connections;
        let timeout_ms = connections.mqtt.connect_timeout_ms;
        let codec = ServerConnection::with_connect_timeout(connections.now, timeout_ms);
        let id = connections.insert(codec, listener as u8);
        self.driver.adopt(id, socket);
        self.driver.receive(id, Receive::Once);
        self.slot_taken();
    }

    /// Whoever took it, an accept or a hand-over: those that come when none is left wait in the backlog.
    pub(super) fn slot_taken(&mut self) {
        if self.is_full() && self.accepting == Accepting::Yes {
            self.core.connections.tally.accept_pauses += 1;
            self.accepting = Accepting::AtLimit;
            self.driver.pause_accepting();
        }
    }

    fn is_full(&self) -> bool {
        let connections = &self.core.connections;
        connections.slab.len() >= connections.limits.connections_max
    }

    fn accept_stalled(&mut self, error: &io::Error) {
        if self.accepting == Accepting::Stopped {
            return;
        }
        self.core.connections.tally.accept_pauses += 1;
        let until_us = self.core.connections.now_us + ACCEPT_REST_US;
        if !matches!(self.accepting, Accepting::Starved { .. }) {
            tracing::warn!(shard = self.id.0, %error, "accepting pauses: raise the open files limit");
        }
        self.accepting = Accepting::Starved { until_us };
        self.driver.pause_accepting();
    }

    /// A slot and a descriptor are free. Hand-overs may have filled more slots than there are to give.
    pub(super) fn slot_freed(&mut self) {
        match self.accepting {
            Accepting::Yes | Accepting::Stopped => {}
            _ if self.is_full() => self.accepting = Accepting::AtLimit,
            Accepting::AtLimit | Accepting::Starved { .. } => {
                self.accepting = Accepting::Yes;
                self.driver.resume_accepting();
            }
        }
    }

    fn after_received(&mut self, id: ConnectionId, connect: Option<Box<Connect>>) {
        if let Some(connect) = connect {
            return self.place(id, connect);
        }
        let Some(connection) = self.core.connections.slab.get(id) else {
            return;
        };
        // While it waits for its turn to be decoded nothing may be armed: a CONNECT may be among what waits.
        if connection.state == State::AwaitConnect && !connection.has(mark::RESUMED) {
            self.driver.receive(id, Receive::Once);
        }
    }

    /// Decodes what was kept of connections that may go on. `true`: more wait.
    fn resume_some(&mut self) -> bool {
        for _ in 0..RESUMED_MAX {
            if self.core.is_worked_out() {
                break;
            }
            let Some(id) = self.core.connections.resumed.pop_front() else {
                return false;
            };
            let connections = &mut self.core.connections;
            let Some(connection) = connections.slab.get_mut(id) else {
                continue;
            };
            connection.clear(mark::RESUMED);
            if connection.is_paused() || !connection.is_open() {
                continue;
            }
            // The client's silence was our doing.
            connection.codec.restart_keep_alive(connections.now);
            let connect = self.core.decode_remainder(id);
            self.after_received(id, connect);
            let open = self
                .core
                .connections
                .slab
                .get(id)
                .filter(|connection| connection.is_open());
            if open.is_some_and(|connection| connection.has(mark::ENDED)) {
                // Waits again where there is still something undecoded.
                self.core.ended(id, None);
            }
            self.core.connections.mark_dirty(id);
        }
        !self.core.connections.resumed.is_empty()
    }

    /// `true`: more timers are due.
    fn sweep_timers(&mut self) -> bool {
        let mut due = std::mem::take(&mut self.due);
        let now = self.core.connections.now;
        let more = self.core.connections.wheel.sweep(now, TIMERS_MAX, &mut due);
        for (tick, entry) in due.drain(..) {
            let id = ConnectionId {
                index: entry.index,
                generation: entry.generation,
            };
            self.timer_due(id, tick);
        }
        self.due = due;
        more
    }

    fn timer_due(&mut self, id: ConnectionId, tick: Tick) {
        let connections = &mut self.core.connections;
        let now = connections.now;
        let Some(connection) = connections.slab.get_mut(id) else {
            return;
        };
        if connection.wheel_due != tick {
            return;
        }
        connection.wheel_due = 0;
        match connection.state {
            State::AwaitConnect | State::Connected if connection.is_paused() => {
                connections.file_timer(id, now + PAUSED_TIMER_MS);
            }
            State::AwaitConnect | State::Connected => match connection.codec.handle_timeout(now) {
                Ok(()) => {
                    let deadline = connection.codec.poll_timeout();
                    connections.file_timer(id, deadline);
                }
                Err(violation) => self.core.fail(id, &violation),
            },
            // The last bytes have had their second.
            State::Flushing | State::Lingering => self.close(id),
            State::Closing => {}
        }
    }

    fn housekeep(&mut self) {
        let now_us = self.core.connections.now_us;
        if let Accepting::Starved { until_us } = self.accepting {
            if until_us <= now_us {
                self.slot_freed();
            }
        }
        if self.driver.sends_under_way() > 0 && now_us >= self.stuck_checked_us + STUCK_CHECK_US {
            self.stuck_checked_us = now_us;
            let timeout_us = self.core.connections.limits.send_timeout.as_micros() as u64;
            for id in self.driver.stuck_sends(now_us.saturating_sub(timeout_us)) {
                self.core.connections.doomed.push((id, Ending::SendTimeout));
            }
        }
    }

    fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                // The asker may have given up meanwhile.
                Command::Snapshot(reply) => drop(reply.try_send(self.snapshot())),
                Command::Drain(within) => self.drain(within),
                Command::Stop => self.drain(Duration::ZERO),
                #[cfg(test)]
                Command::Panic => panic!("told to"),
            }
        }
    }

    /// Stops accepting and says goodbye to everyone. Sessions are not told: what lives on with them is for the
    /// next start, and wills of durable sessions must not fire because we restart.
    fn drain(&mut self, within: Duration) {
        if self.drain_until_us.is_none() {
            self.accepting = Accepting::Stopped;
            self.driver.stop_accepting();
        }
        let connections = &mut self.core.connections;
        self.drain_until_us = Some(connections.now_us + within.as_micros() as u64);
        let ids: Vec<_> = connections.slab.ids().collect();
        for id in ids {
            let Some(connection) = connections.slab.get(id) else {
                continue;
            };
            let ending = Ending::Reason(ReasonCode::ServerShuttingDown);
            match connection.state {
                State::Connected => {
                    let reason = ReasonCode::ServerShuttingDown;
                    connections.speak(id, |codec, _, sink| codec.disconnect(reason, sink));
                    connections.tally.count_disconnect(ending);
                }
                State::AwaitConnect => connections.tally.count_refused(ending),
                State::Flushing | State::Lingering | State::Closing => continue,
            }
            connections.begin_closing(id, true);
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.drain_until_us.is_some()
    }

    fn has_drained(&self) -> bool {
        let Some(until_us) = self.drain_until_us else {
            return false;
        };
        self.core.connections.slab.len() == 0 || self.turn_started_us >= until_us
    }

    fn snapshot(&mut self) -> ShardSnapshot {
        let connections = &self.core.connections;
        let tally = &connections.tally;
        ShardSnapshot {
            shard: self.id.0,
            connections: vec![("mqtt", "tcp", connections.slab.len() as u64)],
            connects_total: tally.connects("mqtt"),
            disconnects_total: tally.disconnects("mqtt"),
            messages_received_total: tally.received,
            messages_delivered_total: tally.delivered,
            bytes_received_total: tally.bytes_received,
            bytes_sent_total: tally.bytes_sent,
            auth_failures_total: tally.auth_failures(),
            accept_pauses_total: tally.accept_pauses,
            hand_overs_total: tally.hand_overs,
            hand_overs_refused_total: tally.hand_overs_refused,
            mailbox_depth: self.core.shard.mailbox_depth() as u64,
            busy_us_total: tally.busy_us,
            turns_total: tally.turns,
            turn_seconds: tally.turn_seconds.clone(),
            delivery_seconds: tally.delivery_seconds.clone(),
            connection_memory_bytes: connections.memory_bytes() + self.driver.memory_bytes(),
            driver_calls_total: self.driver.calls(),
            router: self.core.shard.counters().clone(),
        }
    }
}
