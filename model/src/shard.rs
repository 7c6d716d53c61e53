//! A data shard's state machine: sessions and locks.
//!
//! Invariants: a hold is known to its lock and to its session, a waiting request to its session, to
//! the one lock in which it waits and, if it has a deadline, to the deadlines; a lock that nobody
//! holds or waits for is not kept; and when a command is done, nobody waits for what could be
//! granted. Every request that became pending is completed exactly once.
//!
//! **Fencing tokens** come from one counter for the whole shard, which every new grant raises. So
//! the tokens of each lock grow for ever, across failover (the counter is replicated), restart (it is
//! in the snapshot) and re-creation of the lock, although nothing is kept for locks that are not
//! held. A lock never changes its shard.

mod acquire;
mod convert;
mod deadlock;
mod lifecycle;
mod meet;
mod note;
mod proclaim;
mod release;
mod request;
mod restore;
mod settle;
mod succeed;
mod view;
mod withdraw;

pub use succeed::{LAST_START, TOKEN_GAP};

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
};

use crate::{
    command::{Batch, Command},
    cow_map::CowMap,
    id::{
        FencingToken, LockName, Revision, Serial, SessionId, ShardId, ShardTime, Timestamp,
        TouchNumber, WaitEpoch,
    },
    locks::{change::Change, command::LockCommand, deadlock::Deadlock, lock::Lock},
    machine::{Applied, Effect, Outcome},
    reply::{Refusal, Reply},
    session::SessionRefusal,
    session::{
        EndReason, EndingSession, Goal, Holdings, HomeSession, Member, Presence, Role,
        SessionCommand,
    },
};

