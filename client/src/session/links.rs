//! The streams of a session: one for each node that it talks to, opened when first needed.
//!
//! Invariant: every stream starts with an attach and a keep-alive, and one whose keep-alive is
//! not answered in time is given up; its node is left alone for a growing, bounded pause. Nothing
//! waits for a stream to open while another is open: a node's address may lead nowhere any more, and
//! any node serves any request.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::id::SessionId;
use lockstep_proto::lock::v1::{
    AttachStream, SessionRequest, StreamKeepAlive, session_request::Request,
};
use tokio::sync::{mpsc, oneshot};

use super::lease::Lease;
use crate::{
    address::Address,
    backoff,
    config::{MAX_RETRY_PAUSE, STREAM_QUEUE},
    lease_time::LeaseTime,
    placement::{Key, Placement},
};

/// Tells the streams of a session apart; never reused.
pub(super) type LinkId = u64;

/// A stream to be opened by a task.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) id: LinkId,
    pub(super) address: Address,
    /// What is to be sent on it.
    pub(super) outbound: mpsc::Receiver<SessionRequest>,
    /// Resolves when the stream is not wanted any longer.
    pub(super) unwanted: oneshot::Receiver<()>,
}

/// A stream that is open or being opened.
#[derive(Debug)]
struct Link {
    id: LinkId,
    address: Address,
    outbound: mpsc::Sender<SessionRequest>,
    attached: bool,
    /// The keep-alive that has no answer yet, and when it was sent.
    unanswered: Option<(u64, LeaseTime)>,
    next_keep_alive: LeaseTime,
    /// Dropped with the link, which ends its task.
    _wanted: oneshot::Sender<()>,
}

/// A node that is left alone.
#[derive(Clone, Copy, Debug)]
struct Avoided {
    until: LeaseTime,
    failures: u32,
}

/// The streams of one session.
#[derive(Debug)]
pub(super) struct Links {
    session: SessionId,
    open: Vec<Link>,
    /// By address; at most one entry for each node of the placement.
    avoided: BTreeMap<Address, Avoided>,
    /// True if a stream was lost and not yet replaced.
    lost_one: bool,
    next_id: LinkId,
    next_nonce: u64,
    openings: Vec<Opening>,
    broken: Vec<LinkId>,
}

