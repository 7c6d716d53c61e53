//! A node's search for deadlocks, one message at a time.
//!
//! The model's own [`Chase`] says what to ask, what an answer means and whose wait to abort, as it does
//! for a node. What is asked is answered here: each question on its own, at any later moment, or not
//! at all.
//!
//! Invariant: nothing but answers and the chase's own memory decides what it does, and the
//! [mistakes](bug::chase) that are planted around it. What is known of the moment at which the second
//! pass begins is for the witness alone.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use lockstep_model::{
    Answer, NodeId, Party, SessionId, ShardId, ShardTime, WaitEpoch,
    locks::{
        chase::{Chase, Question},
        deadlock::Edge,
    },
    shard::Shard,
};

use crate::{
    bug,
    cluster::Cluster,
    message::Message,
    scenario::Scenario,
    truth::is_closed,
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

/// A chase and where it stands. Compared by a hash of what it prints: a [`Chase`] is to be printed, and
/// not to be compared, and states are told apart by such hashes anyway.
#[derive(Clone, Debug)]
pub struct Pursuit {
    chase: Chase,
    /// What became of its questions, in their order.
    heard: Vec<Heard>,
    /// The abort whose answer it waits for.
    abort: Option<Message>,
    hash: u64,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    /// Nothing so far.
    Open,
    /// It will never be answered.
    Never,
    /// It was answered.
    Answer(Answer),
}

/// Takes in text for its hash alone.
struct Printed(DefaultHasher);

impl fmt::Write for Printed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
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
    fn new(chase: Chase, heard: Vec<Heard>, abort: Option<Message>) -> Self {
        let mut printed = Printed(DefaultHasher::new());
        // Writing to a hash cannot fail.
        let _ = write!(printed, "{chase:?} {heard:?} {abort:?}");
        let hash = printed.0.finish();
        Self {
            chase,
            heard,
            abort,
            hash,
        }
    }

    /// The questions that are open: their places, and the shards that they are for.
    #[must_use]
    pub fn open(&self) -> Vec<(usize, ShardId)> {
        let questions = questions(&self.chase).iter().zip(&self.heard).enumerate();
        questions
            .filter(|(_, (_, heard))| **heard == Heard::Open)
            .map(|(place, (question, _))| (place, question.shard))
            .collect()
    }

    /// The abort whose answer it waits for.
    #[must_use]
    pub const fn abort(&self) -> Option<&Message> {
        self.abort.as_ref()
    }

    /// True if its questions are those of the second pass.
    #[must_use]
    pub const fn confirms(&self) -> bool {
        matches!(self.chase, Chase::Confirms(_))
    }
}

fn questions(chase: &Chase) -> &[Question] {
    match chase {
        Chase::Looks(look) => look.questions(),
        Chase::Confirms(confirm) => confirm.questions(),
        Chase::Aborts(_) | Chase::Done => &[],
    }
}

impl Cluster {
    /// The holders for whom somebody waits in the shards that a node leads.
    #[must_use]
    pub fn suspects(&self, node: NodeId) -> BTreeSet<Party> {
        let led = self.sites.values().filter(|site| site.leader == node);
        let shards = led.filter_map(|site| site.replica.shard());
        let suspects = |shard: &Shard| {
            let ever = ShardTime(u64::MAX);
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
        let chase = Chase::begin(suspects, |session| home_of(scenario, session));
        self.proceed(scenario, node, chase);
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
            chase, mut heard, ..
        } = Pursuit::clone(pursuit);
        let (Some(question), Some(at_place)) = (questions(&chase).get(place), heard.get_mut(place))
        else {
            return false;
        };
        *at_place = self.answer_of(scenario, question, answerer);
        if heard.contains(&Heard::Open) {
            self.walks(node, Pursuit::new(chase, heard, None));
        } else {
            self.conclude(scenario, node, chase, heard);
        }
        true
    }

