//! What every driver must do, told once and asked of each: the ring with all its features, the ring without them
//! one by one, the ring with two buffers, and epoll.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_codec::FrameSink;
use tidegate_shard_router::{ConnectionId, Wake};

use super::epoll::{EpollDriver, ACCEPTS_MAX};
use super::ring::{RingDriver, RingFeatures};
use super::{Driver, Event, Pace, Receive, SendOrder, Wait, NAP};
use crate::shard::bell::{BellWake, EventFd};
use crate::shard::clock::Clock;
use crate::shard::out_queue::OutQueue;

const PATIENCE: Duration = Duration::from_secs(10);

fn for_every_driver(story: impl Fn(&mut dyn Tested)) {
    let all = RingFeatures::ALL;
    let rings = [
        all,
        RingFeatures {
            multishot_receive: false,
            ..all
        },
        RingFeatures {
            defer_taskrun: false,
            ..all
        },
        RingFeatures {
            min_wait: false,
            ..all
        },
        RingFeatures {
            defer_taskrun: false,
            multishot_receive: false,
            min_wait: false,
        },
    ];
    for allow in rings {
        let bell = EventFd::new().unwrap();
        let driver = RingDriver::new(Clock::start(), bell.clone(), allow).unwrap();
        story(&mut Bench { driver, bell });
    }
    // Hardly anything to receive into.
    let bell = EventFd::new().unwrap();
    let driver = RingDriver::with_buffers(Clock::start(), bell.clone(), all, 2).unwrap();
    story(&mut Bench { driver, bell });
    let bell = EventFd::new().unwrap();
    story(&mut Bench {
        driver: EpollDriver::new(Clock::start(), bell.clone()).unwrap(),
        bell,
    });
}

struct Bench<D> {
    driver: D,
    bell: Arc<EventFd>,
}

/// An event with its bytes copied out.
#[derive(Debug, PartialEq)]
enum Seen {
    Accepted,
    Bytes(ConnectionId, Vec<u8>),
    Ended(ConnectionId),
    Sent(ConnectionId),
    SendFailed(ConnectionId),
    Closed(ConnectionId),
}

/// What the stories need of a driver, so that one story serves all.
trait Tested {
    fn driver(&mut self) -> &mut dyn Orders;
    fn bell(&self) -> Arc<EventFd>;
    /// Waits once and takes what came.
    fn look(&mut self, timeout: Duration) -> Vec<Seen>;
    fn order_send(&mut self, id: ConnectionId, queue: OutQueue) -> Option<Seen>;
}

trait Orders {
    fn listen(&mut self, socket: OwnedFd);
    fn pause_accepting(&mut self);
    fn resume_accepting(&mut self);
    fn adopt(&mut self, id: ConnectionId, socket: OwnedFd);
    fn release(&mut self, id: ConnectionId) -> OwnedFd;
    fn receive(&mut self, id: ConnectionId, how: Receive);
    fn stop_receiving(&mut self, id: ConnectionId);
    fn close(&mut self, id: ConnectionId);
    fn stuck_sends(&self, before_us: u64) -> Vec<ConnectionId>;
    fn sends_under_way(&self) -> usize;
}

impl<D: Driver> Orders for D {
    fn listen(&mut self, socket: OwnedFd) {
        Driver::listen(self, socket);
    }
    fn pause_accepting(&mut self) {
        Driver::pause_accepting(self);
    }
    fn resume_accepting(&mut self) {
        Driver::resume_accepting(self);
    }
    fn adopt(&mut self, id: ConnectionId, socket: OwnedFd) {
        Driver::adopt(self, id, socket);
    }
    fn release(&mut self, id: ConnectionId) -> OwnedFd {
        Driver::release(self, id)
    }
    fn receive(&mut self, id: ConnectionId, how: Receive) {
        Driver::receive(self, id, how);
    }
    fn stop_receiving(&mut self, id: ConnectionId) {
        Driver::stop_receiving(self, id);
    }
    fn close(&mut self, id: ConnectionId) {
        Driver::close(self, id);
    }
    fn stuck_sends(&self, before_us: u64) -> Vec<ConnectionId> {
        Driver::stuck_sends(self, before_us)
    }
    fn sends_under_way(&self) -> usize {
        Driver::sends_under_way(self)
    }
}

