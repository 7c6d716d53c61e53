//! The state of a session: what is under way, where, and until when the session lives.
//!
//! Invariant: an operation is pending from its submission until its answer or the session's loss,
//! whatever happens to streams, nodes and callers; so nothing is granted that nobody releases.
//! There is no I/O and no clock here: time is an argument, streams are queues.

mod course;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use lockstep_model::id::SessionId;
use lockstep_proto::lock::v1::{
    SessionEnded, SessionResponse, operation_result::Result as Answer, session_response::Response,
};
use tokio::sync::{Semaphore, oneshot, watch};

use super::{
    Loss,
    acks::Acks,
    lease::Lease,
    links::{LinkId, Links, Opening},
    pending::{Hold, Outcome, Pending, Place, Sink, Work},
};
use crate::{
    address::Address,
    config::MAX_IN_FLIGHT,
    error::{Disposition, Failure, Reason, ServerError},
    lease_time::LeaseTime,
    placement::{Key, Placement},
};

/// An operation to be started; it has one of the session's permits.
pub(super) struct Submission {
    pub(super) work: Work,
    pub(super) key: Key,
    /// When the caller is told that there is no answer.
    pub(super) deadline: Option<LeaseTime>,
    pub(super) sink: Sink,
}

/// The state of one session.
pub(super) struct Core {
    id: SessionId,
    lease: Lease,
    /// Set once, when the session is over.
    loss: watch::Sender<Option<Loss>>,
    placement: Arc<Placement>,
    links: Links,
    next_serial: u64,
    acks: Acks,
    pending: BTreeMap<u64, Pending>,
    timers: BTreeSet<(LeaseTime, u64)>,
    /// When the keeper looks next by itself.
    wake: LeaseTime,
    /// True if it should look now: a stream was lost, and may have been the one that keeps the
    /// session alive.
    early: bool,
    /// Nodes whose streams were lost.
    lost_nodes: Vec<Address>,
    permits: Arc<Semaphore>,
    /// Releases that nobody waits for, until there is room: at most one for each guard.
    releases: VecDeque<Hold>,
}

impl Core {
    pub(super) fn new(
        id: SessionId,
        ttl: Duration,
        opened: LeaseTime,
        placement: Arc<Placement>,
    ) -> Self {
        Self {
            id,
            lease: Lease::new(ttl, opened),
            loss: watch::Sender::new(None),
            placement,
            links: Links::new(id),
            next_serial: 1,
            acks: Acks::default(),
            pending: BTreeMap::new(),
            timers: BTreeSet::new(),
            wake: opened,
            early: false,
            lost_nodes: Vec::new(),
            permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            releases: VecDeque::new(),
        }
    }

