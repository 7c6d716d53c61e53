//! Sessions as their home sees them: what its leader watches over, and what it is yet to have released.

use crate::{
    id::{Millis, SessionEpoch, SessionId, ShardId},
    session::{EndReason, Touch},
};

/// An open session whose home the shard is: what its leader watches over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HomeSession {
    /// Which.
    pub session: SessionId,
    /// Its TTL.
    pub ttl: Millis,
    /// Its epoch.
    pub epoch: SessionEpoch,
    /// The life it had left when that was last recorded; none if it was opened or resumed since.
    pub checkpoint: Option<Millis>,
    /// True if it is to end when its time is over, whatever its client says.
    pub revoked: bool,
}

/// A session that has ended here, its home, while other shards have yet to release it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndingSession {
    /// Which.
    pub session: SessionId,
    /// Why.
    pub reason: EndReason,
    /// The home's last touch when it ended.
    pub touch: Touch,
    /// The shards that have not answered.
    pub shards: Vec<ShardId>,
}
