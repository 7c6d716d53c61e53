//! The rules of locks once more, in the plainest way: lists, searched from end to end.
//!
//! It shares no code with the model and keeps no index, no count of anything and no fingerprint.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lockstep_model::{
    Command, FencingToken, LockCommand, LockName, LockRefusal, LockReply, Outcome, Owner, Priority,
    Refusal, Reply, Serial, SessionCommand, SessionId, SessionRefusal, ShardTime, Timestamp, Usage,
    Value,
    locks::{
        command::{GiveBack, LockSpec},
        mode::Mode,
        query::{HolderView, LockView, WaiterView},
        reply::Grant,
    },
    request::{AckedRanges, RequestId, Wait},
    session::EndReason,
};

use crate::world::wall;

#[derive(Clone, Debug, Default)]
pub(crate) struct Naive {
    pub(crate) now: ShardTime,
    open: Vec<SessionId>,
    pub(crate) completed: Vec<(SessionId, Serial, Reply)>,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) locks: BTreeMap<LockName, Lock>,
    ended: Vec<(SessionId, EndReason)>,
    pub answered: Vec<(SessionId, Serial, Option<Command>, Reply)>,
    acked: BTreeMap<SessionId, Acked>,
    abandoned: Vec<(SessionId, Serial)>,
    last_token: u64,
    last_wait: u64,
    changed: Vec<LockName>,
    /// The waits that the model ended to break deadlocks by the command in hand: which of several it
    /// chooses is left to it, but each must be one of those that may be chosen.
    pub(crate) broken: VecDeque<(SessionId, Serial)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Lock {
    pub(crate) holds: Vec<Hold>,
    pub(crate) upgrader: Option<(SessionId, Serial)>,
    pub(crate) queue: Vec<(SessionId, Serial)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) session: SessionId,
    pub(crate) owner: Owner,
    pub(crate) mode: Mode,
    pub(crate) token: FencingToken,
    pub(crate) granted: u32,
    pending: u32,
    since: Timestamp,
    value: Value,
}

#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) session: SessionId,
    pub(crate) serial: Serial,
    pub(crate) deadline: Option<ShardTime>,
    content: Command,
    since: Timestamp,
    /// Counts the waits.
    began: u64,
    /// By name; none for an upgrade.
    sorted: Vec<LockSpec>,
    taken: usize,
}

/// The serials whose answers a client has.
#[derive(Clone, Debug, Default)]
struct Acked {
    below: Serial,
    above: BTreeSet<u64>,
}

impl Acked {
    fn has(&self, serial: Serial) -> bool {
        serial < self.below || self.above.contains(&serial.0)
    }
}

fn held_again(name: &LockName, hold: &Hold) -> Option<Reply> {
    let (name, holds) = (name.to_string(), hold.granted + hold.pending);
    (holds > 1).then_some(Reply::Refused(Refusal::Lock(LockRefusal::HeldAgain {
        name,
        holds,
    })))
}

fn stale(name: &LockName, token: FencingToken) -> Reply {
    Reply::Refused(Refusal::Lock(LockRefusal::StaleToken {
        name: name.to_string(),
        token,
    }))
}

fn request_of(command: &Command) -> Option<(RequestId, Wait)> {
    match command {
        Command::Lock(LockCommand::Acquire { request, wait, .. })
        | Command::Lock(LockCommand::Upgrade { request, wait, .. }) => Some((*request, *wait)),
        Command::Lock(LockCommand::Release { request, .. })
        | Command::Lock(LockCommand::Downgrade { request, .. })
        | Command::Lock(LockCommand::Proclaim { request, .. }) => Some((*request, Wait::Try)),
        _ => None,
    }
}

fn without_ack(command: &Command) -> Command {
    let mut command = command.clone();
    match &mut command {
        Command::Lock(LockCommand::Acquire { request, .. })
        | Command::Lock(LockCommand::Upgrade { request, .. })
        | Command::Lock(LockCommand::Release { request, .. })
        | Command::Lock(LockCommand::Downgrade { request, .. })
        | Command::Lock(LockCommand::Proclaim { request, .. }) => {
            request.acked_below = Serial(0);
            request.acked = AckedRanges::NONE;
        }
        _ => {}
    }
    command
}

/// Of the sessions in these histories.
pub(crate) fn priority(session: SessionId) -> Priority {
    Priority([0, 2, 1, 1, 0][session.0 as usize])
}

