//! One thread of the flooder: an epoll loop over its connections.
//!
//! A turn takes what epoll has, handles it, lets the publishers publish, and then writes each
//! connection that has something to say once. In steady state nothing is allocated: buffers go
//! round.

mod dialog;

use std::net::SocketAddr;
use std::sync::Arc;

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{epoll, Timespec};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use tidegate_codec::conversation::Delivered;
use tidegate_codec::mqtt::client::ConnectOptions;
use tidegate_codec::ReasonCode;

use super::client::{Client, Ending, Flushed, Stage};
use super::plan::ClientPlan;
use super::shared::{Counter, Phase, Shared};
use super::traffic::Traffic;
use crate::cli::LoadArgs;
use crate::clock::{nanoseconds, Clock};
use crate::failure::Failure;
use crate::limits;
use crate::outcome::nanosecond_histogram;
use crate::pacer::Pacer;
use crate::source::Sources;

/// Connections handled in one turn.
const EVENTS: usize = 1_024;
/// The longest wait, and the beat of everything that only needs to be looked at now and then.
const SWEEP_NS: u64 = 50_000_000;
/// How long brokers get to answer DISCONNECT by closing.
const FAREWELL_NS: u64 = 2_000_000_000;
/// Space for reading; larger payloads get more.
const READ_BYTES: usize = 256 * 1024;
/// The packet id of the one SUBSCRIBE. Publishes begin at 1 only after it was answered.
const SUBSCRIBE_ID: u16 = 1;
/// Epoll's name for the mailbox.
const BELL: u64 = u64::MAX;

/// What all workers of a run know.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) load: LoadArgs,
    pub(crate) clock: Clock,
    pub(crate) targets: Vec<SocketAddr>,
    pub(crate) sources: Sources,
    /// By client number.
    pub(crate) clients: Vec<ClientPlan>,
    pub(crate) publishers: usize,
}

/// One thread's connections.
pub(crate) struct Worker {
    thread: u32,
    setting: Arc<Setting>,
    shared: Arc<Shared>,
    epoll: OwnedFd,
    clients: Vec<Client>,
    traffic: Traffic,
    phase: Phase,
    /// The next client to open.
    next_to_open: usize,
    /// Opened and not yet ready.
    opening: u32,
    connect_pacer: Option<Pacer>,
    /// Pings go round all clients, so that each pings once per keep-alive.
    ping_pacer: Option<Pacer>,
    /// Connections with something to write; each at most once.
    dirty: Vec<u32>,
    /// Write buffers that wait for their next use.
    spare: Vec<Vec<u8>>,
    read_buffer: Vec<u8>,
    next_sweep_ns: u64,
    farewell_until_ns: u64,
    connect_latency: Histogram<u64>,
    ping_latency: Histogram<u64>,
}

/// What a worker leaves behind.
pub(crate) struct Finished {
    pub(crate) traffic: Traffic,
    pub(crate) connect_latency: Histogram<u64>,
    pub(crate) ping_latency: Histogram<u64>,
}

