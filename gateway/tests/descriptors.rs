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
        let gateway = Gateway::start(settings(layout));
        let mut waiting: Vec<TcpStream> = (0..30)
            .map(|_| rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap())
            .map(TcpStream::from)
            .collect();
        let before = getrlimit(Resource::Nofile);
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(highest_descriptor() + 11),
                ..before
            },
        )
        .unwrap();
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

fn highest_descriptor() -> u64 {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = descriptors.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.max().unwrap()
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
