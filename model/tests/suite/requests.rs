//! Exactly-once: repeated, reused, acknowledged and too many serials.

use lockstep_model::{
    Answer, Command, FencingToken, LockAnswer, LockCommand, LockQuery, LockRefusal, LockReply,
    Outcome, Owner, Query, Refusal, Reply, Serial, SessionRefusal,
    kernel::MAX_IN_FLIGHT,
    locks::command::GiveBack,
    request::{AckedRanges, RequestId, SerialRange, Wait},
};

use crate::world::{A, B, C, World, X, acquire, completed, done, granted, name, refused, request};

/// A repeated request gets the first answer, even when it would not be given any more.
#[test]
fn a_repetition_gets_the_first_answer() {
    let mut world = World::new();
    let first = acquire(request(A, 1), &[("l", X)], Wait::Try);
    assert_eq!(world.reply(first.clone()), granted("l", X, 1, 1));
    world.release(A, "l", FencingToken(1));
    world.take(B, "l", X);
    assert_eq!(world.reply(first), granted("l", X, 1, 1));
    assert_eq!(world.shard.counts().holders, 1);
}

/// A repeated request that waits goes on waiting, once; when granted it is answered.
#[test]
fn a_repetition_of_a_wait_waits_once() {
    let mut world = World::new();
    let token = world.take(A, "l", X);
    let wait = acquire(request(B, 1), &[("l", X)], Wait::Forever);
    world.blocks(wait.clone());
    world.blocks(wait.clone());
    let Answer::Lock(LockAnswer::Lock(view)) = world
        .shard
        .query(&Query::Lock(LockQuery::Lock { name: name("l") }))
    else {
        panic!("no lock");
    };
    assert_eq!((view.waiters.len(), view.waiter_count), (1, 1));
    let (_, effects) = world.release(A, "l", token);
    assert_eq!(effects, [completed(B, 1, granted("l", X, 2, 1))]);
    assert_eq!(world.reply(wait), granted("l", X, 2, 1));
}

/// The fingerprint covers the kind, every argument, and nothing else.
#[test]
fn a_serial_stands_for_one_operation() {
    let mut world = World::new();
    let first = acquire(request(A, 1), &[("l", X)], Wait::Try);
    world.reply(first.clone());
    let token = FencingToken(1);
    let others = [
        acquire(request(A, 1), &[("m", X)], Wait::Try),
        acquire(request(A, 1), &[("l", X)], Wait::Forever),
        acquire(request(A, 1), &[("l", X), ("m", X)], Wait::Try),
        Command::Lock(LockCommand::Release {
            request: request(A, 1),
            name: name("l"),
            token,
        }),
        Command::Lock(LockCommand::Downgrade {
            request: request(A, 1),
            name: name("l"),
            token,
        }),
    ];
    for other in others {
        assert_eq!(
            world.apply(other),
            (
                refused(Refusal::Session(SessionRefusal::SerialReused { serial: 1 })),
                vec![]
            )
        );
    }
    let mut acked = first;
    if let Command::Lock(LockCommand::Acquire { request, .. }) = &mut acked {
        request.acked_below = Serial(1);
    }
    assert_eq!(world.reply(acked), granted("l", X, 1, 1));
}

/// What is acknowledged is forgotten, but a wait is not.
#[test]
fn an_acknowledged_answer_is_forgotten() {
    let mut world = World::new();
    world.take(B, "m", X);
    let first = acquire(request(A, 1), &[("l", X)], Wait::Try);
    world.reply(first.clone());
    let wait = acquire(request(A, 2), &[("m", X)], Wait::Forever);
    world.blocks(wait.clone());
    let before = world.shard.counts().replies;
    let acks = RequestId {
        acked_below: Serial(3),
        ..request(A, 3)
    };
    world.reply(acquire(acks, &[("n", X)], Wait::Try));
    assert_eq!(
        world.shard.counts().replies,
        before,
        "one answer came, one went"
    );
    let forgotten = Reply::Refused(Refusal::Session(SessionRefusal::SerialForgotten {
        serial: 1,
        acked_below: 3,
    }));
    assert_eq!(world.reply(first), forgotten);
    world.blocks(wait);
    let (_, effects) = world.release(B, "m", FencingToken(1));
    assert_eq!(effects, [completed(A, 2, granted("m", X, 4, 1))]);
    assert_eq!(
        world.shard.counts().replies,
        before + 1,
        "of B's release, none of A's wait"
    );
}

