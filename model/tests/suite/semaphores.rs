//! Semaphores: what random histories seldom reach.

use lockstep_model::{LockRefusal, Mode, Refusal, Usage, request::Wait};

use crate::world::{A, B, C, World, X, acquire, completed, granted, refused, request};

const fn permits(count: u32) -> Mode {
    Mode::Permits { count, of: 3 }
}

#[test]
fn permits_are_given_in_the_order_of_arrival() {
    let mut world = World::new();
    let first = world.take(A, "s", permits(2));
    world.blocks(acquire(request(B, 1), &[("s", permits(2))], Wait::Forever));
    // One is left, but B came first.
    world.blocks(acquire(request(C, 1), &[("s", permits(1))], Wait::Forever));
    let (_, effects) = world.release(A, "s", first);
    let told = [
        completed(B, 1, granted("s", permits(2), 2, 1)),
        completed(C, 1, granted("s", permits(1), 3, 1)),
    ];
    assert_eq!(effects, told);
}

#[test]
fn all_agree_on_what_a_name_is() {
    let mut world = World::new();
    world.take(A, "s", permits(1));
    let other = |present| {
        let name = "s".to_owned();
        refused(Refusal::Lock(LockRefusal::OtherUsage { name, present }))
    };
    for (serial, mode) in [(1, X), (2, Mode::Permits { count: 1, of: 2 })] {
        let asked = acquire(request(B, serial), &[("s", mode)], Wait::Forever);
        assert_eq!(world.apply(asked).0, other(Usage::Semaphore { of: 3 }));
    }
    // What an acquisition had taken before is given back.
    let several = acquire(request(B, 3), &[("a", X), ("s", X)], Wait::Forever);
    assert_eq!(world.apply(several).0, other(Usage::Semaphore { of: 3 }));
    world.take(C, "a", X);
}

/// Who waits for a permit may be served by any of its holders, so a circle through it is none.
#[test]
fn a_wait_for_a_permit_is_no_deadlock() {
    let mut world = World::new();
    world.take(A, "s", permits(3));
    world.take(B, "l", X);
    world.blocks(acquire(request(B, 1), &[("s", permits(1))], Wait::Forever));
    assert_eq!(
        world.blocks(acquire(request(A, 1), &[("l", X)], Wait::Forever)),
        []
    );
    assert_eq!(world.shard.counts().deadlocks, 0);
}
