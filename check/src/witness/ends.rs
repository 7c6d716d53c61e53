//! Judging what sessions do after their end.

use lockstep_model::{
    Command, LockCommand, Outcome, Refusal, Reply, SessionCommand, SessionId, SessionRefusal,
    SessionReply,
};

use super::{Mark, Seen, Witness, Wrong, note};
use crate::scenario::Scenario;

impl Witness {
    /// Where a session's end was acknowledged, it is never let in again.
    pub(super) fn judge_ends(&mut self, scenario: &Scenario, seen: &Seen<'_>) {
        if let Command::Session(SessionCommand::End { session, .. })
        | Command::Session(SessionCommand::Detach { session, .. }) = seen.command
            && *seen.outcome == Outcome::Done(Reply::Done)
        {
            note(&mut self.ended, (*session, seen.shard));
        }
        if let Command::Session(SessionCommand::Attach { .. }) = seen.command
            && let Outcome::Done(Reply::Refused(refusal)) = seen.outcome
        {
            self.mark_attach(scenario, refusal);
        }
        if acts(seen).is_some_and(|session| self.has_ended(session, seen.shard)) {
            self.wrong(Wrong::Revived);
        }
    }

    fn mark_attach(&mut self, scenario: &Scenario, refusal: &Refusal) {
        if let Refusal::Session(SessionRefusal::SessionEnded { .. }) = refusal {
            self.mark(scenario, Mark::AttachAfterEnd);
        }
        if let Refusal::Session(SessionRefusal::AttachTooOld { .. }) = refusal {
            self.mark(scenario, Mark::AttachTooOld);
        }
    }
}

/// Who was let in by the command: to come, or to act.
fn acts(seen: &Seen<'_>) -> Option<SessionId> {
    match seen.command {
        Command::Session(SessionCommand::Open { session, .. }) => matches!(
            seen.outcome,
            Outcome::Done(Reply::Session(SessionReply::Opened { .. }))
        )
        .then_some(*session),
        Command::Session(SessionCommand::Attach { session, .. }) => {
            (*seen.outcome == Outcome::Done(Reply::Done)).then_some(*session)
        }
        Command::Lock(LockCommand::Acquire { request, .. })
        | Command::Lock(LockCommand::Release { request, .. })
        | Command::Lock(LockCommand::Upgrade { request, .. })
        | Command::Lock(LockCommand::Downgrade { request, .. }) => {
            let is_turned_away = matches!(
                seen.outcome,
                Outcome::Done(Reply::Refused(
                    Refusal::Session(SessionRefusal::SessionEnded { .. })
                        | Refusal::Session(SessionRefusal::NotAttached { .. })
                ))
            );
            (!is_turned_away).then_some(request.session)
        }
        Command::Session(SessionCommand::Resume { .. })
        | Command::Session(SessionCommand::TouchShard { .. })
        | Command::Session(SessionCommand::Checkpoint { .. })
        | Command::Session(SessionCommand::Revive { .. })
        | Command::Session(SessionCommand::Revoke { .. })
        | Command::Session(SessionCommand::End { .. })
        | Command::Session(SessionCommand::ShardReleased { .. })
        | Command::Session(SessionCommand::Detach { .. })
        | Command::Lock(LockCommand::Proclaim { .. })
        | Command::Lock(LockCommand::AbortWait { .. })
        | Command::Lock(LockCommand::CancelWait { .. })
        | Command::Lock(LockCommand::UndoAcquire { .. })
        | Command::Expire
        | Command::Lock(LockCommand::RaiseTokens { .. })
        | Command::Meta(_) => None,
    }
}