/// The bound holds for all that leaves something behind; a release without a serial gets through.
#[test]
fn kept_requests_are_bounded() {
    let mut world = World::new();
    let kept = MAX_IN_FLIGHT as u64;
    for serial in 0..kept {
        world.reply(acquire(request(A, serial), &[("l", X)], Wait::Try));
    }
    let refusal = Refusal::Session(SessionRefusal::TooManyInFlight {
        limit: MAX_IN_FLIGHT,
    });
    let one_more = acquire(request(A, kept), &[("l", X)], Wait::Try);
    assert_eq!(
        world.reply(one_more.clone()),
        Reply::Refused(refusal.clone())
    );
    let ephemeral = request(A, Serial::FIRST_EPHEMERAL.0);
    let blocking = acquire(ephemeral, &[("l", X)], Wait::Forever);
    assert_eq!(world.reply(blocking), Reply::Refused(refusal));
    let release = Command::Lock(LockCommand::Release {
        request: ephemeral,
        name: name("l"),
        token: FencingToken(1),
    });
    assert_eq!(
        world.reply(release),
        Reply::Lock(LockReply::Released {
            holds: MAX_IN_FLIGHT as u32 - 1
        })
    );
    let mut acks = one_more;
    if let Command::Lock(LockCommand::Acquire { request, .. }) = &mut acks {
        request.acked_below = Serial(1);
    }
    assert_eq!(world.reply(acks), granted("l", X, 1, MAX_IN_FLIGHT as u32));
}

/// The answers of ephemeral serials are not kept, and acknowledgements never reach them.
#[test]
fn ephemeral_serials_leave_nothing() {
    let mut world = World::new();
    let ephemeral = request(A, Serial::FIRST_EPHEMERAL.0 + 7);
    let acks = RequestId {
        acked_below: Serial(u64::MAX),
        ..ephemeral
    };
    let command = acquire(acks, &[("l", X)], Wait::Try);
    assert_eq!(world.reply(command.clone()), granted("l", X, 1, 1));
    assert_eq!(world.reply(command), granted("l", X, 1, 2));
    assert_eq!(world.shard.counts().replies, 0);
}

/// A cancelled wait is answered once, and told so when it is repeated.
#[test]
fn a_wait_is_cancelled_once() {
    let mut world = World::new();
    world.take(A, "l", X);
    let wait = acquire(request(B, 1), &[("l", X)], Wait::Forever);
    world.blocks(wait.clone());
    let cancel = Command::Lock(LockCommand::CancelWait {
        session: B,
        serial: Serial(1),
    });
    let cancelled = Refusal::Lock(LockRefusal::WaitCancelled {
        name: "l".to_owned(),
    });
    let (outcome, effects) = world.apply(cancel.clone());
    assert_eq!(outcome, done(Reply::Done));
    assert_eq!(
        effects,
        [completed(B, 1, Reply::Refused(cancelled.clone()))]
    );
    assert_eq!(
        world.reply(cancel),
        Reply::Refused(Refusal::Lock(LockRefusal::NoSuchWait))
    );
    assert_eq!(
        world.apply(wait).0,
        Outcome::Done(Reply::Refused(cancelled))
    );
}

fn undo_of(serial: u64) -> Command {
    Command::Lock(LockCommand::UndoAcquire {
        session: A,
        serial: Serial(serial),
        grants: vec![],
        refusal: Refusal::Lock(LockRefusal::Unavailable {
            name: "elsewhere".to_owned(),
        }),
    })
}