impl<D: Driver> Tested for Bench<D> {
    fn driver(&mut self) -> &mut dyn Orders {
        &mut self.driver
    }

    fn bell(&self) -> Arc<EventFd> {
        self.bell.clone()
    }

    fn look(&mut self, timeout: Duration) -> Vec<Seen> {
        self.driver
            .wait(Wait {
                timeout,
                pace: Pace::Prompt,
            })
            .unwrap();
        let mut seen = Vec::new();
        while let Some(event) = self.driver.next() {
            seen.push(match event {
                Event::Accepted { .. } => Seen::Accepted,
                Event::AcceptStalled { error } => panic!("{error}"),
                Event::Received { id, received } => {
                    let bytes = self.driver.bytes(&received).to_vec();
                    self.driver.recycle(received);
                    Seen::Bytes(id, bytes)
                }
                Event::Ended { id, .. } => Seen::Ended(id),
                Event::Sent { id, queue, .. } if queue.is_empty() => Seen::Sent(id),
                Event::Sent { id, queue, .. } => match self.driver.send(id, queue) {
                    SendOrder::UnderWay => continue,
                    SendOrder::Done(_) => Seen::Sent(id),
                    SendOrder::Failed(..) => Seen::SendFailed(id),
                },
                Event::SendFailed { id, .. } => Seen::SendFailed(id),
                Event::Closed { id } => Seen::Closed(id),
            });
        }
        seen
    }

    fn order_send(&mut self, id: ConnectionId, queue: OutQueue) -> Option<Seen> {
        match self.driver.send(id, Box::new(queue)) {
            SendOrder::UnderWay => None,
            SendOrder::Done(_) => Some(Seen::Sent(id)),
            SendOrder::Failed(..) => Some(Seen::SendFailed(id)),
        }
    }
}

/// Looks until `enough` says so.
fn look_until(tested: &mut dyn Tested, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while !enough(&seen) {
        assert!(Instant::now() < deadline, "only {seen:?} came");
        seen.extend(tested.look(Duration::from_millis(50)));
    }
    seen
}

fn bytes_of(seen: &[Seen], of: ConnectionId) -> Vec<u8> {
    let mut all = Vec::new();
    for event in seen {
        match event {
            Seen::Bytes(id, bytes) if *id == of => all.extend(bytes),
            _ => {}
        }
    }
    all
}

const FIRST: ConnectionId = ConnectionId {
    index: 3,
    generation: 1,
};

fn pair() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0.into())
}

fn adopted(tested: &mut dyn Tested, id: ConnectionId) -> TcpStream {
    let (near, far) = pair();
    tested.driver().adopt(id, far);
    near
}

/// Nothing comes for a moment.
fn expect_nothing(tested: &mut dyn Tested) {
    for _ in 0..3 {
        assert_eq!(tested.look(Duration::from_millis(10)), []);
    }
}

#[test]
fn a_single_receive_leaves_nothing_armed() {
    for_every_driver(|tested| {
        let mut near = adopted(tested, FIRST);
        near.write_all(b"one").unwrap();
        expect_nothing(tested);
        tested.driver().receive(FIRST, Receive::Once);
        let seen = look_until(tested, |seen| !seen.is_empty());
        assert_eq!(seen, [Seen::Bytes(FIRST, b"one".to_vec())]);
        near.write_all(b"two").unwrap();
        expect_nothing(tested);
        // So the descriptor may change its driver, and what nobody has read goes along.
        let socket = tested.driver().release(FIRST);
        let second = ConnectionId {
            generation: 2,
            ..FIRST
        };
        tested.driver().adopt(second, socket);
        tested.driver().receive(second, Receive::Continuous);
        let seen = look_until(tested, |seen| !seen.is_empty());
        assert_eq!(seen, [Seen::Bytes(second, b"two".to_vec())]);
    });
}

