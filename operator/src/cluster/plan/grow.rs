//! Larger volumes.
//!
//! Invariant: crash-safe. Claims are enlarged first; only when all ask for the new size does the set
//! go, and leaves its pods; what is then to be made is all in the spec and in the claims that exist.

use super::{Action, Situation, Step};

impl Situation<'_> {
    /// The next step to larger volumes, if they are not as large as wanted.
    pub(super) fn grow_volumes(&self) -> Option<Step> {
        let bytes = self.desired.storage_bytes;
        let claims = self.observed.claims.iter();
        let small =
            claims.filter(|(_, claim)| !claim.is_terminating && claim.requested_bytes < bytes);
        let ordinals: Vec<_> = small.map(|(ordinal, _)| *ordinal).collect();
        if !ordinals.is_empty() {
            return Some(Step::Act(Action::GrowVolumes { ordinals, bytes }));
        }
        (self.set.storage_bytes < bytes).then_some(Step::Act(Action::RecreateSet))
    }
}