/// Undone once; who repeats the acquisition is told why, and a second undo finds nothing, even when
/// the same hold was taken again.
#[test]
fn an_acquisition_is_undone_once() {
    let mut world = World::new();
    let token = world.take(A, "l", X);
    let again = acquire(request(A, 70), &[("l", X)], Wait::Try);
    assert_eq!(world.reply(again.clone()), granted("l", X, 1, 2));
    assert_eq!(world.reply(undo_of(70)), Reply::Done);
    let elsewhere = Refusal::Lock(LockRefusal::Unavailable {
        name: "elsewhere".to_owned(),
    });
    assert_eq!(world.reply(again), Reply::Refused(elsewhere));
    let third = acquire(request(A, 71), &[("l", X)], Wait::Try);
    assert_eq!(world.reply(third), granted("l", X, 1, 2));
    world.reply(undo_of(70));
    let release = |serial| {
        Command::Lock(LockCommand::Release {
            request: request(A, serial),
            name: name("l"),
            token,
        })
    };
    assert_eq!(
        world.reply(release(72)),
        Reply::Lock(LockReply::Released { holds: 1 })
    );
    assert_eq!(
        world.reply(release(73)),
        Reply::Lock(LockReply::Released { holds: 0 })
    );
}

/// A grant that its client has acknowledged is in use: an attempt that comes late cannot undo it.
#[test]
fn an_acknowledged_grant_is_not_undone() {
    let mut world = World::new();
    let first = acquire(request(A, 70), &[("l", X)], Wait::Try);
    assert_eq!(world.reply(first), granted("l", X, 1, 1));
    let acks = RequestId {
        acked_below: Serial(71),
        ..request(A, 71)
    };
    world.reply(acquire(acks, &[("m", X)], Wait::Try));
    assert_eq!(world.reply(undo_of(70)), Reply::Done);
    let release = Command::Lock(LockCommand::Release {
        request: request(A, 72),
        name: name("l"),
        token: FencingToken(1),
    });
    assert_eq!(
        world.reply(release),
        Reply::Lock(LockReply::Released { holds: 0 })
    );
}

fn range(from: u64, below: u64) -> SerialRange {
    let (from, below) = (Serial(from), Serial(below));
    SerialRange { from, below }
}

/// A request that waits for long holds back nothing but its own answer.
#[test]
fn one_long_wait_does_not_wedge_its_session() {
    let mut world = World::new();
    world.take(B, "lead", X);
    world.blocks(acquire(request(A, 1), &[("lead", X)], Wait::Forever));
    let acked = |serial: u64| RequestId {
        acked_below: Serial(1),
        acked: AckedRanges::new((serial > 2).then(|| range(2, serial))).unwrap(),
        ..request(A, serial)
    };
    for pair in 0..5_000 {
        let serial = 2 + 2 * pair;
        let got = world.reply(acquire(acked(serial), &[("l", X)], Wait::Try));
        let Reply::Lock(LockReply::Granted(grants)) = got else {
            panic!("pair {pair}: {got:?}")
        };
        let released = world.reply(Command::Lock(LockCommand::Release {
            request: acked(serial + 1),
            name: name("l"),
            token: grants.first().unwrap().token,
        }));
        assert_eq!(
            released,
            Reply::Lock(LockReply::Released { holds: 0 }),
            "pair {pair}"
        );
    }
    assert!(world.shard.counts().replies < 5);
    // Nothing of it is carried out anew, and the wait is answered as ever.
    let forgotten = Reply::Refused(Refusal::Session(SessionRefusal::SerialForgotten {
        serial: 500,
        acked_below: 1,
    }));
    let old = acquire(request(A, 500), &[("l", X)], Wait::Try);
    assert_eq!(world.reply(old), forgotten);
    let (_, effects) = world.release(B, "lead", FencingToken(1));
    assert_eq!(effects, [completed(A, 1, granted("lead", X, 5_002, 1))]);
    let again = acquire(request(A, 1), &[("lead", X)], Wait::Forever);
    assert_eq!(world.reply(again), granted("lead", X, 5_002, 1));
}

fn abandoned(serial: u64) -> Reply {
    Reply::Refused(Refusal::Session(SessionRefusal::Abandoned { serial }))
}

