//! Defects that tests plant, one at a time, to see that the simulation would find them.
//!
//! Without the feature `planted-defects` the question is a constant `false` and costs nothing. With it, nothing
//! changes either until a test plants a defect on its own thread.

/// One a class of defects that a sharded broker is prone to.
#[doc(hidden)]
#[cfg_attr(not(feature = "planted-defects"), allow(unreachable_pub))] // The module is private then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Of two doorbells one is not rung.
    LostWakeUp,
    /// A hand-over is admitted although its client was kicked meanwhile.
    StaleEpoch,
    /// SUBACK does not wait for the slice owner.
    EarlySubAck,
    /// A message that waited in front of a full mailbox gives its credit back twice.
    CreditTwice,
    /// `held` is answered before the store has the message.
    AnswerBeforeCommit,
    /// QoS 2 packet ids of a client do not survive its connection.
    ForgottenPacketIds,
    /// A piece of a replay is overtaken by what was published after it was read.
    LateReplay,
    /// What finds a slot overtakes what waits in the overflow.
    OvertakenOverflow,
    /// Owners do not hear of share group members whose session ended.
    GhostMember,
    /// A will stays with its session when it is published.
    WillTwice,
    /// A QoS 2 packet id leaves before the store has it.
    UnstoredPacketId,
    /// An acknowledgement leaves as soon as it is known.
    AckOutOfTurn,
    /// What was in flight is not sent again on the next connection.
    LostRedelivery,
    /// A publisher whose message found its credit is not read again.
    StuckPublisher,
}

#[cfg(feature = "planted-defects")]
impl Defect {
    pub const ALL: [Defect; 14] = [
        Defect::LostWakeUp,
        Defect::StaleEpoch,
        Defect::EarlySubAck,
        Defect::CreditTwice,
        Defect::AnswerBeforeCommit,
        Defect::ForgottenPacketIds,
        Defect::LateReplay,
        Defect::OvertakenOverflow,
        Defect::GhostMember,
        Defect::WillTwice,
        Defect::UnstoredPacketId,
        Defect::AckOutOfTurn,
        Defect::LostRedelivery,
        Defect::StuckPublisher,
    ];
}

#[cfg(feature = "planted-defects")]
mod switch {
    use std::cell::Cell;

    use super::Defect;

    thread_local! {
        static PLANTED: Cell<Option<Defect>> = const { Cell::new(None) };
    }

    /// Plants a defect on this thread, or takes it out again.
    pub fn plant(defect: Option<Defect>) {
        PLANTED.set(defect);
    }

    pub(crate) fn is_planted(defect: Defect) -> bool {
        PLANTED.get() == Some(defect)
    }
}

#[cfg(feature = "planted-defects")]
pub(crate) use switch::is_planted;
#[cfg(feature = "planted-defects")]
pub use switch::plant;

#[cfg(not(feature = "planted-defects"))]
pub(crate) const fn is_planted(_: Defect) -> bool {
    false
}