#[test]
fn a_continuous_receive_goes_on_until_it_is_stopped_and_starts_again() {
    for_every_driver(|tested| {
        let mut near = adopted(tested, FIRST);
        tested.driver().receive(FIRST, Receive::Continuous);
        for text in [b"one", b"two"] {
            near.write_all(text).unwrap();
            let seen = look_until(tested, |seen| !seen.is_empty());
            assert_eq!(bytes_of(&seen, FIRST), text);
        }
        tested.driver().stop_receiving(FIRST);
        expect_nothing(tested);
        near.write_all(b"three").unwrap();
        expect_nothing(tested);
        tested.driver().receive(FIRST, Receive::Continuous);
        let seen = look_until(tested, |seen| bytes_of(seen, FIRST).len() >= 5);
        assert_eq!(bytes_of(&seen, FIRST), b"three");
        // Stopped and started before the kernel has heard of either.
        tested.driver().stop_receiving(FIRST);
        tested.driver().receive(FIRST, Receive::Continuous);
        near.write_all(b"four").unwrap();
        let seen = look_until(tested, |seen| bytes_of(seen, FIRST).len() >= 4);
        assert_eq!(bytes_of(&seen, FIRST), b"four");
        drop(near);
        look_until(tested, |seen| seen.contains(&Seen::Ended(FIRST)));
    });
}

#[test]
fn a_turn_that_never_sleeps_still_sees_its_sockets() {
    for_every_driver(|tested| {
        let mut near = adopted(tested, FIRST);
        tested.driver().receive(FIRST, Receive::Continuous);
        tested.look(Duration::ZERO);
        near.write_all(b"hello").unwrap();
        let mut seen = Vec::new();
        for _ in 0..100_000 {
            seen.extend(tested.look(Duration::ZERO));
            if !seen.is_empty() {
                break;
            }
        }
        assert_eq!(bytes_of(&seen, FIRST), b"hello");
    });
}

#[test]
fn more_input_than_there_are_buffers_arrives_whole_and_in_order() {
    for_every_driver(|tested| {
        // 4 MiB on each of four connections are twice what the ring has buffers for, on each of them.
        let ids: Vec<_> = (0..4)
            .map(|index| ConnectionId {
                index,
                generation: 9,
            })
            .collect();
        let content: Vec<u8> = (0..4 << 20).map(|n: u32| (n % 251) as u8).collect();
        let mut writers = Vec::new();
        for &id in &ids {
            let mut near = adopted(tested, id);
            tested.driver().receive(id, Receive::Continuous);
            let content = content.clone();
            writers.push(std::thread::spawn(move || {
                near.write_all(&content).unwrap()
            }));
        }
        let ended = |seen: &[Seen]| seen.iter().filter(|s| matches!(s, Seen::Ended(_))).count();
        let seen = look_until(tested, |seen| ended(seen) == ids.len());
        for id in ids {
            assert!(bytes_of(&seen, id) == content);
        }
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
    });
}

#[test]
fn a_large_send_arrives_whole_whatever_the_kernel_takes_at_once() {
    for_every_driver(|tested| {
        let mut near = adopted(tested, FIRST);
        let block: Arc<[u8]> = (0..100_000u32).map(|n| (n % 241) as u8).collect();
        let mut queue = OutQueue::default();
        let mut expected = Vec::new();
        for n in 0..200u32 {
            queue.put(&n.to_be_bytes());
            queue.put_shared(&block, 0..block.len());
            expected.extend(n.to_be_bytes());
            expected.extend(&block[..]);
        }
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; expected.len()];
            near.read_exact(&mut all).unwrap();
            assert!(all == expected);
        });
        if tested.order_send(FIRST, queue).is_none() {
            look_until(tested, |seen| seen.contains(&Seen::Sent(FIRST)));
        }
        reader.join().unwrap();
    });
}

