//! Who may come in: one trait, one list of authenticators.
//!
//! Synchronous for now: an authenticator answers from memory, on the shard that is home to the client. Each one
//! lives in its own folder and has one entry in [`AUTHENTICATORS`]; the first that does not pass decides.

use tidegate_codec::ReasonCode;

pub mod anonymous;

/// What a client shows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    pub client_id: &'a str,
    pub user_name: Option<&'a str>,
    pub password: Option<&'a [u8]>,
}

/// What the configuration says about admission; the same on every shard.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Clients are let in without anything to check them against.
    pub allow_anonymous: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Admit,
    Refuse(ReasonCode),
    /// Not mine to decide: the next one is asked.
    Pass,
}

pub trait Authenticator: Sync {
    /// The `kind` label of the failure metric.
    fn kind(&self) -> &'static str;

    fn authenticate(&self, policy: &Policy, credentials: &Credentials<'_>) -> Verdict;
}

/// All authenticators, in the order they are asked. The last one always decides.
pub static AUTHENTICATORS: &[&dyn Authenticator] = &[&anonymous::Anonymous];

/// A refusal, and who spoke it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: &'static str,
    pub reason: ReasonCode,
}

pub fn authenticate(policy: &Policy, credentials: &Credentials<'_>) -> Result<(), Refusal> {
    for authenticator in AUTHENTICATORS {
        match authenticator.authenticate(policy, credentials) {
            Verdict::Admit => return Ok(()),
            Verdict::Refuse(reason) => {
                return Err(Refusal {
                    kind: authenticator.kind(),
                    reason,
                })
            }
            Verdict::Pass => {}
        }
    }
    Err(Refusal {
        kind: "none",
        reason: ReasonCode::NotAuthorized,
    })
}
