//! Barriers: all pass when the last has come, and only then.

use lockstep_model::{
    Command, FencingToken, LockCommand, LockName, LockRefusal, LockReply, Mode, Outcome, Refusal,
    Reply, Serial, SessionCommand, SessionId, Usage, request::Wait, session::EndReason,
};

use crate::world::{A, B, C, World, X, acquire, completed, done, granted, refused, request};

const MEET: Mode = Mode::Meet { parties: 3 };

fn come(session: SessionId, serial: u64) -> Command {
    acquire(request(session, serial), &[("gate", MEET)], Wait::Forever)
}

fn passed(token: u64) -> Reply {
    granted("gate", MEET, token, 0)
}

#[test]
fn all_pass_when_the_last_has_come_and_again_the_next_time() {
    let mut world = World::new();
    for round in 1..=2 {
        assert_eq!(world.blocks(come(A, round)), []);
        assert_eq!(world.blocks(come(B, round)), []);
        let (outcome, effects) = world.apply(come(C, round));
        assert_eq!(outcome, done(passed(round)));
        let told = [
            completed(A, round, passed(round)),
            completed(B, round, passed(round)),
        ];
        assert_eq!(effects, told);
        assert_eq!(world.shard.counts().locks, 0, "nothing is kept");
    }
}

#[test]
fn who_leaves_has_not_come() {
    let mut world = World::new();
    world.blocks(come(A, 1));
    world.blocks(come(B, 1));
    let cancel = Command::Lock(LockCommand::CancelWait {
        session: A,
        serial: Serial(1),
    });
    world.apply(cancel);
    assert_eq!(world.blocks(come(C, 1)), []);
    let reason = EndReason::Expired;
    world.apply(Command::Session(SessionCommand::End { session: B, reason }));
    assert_eq!(world.blocks(come(A, 2)), []);
    let (outcome, effects) = world.apply(come(C, 2));
    assert_eq!(
        (outcome, effects.len()),
        (done(passed(1)), 2),
        "C came as two"
    );
}

#[test]
fn a_barrier_is_not_waited_for_in_vain() {
    let mut world = World::new();
    let gate = || LockName::new("gate").unwrap().to_string();
    let try_it = acquire(request(A, 1), &[("gate", MEET)], Wait::Try);
    let unavailable = refused(Refusal::Lock(LockRefusal::Unavailable { name: gate() }));
    assert_eq!(world.apply(try_it).0, unavailable);
    world.blocks(come(A, 2));
    let two = acquire(
        request(B, 1),
        &[("gate", Mode::Meet { parties: 2 })],
        Wait::Forever,
    );
    let present = Usage::Barrier { parties: 3 };
    let name = gate();
    let other = refused(Refusal::Lock(LockRefusal::OtherUsage { name, present }));
    assert_eq!(world.apply(two).0, other);
    let lock = acquire(request(B, 2), &[("gate", X)], Wait::Forever);
    assert_eq!(world.apply(lock).0, other);
    let among = acquire(request(B, 3), &[("gate", MEET), ("l", X)], Wait::Forever);
    assert!(matches!(
        world.apply(among).0,
        Outcome::Done(Reply::Refused(Refusal::Malformed { .. }))
    ));
}

#[test]
fn a_restored_barrier_goes_on() {
    let mut world = World::new();
    world.blocks(come(A, 1));
    world.blocks(come(B, 1));
    let machine = lockstep_model::Machine::Data(world.shard.clone());
    let restored = lockstep_model::Machine::restore(&machine.snapshot()).unwrap();
    let lockstep_model::Machine::Data(shard) = restored else {
        panic!("a data shard becomes a data shard");
    };
    world.shard = shard;
    assert_eq!(world.apply(come(C, 1)).1.len(), 2);
    let token = FencingToken(1);
    assert!(
        matches!(passed(1), Reply::Lock(LockReply::Granted(grants)) if grants[0].token == token)
    );
}