/// The state of a data shard.
#[derive(Clone, Debug)]
pub struct Shard {
    id: ShardId,
    now: ShardTime,
    /// The wall clock of the batch in hand; no part of the state.
    wall: Timestamp,
    last_token: FencingToken,
    sessions: CowMap<SessionId, Presence>,
    /// What each open session holds here, so that its end need not search the table. Apart from
    /// `sessions`, because it may be large and is no part of a [`Shard::point`].
    holdings: BTreeMap<SessionId, Holdings>,
    /// What ended sessions whose home this is are yet to be released by.
    releases: BTreeSet<(ShardId, SessionId)>,
    /// Those of `sessions` that are to be forgotten, and when.
    tombstones: BTreeSet<(ShardTime, SessionId)>,
    /// The last touch of a session whose home this is.
    last_touch: TouchNumber,
    /// By home: sessions that are not known here may not be attached by touches up to this one.
    floors: BTreeMap<ShardId, TouchNumber>,
    locks: CowMap<LockName, Lock>,
    /// Those waits that have a deadline.
    deadlines: BTreeSet<(ShardTime, SessionId, Serial)>,
    last_wait: WaitEpoch,
    /// All waits, in the order in which they began.
    waiting: BTreeMap<WaitEpoch, (SessionId, Serial)>,
    /// Of the last change of a hold.
    revision: Revision,
    /// Deadlocks broken here.
    deadlock_count: u64,
    /// The last of them.
    deadlocks: VecDeque<Deadlock>,
    /// Locks whose holders or queue the command in hand has changed; empty between commands.
    changed: VecDeque<LockName>,
    /// The effects of the batch in hand; empty between batches.
    effects: Vec<Effect>,
    /// The changes of holds by the batch in hand; empty between batches.
    changes: Vec<Change>,
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

/// How far an operation came.
enum Step {
    /// It is answered.
    Done(Reply),
    /// It waits.
    Wait(Goal),
}

impl Step {
    const fn refused(refusal: Refusal) -> Self {
        Self::Done(Reply::Refused(refusal))
    }
}

impl Shard {
    /// An empty shard.
    #[must_use]
    pub const fn new(id: ShardId) -> Self {
        Self {
            id,
            now: ShardTime(0),
            wall: Timestamp(0),
            last_token: FencingToken(0),
            sessions: CowMap::new(),
            holdings: BTreeMap::new(),
            releases: BTreeSet::new(),
            tombstones: BTreeSet::new(),
            last_touch: TouchNumber(0),
            floors: BTreeMap::new(),
            locks: CowMap::new(),
            deadlines: BTreeSet::new(),
            last_wait: WaitEpoch(0),
            waiting: BTreeMap::new(),
            revision: Revision(0),
            deadlock_count: 0,
            deadlocks: VecDeque::new(),
            changed: VecDeque::new(),
            effects: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Applies one committed batch: one outcome per command, in order.
    pub fn apply(&mut self, batch: Batch) -> Applied {
        self.now = self.now.max(batch.at);
        self.wall = batch.wall;
        self.forget_tombstones();
        let deadline = self.next_wait_deadline();
        let mut outcomes = Vec::with_capacity(batch.commands.len());
        for command in batch.commands {
            outcomes.push(self.execute(command));
            self.settle();
        }
        let next_deadline = self.next_wait_deadline();
        if next_deadline != deadline {
            self.effects.push(Effect::NextWaitDeadline(next_deadline));
        }
        Applied {
            outcomes,
            effects: std::mem::take(&mut self.effects),
            changes: std::mem::take(&mut self.changes),
        }
    }

    fn execute(&mut self, command: Command) -> Outcome {
        match command {
            Command::Session(command) => Outcome::Done(self.execute_session(command)),
            Command::Lock(command) => self.execute_lock(command),
            Command::Meta(_) => Outcome::Done(Reply::Refused(Refusal::WrongShard)),
        }
    }

    fn execute_session(&mut self, command: SessionCommand) -> Reply {
        match command {
            SessionCommand::Open {
                session,
                ttl,
                priority,
                labels,
            } => self.open_session(session, ttl, priority, labels),
            SessionCommand::Resume { session } => self.resume_session(session),
            SessionCommand::TouchShard { session, shard } => self.touch_shard(session, shard),
            SessionCommand::Checkpoint { remaining } => self.checkpoint_sessions(&remaining),
            SessionCommand::Revive { session } => self.revive_session(session),
            SessionCommand::Revoke { session } => self.revoke_session(session),
            SessionCommand::End { session, reason } => self.end_session(session, reason),
            SessionCommand::ShardReleased { session, shard } => self.shard_released(session, shard),
            SessionCommand::Attach {
                session,
                priority,
                opened,
                touch,
            } => self.attach_session(session, Role::Attached { priority, opened }, touch),
            SessionCommand::Detach {
                session,
                reason,
                touch,
            } => self.detach_session(session, reason, touch),
        }
    }

    fn execute_lock(&mut self, command: LockCommand) -> Outcome {
        let reply = match command {
            LockCommand::Acquire {
                request,
                owner,
                locks,
                wait,
                value,
            } => return self.acquire(request, owner, locks, wait, value),
            LockCommand::Proclaim {
                request,
                name,
                token,
                value,
            } => return self.proclaim(request, name, token, value),
            LockCommand::Release {
                request,
                name,
                token,
            } => return self.release(request, name, token),
            LockCommand::Upgrade {
                request,
                name,
                token,
                wait,
            } => return self.upgrade(request, name, token, wait),
            LockCommand::Downgrade {
                request,
                name,
                token,
            } => return self.downgrade(request, name, token),
            LockCommand::CancelWait { session, serial } => self.cancel_wait(session, serial),
            LockCommand::AbortWait {
                session,
                serial,
                epoch,
                cycle,
            } => self.abort_wait(session, serial, epoch, cycle),
            LockCommand::UndoAcquire {
                session,
                serial,
                grants,
                refusal,
            } => self.undo_acquire(session, serial, &grants, refusal),
            LockCommand::ExpireWaits => self.expire_waits(),
            LockCommand::RaiseTokens { above } => self.raise_tokens(above),
        };
        Outcome::Done(reply)
    }

    /// Which shard it is.
    #[must_use]
    pub const fn id(&self) -> ShardId {
        self.id
    }

    /// The latest time seen in a batch.
    #[must_use]
    pub const fn now(&self) -> ShardTime {
        self.now
    }

    /// The open sessions whose home this is, by id: what a new leader starts to watch over.
    pub fn home_sessions(&self) -> impl Iterator<Item = HomeSession> + '_ {
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
    #[must_use]
    pub fn end_of(&self, session: SessionId) -> Option<Refusal> {
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
    #[must_use]
    pub fn ending(&self) -> Vec<EndingSession> {
        let sessions: BTreeSet<_> = self.releases.iter().map(|(_, session)| session).collect();
        let ending = sessions
            .into_iter()
            .map(|session| self.ending_session(*session));
        ending.flatten().collect()
    }

    /// What the leader goes on telling the shards that are not `skipped`: for each the first `limit` of
    /// the sessions that it is yet to release. Takes as long as that is, however many sessions there are.
    #[must_use]
    pub fn releases(
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

    /// The earliest deadline among the waits: when to propose [`LockCommand::ExpireWaits`].
    #[must_use]
    pub fn next_wait_deadline(&self) -> Option<ShardTime> {
        self.deadlines.first().map(|(deadline, ..)| *deadline)
    }

    /// True while this request waits.
    #[must_use]
    pub fn pending(&self, session: SessionId, serial: Serial) -> bool {
        self.member(session)
            .is_some_and(|member| member.requests.waits.contains_key(&serial))
    }

    /// How large the state is. Looks at every session, at no lock.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            locks: self.locks.len(),
            holders: self.holdings.values().map(BTreeMap::len).sum(),
            deadlocks: self.deadlock_count,
            ..Counts::default()
        };
        for presence in self.sessions.values() {
            match presence {
                Presence::Open(member) => {
                    match member.role.home() {
                        Some(_) => counts.sessions += 1,
                        None => counts.attached += 1,
                    }
                    counts.waiters += member.requests.waits.len();
                    counts.replies += member.requests.answers.len();
                }
                Presence::Ending { .. } => counts.ending += 1,
                Presence::Ended { .. } => counts.tombstones += 1,
            }
        }
        counts
    }

    /// A session that may act here.
    fn member(&self, session: SessionId) -> Option<&Member> {
        match self.sessions.get(&session)? {
            Presence::Open(member) => Some(member),
            Presence::Ending { .. } | Presence::Ended { .. } => None,
        }
    }

    /// A session that may act here, to change it.
    fn member_mut(&mut self, session: SessionId) -> Option<&mut Member> {
        match self.sessions.get_mut(&session)? {
            Presence::Open(member) => Some(member),
            Presence::Ending { .. } | Presence::Ended { .. } => None,
        }
    }
}
