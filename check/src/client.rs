//! A client: what it asks for, step by step, and what it believes to hold.
//!
//! It has one request under way at a time. Answers reach it at once: whatever a late answer could
//! change, its next request is as late. What it does of its own accord (giving back, closing) it does
//! at any later moment. When an acquisition is refused, it gives back all that it holds, and perhaps
//! tries again.
//!
//! Invariant: it believes in a hold from the answer that grants it until it gives it back, or until
//! its session ends at its home; by its own clock it knows of that end no later.

use std::collections::BTreeMap;

use lockstep_model::{
    Command, FencingToken, LockCommand, LockName, LockRefusal, LockReply, MetaReply, Mode, Refusal,
    Reply, Serial, SessionCommand, SessionId, SessionRefusal, SessionReply, Value,
    locks::command::LockSpec,
    request::{AckedRanges, RequestId, Wait},
    session::EndReason,
};

use crate::replica::owner;

/// What a client does next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Takes locks.
    Acquire(Vec<LockSpec>, Wait),
    /// Gives one back.
    Release(LockName),
    /// Makes a shared hold exclusive.
    Upgrade(LockName),
    /// Makes an exclusive hold shared.
    Downgrade(LockName),
    /// Closes its session.
    Close,
}

/// A hold as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Belief {
    /// How.
    pub mode: Mode,
    /// Under which token.
    pub token: FencingToken,
}

/// How a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mood {
    /// Its session is not open yet.
    Waits,
    /// It follows its steps.
    Goes,
    /// It gives back all that it holds.
    BacksOff,
    /// Its session is over.
    Gone,
}

/// A client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// How it is.
    pub mood: Mood,
    /// What it believes to hold.
    pub holds: BTreeMap<LockName, Belief>,
    /// The request under way.
    pub asked: Option<Asked>,
    /// How many steps it has done.
    step: usize,
    /// How many more times it starts from the first step after it was refused.
    tries: u8,
    /// Its last request.
    serial: Serial,
}

/// A request under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    /// Its serial.
    pub serial: Serial,
    /// The lock by which its shard is found.
    pub name: LockName,
}

/// What a client tells a shard.
pub enum Request {
    /// To the shard of a lock.
    Lock(LockName, Command),
    /// To its home.
    Home(Command),
}

impl Client {
    /// One that begins when its session is open.
    #[must_use]
    pub const fn new(tries: u8) -> Self {
        Self {
            mood: Mood::Waits,
            holds: BTreeMap::new(),
            asked: None,
            step: 0,
            tries,
            serial: Serial(0),
        }
    }

    /// Its session is open.
    pub fn opened(&mut self) {
        if self.mood == Mood::Waits {
            self.mood = Mood::Goes;
        }
    }

    /// Its session is over.
    pub fn gone(&mut self) {
        self.mood = Mood::Gone;
        self.holds.clear();
        self.asked = None;
    }

    /// True if it asks for its next step at once, because nothing changes by waiting.
    #[must_use]
    pub fn is_eager(&self, steps: &[Step]) -> bool {
        self.mood == Mood::Goes
            && matches!(
                steps.get(self.step),
                Some(Step::Acquire(..) | Step::Upgrade(_))
            )
    }

    /// True if no request of it is under way.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.asked.is_none()
    }

    /// True if this request of it is under way.
    #[must_use]
    pub fn waits_for(&self, serial: Serial) -> bool {
        let asked = self.asked.as_ref();
        asked.is_some_and(|asked| asked.serial == serial)
    }

    /// Its next request, if it is free and has one to make.
    pub fn next(&mut self, session: SessionId, steps: &[Step]) -> Option<Request> {
        let step = match self.mood {
            Mood::Goes => steps.get(self.step)?.clone(),
            Mood::BacksOff => Step::Release(self.holds.keys().next()?.clone()),
            Mood::Waits | Mood::Gone => return None,
        };
        self.request(session, step)
    }

    fn request(&mut self, session: SessionId, step: Step) -> Option<Request> {
        let serial = Serial(self.serial.0 + 1);
        let request = RequestId {
            session,
            serial,
            acked_below: serial,
            acked: AckedRanges::NONE,
        };
        let (name, command) = match step {
            Step::Acquire(locks, wait) => {
                let name = locks.first()?.name.clone();
                let command = Command::Lock(LockCommand::Acquire {
                    request,
                    owner: owner(),
                    locks,
                    wait,
                    value: Value::EMPTY,
                });
                (name, command)
            }
            Step::Release(name) => {
                let token = self.holds.remove(&name)?.token;
                let command = Command::Lock(LockCommand::Release {
                    request,
                    name: name.clone(),
                    token,
                });
                (name, command)
            }
            Step::Upgrade(name) => {
                let token = self.holds.get(&name)?.token;
                let command = Command::Lock(LockCommand::Upgrade {
                    request,
                    name: name.clone(),
                    token,
                    wait: Wait::Forever,
                });
                (name, command)
            }
            Step::Downgrade(name) => {
                let belief = self.holds.get_mut(&name)?;
                belief.mode = Mode::Shared;
                let command = Command::Lock(LockCommand::Downgrade {
                    request,
                    name: name.clone(),
                    token: belief.token,
                });
                (name, command)
            }
            Step::Close => {
                self.gone();
                let reason = EndReason::Closed;
                return Some(Request::Home(Command::Session(SessionCommand::End {
                    session,
                    reason,
                })));
            }
        };
        self.serial = serial;
        self.asked = Some(Asked {
            serial,
            name: name.clone(),
        });
        Some(Request::Lock(name, command))
    }

    /// Hears the answer to its request under way. True if it is told that it does not hold what it was
    /// granted.
    pub fn learn(&mut self, reply: &Reply) -> bool {
        self.asked = None;
        match reply {
            Reply::Lock(LockReply::Granted(grants)) => {
                for grant in grants {
                    let belief = Belief {
                        mode: grant.mode,
                        token: grant.token,
                    };
                    self.holds.insert(grant.name.clone(), belief);
                }
                self.step += 1;
            }
            Reply::Lock(LockReply::Released { .. }) | Reply::Lock(LockReply::Downgraded { .. }) => {
                match self.mood {
                    Mood::Goes => self.step += 1,
                    Mood::BacksOff | Mood::Waits | Mood::Gone => {}
                }
            }
            Reply::Refused(
                Refusal::Session(SessionRefusal::SessionEnded { .. })
                | Refusal::Session(SessionRefusal::NoSession { .. }),
            ) => self.gone(),
            Reply::Refused(Refusal::Lock(LockRefusal::StaleToken { .. })) => return true,
            // The others are reasons why it cannot have it, or no answers to what it asks.
            Reply::Refused(_)
            | Reply::Done
            | Reply::Session(SessionReply::Opened { .. })
            | Reply::Session(SessionReply::Touched { .. })
            | Reply::Meta(MetaReply::Joined { .. })
            | Reply::Session(SessionReply::Revoked { .. })
            | Reply::Meta(MetaReply::Changed { .. }) => self.mood = Mood::BacksOff,
        }
        if self.mood == Mood::BacksOff && self.holds.is_empty() && self.tries > 0 {
            self.tries -= 1;
            self.step = 0;
            self.mood = Mood::Goes;
        }
        false
    }

    /// True if all that it wanted is done.
    #[must_use]
    pub const fn is_done(&self, steps: &[Step]) -> bool {
        self.step >= steps.len()
    }
}
