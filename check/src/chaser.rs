//! A node's search for deadlocks, one message at a time.
//!
//! It does what the node does: a [`Walk`] from the holders whom somebody waits for, in shards that the
//! node leads; for each level first the homes are asked where sessions may wait, then those shards for
//! whom; of a circle that was found every edge is asked for once more; then the victim's wait is
//! aborted. Each question is answered on its own, at any later moment, or not at all.
//!
//! Invariant: nothing but answers and the walk's own memory decides what it does. What is known of
//! the moment at which the second pass begins is for the witness alone.

mod questions;

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use lockstep_model::{
    Answer, Command, NodeId, Party, Query, ShardId, Timestamp, WaitEpoch,
    deadlock::{Edge, Walk, victim},
    shard::Shard,
};

use self::questions::{Heard, Question, blocked, to_confirm, to_homes, to_shards};
use crate::{
    bug::Bug,
    cluster::Cluster,
    message::Message,
    scenario::Scenario,
    truth::{has_wait, is_closed},
    witness::{Mark, circle_of},
};

/// Most waits that a walk begins with: all of them.
const ALL_WAITS: usize = usize::MAX;

/// What a node does about deadlocks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Chaser {
    /// Nothing at the moment.
    Idle,
    /// It walks.
    Walks(Arc<Pursuit>),
}

/// A walk and where it stands. Compared by a hash of what it prints: a [`Walk`] is to be printed, and
/// not to be compared, and states are told apart by such hashes anyway.
#[derive(Clone, Debug)]
pub struct Pursuit {
    walk: Walk,
    stage: Stage,
    hash: u64,
}

/// Takes in text for its hash alone.
struct Printed(DefaultHasher);

impl fmt::Write for Printed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Stage {
    /// Asks the homes of the walk's frontier where their sessions may wait.
    Homes(Vec<Question>),
    /// Asks those shards for whom they wait.
    Waits(Vec<Question>),
    /// Asks for the edges of a circle once more.
    Confirms(Vec<Edge>, Vec<Question>),
    /// Waits for the answer of an abort.
    Aborts(Vec<Edge>, Message),
}

/// Who answers a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// The leader, from the state of this moment.
    Leader,
    /// A leader that was deposed, from the state of that moment.
    Deposed,
    /// Nobody, in time.
    Nobody,
}

impl PartialEq for Pursuit {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Pursuit {}

impl Hash for Pursuit {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Pursuit {
    fn new(walk: Walk, stage: Stage) -> Self {
        let mut printed = Printed(DefaultHasher::new());
        // Writing to a hash cannot fail.
        let _ = write!(printed, "{walk:?} {stage:?}");
        let hash = printed.0.finish();
        Self { walk, stage, hash }
    }

    /// The questions that are open: their places, and the shards that they are for.
    #[must_use]
    pub fn open(&self) -> Vec<(usize, ShardId)> {
        let places = self.stage.questions().iter().enumerate();
        places
            .filter(|(_, question)| question.heard.is_none())
            .map(|(place, question)| (place, question.shard))
            .collect()
    }

    /// The abort whose answer it waits for.
    #[must_use]
    pub const fn abort(&self) -> Option<&Message> {
        match &self.stage {
            Stage::Aborts(_, abort) => Some(abort),
            Stage::Homes(_) | Stage::Waits(_) | Stage::Confirms(..) => None,
        }
    }

    /// True if its questions are those of the second pass.
    #[must_use]
    pub const fn confirms(&self) -> bool {
        matches!(self.stage, Stage::Confirms(..))
    }
}

impl Stage {
    fn questions(&self) -> &[Question] {
        match self {
            Self::Homes(questions) | Self::Waits(questions) | Self::Confirms(_, questions) => {
                questions
            }
            Self::Aborts(..) => &[],
        }
    }

    fn questions_mut(&mut self) -> &mut [Question] {
        match self {
            Self::Homes(questions) | Self::Waits(questions) | Self::Confirms(_, questions) => {
                questions
            }
            Self::Aborts(..) => &mut [],
        }
    }
}

impl Cluster {
    /// The holders for whom somebody waits in the shards that a node leads.
    #[must_use]
    pub fn suspects(&self, node: NodeId) -> BTreeSet<Party> {
        let led = self.sites.values().filter(|site| site.leader == node);
        let shards = led.filter_map(|site| site.replica.shard());
        let suspects = |shard: &Shard| {
            let ever = Timestamp(u64::MAX);
            shard.suspects(WaitEpoch(0), ever, ALL_WAITS).0
        };
        shards.flat_map(suspects).collect()
    }

    /// A node begins to walk. False if it has nothing to look at, or walks already.
    pub fn chase(&mut self, scenario: &Scenario, node: NodeId) -> bool {
        let suspects = self.suspects(node);
        if suspects.is_empty() || self.chasers.get(&node) != Some(&Chaser::Idle) {
            return false;
        }
        let walk = Walk::new(suspects);
        let stage = Stage::Homes(to_homes(scenario, &walk));
        self.proceed(scenario, node, walk, stage);
        true
    }