    fn answer_of(&self, scenario: &Scenario, question: &Question, answerer: Answerer) -> Heard {
        let site = self.sites.get(&question.shard);
        let replica = match answerer {
            Answerer::Leader => site.map(|site| &site.replica),
            Answerer::Deposed => site.and_then(|site| site.deposed.as_ref()),
            Answerer::Nobody => None,
        };
        replica.map_or(Heard::Never, |replica| {
            Heard::Answer(bug::chase::answer(replica, &question.query, scenario.bug))
        })
    }

    /// A node hears nothing of its abort, and goes on.
    pub fn give_up(&mut self, scenario: &Scenario, node: NodeId) -> bool {
        let Some(Chaser::Walks(pursuit)) = self.chasers.get(&node) else {
            return false;
        };
        let Chase::Aborts(abort) = pursuit.chase.clone() else {
            return false;
        };
        self.proceed(scenario, node, abort.over());
        true
    }

    /// An abort was answered: whoever waits for that goes on.
    pub(crate) fn circle_handled(&mut self, scenario: &Scenario, circle: &[Edge]) {
        let nodes: Vec<NodeId> = self.chasers.keys().copied().collect();
        for node in nodes {
            if let Some(Chaser::Walks(pursuit)) = self.chasers.get(&node)
                && let Chase::Aborts(abort) = &pursuit.chase
                && abort.cycle() == circle
            {
                let abort = abort.clone();
                self.proceed(scenario, node, abort.over());
            }
        }
    }

    /// No question of a step is open any more.
    fn conclude(&mut self, scenario: &Scenario, node: NodeId, chase: Chase, heard: Vec<Heard>) {
        let answers = heard.into_iter().map(|heard| match heard {
            Heard::Answer(answer) => Some(answer),
            Heard::Open | Heard::Never => None,
        });
        let next = match chase {
            Chase::Looks(look) => look.heard(answers, |session| home_of(scenario, session)),
            Chase::Confirms(confirm) => {
                let next = confirm.heard(answers);
                if !matches!(next, Chase::Aborts(_)) {
                    Arc::make_mut(&mut self.witness).mark(scenario, Mark::SuspicionDispelled);
                }
                next
            }
            step @ (Chase::Aborts(_) | Chase::Done) => step,
        };
        self.proceed(scenario, node, next);
    }

    /// Begins with a step, and goes on until an answer is needed.
    fn proceed(&mut self, scenario: &Scenario, node: NodeId, step: Chase) {
        let mut heard = vec![Heard::Open; questions(&step).len()];
        let mut sent = None;
        match &step {
            Chase::Looks(_) => {}
            Chase::Confirms(confirm) => {
                if is_closed(self, confirm.cycle()) {
                    Arc::make_mut(&mut self.witness).closed(circle_of(confirm.cycle()));
                }
                if let Some(answers) = bug::chase::believed(confirm, scenario.bug) {
                    heard = answers.into_iter().map(Heard::Answer).collect();
                }
            }
            Chase::Aborts(abort) => {
                let site = |shard| self.sites.get(&shard);
                let leads = |shard| site(shard).is_some_and(|site| site.leader == node);
                let message = bug::chase::message(abort, leads, scenario.bug);
                self.send(message.clone());
                sent = Some(message);
            }
            Chase::Done => {
                self.chasers.insert(node, Chaser::Idle);
                return;
            }
        }
        if sent.is_none() && !heard.contains(&Heard::Open) {
            self.conclude(scenario, node, step, heard);
        } else {
            self.walks(node, Pursuit::new(step, heard, sent));
        }
    }

    fn walks(&mut self, node: NodeId, pursuit: Pursuit) {
        self.chasers.insert(node, Chaser::Walks(Arc::new(pursuit)));
    }
}

/// A session that is in no plan has no home: its question stays without an answer.
fn home_of(scenario: &Scenario, session: SessionId) -> ShardId {
    let plan = scenario.sessions.get(&session);
    plan.map_or(ShardId::META, |plan| plan.home)
}
