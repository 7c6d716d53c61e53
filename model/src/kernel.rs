//! What all services of a shard share: its time, its sessions, and what became of their requests.
//!
//! Invariants: a session acts in a shard only between its attach (or opening, in its home) and its
//! end there; once ended there, it never acts there again.
//!
//! # Why a delayed attach cannot revive a session
//! A session uses another shard only after its home has recorded the touch; the home's end of the
//! session therefore reaches every shard that it may use. What could go wrong is an
//! [`Attach`](crate::SessionCommand::Attach) that is applied after the
//! [`Detach`](crate::SessionCommand::Detach). No clock keeps it out:
//!
//! - A home numbers its touches ([`TouchNumber`]), and records no touch of a session that has ended. An
//!   attach carries the number of its touch; a detach carries the home's last number at the end, which no
//!   touch of that session is above.
//! - The detached shard refuses the session by the end that it remembers (a *tombstone*). When it forgets
//!   one, after [`TOMBSTONE_LIFE`] or because there are [`MAX_TOMBSTONES`], it raises its *floor* for
//!   that home to the detach's number.
//! - An attach of a session that it does not know, at or below the floor, is refused: touch again. The
//!   home then refuses the touch if the session has ended, or else gives a number above all that it has
//!   ever given, and so above every floor.
//!
//! How long tombstones are kept decides only how often an attach has to be asked for twice.

mod acked;
mod home;
mod home_session;
mod lifecycle;
mod once;
mod presence;
mod requests;
mod view;

use std::collections::{BTreeMap, BTreeSet};

pub use acked::MAX_ACKED_RANGES;
pub use home_session::{EndingSession, HomeSession};
pub(crate) use once::fingerprint;
use presence::{Member, Presence, Role};
pub(crate) use requests::Abandoned;
pub use requests::{MAX_ABANDONED, MAX_IN_FLIGHT};

use crate::{
    codec::{Decode, DecodeError, Encode, Reader, check_bounds},
    cow_map::CowMap,
    id::{Millis, Priority, SessionId, ShardId, ShardTime, Timestamp, TouchNumber},
    outcome::Effect,
    reply::Reply,
    session::SessionCommand,
};

/// How long a shard remembers that a session has ended, by its own time: an attach that was under way is
/// told so, and need not ask the home again. See the module's text.
pub const TOMBSTONE_LIFE: Millis = Millis(60_000);
/// Most ends that a shard remembers: the oldest are forgotten first. About 6 MiB; a thousand ends a
/// second for as long as they live.
pub const MAX_TOMBSTONES: usize = 65_536;
/// No counter gets as far: at a million steps a second this takes 146,000 years. What claims to be
/// beyond was not written by a shard, and could not count on without giving a value twice.
pub(crate) const LAST_COUNT: u64 = u64::MAX >> 2;

/// What the services of a shard share.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    id: ShardId,
    now: ShardTime,
    /// The wall clock of the batch in hand; no part of the state.
    wall: Timestamp,
    sessions: CowMap<SessionId, Presence>,
    /// What ended sessions whose home this is are yet to be released by.
    releases: BTreeSet<(ShardId, SessionId)>,
    /// Those of `sessions` that are to be forgotten, and when.
    tombstones: BTreeSet<(ShardTime, SessionId)>,
    /// The last touch of a session whose home this is.
    last_touch: TouchNumber,
    /// By home: sessions that are not known here may not be attached by touches up to this one.
    floors: BTreeMap<ShardId, TouchNumber>,
    /// The effects of the batch in hand; empty between batches.
    effects: Vec<Effect>,
}

/// How many sessions there are, and how much they asked.
#[derive(Default)]
pub(crate) struct SessionCounts {
    pub(crate) home: usize,
    pub(crate) ending: usize,
    pub(crate) attached: usize,
    pub(crate) tombstones: usize,
    pub(crate) answers: usize,
}

impl Kernel {
    /// Of a shard without sessions.
    pub(crate) const fn new(id: ShardId) -> Self {
        Self {
            id,
            now: ShardTime(0),
            wall: Timestamp(0),
            sessions: CowMap::new(),
            releases: BTreeSet::new(),
            tombstones: BTreeSet::new(),
            last_touch: TouchNumber(0),
            floors: BTreeMap::new(),
            effects: Vec::new(),
        }
    }

    /// A batch begins: it is so late now.
    pub(crate) fn begin(&mut self, at: ShardTime, wall: Timestamp) {
        self.now = self.now.max(at);
        self.wall = wall;
        self.forget_tombstones();
    }

