//! `p2p`: every client publishes to the topic of exactly one other client.

use clap::{ArgMatches, Args};

use super::{NoArgs, Scenario};
use crate::cli::LoadArgs;
use crate::engine;
use crate::engine::plan::{ClientPlan, Plan, PublisherPlan};
use crate::failure::Failure;
use crate::outcome::Outcome;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "p2p",
    about: "Every client publishes to the topic of exactly one other",
    examples: "\
Each of N clients subscribes to its own topic p2p/NUMBER and publishes to that of the next client.

Examples:
  tidegate-flood p2p --clients 1000                    4 messages in flight each
  tidegate-flood p2p --clients 1000 --inflight 1       one in flight: what batching hides
  tidegate-flood p2p --clients 1000 --qos 2
  tidegate-flood p2p --clients 1000 --rate 20000       latency at a steady rate",
    augment_args: NoArgs::augment_args,
    run,
};

fn run(load: &LoadArgs, _: &ArgMatches) -> Result<Outcome, Failure> {
    if load.clients < 2 {
        return Err(Failure::Usage(
            "p2p needs at least two clients: --clients 2".to_owned(),
        ));
    }
    engine::run(load, plan(load.clients, &load.topic_prefix))
}

fn plan(clients: u32, prefix: &str) -> Plan {
    let topic = |client: u32| format!("{prefix}p2p/{client}");
    let previous = |client: u32| (client + clients - 1) % clients;
    Plan {
        scenario: SCENARIO.name,
        clients: (0..clients)
            .map(|client| ClientPlan {
                filters: vec![topic(client)],
                listens_to: previous(client)..previous(client) + 1,
            })
            .collect(),
        publishers: (0..clients)
            .map(|client| PublisherPlan {
                client,
                topic: topic((client + 1) % clients),
            })
            .collect(),
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_publishes_to_one_other_and_listens_to_one_other() {
        let plan = plan(5, "x/");
        assert_eq!(plan.receivers(), [1; 5]);
        for (number, publisher) in plan.publishers.iter().enumerate() {
            let listener = plan
                .clients
                .iter()
                .position(|c| c.filters == [publisher.topic.as_str()])
                .unwrap();
            assert_ne!(listener as u32, publisher.client);
            assert!(plan.clients[listener].listens_to.contains(&(number as u32)));
        }
    }
}
