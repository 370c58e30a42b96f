//! `connect`: opens N connections and holds them, with pings and perhaps one subscription each.

use clap::{ArgMatches, Args, FromArgMatches};

use super::Scenario;
use crate::cli::LoadArgs;
use crate::engine;
use crate::engine::plan::{ClientPlan, Plan};
use crate::failure::Failure;
use crate::outcome::Outcome;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "connect",
    about: "Opens N connections and holds them, pinging at keep-alive",
    examples: "\
Measures the time from CONNECT to CONNACK (with --subscribe-own to SUBACK), the broker's CPU time a connect and
a ping, and its memory a connection.

Examples:
  tidegate-flood connect --clients 15000 --subscribe-own
  tidegate-flood connect --clients 1000 --connect-rate 100 --duration 60
  tidegate-flood connect --clients 10000 --keep-alive 5 --duration 30     2,000 pings a second",
    augment_args: ConnectArgs::augment_args,
    run,
};

#[derive(Debug, Args)]
struct ConnectArgs {
    /// Each client subscribes to one topic of its own
    #[arg(long, help_heading = "Scenario")]
    subscribe_own: bool,
}

fn run(load: &LoadArgs, matches: &ArgMatches) -> Result<Outcome, Failure> {
    let args = ConnectArgs::from_arg_matches(matches)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    engine::run(
        load,
        plan(load.clients, args.subscribe_own, &load.topic_prefix),
    )
}

fn plan(clients: u32, subscribe_own: bool, prefix: &str) -> Plan {
    let filters = |client| {
        if subscribe_own {
            vec![format!("{prefix}own/{client}")]
        } else {
            Vec::new()
        }
    };
    Plan {
        scenario: SCENARIO.name,
        clients: (0..clients)
            .map(|client| ClientPlan {
                filters: filters(client),
                listens_to: 0..0,
            })
            .collect(),
        publishers: Vec::new(),
        tolerates_failed_connects: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_of_its_own_is_the_clients_choice() {
        assert!(plan(3, false, "")
            .clients
            .iter()
            .all(|client| client.filters.is_empty()));
        assert_eq!(plan(3, true, "t/").clients[2].filters, ["t/own/2"]);
    }
}
