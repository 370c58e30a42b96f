//! One script against every driver: what a client is told must not depend on how its bytes are moved.
//!
//! The script is seeded and settled before its first byte: who publishes what, in pieces of which size, who rests
//! and for how long, who comes and goes and how. The clients are those of the simulated world. What may differ is
//! what the clients' order among each other decides: where deliveries stand between answers, and their packet ids.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, Sender};
use rustix::net::{sockopt, AddressFamily, SocketType};
use tidegate_codec::mqtt::ProtocolVersion;
use tidegate_codec::{Qos, ReasonCode};
use tidegate_shard_router::{mailbox, Doorbell};

use super::client::{topic_name, Character, Client, End, Journal, TOPICS};
use super::world::{parts, Plan, World, QOS};
use crate::shard::bell::{BellWake, EventFd};
use crate::shard::clock::Clock;
use crate::shard::driver::epoll::EpollDriver;
use crate::shard::driver::ring::{RingDriver, RingFeatures};
use crate::shard::driver::simulated::{Chance, Found, Line};
use crate::shard::driver::Driver;
use crate::shard::listener;
use crate::shard::worker::{Command, Worker, COMMAND_SLOTS};

const SHARDS: usize = 2;
const TALKERS: usize = 5;
const VISITORS: usize = 4;
const VISITS: usize = 10;
const PAYLOAD_MAX: usize = 20_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a narrow stage's buffers: the gateway's for sending, which the kernel makes what it allows at least, and
/// its clients' for receiving, which below that would wait for the timers of TCP.
const NARROW_SEND: usize = 1;
const NARROW_RECEIVE: usize = 16 << 10;

/// One thing a talker does in a round.
#[derive(Clone, Copy, Debug)]
enum Act {
    Publish {
        topic: u8,
        qos: Qos,
        len: usize,
    },
    Ping,
    /// Neither speaks nor listens for so many rounds.
    Rest(u32),
    /// Says so much in a round from here on.
    Pieces(usize),
    /// Listens to so much in a round from here on.
    Sips(usize),
}

/// How a visitor goes.
#[derive(Clone, Copy, Debug)]
enum Leave {
    Disconnect,
    HangUp,
    Reset,
    InMidPacket,
}

/// Stays from beginning to end.
#[derive(Clone, Debug)]
struct Talker {
    version: ProtocolVersion,
    filters: Vec<(String, Qos)>,
    acts: Vec<Act>,
}

#[derive(Clone, Debug)]
struct Script {
    seed: u64,
    talkers: Vec<Talker>,
    visitors: Vec<[Leave; VISITS]>,
}

impl Script {
    fn seeded(seed: u64) -> Script {
        let mut chance = Chance::new(seed);
        let chance = &mut chance;
        let talkers = (0..TALKERS).map(|_| Talker {
            version: *chance.pick(&ProtocolVersion::ALL),
            filters: (0..3).map(|_| filter(chance)).collect(),
            acts: (0..60).map(|_| act(chance)).collect(),
        });
        let talkers = talkers.collect();
        let ways = [
            Leave::Disconnect,
            Leave::HangUp,
            Leave::Reset,
            Leave::InMidPacket,
        ];
        let visitors = (0..VISITORS).map(|_| std::array::from_fn(|_| *chance.pick(&ways)));
        Script {
            seed,
            talkers,
            visitors: visitors.collect(),
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            seed: self.seed,
            mailbox_slots: 2_048,
            high_water: 64 << 20,
            payload_max: PAYLOAD_MAX,
            faults: None,
            room: 5_000,
            window: 5_000,
            ..Plan::story(SHARDS)
        }
    }
}

fn filter(chance: &mut Chance) -> (String, Qos) {
    let topic = chance.within(0..TOPICS) as u8;
    let filter = match chance.within(0..4) {
        0 => "t/#".to_owned(),
        1 => format!("t/{}/+", topic / 2),
        _ => topic_name(topic),
    };
    (filter, *chance.pick(&QOS))
}

fn act(chance: &mut Chance) -> Act {
    let sizes = [40, 300, 1_000, 5_000, 100_000];
    match chance.within(0..20) {
        0..=12 => Act::Publish {
            topic: chance.within(0..TOPICS) as u8,
            qos: *chance.pick(&QOS),
            len: match chance.within(0..8) {
                0 => chance.within(0..PAYLOAD_MAX),
                _ => chance.within(0..200),
            },
        },
        13..=14 => Act::Ping,
        15..=16 => Act::Rest(chance.within(1..20) as u32),
        17..=18 => Act::Pieces(*chance.pick(&sizes)),
        _ => Act::Sips(*chance.pick(&sizes[2..])),
    }
}

