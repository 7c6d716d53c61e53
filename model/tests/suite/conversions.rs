//! Upgrades and downgrades of holds that are re-entrant: what one guard does, the others of the same
//! hold must not have to know.

use lockstep_model::{
    Command, FencingToken, LockCommand, LockName, LockRefusal, LockReply, Mode, Outcome, Refusal,
    Reply,
    locks::reply::Grant,
    request::{RequestId, Wait},
};

use crate::world::{A, B, S, World, X, acquire, completed, granted, name, refused, request};

fn downgrade(request: RequestId, text: &str, token: FencingToken) -> Command {
    let name: LockName = name(text);
    Command::Lock(LockCommand::Downgrade {
        request,
        name,
        token,
    })
}

fn upgrade(request: RequestId, text: &str, token: FencingToken) -> Command {
    Command::Lock(LockCommand::Upgrade {
        request,
        name: name(text),
        token,
        wait: Wait::Forever,
    })
}

fn held_again(holds: u32) -> Outcome {
    let name = "l".to_owned();
    refused(Refusal::Lock(LockRefusal::HeldAgain { name, holds }))
}

/// A takes its lock once more.
fn take_again(world: &mut World, mode: Mode) {
    let request = world.request(A);
    let again = world.reply(acquire(request, &[("l", mode)], Wait::Try));
    assert_eq!(again, granted("l", mode, 1, 2));
}

/// One of two guards must not let readers in while the other says exclusive.
#[test]
fn an_exclusive_hold_that_was_taken_again_is_not_downgraded() {
    let mut world = World::new();
    let token = world.take(A, "l", X);
    take_again(&mut world, X);
    world.blocks(acquire(request(B, 1), &[("l", S)], Wait::Forever));
    let one = world.request(A);
    assert_eq!(
        world.apply(downgrade(one, "l", token)),
        (held_again(2), vec![])
    );
    world.release(A, "l", token);
    let two = world.request(A);
    let (reply, effects) = world.apply(downgrade(two, "l", token));
    assert_eq!(
        reply,
        Outcome::Done(Reply::Lock(LockReply::Downgraded { token }))
    );
    assert_eq!(effects, [completed(B, 1, granted("l", S, 2, 1))]);
}

/// One of two guards must not take the token away under which the other gives its part back.
#[test]
fn a_shared_hold_that_was_taken_again_is_not_upgraded() {
    let mut world = World::new();
    let token = world.take(A, "l", S);
    take_again(&mut world, S);
    let one = world.request(A);
    assert_eq!(
        world.apply(upgrade(one, "l", token)),
        (held_again(2), vec![])
    );
    let (left, _) = world.release(A, "l", token);
    assert_eq!(
        left,
        Outcome::Done(Reply::Lock(LockReply::Released { holds: 1 }))
    );
    let two = world.request(A);
    assert_eq!(world.reply(upgrade(two, "l", token)), granted("l", X, 2, 1));
    let (left, _) = world.release(A, "l", FencingToken(2));
    assert_eq!(
        left,
        Outcome::Done(Reply::Lock(LockReply::Released { holds: 0 }))
    );
    assert_eq!(world.shard.counts().locks, 0, "nothing leaks");
}

/// A set that waits for another lock counts as a hold of those that it has taken.
#[test]
fn a_hold_that_a_waiting_set_has_taken_again_is_not_converted() {
    let mut world = World::new();
    let token = world.take(A, "l", X);
    let other = world.take(B, "m", X);
    world.blocks(acquire(request(A, 1), &[("l", X), ("m", X)], Wait::Forever));
    let one = world.request(A);
    assert_eq!(
        world.apply(downgrade(one, "l", token)),
        (held_again(2), vec![])
    );
    let (_, effects) = world.release(B, "m", other);
    let grant = |text, token, holds| Grant {
        name: name(text),
        mode: X,
        token: FencingToken(token),
        holds,
    };
    let both = vec![grant("l", 1, 2), grant("m", 3, 1)];
    assert_eq!(
        effects,
        [completed(A, 1, Reply::Lock(LockReply::Granted(both)))]
    );
}

/// A hold whose token is about to change is not taken again.
#[test]
fn a_hold_that_waits_to_be_upgraded_is_not_taken_again() {
    let mut world = World::new();
    let mine = world.take(A, "l", S);
    let theirs = world.take(B, "l", S);
    world.blocks(upgrade(request(A, 1), "l", mine));
    let pending = Refusal::Lock(LockRefusal::UpgradePending {
        name: "l".to_owned(),
    });
    for wait in [Wait::Try, Wait::Forever] {
        let again = world.request(A);
        let (again, _) = world.apply(acquire(again, &[("l", S)], wait));
        assert_eq!(again, refused(pending.clone()));
    }
    let (_, effects) = world.release(B, "l", theirs);
    assert_eq!(effects, [completed(A, 1, granted("l", X, 3, 1))]);
}
