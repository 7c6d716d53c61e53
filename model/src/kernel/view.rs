//! What the sessions look like from outside.
//!
//! Invariant: a list is a page ([`crate::page`]), whatever was asked for.

use std::ops::Bound;

use super::{
    Kernel,
    presence::{Home, Presence},
};
use crate::{
    id::{SessionId, ShardId},
    page::Page,
    session::{SessionAnswer, SessionQuery, SessionView},
};

impl Kernel {
    /// Answers a question about sessions.
    pub(crate) fn query(&self, query: &SessionQuery) -> SessionAnswer {
        match query {
            SessionQuery::Sessions { after, limit } => {
                SessionAnswer::Sessions(self.view_sessions(*after, *limit))
            }
            SessionQuery::Touched { sessions } => {
                SessionAnswer::Touched(self.view_touched(sessions))
            }
        }
    }

    fn view_touched(&self, sessions: &[SessionId]) -> Vec<(SessionId, Vec<ShardId>)> {
        let open = sessions.iter().filter_map(|session| {
            let home = self.member(*session)?.role.home()?;
            let shards = home.touched.iter().copied().chain([self.id]);
            Some((*session, shards.collect()))
        });
        open.collect()
    }

    fn view_sessions(&self, after: Option<SessionId>, limit: u32) -> Page<SessionView> {
        let first = after.map_or(Bound::Unbounded, Bound::Excluded);
        let homes = self
            .sessions
            .range_from(first.as_ref())
            .filter_map(|(session, presence)| match presence {
                Presence::Open(member) => Some((session, member.role.home()?, false)),
                Presence::Ending { home, .. } => Some((session, home, true)),
                Presence::Ended { .. } => None,
            });
        let sessions = homes.map(|(session, home, ending)| view_session(*session, home, ending));
        Page::of(sessions, limit)
    }
}

fn view_session(session: SessionId, home: &Home, ending: bool) -> SessionView {
    SessionView {
        session,
        ttl: home.ttl,
        epoch: home.epoch,
        priority: home.priority,
        labels: home.labels.clone(),
        opened: home.opened,
        touched: home.touched.iter().copied().collect(),
        ending,
    }
}