/// A gateway as its clients see it.
trait Stage {
    fn dial(&mut self) -> Line;
    fn write(&mut self, line: Line, bytes: &[u8]) -> usize;
    fn read(&mut self, line: Line, max: usize) -> Found;
    fn hang_up(&mut self, line: Line);
    fn reset(&mut self, line: Line);
    /// A moment passes.
    fn go_on(&mut self);
}

/// Somebody with a script.
struct Player {
    client: Client,
    chance: Chance,
    piece: usize,
    sip: usize,
    rests: u32,
}

impl Player {
    fn new(number: usize, version: ProtocolVersion) -> Player {
        let mut client = Client::new(Character {
            client_id: format!("player-{number}"),
            version,
            steady: true,
            clean_start: true,
            keep_alive: 0,
            may_be_closed: false,
        });
        client.journal = Some(Journal::new());
        Player {
            client,
            chance: Chance::new(number as u64),
            piece: 10_000,
            sip: 100_000,
            rests: 0,
        }
    }

    fn come(&mut self, stage: &mut dyn Stage, origin: u32) {
        let line = stage.dial();
        self.client.open(line, origin);
        self.client.connect(&mut self.chance);
    }

    fn speak_and_listen(&mut self, stage: &mut dyn Stage) {
        let piece = self.chance.within(1..2 * self.piece);
        self.client
            .write_some(piece, |line, bytes| stage.write(line, bytes));
        let mut ignored = Vec::new();
        let sip = self.sip;
        let end = self
            .client
            .read_some(0, &mut ignored, |line| stage.read(line, sip));
        assert!(
            !matches!(end, Some(End::Ended | End::Reset)),
            "{} was closed: {end:?}",
            self.client.character.client_id
        );
    }

    fn perform(&mut self, act: Act) {
        match act {
            Act::Publish { topic, qos, len } => self.client.publish(topic, qos, len, 0),
            Act::Ping => self.client.ping(),
            Act::Rest(rounds) => self.rests = rounds,
            Act::Pieces(bytes) => self.piece = bytes,
            Act::Sips(bytes) => self.sip = bytes,
        }
    }

    /// Goes, in the way the script wants.
    fn leave(&mut self, stage: &mut dyn Stage, how: Leave) {
        let Some(line) = self.client.talk.as_ref().map(|talk| talk.line) else {
            return;
        };
        match how {
            Leave::Disconnect => {
                self.client.disconnect(ReasonCode::Success);
                self.client
                    .write_some(usize::MAX, |line, bytes| stage.write(line, bytes));
                stage.hang_up(line);
            }
            Leave::HangUp => stage.hang_up(line),
            Leave::Reset => {
                self.client.ping();
                self.client
                    .write_some(usize::MAX, |line, bytes| stage.write(line, bytes));
                stage.reset(line);
            }
            Leave::InMidPacket => {
                self.client.publish(0, Qos::AtLeastOnce, 300, 0);
                self.client
                    .write_some(100, |line, bytes| stage.write(line, bytes));
                stage.hang_up(line);
            }
        }
        self.client.talk = None;
    }
}

/// What everybody was told.
fn play(stage: &mut dyn Stage, script: &Script) -> Vec<Journal> {
    let deadline = Instant::now() + PATIENCE;
    let mut talkers = Vec::new();
    for (number, talker) in script.talkers.iter().enumerate() {
        let mut player = Player::new(number, talker.version);
        player.come(stage, number as u32 + 1);
        talkers.push(player);
    }
    let mut asked = false;
    while !talkers.iter().all(|player| player.client.is_answered()) || !asked {
        assert!(Instant::now() < deadline, "the talkers do not get in");
        let connected = talkers.iter().all(|player| player.client.is_connected());
        if connected && !asked {
            for (player, talker) in talkers.iter_mut().zip(&script.talkers) {
                player.client.subscribe(&talker.filters);
            }
            asked = true;
        }
        for player in &mut talkers {
            player.speak_and_listen(stage);
        }
        stage.go_on();
    }

    let all_acts = || script.talkers.iter().flat_map(|talker| &talker.acts);
    let due: Vec<_> = talkers
        .iter()
        .map(|player| {
            let heard = |act: &&Act| {
                matches!(act, Act::Publish { topic, .. } if player.client.hears(*topic))
            };
            all_acts().filter(heard).count()
        })
        .collect();
    let mut acts: Vec<_> = script.talkers.iter().map(|t| t.acts.iter()).collect();
    let mut visitors: Vec<_> = (0..VISITORS)
        .map(|n| Player::new(TALKERS + n, ProtocolVersion::ALL[n % 3]))
        .collect();
    let mut visits: Vec<_> = script.visitors.iter().map(|ways| ways.iter()).collect();
    loop {
        let mut done = true;
        for ((player, acts), due) in talkers.iter_mut().zip(&mut acts).zip(&due) {
            done &= acts.len() == 0 && player.client.is_answered() && player.client.seen() == *due;
            if player.rests > 0 {
                player.rests -= 1;
                continue;
            }
            // A client keeps to what the gateway takes at once; the act stays for later.
            let next = acts.clone().next();
            if next.is_some_and(|act| match act {
                Act::Publish { qos, .. } => player.client.may_publish(*qos),
                _ => true,
            }) {
                acts.next().into_iter().for_each(|act| player.perform(*act));
            }
            player.speak_and_listen(stage);
        }
        for (number, (player, visits)) in visitors.iter_mut().zip(&mut visits).enumerate() {
            done &= visits.len() == 0 && player.client.talk.is_none();
            match &player.client.talk {
                None if visits.len() == 0 => continue,
                None => {
                    player.come(stage, 100 + number as u32);
                    (0..3).for_each(|_| player.client.ping());
                }
                Some(_) if player.client.is_answered() => {
                    let how = visits.next().expect("a visit ends as the script wants");
                    player.leave(stage, *how);
                    continue;
                }
                Some(_) => {}
            }
            player.speak_and_listen(stage);
        }
        if done {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "not everybody was told everything"
        );
        stage.go_on();
    }
    talkers
        .iter_mut()
        .chain(&mut visitors)
        .filter_map(|player| player.client.journal.take())
        .collect()
}

