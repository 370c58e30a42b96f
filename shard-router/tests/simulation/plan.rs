//! What a seed decides once, before the first step: how large everything is and how often things go wrong.

use tidegate_codec::Qos;
use tidegate_shard_router::ShardConfig;

use crate::rng::Rng;

/// What stands behind `StoreOp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreKind {
    None,
    /// Every operation holds at once.
    Immediate,
    /// Operations hold in groups, later.
    Grouped,
}

/// Chances in a thousand, once a step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) stall: u32,
    pub(crate) clock_jump: u32,
    pub(crate) choke: u32,
    pub(crate) crash: u32,
    pub(crate) kick: u32,
    pub(crate) time_out: u32,
}

/// Chances in a thousand, once an act of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Habits {
    pub(crate) drop: u32,
    /// While it waits for SUBACK.
    pub(crate) impatient: u32,
    pub(crate) give_up: u32,
    pub(crate) goodbye: u32,
    pub(crate) subscribe: u32,
    pub(crate) unsubscribe: u32,
    pub(crate) clean_start: u32,
    pub(crate) durable: u32,
    pub(crate) will: u32,
    pub(crate) expiry: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) shards: u16,
    pub(crate) slots: usize,
    pub(crate) config: ShardConfig,
    pub(crate) store: StoreKind,
    /// How often in a thousand steps the disk moves on.
    pub(crate) commits: u32,
    pub(crate) clients: usize,
    /// Shard turns, client acts and network moves a step.
    pub(crate) turns: usize,
    pub(crate) acts: usize,
    pub(crate) moves: usize,
    /// The largest envelope budget of a turn, and the most packets of one move.
    pub(crate) envelopes: usize,
    pub(crate) batch: usize,
    /// PUBLISH packets a client sends in one go, at most.
    pub(crate) burst: usize,
    /// Packets a connection's out-queue takes before it is full.
    pub(crate) high_water: usize,
    /// Steps a hand-over may fly and an authentication may take.
    pub(crate) hand_over_steps: usize,
    pub(crate) qos: [Qos; 4],
    pub(crate) faults: Faults,
    pub(crate) habits: Habits,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Plan {
        let rng = &mut Rng::new(seed);
        let shards = rng.pick(&[1, 2, 2, 2, 3, 3, 4, 5, 8, 16]);
        let clients = rng.between(3, 10);
        let all = [
            Qos::AtMostOnce,
            Qos::AtLeastOnce,
            Qos::AtLeastOnce,
            Qos::ExactlyOnce,
        ];
        Plan {
            seed,
            shards,
            slots: rng.pick(&[1, 1, 2, 2, 3, 8, 64]),
            config: config(rng),
            store: rng.pick(&[
                StoreKind::None,
                StoreKind::Immediate,
                StoreKind::Grouped,
                StoreKind::Grouped,
            ]),
            commits: rng.pick(&[20, 200, 1_000]),
            clients,
            turns: rng.between(1, 2 + usize::from(shards)),
            acts: rng.between(1, 3),
            moves: rng.between(1, 4),
            envelopes: rng.pick(&[1, 2, 4, 16]),
            batch: rng.pick(&[1, 3, 8]),
            burst: rng.pick(&[1, 2, 4, 8]),
            high_water: rng.pick(&[2, 4, 16, 1_000]),
            hand_over_steps: rng.pick(&[2, 10, 40]),
            qos: rng.pick(&[all, all, all, [Qos::ExactlyOnce; 4], [Qos::AtLeastOnce; 4]]),
            faults: faults(rng),
            habits: habits(rng),
        }
    }
}

fn config(rng: &mut Rng) -> ShardConfig {
    ShardConfig {
        receive_maximum: rng.pick(&[1, 2, 4, 8, 32]),
        inflight_max: rng.pick(&[1, 2, 5, 256]),
        // Mostly large, because only where nothing may be dropped nothing may be missing.
        queue_messages_max: rng.pick(&[3, 20, 10_000, 10_000, 10_000, 10_000]),
        publish_credits: rng.pick(&[1, 1, 2, 3, 8, 64]),
        ..ShardConfig::default()
    }
}

fn faults(rng: &mut Rng) -> Faults {
    let mut some = |most: usize| rng.pick(&[0, 1, 1, 1]) * rng.between(1, most) as u32;
    Faults {
        stall: some(20),
        clock_jump: some(10),
        choke: some(20),
        crash: some(4),
        kick: some(10),
        time_out: some(30),
    }
}

fn habits(rng: &mut Rng) -> Habits {
    let mut some = |most: usize| rng.between(1, most) as u32;
    Habits {
        drop: some(40),
        impatient: some(200),
        give_up: some(40),
        goodbye: some(40),
        subscribe: some(200),
        unsubscribe: some(60),
        clean_start: some(300),
        durable: 300 + some(700),
        will: some(800),
        expiry: some(300),
    }
}
