//! The search for deadlocks over shards: what is asked, in which order, and that nobody gives way on
//! less than a confirmation of every edge.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::{
    Answer, Command, FencingToken, LockAnswer, LockCommand, LockName, LockQuery, Owner, Party,
    Priority, Query, Serial, SessionAnswer, SessionId, SessionQuery, ShardId, Timestamp, WaitEpoch,
    locks::{
        chase::{Chase, Question},
        deadlock::{Blocked, Holds, MAX_ASKED, Waits},
    },
};

/// Who waits for whom: sessions, each opened before the next.
type Edges = BTreeMap<u64, Vec<u64>>;

/// Most steps of a chase in these tests: one that goes on is one that never ends.
const ENOUGH: usize = 100;

fn party(number: u64) -> Party {
    Party {
        session: SessionId(number),
        owner: Owner::default(),
    }
}

fn home_of(SessionId(number): SessionId) -> ShardId {
    ShardId(100 + number as u32 % 2)
}

/// The shard in which a session waits, if it does.
fn place_of(SessionId(number): SessionId) -> ShardId {
    ShardId(1 + number as u32 % 3)
}

fn blocked(number: u64, holders: &[u64]) -> Blocked {
    let holders = holders.iter().map(|holder| Holds {
        party: party(*holder),
        token: FencingToken(1),
    });
    Blocked {
        wait: Waits {
            party: party(number),
            priority: Priority(0),
            opened: Timestamp(number),
            shard: place_of(SessionId(number)),
            serial: Serial(number),
            epoch: WaitEpoch(number),
            name: LockName::new("l").unwrap(),
        },
        holders: holders.collect(),
    }
}

/// What a shard says when all edges stand.
fn answer(edges: &Edges, query: &Query) -> Answer {
    match query {
        Query::Session(SessionQuery::Touched { sessions }) => {
            let touched = sessions.iter().map(|s| (*s, vec![place_of(*s)]));
            Answer::Session(SessionAnswer::Touched(touched.collect()))
        }
        Query::Lock(LockQuery::Waits { parties }) => {
            let numbers = parties.iter().map(|party| party.session.0);
            let waits = numbers.filter_map(|n| edges.get(&n).map(|holders| blocked(n, holders)));
            Answer::Lock(LockAnswer::Waits(waits.collect()))
        }
        Query::Lock(LockQuery::Stand { .. }) => Answer::Lock(LockAnswer::Stand(true)),
        other => panic!("not a question of a chase: {other:?}"),
    }
}

/// Chases to the end. Gives what was asked, and whose waits were aborted.
fn run(
    edges: &Edges,
    suspects: impl IntoIterator<Item = u64>,
    mut hear: impl FnMut(&Question, Answer) -> Option<Answer>,
) -> (Vec<Question>, Vec<u64>) {
    let (mut asked, mut aborted) = (Vec::new(), Vec::new());
    let mut ask = |questions: &[Question]| {
        asked.extend_from_slice(questions);
        let answers = questions.iter();
        let answers = answers.map(|question| hear(question, answer(edges, &question.query)));
        answers.collect::<Vec<_>>()
    };
    let mut chase = Chase::begin(suspects.into_iter().map(party), home_of);
    for _ in 0..ENOUGH {
        chase = match chase {
            Chase::Looks(look) => {
                let answers = ask(look.questions());
                look.heard(answers, home_of)
            }
            Chase::Confirms(confirm) => {
                let answers = ask(confirm.questions());
                confirm.heard(answers)
            }
            Chase::Aborts(abort) => {
                let victim = abort.victim().party.session;
                let due = Command::Lock(LockCommand::AbortWait {
                    session: victim,
                    serial: Serial(victim.0),
                    epoch: WaitEpoch(victim.0),
                    cycle: abort.cycle().to_vec(),
                });
                assert_eq!(abort.command(), due);
                aborted.push(victim.0);
                abort.over()
            }
            Chase::Done => return (asked, aborted),
        };
    }
    panic!("it goes on for ever");
}

/// A question in short.
fn told(Question { shard, query }: &Question) -> String {
    let (what, sessions): (&str, Vec<u64>) = match query {
        Query::Session(SessionQuery::Touched { sessions }) => {
            ("where", sessions.iter().map(|s| s.0).collect())
        }
        Query::Lock(LockQuery::Waits { parties }) => {
            ("waits", parties.iter().map(|p| p.session.0).collect())
        }
        Query::Lock(LockQuery::Stand { edges }) => {
            let waits = edges.iter().map(|edge| &edge.wait);
            ("stand", waits.map(|wait| wait.party.session.0).collect())
        }
        other => panic!("not a question of a chase: {other:?}"),
    };
    format!("{shard} {what} {sessions:?}")
}

/// One of four and one of two.
fn two_circles() -> Edges {
    let edges = [(1, 2), (2, 3), (3, 4), (4, 1), (7, 8), (8, 7)];
    edges.map(|(waits, holds)| (waits, vec![holds])).into()
}

