//! Larger volumes.
//!
//! Invariant: crash-safe. Claims are enlarged first, and before anything is waited for; only when all ask
//! for the new size, and everybody serves, does the set go, and leaves its pods; what is then to be made is
//! all in the spec and in the claims that exist. What cannot grow stops nothing else: it is named, and tried
//! again later.

use super::{Action, Desired, Refusal, Situation, Step};
use crate::cluster::observed::{Observed, Ordinal};

/// Claims that ask for less than is wanted: whether or not anybody answers, for a node whose disk is full
/// does not.
pub(super) fn enlarge(desired: &Desired, observed: &Observed) -> Option<Action> {
    if refused(desired, observed).is_some() {
        return None;
    }
    let ordinals = small(desired, observed);
    let bytes = desired.storage_bytes;
    (!ordinals.is_empty()).then_some(Action::GrowVolumes { ordinals, bytes })
}

/// That this very growth was refused lately.
pub(super) fn refused(desired: &Desired, observed: &Observed) -> Option<Refusal> {
    let refused = observed.refused_growth.as_ref()?;
    let is_this = refused.bytes == desired.storage_bytes && !small(desired, observed).is_empty();
    is_this.then(|| Refusal::GrowthRefused {
        why: refused.why.clone(),
    })
}

fn small(desired: &Desired, observed: &Observed) -> Vec<Ordinal> {
    let bytes = desired.storage_bytes;
    let claims = observed.claims.iter();
    let small = claims.filter(|(_, claim)| !claim.is_terminating && claim.requested_bytes < bytes);
    small.map(|(ordinal, _)| *ordinal).collect()
}

impl Situation<'_> {
    /// The template of a set whose volumes are to be larger.
    pub(super) fn recreate_set(&self) -> Option<Step> {
        let is_small = self.set.storage_bytes < self.desired.storage_bytes
            && small(self.desired, self.observed).is_empty();
        is_small.then_some(Step::Act(Action::RecreateSet))
    }
}
