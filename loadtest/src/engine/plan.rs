//! What a scenario asks of the engine, as data: who subscribes to what, who publishes where, who
//! must get what.

use std::ops::Range;

/// A run from connect to verdict.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// The name of the scenario.
    pub(crate) scenario: &'static str,
    /// Client number `n` is `clients[n]`; its client id is the prefix and `n`.
    pub(crate) clients: Vec<ClientPlan>,
    /// Publisher number `n` is `publishers[n]`; without any, connections are only held.
    pub(crate) publishers: Vec<PublisherPlan>,
    /// Go on when some clients cannot connect, and report how many.
    pub(crate) tolerates_failed_connects: bool,
}

/// One client.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientPlan {
    /// Subscribed to in one SUBSCRIBE, before the client counts as ready.
    pub(crate) filters: Vec<String>,
    /// The publishers every message of which this client must receive once.
    pub(crate) listens_to: Range<u32>,
}

/// One publisher.
#[derive(Debug, Clone)]
pub(crate) struct PublisherPlan {
    /// The client that publishes.
    pub(crate) client: u32,
    pub(crate) topic: String,
}

impl Plan {
    /// By publisher: how many clients must receive each message.
    pub(crate) fn receivers(&self) -> Vec<u32> {
        // Each range adds one from its start and takes it back at its end; the running sum is the
        // count.
        let mut steps = vec![0_i64; self.publishers.len() + 1];
        for client in &self.clients {
            steps[client.listens_to.start as usize] += 1;
            steps[client.listens_to.end as usize] -= 1;
        }
        let running = steps.iter().scan(0, |sum, step| {
            *sum += step;
            Some(*sum as u32)
        });
        running.take(self.publishers.len()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_counted_by_publisher() {
        let listener = |listens_to| ClientPlan {
            filters: Vec::new(),
            listens_to,
        };
        let publisher = |client| PublisherPlan {
            client,
            topic: String::new(),
        };
        let plan = Plan {
            clients: vec![
                listener(0..3),
                listener(1..2),
                listener(0..0),
                listener(3..3),
            ],
            publishers: vec![publisher(0), publisher(1), publisher(2)],
            ..Plan::default()
        };
        assert_eq!(plan.receivers(), [1, 2, 1]);
    }
}