#[test]
fn each_shard_is_asked_once_a_level_and_the_victim_of_each_circle_gives_way() {
    let (asked, aborted) = run(&two_circles(), [1, 2, 3, 4, 7], |_, answer| Some(answer));
    let asked: Vec<String> = asked.iter().map(told).collect();
    let due = [
        // The first level, its homes and then its shards; the second.
        "100 where [2, 4]",
        "101 where [1, 3, 7]",
        "1 waits [3]",
        "2 waits [1, 4, 7]",
        "3 waits [2]",
        "100 where [8]",
        "3 waits [8]",
        // One circle after the other.
        "1 stand [3]",
        "2 stand [1, 4]",
        "3 stand [2]",
        "2 stand [7]",
        "3 stand [8]",
    ];
    assert_eq!(asked, due);
    assert_eq!(aborted, [4, 8]);
}

#[test]
fn nobody_gives_way_unless_every_shard_says_that_all_edges_stand() {
    for doubtful in [1, 2, 3].map(ShardId) {
        for heard in [
            None,
            Some(Answer::Lock(LockAnswer::Stand(false))),
            Some(Answer::WrongShard),
            Some(Answer::Lock(LockAnswer::Waits(Vec::new()))),
        ] {
            let mut circles = BTreeSet::new();
            let (_, aborted) = run(&two_circles(), [1, 7], |question, answer| {
                let is_first = match &question.query {
                    Query::Lock(LockQuery::Stand { edges }) => edges[0].wait.party.session.0 < 7,
                    _ => return Some(answer),
                };
                circles.insert(is_first);
                if is_first && question.shard == doubtful {
                    heard.clone()
                } else {
                    Some(answer)
                }
            });
            assert_eq!(circles.len(), 2, "one of the circles was not found");
            assert_eq!(aborted, [8], "shard {doubtful} said {heard:?}");
        }
    }
    let Chase::Confirms(confirm) = first_pass(&two_circles(), 1) else {
        panic!("no circle was found");
    };
    let some = vec![Some(Answer::Lock(LockAnswer::Stand(true))); confirm.questions().len() - 1];
    assert!(matches!(confirm.heard(some), Chase::Done));
}

fn first_pass(edges: &Edges, suspect: u64) -> Chase {
    let mut chase = Chase::begin([party(suspect)], home_of);
    while let Chase::Looks(look) = chase {
        let queries = look.questions().iter().map(|question| &question.query);
        let answers: Vec<_> = queries.map(|query| Some(answer(edges, query))).collect();
        chase = look.heard(answers, home_of);
    }
    chase
}

#[test]
fn of_a_circle_that_is_over_no_edge_is_believed_again() {
    // Both circles have the wait of 1 in them.
    let edges = [(1, vec![2, 3]), (2, vec![1]), (3, vec![1])].into();
    let (asked, aborted) = run(&edges, [1], |question, answer| match &question.query {
        Query::Lock(LockQuery::Stand { .. }) => Some(Answer::Lock(LockAnswer::Stand(false))),
        _ => Some(answer),
    });
    let is_second =
        |question: &&Question| matches!(question.query, Query::Lock(LockQuery::Stand { .. }));
    assert_eq!(asked.iter().filter(is_second).count(), 2, "{asked:#?}");
    assert_eq!(aborted, [0; 0]);
}

#[test]
fn an_answer_that_stays_out_hides_its_own_sessions_alone() {
    let edges: Edges = [(1, 3), (3, 1), (2, 4), (4, 2)]
        .map(|(waits, holds)| (waits, vec![holds]))
        .into();
    let without = |shard| {
        run(&edges, 1..=4, |question, answer| {
            (question.shard != ShardId(shard)).then_some(answer)
        })
        .1
    };
    let nothing = 0;
    assert_eq!(without(nothing), [3, 4]);
    let (home_of_2_and_4, home_of_1_and_3) = (100, 101);
    assert_eq!(without(home_of_2_and_4), [3]);
    assert_eq!(without(home_of_1_and_3), [4]);
    let place_of_2 = 3;
    assert_eq!(without(place_of_2), [3]);
}

#[test]
fn many_are_asked_for_by_parts_each_once() {
    let all = 1..=5 * MAX_ASKED as u64;
    let (asked, _) = run(&Edges::new(), all.clone(), |_, answer| Some(answer));
    let (mut sessions, mut parties) = (Vec::new(), Vec::new());
    for question in asked {
        match question.query {
            Query::Session(SessionQuery::Touched { sessions: some }) => {
                assert!(some.len() <= MAX_ASKED);
                sessions.extend(some.iter().map(|session| session.0));
            }
            Query::Lock(LockQuery::Waits { parties: some }) => {
                assert!(some.len() <= MAX_ASKED);
                parties.extend(some.iter().map(|party| party.session.0));
            }
            other => panic!("not of the first pass: {other:?}"),
        }
    }
    for mut numbers in [sessions, parties] {
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(all.clone()));
    }
}
