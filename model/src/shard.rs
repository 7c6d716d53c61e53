//! A data shard's state machine: the session kernel, and the services beside it.
//!
//! Invariants: a command is the business of one service; a session that ends is let go of by every
//! service before the kernel ends it; and each pending request is known to exactly one service.

mod view;

use crate::{
    applied::Applied,
    codec::{Decode, DecodeError, Encode, Reader},
    command::{Batch, Command},
    id::{ShardId, ShardTime},
    kernel::Kernel,
    locks::Locks,
    outcome::{Effect, Outcome},
    reply::{Refusal, Reply},
    session::SessionCommand,
};

/// The state of a data shard.
#[derive(Clone, Debug)]
pub struct Shard {
    kernel: Kernel,
    locks: Locks,
}

/// How large a shard's state is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open sessions whose home this is.
    pub sessions: usize,
    /// Sessions that have ended here while other shards are yet to release them.
    pub ending: usize,
    /// Open sessions of other homes.
    pub attached: usize,
    /// Locks that are held or waited for.
    pub locks: usize,
    /// Holds, each counted once however often its owner took it.
    pub holders: usize,
    /// Requests that wait, upgrades among them.
    pub waiters: usize,
    /// Ended sessions that are remembered.
    pub tombstones: usize,
    /// Answers that are kept for repetitions.
    pub replies: usize,
    /// Deadlocks broken here, ever.
    pub deadlocks: u64,
}

impl Shard {
    /// An empty shard.
    #[must_use]
    pub const fn new(id: ShardId) -> Self {
        Self {
            kernel: Kernel::new(id),
            locks: Locks::new(),
        }
    }

    /// Applies one committed batch: one outcome per command, in order.
    pub fn apply(&mut self, batch: Batch) -> Applied {
        self.kernel.begin(batch.at, batch.wall);
        let deadline = self.next_deadline();
        let commands = batch.commands.into_iter();
        let outcomes = commands.map(|command| self.execute(command)).collect();
        let next_deadline = self.next_deadline();
        if next_deadline != deadline {
            self.kernel.effect(Effect::NextDeadline(next_deadline));
        }
        Applied {
            outcomes,
            effects: self.kernel.take_effects(),
            changes: self.locks.take_changes(),
        }
    }

    fn execute(&mut self, command: Command) -> Outcome {
        let Self { kernel, locks } = self;
        match command {
            Command::Session(command) => Outcome::Done(self.apply_to_sessions(command)),
            Command::Lock(command) => locks.apply(kernel, command),
            Command::Expire => {
                locks.expire(kernel);
                Outcome::Done(Reply::Done)
            }
            Command::Meta(_) => Outcome::Done(Reply::Refused(Refusal::WrongShard)),
        }
    }

    fn apply_to_sessions(&mut self, command: SessionCommand) -> Reply {
        let Self { kernel, locks } = self;
        if let Some(session) = kernel.ends(&command) {
            locks.session_ended(kernel, session);
        }
        let reply = kernel.apply(command);
        locks.settle(kernel);
        reply
    }

    /// The earliest deadline of any service: when to propose [`Command::Expire`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<ShardTime> {
        let Self { kernel: _, locks } = self;
        locks.next_deadline()
    }

    /// What there is now of all that is written, apart from the shard: its encoding is that of
    /// the shard at this moment. Takes the same time however large the shard is; the next change of
    /// a session or a lock copies that one.
    pub(crate) fn point(&mut self) -> Self {
        let Self { kernel, locks } = self;
        Self {
            kernel: kernel.point(),
            locks: locks.point(),
        }
    }

    /// How large the state is. Looks at every session, at no lock.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let sessions = self.kernel.counts();
        let locks = self.locks.counts();
        Counts {
            sessions: sessions.home,
            ending: sessions.ending,
            attached: sessions.attached,
            locks: locks.locks,
            holders: locks.holders,
            waiters: locks.waiters,
            tombstones: sessions.tombstones,
            replies: sessions.answers,
            deadlocks: locks.deadlocks,
        }
    }
}

impl Encode for Shard {
    fn encode_into(&self, out: &mut Vec<u8>) {
        let Self { kernel, locks } = self;
        kernel.encode_into(out);
        locks.encode_into(out);
    }
}

impl Decode for Shard {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kernel = Kernel::decode_from(input)?;
        let locks = Locks::decode_from(&kernel, input)?;
        if kernel.pending_count() != locks.pending_count() {
            return Err(DecodeError::Inconsistent {
                what: "a pending request that waits nowhere",
            });
        }
        Ok(Self { kernel, locks })
    }
}
