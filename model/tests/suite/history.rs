//! Random histories: the model must do what the naive model does, command for command, and keep its
//! invariants after every step.
//!
//! Each history runs on three machines: one has its state set aside again and again, one is replaced by its restored
//! snapshot every few batches, and the naive one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lockstep_model::{
    Applied, Batch, Command, Effect, FencingToken, LockAnswer, LockCommand, LockName, LockQuery,
    LockRefusal, LockReply, Machine, Millis, Outcome, Owner, Refusal, Reply, Revision, Serial,
    SessionCommand, SessionId, ShardId, ShardTime, TouchNumber, Value,
    locks::{
        change::ChangeKind,
        command::{GiveBack, LockSpec},
        mode::Mode,
        query::LockView,
    },
    query::{Answer, Query},
    request::{AckedRanges, RequestId, SerialRange, Wait},
    session::{EndReason, Touch},
    shard::{Counts, Shard},
    snapshot::Point,
};
use proptest::{collection::vec, prelude::*, test_runner::TestCaseResult};

use crate::{
    naive::{self, Naive},
    seed,
    world::wall,
};

const SESSIONS: u64 = 4;
const LOCKS: usize = 4;
const SEMAPHORE: usize = LOCKS - 1;
const OWNERS: usize = 2;

/// One step, as numbers that are read against the state of the naive model when it is taken.
#[derive(Clone, Debug)]
struct Action {
    kind: Kind,
    session: u64,
    owner: usize,
    pick: prop::sample::Index,
    locks: Vec<(usize, bool)>,
    wait: u64,
    acks: bool,
    is_ephemeral: bool,
    passes: u64,
    ends_batch: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Acquire,
    Release,
    Undo,
    UndoAny,
    ReleaseStale,
    Cancel,
    Upgrade,
    Downgrade,
    Proclaim,
    Expire,
    Repeat,
    Reuse,
    End,
}

fn action() -> impl Strategy<Value = Action> {
    let kind = prop_oneof![
        30 => Just(Kind::Acquire),
        20 => Just(Kind::Release),
        2 => Just(Kind::Undo),
        2 => Just(Kind::UndoAny),
        2 => Just(Kind::ReleaseStale),
        5 => Just(Kind::Cancel),
        8 => Just(Kind::Upgrade),
        5 => Just(Kind::Downgrade),
        3 => Just(Kind::Proclaim),
        4 => Just(Kind::Expire),
        10 => Just(Kind::Repeat),
        2 => Just(Kind::Reuse),
        1 => Just(Kind::End),
    ];
    let locks = prop_oneof![
        3 => vec((0..LOCKS, any::<bool>()), 1),
        1 => vec((0..LOCKS, any::<bool>()), 2..=LOCKS),
    ];
    let flags = (
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.5),
    );
    let who = (0..SESSIONS, 0..OWNERS, any::<prop::sample::Index>());
    (kind, who, locks, 0..6_u64, 0..100_u64, flags).prop_map(
        |(kind, (session, owner, pick), locks, wait, passes, flags)| {
            let (acks, is_ephemeral, ends_batch) = flags;
            let session = session + 1;
            Action {
                kind,
                session,
                owner,
                pick,
                locks,
                wait,
                acks,
                is_ephemeral,
                passes,
                ends_batch,
            }
        },
    )
}

/// What has happened so far, for choosing what comes next.
#[derive(Default)]
struct Past {
    commands: Vec<Command>,
    tokens: Vec<(LockName, FencingToken)>,
    last_serial: u64,
}

