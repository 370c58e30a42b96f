//! What really happened, kept beside the shards: every message, every session, every subscription, in one order.
//!
//! The checks that need no end stand here, too: a delivery that must not be is a panic at the step that made it.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use tidegate_codec::{Delivery, Message, Millis, Qos, TopicFilter};

use crate::lives::Will;

/// A point in the one order of everything the world does.
pub(crate) type Tick = u64;
/// Not yet.
pub(crate) const NEVER: Tick = Tick::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    PointToPoint {
        target: usize,
        target_session: Option<usize>,
    },
    Will,
}

/// One message as its publisher means it.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) session: usize,
    pub(crate) topic: Rc<str>,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    /// Clears the topic's retained message.
    pub(crate) empty: bool,
    pub(crate) expires_at: Millis,
    /// Counts up for each publisher session, topic and QoS.
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    /// How often a shard was handed it, and when first; of a will, when its connection was lost.
    pub(crate) arrivals: u32,
    pub(crate) first_arrival: Tick,
    /// When the publisher was told that the broker has it; of a will, when it was due for certain.
    pub(crate) acked: Tick,
    /// Its publisher has read that, and will not send it again.
    pub(crate) known_acked: bool,
    /// More than some clients take.
    pub(crate) large: bool,
}

/// One filter of a session, from SUBSCRIBE to UNSUBACK; made anew with other options it stays one record.
#[derive(Clone, Debug)]
pub(crate) struct Subscribed {
    pub(crate) filter: TopicFilter,
    pub(crate) qos_least: Qos,
    pub(crate) qos_most: Qos,
    pub(crate) always_no_local: bool,
    pub(crate) ever_no_local: bool,
    pub(crate) ids: Vec<u32>,
    /// SUBACK, UNSUBSCRIBE, UNSUBACK.
    pub(crate) granted: Tick,
    pub(crate) leaving: Tick,
    pub(crate) closed: Tick,
}

impl Subscribed {
    /// It was granted before the letter came, with a QoS that loses nothing.
    pub(crate) fn holds_from(&self, letter: &Letter) -> bool {
        self.granted < letter.first_arrival
            && self.qos_least > Qos::AtMostOnce
            && self.filter.matches(&letter.topic)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    total: u32,
    at_most_once: u32,
    exactly_once: u32,
    connection: usize,
    on_connection: u32,
}

/// How a client got a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) client: usize,
    /// Not known to have ended.
    pub(crate) alive: bool,
    pub(crate) expiry: u32,
    /// When it ends if its client does not return; [`Millis::NEVER`] while the client is there.
    pub(crate) ends_at: Millis,
    /// How much the store had been told when it was made.
    pub(crate) born_with: u64,
    pub(crate) connection: Option<usize>,
    pub(crate) will: Option<usize>,
    pub(crate) subscriptions: Vec<Subscribed>,
    pub(crate) seen: HashMap<usize, Seen>,
    pub(crate) last: HashMap<(usize, Rc<str>, Qos, Qos), u32>,
    /// The retained value seen last, by topic, and the connection it came on.
    pub(crate) latest: HashMap<Rc<str>, (usize, usize)>,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) tick: Tick,
    pub(crate) letters: Vec<Letter>,
    pub(crate) sessions: Vec<Session>,
    /// The session of each client, which may have ended since.
    pub(crate) current: Vec<Option<usize>>,
    pub(crate) wills: BTreeMap<usize, Will>,
    pub(crate) wills_cancelled: u64,
    pub(crate) restarts: u32,
    /// The process died without a store at this tick.
    pub(crate) forgotten_before: Tick,
    /// Session queues are short, so that messages are dropped at their bound.
    pub(crate) may_drop: bool,
    numbers: HashMap<(usize, Rc<str>, Qos), u32>,
}

/// Which letter a message is; it stands where its properties would.
pub(crate) fn letter_of(message: &Message) -> usize {
    let bytes = message
        .properties_bytes()
        .try_into()
        .expect("every message here has its number");
    u32::from_le_bytes(bytes) as usize
}

impl Ledger {
    pub(crate) fn now(&mut self) -> Tick {
        self.tick += 1;
        self.tick
    }

    /// Writes a letter and the message that carries it.
    pub(crate) fn write(&mut self, mut letter: Letter) -> (usize, Message) {
        let index = self.letters.len();
        let key = (letter.session, letter.topic.clone(), letter.qos);
        let number = self.numbers.entry(key).or_default();
        *number += 1;
        letter.number = *number;
        let message = self.message(index, &letter);
        self.letters.push(letter);
        (index, message)
    }

    fn message(&self, index: usize, letter: &Letter) -> Message {
        let id = (index as u32).to_le_bytes();
        let payload: &[u8] = if letter.empty { b"" } else { b"payload" };
        Message::new(&letter.topic, &id, payload, letter.qos, letter.retain)
            .with_expiry(letter.expires_at)
    }

    pub(crate) fn message_of(&self, index: usize) -> Message {
        self.message(index, &self.letters[index])
    }

    /// A shard was handed a PUBLISH.
    pub(crate) fn arrives(&mut self, letter: usize) {
        let tick = self.now();
        let letter = &mut self.letters[letter];
        letter.arrivals += 1;
        letter.first_arrival = letter.first_arrival.min(tick);
    }

    pub(crate) fn acknowledged(&mut self, letter: usize) {
        let tick = self.now();
        let letter = &mut self.letters[letter];
        letter.acked = letter.acked.min(tick);
    }

