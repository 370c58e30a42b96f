//! The sleep and wake protocol under loom: the real doorbell and the real mailboxes, over models of the atomics, in every
//! order of steps and with every value a weakly ordered read may give. A lost wake-up is a model in which everybody
//! waits, which loom calls a deadlock.
//!
//! `make loom`, which sets `--cfg loom`; without it this file is empty.
//!
//! What is proved can also fail, and each way to lose a wake-up is planted once below: without the fence of the
//! sleeper or of the senders, without the second look, and with the bell rung before the post.

#![cfg(loom)]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "sources of the crate, of which a model needs a part"
)]

#[path = "../../src/doorbell.rs"]
mod doorbell;
#[path = "../../src/key.rs"]
mod key;
#[path = "../../src/mailbox.rs"]
mod mailbox;
#[path = "../../src/planted.rs"]
mod planted;
mod sync;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use doorbell::{Doorbell, Wake};
use loom::sync::Notify;
use loom::thread;
use mailbox::{mesh, Mailboxes, Outbox};
use sync::{leave_out, WithoutFence};

/// For models that are too large for every execution.
const PREEMPTIONS: Option<usize> = Some(3);

/// The eventfd of a shard: a write wakes whoever waits, or the next who will.
struct EventFd(Arc<Notify>);

impl Wake for EventFd {
    fn wake(&self) {
        self.0.notify();
    }
}

/// One shard that sleeps whenever it can, and as many that send to it.
struct World {
    bell: Arc<Doorbell>,
    eventfd: Arc<Notify>,
    shards: Vec<Mailboxes<u32>>,
}

impl World {
    fn new(senders: usize, slots: usize) -> World {
        let eventfd = Arc::new(Notify::new());
        let bell = Arc::new(Doorbell::new(Box::new(EventFd(eventfd.clone()))));
        // Nobody writes to the senders; their bells are never rung.
        let mut bells = vec![bell.clone()];
        bells.resize_with(1 + senders, || {
            Arc::new(Doorbell::new(Box::new(EventFd(Arc::new(Notify::new())))))
        });
        World {
            bell,
            eventfd,
            shards: mesh(&bells, slots),
        }
    }

    /// A sender with its outbox towards the sleeper.
    fn send(
        &mut self,
        work: impl FnOnce(&mut Outbox<u32>) + Send + 'static,
    ) -> thread::JoinHandle<()> {
        let mut outbox = self.shards.pop().expect("a sender").outboxes.swap_remove(0);
        let sender = thread::Builder::new().name("sender".to_owned());
        sender.spawn(move || work(&mut outbox)).expect("a thread")
    }

    /// What the gateway's loop does: take everything, look whether it may sleep, sleep.
    fn take(&self, count: usize, second_look: bool) {
        let inbox = &self.shards[0].inbox;
        let mut taken = 0;
        while taken < count {
            while inbox.take().is_some() {
                taken += 1;
            }
            if taken < count && self.bell.doze(|| !second_look || inbox.is_empty()) {
                self.eventfd.wait();
                self.bell.awake();
            }
        }
    }
}

fn post_and_ring(outbox: &mut Outbox<u32>) {
    outbox.post(1).expect("a free slot");
    outbox.ring();
}

/// Every execution of `world`, of which there are so many. With a bound, those in which no more than so many threads
/// are interrupted where they could have gone on: bugs need few, and three threads make too many executions for a
/// test that is run every day.
fn explore(preemptions: Option<usize>, world: impl Fn() + Send + Sync + 'static) -> u64 {
    let executions = Arc::new(AtomicU64::new(0));
    let count = executions.clone();
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    model.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        world();
    });
    executions.load(Ordering::Relaxed)
}

/// One item from each sender reaches a shard that sleeps whenever it can.
fn each_sends_once(senders: usize, preemptions: Option<usize>, second_look: bool) -> u64 {
    explore(preemptions, move || {
        let mut world = World::new(senders, 1);
        let threads: Vec<_> = (0..senders).map(|_| world.send(post_and_ring)).collect();
        world.take(senders, second_look);
        for thread in threads {
            thread.join().expect("the sender ends");
        }
    })
}

/// Shown by `--nocapture`; a model that explores next to nothing proves nothing.
#[expect(clippy::print_stdout, reason = "for the person who runs it")]
fn report(executions: u64) {
    println!("{executions} executions");
    assert!(executions > 50, "{executions}");
}

#[test]
fn no_wake_up_of_one_sender_is_lost() {
    report(each_sends_once(1, None, true));
}

#[test]
fn no_wake_up_of_two_senders_is_lost() {
    report(each_sends_once(2, PREEMPTIONS, true));
}

#[test]
fn no_wake_up_is_lost_where_the_sleeper_falls_asleep_again() {
    report(explore(PREEMPTIONS, || {
        let mut world = World::new(1, 2);
        let sender = world.send(|outbox| {
            post_and_ring(outbox);
            post_and_ring(outbox);
        });
        world.take(2, true);
        sender.join().expect("the sender ends");
    }));
}

/// The model of the channel refuses nothing: where a slot counted as free is not, it fails.
#[test]
fn a_slot_is_free_again_only_when_its_item_was_taken() {
    report(explore(PREEMPTIONS, || {
        let mut world = World::new(1, 1);
        let sender = world.send(|outbox| {
            post_and_ring(outbox);
            while outbox.post(2).is_err() {
                thread::yield_now();
            }
            outbox.ring();
        });
        world.take(2, true);
        sender.join().expect("the sender ends");
    }));
}

#[test]
#[should_panic(expected = "deadlock")]
fn planted_lost_wake_up_without_the_sleepers_fence() {
    leave_out(WithoutFence::Sleeper);
    each_sends_once(1, None, true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn planted_lost_wake_up_without_the_senders_fence() {
    leave_out(WithoutFence::Senders);
    each_sends_once(1, None, true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn planted_lost_wake_up_without_the_second_look() {
    each_sends_once(1, None, false);
}

#[test]
#[should_panic(expected = "deadlock")]
fn planted_lost_wake_up_with_the_bell_rung_before_the_post() {
    explore(None, || {
        let mut world = World::new(1, 1);
        let bell = world.bell.clone();
        let sender = world.send(move |outbox| {
            bell.ring();
            outbox.post(1).expect("a free slot");
        });
        world.take(1, true);
        sender.join().expect("the sender ends");
    });
}
