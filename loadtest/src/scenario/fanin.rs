//! `fanin`: many publishers, each on its own topic, and one subscriber with a wildcard that gets
//! them all.

use clap::{ArgMatches, Args, FromArgMatches};

use super::Scenario;
use crate::cli::LoadArgs;
use crate::engine;
use crate::engine::plan::{ClientPlan, Plan, PublisherPlan};
use crate::failure::Failure;
use crate::outcome::Outcome;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "fanin",
    about: "Many publishers on topics of their own, one subscriber with a wildcard",
    examples: "\
Publisher NUMBER publishes to a/NUMBER/b/c; the subscriber listens to a/+/b/#.

Examples:
  tidegate-flood fanin --clients 1000                  1,000 publishers, 4 messages in flight each
  tidegate-flood fanin --publishers 1000 --subscribers 2 --qos 1
  tidegate-flood fanin --clients 1000 --rate 20000     latency at a steady rate",
    augment_args: FaninArgs::augment_args,
    run,
};

#[derive(Debug, Args)]
struct FaninArgs {
    /// Publishers [default: as many as --clients]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Scenario")]
    publishers: Option<u32>,

    /// Subscribers, beside the publishers; each gets everything
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Scenario")]
    subscribers: u32,
}

fn run(load: &LoadArgs, matches: &ArgMatches) -> Result<Outcome, Failure> {
    let args =
        FaninArgs::from_arg_matches(matches).map_err(|error| Failure::Usage(error.to_string()))?;
    let publishers = args.publishers.unwrap_or(load.clients);
    engine::run(load, plan(publishers, args.subscribers, &load.topic_prefix))
}

fn plan(publishers: u32, subscribers: u32, prefix: &str) -> Plan {
    let idle = (0..publishers).map(|_| ClientPlan::default());
    let listening = (0..subscribers).map(|_| ClientPlan {
        filters: vec![format!("{prefix}a/+/b/#")],
        listens_to: 0..publishers,
    });
    Plan {
        scenario: SCENARIO.name,
        clients: idle.chain(listening).collect(),
        publishers: (0..publishers)
            .map(|client| PublisherPlan {
                client,
                topic: format!("{prefix}a/{client}/b/c"),
            })
            .collect(),
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_subscriber_listens_to_all_publishers() {
        let plan = plan(1_000, 1, "");
        assert_eq!(plan.clients.len(), 1_001);
        assert_eq!(plan.receivers(), vec![1; 1_000]);
        assert_eq!(plan.publishers[17].topic, "a/17/b/c");
        assert_eq!(plan.clients[1_000].filters, ["a/+/b/#"]);
    }
}
