//! What a shard's mind asks of the driver around it.

use tidegate_codec::{Ack, Delivery, ReasonCode};

use crate::key::ConnectionId;
use crate::store_op::{Commit, StoreOp};

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// In the connection's out-queue.
    Written,
    /// Larger than the client takes; counts as delivered [MQTT-3.1.2-25].
    TooLarge,
    /// The out-queue is above its high water (nothing was written); the driver calls
    /// [`Shard::writable`](crate::Shard::writable) when it has drained.
    Full,
}

/// The driver's side: connections of this shard, and the store. Called on the shard's own thread, never blocks.
///
/// A call for a connection that is gone (stale generation) does nothing; `deliver` answers `Written`.
pub trait Effects {
    fn deliver(&mut self, connection: ConnectionId, delivery: &Delivery<'_>) -> DeliveryOutcome;

    fn acknowledge(&mut self, connection: ConnectionId, ack: &Ack<'_>);

    /// Says goodbye where the protocol can, flushes, closes. The session is already detached: the driver does not
    /// call [`Shard::disconnected`](crate::Shard::disconnected) for this connection.
    fn disconnect(&mut self, connection: ConnectionId, reason: ReasonCode);

    /// Takes effect before the next packet of this connection is looked at. Keep-alive does not run meanwhile.
    fn pause_reading(&mut self, connection: ConnectionId);

    fn resume_reading(&mut self, connection: ConnectionId);

    /// Hands an operation to the store. `Commit::Done` where it needs no waiting.
    fn store(&mut self, op: StoreOp<'_>) -> Commit;

    /// Whether there is a store that outlives the process; `false` saves the trouble of telling it.
    fn is_durable(&self) -> bool;
}
