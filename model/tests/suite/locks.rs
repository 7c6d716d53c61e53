//! The rules of the lock table, as whole lists of outcomes and effects.

use lockstep_model::{
    Answer, Command, Effect, FencingToken, LockAnswer, LockCommand, LockQuery, LockRefusal,
    LockReply, Millis, Owner, Query, Refusal, Reply, Serial, ShardTime,
    kernel::MAX_IN_FLIGHT,
    locks::{
        lock::{MAX_HOLDS, MAX_WAITERS},
        reply::Grant,
    },
    request::Wait,
};

use crate::world::{
    A, B, C, S, World, X, acquire, completed, done, granted, name, open, refused, request,
};

fn text(text: &str) -> String {
    text.to_owned()
}

/// A reader that comes after a waiting writer waits, though it would fit beside the holder.
#[test]
fn readers_do_not_pass_a_waiting_writer() {
    let mut world = World::new();
    let token = world.take(A, "l", S);
    world.blocks(acquire(request(B, 1), &[("l", X)], Wait::Forever));
    let reader = acquire(request(C, 1), &[("l", S)], Wait::Try);
    assert_eq!(
        world.reply(reader),
        Reply::Refused(Refusal::Lock(LockRefusal::Unavailable { name: text("l") }))
    );
    world.blocks(acquire(request(C, 2), &[("l", S)], Wait::Forever));
    let (_, effects) = world.release(A, "l", token);
    assert_eq!(effects, [completed(B, 1, granted("l", X, 2, 1))]);
    let (_, effects) = world.release(B, "l", FencingToken(2));
    assert_eq!(effects, [completed(C, 2, granted("l", S, 3, 1))]);
}

/// All readers up to the first writer get in together; then the writer, when they have left.
#[test]
fn a_run_of_readers_is_granted_together() {
    let mut world = World::new();
    let token = world.take(A, "l", X);
    for (session, serial, mode) in [(B, 1, S), (C, 1, S), (B, 2, X), (C, 2, S)] {
        let mut command = acquire(request(session, serial), &[("l", mode)], Wait::Forever);
        if let Command::Lock(LockCommand::Acquire { owner, .. }) = &mut command {
            *owner = Owner::new(&serial.to_string()).unwrap();
        }
        world.blocks(command);
    }
    let (_, effects) = world.release(A, "l", token);
    let readers = [
        completed(B, 1, granted("l", S, 2, 1)),
        completed(C, 1, granted("l", S, 3, 1)),
    ];
    assert_eq!(effects, readers);
    assert_eq!(world.release(B, "l", FencingToken(2)).1, []);
    let (_, effects) = world.release(C, "l", FencingToken(3));
    assert_eq!(effects, [completed(B, 2, granted("l", X, 4, 1))]);
}

/// A set is taken in name order, held while a later lock is waited for, and answered in the order
/// of the question; a timeout gives back all that was taken for it.
#[test]
fn a_set_of_locks_is_all_or_nothing() {
    let mut world = World::new();
    let token = world.take(A, "m", X);
    let set = [("z", X), ("m", S), ("a", X)];
    world.blocks(acquire(request(B, 1), &set, Wait::Forever));
    assert_eq!(world.shard.counts().locks, 2, "z is not taken before m");
    let (_, effects) = world.release(A, "m", token);
    let grant = |text, mode, token| {
        let token = FencingToken(token);
        Grant {
            name: name(text),
            mode,
            token,
            holds: 1,
        }
    };
    let grants = vec![grant("z", X, 4), grant("m", S, 3), grant("a", X, 2)];
    assert_eq!(
        effects,
        [completed(B, 1, Reply::Lock(LockReply::Granted(grants)))]
    );

    let wait = Wait::AtMost(Millis(50));
    let effects = world.blocks(acquire(request(C, 1), &[("m", X), ("b", X)], wait));
    assert_eq!(effects, [Effect::NextDeadline(Some(ShardTime(1_050)))]);
    world.blocks(acquire(request(A, 1), &[("b", X)], Wait::Forever));
    world.passes(50);
    let (_, effects) = world.apply(Command::Expire);
    let over = Reply::Refused(Refusal::Lock(LockRefusal::WaitTimedOut { name: text("m") }));
    let expected = [
        completed(C, 1, over),
        completed(A, 1, granted("b", X, 6, 1)),
        Effect::NextDeadline(None),
    ];
    assert_eq!(effects, expected);
}

