//! Sessions: homes, attachments, ends.

use lockstep_model::{
    Answer, Command, Effect, FencingToken, Millis, Owner, Priority, Query, Refusal, Reply,
    SessionEpoch, SessionId, ShardId, Timestamp,
    command::{EndReason, Wait},
    session::{ATTACH_WINDOW, EndingSession, HomeSession, TOMBSTONE_LIFE},
    shard::Counts,
};

use crate::world::{
    A, B, C, S, THIS, World, X, acquire, completed, done, granted, open, refused, request,
};

const FAR: SessionId = SessionId(0xf);
const OTHER: ShardId = ShardId(2);

fn attach(not_after: Timestamp) -> Command {
    Command::AttachSession {
        session: FAR,
        priority: Priority(1),
        opened: Timestamp(7),
        not_after,
    }
}

fn detach() -> Command {
    Command::DetachSession {
        session: FAR,
        reason: EndReason::Expired,
    }
}

fn end(session: SessionId) -> Command {
    Command::EndSession {
        session,
        reason: EndReason::Closed,
    }
}

fn ended(reason: EndReason, session: SessionId) -> Reply {
    Reply::Refused(Refusal::SessionEnded { session, reason })
}

/// Opening and resuming start the life anew; a checkpoint lasts until then.
#[test]
fn a_session_is_opened_and_resumed_at_home() {
    let mut world = World::new();
    let (session, ttl) = (A, Millis(10_000));
    let exists = Reply::Refused(Refusal::SessionExists { session });
    assert_eq!(world.reply(open(A)), exists);
    let remaining = vec![(A, Millis(7)), (FAR, Millis(7))];
    world.reply(Command::CheckpointSessions { remaining });
    let home = |world: &World| world.shard.home_sessions().next();
    let (epoch, checkpoint) = (SessionEpoch(1), Some(Millis(7)));
    assert_eq!(
        home(&world),
        Some(HomeSession {
            session,
            ttl,
            epoch,
            checkpoint
        })
    );
    let epoch = SessionEpoch(2);
    let (outcome, effects) = world.apply(Command::ResumeSession { session });
    assert_eq!(
        outcome,
        done(Reply::Session {
            session,
            ttl,
            epoch
        })
    );
    assert_eq!(
        effects,
        [Effect::SessionAlive {
            session,
            ttl,
            epoch
        }]
    );
    assert_eq!(
        home(&world),
        Some(HomeSession {
            session,
            ttl,
            epoch,
            checkpoint: None
        })
    );
    let nobody = Command::ResumeSession { session: FAR };
    assert_eq!(
        world.reply(nobody),
        Reply::Refused(Refusal::NoSession { session: FAR })
    );
}

/// The end gives back what was held, drops what was waited for, and wakes the next.
#[test]
fn the_end_gives_everything_back() {
    let mut world = World::new();
    world.take(A, "l", X);
    world.take(B, "m", X);
    world.blocks(acquire(request(A, 1), &[("a", X), ("m", X)], Wait::Forever));
    world.blocks(acquire(request(C, 1), &[("a", S)], Wait::Forever));
    // Another owner than the one for whom A waits: it waits for A, but not in a circle.
    let mut other = acquire(request(B, 1), &[("l", S)], Wait::Forever);
    if let Command::Acquire { owner, .. } = &mut other {
        *owner = Owner::new("other").unwrap();
    }
    world.blocks(other);
    let (outcome, effects) = world.apply(end(A));
    assert_eq!(outcome, done(Reply::Done));
    let expected = [
        completed(A, 1, ended(EndReason::Closed, A)),
        Effect::SessionEnding {
            session: A,
            reason: EndReason::Closed,
        },
        completed(C, 1, granted("a", S, 4, 1)),
        completed(B, 1, granted("l", S, 5, 1)),
    ];
    assert_eq!(effects, expected);
    assert_eq!(world.reply(end(A)), Reply::Done, "again, without effects");
    let later = acquire(request(A, 2), &[("x", X)], Wait::Try);
    assert_eq!(world.reply(later), ended(EndReason::Closed, A));
    assert_eq!(
        world.reply(end(FAR)),
        Reply::Refused(Refusal::NoSession { session: FAR })
    );
}