    /// A shard hands a delivery to a connection of `session`.
    pub(crate) fn emitted(&mut self, session: usize, delivery: &Delivery<'_>, now: Millis) {
        let index = letter_of(delivery.message);
        let letter = &self.letters[index];
        let to = &self.sessions[session];
        let story = || {
            format!(
                "letter {index} {letter:?} to session {session} of client {}",
                to.client
            )
        };
        assert_eq!(*letter.topic, *delivery.message.topic(), "{}", story());
        assert!(
            delivery.dup || letter.expires_at > now,
            "an expired message: {}",
            story()
        );
        if let Kind::PointToPoint { target, .. } = letter.kind {
            assert_eq!(
                target,
                to.client,
                "a message to one client went to another: {}",
                story()
            );
            return;
        }
        if letter.kind == Kind::Will {
            self.check_will(index, now);
        }
        let open = |s: &&Subscribed| delivery.retain || s.closed > letter.first_arrival;
        let matching: Vec<_> = to
            .subscriptions
            .iter()
            .filter(|s| s.filter.matches(&letter.topic))
            .filter(open)
            .collect();
        assert!(
            !matching.is_empty(),
            "nobody subscribed, or UNSUBACK came before: {} {:?}",
            story(),
            to.subscriptions
        );
        let most = matching
            .iter()
            .map(|s| s.qos_most)
            .max()
            .expect("not empty");
        assert!(
            delivery.qos <= letter.qos.min(most),
            "more QoS than granted: {}",
            story()
        );
        let known = |id: &u32| matching.iter().any(|s| s.ids.contains(id));
        assert!(
            delivery.subscription_ids.iter().all(known),
            "an identifier of no subscription: {}",
            story()
        );
        let own = letter.session == session && !delivery.retain;
        assert!(
            !own || matching.iter().any(|s| !s.always_no_local),
            "no local: {}",
            story()
        );
    }

    /// A client takes no packets of this size: that counts as delivered.
    pub(crate) fn too_large(&mut self, session: usize, letter: usize) {
        self.sessions[session].seen.entry(letter).or_default();
    }

    /// A client reads a message for the first time, as far as its QoS lets it tell.
    pub(crate) fn received(&mut self, session: usize, connection: usize, index: usize, how: How) {
        let How { qos, retain, .. } = how;
        let letter = &self.letters[index];
        let to = &mut self.sessions[session];
        if letter.retain {
            let before = to.latest.insert(letter.topic.clone(), (index, connection));
            // One that its publisher sent again may be the value once more; on another connection things come again.
            let newer = before.filter(|&(b, of)| b > index && of == connection);
            assert!(
                !how.retain || how.dup || letter.arrivals > 1 || newer.is_none(),
                "a stale retained message: letter {index} after {newer:?} to session {session}"
            );
        }
        if retain {
            return;
        }
        let story = || {
            format!(
                "letter {index} {letter:?} to session {session} of client {}",
                to.client
            )
        };
        let matching = || {
            to.subscriptions
                .iter()
                .filter(|s| s.filter.matches(&letter.topic))
        };
        let mut ways: Vec<_> = matching()
            .filter_map(|s| s.filter.share_name().map(|_| s.filter.text()))
            .collect();
        ways.sort_unstable();
        ways.dedup();
        let shared = ways.len() as u32;
        let plain =
            u32::from(letter.kind != Kind::Plain || matching().any(|s| !s.filter.is_shared()));
        let times = match letter.qos {
            Qos::AtLeastOnce => letter.arrivals.max(1),
            // After a restart another member of a group may be next, and get what the first one has.
            _ if shared > 0 => 1 + self.restarts,
            _ => 1,
        };
        let copies = (shared + plain) * times;
        let seen = to.seen.entry(index).or_default();
        let first = seen.total == 0;
        if seen.connection != connection {
            (seen.connection, seen.on_connection) = (connection, 0);
        }
        seen.total += 1;
        seen.on_connection += 1;
        seen.at_most_once += u32::from(qos == Qos::AtMostOnce);
        seen.exactly_once += u32::from(qos == Qos::ExactlyOnce);
        let seen = *seen;
        assert!(
            seen.exactly_once <= copies,
            "QoS 2 delivered twice: {} {seen:?}",
            story()
        );
        assert!(
            seen.on_connection <= copies,
            "twice on one connection: {} {seen:?}",
            story()
        );
        assert!(
            seen.at_most_once <= copies * (1 + self.restarts),
            "QoS 0 delivered twice: {} {seen:?}",
            story()
        );
        let own = letter.session == session;
        let covered = match letter.kind {
            Kind::PointToPoint { target_session, .. } => target_session == Some(session),
            _ => to
                .subscriptions
                .iter()
                .any(|s| s.holds_from(letter) && s.leaving == NEVER && !(own && s.ever_no_local)),
        };
        // One that came again may be seen for the first time only then, by those who were not there before.
        // What a queue dropped may come back with a restart, late.
        let drops_come_back = self.may_drop && self.restarts > 0;
        // So may one that is sent on once more after a restart.
        let came_once =
            letter.arrivals == 1 && (letter.qos < Qos::ExactlyOnce || self.restarts == 0);
        let in_order =
            (came_once && !drops_come_back) || (covered && qos > Qos::AtMostOnce && !self.may_drop);
        if first && shared == 0 && in_order && letter.kind != Kind::Will {
            let key = (letter.session, letter.topic.clone(), letter.qos, qos);
            let last = to.last.entry(key).or_default();
            assert!(
                letter.number > *last,
                "overtaken by number {last}: {}",
                format_args!("letter {index} {letter:?} to session {session}")
            );
            *last = letter.number;
        }
    }
}