/// Shards of a simulated world.
struct Simulated(World);

impl Stage for Simulated {
    fn dial(&mut self) -> Line {
        let shard = self.0.chance.within(0..SHARDS);
        self.0.network.dial(shard)
    }

    fn write(&mut self, line: Line, bytes: &[u8]) -> usize {
        self.0.network.write(line, bytes)
    }

    fn read(&mut self, line: Line, max: usize) -> Found {
        self.0.network.read(line, max)
    }

    fn hang_up(&mut self, line: Line) {
        self.0.network.hang_up(line);
    }

    fn reset(&mut self, line: Line) {
        self.0.network.reset(line);
    }

    fn go_on(&mut self) {
        for seat in 0..SHARDS {
            self.0.step_seat(seat, false);
        }
        self.0.network.pass_time(500);
    }
}

/// Which system calls move the bytes of a [`Real`] stage.
#[derive(Clone, Copy, Debug)]
enum Io {
    Epoll,
    Ring {
        features: RingFeatures,
        buffers: u16,
    },
}

/// Shards on threads of their own, and sockets between them and their clients.
struct Real {
    addr: SocketAddr,
    narrow: bool,
    streams: Vec<Option<TcpStream>>,
    lanes: Vec<(Sender<Command>, Arc<Doorbell>)>,
    threads: Vec<JoinHandle<()>>,
}

impl Real {
    fn start(plan: &Plan, io: Io, narrow: bool) -> Real {
        let bells: Vec<_> = (0..SHARDS).map(|_| EventFd::new().unwrap()).collect();
        let doorbells: Vec<_> = bells
            .iter()
            .map(|bell| Arc::new(Doorbell::new(Box::new(BellWake(bell.clone())))))
            .collect();
        let (addr, sockets) =
            listener::bind("127.0.0.1:0".parse().unwrap(), SHARDS as u16).unwrap();
        let envelopes = mailbox::mesh(&doorbells, plan.mailbox_slots);
        let hand_overs = mailbox::mesh(&doorbells, plan.hand_over_slots);
        let clock = Clock::start();
        let mut real = Real {
            addr,
            narrow,
            streams: Vec::new(),
            lanes: Vec::new(),
            threads: Vec::new(),
        };
        let ends = sockets.into_iter().zip(envelopes).zip(hand_overs);
        for (index, ((socket, mailboxes), hand_overs)) in ends.enumerate() {
            if narrow {
                // Accepted sockets inherit it.
                sockopt::set_socket_send_buffer_size(&socket, NARROW_SEND).unwrap();
            }
            let (plan, bell, doorbell) = (plan.clone(), bells[index].clone(), &doorbells[index]);
            let (commands, receiver) = bounded(COMMAND_SLOTS);
            real.lanes.push((commands, doorbell.clone()));
            let doorbell = doorbell.clone();
            let serve = move || {
                let lanes = (mailboxes, hand_overs);
                let parts = parts(&plan, index, clock.now_us(), doorbell, lanes, receiver);
                let served = match io {
                    Io::Epoll => {
                        let mut driver = EpollDriver::new(clock, bell).unwrap();
                        driver.listen(socket);
                        Worker::new(driver, parts).run()
                    }
                    Io::Ring { features, buffers } => {
                        let driver = RingDriver::with_buffers(clock, bell, features, buffers);
                        let mut driver = driver.unwrap();
                        driver.listen(socket);
                        Worker::new(driver, parts).run()
                    }
                };
                served.unwrap();
            };
            real.threads.push(std::thread::spawn(serve));
        }
        real
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for (commands, doorbell) in &self.lanes {
            // A shard that has panicked hears nothing; its thread says so when it is joined.
            let _ = commands.send(command());
            doorbell.ring();
        }
    }