/// The home keeps an ended session until every touched shard has answered, and then for as long
/// as a tombstone from its end.
#[test]
fn the_home_waits_for_the_touched_shards() {
    let mut world = World::new();
    let touch = |session, shard| Command::TouchShard { session, shard };
    let not_after = world.at.plus(ATTACH_WINDOW);
    let touched = Reply::Touched {
        not_after,
        priority: Priority(3),
        opened: world.at,
    };
    for shard in [ShardId(3), OTHER, OTHER, THIS] {
        assert_eq!(world.reply(touch(A, shard)), touched);
    }
    assert_eq!(
        world.reply(touch(FAR, OTHER)),
        Reply::Refused(Refusal::NoSession { session: FAR })
    );
    world.apply(end(A));
    assert_eq!(world.reply(touch(A, OTHER)), ended(EndReason::Closed, A));
    let (session, reason) = (A, EndReason::Closed);
    let ending = EndingSession {
        session,
        reason,
        shards: vec![OTHER, ShardId(3)],
    };
    assert_eq!(world.shard.ending(), [ending]);
    let Answer::Sessions(views) = world.shard.query(&Query::Sessions {
        after: None,
        limit: 1,
    }) else {
        panic!("no sessions");
    };
    assert_eq!((views[0].session, views[0].ending), (A, true));
    for shard in [OTHER, OTHER, ShardId(3)] {
        assert_eq!(
            world.reply(Command::ShardReleased { session, shard }),
            Reply::Done
        );
    }
    assert_eq!(world.shard.ending(), []);
    assert_eq!(world.shard.counts().tombstones, 1);
    world.passes(TOMBSTONE_LIFE.0);
    world.reply(Command::ExpireWaits);
    assert_eq!(
        world.shard.counts(),
        Counts {
            sessions: 2,
            ..Counts::default()
        }
    );
}

/// A session of another home acts only between its attach and its detach.
#[test]
fn a_session_acts_only_while_attached() {
    let mut world = World::new();
    let take = |serial| acquire(request(FAR, serial), &[("l", X)], Wait::Try);
    assert_eq!(
        world.reply(take(1)),
        Reply::Refused(Refusal::NotAttached { session: FAR })
    );
    assert_eq!(world.reply(attach(world.at)), Reply::Done);
    assert_eq!(
        world.reply(take(1)),
        granted("l", X, 1, 1),
        "the refusal was not kept"
    );
    assert_eq!(
        world.reply(attach(Timestamp(0))),
        Reply::Done,
        "attached already"
    );
    assert_eq!(world.shard.home_sessions().count(), 3);
    world.blocks(acquire(request(B, 1), &[("l", X)], Wait::Forever));
    let (_, effects) = world.apply(detach());
    assert_eq!(effects, [completed(B, 1, granted("l", X, 2, 1))]);
    assert_eq!(world.reply(detach()), Reply::Done);
    assert_eq!(world.reply(take(2)), ended(EndReason::Expired, FAR));
}

/// A delayed attach is refused: by the tombstone, and then by its age. Even of a session that the
/// detach found unknown.
#[test]
fn a_delayed_attach_revives_nothing() {
    let mut world = World::new();
    let late = attach(world.at.plus(ATTACH_WINDOW));
    assert_eq!(world.reply(detach()), Reply::Done);
    assert_eq!(world.reply(late.clone()), ended(EndReason::Expired, FAR));
    world.passes(TOMBSTONE_LIFE.0 - 1);
    assert_eq!(world.reply(late.clone()), ended(EndReason::Expired, FAR));
    world.passes(1);
    assert_eq!(
        world.reply(late),
        Reply::Refused(Refusal::AttachTooLate { session: FAR })
    );
    assert_eq!(world.shard.counts().tombstones, 0);
}

/// Time never goes back.
#[test]
fn time_is_the_latest_seen() {
    let mut world = World::new();
    world.passes(500);
    world.reply(Command::ExpireWaits);
    world.at = Timestamp(3);
    world.take(B, "l", X);
    assert_eq!(world.shard.now(), Timestamp(1_500));
    let release = world.release(B, "l", FencingToken(9));
    let stale = Refusal::StaleToken {
        name: "l".to_owned(),
        token: FencingToken(9),
    };
    assert_eq!(release, (refused(stale), vec![]));
}

/// A data shard serves no meta commands and asks nothing about the cluster.
#[test]
fn meta_is_elsewhere() {
    let mut world = World::new();
    let node = lockstep_model::meta::NodeRecord {
        node: lockstep_model::NodeId(1),
        name: "n".to_owned(),
        client_address: "n:1".to_owned(),
        peer_address: "n:2".to_owned(),
        zone: String::new(),
        version: String::new(),
    };
    let command = Command::Meta(lockstep_model::MetaCommand::DescribeNode { node });
    assert_eq!(world.reply(command), Reply::Refused(Refusal::WrongShard));
    assert_eq!(world.shard.query(&Query::Cluster), Answer::WrongShard);
}
