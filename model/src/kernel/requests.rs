//! Exactly-once: what became of each request of a session in a shard.
//!
//! Invariants: a serial stands for one operation, and gets one answer however often it is asked;
//! a request is waiting, or answered, or forgotten, never two of these; at most [`MAX_IN_FLIGHT`]
//! are remembered. After Raft's client sessions (Ongaro, "Consensus: Bridging Theory and
//! Practice", 2014, section 6.3).

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use super::acked::Acked;
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, bounded_list, check_bounds, fields},
    id::Serial,
    reply::{Refusal, Reply},
    request::{AckedRanges, SerialRange},
    session::SessionRefusal,
};

/// Most requests of a session in one shard that wait or whose answers are kept: a client that
/// acknowledges what it reads stays far below, one that does not cannot fill the memory.
pub const MAX_IN_FLIGHT: usize = 4_096;
/// Most acquisitions without a serial of the client's that a shard remembers to be given up: each is
/// undone by the node that took it, at once or when the shard has a leader again.
pub const MAX_ABANDONED: usize = 64;

/// The requests of a session in a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    pub(crate) acked: Acked,
    /// Those that a service has yet to answer, and the fingerprints of their contents.
    pub(crate) pending: BTreeMap<Serial, u64>,
    pub(crate) answers: BTreeMap<Serial, Answered>,
    /// Acquisitions that were given up and whose serials nodes gave, the latest last.
    pub(crate) abandoned: VecDeque<Serial>,
}

/// A request whose answer is kept.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    /// Of the operation's content; none if it was given up before it came.
    pub(crate) fingerprint: Option<u64>,
    pub(crate) reply: Reply,
}

/// How far an operation had come when it was given up.
pub(crate) enum Abandoned<'a> {
    /// Nothing is to be undone: its client has the answer, or it was refused or given up before.
    Over,
    /// It had not come, and will be refused; of a node's serial it is not known what it was given.
    Unknown,
    /// It waits.
    Waiting,
    /// It has this answer, which its service may replace by the refusal.
    Answered(&'a mut Reply),
    /// There is no room to remember it.
    NoRoom,
}

/// What to do with a request that came.
pub(crate) enum Admission {
    /// Do it.
    New,
    /// It is waiting already.
    Waiting,
    /// This is the answer.
    Answered(Reply),
}

impl Requests {
    /// Decides about a request, and forgets what it acknowledges. `may_wait` tells whether it might
    /// have to wait.
    pub(crate) fn admit(
        &mut self,
        serial: Serial,
        acked_below: Serial,
        acked: AckedRanges,
        fingerprint: u64,
        may_wait: bool,
    ) -> Admission {
        self.forget(acked_below, acked);
        if let Some(first) = self.pending.get(&serial) {
            return if *first == fingerprint {
                Admission::Waiting
            } else {
                Admission::Answered(Reply::Refused(Refusal::Session(
                    SessionRefusal::SerialReused { serial: serial.0 },
                )))
            };
        }
        if let Some(answered) = self.answers.get(&serial) {
            let first = answered.fingerprint.unwrap_or(fingerprint);
            return Admission::Answered(if first == fingerprint {
                answered.reply.clone()
            } else {
                Reply::Refused(Refusal::Session(SessionRefusal::SerialReused {
                    serial: serial.0,
                }))
            });
        }
        if self.acked.contains(serial) {
            return Admission::Answered(Reply::Refused(Refusal::Session(
                SessionRefusal::SerialForgotten {
                    serial: serial.0,
                    acked_below: self.acked.below.0,
                },
            )));
        }
        if self.abandoned.contains(&serial) {
            let serial = serial.0;
            return Admission::Answered(Reply::Refused(Refusal::Session(
                SessionRefusal::Abandoned { serial },
            )));
        }
        // A request that leaves nothing behind is let through even then: it may be the release
        // for which all others wait.
        let is_kept = may_wait || !serial.is_ephemeral();
        if is_kept && self.pending.len() + self.answers.len() >= MAX_IN_FLIGHT {
            let limit = MAX_IN_FLIGHT;
            return Admission::Answered(Reply::Refused(Refusal::Session(
                SessionRefusal::TooManyInFlight { limit },
            )));
        }
        Admission::New
    }

