//! What to do about holders for whom somebody waits, from one step to the next.
//!
//! A chase is a [`Walk`] from those holders, level by level: the homes of a level's sessions are asked
//! where these may wait, then those shards are asked for whom. That is the first pass. Of a circle
//! that it came upon every edge is asked for once more, which is the second pass; if all stand, the
//! [`victim`]'s wait is aborted. Either way it then goes on with the next circle, until there is none.
//!
//! Whoever chases does what a step says and tells what came of it; there are no clocks here, and
//! nothing is sent. So a node, which asks other nodes and loses patience, and the model check, which
//! has each answer come at any moment, do the same.
//!
//! Invariants: no abort without a second pass in which every shard said that all edges stand. An
//! answer that stays out only makes the chase see less. It ends: a walk has so many levels, and each
//! circle has the walk forget a wait.

mod question;

pub use question::Question;
use question::{blocked, is_confirmed, to_confirm, to_homes, to_shards};

use super::deadlock::{Edge, Waits, Walk, victim};
use crate::{
    command::Command,
    id::{Party, SessionId, ShardId},
    locks::command::LockCommand,
    query::Answer,
};

/// The next step of a chase.
#[derive(Clone, Debug)]
pub enum Chase {
    /// Ask: old answers will do.
    Looks(Look),
    /// Ask once more: by linearizable reads.
    Confirms(Confirm),
    /// Have a wait ended.
    Aborts(Abort),
    /// Nothing.
    Done,
}

impl Chase {
    /// Begins with some holders for whom somebody waits. `home_of` says where a session has its home.
    #[must_use]
    pub fn begin(
        suspects: impl IntoIterator<Item = Party>,
        home_of: impl Fn(SessionId) -> ShardId,
    ) -> Self {
        Self::look(Walk::new(suspects), home_of)
    }

    /// The walk's next level, if there is one.
    fn look(walk: Walk, home_of: impl Fn(SessionId) -> ShardId) -> Self {
        if walk.frontier().is_empty() {
            return Self::judge(walk);
        }
        let questions = to_homes(walk.frontier(), home_of);
        let about = About::Homes;
        Self::Looks(Look {
            walk,
            about,
            questions,
        })
    }

    /// The next circle among what was learned, if there is one.
    fn judge(walk: Walk) -> Self {
        let Some(cycle) = walk.cycle() else {
            return Self::Done;
        };
        let questions = to_confirm(&cycle);
        Self::Confirms(Confirm {
            walk,
            cycle,
            questions,
        })
    }
}

/// The first pass: half a level of it.
#[derive(Clone, Debug)]
pub struct Look {
    walk: Walk,
    about: About,
    questions: Vec<Question>,
}

/// What is asked about the walk's frontier.
#[derive(Clone, Copy, Debug)]
enum About {
    /// Their homes: where they may wait.
    Homes,
    /// Those shards: for whom.
    Waits,
}

impl Look {
    /// To be asked all at once; there may be none.
    #[must_use]
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Takes the answers, in the order of the questions. One that stayed out is none.
    #[must_use]
    pub fn heard(
        self,
        answers: impl IntoIterator<Item = Option<Answer>>,
        home_of: impl Fn(SessionId) -> ShardId,
    ) -> Chase {
        let mut walk = self.walk;
        let answers = answers.into_iter().flatten();
        match self.about {
            About::Homes => {
                let questions = to_shards(walk.frontier(), answers);
                let about = About::Waits;
                Chase::Looks(Self {
                    walk,
                    about,
                    questions,
                })
            }
            About::Waits => {
                walk.learn(blocked(answers));
                Chase::look(walk, home_of)
            }
        }
    }
}

/// The second pass over a circle.
#[derive(Clone, Debug)]
pub struct Confirm {
    walk: Walk,
    cycle: Vec<Edge>,
    questions: Vec<Question>,
}

impl Confirm {
    /// The circle.
    #[must_use]
    pub fn cycle(&self) -> &[Edge] {
        &self.cycle
    }

    /// To be asked all at once, from now on, each by a linearizable read.
    #[must_use]
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Takes the answers, in the order of the questions. One that stayed out is none.
    #[must_use]
    pub fn heard(self, answers: impl IntoIterator<Item = Option<Answer>>) -> Chase {
        let Self {
            mut walk,
            cycle,
            questions,
        } = self;
        if !is_confirmed(&questions, answers) {
            // Some of it is over; which, the next walk will see.
            for edge in &cycle {
                walk.forget(&edge.wait);
            }
            return Chase::judge(walk);
        }
        match victim(&cycle).cloned() {
            Some(victim) => Chase::Aborts(Abort {
                walk,
                victim,
                cycle,
            }),
            None => Chase::Done,
        }
    }
}

/// Somebody has to give way.
#[derive(Clone, Debug)]
pub struct Abort {
    walk: Walk,
    victim: Waits,
    cycle: Vec<Edge>,
}

impl Abort {
    /// Whose wait is to be ended.
    #[must_use]
    pub const fn victim(&self) -> &Waits {
        &self.victim
    }

    /// The circle that this breaks.
    #[must_use]
    pub fn cycle(&self) -> &[Edge] {
        &self.cycle
    }

    /// What ends it: for the victim's shard, to be sent once.
    #[must_use]
    pub fn command(&self) -> Command {
        Command::Lock(LockCommand::AbortWait {
            session: self.victim.party.session,
            serial: self.victim.serial,
            epoch: self.victim.epoch,
            cycle: self.cycle.clone(),
        })
    }

    /// Goes on: whatever the answer was, or if there was none, the next walk will see what is left.
    #[must_use]
    pub fn over(mut self) -> Chase {
        self.walk.forget(&self.victim);
        Chase::judge(self.walk)
    }
}
