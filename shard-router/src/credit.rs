//! What a QoS 1 or 2 message must hold before it goes its way, and the lanes it goes on.
//!
//! *Credits*: a shard may have `publish_credits` messages on their way through each shard (itself included). The
//! receiving owner gives a credit back when the message has left it for every shard with subscribers.
//! *Lanes*: one a receiver: its outbox, and behind it an overflow queue. Once something waits there, everything of
//! that pair queues behind it, so order holds. QoS 0 is dropped instead of waiting.

use std::collections::VecDeque;

use crate::envelope::{Answers, Envelope};
use crate::key::ShardId;
use crate::mailbox::Outbox;
use crate::planted::{is_planted, Defect};

/// A message that waits in one or more overflow queues; its credit is given back when it has left them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReleaseId(u32);

#[derive(Debug)]
struct Release {
    /// Whose credit it is.
    publisher: ShardId,
    waiting: u16,
}

#[derive(Debug)]
struct Waiting {
    envelope: Envelope,
    release: Option<ReleaseId>,
}

#[derive(Debug)]
struct Lane {
    outbox: Outbox<Envelope>,
    /// Bounded by the credits this shard granted (every waiting QoS 1 or 2 message holds one), one batch of
    /// answers, and one control envelope an originator. QoS 0 never waits.
    overflow: VecDeque<Waiting>,
    /// Gathered over a turn, posted as one envelope.
    answers: Answers,
    posted: u64,
}

/// One shard's ways to all others.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    releases: Vec<Release>,
    free_releases: Vec<u32>,
    overflow: usize,
}

impl Lanes {
    pub(crate) fn new(outboxes: Vec<Outbox<Envelope>>) -> Self {
        let lane = |outbox| Lane {
            outbox,
            overflow: VecDeque::new(),
            answers: Answers::default(),
            posted: 0,
        };
        Lanes {
            lanes: outboxes.into_iter().map(lane).collect(),
            releases: Vec::new(),
            free_releases: Vec::new(),
            overflow: 0,
        }
    }

    /// Envelopes that wait in overflow queues.
    pub(crate) fn overflow(&self) -> usize {
        self.overflow
    }

    /// Envelopes in the longest of these queues.
    pub(crate) fn overflow_longest(&self) -> usize {
        self.lanes
            .iter()
            .map(|lane| lane.overflow.len())
            .max()
            .unwrap_or(0)
    }

    /// Messages of which a copy waits.
    pub(crate) fn releases(&self) -> usize {
        self.releases.len() - self.free_releases.len()
    }

    pub(crate) fn posted(&self) -> impl Iterator<Item = u64> + '_ {
        self.lanes.iter().map(|lane| lane.posted)
    }

    /// Answers wait to be posted.
    pub(crate) fn has_answers(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.answers.is_empty())
    }

    /// What this turn will answer to `to`.
    pub(crate) fn answers(&mut self, to: ShardId) -> &mut Answers {
        &mut self.lanes[to.index()].answers
    }

    /// For QoS 0: `false` when there was no room and the envelope is gone.
    pub(crate) fn post_or_drop(&mut self, to: ShardId, envelope: Envelope) -> bool {
        let lane = &mut self.lanes[to.index()];
        let posted = lane.overflow.is_empty() && lane.outbox.post(envelope).is_ok();
        lane.posted += u64::from(posted);
        posted
    }

    /// For control: waits behind a full mailbox.
    pub(crate) fn post(&mut self, to: ShardId, envelope: Envelope) {
        let late = is_planted(Defect::LateReplay) && matches!(envelope, Envelope::RetainedPiece(_));
        let posted = if late {
            Err(envelope)
        } else {
            self.try_post(to, envelope)
        };
        if let Err(envelope) = posted {
            self.wait(
                to,
                Waiting {
                    envelope,
                    release: None,
                },
            );
        }
    }

    /// For QoS 1 and 2 on the way from the owner to a home shard: waits behind a full mailbox and then holds the
    /// credit of `publisher` until it has left. Pass the same `release` for every shard a message goes to.
    pub(crate) fn post_releasing(
        &mut self,
        to: ShardId,
        envelope: Envelope,
        publisher: ShardId,
        release: &mut Option<ReleaseId>,
    ) {
        let Err(envelope) = self.try_post(to, envelope) else {
            return;
        };
        let id = *release.get_or_insert_with(|| {
            let id = self.free_releases.pop().unwrap_or_else(|| {
                self.releases.push(Release {
                    publisher,
                    waiting: 0,
                });
                self.releases.len() as u32 - 1
            });
            self.releases[id as usize].publisher = publisher;
            ReleaseId(id)
        });
        self.releases[id.0 as usize].waiting += 1;
        self.wait(
            to,
            Waiting {
                envelope,
                release: Some(id),
            },
        );
    }

    fn try_post(&mut self, to: ShardId, envelope: Envelope) -> Result<(), Envelope> {
        let lane = &mut self.lanes[to.index()];
        if !lane.overflow.is_empty() && !is_planted(Defect::OvertakenOverflow) {
            return Err(envelope);
        }
        lane.outbox.post(envelope)?;
        lane.posted += 1;
        Ok(())
    }

    fn wait(&mut self, to: ShardId, waiting: Waiting) {
        let lane = &mut self.lanes[to.index()];
        // A batch of answers joins one that waits already, so that answers never count as more than one.
        if let Envelope::Answers(mut late) = waiting.envelope {
            let last = lane
                .overflow
                .back_mut()
                .map(|waiting| &mut waiting.envelope);
            if let Some(Envelope::Answers(early)) = last {
                early.append(&mut late);
                return;
            }
            lane.overflow.push_back(Waiting {
                envelope: Envelope::Answers(late),
                release: None,
            });
        } else {
            lane.overflow.push_back(waiting);
            let last = lane.overflow.len() - 1;
            if is_planted(Defect::LateReplay) && last > 0 {
                let before = &lane.overflow[last - 1].envelope;
                if matches!(before, Envelope::RetainedPiece(_)) {
                    lane.overflow.swap(last - 1, last);
                }
            }
        }
        self.overflow += 1;
    }

    /// Posts answers and what waits, as far as there is room, and rings the receivers' bells. Calls `released`
    /// with the owner of each credit that came free.
    pub(crate) fn flush(&mut self, mut released: impl FnMut(ShardId)) {
        for to in 0..self.lanes.len() {
            if !self.lanes[to].answers.is_empty() {
                let answers = Box::new(std::mem::take(&mut self.lanes[to].answers));
                self.post(ShardId(to as u16), Envelope::Answers(answers));
            }
            while self.lanes[to].outbox.free_slots() > 0 {
                let Some(waiting) = self.lanes[to].overflow.pop_front() else {
                    break;
                };
                self.overflow -= 1;
                let lane = &mut self.lanes[to];
                lane.posted += 1;
                let posted = lane.outbox.post(waiting.envelope);
                assert!(
                    posted.is_ok(),
                    "a slot was free a moment ago and only this shard takes them"
                );
                if let Some(id) = waiting.release {
                    self.leave(id, &mut released);
                }
            }
            self.lanes[to].outbox.ring();
        }
    }

    fn leave(&mut self, id: ReleaseId, released: &mut impl FnMut(ShardId)) {
        let release = &mut self.releases[id.0 as usize];
        release.waiting -= 1;
        if release.waiting == 0 {
            released(release.publisher);
            if is_planted(Defect::CreditTwice) {
                released(release.publisher);
            }
            self.free_releases.push(id.0);
        }
    }
}

