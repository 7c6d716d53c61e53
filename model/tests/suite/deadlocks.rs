//! Deadlocks: who gives way, what it is told, and that a wait is never taken for another.

use std::collections::BTreeMap;

use lockstep_model::{
    Answer, Command, Effect, LockAnswer, LockCommand, LockName, LockQuery, LockRefusal, LockReply,
    Millis, Mode, Outcome, Owner, Party, Priority, Query, Refusal, Reply, Serial, SessionCommand,
    SessionId, ShardId, Timestamp, WaitEpoch,
    locks::deadlock::{Blocked, Edge, Holds, MAX_PARTIES, Waits, Walk, victim},
    request::Wait,
};

use crate::world::{A, B, C, S, World, X, acquire, owner, request};

fn wait_for(world: &mut World, session: SessionId, name: &str, mode: Mode) -> Vec<Effect> {
    let request = world.request(session);
    world.blocks(acquire(request, &[(name, mode)], Wait::Forever))
}

/// Whose waits were ended for a deadlock.
fn ended(effects: &[Effect]) -> Vec<SessionId> {
    let ended = effects.iter().filter_map(|effect| match effect {
        Effect::Complete {
            session,
            reply: Reply::Refused(Refusal::Lock(LockRefusal::Deadlock { .. })),
            ..
        } => Some(*session),
        _ => None,
    });
    ended.collect()
}

/// Opens a session that gives way before A, B and C, or after them.
fn open(world: &mut World, session: u64, priority: i32) -> SessionId {
    let session = SessionId(session);
    world.apply(Command::Session(SessionCommand::Open {
        session,
        ttl: Millis(10_000),
        priority: Priority(priority),
        labels: BTreeMap::new(),
    }));
    session
}

#[test]
fn the_youngest_of_the_lowest_priority_gives_way() {
    let mut world = World::new();
    world.passes(5);
    let young = open(&mut world, 0x1, 3);
    let low = open(&mut world, 0x2, 2);
    for (pair, loser) in [
        ([A, B], B),
        ([B, A], B),
        ([A, young], young),
        ([low, young], low),
    ] {
        for turned in [false, true] {
            let [first, second] = if turned { [pair[1], pair[0]] } else { pair };
            let one = world.take(first, "one", X);
            let two = world.take(second, "two", X);
            assert_eq!(wait_for(&mut world, first, "two", X), []);
            let effects = wait_for(&mut world, second, "one", X);
            assert_eq!(ended(&effects), [loser], "{first} and {second}");
            // It keeps what it holds, and the other gets it when it is given back.
            let (name, token, winner) = match loser == first {
                true => ("one", one, second),
                false => ("two", two, first),
            };
            let (_, effects) = world.release(loser, name, token);
            let Some(Effect::Complete {
                session,
                reply: Reply::Lock(LockReply::Granted(grants)),
                ..
            }) = effects.first()
            else {
                panic!("{effects:?}");
            };
            assert_eq!(*session, winner);
            world.release(winner, name, grants[0].token);
            let (name, token) = if loser == first {
                ("two", two)
            } else {
                ("one", one)
            };
            world.release(winner, name, token);
            assert_eq!(world.shard.counts().locks, 0);
        }
    }
}

#[test]
fn the_circle_is_told_in_words_and_remembered() {
    let mut world = World::new();
    world.take(A, "one", X);
    world.take(B, "two", X);
    wait_for(&mut world, A, "two", X);
    let effects = wait_for(&mut world, B, "one", X);
    let Some(Effect::Complete {
        reply: Reply::Refused(refusal),
        ..
    }) = effects.first()
    else {
        panic!("{effects:?}");
    };
    let words = refusal.to_string();
    let parts = [
        format!("session {A} (o) waits for \"two\", which session {B} (o) holds"),
        format!("session {B} (o) waits for \"one\", which session {A} (o) holds"),
    ];
    assert!(parts.iter().all(|part| words.contains(part)), "{words}");
    let Answer::Lock(LockAnswer::Deadlocks { count: 1, last }) =
        world.shard.query(&Query::Lock(LockQuery::Deadlocks))
    else {
        panic!("it is remembered");
    };
    assert_eq!((last[0].victim.session, last[0].cycle.len()), (B, 2));
}

/// A reader behind a writer waits for the other readers too.
#[test]
fn a_place_in_the_queue_is_an_edge() {
    let mut world = World::new();
    world.take(A, "l", S);
    world.take(B, "m", X);
    assert_eq!(wait_for(&mut world, C, "l", X), []);
    assert_eq!(wait_for(&mut world, B, "l", S), []);
    let effects = wait_for(&mut world, A, "m", X);
    // C stands between them, but holds nothing that anybody waits for.
    assert_eq!(ended(&effects), [B]);
}

#[test]
fn an_upgrade_is_an_edge() {
    let mut world = World::new();
    let shared = world.take(A, "l", S);
    world.take(B, "l", S);
    world.take(A, "m", X);
    assert_eq!(wait_for(&mut world, B, "m", X), []);
    let request = world.request(A);
    let upgrade = Command::Lock(LockCommand::Upgrade {
        request,
        name: LockName::new("l").unwrap(),
        token: shared,
        wait: Wait::Forever,
    });
    assert_eq!(ended(&world.blocks(upgrade)), [B]);
}

