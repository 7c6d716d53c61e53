//! The lock service of a shard: who holds which locks, who waits, and how circles of waits are broken.
//!
//! Invariants: a hold is known to its lock and to its session, a waiting request to the one lock in
//! which it waits and, if it has a deadline, to the deadlines; a lock that nobody holds or waits for is
//! not kept; and when a command is done, nobody waits for what could be granted. Every request that
//! became pending is completed exactly once.
//!
//! **Fencing tokens** come from one counter for the whole shard, which every new grant raises. So
//! the tokens of each lock grow for ever, across failover (the counter is replicated), restart (it is
//! in the snapshot) and re-creation of the lock, although nothing is kept for locks that are not
//! held. A lock never changes its shard.

mod acquire;
mod break_cycles;
pub mod change;
pub mod chase;
pub mod command;
mod convert;
pub mod deadlock;
pub mod lock;
mod meet;
pub mod mode;
mod note;
mod once;
mod proclaim;
pub mod query;
mod release;
pub mod reply;
mod restore;
mod settle;
mod succeed;
mod view;
mod wait;
mod withdraw;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use command::LAST_START;
pub use succeed::TOKEN_GAP;

use self::{
    change::Change,
    command::LockCommand,
    deadlock::Deadlock,
    lock::Lock,
    wait::{Goal, WaitKey, WaitingRequest},
};
use crate::{
    cow_map::CowMap,
    id::{FencingToken, LockName, Owner, Revision, Serial, SessionId, ShardTime, WaitEpoch},
    kernel::Kernel,
    outcome::Outcome,
    reply::{Refusal, Reply},
};

/// What a session holds in a shard, by lock and owner.
type Holdings = BTreeMap<(LockName, Owner), FencingToken>;

/// The locks of a shard.
#[derive(Clone, Debug)]
pub(crate) struct Locks {
    last_token: FencingToken,
    table: CowMap<LockName, Lock>,
    /// What each session holds here, so that its end need not search the table. Only those that hold
    /// something; derived from `table`.
    holdings: BTreeMap<SessionId, Holdings>,
    waits: CowMap<WaitKey, WaitingRequest>,
    /// Those waits that have a deadline.
    deadlines: BTreeSet<(ShardTime, SessionId, Serial)>,
    last_wait: WaitEpoch,
    /// All waits, in the order in which they began.
    waiting: BTreeMap<WaitEpoch, WaitKey>,
    /// Of the last change of a hold.
    revision: Revision,
    /// Deadlocks broken here.
    deadlock_count: u64,
    /// The last of them.
    deadlocks: VecDeque<Deadlock>,
    /// Locks whose holders or queue the command in hand has changed; empty between commands.
    changed: VecDeque<LockName>,
    /// The changes of holds by the batch in hand; empty between batches.
    changes: Vec<Change>,
}

/// How many locks there are, and who holds or waits.
pub(crate) struct LockCounts {
    pub(crate) locks: usize,
    pub(crate) holders: usize,
    pub(crate) waiters: usize,
    pub(crate) deadlocks: u64,
}

/// How far an operation came.
enum Step {
    /// It is answered.
    Done(Reply),
    /// It waits.
    Wait(Goal),
}

impl Step {
    fn refused(refusal: impl Into<Refusal>) -> Self {
        Self::Done(Reply::Refused(refusal.into()))
    }
}

impl Locks {
    /// No locks.
    pub(crate) const fn new() -> Self {
        Self {
            last_token: FencingToken(0),
            table: CowMap::new(),
            holdings: BTreeMap::new(),
            waits: CowMap::new(),
            deadlines: BTreeSet::new(),
            last_wait: WaitEpoch(0),
            waiting: BTreeMap::new(),
            revision: Revision(0),
            deadlock_count: 0,
            deadlocks: VecDeque::new(),
            changed: VecDeque::new(),
            changes: Vec::new(),
        }
    }

    /// Does what a command says, and grants what became free by it.
    pub(crate) fn apply(&mut self, kernel: &mut Kernel, command: LockCommand) -> Outcome {
        let outcome = self.execute(kernel, command);
        self.settle(kernel);
        outcome
    }

    fn execute(&mut self, kernel: &mut Kernel, command: LockCommand) -> Outcome {
        let reply = match command {
            LockCommand::Acquire {
                request,
                owner,
                locks,
                wait,
                value,
            } => return self.acquire(kernel, request, owner, locks, wait, value),
            LockCommand::Proclaim {
                request,
                name,
                token,
                value,
            } => return self.proclaim(kernel, request, name, token, value),
            LockCommand::Release {
                request,
                name,
                token,
            } => return self.release(kernel, request, name, token),
            LockCommand::Upgrade {
                request,
                name,
                token,
                wait,
            } => return self.upgrade(kernel, request, name, token, wait),
            LockCommand::Downgrade {
                request,
                name,
                token,
            } => return self.downgrade(kernel, request, name, token),
            LockCommand::CancelWait { session, serial } => {
                self.cancel_wait(kernel, session, serial)
            }
            LockCommand::AbortWait {
                session,
                serial,
                epoch,
                cycle,
            } => self.abort_wait(kernel, session, serial, epoch, cycle),
            LockCommand::UndoAcquire {
                session,
                serial,
                grants,
                refusal,
            } => self.undo_acquire(kernel, session, serial, &grants, refusal),
            LockCommand::RaiseTokens { above } => self.raise_tokens(kernel, above),
        };
        Outcome::Done(reply)
    }

    /// A session is about to end here: drops its waits, which the kernel answers, and gives back all
    /// that it holds. What became free is granted by [`Locks::settle`], once the session has ended.
    pub(crate) fn session_ended(&mut self, kernel: &mut Kernel, session: SessionId) {
        let waits: Vec<WaitKey> = self.waits_of(session).map(|(key, _)| *key).collect();
        for (session, serial) in waits {
            self.withdraw(kernel, session, serial);
        }
        for ((name, _), token) in self.holdings.remove(&session).unwrap_or_default() {
            self.remove_hold(kernel, &name, token);
            self.changed.push_back(name);
        }
    }

    /// Ends the waits whose time is over by the shard's time.
    pub(crate) fn expire(&mut self, kernel: &mut Kernel) {
        self.expire_waits(kernel);
        self.settle(kernel);
    }

    /// The earliest deadline among the waits.
    pub(crate) fn next_deadline(&self) -> Option<ShardTime> {
        self.deadlines.first().map(|(deadline, ..)| *deadline)
    }

    /// What those who watch are told of the batch in hand.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// How many requests wait: as many as the kernel has pending.
    pub(crate) fn pending_count(&self) -> usize {
        self.waits.len()
    }

    /// Looks at no lock.
    pub(crate) fn counts(&self) -> LockCounts {
        LockCounts {
            locks: self.table.len(),
            holders: self.holdings.values().map(BTreeMap::len).sum(),
            waiters: self.waits.len(),
            deadlocks: self.deadlock_count,
        }
    }

    /// What there is now of all that is written. Takes the same time however many locks there are; the
    /// next change of one copies that one.
    pub(crate) fn point(&mut self) -> Self {
        Self {
            last_token: self.last_token,
            table: self.table.freeze(),
            waits: self.waits.freeze(),
            last_wait: self.last_wait,
            revision: self.revision,
            deadlock_count: self.deadlock_count,
            deadlocks: self.deadlocks.clone(),
            ..Self::new()
        }
    }
}
