//! One shard and a clock, for tests that say what happens step by step.

use std::collections::BTreeMap;

use lockstep_model::{
    Applied, Batch, Command, Effect, FencingToken, LockCommand, LockName, LockReply, Millis,
    Outcome, Owner, Priority, Refusal, Reply, Serial, SessionCommand, SessionId, ShardId,
    ShardTime, Timestamp, Value,
    locks::{command::LockSpec, mode::Mode, reply::Grant},
    request::{AckedRanges, RequestId, Wait},
    shard::Shard,
};

pub(crate) const A: SessionId = SessionId(0xa);
pub(crate) const B: SessionId = SessionId(0xb);
pub(crate) const C: SessionId = SessionId(0xc);
pub(crate) const S: Mode = Mode::Shared;
pub(crate) const X: Mode = Mode::Exclusive;
pub(crate) const THIS: ShardId = ShardId(1);

pub(crate) struct World {
    pub(crate) shard: Shard,
    pub(crate) at: ShardTime,
    pub(crate) serial: u64,
}

/// What the wall clocks of the tests show: nothing that could be taken for a shard's time.
pub(crate) const fn wall(at: ShardTime) -> Timestamp {
    Timestamp(1_700_000_000_000 + at.0)
}

pub(crate) fn name(text: &str) -> LockName {
    LockName::new(text).unwrap()
}

/// The one owner that each session has where nothing else is said.
pub(crate) fn owner() -> Owner {
    Owner::new("o").unwrap()
}

pub(crate) fn request(session: SessionId, serial: u64) -> RequestId {
    RequestId {
        session,
        serial: Serial(serial),
        acked_below: Serial(0),
        acked: AckedRanges::NONE,
    }
}

pub(crate) fn acquire(request: RequestId, locks: &[(&str, Mode)], wait: Wait) -> Command {
    let locks = locks.iter().map(|(text, mode)| LockSpec {
        name: name(text),
        mode: *mode,
    });
    Command::Lock(LockCommand::Acquire {
        request,
        owner: owner(),
        locks: locks.collect(),
        wait,
        value: Value::EMPTY,
    })
}

pub(crate) fn open(session: SessionId) -> Command {
    let labels = BTreeMap::new();
    Command::Session(SessionCommand::Open {
        session,
        ttl: Millis(10_000),
        priority: Priority(3),
        labels,
    })
}

pub(crate) fn granted(text: &str, mode: Mode, token: u64, holds: u32) -> Reply {
    let token = FencingToken(token);
    Reply::Lock(LockReply::Granted(vec![Grant {
        name: name(text),
        mode,
        token,
        holds,
    }]))
}

pub(crate) fn completed(session: SessionId, serial: u64, reply: Reply) -> Effect {
    Effect::Complete {
        session,
        serial: Serial(serial),
        reply,
    }
}

pub(crate) fn done(reply: Reply) -> Outcome {
    Outcome::Done(reply)
}

pub(crate) fn refused(refusal: Refusal) -> Outcome {
    Outcome::Done(Reply::Refused(refusal))
}

impl World {
    /// Sessions A, B and C are at home in the shard.
    pub(crate) fn new() -> Self {
        let mut world = Self {
            shard: Shard::new(THIS),
            at: ShardTime(1_000),
            serial: 100,
        };
        for session in [A, B, C] {
            world.apply(open(session));
        }
        world
    }

    pub(crate) fn passes(&mut self, ms: u64) {
        self.at = self.at.plus(Millis(ms));
    }

    pub(crate) fn apply_all(&mut self, commands: Vec<Command>) -> Applied {
        self.shard.apply(Batch {
            at: self.at,
            wall: wall(self.at),
            commands,
        })
    }

    pub(crate) fn apply(&mut self, command: Command) -> (Outcome, Vec<Effect>) {
        let Applied {
            mut outcomes,
            effects,
            changes: _,
        } = self.apply_all(vec![command]);
        assert_eq!(outcomes.len(), 1);
        (outcomes.remove(0), effects)
    }

    /// The answer to a command that neither waits nor has effects.
    pub(crate) fn reply(&mut self, command: Command) -> Reply {
        match self.apply(command) {
            (Outcome::Done(reply), effects) if effects.is_empty() => reply,
            other => panic!("expected an answer alone, not {other:?}"),
        }
    }

    /// The effects of a command that waits.
    pub(crate) fn blocks(&mut self, command: Command) -> Vec<Effect> {
        match self.apply(command) {
            (Outcome::Pending, effects) => effects,
            other => panic!("expected a wait, not {other:?}"),
        }
    }

    /// Takes one lock at once and gives its token.
    pub(crate) fn take(&mut self, session: SessionId, text: &str, mode: Mode) -> FencingToken {
        let request = self.request(session);
        match self.reply(acquire(request, &[(text, mode)], Wait::Try)) {
            Reply::Lock(LockReply::Granted(grants)) => grants[0].token,
            other => panic!("expected a grant, not {other:?}"),
        }
    }

    /// A request with a serial that was not used yet.
    pub(crate) fn request(&mut self, session: SessionId) -> RequestId {
        self.serial += 1;
        request(session, self.serial)
    }

    pub(crate) fn release(
        &mut self,
        session: SessionId,
        text: &str,
        token: FencingToken,
    ) -> (Outcome, Vec<Effect>) {
        let request = self.request(session);
        self.apply(Command::Lock(LockCommand::Release {
            request,
            name: name(text),
            token,
        }))
    }
}
