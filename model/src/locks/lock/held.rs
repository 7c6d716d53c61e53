//! Who holds a lock.
//!
//! Invariant: nobody, or one exclusively, or one or more shared, or one or more with permits that
//! together are not more than there are; each hold has its own token.

use std::collections::BTreeMap;

use super::MAX_HOLDS;
use crate::{
    id::{FencingToken, Owner, Party, SessionId, Timestamp},
    locks::mode::{Mode, Usage},
    value::Value,
};

/// The holders of a lock.
#[derive(Clone, Debug, Default)]
pub(crate) enum Held {
    /// Nobody.
    #[default]
    Free,
    /// One, alone.
    Exclusive(FencingToken, Hold),
    /// One or more, beside each other, by token: in the order of their grants.
    Shared(BTreeMap<FencingToken, Hold>),
    /// One or more, each with some of the permits.
    Permits {
        of: u32,
        /// By `holds` together, at most `of`.
        taken: u32,
        holds: BTreeMap<FencingToken, Hold>,
    },
}

/// One owner's hold of a lock.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) session: SessionId,
    pub(crate) owner: Owner,
    pub(crate) since: Timestamp,
    /// How often it was granted and not yet released.
    pub(crate) granted: u32,
    /// How many acquisitions that still wait for other locks have taken it. Their client does not
    /// have it yet, so no release can take it from them.
    pub(crate) pending: u32,
    /// Permits of a semaphore that it has; else 1.
    pub(crate) permits: u32,
    /// What its holder says.
    pub(crate) value: Value,
}

/// Why an owner that holds a lock may not take it again.
pub(crate) enum ReentryError {
    /// It holds it shared and wants it exclusively.
    NeedsUpgrade,
    /// [`MAX_HOLDS`] is reached.
    TooMany,
    /// It has another number of permits.
    OtherPermits,
    /// It waits to upgrade it.
    Upgrading,
}

impl Hold {
    /// Who has it.
    pub(crate) fn party(&self) -> Party {
        Party {
            session: self.session,
            owner: self.owner.clone(),
        }
    }

    /// True when nothing keeps it.
    pub(crate) const fn is_unused(&self) -> bool {
        self.granted == 0 && self.pending == 0
    }

    /// How often it is taken.
    pub(crate) const fn count(&self) -> u32 {
        self.granted.saturating_add(self.pending)
    }
}

impl Held {
    /// True if a hold of this mode may stand beside the present ones.
    pub(crate) fn admits(&self, mode: Mode) -> bool {
        match (self, mode) {
            (Self::Free, Mode::Shared | Mode::Exclusive | Mode::Permits { .. })
            | (Self::Shared(_), Mode::Shared) => true,
            (Self::Permits { of, taken, .. }, Mode::Permits { count, of: same }) => {
                *of == same && taken.saturating_add(count) <= *of
            }
            (
                Self::Free | Self::Shared(_) | Self::Exclusive(..) | Self::Permits { .. },
                Mode::Shared | Mode::Exclusive | Mode::Permits { .. } | Mode::Meet { .. },
            ) => false,
        }
    }

    /// True if nobody holds it.
    pub(crate) const fn is_free(&self) -> bool {
        matches!(self, Self::Free)
    }

    /// True if it is held shared.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// What the lock is used as, if somebody holds it.
    pub(crate) const fn usage(&self) -> Option<Usage> {
        match self {
            Self::Free => None,
            Self::Exclusive(..) | Self::Shared(_) => Some(Usage::Lock),
            Self::Permits { of, .. } => Some(Usage::Semaphore { of: *of }),
        }
    }

    /// How one of the present holds is held; none if there are none.
    pub(crate) const fn mode_of(&self, hold: &Hold) -> Option<Mode> {
        match self {
            Self::Free => None,
            Self::Exclusive(..) => Some(Mode::Exclusive),
            Self::Shared(_) => Some(Mode::Shared),
            Self::Permits { of, .. } => Some(Mode::Permits {
                count: hold.permits,
                of: *of,
            }),
        }
    }