    /// Changes sessions. The services have let go of one that ends, see [`Kernel::ends`].
    pub(crate) fn apply(&mut self, command: SessionCommand) -> Reply {
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

    /// The session that a command is about to end here, and why: its services let go of it before.
    pub(crate) fn ends(&self, command: &SessionCommand) -> Option<SessionId> {
        let (session, is_home) = match command {
            SessionCommand::End { session, .. } => (*session, true),
            SessionCommand::Detach { session, .. } => (*session, false),
            SessionCommand::Open { .. }
            | SessionCommand::Resume { .. }
            | SessionCommand::TouchShard { .. }
            | SessionCommand::Checkpoint { .. }
            | SessionCommand::Revive { .. }
            | SessionCommand::Revoke { .. }
            | SessionCommand::ShardReleased { .. }
            | SessionCommand::Attach { .. } => return None,
        };
        let member = self.member(session)?;
        (member.role.home().is_some() == is_home).then_some(session)
    }

    /// Which shard it is.
    pub(crate) const fn id(&self) -> ShardId {
        self.id
    }

    /// The latest time seen in a batch.
    pub(crate) const fn now(&self) -> ShardTime {
        self.now
    }

    /// The wall clock of the batch in hand, for people.
    pub(crate) const fn wall(&self) -> Timestamp {
        self.wall
    }

    /// True if the session may act here.
    pub(crate) fn is_open(&self, session: SessionId) -> bool {
        self.member(session).is_some()
    }

    /// True if nobody has a session here, and none is on its way out.
    pub(crate) fn is_unused(&self) -> bool {
        let ended = |presence: &Presence| matches!(presence, Presence::Ended { .. });
        self.sessions.values().all(ended)
    }

    /// What decides who gives way in a deadlock: the session's priority, and when it was opened.
    pub(crate) fn rank(&self, session: SessionId) -> Option<(Priority, Timestamp)> {
        self.member(session).map(|member| member.role.rank())
    }

    /// Something for the leader to do.
    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// The effects of the batch in hand.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Looks at every session.
    pub(crate) fn counts(&self) -> SessionCounts {
        let mut counts = SessionCounts::default();
        for presence in self.sessions.values() {
            match presence {
                Presence::Open(member) => {
                    match member.role.home() {
                        Some(_) => counts.home += 1,
                        None => counts.attached += 1,
                    }
                    counts.answers += member.requests.answers.len();
                }
                Presence::Ending { .. } => counts.ending += 1,
                Presence::Ended { .. } => counts.tombstones += 1,
            }
        }
        counts
    }

    /// How many requests are pending: each is known to one service.
    pub(crate) fn pending_count(&self) -> usize {
        let members = self
            .sessions
            .values()
            .filter_map(|presence| match presence {
                Presence::Open(member) => Some(member.requests.pending.len()),
                Presence::Ending { .. } | Presence::Ended { .. } => None,
            });
        members.sum()
    }

    /// What there is now of all that is written. Takes the same time however many sessions there are.
    pub(crate) fn point(&mut self) -> Self {
        Self {
            now: self.now,
            last_touch: self.last_touch,
            floors: self.floors.clone(),
            sessions: self.sessions.freeze(),
            ..Self::new(self.id)
        }
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

/// Only what cannot be derived is written: tombstones and releases follow from the sessions.
impl Encode for Kernel {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.id.encode_into(out);
        self.now.encode_into(out);
        self.last_touch.encode_into(out);
        self.floors.encode_into(out);
        self.sessions.encode_into(out);
    }
}

impl Decode for Kernel {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut kernel = Self::new(Decode::decode_from(input)?);
        kernel.now = Decode::decode_from(input)?;
        kernel.last_touch = Decode::decode_from(input)?;
        check_bounds("last touch", kernel.last_touch.0, 0, LAST_COUNT)?;
        kernel.floors = Decode::decode_from(input)?;
        kernel.sessions = Decode::decode_from(input)?;
        for (session, presence) in &kernel.sessions {
            match presence {
                Presence::Open(_) => {}
                Presence::Ended { until, .. } => {
                    kernel.tombstones.insert((*until, *session));
                }
                Presence::Ending { home, .. } => {
                    let shards = home.touched.iter();
                    let releases = shards.map(|touched| (*touched, *session));
                    kernel.releases.extend(releases);
                }
            }
        }
        Ok(kernel)
    }
}