/// A set with `Try` changes nothing if one of its locks is not free.
#[test]
fn a_tried_set_takes_nothing_unless_all_is_free() {
    let mut world = World::new();
    world.take(A, "m", X);
    let set = acquire(request(B, 1), &[("a", X), ("m", X)], Wait::Try);
    assert_eq!(
        world.reply(set),
        Reply::Refused(Refusal::Lock(LockRefusal::Unavailable { name: text("m") }))
    );
    assert_eq!(world.shard.counts().locks, 1);
    assert_eq!(world.take(C, "a", X), FencingToken(2));
}

/// Taking again counts; only as many releases free the lock.
#[test]
fn an_owner_takes_its_lock_again_past_the_queue() {
    let mut world = World::new();
    let token = world.take(A, "l", X);
    world.blocks(acquire(request(B, 1), &[("l", X)], Wait::Forever));
    let again = world.reply(acquire(request(A, 1), &[("l", S)], Wait::Try));
    assert_eq!(again, granted("l", X, 1, 2));
    assert_eq!(
        world.release(A, "l", token),
        (done(Reply::Lock(LockReply::Released { holds: 1 })), vec![])
    );
    let (outcome, effects) = world.release(A, "l", token);
    assert_eq!(outcome, done(Reply::Lock(LockReply::Released { holds: 0 })));
    assert_eq!(effects, [completed(B, 1, granted("l", X, 2, 1))]);

    let stale = Refusal::Lock(LockRefusal::StaleToken {
        name: text("l"),
        token,
    });
    assert_eq!(world.release(A, "l", token), (refused(stale), vec![]));
}

/// What a waiting set has taken again of a hold cannot be released from under it.
#[test]
fn a_release_leaves_a_waiting_set_what_it_took() {
    let mut world = World::new();
    let token = world.take(A, "a", X);
    let other = world.take(B, "b", X);
    world.blocks(acquire(request(A, 1), &[("a", X), ("b", X)], Wait::Forever));
    assert_eq!(
        world.release(A, "a", token).0,
        done(Reply::Lock(LockReply::Released { holds: 0 }))
    );
    let stale = Refusal::Lock(LockRefusal::StaleToken {
        name: text("a"),
        token,
    });
    assert_eq!(world.release(A, "a", token).0, refused(stale));
    let (_, effects) = world.release(B, "b", other);
    let grant = |text, token| {
        let token = FencingToken(token);
        Grant {
            name: name(text),
            mode: X,
            token,
            holds: 1,
        }
    };
    let grants = Reply::Lock(LockReply::Granted(vec![grant("a", 1), grant("b", 3)]));
    assert_eq!(effects, [completed(A, 1, grants)]);
}

/// The upgrader goes before the queue, under a new token; a second one is refused at once.
#[test]
fn an_upgrade_goes_first_and_there_is_only_one() {
    let mut world = World::new();
    let (a, b) = (world.take(A, "l", S), world.take(B, "l", S));
    world.blocks(acquire(request(C, 1), &[("l", X)], Wait::Forever));
    let upgrade = |session, serial, token| {
        let (request, wait) = (request(session, serial), Wait::Forever);
        Command::Lock(LockCommand::Upgrade {
            request,
            name: name("l"),
            token,
            wait,
        })
    };
    world.blocks(upgrade(A, 1, a));
    let deadlock = Reply::Refused(Refusal::Lock(LockRefusal::UpgradeDeadlock {
        name: text("l"),
    }));
    assert_eq!(world.reply(upgrade(B, 1, b)), deadlock);
    let (_, effects) = world.release(B, "l", b);
    assert_eq!(effects, [completed(A, 1, granted("l", X, 3, 1))]);
    let stale = Refusal::Lock(LockRefusal::StaleToken {
        name: text("l"),
        token: a,
    });
    assert_eq!(
        world.release(A, "l", a).0,
        refused(stale),
        "the old token is void"
    );

    let downgrade = Command::Lock(LockCommand::Downgrade {
        request: request(A, 2),
        name: name("l"),
        token: FencingToken(3),
    });
    assert_eq!(
        world.reply(downgrade),
        Reply::Lock(LockReply::Downgraded {
            token: FencingToken(3)
        })
    );
    let (_, effects) = world.release(A, "l", FencingToken(3));
    assert_eq!(effects, [completed(C, 1, granted("l", X, 4, 1))]);
}

