//! The lives of sessions and of their wills, as MQTT has them: what a shard answers is compared with it.

use tidegate_codec::{Millis, Qos};
use tidegate_shard_router::Departure;

use crate::ledger::{Kind, Ledger, Letter, Session, NEVER};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Will {
    /// Its connection is there.
    Armed { delay: u32 },
    /// Its connection is lost; it is published at this moment unless the client returns before.
    Pending { due: Millis },
    /// It was due for certain.
    Due,
    /// The client came back in the moment it was due, or the process died around it: published once or never.
    Either,
    /// The client said goodbye, or came back in time.
    Void,
}

/// What a connection is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) client: usize,
    pub(crate) connection: usize,
    pub(crate) clean_start: bool,
    pub(crate) expiry: u32,
    pub(crate) will: Option<usize>,
}

impl Ledger {
    /// Writes the will of a connection to be.
    pub(crate) fn write_will(&mut self, topic: &str, qos: Qos, delay: u32) -> usize {
        let letter = Letter {
            session: usize::MAX,
            topic: topic.into(),
            qos,
            retain: false,
            empty: false,
            expires_at: Millis::NEVER,
            number: 0,
            kind: Kind::Will,
            arrivals: 0,
            first_arrival: NEVER,
            acked: NEVER,
            known_acked: false,
            large: false,
        };
        let (index, _) = self.write(letter);
        self.wills.insert(index, Will::Armed { delay });
        index
    }

    /// A shard is about to be told that the connection of a session ended.
    pub(crate) fn leaves(&mut self, session: usize, now: Millis, departure: Departure) {
        let tick = self.now();
        let left = &mut self.sessions[session];
        left.connection = None;
        let (with_will, expiry) = match departure {
            Departure::Clean {
                session_expiry_interval,
            } => (false, session_expiry_interval),
            Departure::WithWill {
                session_expiry_interval,
            } => (true, session_expiry_interval),
            Departure::Lost => (true, None),
        };
        left.expiry = expiry.unwrap_or(left.expiry);
        left.alive = left.expiry > 0;
        left.ends_at = match left.expiry {
            u32::MAX => Millis::NEVER,
            expiry => now.plus_seconds(expiry),
        };
        let (expiry, alive, will) = (left.expiry, left.alive, left.will);
        let Some(letter) = will else { return };
        let Will::Armed { delay } = self.wills[&letter] else {
            return;
        };
        let delay = delay.min(if alive { expiry } else { 0 });
        let state = match (with_will, delay) {
            (false, _) => Will::Void,
            (true, 0) => Will::Due,
            (true, _) => Will::Pending {
                due: now.plus_seconds(delay),
            },
        };
        self.letters[letter].first_arrival = tick;
        self.settle_will(letter, state);
    }

    /// A shard is about to be told that a client starts clean: a will that waits is due.
    pub(crate) fn ends_with_clean_start(&mut self, client: usize) {
        let will = self.current[client].and_then(|session| self.sessions[session].will);
        if let Some(letter) = will {
            if matches!(self.wills[&letter], Will::Pending { .. }) {
                self.settle_will(letter, Will::Due);
            }
        }
    }

    pub(crate) fn settle_will(&mut self, letter: usize, state: Will) {
        let tick = self.now();
        if state == Will::Due {
            self.letters[letter].acked = tick;
        }
        self.wills.insert(letter, state);
    }

    /// A shard gave a connection a session. Answers the ledger's own one.
    pub(crate) fn attached(&mut self, entry: Entry, present: bool, now: Millis) -> usize {
        let known = self.current[entry.client].filter(|&s| self.sessions[s].alive);
        let (must, may) = match known {
            Some(s) if !entry.clean_start => (now < self.sessions[s].ends_at, true),
            _ => (false, false),
        };
        let story = || {
            format!(
                "client {}, known {:?}",
                entry.client,
                known.map(|s| &self.sessions[s])
            )
        };
        assert!(
            present || !must,
            "a living session was not found: {}",
            story()
        );
        assert!(
            !present || may,
            "a session that ended was found: {}",
            story()
        );
        if let Some(old) = known {
            self.return_or_end(old, present, now);
        }
        let session = match known {
            Some(session) if present => session,
            _ => {
                self.sessions.push(Session::new(entry.client));
                self.sessions.len() - 1
            }
        };
        let found = &mut self.sessions[session];
        assert_eq!(found.connection, None, "two connections own one client id");
        found.alive = true;
        found.ends_at = Millis::NEVER;
        found.connection = Some(entry.connection);
        found.expiry = entry.expiry;
        found.will = entry.will;
        if let Some(letter) = entry.will {
            // For No Local a will is a message of its session.
            self.letters[letter].session = session;
        }
        self.current[entry.client] = Some(session);
        session
    }

    fn return_or_end(&mut self, session: usize, present: bool, now: Millis) {
        self.sessions[session].alive = present;
        let Some(letter) = self.sessions[session].will.take() else {
            return;
        };
        match self.wills[&letter] {
            Will::Pending { due } if present && now < due => {
                self.wills_cancelled += 1;
                self.settle_will(letter, Will::Void);
            }
            Will::Pending { .. } if present => self.settle_will(letter, Will::Either),
            Will::Pending { .. } => self.settle_will(letter, Will::Due),
            _ => {}
        }
    }

    /// A will leaves for a client: it must be one whose time has come.
    pub(crate) fn check_will(&self, letter: usize, now: Millis) {
        let state = self.wills[&letter];
        let right = match state {
            Will::Due | Will::Either => true,
            Will::Pending { due } => due <= now,
            Will::Armed { .. } | Will::Void => false,
        };
        assert!(
            right,
            "a will of letter {letter} was published although it is {state:?}"
        );
    }

    /// How many wills must have been published, and how many may.
    pub(crate) fn wills_due(&mut self, now: Millis) -> (u64, u64) {
        let pending: Vec<_> = self
            .wills
            .iter()
            .map(|(&letter, &state)| (letter, state))
            .collect();
        let (mut must, mut may) = (0, 0);
        for (letter, state) in pending {
            match state {
                Will::Pending { due } if due <= now => {
                    self.settle_will(letter, Will::Due);
                    must += 1;
                }
                Will::Due => must += 1,
                Will::Either => may += 1,
                _ => {}
            }
        }
        (must, must + may)
    }
}

impl Session {
    fn new(client: usize) -> Session {
        Session {
            client,
            ..Session::default()
        }
    }
}
