//! The engine: carries out a [`Plan`] and comes back with an [`Outcome`].
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`plan`] | what a scenario asks for, as data |
//! | [`mod@worker`] | one thread: the epoll loop over its connections, and its answers |
//! | [`client`] | one connection: socket, conversation, buffers |
//! | [`traffic`] | one thread's publishers and ledgers |
//! | [`window`] | messages in flight, shared by all threads |
//! | [`shared`] | phase, counters, wake-ups |
//! | [`conductor`] | the main thread: phases and measurements |

mod client;
mod conductor;
pub(crate) mod plan;
mod shared;
mod traffic;
mod window;
mod worker;

use std::ops::Range;
use std::process;
use std::sync::Arc;
use std::thread;

use crate::cli::LoadArgs;
use crate::clock::Clock;
use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::limits;
use crate::outcome::Outcome;
use crate::payload::PayloadCodec;
use crate::procstat::Processes;
use crate::source::{self, Sources};

use client::Client;
use conductor::Conductor;
use plan::Plan;
use shared::{Place, Shared};
use traffic::{Publisher, Traffic};
use window::Window;
use worker::{Finished, Setting, Worker};

/// Runs a plan from the first connection to the verdict.
pub(crate) fn run(load: &LoadArgs, plan: Plan) -> Result<Outcome, Failure> {
    let clients = plan.clients.len() as u32;
    // A thread without a client would only wait.
    let load = LoadArgs {
        threads: load.threads.min(clients),
        ..load.clone()
    };
    limits::make_room(clients, load.threads)?;
    let targets: Vec<_> = load.targets.iter().map(|target| target.addr).collect();
    let sources = Sources::plan(clients, &targets, &load.sources, source::local_ports())?;
    load.targets.iter().try_for_each(|target| target.probe())?;
    let processes = find_processes(&load);

    let receivers = plan.receivers();
    let windows = plan
        .publishers
        .iter()
        .map(|_| Window::new(load.inflight()))
        .collect();
    let shared = Arc::new(Shared::new(
        windows,
        places(&plan, load.threads),
        load.threads,
    )?);
    let setting = Arc::new(Setting {
        clock: Clock::start(),
        targets,
        sources,
        publishers: plan.publishers.len(),
        clients: plan.clients.clone(),
        load,
    });
    let mut threads = Vec::new();
    for thread in 0..setting.load.threads {
        let worker = worker(thread, &setting, &shared, &plan, &receivers)?;
        let builder = thread::Builder::new().name(format!("flood-{thread}"));
        let handle = builder
            .spawn(move || worker.run())
            .map_err(|error| Failure::system("cannot start a thread", error))?;
        threads.push(handle);
    }
    Conductor::new(&setting, &shared, &plan, processes, threads).conduct()
}

fn find_processes(load: &LoadArgs) -> Processes {
    if !load.pids.is_empty() {
        return Processes::of_pids(&load.pids);
    }
    let here: Vec<_> = load
        .targets
        .iter()
        .filter(|target| target.is_on_this_host())
        .map(|target| target.addr)
        .collect();
    if here.is_empty() {
        Processes::default()
    } else {
        Processes::listening_on(&here)
    }
}

/// The clients of one thread: a stretch of the plan, so that neighbours, who often talk, share a
/// thread.
fn clients_of(thread: u32, threads: u32, clients: usize) -> Range<usize> {
    let bound = |thread: u32| clients * thread as usize / threads as usize;
    bound(thread)..bound(thread + 1)
}

/// By publisher number: the thread it lives on and its index there.
fn places(plan: &Plan, threads: u32) -> Vec<Place> {
    let mut counts = vec![0; threads as usize];
    let ranges: Vec<_> = (0..threads)
        .map(|thread| clients_of(thread, threads, plan.clients.len()))
        .collect();
    let place = |client: u32| {
        let thread = ranges.partition_point(|range| range.end <= client as usize);
        let index = counts[thread];
        counts[thread] += 1;
        Place {
            thread: thread as u32,
            index,
        }
    };
    plan.publishers
        .iter()
        .map(|publisher| publisher.client)
        .map(place)
        .collect()
}

fn worker(
    thread: u32,
    setting: &Arc<Setting>,
    shared: &Arc<Shared>,
    plan: &Plan,
    receivers: &[u32],
) -> Result<Worker, Failure> {
    let load = &setting.load;
    let range = clients_of(thread, load.threads, plan.clients.len());
    let mut clients: Vec<_> = range
        .clone()
        .map(|number| Client::new(number as u32, load.version))
        .collect();
    let ledgers = plan.clients[range.clone()]
        .iter()
        .map(|client| Ledger::new(client.listens_to.clone()))
        .collect();
    let mut publishers = Vec::new();
    for (number, publisher) in plan.publishers.iter().enumerate() {
        if shared.places[number].thread == thread {
            let client = publisher.client - range.start as u32;
            clients[client as usize].publisher = Some(publishers.len() as u32);
            let (number, receivers) = (number as u32, receivers[number]);
            publishers.push(Publisher::new(
                number,
                client,
                publisher.topic.clone(),
                receivers,
                load.inflight(),
            ));
        }
    }
    // Told from other runs by the process id: nothing of an earlier run is still on its way.
    let payloads = PayloadCodec::new(process::id(), load.payload);
    let traffic = Traffic::new(
        thread,
        load.threads,
        load.qos,
        payloads,
        ledgers,
        publishers,
    );
    Worker::new(
        thread,
        Arc::clone(setting),
        Arc::clone(shared),
        clients,
        traffic,
    )
}

#[cfg(test)]
mod tests {
    use super::plan::{ClientPlan, PublisherPlan};
    use super::*;

    #[test]
    fn every_client_belongs_to_one_thread() {
        for threads in 1..8 {
            let ranges: Vec<_> = (0..threads)
                .flat_map(|thread| clients_of(thread, threads, 100))
                .collect();
            assert_eq!(ranges, (0..100).collect::<Vec<_>>());
        }
    }

    #[test]
    fn publishers_are_found_on_the_thread_of_their_client() {
        let publisher = |client| PublisherPlan {
            client,
            topic: String::new(),
        };
        let plan = Plan {
            clients: vec![ClientPlan::default(); 10],
            publishers: [0, 4, 5, 9, 1].map(publisher).to_vec(),
            ..Plan::default()
        };
        let places: Vec<_> = places(&plan, 2)
            .iter()
            .map(|place| (place.thread, place.index))
            .collect();
        assert_eq!(places, [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2)]);
    }
}