impl Past {
    fn command(&mut self, action: &Action, naive: &Naive) -> Option<Command> {
        let session = SessionId(action.session);
        Some(match action.kind {
            Kind::Acquire => self.acquire(action),
            Kind::Release | Kind::Downgrade | Kind::Upgrade | Kind::Proclaim | Kind::UndoAny => {
                let (holder, name, token) = self.hold(action, naive)?;
                let request = self.request(holder, action);
                match action.kind {
                    Kind::Release => Command::Lock(LockCommand::Release {
                        request,
                        name,
                        token,
                    }),
                    Kind::Downgrade => Command::Lock(LockCommand::Downgrade {
                        request,
                        name,
                        token,
                    }),
                    Kind::Proclaim => Command::Lock(LockCommand::Proclaim {
                        request,
                        name,
                        token,
                        value: value(action.passes),
                    }),
                    Kind::Upgrade => Command::Lock(LockCommand::Upgrade {
                        request,
                        name,
                        token,
                        wait: wait(action),
                    }),
                    // Whoever comes next may have this serial.
                    _ => Command::Lock(LockCommand::UndoAcquire {
                        session: holder,
                        serial: request.serial,
                        grants: self.grants(name, token, action),
                        refusal: Refusal::Lock(LockRefusal::NoSuchWait),
                    }),
                }
            }
            Kind::Undo => undo(action, naive)?,
            Kind::ReleaseStale => {
                let (name, token) = self.token(action)?;
                Command::Lock(LockCommand::Release {
                    request: self.request(session, action),
                    name,
                    token,
                })
            }
            Kind::Cancel => {
                let waits: Vec<_> = naive
                    .waiting
                    .iter()
                    .map(|wait| (wait.session, wait.serial))
                    .collect();
                match waits.is_empty() {
                    true => Command::Lock(LockCommand::CancelWait {
                        session,
                        serial: Serial(self.last_serial),
                    }),
                    false => {
                        let (session, serial) = *action.pick.get(&waits);
                        Command::Lock(LockCommand::CancelWait { session, serial })
                    }
                }
            }
            Kind::Expire => Command::Expire,
            Kind::End => end(session, EndReason::Expired),
            Kind::Repeat | Kind::Reuse => {
                let mut command = self.earlier(action)?;
                if let (Kind::Reuse, Command::Lock(LockCommand::Acquire { owner, .. })) =
                    (action.kind, &mut command)
                {
                    *owner = Owner::new("another").unwrap();
                }
                command
            }
        })
    }

    fn acquire(&mut self, action: &Action) -> Command {
        // The last is a semaphore, of whose size not all are of one mind.
        let of = if action.wait == 5 { 4 } else { 3 };
        let mode = |lock, exclusive| match (lock, exclusive) {
            (SEMAPHORE, _) => Mode::Permits {
                count: 1 + u32::from(exclusive),
                of,
            },
            (_, true) => Mode::Exclusive,
            (_, false) => Mode::Shared,
        };
        let mut names = BTreeSet::new();
        let locks = action.locks.iter().filter(|(lock, _)| names.insert(*lock));
        let locks = locks.map(|(lock, exclusive)| LockSpec {
            name: LockName::new(&format!("lock-{lock}")).unwrap(),
            mode: mode(*lock, *exclusive),
        });
        Command::Lock(LockCommand::Acquire {
            request: self.request(SessionId(action.session), action),
            owner: Owner::new(&"x".repeat(action.owner)).unwrap(),
            locks: locks.collect(),
            wait: wait(action),
            value: value(action.passes / 10),
        })
    }

    fn request(&mut self, session: SessionId, action: &Action) -> RequestId {
        self.last_serial += 1;
        let first = if action.is_ephemeral {
            Serial::FIRST_EPHEMERAL.0
        } else {
            0
        };
        let last = self.last_serial;
        let (acked_below, range) = match (action.acks, action.passes % 2) {
            (false, _) => (0, None),
            (true, 0) => (last.saturating_sub(5), None),
            // Some in between are pending, or never came here.
            (true, _) => (
                last.saturating_sub(40),
                Some((last.saturating_sub(9), last.saturating_sub(2))),
            ),
        };
        let range = range.map(|(from, below)| SerialRange {
            from: Serial(from),
            below: Serial(below),
        });
        let (serial, acked_below) = (Serial(first + last), Serial(acked_below));
        RequestId {
            session,
            serial,
            acked_below,
            acked: AckedRanges::new(range.filter(|range| range.from < range.below)).unwrap(),
        }
    }

    /// A present hold, mostly.
    fn hold(&self, action: &Action, naive: &Naive) -> Option<(SessionId, LockName, FencingToken)> {
        let holds: Vec<_> = naive
            .locks
            .iter()
            .flat_map(|(name, lock)| lock.holds.iter().map(move |hold| (name, hold)))
            .map(|(name, hold)| (hold.session, name.clone(), hold.token))
            .collect();
        (!holds.is_empty()).then(|| action.pick.get(&holds).clone())
    }

