//! A shard's state at one moment.
//!
//! Invariant: two are equal if their snapshots are, byte for byte.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

use lockstep_model::{
    Answer, Applied, Command, DecodeError, LockAnswer, LockName, LockQuery, Machine, Owner, Party,
    Query, SessionId, ShardId, ShardTime, Timestamp,
    locks::{deadlock::Blocked, query::LockView},
    page::MAX_PAGE,
    shard::Shard,
};

use crate::bug::Bug;

/// A machine, its bytes and its locks.
#[derive(Clone)]
pub struct Replica {
    machine: Machine,
    bytes: Vec<u8>,
    /// Of the bytes. A replica is part of a great many states, and is hashed for each.
    hash: u64,
    locks: Vec<LockView>,
}

impl Replica {
    /// An empty data shard.
    #[must_use]
    pub fn empty(shard: ShardId) -> Self {
        Self::of(Machine::new_data(shard))
    }

    fn of(machine: Machine) -> Self {
        let bytes = machine.snapshot();
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let hash = hasher.finish();
        let all = Query::Lock(LockQuery::Locks {
            prefix: String::new(),
            after: None,
            limit: MAX_PAGE,
        });
        let locks = if let Answer::Lock(LockAnswer::Locks(locks)) = machine.query(&all) {
            locks.rows
        } else {
            Vec::new()
        };
        Self {
            machine,
            bytes,
            hash,
            locks,
        }
    }

    /// The state after one more command, and what came of it.
    #[must_use]
    pub fn apply(
        &self,
        command: &Command,
        at: (ShardTime, Timestamp),
        bug: Option<Bug>,
    ) -> (Self, Applied) {
        let mut machine = self.machine.clone();
        let applied = crate::bug::apply(&mut machine, command, at, bug);
        (Self::of(machine), applied)
    }

    /// What another replica makes of the snapshot.
    ///
    /// # Errors
    /// If it cannot read it.
    pub fn restored(&self) -> Result<Self, DecodeError> {
        Machine::restore(&self.bytes).map(Self::of)
    }

    /// Answers a question.
    #[must_use]
    pub fn query(&self, query: &Query) -> Answer {
        self.machine.query(query)
    }

    /// The shard.
    #[must_use]
    pub const fn shard(&self) -> Option<&Shard> {
        match &self.machine {
            Machine::Data(shard) => Some(shard),
            Machine::Meta(_) => None,
        }
    }

    /// All locks that are held or waited for, by name.
    #[must_use]
    pub fn locks(&self) -> &[LockView] {
        &self.locks
    }

    /// One lock, if it is held or waited for.
    #[must_use]
    pub fn lock(&self, name: &LockName) -> Option<&LockView> {
        self.locks.iter().find(|lock| lock.name == *name)
    }

    /// The waits of a session's only owner, with their numbers.
    #[must_use]
    pub fn waits(&self, session: SessionId) -> Vec<Blocked> {
        let parties = vec![party(session)];
        let Answer::Lock(LockAnswer::Waits(waits)) =
            self.query(&Query::Lock(LockQuery::Waits { parties }))
        else {
            return Vec::new();
        };
        waits
    }

    /// True if a session holds something here, or waits.
    #[must_use]
    pub fn has_part(&self, session: SessionId) -> bool {
        self.locks.iter().any(|lock| {
            lock.holders.iter().any(|holder| holder.session == session)
                || lock.waiters.iter().any(|waiter| waiter.session == session)
        })
    }
}

/// The only owner that a session of the check has.
#[must_use]
pub fn party(session: SessionId) -> Party {
    Party {
        session,
        owner: owner(),
    }
}

/// What it calls itself.
#[must_use]
pub fn owner() -> Owner {
    Owner::new("o").unwrap_or_default()
}

impl PartialEq for Replica {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.bytes == other.bytes
    }
}

impl Eq for Replica {}

impl Hash for Replica {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.locks).finish()
    }
}