/// When those that are attached were opened; those at home were at 0.
pub(crate) fn opened(session: SessionId) -> Timestamp {
    wall(ShardTime(if session.0 < 3 { 0 } else { session.0 }))
}

fn fits(mode: Mode, holds: &[Hold]) -> bool {
    match mode {
        Mode::Shared => holds.iter().all(|hold| hold.mode == Mode::Shared),
        Mode::Exclusive => holds.is_empty(),
        Mode::Permits { count, of } => {
            let taken = holds.iter().map(|hold| match hold.mode {
                Mode::Permits { count, .. } => count,
                _ => of,
            });
            taken.sum::<u32>() + count <= of
        }
        Mode::Meet { .. } => false,
    }
}

impl Naive {
    pub(crate) fn new(open: Vec<SessionId>) -> Self {
        Self {
            open,
            ..Self::default()
        }
    }

    pub(crate) fn apply(&mut self, at: ShardTime, command: &Command) -> Outcome {
        self.now = self.now.max(at);
        let outcome = match request_of(command) {
            Some((request, wait)) => self.request(request, wait, command),
            None => Outcome::Done(self.unnumbered(command)),
        };
        while !self.changed.is_empty() {
            let name = self.changed.remove(0);
            self.settle(&name);
        }
        outcome
    }

    fn request(&mut self, request: RequestId, wait: Wait, command: &Command) -> Outcome {
        let RequestId {
            session,
            serial,
            acked_below,
            acked: acked_above,
        } = request;
        let refused = |refusal| Outcome::Done(Reply::Refused(refusal));
        if let Some((_, reason)) = self.ended.iter().find(|(ended, _)| *ended == session) {
            return refused(Refusal::Session(SessionRefusal::SessionEnded {
                session,
                reason: *reason,
            }));
        }
        if !self.open.contains(&session) {
            return refused(Refusal::Session(SessionRefusal::NotAttached { session }));
        }
        let acked = self.acked.entry(session).or_default();
        acked.below = acked_below.max(acked.below);
        acked.above.extend(
            acked_above
                .iter()
                .flat_map(|range| range.from.0..range.below.0),
        );
        while acked.above.contains(&acked.below.0) {
            acked.below.0 += 1;
        }
        let acked = acked.clone();
        self.answered
            .retain(|(who, which, ..)| *who != session || !acked.has(*which));
        let mut content = without_ack(command);
        if let Command::Lock(LockCommand::Acquire { owner, .. }) = &mut content
            && owner.as_str().is_empty()
        {
            *owner = Owner::new(&format!("~{serial}")).unwrap();
        }
        if let Some(waiting) = self.find_waiting(session, serial) {
            return match waiting.content == content {
                true => Outcome::Pending,
                false => refused(Refusal::Session(SessionRefusal::SerialReused {
                    serial: serial.0,
                })),
            };
        }
        let same =
            |(who, which, ..): &&(SessionId, Serial, _, _)| *who == session && *which == serial;
        if let Some((.., first, reply)) = self.answered.iter().find(same) {
            return match first.as_ref().is_none_or(|first| *first == content) {
                true => Outcome::Done(reply.clone()),
                false => refused(Refusal::Session(SessionRefusal::SerialReused {
                    serial: serial.0,
                })),
            };
        }
        if acked.has(serial) {
            return refused(Refusal::Session(SessionRefusal::SerialForgotten {
                serial: serial.0,
                acked_below: acked.below.0,
            }));
        }
        if self.abandoned.contains(&(session, serial)) {
            return refused(Refusal::Session(SessionRefusal::Abandoned {
                serial: serial.0,
            }));
        }
        let deadline = match wait {
            Wait::AtMost(span) => Some(self.now.plus(span)),
            Wait::Try | Wait::Forever => None,
        };
        let (since, sorted) = (wall(self.now), Vec::new());
        let new = Waiting {
            session,
            serial,
            deadline,
            content: content.clone(),
            since,
            began: 0,
            sorted,
            taken: 0,
        };
        let before = self.clone();
        let reply = match command {
            Command::Lock(LockCommand::Acquire { locks, .. }) => {
                let mut sorted = locks.clone();
                sorted.sort_by(|a, b| a.name.cmp(&b.name));
                self.go_on(Waiting { sorted, ..new }, false)
            }
            Command::Lock(LockCommand::Release { name, token, .. }) => {
                Some(self.release(session, name, *token))
            }
            Command::Lock(LockCommand::Upgrade { name, token, .. }) => {
                self.upgrade(name, *token, new)
            }
            Command::Lock(LockCommand::Downgrade { name, token, .. }) => {
                Some(self.downgrade(session, name, *token))
            }
            Command::Lock(LockCommand::Proclaim {
                name, token, value, ..
            }) => Some(match self.granted(session, name, *token) {
                Some(hold) => {
                    hold.value = value.clone();
                    Reply::Done
                }
                None => stale(name, *token),
            }),
            _ => unreachable!(),
        };
        let reply = match (reply, wait) {
            // All or nothing: as if it had never been.
            (Some(refused @ Reply::Refused(_)), Wait::Try) => {
                *self = before;
                Some(refused)
            }
            (None, Wait::Try) => {
                let name = self.waits_for(session, serial).to_string();
                *self = before;
                Some(Reply::Refused(Refusal::Lock(LockRefusal::Unavailable {
                    name,
                })))
            }
            (reply, _) => reply,
        };
        match reply {
            None => {
                let owner = self.owner(self.find_waiting(session, serial).unwrap());
                self.break_deadlocks(&owner);
                Outcome::Pending
            }
            Some(reply) => {
                if !serial.is_ephemeral() {
                    self.answered
                        .push((session, serial, Some(content), reply.clone()));
                }
                Outcome::Done(reply)
            }
        }
    }

