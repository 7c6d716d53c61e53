//! Saying something with a hold: what an elected leader does.
//!
//! Invariant: only the present token of a hold changes its value, so a leader that was replaced
//! cannot speak for its successor.

use super::{
    Locks, Step,
    once::{Kind, fingerprint},
};
use crate::{
    id::{FencingToken, LockName},
    kernel::Kernel,
    locks::change::ChangeKind,
    outcome::Outcome,
    reply::Reply,
    request::{RequestId, Wait},
    value::Value,
};

impl Locks {
    pub(super) fn proclaim(
        &mut self,
        kernel: &mut Kernel,
        request: RequestId,
        name: LockName,
        token: FencingToken,
        value: Value,
    ) -> Outcome {
        let fingerprint = fingerprint(Kind::Proclaim, &[&name, &token, &value]);
        self.once(
            kernel,
            request,
            fingerprint,
            Wait::Try,
            |locks, kernel| match locks.granted_hold(request.session, &name, token) {
                Err(refusal) => Step::refused(refusal),
                Ok((hold, _)) => {
                    hold.value = value;
                    locks.note(kernel, ChangeKind::Proclaimed, &name, token);
                    Step::Done(Reply::Done)
                }
            },
        )
    }
}