    /// A question of a node's walk is answered, or not. False if there is no such question.
    pub fn hear(
        &mut self,
        scenario: &Scenario,
        node: NodeId,
        place: usize,
        answerer: Answerer,
    ) -> bool {
        let Some(Chaser::Walks(pursuit)) = self.chasers.get(&node) else {
            return false;
        };
        let Pursuit {
            walk, mut stage, ..
        } = Pursuit::clone(pursuit);
        let Some(question) = stage.questions_mut().get_mut(place) else {
            return false;
        };
        let site = self.sites.get(&question.shard);
        let replica = match answerer {
            Answerer::Leader => site.map(|site| &site.replica),
            Answerer::Deposed => site.and_then(|site| site.deposed.as_ref()),
            Answerer::Nobody => None,
        };
        let waits_only = scenario.bug == Some(Bug::ConfirmsWaitsOnly);
        question.heard = Some(match (replica, &question.query) {
            (Some(replica), Query::Stand { edges }) if waits_only => {
                let stands = |edge: &Edge| has_wait(replica, &edge.wait);
                Heard::Answer(Answer::Stand(edges.iter().all(stands)))
            }
            (Some(replica), query) => Heard::Answer(replica.query(query)),
            (None, _) => Heard::Nothing,
        });
        self.proceed(scenario, node, walk, stage);
        true
    }

    /// A node hears nothing of its abort, and goes on.
    pub fn give_up(&mut self, scenario: &Scenario, node: NodeId) -> bool {
        let Some(Chaser::Walks(pursuit)) = self.chasers.get(&node) else {
            return false;
        };
        let Pursuit { walk, stage, .. } = Pursuit::clone(pursuit);
        let Stage::Aborts(circle, _) = stage else {
            return false;
        };
        self.aborted(scenario, node, walk, &circle);
        true
    }

    /// An abort was answered: whoever waits for that goes on.
    pub(crate) fn circle_handled(&mut self, scenario: &Scenario, circle: &[Edge]) {
        let nodes: Vec<NodeId> = self.chasers.keys().copied().collect();
        for node in nodes {
            if let Some(Chaser::Walks(pursuit)) = self.chasers.get(&node)
                && let Stage::Aborts(own, _) = &pursuit.stage
                && own == circle
            {
                let walk = pursuit.walk.clone();
                self.aborted(scenario, node, walk, circle);
            }
        }
    }

    fn aborted(&mut self, scenario: &Scenario, node: NodeId, mut walk: Walk, circle: &[Edge]) {
        if let Some(wait) = victim(circle) {
            walk.forget(wait);
        }
        let next = self.conclude(scenario, node, &walk);
        self.walks(node, walk, next);
    }

    /// Goes on until an answer is needed.
    fn proceed(&mut self, scenario: &Scenario, node: NodeId, mut walk: Walk, stage: Stage) {
        let mut next = Some(stage);
        while let Some(stage) = next {
            if stage.questions().iter().any(|q| q.heard.is_none()) {
                next = Some(stage);
                break;
            }
            next = match stage {
                Stage::Homes(homes) => Some(Stage::Waits(to_shards(&walk, homes))),
                Stage::Waits(questions) => {
                    walk.learn(blocked(questions));
                    if walk.frontier().is_empty() {
                        self.conclude(scenario, node, &walk)
                    } else {
                        Some(Stage::Homes(to_homes(scenario, &walk)))
                    }
                }
                Stage::Confirms(circle, questions) => {
                    if questions.iter().all(Question::is_confirmed) {
                        self.abort(scenario, node, circle)
                    } else {
                        Arc::make_mut(&mut self.witness).mark(scenario, Mark::SuspicionDispelled);
                        for edge in &circle {
                            walk.forget(&edge.wait);
                        }
                        self.conclude(scenario, node, &walk)
                    }
                }
                Stage::Aborts(..) => {
                    next = Some(stage);
                    break;
                }
            };
        }
        self.walks(node, walk, next);
    }

    fn walks(&mut self, node: NodeId, walk: Walk, stage: Option<Stage>) {
        let chaser = match stage {
            Some(stage) => Chaser::Walks(Arc::new(Pursuit::new(walk, stage))),
            None => Chaser::Idle,
        };
        self.chasers.insert(node, chaser);
    }

    /// The first pass is over: the second one begins, if there is a circle.
    fn conclude(&mut self, scenario: &Scenario, node: NodeId, walk: &Walk) -> Option<Stage> {
        let circle = walk.cycle()?;
        if is_closed(self, &circle) {
            Arc::make_mut(&mut self.witness).closed(circle_of(&circle));
        }
        if scenario.bug == Some(Bug::SkipsSecondPass) {
            return self.abort(scenario, node, circle);
        }
        let questions = to_confirm(&circle);
        Some(Stage::Confirms(circle, questions))
    }

    /// Has the victim give way.
    fn abort(&mut self, scenario: &Scenario, node: NodeId, circle: Vec<Edge>) -> Option<Stage> {
        let led_here = |edge: &&Edge| {
            let site = self.sites.get(&edge.wait.shard);
            site.is_some_and(|site| site.leader == node)
        };
        let own = circle.iter().find(led_here).map(|edge| &edge.wait);
        let own = own.filter(|_| scenario.bug == Some(Bug::OwnVictim));
        let wait = own.or_else(|| victim(&circle))?;
        let abort = Command::AbortWait {
            session: wait.party.session,
            serial: wait.serial,
            epoch: wait.epoch,
            cycle: circle.clone(),
        };
        let abort = Message::new(wait.shard, abort);
        self.send(abort.clone());
        Some(Stage::Aborts(circle, abort))
    }
}