    fn undo_acquire(
        &mut self,
        session: SessionId,
        serial: Serial,
        grants: &[GiveBack],
        refusal: &Refusal,
    ) -> Reply {
        if let Some((_, reason)) = self.ended.iter().find(|(ended, _)| *ended == session) {
            let reason = *reason;
            return Reply::Refused(Refusal::Session(SessionRefusal::SessionEnded {
                session,
                reason,
            }));
        }
        if !self.open.contains(&session) {
            return Reply::Refused(Refusal::Session(SessionRefusal::NotAttached { session }));
        }
        if self.find_waiting(session, serial).is_some() {
            self.end_wait(session, serial, refusal.clone());
            return Reply::Done;
        }
        if serial.is_ephemeral() {
            if self.abandoned.contains(&(session, serial)) {
                return Reply::Done;
            }
            self.abandoned.push((session, serial));
            for GiveBack { name, token } in grants {
                self.release(session, name, *token);
            }
            return Reply::Done;
        }
        if self
            .acked
            .get(&session)
            .is_some_and(|acked| acked.has(serial))
        {
            return Reply::Done;
        }
        let refused = Reply::Refused(refusal.clone());
        let kept = self
            .answered
            .iter_mut()
            .find(|(who, which, ..)| (*who, *which) == (session, serial));
        match kept {
            Some((.., reply)) => {
                let Reply::Lock(LockReply::Granted(granted)) = reply.clone() else {
                    return Reply::Done;
                };
                *reply = refused;
                for Grant { name, token, .. } in granted {
                    self.release(session, &name, token);
                }
            }
            None => self.answered.push((session, serial, None, refused)),
        }
        Reply::Done
    }

    fn unnumbered(&mut self, command: &Command) -> Reply {
        match command {
            Command::Lock(LockCommand::CancelWait { session, serial }) => {
                if self.find_waiting(*session, *serial).is_none() {
                    return Reply::Refused(Refusal::Lock(LockRefusal::NoSuchWait));
                }
                let name = self.waits_for(*session, *serial).to_string();
                self.end_wait(
                    *session,
                    *serial,
                    Refusal::Lock(LockRefusal::WaitCancelled { name }),
                );
            }
            Command::Lock(LockCommand::UndoAcquire {
                session,
                serial,
                grants,
                refusal,
            }) => {
                return self.undo_acquire(*session, *serial, grants, refusal);
            }
            Command::Expire => {
                let mut over: Vec<_> = self.waiting.iter().collect();
                over.retain(|wait| wait.deadline.is_some_and(|deadline| deadline <= self.now));
                over.sort_by_key(|wait| (wait.deadline, wait.session, wait.serial));
                let over: Vec<_> = over
                    .iter()
                    .map(|wait| (wait.session, wait.serial))
                    .collect();
                for (session, serial) in over {
                    let name = self.waits_for(session, serial).to_string();
                    self.end_wait(
                        session,
                        serial,
                        Refusal::Lock(LockRefusal::WaitTimedOut { name }),
                    );
                }
            }
            Command::Session(SessionCommand::End { session, reason })
            | Command::Session(SessionCommand::Detach {
                session, reason, ..
            }) => {
                self.end_session(*session, *reason);
            }
            other => panic!("the naive model does not know {other:?}"),
        }
        Reply::Done
    }

