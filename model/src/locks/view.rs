//! Answering questions about locks.
//!
//! Invariant: an answer is bounded, whatever was asked for: lists are pages ([`crate::page`]), and of a
//! lock the first [`MAX_LISTED_HOLDERS`] holders and [`MAX_LISTED_WAITERS`] waiters are listed.

use std::ops::Bound;

use super::{
    Locks,
    lock::Lock,
    mode::Mode,
    query::{
        HolderView, LockAnswer, LockQuery, LockView, MAX_LISTED_HOLDERS, MAX_LISTED_WAITERS,
        WaiterView,
    },
};
use crate::{
    id::{FencingToken, LockName, SessionId},
    kernel::Kernel,
    page::Page,
};

impl Locks {
    /// Answers a question from the present state.
    pub(crate) fn query(&self, kernel: &Kernel, query: &LockQuery) -> LockAnswer {
        match query {
            LockQuery::Lock { name } => LockAnswer::Lock(match self.table.get(name) {
                Some(lock) => self.view_lock(name, lock),
                None => self.view_lock(name, &Lock::default()),
            }),
            LockQuery::Locks {
                prefix,
                after,
                limit,
            } => LockAnswer::Locks(self.view_locks(prefix, after.as_ref(), *limit)),
            LockQuery::Validate {
                name,
                token,
                session,
            } => LockAnswer::Valid(self.is_valid(name, *token, *session)),
            LockQuery::Waits { parties } => {
                let waits = parties.iter().flat_map(|party| self.blocked(kernel, party));
                LockAnswer::Waits(waits.collect())
            }
            LockQuery::Stand { edges } => {
                LockAnswer::Stand(edges.iter().all(|edge| self.stands(edge)))
            }
            LockQuery::Deadlocks => LockAnswer::Deadlocks {
                count: self.deadlock_count,
                last: self.deadlocks.iter().cloned().collect(),
            },
            LockQuery::Revision => LockAnswer::Revision(self.revision()),
        }
    }

    fn is_valid(&self, name: &LockName, token: FencingToken, session: Option<SessionId>) -> bool {
        let hold = self.table.get(name).and_then(|lock| lock.held.get(token));
        hold.is_some_and(|hold| session.is_none_or(|session| session == hold.session))
    }

    fn view_locks(&self, prefix: &str, after: Option<&LockName>, limit: u32) -> Page<LockView> {
        let first = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.clone()),
            Some(_) | None => match LockName::new(prefix) {
                Ok(prefix) => Bound::Included(prefix),
                Err(_) if prefix.is_empty() => Bound::Unbounded,
                Err(_) => return Page::of([], limit),
            },
        };
        let locks = self
            .table
            .range_from(first.as_ref())
            .take_while(|(name, _)| name.as_str().starts_with(prefix))
            .map(|(name, lock)| self.view_lock(name, lock));
        Page::of(locks, limit)
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
            holders: holders.take(MAX_LISTED_HOLDERS).collect(),
            holder_count: u32::try_from(lock.held.iter().count()).unwrap_or(u32::MAX),
            waiters: upgrader.chain(queue).take(MAX_LISTED_WAITERS).collect(),
            waiter_count: u32::try_from(waiter_count).unwrap_or(u32::MAX),
        }
    }
}
