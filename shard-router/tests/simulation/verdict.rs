//! The promises that show at the end: nothing acknowledged is lost, retained messages are neither lost nor stale.

use tidegate_codec::{Millis, Qos};
use tidegate_shard_router::DropReason;

use crate::ledger::{Kind, Letter, Session, Subscribed, NEVER};
use crate::world::World;

impl World {
    /// Messages that sessions dropped at their own bounds, which are counted.
    fn dropped(&mut self) -> u64 {
        let mut dropped = self.coverage.dropped;
        for place in &mut self.places {
            dropped += crate::coverage::dropped(place.shard.counters());
        }
        dropped
    }

    pub(crate) fn check_promises(&mut self) {
        let now = self.outside.now;
        self.outside.ledger.wills_due(now);
        let mut missing = Vec::new();
        let ledger = &self.outside.ledger;
        for (session, of) in ledger.sessions.iter().enumerate() {
            if !of.alive || of.connection.is_none() {
                continue;
            }
            for (index, letter) in ledger.letters.iter().enumerate() {
                if is_owed(session, of, letter) && !of.seen.contains_key(&index) {
                    missing.push(format!(
                        "letter {index} {letter:?} for session {session} of client {}",
                        of.client
                    ));
                }
            }
        }
        missing.extend(self.missing_in_groups());
        let dropped = self.dropped();
        assert!(
            missing.len() as u64 <= dropped,
            "{} acknowledged messages are lost, {dropped} were dropped at bounds; the first: {}",
            missing.len(),
            missing[0]
        );
        if dropped == 0 {
            self.check_latest();
        }
    }

    /// What a share group was owed and no member has seen.
    fn missing_in_groups(&self) -> Vec<String> {
        let ledger = &self.outside.ledger;
        let mut missing = Vec::new();
        for filter in crate::workload::FILTERS
            .iter()
            .filter(|filter| filter.starts_with("$share"))
        {
            let member = |of: &Session| {
                of.subscriptions
                    .iter()
                    .filter(|s| s.filter.text() == *filter)
                    .cloned()
                    .collect::<Vec<_>>()
            };
            let members: Vec<_> = ledger
                .sessions
                .iter()
                .map(|of| (of, member(of)))
                .filter(|(_, r)| !r.is_empty())
                .collect();
            let all_acknowledge = members
                .iter()
                .flat_map(|(_, r)| r)
                .all(|r| r.qos_least > Qos::AtMostOnce);
            if !all_acknowledge {
                continue;
            }
            let somebody_ended = members.iter().any(|(of, _)| !of.alive);
            for (index, letter) in ledger.letters.iter().enumerate() {
                let plain = letter.kind == Kind::Plain && letter.qos > Qos::AtMostOnce;
                if !plain || letter.acked == NEVER || letter.expires_at != Millis::NEVER {
                    continue;
                }
                // QoS 2 that was sent to a member ends with that member; a crash ends members without a trace.
                if somebody_ended && (letter.qos == Qos::ExactlyOnce || self.coverage.restarts > 0)
                {
                    continue;
                }
                let stays = |of: &Session, r: &Subscribed| {
                    of.alive && covers(r, letter) && r.leaving == NEVER
                };
                let stable = members.iter().any(|(of, r)| r.iter().any(|r| stays(of, r)));
                if stable && !members.iter().any(|(of, _)| of.seen.contains_key(&index)) {
                    missing.push(format!("letter {index} {letter:?} for the group {filter}"));
                }
            }
        }
        missing
    }

    /// Who follows a topic has its newest acknowledged retained value last.
    fn check_latest(&self) {
        let ledger = &self.outside.ledger;
        for (index, letter) in ledger.letters.iter().enumerate() {
            if !letter.retain || !letter.known_acked || letter.large {
                continue;
            }
            for (session, of) in ledger.sessions.iter().enumerate() {
                // Members of a share group may get what another one did not acknowledge, late.
                let shares =
                    |s: &Subscribed| s.filter.is_shared() && s.filter.matches(&letter.topic);
                let follows =
                    of.alive && of.connection.is_some() && !of.subscriptions.iter().any(shares);
                if follows && is_owed(session, of, letter) {
                    let latest = of
                        .latest
                        .get(&letter.topic)
                        .map_or(0, |&(latest, _)| latest);
                    assert!(
                        latest >= index,
                        "session {session} saw retained letter {latest} last, but {index} is newer"
                    );
                }
            }
        }
    }

    pub(crate) fn check_retained_topic(&self, topic: &str, probe: usize) {
        let ledger = &self.outside.ledger;
        let of_topic = || {
            ledger
                .letters
                .iter()
                .enumerate()
                .filter(|(_, l)| l.retain && *l.topic == *topic)
        };
        let acked = of_topic()
            .filter(|(_, l)| l.known_acked && l.first_arrival > ledger.forgotten_before)
            .map(|(index, _)| index)
            .max();
        let possible: Vec<_> = of_topic()
            .filter(|&(index, l)| l.arrivals > 0 && acked.is_none_or(|acked| index >= acked))
            .collect();
        let got = ledger.sessions[probe]
            .latest
            .get(topic)
            .map(|&(got, _)| got);
        let right = match got {
            Some(got) => possible.iter().any(|&(index, l)| index == got && !l.empty),
            None => {
                let gone = |l: &Letter| l.empty || l.large || l.expires_at <= self.outside.now;
                acked.is_none() || possible.iter().any(|(_, l)| gone(l))
            }
        };
        let possible: Vec<_> = possible.iter().map(|(index, l)| (index, l.empty)).collect();
        assert!(
            right,
            "{topic}: a new subscriber got letter {got:?}, possible are {possible:?}"
        );
    }
}

/// A subscription that held all the time from a letter's arrival to its acknowledgement.
fn covers(record: &Subscribed, letter: &Letter) -> bool {
    // A will has no acknowledgement that says that it is on its way.
    let until = if letter.kind == Kind::Will {
        NEVER - 1
    } else {
        letter.acked
    };
    record.holds_from(letter) && record.leaving > until
}

fn is_owed(session: usize, of: &Session, letter: &Letter) -> bool {
    if letter.qos == Qos::AtMostOnce || letter.acked == NEVER || letter.expires_at != Millis::NEVER
    {
        return false;
    }
    if let Kind::PointToPoint { target_session, .. } = letter.kind {
        return target_session == Some(session);
    }
    let own = letter.session == session;
    let owes =
        |r: &&Subscribed| !r.filter.is_shared() && covers(r, letter) && !(own && r.ever_no_local);
    of.subscriptions.iter().any(|r| owes(&r))
}

/// Reasons that drop acknowledged messages of a living session.
pub(crate) const COUNTED: [DropReason; 3] = [
    DropReason::QueueFull,
    DropReason::MemoryBudget,
    DropReason::NoSharedMember,
];