impl Links {
    pub(super) const fn new(session: SessionId) -> Self {
        Self {
            session,
            open: Vec::new(),
            avoided: BTreeMap::new(),
            lost_one: false,
            next_id: 1,
            next_nonce: 1,
            openings: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// The stream for a key: to its leader unless that is left alone at present, else one that is
    /// open, else one to any node, else one that is open to a node that is left alone. While the
    /// one to the leader is being opened, another that is open.
    pub(super) fn choose(
        &mut self,
        placement: &Placement,
        key: &Key,
        lease: &Lease,
        now: LeaseTime,
    ) -> Option<LinkId> {
        let leader = placement.leader_of(key);
        let leader = leader.filter(|leader| !self.is_avoided(leader, now));
        let direct = leader.map(|leader| self.to(leader, lease, now));
        if let Some(direct) = direct.filter(|direct| self.is_attached(*direct)) {
            return Some(direct);
        }
        let usable = |link: &&Link| !self.broken.contains(&link.id);
        let wanted = |link: &&Link| usable(link) && !self.is_avoided(&link.address, now);
        let attached = self.open.iter().filter(wanted).find(|link| link.attached);
        if let Some(id) = attached.map(|link| link.id).or(direct) {
            return Some(id);
        }
        if let Some(link) = self.open.iter().find(wanted) {
            return Some(link.id);
        }
        // Those that failed least first: a node whose pause is over waits until all others were tried.
        let failures = |address: &Address| self.avoided.get(address).map_or(0, |it| it.failures);
        let others = placement.candidates(key).into_iter();
        let others = others.filter(|address| !self.is_avoided(address, now));
        if let Some(address) = others.min_by_key(failures) {
            return Some(self.to(&address, lease, now));
        }
        let usable = |link: &&Link| !self.broken.contains(&link.id);
        self.open.iter().find(usable).map(|link| link.id)
    }

    /// True if the stream to the key's leader is open, and not this one. Opens it if there is none.
    pub(super) fn misplaced(
        &mut self,
        placement: &Placement,
        key: &Key,
        on: LinkId,
        lease: &Lease,
        now: LeaseTime,
    ) -> bool {
        let leader = placement.leader_of(key);
        let Some(leader) = leader.filter(|leader| !self.is_avoided(leader, now)) else {
            return false;
        };
        let direct = self.to(leader, lease, now);
        direct != on && self.is_attached(direct)
    }

    /// When a node may be tried again, if all are left alone.
    pub(super) fn next_chance(&self, now: LeaseTime) -> LeaseTime {
        let until = self.avoided.values().map(|avoided| avoided.until);
        until.min().unwrap_or(now + MAX_RETRY_PAUSE)
    }

    /// Puts a message on a stream. One that cannot take it is broken.
    pub(super) fn send(&mut self, id: LinkId, request: Request) {
        let message = SessionRequest {
            request: Some(request),
        };
        let link = self.open.iter().find(|link| link.id == id);
        if link.is_none_or(|link| link.outbound.try_send(message).is_err()) {
            self.broken.push(id);
        }
    }

    /// The server has taken the stream.
    pub(super) fn attached(&mut self, id: LinkId) {
        if let Some(link) = self.open.iter_mut().find(|link| link.id == id) {
            link.attached = true;
            self.avoided.remove(&link.address);
        }
    }

    /// The keep-alive of this number is confirmed: when it was sent, if it was the awaited one.
    pub(super) fn kept_alive(&mut self, id: LinkId, nonce: u64) -> Option<LeaseTime> {
        let link = self.open.iter_mut().find(|link| link.id == id)?;
        let (_, sent) = link.unanswered.take_if(|(awaited, _)| *awaited == nonce)?;
        Some(sent)
    }

    /// Sends what keep-alives are due on the streams that matter, and breaks the silent ones.
    /// Returns when to look again.
    pub(super) fn keep_alive(
        &mut self,
        matter: &BTreeSet<LinkId>,
        lease: &Lease,
        now: LeaseTime,
    ) -> Option<LeaseTime> {
        let mut wake: Option<LeaseTime> = None;
        let mut due = Vec::new();
        for link in &self.open {
            let next = match link.unanswered {
                Some((_, sent)) if now >= sent + lease.patience() => {
                    self.broken.push(link.id);
                    continue;
                }
                Some((_, sent)) => sent + lease.patience(),
                None if !matter.contains(&link.id) => continue,
                None if now < link.next_keep_alive => link.next_keep_alive,
                None => {
                    due.push(link.id);
                    now + lease.patience()
                }
            };
            wake = Some(wake.map_or(next, |wake| wake.min(next)));
        }
        for id in due {
            self.send_keep_alive(id, lease, now);
        }
        wake
    }

    /// Some stream that must be closed.
    pub(super) fn take_broken(&mut self) -> Option<LinkId> {
        self.broken.pop()
    }

    /// Closes a stream and leaves its node alone for a while. None if it was closed before.
    pub(super) fn close(&mut self, id: LinkId, now: LeaseTime) -> Option<Address> {
        let at = self.open.iter().position(|link| link.id == id)?;
        let link = self.open.swap_remove(at);
        self.lost_one = true;
        let avoided = self.avoided.entry(link.address.clone()).or_insert(Avoided {
            until: now,
            failures: 0,
        });
        avoided.failures = avoided.failures.saturating_add(1);
        avoided.until = now + backoff::pause(avoided.failures);
        Some(link.address)
    }

    /// Sends nothing new to the node of a stream for a while; the stream stays.
    pub(super) fn avoid(&mut self, id: LinkId, now: LeaseTime) -> Option<Address> {
        let address = self.address(id)?.clone();
        let avoided = self.avoided.entry(address.clone()).or_insert(Avoided {
            until: now,
            failures: 0,
        });
        avoided.until = avoided.until.max(now + MAX_RETRY_PAUSE);
        Some(address)
    }

    /// Forgets nodes that are not in the placement.
    pub(super) fn forget_others(&mut self, placement: &Placement) {
        self.avoided
            .retain(|address, _| placement.addresses().contains(address));
    }

    /// Closes everything.
    pub(super) fn close_all(&mut self) {
        self.open.clear();
        self.openings.clear();
        self.broken.clear();
    }

    /// The streams to be opened by tasks.
    pub(super) fn take_openings(&mut self) -> Vec<Opening> {
        std::mem::take(&mut self.openings)
    }

    fn address(&self, id: LinkId) -> Option<&Address> {
        let link = self.open.iter().find(|link| link.id == id)?;
        Some(&link.address)
    }

    fn is_attached(&self, id: LinkId) -> bool {
        self.open.iter().any(|link| link.id == id && link.attached)
    }

    fn is_avoided(&self, address: &Address, now: LeaseTime) -> bool {
        self.avoided
            .get(address)
            .is_some_and(|avoided| now < avoided.until)
    }

    /// The stream to a node, opened if there is none.
    fn to(&mut self, address: &Address, lease: &Lease, now: LeaseTime) -> LinkId {
        let usable = |link: &&Link| link.address == *address && !self.broken.contains(&link.id);
        if let Some(link) = self.open.iter().find(usable) {
            return link.id;
        }
        let id = self.next_id;
        self.next_id += 1;
        let (outbound, outbound_rx) = mpsc::channel(STREAM_QUEUE);
        let (wanted, unwanted) = oneshot::channel();
        self.open.push(Link {
            id,
            address: address.clone(),
            outbound,
            attached: false,
            unanswered: None,
            next_keep_alive: now,
            _wanted: wanted,
        });
        self.openings.push(Opening {
            id,
            address: address.clone(),
            outbound: outbound_rx,
            unwanted,
        });
        let attach = AttachStream {
            session_id: self.session.0,
            resume: std::mem::take(&mut self.lost_one),
        };
        self.send(id, Request::Attach(attach));
        self.send_keep_alive(id, lease, now);
        id
    }

    fn send_keep_alive(&mut self, id: LinkId, lease: &Lease, now: LeaseTime) {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        if let Some(link) = self.open.iter_mut().find(|link| link.id == id) {
            link.unanswered = Some((nonce, now));
            link.next_keep_alive = now + lease.interval();
        }
        self.send(id, Request::KeepAlive(StreamKeepAlive { nonce }));
    }
}
