//! What a shard shows of itself: to those who ask, and to the node that leads it.

use std::collections::BTreeSet;

use super::Shard;
use crate::{
    id::{
        FencingToken, LockName, Millis, Party, Revision, Serial, SessionId, ShardId, ShardTime,
        WaitEpoch,
    },
    kernel::{EndingSession, HomeSession},
    locks::change::Change,
    query::{Answer, Query},
    reply::Refusal,
};

impl Shard {
    /// Answers a question from the present state.
    #[must_use]
    pub fn query(&self, query: &Query) -> Answer {
        match query {
            Query::Session(query) => Answer::Session(self.kernel.query(query)),
            Query::Lock(query) => Answer::Lock(self.locks.query(&self.kernel, query)),
            Query::Meta(_) => Answer::WrongShard,
        }
    }

    /// Which shard it is.
    #[must_use]
    pub const fn id(&self) -> ShardId {
        self.kernel.id()
    }

    /// The latest time seen in a batch.
    #[must_use]
    pub const fn now(&self) -> ShardTime {
        self.kernel.now()
    }

    /// The open sessions whose home this is, by id: what a new leader starts to watch over.
    pub fn home_sessions(&self) -> impl Iterator<Item = HomeSession> + '_ {
        self.kernel.home_sessions()
    }

    /// Why a session whose home this is does not live on; none if it does.
    #[must_use]
    pub fn end_of(&self, session: SessionId) -> Option<Refusal> {
        self.kernel.end_of(session)
    }

    /// The sessions that have ended here while other shards are yet to release them, by id.
    #[must_use]
    pub fn ending(&self) -> Vec<EndingSession> {
        self.kernel.ending()
    }

    /// What the leader goes on telling the shards that are not `skipped`: for each the first `limit` of
    /// the sessions that it is yet to release. Takes as long as that is, however many sessions there are.
    #[must_use]
    pub fn releases(
        &self,
        skipped: &BTreeSet<ShardId>,
        limit: usize,
    ) -> Vec<(ShardId, Vec<EndingSession>)> {
        self.kernel.releases(skipped, limit)
    }

    /// True while this request waits.
    #[must_use]
    pub fn pending(&self, session: SessionId, serial: Serial) -> bool {
        self.kernel.is_pending(session, serial)
    }

    /// The longest TTL of the open sessions whose home this is: for how long after their last
    /// contact clients may still believe in their locks.
    #[must_use]
    pub fn longest_ttl(&self) -> Option<Millis> {
        self.home_sessions().map(|session| session.ttl).max()
    }

    /// The number of the last change.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.locks.revision()
    }

    /// The present holds of a lock, as changes of the present revision.
    #[must_use]
    pub fn present(&self, name: &LockName) -> Vec<Change> {
        self.locks.present(&self.kernel, name)
    }

    /// As [`Shard::present`], of all locks whose names begin so.
    pub fn present_with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = Change> + 'a {
        self.locks.present_with_prefix(&self.kernel, prefix)
    }

    /// The holders of the locks in which waits have begun after `after` and until `until`, and the
    /// last of these waits: where a walk begins. At most `limit` waits are looked at.
    pub fn suspects(
        &self,
        after: WaitEpoch,
        until: ShardTime,
        limit: usize,
    ) -> (Vec<Party>, WaitEpoch) {
        self.locks.suspects(after, until, limit)
    }

    /// True if somebody waits for something that can be part of a circle.
    #[must_use]
    pub fn has_waits(&self) -> bool {
        self.locks.has_waits()
    }

    /// The greatest token that was ever given.
    #[must_use]
    pub const fn last_token(&self) -> FencingToken {
        self.locks.last_token()
    }

    /// Where a cluster that comes after this shard has to begin: every token must be greater. None
    /// if there are no such tokens left.
    #[must_use]
    pub fn tokens_of_successor(&self) -> Option<FencingToken> {
        self.locks.tokens_of_successor()
    }

    /// The shard that goes on after this one, without sessions and locks.
    #[must_use]
    pub fn successor(&self, above: FencingToken) -> Self {
        Self {
            locks: self.locks.successor(above),
            ..Self::new(self.id())
        }
    }

    /// Whether it may begin above this token: it does already, or nobody has used it yet.
    #[must_use]
    pub fn may_begin_above(&self, token: FencingToken) -> bool {
        self.locks.may_begin_above(&self.kernel, token)
    }
}
