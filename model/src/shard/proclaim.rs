//! Saying something with a hold: what an elected leader does.
//!
//! Invariant: only the present token of a hold changes its value, so a leader that was replaced
//! cannot speak for its successor.

use super::{
    Shard, Step,
    request::{Kind, fingerprint},
};
use crate::{
    id::{FencingToken, LockName},
    locks::change::ChangeKind,
    machine::Outcome,
    reply::Reply,
    request::{RequestId, Wait},
    value::Value,
};

impl Shard {
    pub(super) fn proclaim(
        &mut self,
        request: RequestId,
        name: LockName,
        token: FencingToken,
        value: Value,
    ) -> Outcome {
        let fingerprint = fingerprint(Kind::Proclaim, &[&name, &token, &value]);
        self.once(request, fingerprint, Wait::Try, |shard| {
            match shard.granted_hold(request.session, &name, token) {
                Err(refusal) => Step::refused(refusal),
                Ok((hold, _)) => {
                    hold.value = value;
                    shard.note(ChangeKind::Proclaimed, &name, token);
                    Step::Done(Reply::Done)
                }
            }
        })
    }
}