    /// Adds a hold. False, and nothing changed, if it is not admitted.
    pub(crate) fn add(&mut self, mode: Mode, token: FencingToken, hold: Hold) -> bool {
        if !self.admits(mode) {
            return false;
        }
        let alone = |hold| BTreeMap::from([(token, hold)]);
        match (&mut *self, mode) {
            (Self::Free, Mode::Exclusive) => *self = Self::Exclusive(token, hold),
            (Self::Free, Mode::Shared) => *self = Self::Shared(alone(hold)),
            (Self::Free, Mode::Permits { of, .. }) => {
                let taken = hold.permits;
                let holds = alone(hold);
                *self = Self::Permits { of, taken, holds };
            }
            (Self::Permits { taken, holds, .. }, _) => {
                *taken = taken.saturating_add(hold.permits);
                return holds.insert(token, hold).is_none();
            }
            (Self::Shared(holds), _) => return holds.insert(token, hold).is_none(),
            (Self::Exclusive(..), _) | (Self::Free, Mode::Meet { .. }) => return false,
        }
        true
    }

    /// The hold of a token.
    pub(crate) fn get(&self, token: FencingToken) -> Option<&Hold> {
        match self {
            Self::Free => None,
            Self::Exclusive(held, hold) => (*held == token).then_some(hold),
            Self::Shared(holds) | Self::Permits { holds, .. } => holds.get(&token),
        }
    }

    /// The hold of a token, to change its counts.
    pub(crate) fn get_mut(&mut self, token: FencingToken) -> Option<&mut Hold> {
        match self {
            Self::Free => None,
            Self::Exclusive(held, hold) => (*held == token).then_some(hold),
            Self::Shared(holds) | Self::Permits { holds, .. } => holds.get_mut(&token),
        }
    }

    /// Whether an owner may take its hold once more.
    pub(super) fn check_reentry(
        &self,
        token: FencingToken,
        mode: Mode,
    ) -> Result<(), ReentryError> {
        if mode == Mode::Exclusive && self.is_shared() {
            return Err(ReentryError::NeedsUpgrade);
        }
        match self.get(token) {
            Some(hold) if matches!(mode, Mode::Permits { count, .. } if count != hold.permits) => {
                Err(ReentryError::OtherPermits)
            }
            Some(hold) if hold.count() >= MAX_HOLDS => Err(ReentryError::TooMany),
            Some(_) | None => Ok(()),
        }
    }

    /// Removes the hold of a token.
    pub(crate) fn remove(&mut self, token: FencingToken) -> Option<Hold> {
        match std::mem::take(self) {
            Self::Exclusive(held, hold) if held == token => Some(hold),
            Self::Shared(mut holds) => {
                let hold = holds.remove(&token);
                if !holds.is_empty() {
                    *self = Self::Shared(holds);
                }
                hold
            }
            Self::Permits {
                of,
                mut taken,
                mut holds,
            } => {
                let hold = holds.remove(&token);
                taken = taken.saturating_sub(hold.as_ref().map_or(0, |hold| hold.permits));
                if !holds.is_empty() {
                    *self = Self::Permits { of, taken, holds };
                }
                hold
            }
            other @ (Self::Free | Self::Exclusive(..)) => {
                *self = other;
                None
            }
        }
    }

    /// True if there is exactly one shared holder.
    pub(crate) fn is_shared_by_one(&self) -> bool {
        match self {
            Self::Shared(holds) => holds.len() == 1,
            Self::Free | Self::Exclusive(..) | Self::Permits { .. } => false,
        }
    }

    /// Makes the only shared hold exclusive, under a new token. None, and nothing changed, if there
    /// is no such hold.
    pub(crate) fn promote(&mut self, token: FencingToken, now: Timestamp) -> Option<&Hold> {
        let Self::Shared(holds) = self else {
            return None;
        };
        if holds.len() != 1 {
            return None;
        }
        let (_, mut hold) = holds.pop_first()?;
        hold.since = now;
        *self = Self::Exclusive(token, hold);
        self.get(token)
    }

    /// Makes an exclusive hold shared, under its token.
    pub(crate) fn demote(&mut self) {
        match std::mem::take(self) {
            Self::Exclusive(token, hold) => *self = Self::Shared(BTreeMap::from([(token, hold)])),
            other @ (Self::Free | Self::Shared(_) | Self::Permits { .. }) => *self = other,
        }
    }

    /// The holds, by token.
    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = (FencingToken, &Hold)> + '_> {
        match self {
            Self::Free => Box::new(std::iter::empty()),
            Self::Exclusive(token, hold) => Box::new(std::iter::once((*token, hold))),
            Self::Shared(holds) | Self::Permits { holds, .. } => {
                Box::new(holds.iter().map(|(token, hold)| (*token, hold)))
            }
        }
    }
}
