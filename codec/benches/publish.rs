//! What a PUBLISH costs at both ends of a server: nanoseconds and allocations a packet. Fails where decoding costs
//! more than its one allocation or encoding any.
//!
//! `cargo bench -p tidegate-codec`
//!
//! Holds unsafe code: an allocator that counts.

#![expect(
    clippy::print_stdout,
    reason = "a bench speaks to the person who runs it"
)]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tidegate_codec::conversation::{Ack, Delivery, Millis};
use tidegate_codec::mqtt::client::{ClientConnection, ConnectOptions};
use tidegate_codec::mqtt::connection::{Accepted, Event, Limits, ServerConnection};
use tidegate_codec::mqtt::ProtocolVersion::{self, V3_1_1, V5};
use tidegate_codec::{Message, Qos, ReasonCode};

const ROUNDS: u64 = 2_000;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LIMITS: Limits = Limits::DEFAULT;

fn server(version: ProtocolVersion) -> ServerConnection {
    let mut bytes = Vec::new();
    let options = ConnectOptions {
        client_id: "c".into(),
        ..ConnectOptions::default()
    };
    ClientConnection::new(version).connect(&options, &mut bytes);
    let mut server = ServerConnection::new(Millis(0));
    let mut out = Vec::new();
    match server.handle_bytes(Millis(0), &mut &bytes[..], &LIMITS, &mut out) {
        Ok(Some(Event::Connect(connect))) => {
            server.accept(Millis(0), &connect, &Accepted::default(), &LIMITS, &mut out);
        }
        other => panic!("{other:?}"),
    }
    server
}

/// The best of many batches: what the code costs where nobody else wants the processor.
fn measure(what: &str, allocations_max: u64, mut round: impl FnMut()) {
    // `cargo test --all-targets` only looks whether it runs.
    let batches = if std::env::args().any(|arg| arg == "--bench") {
        500
    } else {
        1
    };
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let mut best = f64::MAX;
    for _ in 0..batches {
        let started = Instant::now();
        (0..ROUNDS).for_each(|_| round());
        best = best.min(started.elapsed().as_nanos() as f64 / ROUNDS as f64);
    }
    let allocations = (ALLOCATIONS.load(Ordering::Relaxed) - before) / (batches * ROUNDS);
    println!("{what:52} {best:7.1} ns  {allocations} allocations");
    assert!(
        allocations <= allocations_max,
        "{what}: more than {allocations_max} allocations"
    );
}

fn main() {
    const TOPIC: &str = "fleet/4711/position/gps";
    let properties = b"\x01\x01\x03\0\x10application/json\x26\0\x03vin\0\x11LTEST000000000001";
    for version in [V3_1_1, V5] {
        for (qos, properties) in [
            (Qos::AtMostOnce, &[][..]),
            (Qos::AtMostOnce, properties),
            (Qos::AtLeastOnce, &[]),
        ] {
            let mut packet = Vec::new();
            ClientConnection::new(version).publish(
                TOPIC,
                &[7; 64],
                qos,
                false,
                false,
                1,
                properties,
                &mut packet,
            );
            let mut server = server(version);
            let mut out = Vec::with_capacity(1_024);
            let label = format!(
                "{version:?} {qos:?}, {} bytes of properties",
                properties.len()
            );
            measure(&format!("decode {label}"), 1, || {
                let event = server.handle_bytes(Millis(1), &mut &packet[..], &LIMITS, &mut out);
                let Ok(Some(Event::Publish(publish))) = black_box(event) else {
                    panic!()
                };
                if publish.packet_id != 0 {
                    let ack = Ack::PubAck {
                        packet_id: publish.packet_id,
                        reason: ReasonCode::Success,
                    };
                    server.acknowledge(&ack, &mut out);
                }
                out.clear();
            });
            let message = Message::new(TOPIC, properties, &[7; 64], qos, false);
            measure(&format!("encode {label}"), 0, || {
                let delivery = Delivery {
                    message: &message,
                    qos,
                    retain: false,
                    dup: false,
                    packet_id: 9,
                    subscription_ids: &[],
                    expiry_seconds: None,
                };
                black_box(server.deliver(black_box(&delivery), &mut out));
                out.clear();
            });
        }
    }
}
