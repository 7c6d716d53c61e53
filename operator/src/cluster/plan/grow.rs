//! Larger volumes.
//!
//! Invariant: crash-safe. Claims are enlarged first, and before anything is waited for; only when all ask
//! for the new size, and everybody serves, does the set go, and leaves its pods; what is then to be made is
//! all in the spec and in the claims that exist.

use super::{Action, Desired, Situation, Step};
use crate::cluster::observed::Observed;

/// Claims that ask for less than is wanted: whether or not anybody answers, for a node whose disk is full
/// does not.
pub(super) fn enlarge(desired: &Desired, observed: &Observed) -> Option<Action> {
    let bytes = desired.storage_bytes;
    let claims = observed.claims.iter();
    let small = claims.filter(|(_, claim)| !claim.is_terminating && claim.requested_bytes < bytes);
    let ordinals: Vec<_> = small.map(|(ordinal, _)| *ordinal).collect();
    (!ordinals.is_empty()).then_some(Action::GrowVolumes { ordinals, bytes })
}

impl Situation<'_> {
    /// The template of a set whose volumes are to be larger.
    pub(super) fn recreate_set(&self) -> Option<Step> {
        let is_small = self.set.storage_bytes < self.desired.storage_bytes;
        is_small.then_some(Step::Act(Action::RecreateSet))
    }
}