fn abandon(serial: u64, grants: Vec<GiveBack>) -> Command {
    Command::Lock(LockCommand::UndoAcquire {
        session: A,
        serial: Serial(serial),
        grants,
        refusal: Refusal::Session(SessionRefusal::Abandoned { serial }),
    })
}

/// One that is still on its way when it is given up is refused when it comes, for good.
#[test]
fn an_acquisition_that_comes_after_its_end_is_refused() {
    let mut world = World::new();
    assert_eq!(world.reply(abandon(7, vec![])), Reply::Done);
    let late = acquire(request(A, 7), &[("l", X)], Wait::Forever);
    for _ in 0..2 {
        assert_eq!(world.reply(late.clone()), abandoned(7));
    }
    let acks = RequestId {
        acked_below: Serial(8),
        ..request(A, 8)
    };
    world.reply(acquire(acks, &[("m", X)], Wait::Try));
    let forgotten = Reply::Refused(Refusal::Session(SessionRefusal::SerialForgotten {
        serial: 7,
        acked_below: 8,
    }));
    assert_eq!(world.reply(late), forgotten);
    assert_eq!(world.shard.counts().holders, 1, "m alone");
}

/// One that waits gives back what it has taken, and the next go on.
#[test]
fn an_acquisition_that_waits_is_abandoned() {
    let mut world = World::new();
    world.take(B, "m", X);
    let set = acquire(request(A, 7), &[("l", X), ("m", X)], Wait::Forever);
    world.blocks(set.clone());
    world.blocks(acquire(request(C, 1), &[("l", X)], Wait::Forever));
    let (outcome, effects) = world.apply(abandon(7, vec![]));
    assert_eq!(outcome, done(Reply::Done));
    let expected = [
        completed(A, 7, abandoned(7)),
        completed(C, 1, granted("l", X, 3, 1)),
    ];
    assert_eq!(effects, expected);
    assert_eq!(world.reply(set), abandoned(7));
}

/// What another part of the owner has given back meanwhile is not given back for it: the counts would
/// say that the undone part is still there.
#[test]
fn a_reentrant_grant_is_undone_whatever_its_owner_did_meanwhile() {
    let mut world = World::new();
    let token = world.take(A, "l", X);
    let again = acquire(request(A, 70), &[("l", X)], Wait::Try);
    assert_eq!(world.reply(again), granted("l", X, 1, 2));
    let (left, _) = world.release(A, "l", token);
    assert_eq!(left, done(Reply::Lock(LockReply::Released { holds: 1 })));
    assert_eq!(world.reply(abandon(70, vec![])), Reply::Done);
    assert_eq!(world.shard.counts().holders, 0);
}

/// Of a serial that a node gave no answer is kept; it is undone once all the same, and refused when it
/// comes late.
#[test]
fn an_acquisition_without_a_serial_is_abandoned_once() {
    let mut world = World::new();
    let serial = Serial::FIRST_EPHEMERAL.0 + 7;
    let token = world.take(A, "l", X);
    let again = acquire(request(A, serial), &[("l", X)], Wait::Try);
    assert_eq!(world.reply(again.clone()), granted("l", X, 1, 2));
    let give_back = || {
        let name = name("l");
        vec![GiveBack { name, token }]
    };
    for _ in 0..3 {
        assert_eq!(world.reply(abandon(serial, give_back())), Reply::Done);
        assert_eq!(world.shard.counts().holders, 1);
    }
    assert_eq!(world.reply(again), abandoned(serial));
    let (left, _) = world.release(A, "l", token);
    assert_eq!(left, done(Reply::Lock(LockReply::Released { holds: 0 })));

    // Nobody has heard what an unnamed one was granted: its owner says it.
    let mut unnamed = acquire(request(A, serial + 1), &[("m", X)], Wait::Try);
    if let Command::Lock(LockCommand::Acquire { owner, .. }) = &mut unnamed {
        *owner = Owner::default();
    }
    world.reply(unnamed);
    world.reply(abandon(serial + 1, vec![]));
    assert_eq!(world.shard.counts().holders, 0);
}
