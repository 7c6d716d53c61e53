//! Going on after another cluster: what a shard takes over, and what it refuses.

use lockstep_model::{
    Command, FencingToken, LockCommand, LockRefusal, Machine, Millis, Refusal, Reply,
    SessionCommand, ShardId,
    locks::{LAST_START, TOKEN_GAP},
    session::EndReason,
    shard::Shard,
};

use crate::world::{A, THIS, World, X, open};

const ABOVE: FencingToken = FencingToken(1_000);

/// A world whose shard nobody has used.
fn unused() -> World {
    World {
        shard: Shard::new(THIS),
        ..World::new()
    }
}

fn raise(above: FencingToken) -> Command {
    Command::Lock(LockCommand::RaiseTokens { above })
}

#[test]
fn tokens_go_on_after_those_of_the_earlier_cluster() {
    let mut world = unused();
    assert_eq!(world.reply(raise(ABOVE)), Reply::Done);
    world.apply(open(A));
    let token = world.take(A, "a", X);
    assert!(token > ABOVE, "{token}");
    // Repeating it, or less, changes nothing; more would hide that the shard is used.
    let before = world.shard.clone();
    assert_eq!(world.reply(raise(ABOVE)), Reply::Done);
    let shard = world.shard.id();
    let more = FencingToken(token.0 + 1);
    let refused = Reply::Refused(Refusal::Lock(LockRefusal::NotEmpty { shard }));
    assert_eq!(world.reply(raise(more)), refused);
    assert_eq!(snapshot(&world.shard), snapshot(&before));
}

#[test]
fn a_shard_with_a_session_is_not_empty() {
    let mut world = unused();
    world.apply(open(A));
    let shard = world.shard.id();
    let refused = Reply::Refused(Refusal::Lock(LockRefusal::NotEmpty { shard }));
    assert_eq!(world.reply(raise(ABOVE)), refused);
    world.apply(Command::Session(SessionCommand::End {
        session: A,
        reason: EndReason::Closed,
    }));
    assert_eq!(world.reply(raise(ABOVE)), Reply::Done);
}

#[test]
fn a_successor_has_the_tokens_and_nothing_that_is_leased() {
    let mut world = unused();
    assert_eq!(world.shard.longest_ttl(), None);
    world.apply(open(A));
    let token = world.take(A, "a", X);
    assert!(world.shard.longest_ttl() >= Some(Millis(1_000)));
    let above = world.shard.tokens_of_successor();
    assert_eq!(above, Some(FencingToken(token.0 + TOKEN_GAP)));
    let successor = world.shard.successor(above.unwrap());
    assert_eq!(successor.counts(), lockstep_model::shard::Counts::default());
    assert_eq!(Some(successor.last_token()), above);
    let bytes = snapshot(&successor);
    assert_eq!(Machine::restore(&bytes).unwrap().snapshot(), bytes);
}

#[test]
fn there_is_a_last_successor() {
    let mut world = unused();
    let last = FencingToken(LAST_START);
    let raised = Command::decode(&raise(last).encode()).unwrap();
    assert_eq!(world.reply(raised), Reply::Done);
    assert_eq!(world.shard.tokens_of_successor(), None);
    let beyond = raise(FencingToken(LAST_START + 1));
    assert!(Command::decode(&beyond.encode()).is_err());
    // It serves as any, and can be read back.
    world.apply(open(A));
    assert!(world.take(A, "a", X) > last);
    let bytes = snapshot(&world.shard);
    assert_eq!(Machine::restore(&bytes).unwrap().snapshot(), bytes);
}

#[test]
fn a_shard_of_another_id_stays_another() {
    let shard = Shard::new(ShardId(7)).successor(ABOVE);
    assert_eq!(shard.id(), ShardId(7));
}

fn snapshot(shard: &Shard) -> Vec<u8> {
    Machine::Data(shard.clone()).snapshot()
}