/// Owners are threads of control: what one holds keeps another of the same session from nothing
/// but that lock.
#[test]
fn owners_of_a_session_stand_for_themselves() {
    let mut world = World::new();
    let by = |owner: &str, mut command: Command| {
        if let Command::Lock(LockCommand::Acquire { owner: of, .. }) = &mut command {
            *of = Owner::new(owner).unwrap();
        }
        command
    };
    let hold = acquire(request(A, 1), &[("one", X)], Wait::Try);
    world.apply(by("t1", hold));
    world.take(B, "two", X);
    let wait = acquire(request(A, 2), &[("two", X)], Wait::Forever);
    world.blocks(by("t2", wait));
    assert_eq!(wait_for(&mut world, B, "one", X), []);
    let wait = acquire(request(A, 3), &[("two", X)], Wait::Forever);
    assert_eq!(ended(&world.blocks(by("t1", wait))), [B]);
}

#[test]
fn an_abort_means_one_wait_and_no_other() {
    let mut world = World::new();
    let token = world.take(A, "l", X);
    let wait = || acquire(request(B, 1), &[("l", X)], Wait::Forever);
    world.blocks(wait());
    let party = Party {
        session: B,
        owner: owner(),
    };
    let query = Query::Lock(LockQuery::Waits {
        parties: vec![party],
    });
    let Answer::Lock(LockAnswer::Waits(waits)) = world.shard.query(&query) else {
        panic!("a data shard knows");
    };
    let [
        Blocked {
            wait: waits,
            holders,
        },
    ] = waits.as_slice()
    else {
        panic!("{waits:?}");
    };
    let edge = Edge {
        wait: waits.clone(),
        holder: holders[0].clone(),
    };
    let stands = |world: &World| {
        world.shard.query(&Query::Lock(LockQuery::Stand {
            edges: vec![edge.clone()],
        }))
    };
    let abort = |epoch| {
        Command::Lock(LockCommand::AbortWait {
            session: B,
            serial: Serial(1),
            epoch,
            cycle: vec![edge.clone()],
        })
    };
    assert_eq!(stands(&world), Answer::Lock(LockAnswer::Stand(true)));
    let nothing = Outcome::Done(Reply::Refused(Refusal::Lock(LockRefusal::NoSuchWait)));
    assert_eq!(
        world.apply(abort(WaitEpoch(waits.epoch.0 + 1))),
        (nothing.clone(), vec![])
    );
    // The same lock is held by the same session again, and waited for again: other edges.
    world.release(A, "l", token);
    let grant = world.apply(wait());
    let Outcome::Done(Reply::Lock(LockReply::Granted(grants))) = grant.0 else {
        panic!("{grant:?}");
    };
    world.release(B, "l", grants[0].token);
    world.take(A, "l", X);
    world.blocks(acquire(request(B, 2), &[("l", X)], Wait::Forever));
    assert_eq!(stands(&world), Answer::Lock(LockAnswer::Stand(false)));
    assert_eq!(world.apply(abort(waits.epoch)), (nothing, vec![]));
}

fn party(number: u64) -> Party {
    Party {
        session: SessionId(number),
        owner: Owner::default(),
    }
}

/// `number` waits for `next`, each in a shard of its own.
fn blocked(number: u64, next: u64) -> Blocked {
    Blocked {
        wait: Waits {
            party: party(number),
            priority: Priority(0),
            opened: Timestamp(number),
            shard: ShardId(number as u32),
            serial: Serial(1),
            epoch: WaitEpoch(1),
            name: LockName::new("l").unwrap(),
        },
        holders: vec![Holds {
            party: party(next),
            token: lockstep_model::FencingToken(1),
        }],
    }
}

/// Walks along what `edges` say.
fn walk(from: u64, edges: &dyn Fn(u64) -> Vec<u64>) -> Walk {
    let mut walk = Walk::new([party(from)]);
    while !walk.frontier().is_empty() {
        let asked: Vec<u64> = walk
            .frontier()
            .iter()
            .map(|party| party.session.0)
            .collect();
        walk.learn(asked.into_iter().flat_map(|number| {
            edges(number)
                .into_iter()
                .map(move |next| blocked(number, next))
        }));
    }
    walk
}

#[test]
fn a_walk_finds_the_circle_from_each_of_its_parts() {
    let circle = |number: u64| vec![number % 16 + 1];
    for from in 1..=16 {
        let cycle = walk(from, &circle).cycle().unwrap();
        assert_eq!(cycle.len(), 16);
        assert_eq!(victim(&cycle).unwrap().party, party(16));
    }
}

#[test]
fn a_walk_forgets_a_wait_that_is_over() {
    // Two circles that share 1 and 2.
    let edges = |number: u64| match number {
        1 => vec![2],
        2 => vec![1, 3],
        3 => vec![1],
        _ => vec![],
    };
    let mut walk = walk(1, &edges);
    let first = walk.cycle().unwrap();
    walk.forget(&first[0].wait);
    if first[0].wait.party != party(1) {
        let second = walk.cycle().unwrap();
        assert_ne!(first, second);
        walk.forget(&second[0].wait);
    }
    assert_eq!(walk.cycle(), None);
}

#[test]
fn a_walk_ends() {
    let line = |number: u64| vec![number + 1];
    assert_eq!(walk(1, &line).cycle(), None);
    let crowd = |number: u64| (number * 1_000..number * 1_000 + 1_000).collect();
    let asked = std::cell::Cell::new(0);
    let counted = |number: u64| {
        asked.set(asked.get() + 1);
        crowd(number)
    };
    walk(1, &counted);
    assert!(asked.get() <= MAX_PARTIES);
}