impl Worker {
    pub(crate) fn new(
        thread: u32,
        setting: Arc<Setting>,
        shared: Arc<Shared>,
        clients: Vec<Client>,
        traffic: Traffic,
    ) -> Result<Worker, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| Failure::system("cannot make an epoll descriptor", error))?;
        let bell = shared.desks[thread as usize].mailbox.bell();
        epoll::add(
            &epoll,
            bell,
            epoll::EventData::new_u64(BELL),
            epoll::EventFlags::IN,
        )
        .map_err(|error| Failure::system("cannot watch an eventfd", error))?;
        let now = setting.clock.now_ns();
        let threads = f64::from(setting.load.threads);
        let keep_alive = f64::from(setting.load.keep_alive);
        let ping_rate = clients.len() as f64 / keep_alive;
        Ok(Worker {
            thread,
            epoll,
            phase: Phase::Connect,
            next_to_open: 0,
            opening: 0,
            connect_pacer: setting
                .load
                .connect_rate
                .map(|rate| Pacer::new(rate / threads, now)),
            ping_pacer: (keep_alive > 0.0).then(|| Pacer::new(ping_rate, now)),
            dirty: Vec::with_capacity(clients.len()),
            spare: Vec::new(),
            read_buffer: vec![0; READ_BYTES.max(4 * setting.load.payload)],
            next_sweep_ns: 0,
            farewell_until_ns: u64::MAX,
            connect_latency: nanosecond_histogram(),
            ping_latency: nanosecond_histogram(),
            setting,
            shared,
            clients,
            traffic,
        })
    }

    /// Runs until the goodbye.
    pub(crate) fn run(mut self) -> Result<Finished, Failure> {
        if let Some(cpus) = &self.setting.load.cpus {
            limits::pin_to(cpus.0[self.thread as usize % cpus.0.len()])?;
        }
        limits::sharpen_timers();
        let mut events = Vec::with_capacity(EVENTS);
        let mut freed = Vec::new();
        while !self.is_finished() {
            self.wait(&mut events)?;
            for event in events.drain(..) {
                match event.data.u64() {
                    BELL => self.shared.desks[self.thread as usize]
                        .mailbox
                        .take(&mut freed),
                    index => self.handle_event(index as u32, event.flags),
                }
            }
            self.traffic.take_freed(&mut freed);
            let now = self.setting.clock.now_ns();
            self.observe_phase(now);
            self.open_connections(now);
            self.send_pings(now);
            self.traffic.release_due(now);
            self.publish();
            self.flush_dirty();
            self.sweep(now);
            self.traffic.post_freed(&self.shared);
            self.shared.desks[self.thread as usize].show(&self.traffic.tally);
        }
        self.shared.desks[self.thread as usize].hand_over(&mut self.traffic.latency);
        Ok(Finished {
            traffic: self.traffic,
            connect_latency: self.connect_latency,
            ping_latency: self.ping_latency,
        })
    }

    fn is_finished(&self) -> bool {
        self.phase == Phase::Close
            && (self.setting.clock.now_ns() > self.farewell_until_ns
                || self
                    .clients
                    .iter()
                    .all(|client| matches!(client.stage, Stage::Closed | Stage::Unopened)))
    }

    /// Waits for events, but not beyond what is due next.
    fn wait(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), Failure> {
        let now = self.setting.clock.now_ns();
        let mut until = self.next_sweep_ns;
        for due in [
            self.traffic.next_due_ns(),
            self.ping_pacer.as_ref().map(Pacer::next_due_ns),
        ] {
            until = until.min(due.unwrap_or(u64::MAX));
        }
        if self.may_open() {
            until = until.min(self.connect_pacer.as_ref().map_or(0, Pacer::next_due_ns));
        }
        if self.traffic.has_ready() || !self.dirty.is_empty() {
            until = 0;
        }
        let wait = until.saturating_sub(now);
        let timeout = Timespec {
            tv_sec: (wait / 1_000_000_000) as i64,
            tv_nsec: (wait % 1_000_000_000) as _,
        };
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Failure::system("epoll_wait", error)),
        }
    }

    fn observe_phase(&mut self, now: u64) {
        self.traffic.observe_measurement(&self.shared);
        let phase = self.shared.phase();
        if phase == self.phase {
            return;
        }
        self.phase = phase;
        match phase {
            Phase::Connect | Phase::Hold => {}
            Phase::Publish => {
                let share =
                    self.traffic.publishers.len() as f64 / self.setting.publishers.max(1) as f64;
                self.traffic
                    .start(self.setting.load.rate.map(|rate| rate * share), now);
            }
            Phase::Drain => {
                self.traffic.stop();
                self.ping_pacer = None;
            }
            Phase::Close => self.say_goodbye(now),
        }
    }

    // Opening connections.

    fn may_open(&self) -> bool {
        let limit = (self.setting.load.opening / self.setting.load.threads).max(1);
        self.phase == Phase::Connect
            && self.next_to_open < self.clients.len()
            && self.opening < limit
    }

    fn open_connections(&mut self, now: u64) {
        while self.may_open() {
            if self
                .connect_pacer
                .as_mut()
                .is_some_and(|pacer| pacer.take_due(now, 1) == 0)
            {
                return;
            }
            let index = self.next_to_open as u32;
            self.next_to_open += 1;
            self.opening += 1;
            if let Err(errno) = self.open(index) {
                self.end(index, errno.into());
            }
        }
    }

    fn open(&mut self, index: u32) -> Result<(), Errno> {
        let now = self.setting.clock.now_ns();
        let client = &mut self.clients[index as usize];
        client.stage = Stage::AwaitConnAck;
        client.since_ns = now;
        let load = &self.setting.load;
        let options = ConnectOptions {
            version: load.version,
            client_id: format!("{}{}", load.client_id_prefix, client.number),
            keep_alive: load.keep_alive,
            user_name: load.username.clone(),
            password: load.password.clone().map(String::into_bytes),
            // What the read buffer holds; nothing the flooder asked for is larger.
            maximum_packet_size: Some(self.read_buffer.len() as u32),
            ..ConnectOptions::default()
        };
        client.conversation.connect(&options, &mut client.out);
        let target = self.setting.targets[client.number as usize % self.setting.targets.len()];
        let socket = client.open(target, self.setting.sources.of(client.number))?;
        epoll::add(
            &self.epoll,
            socket,
            epoll::EventData::new_u64(u64::from(index)),
            epoll::EventFlags::IN,
        )?;
        self.mark_dirty(index);
        Ok(())
    }

    // Writing.

    fn mark_dirty(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        if !client.is_dirty {
            client.is_dirty = true;
            self.dirty.push(index);
        }
    }

    fn publish(&mut self) {
        let turn = self.traffic.begin_turn();
        for &index in &turn {
            let client_index = self.traffic.publishers[index as usize].client;
            let client = &mut self.clients[client_index as usize];
            if client.stage != Stage::Ready {
                continue;
            }
            if client.waits_to_write {
                self.traffic.hold_for_backlog(index);
                continue;
            }
            take_buffer(&mut self.spare, &mut client.out);
            let now = self.setting.clock.now_ns();
            let (conversation, out) = (&mut client.conversation, &mut client.out);
            match self
                .traffic
                .publish(&self.shared, index, now, conversation, out)
            {
                Delivered::Written => self.mark_dirty(client_index),
                Delivered::TooLarge => self.end(client_index, Ending::PayloadTooLarge),
            }
        }
        self.traffic.end_turn(turn);
    }

    fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            self.clients[index as usize].is_dirty = false;
            if let Err(errno) = self.flush(index) {
                self.end(index, errno.into());
            }
        }
        self.dirty = dirty;
    }

    fn flush(&mut self, index: u32) -> Result<(), Errno> {
        let client = &mut self.clients[index as usize];
        let had_anything = !client.out.is_empty();
        let wants = had_anything && client.flush()? == Flushed::Some;
        if wants != client.waits_to_write {
            client.waits_to_write = wants;
            let flags = if wants {
                epoll::EventFlags::IN | epoll::EventFlags::OUT
            } else {
                epoll::EventFlags::IN
            };
            if let Some(socket) = client.socket() {
                epoll::modify(
                    &self.epoll,
                    socket,
                    epoll::EventData::new_u64(u64::from(index)),
                    flags,
                )?;
            }
        }
        if !wants && client.out.capacity() > 0 {
            self.spare.push(std::mem::take(&mut client.out));
        }
        // A publisher that is bounded by the socket, not by its window, goes on as soon as there is
        // room.
        if let Some(publisher) = client.publisher.filter(|_| !wants && had_anything) {
            self.traffic.continue_after_backlog(publisher);
        }
        Ok(())
    }

    fn send_pings(&mut self, now: u64) {
        let Some(pacer) = &mut self.ping_pacer else {
            return;
        };
        let first = pacer.released();
        let due = pacer.take_due(now, self.clients.len() as u64);
        for ping in first..first + due {
            let index = (ping % self.clients.len() as u64) as u32;
            let client = &mut self.clients[index as usize];
            if client.stage != Stage::Ready || client.since_ns != 0 {
                continue;
            }
            client.since_ns = now;
            take_buffer(&mut self.spare, &mut client.out);
            client.conversation.ping(&mut client.out);
            self.traffic.tally.add(Counter::PingsSent, 1);
            self.mark_dirty(index);
        }
    }

    // Now and then, and the end.

    fn sweep(&mut self, now: u64) {
        if now < self.next_sweep_ns {
            return;
        }
        self.next_sweep_ns = now + SWEEP_NS;
        self.shared.desks[self.thread as usize].hand_over(&mut self.traffic.latency);
        if self.phase == Phase::Publish {
            let timeout = nanoseconds(self.setting.load.loss_timeout);
            self.traffic.write_off(&self.shared, now, timeout);
        }
        if self.phase == Phase::Connect && self.opening > 0 {
            self.end_late_connects(now);
        }
    }

    fn end_late_connects(&mut self, now: u64) {
        let timeout = nanoseconds(self.setting.load.connect_timeout);
        for index in 0..self.next_to_open as u32 {
            let client = &self.clients[index as usize];
            let is_opening = matches!(client.stage, Stage::AwaitConnAck | Stage::AwaitSubAck);
            if is_opening && now.saturating_sub(client.since_ns) > timeout {
                self.end(index, Ending::TimedOut);
            }
        }
    }

    /// Closes a connection and counts why, unless it was on its way out.
    fn end(&mut self, index: u32, ending: Ending) {
        let client = &mut self.clients[index as usize];
        let stage = client.stage;
        client.close();
        match stage {
            Stage::Leaving | Stage::Closed | Stage::Unopened => return,
            Stage::AwaitConnAck | Stage::AwaitSubAck => {
                self.opening -= 1;
                self.traffic.tally.add(Counter::Failed, 1);
            }
            Stage::Ready => self.traffic.tally.add(Counter::Closed, 1),
        }
        let number = client.number;
        let load = &self.setting.load;
        self.shared.report_fault(&ending.reason(), || {
            format!("{}{number}: {ending}", load.client_id_prefix)
        });
    }

    fn say_goodbye(&mut self, now: u64) {
        self.farewell_until_ns = now + FAREWELL_NS;
        self.ping_pacer = None;
        for index in 0..self.clients.len() as u32 {
            let client = &mut self.clients[index as usize];
            match client.stage {
                Stage::Ready => {
                    client.stage = Stage::Leaving;
                    take_buffer(&mut self.spare, &mut client.out);
                    client
                        .conversation
                        .disconnect(ReasonCode::Success, None, &mut client.out);
                    self.mark_dirty(index);
                }
                Stage::AwaitConnAck | Stage::AwaitSubAck => client.close(),
                _ => {}
            }
        }
    }
}

/// Gives an empty write buffer a used one, so that steady traffic allocates nothing.
fn take_buffer(spare: &mut Vec<Vec<u8>>, out: &mut Vec<u8>) {
    if out.capacity() == 0 {
        if let Some(buffer) = spare.pop() {
            *out = buffer;
        }
    }
}