    fn end_session(&mut self, session: SessionId, reason: EndReason) {
        if self.ended.iter().any(|(ended, _)| *ended == session) {
            return;
        }
        let mut own: Vec<_> = self
            .waiting
            .iter()
            .map(|wait| (wait.session, wait.serial))
            .collect();
        own.retain(|(who, _)| *who == session);
        own.sort();
        for (session, serial) in own {
            self.end_wait(
                session,
                serial,
                Refusal::Session(SessionRefusal::SessionEnded { session, reason }),
            );
        }
        for (name, lock) in &mut self.locks {
            for _ in lock.holds.extract_if(.., |hold| hold.session == session) {
                self.changed.push(name.clone());
            }
        }
        self.answered.retain(|(who, ..)| *who != session);
        self.open.retain(|open| *open != session);
        self.ended.push((session, reason));
    }

    pub(crate) fn find_waiting(&self, session: SessionId, serial: Serial) -> Option<&Waiting> {
        self.waiting
            .iter()
            .find(|wait| wait.session == session && wait.serial == serial)
    }

    fn waits_for(&self, session: SessionId, serial: Serial) -> LockName {
        let is_in = |lock: &Lock| {
            lock.queue.contains(&(session, serial)) || lock.upgrader == Some((session, serial))
        };
        self.locks
            .iter()
            .find(|(_, lock)| is_in(lock))
            .expect("it waits somewhere")
            .0
            .clone()
    }