    /// A token that was given at some time.
    fn token(&self, action: &Action) -> Option<(LockName, FencingToken)> {
        (!self.tokens.is_empty()).then(|| action.pick.get(&self.tokens).clone())
    }

    fn grants(&mut self, name: LockName, token: FencingToken, action: &Action) -> Vec<GiveBack> {
        if action.is_ephemeral || action.acks {
            // What the same serial is used for later comes too late.
            self.last_serial -= 1;
        }
        let latest = self.tokens.iter().rev().take(3).cloned();
        latest
            .chain([(name, token)])
            .map(|(name, token)| GiveBack { name, token })
            .collect()
    }

    fn earlier(&self, action: &Action) -> Option<Command> {
        (!self.commands.is_empty()).then(|| action.pick.get(&self.commands).clone())
    }
}

/// Undoes something that was granted, or was undone already.
fn undo(action: &Action, naive: &Naive) -> Option<Command> {
    let kept: Vec<_> = naive.answered.iter().collect();
    let (session, serial, _, reply) = (!kept.is_empty()).then(|| *action.pick.get(&kept))?;
    let grants = match reply {
        Reply::Lock(LockReply::Granted(grants)) => grants.as_slice(),
        _ => &[],
    };
    Some(Command::Lock(LockCommand::UndoAcquire {
        session: *session,
        serial: *serial,
        grants: grants
            .iter()
            .map(|grant| GiveBack {
                name: grant.name.clone(),
                token: grant.token,
            })
            .collect(),
        refusal: Refusal::Lock(LockRefusal::Unavailable {
            name: "elsewhere".to_owned(),
        }),
    }))
}

fn value(of: u64) -> Value {
    Value::new(&vec![7; of as usize % 3]).unwrap()
}

fn wait(action: &Action) -> Wait {
    match action.wait {
        0 => Wait::Try,
        1 => Wait::Forever,
        tens => Wait::AtMost(Millis(tens * 50)),
    }
}

/// The only one of the sessions that are at home elsewhere.
const TOUCH: Touch = Touch {
    home: ShardId(9),
    number: TouchNumber(1),
};

fn batch(at: ShardTime, commands: Vec<Command>) -> Batch {
    let wall = wall(at);
    Batch { at, wall, commands }
}

/// The sessions: some at home here, some attached, and one that is never seen.
fn opening() -> Batch {
    let mut commands = Vec::new();
    for session in (1..=SESSIONS).map(SessionId) {
        let priority = naive::priority(session);
        commands.push(match session.0 {
            1 | 2 => Command::Session(SessionCommand::Open {
                session,
                ttl: Millis(10_000),
                priority,
                labels: BTreeMap::new(),
            }),
            3 => Command::Session(SessionCommand::Attach {
                session,
                priority,
                opened: naive::opened(session),
                touch: TOUCH,
            }),
            _ => Command::Expire,
        });
    }
    Batch {
        at: ShardTime(0),
        wall: wall(ShardTime(0)),
        commands,
    }
}

/// Ends a session where it is at home, or detaches it.
fn end(session: SessionId, reason: EndReason) -> Command {
    match session.0 {
        1 | 2 => Command::Session(SessionCommand::End { session, reason }),
        _ => Command::Session(SessionCommand::Detach {
            session,
            reason,
            touch: TOUCH,
        }),
    }
}

/// States that are set aside at once.
const MAX_POINTS: usize = 2;

struct Run {
    naive: Naive,
    plain: Machine,
    restored: Machine,
    /// The state at some moments, and what its snapshot was then.
    points: VecDeque<(Point, Vec<u8>)>,
    /// Goes ahead of the others, command by command, and tells how it breaks deadlocks.
    scout: Machine,
    pending: BTreeSet<(SessionId, Serial)>,
    /// Each lock's present tokens, and the highest that it ever had.
    tokens: BTreeMap<LockName, (BTreeSet<FencingToken>, FencingToken)>,
    past: Past,
    revision: Revision,
    watched: BTreeMap<(LockName, SessionId, Owner), (Mode, FencingToken, Value)>,
}

