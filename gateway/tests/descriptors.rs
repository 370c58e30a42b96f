//! What happens when the process runs out of descriptors. Alone in its file, because the limit is the process's.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType};
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use support::*;

/// CONNECT of MQTT 3.1.1 with an empty client id and a clean session.
const CONNECT: [u8; 14] = [0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 0];

#[test]
fn accepting_pauses_without_descriptors_and_goes_on_when_one_is_free() {
    for layout in LAYOUTS
        .into_iter()
        .filter(|layout| layout.shards <= 2 || layout.io == IoDriver::Epoll)
    {
        let needed = descriptors_of_a_gateway(layout);
        let mut waiting: Vec<TcpStream> = (0..30)
            .map(|_| rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap())
            .map(TcpStream::from)
            .collect();
        // Before the start, because io_uring takes the limit when it is told to accept.
        let before = getrlimit(Resource::Nofile);
        let current = Some(limit_with_free(needed + 10));
        setrlimit(Resource::Nofile, Rlimit { current, ..before }).unwrap();
        let gateway = Gateway::start(settings(layout));
        for stream in &mut waiting {
            rustix::net::connect(&*stream, &gateway.addr).unwrap();
            stream.write_all(&CONNECT).unwrap();
            stream.set_nonblocking(true).unwrap();
        }
        let mut let_in = Vec::new();
        await_some(&gateway, &mut waiting, &mut let_in, |let_in| let_in >= 5);
        let turns = gateway.total(|shard| shard.turns_total);
        std::thread::sleep(Duration::from_millis(200));
        let spent = gateway.total(|shard| shard.turns_total) - turns;
        assert!(
            spent < 20 * u64::from(layout.shards),
            "{spent} turns while nothing could be done"
        );
        assert!(gateway.total(|shard| shard.accept_pauses_total) > 0);
        // Each that leaves makes room for one that waits.
        while !waiting.is_empty() {
            let so_far = let_in.len();
            let_in.drain(..so_far.min(3));
            let left = let_in.len();
            await_some(&gateway, &mut waiting, &mut let_in, |let_in| let_in > left);
        }
        setrlimit(Resource::Nofile, before).unwrap();
        drop(let_in);
        gateway.end();
    }
}

fn descriptors_of_a_gateway(layout: Layout) -> u64 {
    let without = descriptors().count();
    let gateway = Gateway::start(settings(layout));
    let with = descriptors().count();
    gateway.end();
    (with - without) as u64
}

/// The limit below which `free` numbers are not taken.
fn limit_with_free(free: u64) -> u64 {
    let taken: Vec<u64> = descriptors().collect();
    let below = |limit: u64| taken.iter().filter(|number| **number < limit).count() as u64;
    (0..).find(|limit| limit - below(*limit) == free).unwrap()
}

fn descriptors() -> impl Iterator<Item = u64> {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    descriptors.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Moves those that have their CONNACK from `waiting` to `let_in` until there are enough.
fn await_some(
    gateway: &Gateway,
    waiting: &mut Vec<TcpStream>,
    let_in: &mut Vec<TcpStream>,
    enough: impl Fn(usize) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    while !enough(let_in.len()) && !waiting.is_empty() {
        assert!(
            Instant::now() < deadline,
            "{} are let in, {} wait",
            let_in.len(),
            waiting.len()
        );
        let answered = |stream: &mut TcpStream| stream.read(&mut [0; 4]).is_ok_and(|len| len == 4);
        let_in.extend(waiting.extract_if(.., answered));
        gateway.snapshots();
    }
}
