//! Sessions: opening, resuming, attaching, ending.
//!
//! Invariants: ending a session gives back all that it held here and drops its waits, in the one
//! command; its home keeps its record until every touched shard has done so too.

use std::collections::BTreeSet;

use super::{
    Kernel, MAX_TOMBSTONES, TOMBSTONE_LIFE,
    presence::{Home, Member, Presence, Role},
};
use crate::{
    id::{Millis, Priority, SessionEpoch, SessionId, ShardId, ShardTime, TouchNumber},
    outcome::Effect,
    reply::{Refusal, Reply},
    session::{
        EndReason, Labels, MAX_SESSION_TTL, MIN_SESSION_TTL, SessionRefusal, SessionReply, Touch,
    },
};

impl Kernel {
    pub(super) fn open_session(
        &mut self,
        session: SessionId,
        ttl: Millis,
        priority: Priority,
        labels: Labels,
    ) -> Reply {
        if !(MIN_SESSION_TTL..=MAX_SESSION_TTL).contains(&ttl) {
            let what = format!("a TTL of {ttl} ms is not in {MIN_SESSION_TTL}..={MAX_SESSION_TTL}");
            return Reply::Refused(Refusal::Malformed { what });
        }
        if self.sessions.contains_key(&session) {
            return Reply::Refused(Refusal::Session(SessionRefusal::SessionExists { session }));
        }
        let epoch = SessionEpoch::FIRST;
        let role = Role::Home(Home {
            ttl,
            epoch,
            priority,
            labels,
            opened: self.wall,
            checkpoint: None,
            revoked: false,
            touched: BTreeSet::new(),
        });
        self.admit(session, role);
        self.effects.push(Effect::SessionAlive {
            session,
            ttl,
            epoch,
        });
        Reply::Session(SessionReply::Opened {
            session,
            ttl,
            epoch,
        })
    }

    pub(super) fn resume_session(&mut self, session: SessionId) -> Reply {
        match self.living(session) {
            Err(refusal) => Reply::Refused(refusal),
            Ok(home) => {
                home.epoch = home.epoch.next();
                home.checkpoint = None;
                let (ttl, epoch) = (home.ttl, home.epoch);
                self.effects.push(Effect::SessionAlive {
                    session,
                    ttl,
                    epoch,
                });
                Reply::Session(SessionReply::Opened {
                    session,
                    ttl,
                    epoch,
                })
            }
        }
    }

    pub(super) fn touch_shard(&mut self, session: SessionId, shard: ShardId) -> Reply {
        let touch = Touch {
            home: self.id,
            number: self.last_touch.next(),
        };
        match self.living(session) {
            Err(refusal) => Reply::Refused(refusal),
            Ok(home) => {
                // The home itself releases at once when the session ends.
                if shard != touch.home {
                    home.touched.insert(shard);
                }
                let (priority, opened) = (home.priority, home.opened);
                self.last_touch = touch.number;
                Reply::Session(SessionReply::Touched {
                    touch,
                    priority,
                    opened,
                })
            }
        }
    }

    /// Sessions that have ended since are skipped.
    pub(super) fn checkpoint_sessions(&mut self, remaining: &[(SessionId, Millis)]) -> Reply {
        for (session, left) in remaining {
            if let Ok(home) = self.home(*session) {
                home.checkpoint = Some(*left);
            }
        }
        Reply::Done
    }

    /// Its whole TTL again, for whoever leads next.
    pub(super) fn revive_session(&mut self, session: SessionId) -> Reply {
        match self.living(session) {
            Err(refusal) => Reply::Refused(refusal),
            Ok(home) => {
                home.checkpoint = None;
                Reply::Done
            }
        }
    }

    /// Repeating it changes nothing.
    pub(super) fn revoke_session(&mut self, session: SessionId) -> Reply {
        match self.home(session) {
            Err(Refusal::Session(SessionRefusal::SessionEnded { .. })) => Reply::Done,
            Err(refusal) => Reply::Refused(refusal),
            Ok(home) => {
                let lease = home.ttl;
                if !std::mem::replace(&mut home.revoked, true) {
                    self.effects.push(Effect::SessionRevoked { session });
                }
                Reply::Session(SessionReply::Revoked { lease })
            }
        }
    }

    /// Ends a session in its home. Repeating it changes nothing.
    pub(super) fn end_session(&mut self, session: SessionId, reason: EndReason) -> Reply {
        let reason = match self.home(session) {
            Err(Refusal::Session(SessionRefusal::SessionEnded { .. })) => return Reply::Done,
            Err(refusal) => return Reply::Refused(refusal),
            // It was closed, and then its time was over.
            Ok(home) if home.revoked => EndReason::Closed,
            Ok(_) => reason,
        };
        let ended = self.now;
        let touch = Touch {
            home: self.id,
            number: self.last_touch,
        };
        if let Some(Role::Home(home)) = self.leave(session, reason) {
            if home.touched.is_empty() {
                self.bury(session, reason, ended, touch);
            } else {
                let shards = home.touched.iter();
                self.releases.extend(shards.map(|shard| (*shard, session)));
                self.sessions.insert(
                    session,
                    Presence::Ending {
                        home,
                        reason,
                        ended,
                        touch,
                    },
                );
            }
        }
        self.effects.push(Effect::SessionEnding { session, reason });
        Reply::Done
    }