/// Tokens of a lock that was forgotten in between still grow.
#[test]
fn tokens_grow_across_recreation() {
    let mut world = World::new();
    let first = world.take(A, "l", X);
    world.release(A, "l", first);
    assert_eq!(world.shard.counts().locks, 0);
    let second = world.take(B, "l", X);
    assert!(second > first);
    let valid = |token, session| {
        Query::Lock(LockQuery::Validate {
            name: name("l"),
            token,
            session,
        })
    };
    assert_eq!(
        world.shard.query(&valid(first, None)),
        Answer::Lock(LockAnswer::Valid(false))
    );
    assert_eq!(
        world.shard.query(&valid(second, None)),
        Answer::Lock(LockAnswer::Valid(true))
    );
    assert_eq!(
        world.shard.query(&valid(second, Some(B))),
        Answer::Lock(LockAnswer::Valid(true))
    );
    assert_eq!(
        world.shard.query(&valid(second, Some(A))),
        Answer::Lock(LockAnswer::Valid(false))
    );
}

#[test]
fn holds_of_one_owner_are_bounded() {
    let mut world = World::new();
    let ephemeral = |serial| request(A, Serial::FIRST_EPHEMERAL.0 + serial);
    for count in 0..u64::from(MAX_HOLDS) {
        world.reply(acquire(ephemeral(count), &[("l", X)], Wait::Try));
    }
    let refusal = Refusal::Lock(LockRefusal::TooManyHolds {
        name: text("l"),
        limit: MAX_HOLDS,
    });
    for wait in [Wait::Try, Wait::Forever] {
        let reply = world.reply(acquire(ephemeral(u64::from(MAX_HOLDS)), &[("l", X)], wait));
        assert_eq!(reply, Reply::Refused(refusal.clone()));
    }
}

/// The queue is bounded; waiters leave it from the middle and the head in any order, and those
/// that are left keep theirs.
#[test]
fn a_full_queue_refuses_and_drains_in_order() {
    let mut world = World::new();
    let token = world.take(A, "l", X);
    let sessions = MAX_WAITERS.div_ceil(MAX_IN_FLIGHT) as u64;
    let session = |number: u64| lockstep_model::SessionId(1_000 + number % sessions);
    for number in 0..sessions {
        world.apply(open(session(number)));
    }
    let wait = |number| {
        let request = request(session(number), number);
        let mut command = acquire(request, &[("l", X)], Wait::Forever);
        if let Command::Lock(LockCommand::Acquire { owner, .. }) = &mut command {
            *owner = Owner::new(&number.to_string()).unwrap();
        }
        command
    };
    let waiters = MAX_WAITERS as u64;
    for number in 0..waiters {
        world.blocks(wait(number));
    }
    let full = Refusal::Lock(LockRefusal::TooManyWaiters {
        name: text("l"),
        limit: MAX_WAITERS,
    });
    let one_more = acquire(request(B, 1), &[("l", X)], Wait::Forever);
    assert_eq!(world.reply(one_more), Reply::Refused(full));
    for number in (0..waiters).filter(|number| number % 4 != 0).rev() {
        let command = Command::Lock(LockCommand::CancelWait {
            session: session(number),
            serial: Serial(number),
        });
        assert_eq!(world.apply(command).0, done(Reply::Done));
    }
    let mut held = (A, token);
    // Each session has all the answers kept that it may: only such serials get through.
    world.serial = Serial::FIRST_EPHEMERAL.0;
    for number in (0..waiters).step_by(4) {
        let (_, effects) = world.release(held.0, "l", held.1);
        held = (session(number), held.1.next());
        let grant = granted("l", X, held.1.0, 1);
        assert_eq!(effects, [completed(session(number), number, grant)]);
    }
}

/// Who names no owner is nobody else: two of one session do not share a hold.
#[test]
fn two_unnamed_acquisitions_exclude_each_other() {
    let mut world = World::new();
    let unnamed = |serial, wait| {
        let mut command = acquire(request(A, serial), &[("l", X)], wait);
        if let Command::Lock(LockCommand::Acquire { owner, .. }) = &mut command {
            *owner = Owner::default();
        }
        command
    };
    let first = world.reply(unnamed(1, Wait::Try));
    assert_eq!(first, granted("l", X, 1, 1));
    assert_eq!(world.reply(unnamed(1, Wait::Try)), first, "repeated");
    let tried = world.reply(unnamed(2, Wait::Try));
    let name = text("l");
    assert_eq!(
        tried,
        Reply::Refused(Refusal::Lock(LockRefusal::Unavailable { name }))
    );
    world.blocks(unnamed(3, Wait::Forever));
    let (_, effects) = world.release(A, "l", FencingToken(1));
    assert_eq!(effects, [completed(A, 3, granted("l", X, 2, 1))]);
}
