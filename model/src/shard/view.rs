//! Answering questions.
//!
//! Invariant: a page has at most [`MAX_PAGE`] rows, whatever was asked for.

use std::ops::Bound;

use super::Shard;
use crate::{
    id::{FencingToken, LockName, SessionId, ShardId},
    locks::query::LockAnswer,
    locks::query::LockQuery,
    locks::{
        lock::Lock,
        mode::Mode,
        query::{HolderView, LockView, MAX_LISTED_WAITERS, WaiterView},
    },
    page::MAX_PAGE,
    query::{Answer, Query},
    session::SessionAnswer,
    session::SessionQuery,
    session::{Home, Presence, SessionView},
};

impl Shard {
    /// Answers a question from the present state.
    #[must_use]
    pub fn query(&self, query: &Query) -> Answer {
        match query {
            Query::Lock(LockQuery::Lock { name }) => {
                Answer::Lock(LockAnswer::Lock(match self.locks.get(name) {
                    Some(lock) => self.view_lock(name, lock),
                    None => self.view_lock(name, &Lock::default()),
                }))
            }
            Query::Lock(LockQuery::Locks {
                prefix,
                after,
                limit,
            }) => Answer::Lock(LockAnswer::Locks(self.view_locks(
                prefix,
                after.as_ref(),
                *limit,
            ))),
            Query::Lock(LockQuery::Validate {
                name,
                token,
                session,
            }) => Answer::Lock(LockAnswer::Valid(self.is_valid(name, *token, *session))),
            Query::Session(SessionQuery::Sessions { after, limit }) => {
                Answer::Session(SessionAnswer::Sessions(self.view_sessions(*after, *limit)))
            }
            Query::Meta(_) => Answer::WrongShard,
            Query::Session(SessionQuery::Touched { sessions }) => {
                Answer::Session(SessionAnswer::Touched(self.view_touched(sessions)))
            }
            Query::Lock(LockQuery::Waits { parties }) => Answer::Lock(LockAnswer::Waits(
                parties
                    .iter()
                    .flat_map(|party| self.blocked(party))
                    .collect(),
            )),
            Query::Lock(LockQuery::Stand { edges }) => Answer::Lock(LockAnswer::Stand(
                edges.iter().all(|edge| self.stands(edge)),
            )),
            Query::Lock(LockQuery::Deadlocks) => Answer::Lock(LockAnswer::Deadlocks {
                count: self.deadlock_count,
                last: self.deadlocks.iter().cloned().collect(),
            }),
            Query::Lock(LockQuery::Revision) => Answer::Lock(LockAnswer::Revision(self.revision())),
        }
    }

    fn is_valid(&self, name: &LockName, token: FencingToken, session: Option<SessionId>) -> bool {
        let hold = self.locks.get(name).and_then(|lock| lock.held.get(token));
        hold.is_some_and(|hold| session.is_none_or(|session| session == hold.session))
    }

    fn view_locks(&self, prefix: &str, after: Option<&LockName>, limit: u32) -> Vec<LockView> {
        let first = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.clone()),
            Some(_) | None => match LockName::new(prefix) {
                Ok(prefix) => Bound::Included(prefix),
                Err(_) if prefix.is_empty() => Bound::Unbounded,
                Err(_) => return Vec::new(),
            },
        };
        self.locks
            .range_from(first.as_ref())
            .take_while(|(name, _)| name.as_str().starts_with(prefix))
            .take(limit.min(MAX_PAGE) as usize)
            .map(|(name, lock)| self.view_lock(name, lock))
            .collect()
    }

    fn view_lock(&self, name: &LockName, lock: &Lock) -> LockView {
        let holders = lock.held.iter().filter_map(|(token, hold)| {
            Some(HolderView {
                session: hold.session,
                owner: hold.owner.clone(),
                mode: lock.held.mode_of(hold)?,
                token,
                holds: hold.count(),
                since: hold.since,
                value: hold.value.clone(),
            })
        });
        let upgrader = lock.upgrader.iter().map(|upgrader| WaiterView {
            session: upgrader.session,
            owner: lock
                .held
                .get(upgrader.token)
                .map(|hold| hold.owner.clone())
                .unwrap_or_default(),
            mode: Mode::Exclusive,
            upgrade: true,
            since: upgrader.since,
        });
        let queue = lock.queue().map(|waiter| WaiterView {
            session: waiter.session,
            owner: waiter.owner.clone(),
            mode: waiter.mode,
            upgrade: false,
            since: waiter.since,
        });
        let waiter_count = lock.queued() + usize::from(lock.upgrader.is_some());
        LockView {
            name: name.clone(),
            holders: holders.collect(),
            waiters: upgrader.chain(queue).take(MAX_LISTED_WAITERS).collect(),
            waiter_count: u32::try_from(waiter_count).unwrap_or(u32::MAX),
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

    fn view_sessions(&self, after: Option<SessionId>, limit: u32) -> Vec<SessionView> {
        let first = after.map_or(Bound::Unbounded, Bound::Excluded);
        let homes = self
            .sessions
            .range_from(first.as_ref())
            .filter_map(|(session, presence)| match presence {
                Presence::Open(member) => Some((session, member.role.home()?, false)),
                Presence::Ending { home, .. } => Some((session, home, true)),
                Presence::Ended { .. } => None,
            });
        homes
            .take(limit.min(MAX_PAGE) as usize)
            .map(|(session, home, ending)| view_session(*session, home, ending))
            .collect()
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