    fn own<'a>(lock: &'a mut Lock, session: SessionId, owner: &Owner) -> Option<&'a mut Hold> {
        lock.holds
            .iter_mut()
            .find(|hold| hold.session == session && hold.owner == *owner)
    }

    /// Takes lock after lock. None: it waits now.
    fn go_on(&mut self, mut wait: Waiting, mut is_head: bool) -> Option<Reply> {
        let (session, serial) = (wait.session, wait.serial);
        let Command::Lock(LockCommand::Acquire { owner, value, .. }) = wait.content.clone() else {
            unreachable!()
        };
        while let Some(LockSpec { name, mode }) = wait.sorted.get(wait.taken).cloned() {
            if let Some(present) = self.usage(&name)
                && present != mode.usage()
            {
                self.undo(&wait);
                let name = name.to_string();
                return Some(Reply::Refused(Refusal::Lock(LockRefusal::OtherUsage {
                    name,
                    present,
                })));
            }
            let lock = self.locks.entry(name.clone()).or_default();
            let upgraded = lock.upgrader.and_then(|(session, serial)| {
                let is_it = |w: &&Waiting| (w.session, w.serial) == (session, serial);
                match self.waiting.iter().find(is_it)?.content {
                    Command::Lock(LockCommand::Upgrade { token, .. }) => Some(token),
                    _ => None,
                }
            });
            if let Some(own) = Self::own(lock, session, &owner) {
                if upgraded == Some(own.token) {
                    self.undo(&wait);
                    let name = name.to_string();
                    return Some(Reply::Refused(Refusal::Lock(LockRefusal::UpgradePending {
                        name,
                    })));
                }
                if mode.usage() != Usage::Lock && own.mode != mode {
                    self.undo(&wait);
                    let name = name.to_string();
                    return Some(Reply::Refused(Refusal::Lock(LockRefusal::OtherPermits {
                        name,
                    })));
                }
                if own.mode == Mode::Shared && mode == Mode::Exclusive {
                    self.undo(&wait);
                    let name = name.to_string();
                    return Some(Reply::Refused(Refusal::Lock(
                        LockRefusal::UpgradeRequired { name },
                    )));
                }
                own.pending += 1;
            } else {
                let is_first = is_head || (lock.queue.is_empty() && lock.upgrader.is_none());
                if !is_first || !fits(mode, &lock.holds) {
                    lock.queue.push((session, serial));
                    self.last_wait += 1;
                    self.waiting.push(Waiting {
                        since: wall(self.now),
                        began: self.last_wait,
                        ..wait
                    });
                    return None;
                }
                self.last_token += 1;
                let (token, since, owner) =
                    (FencingToken(self.last_token), wall(self.now), owner.clone());
                lock.holds.push(Hold {
                    session,
                    owner,
                    mode,
                    token,
                    granted: 0,
                    pending: 1,
                    since,
                    value: value.clone(),
                });
            }
            wait.taken += 1;
            is_head = false;
        }
        Some(self.finish(&wait, &owner))
    }

    fn finish(&mut self, wait: &Waiting, owner: &Owner) -> Reply {
        let Command::Lock(LockCommand::Acquire { locks, .. }) = &wait.content else {
            unreachable!()
        };
        let mut grants = Vec::new();
        for LockSpec { name, .. } in locks {
            let lock = self.locks.get_mut(name).unwrap();
            let own = Self::own(lock, wait.session, owner).unwrap();
            own.pending -= 1;
            own.granted += 1;
            let Hold {
                mode,
                token,
                granted,
                ..
            } = *own;
            grants.push(Grant {
                name: name.clone(),
                mode,
                token,
                holds: granted,
            });
        }
        Reply::Lock(LockReply::Granted(grants))
    }

    fn undo(&mut self, wait: &Waiting) {
        let Command::Lock(LockCommand::Acquire { owner, .. }) = &wait.content else {
            return;
        };
        for LockSpec { name, .. } in &wait.sorted[..wait.taken] {
            let lock = self.locks.get_mut(name).unwrap();
            Self::own(lock, wait.session, owner).unwrap().pending -= 1;
            self.clear(name);
        }
    }

    fn clear(&mut self, name: &LockName) {
        let lock = self.locks.get_mut(name).unwrap();
        let before = lock.holds.len();
        lock.holds.retain(|hold| hold.granted + hold.pending > 0);
        if lock.holds.len() < before {
            self.changed.push(name.clone());
        }
    }

    fn end_wait(&mut self, session: SessionId, serial: Serial, refusal: Refusal) {
        let name = self.waits_for(session, serial);
        let lock = self.locks.get_mut(&name).unwrap();
        lock.queue.retain(|waiter| *waiter != (session, serial));
        lock.upgrader = lock
            .upgrader
            .filter(|upgrader| *upgrader != (session, serial));
        let wait = self.take_waiting(session, serial);
        self.undo(&wait);
        self.changed.push(name);
        self.complete(wait, Reply::Refused(refusal));
    }

    fn take_waiting(&mut self, session: SessionId, serial: Serial) -> Waiting {
        let is_it = |wait: &Waiting| wait.session == session && wait.serial == serial;
        self.waiting
            .remove(self.waiting.iter().position(is_it).unwrap())
    }

    fn complete(&mut self, wait: Waiting, reply: Reply) {
        let Waiting {
            session,
            serial,
            content,
            ..
        } = wait;
        let acked = self.acked.get(&session).cloned().unwrap_or_default();
        if !acked.has(serial) && !serial.is_ephemeral() {
            self.answered
                .push((session, serial, Some(content), reply.clone()));
        }
        self.completed.push((session, serial, reply));
    }

    fn granted(
        &mut self,
        session: SessionId,
        name: &LockName,
        token: FencingToken,
    ) -> Option<&mut Hold> {
        let holds = &mut self.locks.get_mut(name)?.holds;
        let is_it = |hold: &&mut Hold| hold.session == session && hold.token == token;
        holds.iter_mut().find(is_it).filter(|hold| hold.granted > 0)
    }

    fn release(&mut self, session: SessionId, name: &LockName, token: FencingToken) -> Reply {
        let Some(hold) = self.granted(session, name, token) else {
            return stale(name, token);
        };
        hold.granted -= 1;
        let holds = hold.granted;
        if holds == 0 {
            let upgrader = self.locks[name].upgrader;
            if let Some((session, serial)) = upgrader
                && let Some(wait) = self.find_waiting(session, serial)
                && matches!(&wait.content, Command::Lock(LockCommand::Upgrade { token: of, .. }) if *of == token)
            {
                self.locks.get_mut(name).unwrap().upgrader = None;
                self.changed.push(name.clone());
                let wait = self.take_waiting(session, serial);
                self.complete(wait, stale(name, token));
            }
            self.clear(name);
        }
        Reply::Lock(LockReply::Released { holds })
    }

    fn upgrade(&mut self, name: &LockName, token: FencingToken, new: Waiting) -> Option<Reply> {
        let (session, serial) = (new.session, new.serial);
        let Some(hold) = self.granted(session, name, token) else {
            return Some(stale(name, token));
        };
        if hold.mode != Mode::Shared {
            let (name, mode) = (name.to_string(), hold.mode);
            return Some(Reply::Refused(Refusal::Lock(LockRefusal::WrongMode {
                name,
                mode,
            })));
        }
        if let Some(refusal) = held_again(name, hold) {
            return Some(refusal);
        }
        let lock = self.locks.get_mut(name).unwrap();
        if lock.upgrader.is_some() {
            return Some(Reply::Refused(Refusal::Lock(
                LockRefusal::UpgradeDeadlock {
                    name: name.to_string(),
                },
            )));
        }
        if lock.holds.len() == 1 {
            return Some(self.promote(name));
        }
        lock.upgrader = Some((session, serial));
        self.last_wait += 1;
        let began = self.last_wait;
        self.waiting.push(Waiting { began, ..new });
        None
    }

    fn promote(&mut self, name: &LockName) -> Reply {
        self.last_token += 1;
        let hold = &mut self.locks.get_mut(name).unwrap().holds[0];
        hold.mode = Mode::Exclusive;
        hold.token = FencingToken(self.last_token);
        hold.since = wall(self.now);
        let Hold {
            mode,
            token,
            granted,
            ..
        } = *hold;
        Reply::Lock(LockReply::Granted(vec![Grant {
            name: name.clone(),
            mode,
            token,
            holds: granted,
        }]))
    }

    fn downgrade(&mut self, session: SessionId, name: &LockName, token: FencingToken) -> Reply {
        let Some(hold) = self.granted(session, name, token) else {
            return stale(name, token);
        };
        if hold.mode != Mode::Exclusive {
            let (name, mode) = (name.to_string(), hold.mode);
            return Reply::Refused(Refusal::Lock(LockRefusal::WrongMode { name, mode }));
        }
        if let Some(refusal) = held_again(name, hold) {
            return refusal;
        }
        hold.mode = Mode::Shared;
        self.changed.push(name.clone());
        Reply::Lock(LockReply::Downgraded { token })
    }

    /// First the upgrader; only when there is none, the head of the queue.
    fn settle(&mut self, name: &LockName) {
        while let Some(lock) = self.locks.get_mut(name) {
            if let Some((session, serial)) = lock.upgrader {
                if lock.holds.len() > 1 {
                    return;
                }
                lock.upgrader = None;
                let wait = self.take_waiting(session, serial);
                let reply = self.promote(name);
                self.complete(wait, reply);
                continue;
            }
            let Some(&(session, serial)) = lock.queue.first() else {
                if lock.holds.is_empty() {
                    self.locks.remove(name);
                }
                return;
            };
            let wait = self.find_waiting(session, serial).unwrap();
            let Command::Lock(LockCommand::Acquire { owner, .. }) = wait.content.clone() else {
                unreachable!()
            };
            let mode = wait.sorted[wait.taken].mode;
            let lock = self.locks.get_mut(name).unwrap();
            if !fits(mode, &lock.holds) && Self::own(lock, session, &owner).is_none() {
                return;
            }
            lock.queue.remove(0);
            let wait = self.take_waiting(session, serial);
            if let Some(reply) = self.go_on(wait.clone(), true) {
                self.complete(wait, reply);
            }
            self.break_deadlocks(&(session, owner));
        }
    }

    fn usage(&self, name: &LockName) -> Option<Usage> {
        let lock = self.locks.get(name)?;
        let waited = lock.queue.first().map(|&(session, serial)| {
            let wait = self.find_waiting(session, serial).unwrap();
            wait.sorted[wait.taken].mode
        });
        let held = lock.holds.first().map(|hold| hold.mode);
        held.or(waited).map(Mode::usage)
    }

    /// While an owner is part of a circle, the wait that the model has chosen is ended.
    fn break_deadlocks(&mut self, owner: &(SessionId, Owner)) {
        loop {
            let may_be_chosen = self.victims(owner);
            if may_be_chosen.is_empty() {
                return;
            }
            let chosen = self.broken.pop_front().expect("a deadlock was not broken");
            assert!(
                may_be_chosen.contains(&chosen),
                "{chosen:?} was chosen, not one of {may_be_chosen:?}"
            );
            let name = self.waits_for(chosen.0, chosen.1).to_string();
            let cycle = String::new();
            self.end_wait(
                chosen.0,
                chosen.1,
                Refusal::Lock(LockRefusal::Deadlock { name, cycle }),
            );
        }
    }

    /// Who may be chosen: of every circle through an owner, the one who gives way.
    fn victims(&self, owner: &(SessionId, Owner)) -> BTreeSet<(SessionId, Serial)> {
        let mut victims = BTreeSet::new();
        self.follow(owner, &mut Vec::new(), &mut victims);
        victims
    }

    fn owner(&self, wait: &Waiting) -> (SessionId, Owner) {
        let owner = match &wait.content {
            Command::Lock(LockCommand::Acquire { owner, .. }) => owner,
            Command::Lock(LockCommand::Upgrade { name, token, .. }) => {
                let holds = &self.locks[name].holds;
                &holds
                    .iter()
                    .find(|hold| hold.token == *token)
                    .unwrap()
                    .owner
            }
            _ => unreachable!(),
        };
        (wait.session, owner.clone())
    }

    fn follow<'a>(
        &'a self,
        from: &(SessionId, Owner),
        path: &mut Vec<&'a Waiting>,
        victims: &mut BTreeSet<(SessionId, Serial)>,
    ) {
        for wait in self.waiting.iter().filter(|wait| self.owner(wait) == *from) {
            let lock = &self.locks[&self.waits_for(wait.session, wait.serial)];
            path.push(wait);
            let start = self.owner(path[0]);
            for hold in &lock.holds {
                let next = (hold.session, hold.owner.clone());
                let is_semaphore = hold.mode.usage() != Usage::Lock;
                if next == *from || is_semaphore {
                    continue;
                }
                if next == start {
                    let first = path.iter().min_by_key(|wait| {
                        let (session, owner) = self.owner(wait);
                        let rank = (priority(session), Reverse(opened(session)));
                        (rank, Reverse((session, owner)), Reverse(wait.began))
                    });
                    victims.extend(first.map(|wait| (wait.session, wait.serial)));
                } else if path.iter().all(|wait| self.owner(wait) != next) {
                    self.follow(&next, path, victims);
                }
            }
            path.pop();
        }
    }

    pub(crate) fn view(&self) -> Vec<LockView> {
        let waiter = |&(session, serial): &(SessionId, Serial)| {
            let wait = self.find_waiting(session, serial).unwrap();
            let Command::Lock(LockCommand::Acquire { owner, .. }) = &wait.content else {
                unreachable!()
            };
            let (owner, mode) = (owner.clone(), wait.sorted[wait.taken].mode);
            WaiterView {
                session,
                owner,
                mode,
                upgrade: false,
                since: wait.since,
            }
        };
        let upgrader = |lock: &Lock, &(session, serial): &(SessionId, Serial)| {
            let wait = self.find_waiting(session, serial).unwrap();
            let Command::Lock(LockCommand::Upgrade { token, .. }) = &wait.content else {
                unreachable!()
            };
            let owner = lock
                .holds
                .iter()
                .find(|hold| hold.token == *token)
                .unwrap()
                .owner
                .clone();
            let (mode, since) = (Mode::Exclusive, wait.since);
            WaiterView {
                session,
                owner,
                mode,
                upgrade: true,
                since,
            }
        };
        let view = |(name, lock): (&LockName, &Lock)| {
            let mut waiters: Vec<_> = lock
                .upgrader
                .iter()
                .map(|upgrading| upgrader(lock, upgrading))
                .collect();
            waiters.extend(lock.queue.iter().map(waiter));
            let mut holders: Vec<_> = lock.holds.iter().map(Hold::view).collect();
            holders.sort_by_key(|holder| holder.token);
            let holder_count = holders.len() as u32;
            let waiter_count = waiters.len() as u32;
            LockView {
                name: name.clone(),
                holders,
                holder_count,
                waiters,
                waiter_count,
            }
        };
        self.locks.iter().map(view).collect()
    }
}

impl Hold {
    fn view(&self) -> HolderView {
        let Self {
            session,
            owner,
            mode,
            token,
            granted,
            pending,
            since,
            value,
        } = self.clone();
        HolderView {
            session,
            owner,
            mode,
            token,
            holds: granted + pending,
            since,
            value,
        }
    }
}
