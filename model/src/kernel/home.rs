//! What the leader of a session's home looks after.

use std::{collections::BTreeSet, ops::Bound};

use super::{EndingSession, HomeSession, Kernel, presence::Presence};
use crate::{
    id::{SessionId, ShardId},
    reply::Refusal,
    session::{EndReason, SessionRefusal},
};

impl Kernel {
    /// The open sessions whose home this is, by id: what a new leader starts to watch over.
    pub(crate) fn home_sessions(&self) -> impl Iterator<Item = HomeSession> + '_ {
        self.sessions
            .iter()
            .filter_map(|(session, presence)| match presence {
                Presence::Open(member) => member.role.home().map(|home| HomeSession {
                    session: *session,
                    ttl: home.ttl,
                    epoch: home.epoch,
                    checkpoint: home.checkpoint,
                    revoked: home.revoked,
                }),
                Presence::Ending { .. } | Presence::Ended { .. } => None,
            })
    }

    /// Why a session whose home this is does not live on; none if it does.
    pub(crate) fn end_of(&self, session: SessionId) -> Option<Refusal> {
        let reason = match self.sessions.get(&session) {
            Some(Presence::Open(member)) => match member.role.home() {
                Some(home) if home.revoked => EndReason::Closed,
                Some(_) => return None,
                None => return Some(Refusal::Session(SessionRefusal::NoSession { session })),
            },
            Some(Presence::Ending { reason, .. } | Presence::Ended { reason, .. }) => *reason,
            None => return Some(Refusal::Session(SessionRefusal::NoSession { session })),
        };
        Some(Refusal::Session(SessionRefusal::SessionEnded {
            session,
            reason,
        }))
    }

    /// The sessions that have ended here while other shards are yet to release them, by id.
    pub(crate) fn ending(&self) -> Vec<EndingSession> {
        let sessions: BTreeSet<_> = self.releases.iter().map(|(_, session)| session).collect();
        let ending = sessions
            .into_iter()
            .map(|session| self.ending_session(*session));
        ending.flatten().collect()
    }

    /// What the leader goes on telling the shards that are not `skipped`: for each the first `limit` of
    /// the sessions that it is yet to release. Takes as long as that is, however many sessions there are.
    pub(crate) fn releases(
        &self,
        skipped: &BTreeSet<ShardId>,
        limit: usize,
    ) -> Vec<(ShardId, Vec<EndingSession>)> {
        let mut due = Vec::new();
        let mut next = self.releases.first();
        while let Some(&(shard, _)) = next {
            let of_shard = (shard, SessionId(0))..=(shard, SessionId(u64::MAX));
            if !skipped.contains(&shard) {
                let sessions = self.releases.range(of_shard).take(limit);
                let ending = sessions.filter_map(|(_, session)| self.ending_session(*session));
                due.push((shard, ending.collect()));
            }
            let after = Bound::Excluded((shard, SessionId(u64::MAX)));
            next = self.releases.range((after, Bound::Unbounded)).next();
        }
        due
    }

    fn ending_session(&self, session: SessionId) -> Option<EndingSession> {
        match self.sessions.get(&session)? {
            Presence::Ending {
                home,
                reason,
                touch,
                ..
            } => Some(EndingSession {
                session,
                reason: *reason,
                touch: *touch,
                shards: home.touched.iter().copied().collect(),
            }),
            Presence::Open(_) | Presence::Ended { .. } => None,
        }
    }
}