    /// Repeating it changes nothing.
    pub(super) fn shard_released(&mut self, session: SessionId, shard: ShardId) -> Reply {
        match self.sessions.get_mut(&session) {
            Some(Presence::Ending {
                home,
                reason,
                ended,
                touch,
            }) => {
                home.touched.remove(&shard);
                self.releases.remove(&(shard, session));
                if home.touched.is_empty() {
                    let (reason, ended, touch) = (*reason, *ended, *touch);
                    self.bury(session, reason, ended, touch);
                }
                Reply::Done
            }
            Some(Presence::Ended { .. }) => Reply::Done,
            // An open session keeps its touch: the answer is for an end that was never made.
            Some(Presence::Open(_)) | None => {
                Reply::Refused(Refusal::Session(SessionRefusal::NoSession { session }))
            }
        }
    }

    /// Repeating it changes nothing.
    pub(super) fn attach_session(&mut self, session: SessionId, role: Role, touch: Touch) -> Reply {
        match self.sessions.get(&session) {
            Some(Presence::Open(_)) => Reply::Done,
            Some(Presence::Ending { reason, .. } | Presence::Ended { reason, .. }) => {
                Reply::Refused(Refusal::Session(SessionRefusal::SessionEnded {
                    session,
                    reason: *reason,
                }))
            }
            None if touch.number <= self.floor(touch.home) => {
                Reply::Refused(Refusal::Session(SessionRefusal::AttachTooOld { session }))
            }
            None => {
                self.admit(session, role);
                Reply::Done
            }
        }
    }

    /// Ends a session here, where it is not at home. Of one that was never here too, the end is
    /// remembered: its attach may be under way. Repeating it remembers it for longer.
    pub(super) fn detach_session(
        &mut self,
        session: SessionId,
        reason: EndReason,
        touch: Touch,
    ) -> Reply {
        match self.sessions.get(&session) {
            Some(Presence::Open(member)) if member.role.home().is_some() => {
                let what = format!("session {session} is at home here: it is ended, not detached");
                return Reply::Refused(Refusal::Malformed { what });
            }
            Some(Presence::Open(_)) => {
                self.leave(session, reason);
            }
            Some(Presence::Ended { until, .. }) => {
                self.tombstones.remove(&(*until, session));
            }
            Some(Presence::Ending { .. }) => return Reply::Done,
            // The floor keeps it out already.
            None if touch.number <= self.floor(touch.home) => return Reply::Done,
            None => {}
        }
        self.bury(session, reason, self.now, touch);
        Reply::Done
    }

    /// From now on the session may act here.
    fn admit(&mut self, session: SessionId, role: Role) {
        self.sessions
            .insert(session, Presence::Open(Member::new(role)));
    }

    /// Forgets the ends that are old enough.
    pub(super) fn forget_tombstones(&mut self) {
        while let Some(&(until, _)) = self.tombstones.first()
            && until <= self.now
        {
            self.forget_oldest_tombstone();
        }
    }

    /// From now on the floor keeps the session out.
    fn forget_oldest_tombstone(&mut self) {
        if let Some((_, session)) = self.tombstones.pop_first()
            && let Some(Presence::Ended { touch, .. }) = self.sessions.remove(&session)
        {
            self.raise_floor(touch);
        }
    }

    /// The touch of a home up to which sessions that are not known here may not be attached.
    fn floor(&self, home: ShardId) -> TouchNumber {
        self.floors.get(&home).copied().unwrap_or_default()
    }

    fn raise_floor(&mut self, touch: Touch) {
        let floor = self.floors.entry(touch.home).or_default();
        *floor = touch.number.max(*floor);
    }

    /// The home's part of an open session.
    fn home(&mut self, session: SessionId) -> Result<&mut Home, Refusal> {
        match self.sessions.get_mut(&session) {
            Some(Presence::Open(member)) => member
                .role
                .home_mut()
                .ok_or(Refusal::Session(SessionRefusal::NoSession { session })),
            Some(Presence::Ending { reason, .. } | Presence::Ended { reason, .. }) => {
                Err(Refusal::Session(SessionRefusal::SessionEnded {
                    session,
                    reason: *reason,
                }))
            }
            None => Err(Refusal::Session(SessionRefusal::NoSession { session })),
        }
    }

    /// The home's part of an open session that was not revoked.
    fn living(&mut self, session: SessionId) -> Result<&mut Home, Refusal> {
        let home = self.home(session)?;
        if home.revoked {
            let reason = EndReason::Closed;
            return Err(Refusal::Session(SessionRefusal::SessionEnded {
                session,
                reason,
            }));
        }
        Ok(home)
    }

    /// Removes an open session, and answers what it waits for. Its services have let go of it already.
    fn leave(&mut self, session: SessionId, reason: EndReason) -> Option<Role> {
        let Some(Presence::Open(_)) = self.sessions.get(&session) else {
            return None;
        };
        let Some(Presence::Open(member)) = self.sessions.remove(&session) else {
            return None;
        };
        for serial in member.requests.pending.keys() {
            let refusal = SessionRefusal::SessionEnded { session, reason };
            self.effects.push(Effect::Complete {
                session,
                serial: *serial,
                reply: refusal.into(),
            });
        }
        Some(member.role)
    }

    /// Remembers an end for [`TOMBSTONE_LIFE`] from when it came, unless [`MAX_TOMBSTONES`] come after it.
    fn bury(&mut self, session: SessionId, reason: EndReason, ended: ShardTime, touch: Touch) {
        let until = ended.plus(TOMBSTONE_LIFE);
        let presence = Presence::Ended {
            reason,
            until,
            touch,
        };
        self.tombstones.insert((until, session));
        self.sessions.insert(session, presence);
        self.forget_tombstones();
        while self.tombstones.len() > MAX_TOMBSTONES {
            self.forget_oldest_tombstone();
        }
    }
}
