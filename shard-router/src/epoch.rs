//! Epochs of client ids: a kick or a ban also meets the connections of its client that are not here yet.
//!
//! A CONNECT is decoded on one shard, flies to another and may wait for an authenticator there. Whoever was kicked
//! meanwhile must not come in by it; whoever connects anew may. So a kick notes its moment, and a CONNECT that was
//! decoded before it is refused.

use std::collections::{HashMap, VecDeque};

use ahash::RandomState;
use tidegate_codec::Millis;

use crate::key::{ClientKey, InstanceId};
use crate::planted::{is_planted, Defect};

/// Ids remembered. Above it the oldest becomes the floor, below which no CONNECT of any client is admitted.
const IDS_MAX: usize = 4_096;
/// How long an id is remembered; no CONNECT is under way for longer than this.
const KEPT_MS: u64 = 120_000;

#[derive(Debug, Default)]
pub(crate) struct Epochs {
    raised: HashMap<ClientKey, Millis, RandomState>,
    /// In order of time; an id that was raised again stands here twice.
    order: VecDeque<(Millis, ClientKey)>,
    floor: Option<Millis>,
}

impl Epochs {
    pub(crate) fn raise(&mut self, now: Millis, client: ClientKey) {
        while let Some((at, _)) = self.order.front() {
            if self.order.len() < IDS_MAX && now.since(*at) < KEPT_MS {
                break;
            }
            self.forget_oldest();
        }
        self.raised.insert(client.clone(), now);
        self.order.push_back((now, client));
    }

    fn forget_oldest(&mut self) {
        let Some((at, client)) = self.order.pop_front() else {
            return;
        };
        self.floor = self.floor.max(Some(at));
        if self.raised.get(&client) == Some(&at) {
            self.raised.remove(&client);
        }
    }

    /// Whether a CONNECT decoded at that moment is older than its client's epoch.
    pub(crate) fn is_stale(
        &self,
        instance: InstanceId,
        client_id: &str,
        decoded_at: Millis,
    ) -> bool {
        if is_planted(Defect::StaleEpoch) {
            return false;
        }
        if self.floor.is_some_and(|floor| decoded_at <= floor) {
            return true;
        }
        if self.raised.is_empty() {
            return false;
        }
        let client = ClientKey {
            instance,
            client_id: client_id.into(),
        };
        self.raised
            .get(&client)
            .is_some_and(|&raised| decoded_at <= raised)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: InstanceId = InstanceId(0);

    fn client(name: &str) -> ClientKey {
        ClientKey {
            instance: HERE,
            client_id: name.into(),
        }
    }

    #[test]
    fn a_connect_from_before_the_kick_is_stale_and_one_from_after_it_is_not() {
        let mut epochs = Epochs::default();
        assert!(!epochs.is_stale(HERE, "a", Millis(0)));
        epochs.raise(Millis(100), client("a"));
        assert!(epochs.is_stale(HERE, "a", Millis(100)));
        assert!(!epochs.is_stale(HERE, "a", Millis(101)));
        assert!(!epochs.is_stale(HERE, "b", Millis(100)));
        assert!(!epochs.is_stale(InstanceId(1), "a", Millis(100)));
    }

    #[test]
    fn what_is_forgotten_stays_refused() {
        let mut epochs = Epochs::default();
        epochs.raise(Millis(100), client("a"));
        epochs.raise(Millis(200), client("a"));
        epochs.raise(Millis(100 + KEPT_MS), client("b"));
        assert!(epochs.is_stale(HERE, "a", Millis(200)));
        assert!(epochs.is_stale(HERE, "c", Millis(100)));
        for i in 0..2 * IDS_MAX {
            epochs.raise(
                Millis(KEPT_MS + 200 + i as u64 / 100),
                client(&i.to_string()),
            );
        }
        assert!(epochs.len() <= IDS_MAX && epochs.raised.len() <= IDS_MAX);
        assert!(epochs.is_stale(HERE, "a", Millis(200)));
        assert!(epochs.is_stale(HERE, "0", Millis(KEPT_MS + 200)));
    }
}