/// Credits this shard holds, by the shard its messages go through.
#[derive(Debug)]
pub(crate) struct Credits {
    available: Vec<u32>,
    granted: u32,
}

impl Credits {
    pub(crate) fn new(shards: usize, granted: u32) -> Self {
        Credits {
            available: vec![granted; shards],
            granted,
        }
    }

    pub(crate) fn take(&mut self, through: ShardId) -> bool {
        let available = &mut self.available[through.index()];
        let taken = *available > 0;
        *available -= u32::from(taken);
        taken
    }

    pub(crate) fn give_back(&mut self, through: ShardId, count: u32) {
        let available = &mut self.available[through.index()];
        *available += count;
        assert!(*available <= self.granted, "a credit came back twice");
    }

    /// Credits in use, over all destinations.
    pub(crate) fn out(&self) -> u64 {
        self.available
            .iter()
            .map(|&available| u64::from(self.granted - available))
            .sum()
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.available.contains(&0)
    }

    pub(crate) fn any(&self, through: ShardId) -> bool {
        self.available[through.index()] > 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::doorbell::{Doorbell, Wake};
    use crate::key::SessionId;
    use crate::mailbox::{mesh, Inbox};

    struct Silent;

    impl Wake for Silent {
        fn wake(&self) {}
    }

    const TO: ShardId = ShardId(1);

    fn numbered(index: u32) -> Envelope {
        Envelope::Subscribed {
            until: 0,
            session: SessionId {
                index,
                generation: 0,
            },
        }
    }

    fn lanes(slots: usize) -> (Lanes, Inbox<Envelope>) {
        let bell = || Arc::new(Doorbell::new(Box::new(Silent)));
        let mut shards = mesh(&[bell(), bell()], slots);
        let inbox = shards.pop().unwrap().inbox;
        (Lanes::new(shards.pop().unwrap().outboxes), inbox)
    }

    fn number(envelope: Envelope) -> u32 {
        match envelope {
            Envelope::Subscribed { session, .. } => session.index,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_comes_behind_an_overflow_waits_behind_it() {
        let (mut lanes, inbox) = lanes(1);
        lanes.post(TO, numbered(1));
        lanes.post(TO, numbered(2));
        assert_eq!(number(inbox.take().unwrap().1), 1);
        // A slot is free now, but 2 waits: 3 must not overtake it, and QoS 0 is dropped.
        lanes.post(TO, numbered(3));
        assert!(!lanes.post_or_drop(TO, numbered(4)));
        lanes.flush(|_| {});
        assert_eq!(number(inbox.take().unwrap().1), 2);
        lanes.flush(|_| {});
        assert_eq!(number(inbox.take().unwrap().1), 3);
        assert_eq!(lanes.overflow(), 0);
    }

    #[test]
    fn a_credit_is_released_once_when_the_last_copy_has_left() {
        let (mut lanes, inbox) = lanes(1);
        let mut release = None;
        lanes.post_releasing(TO, numbered(1), ShardId(0), &mut release);
        assert_eq!(release, None);
        lanes.post_releasing(TO, numbered(2), ShardId(0), &mut release);
        lanes.post_releasing(TO, numbered(3), ShardId(0), &mut release);
        let mut released = Vec::new();
        for _ in 0..2 {
            assert!(released.is_empty());
            inbox.take().unwrap();
            lanes.flush(|publisher| released.push(publisher));
        }
        assert_eq!(released, [ShardId(0)]);
    }

    #[test]
    fn answers_that_wait_are_one_envelope() {
        let (mut lanes, inbox) = lanes(1);
        lanes.post(TO, numbered(1));
        for _ in 0..3 {
            lanes.answers(TO).credits += 1;
            lanes.flush(|_| {});
        }
        assert_eq!(lanes.overflow(), 1);
        inbox.take().unwrap();
        lanes.flush(|_| {});
        assert!(matches!(inbox.take(), Some((_, Envelope::Answers(a))) if a.credits == 3));
    }
}
