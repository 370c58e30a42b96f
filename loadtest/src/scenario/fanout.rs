//! `fanout`: a few publishers, and every subscriber gets every message.

use clap::{ArgMatches, Args, FromArgMatches};

use super::Scenario;
use crate::cli::LoadArgs;
use crate::engine;
use crate::engine::plan::{ClientPlan, Plan, PublisherPlan};
use crate::failure::Failure;
use crate::outcome::Outcome;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "fanout",
    about: "One publisher (or a few), and every subscriber gets every message",
    examples: "\
N subscribers listen to one topic, to which every publisher publishes.

Examples:
  tidegate-flood fanout --clients 1000                 1:1000, 4 messages in flight
  tidegate-flood fanout --subscribers 100 --publishers 10 --qos 1
  tidegate-flood fanout --rate 20 --payload 1024       20,000 deliveries a second",
    augment_args: FanoutArgs::augment_args,
    run,
};

#[derive(Debug, Args)]
struct FanoutArgs {
    /// Subscribers [default: as many as --clients]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Scenario")]
    subscribers: Option<u32>,

    /// Publishers, beside the subscribers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Scenario")]
    publishers: u32,
}

fn run(load: &LoadArgs, matches: &ArgMatches) -> Result<Outcome, Failure> {
    let args =
        FanoutArgs::from_arg_matches(matches).map_err(|error| Failure::Usage(error.to_string()))?;
    let subscribers = args.subscribers.unwrap_or(load.clients);
    engine::run(load, plan(args.publishers, subscribers, &load.topic_prefix))
}

fn plan(publishers: u32, subscribers: u32, prefix: &str) -> Plan {
    let topic = format!("{prefix}fan/out");
    // Publishers first: they have the lowest client numbers.
    let idle = (0..publishers).map(|_| ClientPlan::default());
    let listening = (0..subscribers).map(|_| ClientPlan {
        filters: vec![topic.clone()],
        listens_to: 0..publishers,
    });
    Plan {
        scenario: SCENARIO.name,
        clients: idle.chain(listening).collect(),
        publishers: (0..publishers)
            .map(|client| PublisherPlan {
                client,
                topic: topic.clone(),
            })
            .collect(),
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subscriber_listens_to_every_publisher() {
        let plan = plan(2, 7, "");
        assert_eq!(plan.clients.len(), 9);
        assert_eq!(plan.receivers(), [7, 7]);
    }
}
