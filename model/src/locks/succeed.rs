//! Going on after another cluster: from its backup, or from what is left of it.
//!
//! What a shard keeps is leased: sessions, and holds that end with them. Of a cluster that is gone
//! nobody can say which of them were given, extended or ended after the last that is known. So none is taken over:
//! a client that comes back hears that its session is over, instead of believing in a lock that the
//! new cluster has never heard of. What is not leased are the tokens.
//!
//! Invariant: every token that is given afterwards is greater than all that the earlier cluster gave,
//! those after its last known moment included, up to [`TOKEN_GAP`] of them.

use super::{LAST_START, Locks};
use crate::{
    id::FencingToken,
    kernel::Kernel,
    locks::reply::LockRefusal,
    reply::{Refusal, Reply},
};

/// By how much the tokens are raised, for those that were given later than what is known: at 100,000
/// grants a second, in one shard, those of 127 days.
pub const TOKEN_GAP: u64 = 1 << 40;

impl Locks {
    /// The greatest token that was ever given.
    pub(crate) const fn last_token(&self) -> FencingToken {
        self.last_token
    }

    /// Where a cluster that comes after this shard has to begin: every token must be greater. None
    /// if there are no such tokens left.
    pub(crate) fn tokens_of_successor(&self) -> Option<FencingToken> {
        let above = self.last_token.0.checked_add(TOKEN_GAP)?;
        (above <= LAST_START).then_some(FencingToken(above))
    }

    /// Those of the shard that goes on after this one: none are held.
    pub(crate) fn successor(&self, above: FencingToken) -> Self {
        Self {
            last_token: above.max(self.last_token),
            ..Self::new()
        }
    }

    /// Whether it may begin above this token: it does already, or nobody has used it yet.
    pub(crate) fn may_begin_above(&self, kernel: &Kernel, token: FencingToken) -> bool {
        let unused = self.last_token == FencingToken(0) && kernel.is_unused();
        self.last_token >= token || unused
    }

    /// Repeating it changes nothing.
    pub(super) fn raise_tokens(&mut self, kernel: &Kernel, above: FencingToken) -> Reply {
        if !self.may_begin_above(kernel, above) {
            let shard = kernel.id();
            return Reply::Refused(Refusal::Lock(LockRefusal::NotEmpty { shard }));
        }
        self.last_token = self.last_token.max(above);
        Reply::Done
    }
}