#[test]
fn a_few_sends_of_a_turn_are_done_at_once_and_many_share_their_calls() {
    let bell = EventFd::new().unwrap();
    let driver = RingDriver::new(Clock::start(), bell.clone(), RingFeatures::ALL).unwrap();
    let tested: &mut dyn Tested = &mut Bench { driver, bell };
    let id = |index| ConnectionId {
        index,
        generation: 1,
    };
    let near: Vec<_> = (0..20).map(|index| adopted(tested, id(index))).collect();
    // Says which of them were done by the order itself, and waits for the others.
    let send_to = |tested: &mut dyn Tested, count: u32| {
        let mut under_way = 0;
        for index in 0..count {
            let mut queue = OutQueue::default();
            queue.put(b"hello");
            under_way += usize::from(tested.order_send(id(index), queue).is_none());
        }
        if under_way == 0 {
            tested.look(Duration::ZERO);
        } else {
            look_until(tested, |seen| seen.len() == under_way);
        }
        count as usize - under_way
    };
    assert_eq!(send_to(tested, 8), 8);
    assert_eq!(send_to(tested, 20), 8, "the others share one call");
    assert_eq!(
        send_to(tested, 1),
        0,
        "a turn after many is taken for another"
    );
    tested.look(Duration::ZERO);
    assert_eq!(send_to(tested, 1), 1);
    let mut all = vec![0; 4 * 5];
    (&near[0]).read_exact(&mut all).unwrap();
}

#[test]
fn a_send_nobody_takes_is_known_as_stuck_and_given_back_by_closing() {
    for_every_driver(|tested| {
        let near = adopted(tested, FIRST);
        let mut queue = OutQueue::default();
        queue.put(&vec![0; 32 << 20]);
        assert_eq!(tested.order_send(FIRST, queue), None);
        // Until the kernel's buffers are full it makes progress.
        for _ in 0..20 {
            tested.look(Duration::from_millis(5));
        }
        assert_eq!(tested.driver().sends_under_way(), 1);
        assert_eq!(tested.driver().stuck_sends(u64::MAX), [FIRST]);
        assert_eq!(tested.driver().stuck_sends(0), []);
        tested.driver().close(FIRST);
        let seen = look_until(tested, |seen| seen.contains(&Seen::Closed(FIRST)));
        assert!(seen.contains(&Seen::SendFailed(FIRST)));
        assert_eq!(seen.last(), Some(&Seen::Closed(FIRST)));
        assert_eq!(tested.driver().sends_under_way(), 0);
        drop(near);
    });
}

#[test]
fn closing_waits_for_what_is_under_way_and_frees_the_slot() {
    for_every_driver(|tested| {
        for generation in 1..20 {
            let id = ConnectionId {
                generation,
                ..FIRST
            };
            let mut near = adopted(tested, id);
            tested.driver().receive(id, Receive::Continuous);
            tested.look(Duration::ZERO);
            if generation % 2 == 0 {
                near.write_all(b"unread").unwrap();
            }
            tested.driver().close(id);
            let seen = look_until(tested, |seen| seen.contains(&Seen::Closed(id)));
            assert_eq!(seen.last(), Some(&Seen::Closed(id)));
            let mut end = [0; 1];
            // The end of the stream, or a reset where something stayed unread.
            assert!(matches!(near.read(&mut end), Ok(0) | Err(_)));
        }
    });
}

#[test]
fn what_an_earlier_tenant_was_sent_never_reaches_a_later_one() {
    for_every_driver(|tested| {
        let mut earlier = Vec::new();
        for generation in 1..100u32 {
            let id = ConnectionId {
                generation,
                ..FIRST
            };
            let tag = generation.to_be_bytes();
            let mut near = adopted(tested, id);
            tested.driver().receive(id, Receive::Continuous);
            let mut queue = OutQueue::default();
            queue.put(&tag);
            let mut seen: Vec<_> = tested.order_send(id, queue).into_iter().collect();
            // Closed with bytes on their way in both directions, now before the kernel has heard of either order.
            near.write_all(&tag).unwrap();
            if generation % 3 > 0 {
                seen.extend(tested.look(Duration::ZERO));
            }
            near.write_all(&tag).unwrap();
            tested.driver().close(id);
            while !seen.contains(&Seen::Closed(id)) {
                seen.extend(tested.look(Duration::from_millis(50)));
            }
            for event in &seen {
                match event {
                    Seen::Bytes(of, bytes) => {
                        assert_eq!(*of, id);
                        assert!(bytes.chunks(4).all(|chunk| chunk == tag), "{bytes:?}");
                    }
                    Seen::Accepted => panic!("nobody listens"),
                    Seen::Ended(of) | Seen::Sent(of) | Seen::SendFailed(of) | Seen::Closed(of) => {
                        assert_eq!(*of, id);
                    }
                }
            }
            // The earlier peer lives on and may still say something.
            let _ = near.write_all(&tag);
            earlier.push(near);
        }
    });
}

