//! Going on after another cluster: from its backup, or from what is left of it.
//!
//! What a shard keeps is leased: sessions, and holds that end with them. Of a cluster that is gone
//! nobody can say which of them were given, extended or ended after the last that is known. So none is taken over:
//! a client that comes back hears that its session is over, instead of believing in a lock that the
//! new cluster has never heard of. What is not leased are the tokens.
//!
//! Invariant: every token that is given afterwards is greater than all that the earlier cluster gave,
//! those after its last known moment included, up to [`TOKEN_GAP`] of them.

use super::Shard;
use crate::{
    id::{FencingToken, Millis},
    locks::reply::LockRefusal,
    reply::{Refusal, Reply},
    session::Presence,
};

/// By how much the tokens are raised, for those that were given later than what is known: at 100,000
/// grants a second, in one shard, those of 127 days.
pub const TOKEN_GAP: u64 = 1 << 40;
/// The greatest token that a shard may be told to begin above: up to it every JSON reader counts
/// exactly. It leaves room for 8,000 gaps, and far more tokens above it than any shard will give.
pub const LAST_START: u64 = 1 << 53;

impl Shard {
    /// The greatest token that was ever given.
    #[must_use]
    pub const fn last_token(&self) -> FencingToken {
        self.last_token
    }

    /// Where a cluster that comes after this shard has to begin: every token must be greater. None
    /// if there are no such tokens left.
    #[must_use]
    pub fn tokens_of_successor(&self) -> Option<FencingToken> {
        let above = self.last_token.0.checked_add(TOKEN_GAP)?;
        (above <= LAST_START).then_some(FencingToken(above))
    }

    /// The longest TTL of the open sessions whose home this is: for how long after their last
    /// contact clients may still believe in their locks.
    #[must_use]
    pub fn longest_ttl(&self) -> Option<Millis> {
        self.home_sessions().map(|session| session.ttl).max()
    }

    /// The shard that goes on after this one, without sessions and locks.
    #[must_use]
    pub fn successor(&self, above: FencingToken) -> Self {
        Self {
            last_token: above.max(self.last_token),
            ..Self::new(self.id)
        }
    }

    /// Whether it may begin above this token: it does already, or nobody has used it yet.
    #[must_use]
    pub fn may_begin_above(&self, token: FencingToken) -> bool {
        let ended = |presence: &Presence| matches!(presence, Presence::Ended { .. });
        let unused = self.last_token == FencingToken(0) && self.sessions.values().all(ended);
        self.last_token >= token || unused
    }

    /// Repeating it changes nothing.
    pub(super) fn raise_tokens(&mut self, above: FencingToken) -> Reply {
        if !self.may_begin_above(above) {
            return Reply::Refused(Refusal::Lock(LockRefusal::NotEmpty { shard: self.id }));
        }
        self.last_token = self.last_token.max(above);
        Reply::Done
    }
}