/// How a circle is told depends on where one begins.
fn without_words(reply: Reply) -> Reply {
    match reply {
        Reply::Refused(Refusal::Lock(LockRefusal::Deadlock { name, .. })) => {
            let cycle = String::new();
            Reply::Refused(Refusal::Lock(LockRefusal::Deadlock { name, cycle }))
        }
        other => other,
    }
}

fn plainly(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Done(reply) => Outcome::Done(without_words(reply)),
        Outcome::Pending => Outcome::Pending,
    }
}

fn shard(machine: &Machine) -> &Shard {
    match machine {
        Machine::Data(shard) => shard,
        Machine::Meta(_) => panic!("not a data shard"),
    }
}

impl Run {
    fn new() -> Self {
        let mut plain = Machine::new_data(ShardId(1));
        plain.apply(opening());
        Self {
            naive: Naive::new((1..SESSIONS).map(SessionId).collect()),
            restored: plain.clone(),
            scout: plain.clone(),
            points: VecDeque::new(),
            plain,
            pending: BTreeSet::new(),
            tokens: BTreeMap::new(),
            past: Past::default(),
            revision: Revision(0),
            watched: BTreeMap::new(),
        }
    }

    /// Applies a batch to all machines and compares them. `expected` are the naive outcomes.
    fn check_batch(&mut self, batch: Batch, expected: Vec<Outcome>) -> TestCaseResult {
        let deadline = shard(&self.plain).next_deadline();
        prop_assert_eq!(&Batch::decode(&batch.encode()), &Ok(batch.clone()));
        let applied = self.plain.apply(batch.clone());
        prop_assert_eq!(&self.restored.apply(batch.clone()), &applied);
        let outcomes: Vec<_> = applied.outcomes.iter().cloned().map(plainly).collect();
        prop_assert_eq!(&outcomes, &expected, "outcomes of {:?}", &batch);
        let completed: Vec<_> = applied
            .effects
            .iter()
            .filter_map(complete)
            .map(|(session, serial, reply)| (session, serial, without_words(reply)))
            .collect();
        self.check_changes(&applied)?;
        let naive = std::mem::take(&mut self.naive.completed);
        prop_assert_eq!(&completed, &naive, "completions of {:?}", &batch);
        let snapshot = self.plain.snapshot();
        prop_assert_eq!(&snapshot, &self.restored.snapshot());
        if snapshot.len().is_multiple_of(3) {
            self.restored = Machine::restore(&snapshot).unwrap();
            prop_assert_eq!(&snapshot, &self.restored.snapshot());
        }
        self.check_points(snapshot)?;
        self.check_completions(&batch, &applied, &completed)?;
        self.check_deadline(deadline, &applied)?;
        self.check_table()
    }

    /// What was set aside stays as it was, while the machine goes on.
    fn check_points(&mut self, snapshot: Vec<u8>) -> TestCaseResult {
        if snapshot.len().is_multiple_of(5) && self.points.len() < MAX_POINTS {
            self.points.push_back((self.plain.point(), snapshot));
        } else if let Some((point, then)) = self.points.pop_front() {
            prop_assert_eq!(point.snapshot(), then);
        }
        Ok(())
    }

    /// The changes lead from the holders before to the holders after.
    fn check_changes(&mut self, applied: &Applied) -> TestCaseResult {
        for change in &applied.changes {
            self.revision = self.revision.next();
            prop_assert_eq!(change.revision, self.revision, "a gap in the revisions");
            let key = (change.name.clone(), change.session, change.owner.clone());
            let what = (change.mode, change.token, change.value.clone());
            match change.kind {
                ChangeKind::Acquired => prop_assert!(self.watched.insert(key, what).is_none()),
                ChangeKind::Converted | ChangeKind::Proclaimed => {
                    prop_assert!(self.watched.insert(key, what).is_some());
                }
                ChangeKind::Released => prop_assert_eq!(self.watched.remove(&key), Some(what)),
                ChangeKind::Present => prop_assert!(false, "not a change"),
            }
        }
        let present: BTreeMap<_, _> = shard(&self.plain)
            .present_with_prefix("")
            .map(|hold| {
                let key = (hold.name, hold.session, hold.owner);
                (key, (hold.mode, hold.token, hold.value))
            })
            .collect();
        prop_assert_eq!(&present, &self.watched);
        Ok(())
    }