#[test]
fn epoll_accepts_a_bounded_number_a_turn_and_the_rest_with_the_next() {
    let bell = EventFd::new().unwrap();
    let mut bench = Bench {
        driver: EpollDriver::new(Clock::start(), bell.clone()).unwrap(),
        bell,
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    bench.driver().listen(listener.into());
    let waiting = ACCEPTS_MAX + 10;
    let _streams: Vec<_> = (0..waiting)
        .map(|_| TcpStream::connect(addr).unwrap())
        .collect();
    assert_eq!(bench.look(Duration::ZERO).len(), ACCEPTS_MAX);
    assert_eq!(bench.look(Duration::ZERO).len(), 10);
    expect_nothing(&mut bench);
}

#[test]
fn a_nap_waits_for_company_but_no_longer_than_it_may() {
    let bell = EventFd::new().unwrap();
    let mut driver = RingDriver::new(Clock::start(), bell.clone(), RingFeatures::ALL).unwrap();
    if !driver.features().min_wait {
        return; // The kernel has no such wait: naps are prompt.
    }
    let wake = BellWake(bell);
    let nap = |driver: &mut RingDriver, timeout| {
        let started = Instant::now();
        let pace = Pace::Nap;
        driver.wait(Wait { timeout, pace }).unwrap();
        while driver.next().is_some() {}
        started.elapsed()
    };
    nap(&mut driver, Duration::ZERO);
    wake.wake();
    let slept = nap(&mut driver, Duration::from_secs(5));
    assert!(slept >= NAP - Duration::from_millis(1), "{slept:?}");
    assert!(slept < Duration::from_secs(4), "{slept:?}");
    wake.wake();
    let slept = nap(&mut driver, Duration::from_millis(2));
    assert!(slept < NAP, "a timer ends a nap: {slept:?}");
}

#[test]
fn the_bell_wakes_a_sleeper_every_time() {
    for_every_driver(|tested| {
        expect_nothing(tested);
        let wake = BellWake(tested.bell());
        let (asleep, told) = std::sync::mpsc::channel();
        let waker = std::thread::spawn(move || {
            while told.recv().is_ok() {
                wake.wake();
            }
        });
        for _ in 0..20 {
            asleep.send(()).unwrap();
            let started = Instant::now();
            assert_eq!(tested.look(PATIENCE), []);
            assert!(started.elapsed() < PATIENCE / 2, "woken by the clock only");
        }
        drop(asleep);
        waker.join().unwrap();
        // One wake is one end of sleep: nothing is left that would keep the shard awake.
        let started = Instant::now();
        tested.look(Duration::from_millis(20));
        assert!(started.elapsed() >= Duration::from_millis(19));
    });
}

#[test]
fn accepting_pauses_and_goes_on_with_what_waited() {
    for_every_driver(|tested| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        tested.driver().listen(listener.into());
        let accepted = |seen: &[Seen]| seen.iter().filter(|s| **s == Seen::Accepted).count();
        let mut streams: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
        look_until(tested, |seen| accepted(seen) == 3);
        tested.driver().pause_accepting();
        expect_nothing(tested);
        streams.push(TcpStream::connect(addr).unwrap());
        expect_nothing(tested);
        tested.driver().resume_accepting();
        look_until(tested, |seen| accepted(seen) == 1);
        // Paused and resumed before the kernel has heard of either.
        tested.driver().pause_accepting();
        tested.driver().resume_accepting();
        streams.push(TcpStream::connect(addr).unwrap());
        look_until(tested, |seen| accepted(seen) == 1);
    });
}

#[test]
fn a_driver_may_go_with_everything_under_way() {
    for_every_driver(|tested| {
        for index in 0..50 {
            let id = ConnectionId {
                index,
                generation: 1,
            };
            let near = adopted(tested, id);
            tested.driver().receive(id, Receive::Continuous);
            let mut queue = OutQueue::default();
            queue.put(&vec![0; 8 << 20]);
            tested.order_send(id, queue);
            std::mem::forget(near);
        }
        tested.look(Duration::ZERO);
    });
}
