//! Judging what sessions do after their end.

use lockstep_model::{Command, Outcome, Refusal, Reply, SessionId};

use super::{Mark, Seen, Witness, Wrong, note};
use crate::scenario::Scenario;

impl Witness {
    /// Where a session's end was acknowledged, it is never let in again.
    pub(super) fn judge_ends(&mut self, scenario: &Scenario, seen: &Seen<'_>) {
        if let Command::EndSession { session, .. } | Command::DetachSession { session, .. } =
            seen.command
            && *seen.outcome == Outcome::Done(Reply::Done)
        {
            note(&mut self.ended, (*session, seen.shard));
        }
        if let Command::AttachSession { .. } = seen.command
            && let Outcome::Done(Reply::Refused(refusal)) = seen.outcome
        {
            self.mark_attach(scenario, refusal);
        }
        if acts(seen).is_some_and(|session| self.has_ended(session, seen.shard)) {
            self.wrong(Wrong::Revived);
        }
    }

    fn mark_attach(&mut self, scenario: &Scenario, refusal: &Refusal) {
        if let Refusal::SessionEnded { .. } = refusal {
            self.mark(scenario, Mark::AttachAfterEnd);
        }
        if let Refusal::AttachTooOld { .. } = refusal {
            self.mark(scenario, Mark::AttachTooOld);
        }
    }
}

/// Who was let in by the command: to come, or to act.
fn acts(seen: &Seen<'_>) -> Option<SessionId> {
    match seen.command {
        Command::OpenSession { session, .. } => {
            matches!(seen.outcome, Outcome::Done(Reply::Session { .. })).then_some(*session)
        }
        Command::AttachSession { session, .. } => {
            (*seen.outcome == Outcome::Done(Reply::Done)).then_some(*session)
        }
        Command::Acquire { request, .. }
        | Command::Release { request, .. }
        | Command::Upgrade { request, .. }
        | Command::Downgrade { request, .. } => {
            let is_turned_away = matches!(
                seen.outcome,
                Outcome::Done(Reply::Refused(
                    Refusal::SessionEnded { .. } | Refusal::NotAttached { .. }
                ))
            );
            (!is_turned_away).then_some(request.session)
        }
        Command::ResumeSession { .. }
        | Command::TouchShard { .. }
        | Command::CheckpointSessions { .. }
        | Command::ReviveSession { .. }
        | Command::RevokeSession { .. }
        | Command::EndSession { .. }
        | Command::ShardReleased { .. }
        | Command::DetachSession { .. }
        | Command::Proclaim { .. }
        | Command::AbortWait { .. }
        | Command::CancelWait { .. }
        | Command::UndoAcquire { .. }
        | Command::ExpireWaits
        | Command::RaiseTokens { .. }
        | Command::Meta(_) => None,
    }
}