    /// What the model does with a command, for the naive model to follow where there is a choice.
    fn scout(&mut self, at: ShardTime, command: &Command) {
        let commands = vec![command.clone()];
        let applied = self.scout.apply(batch(at, commands));
        let broken = applied.effects.iter().filter_map(|effect| match effect {
            Effect::Complete {
                session,
                serial,
                reply: Reply::Refused(Refusal::Lock(LockRefusal::Deadlock { .. })),
            } => Some((*session, *serial)),
            _ => None,
        });
        self.naive.broken.extend(broken);
    }

    /// Every pending request is completed once, and none that is not pending.
    fn check_completions(
        &mut self,
        batch: &Batch,
        applied: &Applied,
        completed: &[(SessionId, Serial, Reply)],
    ) -> TestCaseResult {
        for (command, outcome) in batch.commands.iter().zip(&applied.outcomes) {
            if let (Some(id), Outcome::Pending) = (id_of(command), outcome) {
                self.pending.insert(id);
            }
        }
        for (session, serial, reply) in completed {
            prop_assert!(
                self.pending.remove(&(*session, *serial)),
                "completed twice or never asked"
            );
            if let Reply::Lock(LockReply::Granted(grants)) = reply {
                self.past
                    .tokens
                    .extend(grants.iter().map(|grant| (grant.name.clone(), grant.token)));
            }
        }
        for outcome in &applied.outcomes {
            if let Outcome::Done(Reply::Lock(LockReply::Granted(grants))) = outcome {
                self.past
                    .tokens
                    .extend(grants.iter().map(|grant| (grant.name.clone(), grant.token)));
            }
        }
        let waiting: BTreeSet<_> = self
            .naive
            .waiting
            .iter()
            .map(|wait| (wait.session, wait.serial))
            .collect();
        prop_assert_eq!(&self.pending, &waiting);
        for (session, serial) in &self.pending {
            prop_assert!(shard(&self.plain).pending(*session, *serial));
        }
        Ok(())
    }

    fn check_deadline(&self, before: Option<ShardTime>, applied: &Applied) -> TestCaseResult {
        let deadline = self
            .naive
            .waiting
            .iter()
            .filter_map(|wait| wait.deadline)
            .min();
        prop_assert_eq!(shard(&self.plain).next_deadline(), deadline);
        let is_news = |effect: &&Effect| matches!(effect, Effect::NextDeadline(_));
        let news: Vec<_> = applied.effects.iter().filter(is_news).collect();
        let expected = Effect::NextDeadline(deadline);
        match deadline == before {
            true => prop_assert!(news.is_empty()),
            false => prop_assert_eq!(news, vec![&expected]),
        }
        Ok(())
    }

    fn check_table(&mut self) -> TestCaseResult {
        let query = Query::Lock(LockQuery::Locks {
            prefix: "lock-".to_owned(),
            after: None,
            limit: 1_000,
        });
        let Answer::Lock(LockAnswer::Locks(views)) = self.plain.query(&query) else {
            return Err(TestCaseError::fail("no answer"));
        };
        let views = views.rows;
        prop_assert_eq!(&views, &self.naive.view());
        for view in &views {
            self.check_lock(view)?;
        }
        let counts = shard(&self.plain).counts();
        prop_assert_eq!(counts.locks, views.len());
        prop_assert_eq!(
            counts.holders,
            views.iter().map(|view| view.holders.len()).sum::<usize>()
        );
        prop_assert_eq!(counts.waiters, self.pending.len());
        Ok(())
    }