    /// Keeps an answer for repetitions, unless its serial is ephemeral or acknowledged already.
    pub(crate) fn keep(&mut self, serial: Serial, fingerprint: u64, reply: &Reply) {
        if !serial.is_ephemeral() && !self.acked.contains(serial) {
            self.answers.insert(
                serial,
                Answered {
                    fingerprint: Some(fingerprint),
                    reply: reply.clone(),
                },
            );
        }
    }

    /// Remembers that an operation is over, and tells how far it had come. From now on whoever repeats
    /// it gets `refusal`. What waits, and what was answered, is left to the service.
    pub(crate) fn abandon(&mut self, serial: Serial, refusal: Refusal) -> Abandoned<'_> {
        if self.pending.contains_key(&serial) {
            return Abandoned::Waiting;
        }
        if serial.is_ephemeral() {
            return self.abandon_ephemeral(serial);
        }
        if self.acked.contains(serial) {
            return Abandoned::Over;
        }
        let is_full = self.pending.len() + self.answers.len() >= MAX_IN_FLIGHT;
        match self.answers.entry(serial) {
            Entry::Occupied(answered) => Abandoned::Answered(&mut answered.into_mut().reply),
            Entry::Vacant(_) if is_full => Abandoned::NoRoom,
            Entry::Vacant(place) => {
                place.insert(Answered {
                    fingerprint: None,
                    reply: Reply::Refused(refusal),
                });
                Abandoned::Unknown
            }
        }
    }

    /// Of these no answers are kept: the last of them are remembered.
    fn abandon_ephemeral(&mut self, serial: Serial) -> Abandoned<'_> {
        if self.abandoned.contains(&serial) {
            return Abandoned::Over;
        }
        if self.abandoned.len() >= MAX_ABANDONED {
            self.abandoned.pop_front();
        }
        self.abandoned.push_back(serial);
        Abandoned::Unknown
    }

    /// Forgets the answers that the client has.
    fn forget(&mut self, below: Serial, ranges: AckedRanges) {
        for SerialRange { from, below } in self.acked.acknowledge(below, ranges) {
            let known = self.answers.range(from..below);
            let known: Vec<Serial> = known.map(|(serial, _)| *serial).collect();
            for serial in known {
                self.answers.remove(&serial);
            }
        }
    }
}

fields!(Answered { fingerprint, reply });

impl Encode for Requests {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.acked.below.encode_into(out);
        self.acked.ranges().encode_into(out);
        self.pending.encode_into(out);
        self.answers.encode_into(out);
        let abandoned: Vec<Serial> = self.abandoned.iter().copied().collect();
        abandoned.encode_into(out);
    }
}

impl Decode for Requests {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let below = Decode::decode_from(input)?;
        let ranges = Decode::decode_from(input)?;
        let acked = Acked::restore(below, ranges).ok_or(DecodeError::Inconsistent {
            what: "ranges of acknowledged serials",
        })?;
        let pending: BTreeMap<_, _> = Decode::decode_from(input)?;
        let answers: BTreeMap<_, _> = Decode::decode_from(input)?;
        let count = pending.len().saturating_add(answers.len());
        check_bounds("number of requests", count as u64, 0, MAX_IN_FLIGHT as u64)?;
        if pending.keys().any(|serial| answers.contains_key(serial)) {
            return Err(DecodeError::Inconsistent {
                what: "a request that waits and is answered",
            });
        }
        let abandoned = bounded_list(input, "number of abandoned", 0, MAX_ABANDONED)?;
        Ok(Self {
            acked,
            pending,
            answers,
            abandoned: abandoned.into(),
        })
    }
}