    /// Driver calls by kind, all shards together.
    fn calls(&self) -> BTreeMap<&'static str, u64> {
        let (reply, answers) = bounded(SHARDS);
        self.tell(|| Command::Snapshot(reply.clone()));
        let mut calls = BTreeMap::new();
        for _ in 0..SHARDS {
            let snapshot = answers.recv_timeout(PATIENCE).expect("a shard answers");
            for (kind, n) in snapshot.driver_calls_total {
                *calls.entry(kind).or_insert(0) += n;
            }
        }
        calls
    }

    fn stop(mut self) {
        self.tell(|| Command::Stop);
        for thread in self.threads.drain(..) {
            thread.join().expect("a shard ends in peace");
        }
    }

    fn stream(&mut self, line: Line) -> &mut TcpStream {
        self.streams[line].as_mut().expect("the line is open")
    }
}

impl Stage for Real {
    fn dial(&mut self) -> Line {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        if self.narrow {
            sockopt::set_socket_recv_buffer_size(&socket, NARROW_RECEIVE).unwrap();
        }
        rustix::net::connect(&socket, &self.addr).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        self.streams.push(Some(stream));
        self.streams.len() - 1
    }

    fn write(&mut self, line: Line, bytes: &[u8]) -> usize {
        match self.stream(line).write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("a client cannot write: {error}"),
        }
    }

    fn read(&mut self, line: Line, max: usize) -> Found {
        let mut bytes = vec![0; max.min(64 << 10)];
        match self.stream(line).read(&mut bytes) {
            Ok(0) => Found::End,
            Ok(read) => {
                bytes.truncate(read);
                Found::Bytes(bytes)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Found::Nothing,
            Err(_) => Found::Reset,
        }
    }

    fn hang_up(&mut self, line: Line) {
        self.streams[line] = None;
    }

    fn reset(&mut self, line: Line) {
        let stream = self.stream(line);
        sockopt::set_socket_linger(&*stream, Some(Duration::ZERO)).unwrap();
        self.streams[line] = None;
    }

    fn go_on(&mut self) {
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn play_really(
    script: &Script,
    io: Io,
    narrow: bool,
) -> (Vec<Journal>, BTreeMap<&'static str, u64>) {
    let mut real = Real::start(&script.plan(), io, narrow);
    let journals = play(&mut real, script);
    let calls = real.calls();
    real.stop();
    (journals, calls)
}

/// The same to the letter, and where it is not: who was told what else.
fn assert_same(told: &[Journal], expected: &[Journal], on: &str) {
    for (number, (told, expected)) in told.iter().zip(expected).enumerate() {
        for (kind, expected) in expected {
            let told = told.get(kind).map_or(&[][..], Vec::as_slice);
            let same = told
                .iter()
                .zip(expected)
                .take_while(|(a, b)| a == b)
                .count();
            assert!(
                told == expected,
                "player {number} on {on}: {kind} differs from number {same} on, {} of {}",
                told.len(),
                expected.len()
            );
        }
        assert!(told.keys().eq(expected.keys()), "player {number} on {on}");
    }
}

#[test]
fn every_driver_tells_its_clients_the_same() {
    let all = RingFeatures::ALL;
    let none = RingFeatures {
        defer_taskrun: false,
        multishot_receive: false,
        min_wait: false,
    };
    let single = RingFeatures {
        multishot_receive: false,
        ..all
    };
    let ring = |features, buffers| Io::Ring { features, buffers };
    let stages = [
        (Io::Epoll, true),
        (ring(all, 512), false),
        (ring(all, 512), true),
        (ring(all, 2), false),
        (ring(all, 4), true),
        (ring(single, 2), false),
        (ring(none, 4), true),
    ];
    let mut without_buffer = 0;
    for seed in 1..=3 {
        let script = Script::seeded(seed);
        let (expected, _) = play_really(&script, Io::Epoll, false);
        for (io, narrow) in stages {
            let (told, calls) = play_really(&script, io, narrow);
            assert_same(
                &told,
                &expected,
                &format!("{io:?}, narrow: {narrow}, seed {seed}"),
            );
            without_buffer += calls.get("receive_without_buffer").unwrap_or(&0);
        }
        for chance in 0..4 {
            let plan = Plan {
                seed: 10 * seed + chance,
                ..script.plan()
            };
            let told = play(&mut Simulated(World::new(plan)), &script);
            assert_same(
                &told,
                &expected,
                &format!("simulated {chance}, seed {seed}"),
            );
        }
    }
    assert!(without_buffer > 0, "no ring was ever short of buffers");
}