    pub(super) fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.permits)
    }

    pub(super) fn watch_loss(&self) -> watch::Receiver<Option<Loss>> {
        self.loss.subscribe()
    }

    /// Why the session is over, if it is, and how long it is known to live otherwise.
    pub(super) fn standing(&mut self, now: LeaseTime) -> Result<Duration, Loss> {
        if now >= self.lease.ends() {
            self.lose(Loss::Silence {
                ttl: self.lease.ttl(),
            });
        }
        let loss = self.loss.borrow().clone();
        loss.map_or(Ok(self.lease.ends() - now), Err)
    }

    /// Starts an operation. None if the session is over: its sink has been told.
    pub(super) fn submit(&mut self, submission: Submission, now: LeaseTime) -> Option<u64> {
        let Submission {
            work,
            key,
            deadline,
            sink,
        } = submission;
        if let Err(loss) = self.standing(now) {
            if let Sink::Caller(caller) = sink {
                let _gone = caller.send(Err(Failure::Lost(loss)));
            }
            return None;
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        let pending = Pending {
            work,
            key,
            place: Place::At(now),
            sent: false,
            acked: Vec::new(),
            failures: 0,
            started: now,
            deadline,
            timer: None,
            cancel: None,
            abandoned: false,
            sink,
        };
        self.pending.insert(serial, pending);
        self.dispatch(serial, now);
        self.sweep(now);
        Some(serial)
    }

    /// Gives up the wait of an operation; its answer still comes.
    pub(super) fn cancel(&mut self, serial: u64, now: LeaseTime) {
        self.cancel_pending(serial, now);
        self.sweep(now);
    }

    /// The caller has gone without its answer, or without having looked at it.
    pub(super) fn abandon(
        &mut self,
        serial: u64,
        answer: &mut oneshot::Receiver<Outcome>,
        now: LeaseTime,
    ) {
        if self.pending.contains_key(&serial) {
            self.detach(serial, now);
        } else if let Ok(Ok(Answer::Granted(grants))) = answer.try_recv() {
            self.release_all(grants, now);
        }
        self.sweep(now);
    }

    /// The guard has gone while an operation changed what it holds: releases it afterwards.
    pub(super) fn release_after(
        &mut self,
        serial: u64,
        answer: &mut oneshot::Receiver<Outcome>,
        hold: Hold,
        now: LeaseTime,
    ) {
        if let Some(pending) = self.pending.get_mut(&serial) {
            pending.sink = Sink::ReleaseAfter(hold);
            self.cancel_pending(serial, now);
        } else {
            let outcome = answer.try_recv().ok();
            self.release_changed(outcome, hold, now);
        }
        self.sweep(now);
    }

    /// Gives a hold back; nobody waits for it.
    pub(super) fn release_hold(&mut self, hold: Hold, now: LeaseTime) {
        self.release(hold, now);
        self.sweep(now);
    }

    /// A message came on a stream. One that comes too late, as after a pause of the process, does
    /// not revive the session, and grants nothing.
    pub(super) fn receive(&mut self, link: LinkId, message: SessionResponse, now: LeaseTime) {
        if self.standing(now).is_err() {
            return;
        }
        match message.response {
            Some(Response::Attached(_)) => {
                self.links.attached(link);
                self.move_to_leaders(now);
            }
            Some(Response::KeptAlive(kept)) => {
                if let Some(sent) = self.links.kept_alive(link, kept.nonce) {
                    self.lease.confirm(sent, Duration::from_millis(kept.ttl_ms));
                }
            }
            Some(Response::Result(result)) => self.answer(link, result, now),
            Some(Response::Abandoned(abandoned)) => self.abandoned(link, abandoned, now),
            Some(Response::Ended(SessionEnded { reason, message })) => self.lose(Loss::Ended {
                reason: Reason::parse(&reason),
                message,
            }),
            // Something that a newer server says.
            None => {}
        }
        self.sweep(now);
    }

    /// A stream is over.
    pub(super) fn link_ended(&mut self, link: LinkId, error: Option<ServerError>, now: LeaseTime) {
        match error {
            Some(error) if error.disposition() == Disposition::SessionOver => {
                self.lose(Loss::Ended {
                    reason: error.reason,
                    message: error.message,
                });
            }
            Some(_) | None => self.close_link(link, now),
        }
        self.sweep(now);
    }

    /// The cluster has changed: operations follow their leaders, and those that wait for one to
    /// be elected are sent.
    pub(super) fn follow(&mut self, placement: Arc<Placement>, now: LeaseTime) {
        let before = std::mem::replace(&mut self.placement, placement);
        self.links.forget_others(&self.placement);
        let elected = |pending: &Pending| {
            let leader = self.placement.leader_of(&pending.key);
            leader.is_some() && leader != before.leader_of(&pending.key)
        };
        let waiting = self
            .pending
            .iter()
            .filter(|(_, pending)| matches!(pending.place, Place::At(_)) && elected(pending));
        let waiting: Vec<u64> = waiting.map(|(serial, _)| *serial).collect();
        for serial in waiting {
            self.dispatch(serial, now);
        }
        self.move_to_leaders(now);
        self.sweep(now);
    }

    /// Sends operations that are on other streams to their leaders, where there is one open.
    fn move_to_leaders(&mut self, now: LeaseTime) {
        let Self {
            links,
            placement,
            lease,
            pending,
            ..
        } = self;
        let mut moved = Vec::new();
        for (serial, pending) in pending.iter() {
            if let Place::On(link) = pending.place
                && links.misplaced(placement, &pending.key, link, lease, now)
            {
                moved.push(*serial);
            }
        }
        for serial in moved {
            self.dispatch(serial, now);
        }
    }

    /// Does what is due: loss, retries, deadlines, keep-alives. Returns when to look again; none
    /// once the session is over.
    pub(super) fn tick(&mut self, now: LeaseTime) -> Option<LeaseTime> {
        self.standing(now).ok()?;
        while let Some((_, serial)) = self.timers.first().filter(|(at, _)| *at <= now).copied() {
            self.timer(serial, now);
        }
        let (home, keep_alive) = loop {
            let home = Key::Session(self.id);
            let home = self.links.choose(&self.placement, &home, &self.lease, now);
            let busy = self.pending.values().filter_map(|p| match p.place {
                Place::On(link) => Some(link),
                Place::At(_) => None,
            });
            let matter = busy.chain(home).collect();
            let keep_alive = self.links.keep_alive(&matter, &self.lease, now);
            // A stream that was given up is replaced at once.
            if !self.sweep(now) {
                break (home, keep_alive);
            }
        };
        let chance = home.is_none().then(|| self.links.next_chance(now));
        let timer = self.timers.first().map(|(at, _)| *at);
        let wake = [keep_alive, chance, timer]
            .into_iter()
            .flatten()
            .fold(self.lease.ends(), LeaseTime::min);
        self.wake = wake;
        self.early = false;
        Some(wake)
    }

    /// Ends the session here: all its operations fail. The first loss stays.
    pub(super) fn lose(&mut self, loss: Loss) {
        let first = self.loss.send_if_modified(|present| {
            let first = present.is_none();
            if first {
                *present = Some(loss.clone());
            }
            first
        });
        if !first {
            return;
        }
        self.permits.close();
        self.links.close_all();
        self.timers.clear();
        self.releases.clear();
        for pending in std::mem::take(&mut self.pending).into_values() {
            if let Sink::Caller(caller) = pending.sink {
                let _gone = caller.send(Err(Failure::Lost(loss.clone())));
            }
        }
    }

    /// The streams to be opened by tasks.
    pub(super) fn take_openings(&mut self) -> Vec<Opening> {
        self.links.take_openings()
    }

    /// The nodes whose streams were lost.
    pub(super) fn take_lost_nodes(&mut self) -> Vec<Address> {
        std::mem::take(&mut self.lost_nodes)
    }

    /// True if something is due before the keeper looks by itself.
    pub(super) fn is_early(&self) -> bool {
        self.early || self.timers.first().is_some_and(|(at, _)| *at < self.wake)
    }

    /// Closes a stream; its operations go elsewhere.
    fn close_link(&mut self, link: LinkId, now: LeaseTime) {
        let Some(address) = self.links.close(link, now) else {
            return;
        };
        self.lost_nodes.push(address);
        self.early = true;
        let stranded: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.place == Place::On(link))
            .map(|(serial, _)| *serial)
            .collect();
        for serial in stranded {
            self.dispatch(serial, now);
        }
    }

    /// Closes the streams that turned out to be broken, and says whether there were any. Ends,
    /// because a new stream takes all that can be pending.
    fn sweep(&mut self, now: LeaseTime) -> bool {
        let mut any = false;
        while let Some(link) = self.links.take_broken() {
            any = true;
            self.close_link(link, now);
        }
        any
    }
}

#[cfg(test)]
mod tests;