    fn check_lock(&mut self, view: &LockView) -> TestCaseResult {
        prop_assert!(
            !view.holders.is_empty(),
            "{} is waited for, but free",
            view.name
        );
        let exclusive = view
            .holders
            .iter()
            .filter(|holder| holder.mode == Mode::Exclusive)
            .count();
        prop_assert!(
            exclusive == 0 || view.holders.len() == 1,
            "{} is not exclusive",
            view.name
        );
        let (first, upgrading) = match view.waiters.first() {
            Some(first) => (Some(first.mode), first.upgrade),
            None => (None, false),
        };
        prop_assert!(
            !upgrading || (exclusive == 0 && view.holders.len() > 1),
            "a missed upgrade"
        );
        prop_assert!(
            first != Some(Mode::Shared) || exclusive == 1,
            "a missed reader"
        );
        let (present, highest) = self.tokens.entry(view.name.clone()).or_default();
        let tokens: BTreeSet<_> = view.holders.iter().map(|holder| holder.token).collect();
        for new in tokens.difference(present) {
            prop_assert!(
                *new > *highest,
                "token {} of {} does not grow",
                new,
                view.name
            );
        }
        *highest = tokens
            .last()
            .copied()
            .max(Some(*highest))
            .unwrap_or_default();
        *present = tokens;
        Ok(())
    }

    /// When all sessions are over, nothing is left.
    fn finish(mut self) -> TestCaseResult {
        let sessions = (1..=SESSIONS).map(SessionId);
        let commands: Vec<_> = sessions
            .map(|session| end(session, EndReason::Closed))
            .collect();
        let now = shard(&self.plain).now();
        let mut expected = Vec::new();
        for command in &commands {
            self.scout(now, command);
            expected.push(self.naive.apply(now, command));
        }
        self.check_batch(batch(now, commands), expected)?;
        prop_assert!(self.pending.is_empty());
        let Counts {
            tombstones,
            deadlocks,
            ..
        } = shard(&self.plain).counts();
        prop_assert_eq!(
            shard(&self.plain).counts(),
            Counts {
                tombstones,
                deadlocks,
                ..Counts::default()
            }
        );
        self.plain.apply(Batch {
            at: now.plus(Millis(60_000)),
            wall: wall(now),
            commands: Vec::new(),
        });
        prop_assert_eq!(
            shard(&self.plain).counts(),
            Counts {
                deadlocks,
                ..Counts::default()
            }
        );
        Ok(())
    }
}

fn complete(effect: &Effect) -> Option<(SessionId, Serial, Reply)> {
    match effect {
        Effect::Complete {
            session,
            serial,
            reply,
        } => Some((*session, *serial, reply.clone())),
        Effect::SessionAlive { .. }
        | Effect::SessionRevoked { .. }
        | Effect::SessionEnding { .. }
        | Effect::NextDeadline(_) => None,
    }
}

fn id_of(command: &Command) -> Option<(SessionId, Serial)> {
    match command {
        Command::Lock(LockCommand::Acquire { request, .. })
        | Command::Lock(LockCommand::Upgrade { request, .. }) => {
            Some((request.session, request.serial))
        }
        _ => None,
    }
}

fn run(actions: Vec<Action>) -> TestCaseResult {
    let mut run = Run::new();
    let mut at = ShardTime(0);
    let (mut commands, mut expected) = (Vec::new(), Vec::new());
    for action in actions {
        let command = run.past.command(&action, &run.naive);
        // An ephemeral serial that comes again after its completion is a new wait: never both in
        // one batch, where they could not be told apart.
        let is_ephemeral = command
            .as_ref()
            .and_then(id_of)
            .is_some_and(|id| id.1.is_ephemeral());
        if is_ephemeral || action.ends_batch {
            let commands = std::mem::take(&mut commands);
            run.check_batch(batch(at, commands), std::mem::take(&mut expected))?;
            at = at.plus(Millis(action.passes));
        }
        if let Some(command) = command {
            run.scout(at, &command);
            let outcome = run.naive.apply(at, &command);
            prop_assert!(run.naive.broken.is_empty(), "broken without a circle");
            expected.push(outcome);
            run.past.commands.push(command.clone());
            commands.push(command);
        }
    }
    run.check_batch(batch(at, commands), expected)?;
    run.finish()
}

/// The model does what the rules say, and a restored one does the same.
#[test]
fn random_histories_follow_the_rules() {
    seed::check(3_000, &vec(action(), 1..150), run);
}
