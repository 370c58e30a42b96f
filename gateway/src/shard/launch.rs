//! A shard's thread: pinned, with a glommio executor around the ring or bare for epoll, from start to end.

use std::os::fd::OwnedFd;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use glommio::{LocalExecutorBuilder, Placement as CpuPlacement};
use tidegate_codec::mqtt::connection::Limits;
use tidegate_shard_router::envelope::Envelope;
use tidegate_shard_router::mailbox::Mailboxes;
use tidegate_shard_router::{Doorbell, Placement, Shard, ShardConfig, ShardId};

use super::bell::EventFd;
use super::clock::Clock;
use super::decode::Core;
use super::driver::epoll::EpollDriver;
use super::driver::ring::{RingDriver, RingFeatures};
use super::driver::Driver;
use super::effects::Connections;
use super::hand_over::HandOver;
use super::worker::{Command, Parts, Worker};
use crate::auth::Policy;
use crate::node::{ConnectionLimits, IoDriver};

/// Nothing runs in the executor but the shard's loop, so nothing need be preempted; with a timer of a millisecond
/// or less glommio 0.9 was seen to sleep for ever.
const PREEMPT_TIMER: Duration = Duration::from_secs(3_600);

/// The executor does no input or output of its own.
const EXECUTOR_IO_MEMORY: usize = 64 << 10;
const EXECUTOR_RING_DEPTH: usize = 16;

/// Everything a shard's thread is started with.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) id: ShardId,
    pub(crate) io: IoDriver,
    pub(crate) cpu: Option<usize>,
    pub(crate) listeners: Vec<OwnedFd>,
    pub(crate) clock: Clock,
    pub(crate) bell: Arc<EventFd>,
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) placement: Placement,
    pub(crate) policy: Policy,
    pub(crate) shard: ShardConfig,
    pub(crate) connection: ConnectionLimits,
    pub(crate) mqtt: Arc<Limits>,
    pub(crate) mailboxes: Mailboxes<Envelope>,
    pub(crate) hand_overs: Mailboxes<Box<HandOver>>,
    pub(crate) commands: Receiver<Command>,
}

/// What a shard tells the node.
#[derive(Debug)]
pub(crate) enum Report {
    Serving(Option<RingFeatures>),
    Ended(Result<(), String>),
}

/// Where shards report; every shard reports its end once, whatever ends it.
pub(crate) type Reports = Sender<(ShardId, Report)>;

pub(crate) fn launch(plan: Plan, reports: Reports) -> std::io::Result<JoinHandle<()>> {
    let id = plan.id;
    std::thread::Builder::new()
        .name(format!("shard-{id}"))
        .spawn(move || {
            let ended = catch_unwind(AssertUnwindSafe(|| run(plan, &reports)));
            let ended = ended.unwrap_or_else(|panic| Err(describe(panic.as_ref())));
            // The node may have stopped listening.
            let _ = reports.send((id, Report::Ended(ended)));
        })
}

fn run(plan: Plan, reports: &Reports) -> Result<(), String> {
    match plan.io {
        IoDriver::Ring => run_in_executor(plan, reports),
        IoDriver::Epoll => run_bare(plan, reports),
    }
}

/// `make` and `run`, not `spawn`: that one answers Ok even where the executor cannot start.
fn run_in_executor(plan: Plan, reports: &Reports) -> Result<(), String> {
    let placement = plan.cpu.map_or(CpuPlacement::Unbound, CpuPlacement::Fixed);
    let executor = LocalExecutorBuilder::new(placement)
        .name(&format!("shard-{}", plan.id))
        .io_memory(EXECUTOR_IO_MEMORY)
        .ring_depth(EXECUTOR_RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .make()
        .map_err(|error| match plan.cpu {
            Some(cpu) => format!("the executor cannot start on CPU {cpu}: {error}"),
            None => format!("the executor cannot start: {error}"),
        })?;
    executor.run(async move {
        // Caught here, so that the end is reported even if the executor does not outlive a panic.
        let served = catch_unwind(AssertUnwindSafe(|| {
            let driver = RingDriver::new(plan.clock, plan.bell.clone(), RingFeatures::ALL)
                .map_err(|error| format!("io_uring: {error}; --io epoll does without"))?;
            let features = driver.features();
            serve(driver, Some(features), plan, reports)
        }));
        served.unwrap_or_else(|panic| Err(describe(panic.as_ref())))
    })
}

fn run_bare(plan: Plan, reports: &Reports) -> Result<(), String> {
    if let Some(cpu) = plan.cpu {
        pin(cpu).map_err(|error| format!("cannot be pinned to CPU {cpu}: {error}"))?;
    }
    let driver = EpollDriver::new(plan.clock, plan.bell.clone())
        .map_err(|error| format!("epoll: {error}"))?;
    serve(driver, None, plan, reports)
}

fn pin(cpu: usize) -> std::io::Result<()> {
    let mut cpus = rustix::thread::CpuSet::new();
    if cpu >= rustix::thread::CpuSet::MAX_CPU {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    cpus.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &cpus)?)
}

fn serve<D: Driver>(
    mut driver: D,
    features: Option<RingFeatures>,
    plan: Plan,
    reports: &Reports,
) -> Result<(), String> {
    for listener in plan.listeners {
        driver.listen(listener);
    }
    let shard = Shard::new(plan.id, plan.placement.clone(), plan.shard, plan.mailboxes);
    let connections = Connections::new(plan.connection, plan.mqtt, driver.now_us());
    let parts = Parts {
        core: Core { shard, connections },
        placement: plan.placement,
        policy: plan.policy,
        doorbell: plan.doorbell,
        hand_overs: plan.hand_overs,
        commands: plan.commands,
    };
    let mut worker = Worker::new(driver, parts);
    let _ = reports.send((plan.id, Report::Serving(features)));
    worker
        .run()
        .map_err(|error| format!("waiting for sockets failed: {error}"))
}

fn describe(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without words"))
}
