//! Sessions: homes, attachments, ends.

use lockstep_model::{
    Answer, Batch, Command, Effect, FencingToken, LockCommand, LockRefusal, Machine, MetaQuery,
    Millis, Owner, Priority, Query, Refusal, Reply, SessionAnswer, SessionCommand, SessionEpoch,
    SessionId, SessionQuery, SessionRefusal, SessionReply, ShardId, ShardTime, Timestamp,
    TouchNumber,
    kernel::{EndingSession, HomeSession, MAX_TOMBSTONES, TOMBSTONE_LIFE},
    request::Wait,
    session::{EndReason, Touch},
    shard::Counts,
};

use crate::world::{
    A, B, C, S, THIS, World, X, acquire, completed, done, granted, open, refused, request, wall,
};

const FAR: SessionId = SessionId(0xf);
const OTHER: ShardId = ShardId(2);

/// The number of the home's last touch when FAR ended.
const LAST: u64 = 300;

const fn touch(home: ShardId, number: u64) -> Touch {
    Touch {
        home,
        number: TouchNumber(number),
    }
}

fn attach(number: u64) -> Command {
    attach_from(OTHER, number)
}

fn attach_from(home: ShardId, number: u64) -> Command {
    Command::Session(SessionCommand::Attach {
        session: FAR,
        priority: Priority(1),
        opened: Timestamp(7),
        touch: touch(home, number),
    })
}

fn detach() -> Command {
    Command::Session(SessionCommand::Detach {
        session: FAR,
        reason: EndReason::Expired,
        touch: touch(OTHER, LAST),
    })
}

fn end(session: SessionId) -> Command {
    Command::Session(SessionCommand::End {
        session,
        reason: EndReason::Closed,
    })
}

fn ended(reason: EndReason, session: SessionId) -> Reply {
    Reply::Refused(Refusal::Session(SessionRefusal::SessionEnded {
        session,
        reason,
    }))
}

/// Opening and resuming start the life anew; a checkpoint lasts until then.
#[test]
fn a_session_is_opened_and_resumed_at_home() {
    let mut world = World::new();
    let (session, ttl) = (A, Millis(10_000));
    let exists = Reply::Refused(Refusal::Session(SessionRefusal::SessionExists { session }));
    assert_eq!(world.reply(open(A)), exists);
    let remaining = vec![(A, Millis(7)), (FAR, Millis(7))];
    world.reply(Command::Session(SessionCommand::Checkpoint { remaining }));
    let home = |world: &World| world.shard.home_sessions().next();
    let (epoch, checkpoint) = (SessionEpoch(1), Some(Millis(7)));
    assert_eq!(
        home(&world),
        Some(HomeSession {
            session,
            ttl,
            epoch,
            checkpoint,
            revoked: false,
        })
    );
    let epoch = SessionEpoch(2);
    let (outcome, effects) = world.apply(Command::Session(SessionCommand::Resume { session }));
    assert_eq!(
        outcome,
        done(Reply::Session(SessionReply::Opened {
            session,
            ttl,
            epoch
        }))
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
            checkpoint: None,
            revoked: false,
        })
    );
    let nobody = Command::Session(SessionCommand::Resume { session: FAR });
    assert_eq!(
        world.reply(nobody),
        Reply::Refused(Refusal::Session(SessionRefusal::NoSession { session: FAR }))
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
    if let Command::Lock(LockCommand::Acquire { owner, .. }) = &mut other {
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
        Reply::Refused(Refusal::Session(SessionRefusal::NoSession { session: FAR }))
    );
}

/// The home keeps an ended session until every touched shard has answered, and then for as long
/// as a tombstone from its end.
#[test]
fn the_home_waits_for_the_touched_shards() {
    let mut world = World::new();
    let use_shard =
        |session, shard| Command::Session(SessionCommand::TouchShard { session, shard });
    let opened = wall(world.at);
    for (number, shard) in (1..).zip([ShardId(3), OTHER, OTHER, THIS]) {
        let touched = Reply::Session(SessionReply::Touched {
            touch: touch(THIS, number),
            priority: Priority(3),
            opened,
        });
        assert_eq!(world.reply(use_shard(A, shard)), touched);
    }
    assert_eq!(
        world.reply(use_shard(FAR, OTHER)),
        Reply::Refused(Refusal::Session(SessionRefusal::NoSession { session: FAR }))
    );
    world.apply(end(A));
    assert_eq!(
        world.reply(use_shard(A, OTHER)),
        ended(EndReason::Closed, A)
    );
    let (session, reason) = (A, EndReason::Closed);
    let ending = EndingSession {
        session,
        reason,
        touch: touch(THIS, 4),
        shards: vec![OTHER, ShardId(3)],
    };
    assert_eq!(world.shard.ending(), [ending]);
    let Answer::Session(SessionAnswer::Sessions(views)) =
        world.shard.query(&Query::Session(SessionQuery::Sessions {
            after: None,
            limit: 1,
        }))
    else {
        panic!("no sessions");
    };
    assert_eq!((views.rows[0].session, views.rows[0].ending), (A, true));
    for shard in [OTHER, OTHER, ShardId(3)] {
        assert_eq!(
            world.reply(Command::Session(SessionCommand::ShardReleased {
                session,
                shard
            })),
            Reply::Done
        );
    }
    assert_eq!(world.shard.ending(), []);
    assert_eq!(world.shard.counts().tombstones, 1);
    world.passes(TOMBSTONE_LIFE.0);
    world.reply(Command::Expire);
    assert_eq!(
        world.shard.counts(),
        Counts {
            sessions: 2,
            ..Counts::default()
        }
    );
}

/// A keep-alive after a checkpoint gives the whole TTL again, and is told of an end.
#[test]
fn a_session_is_revived_while_it_is_there() {
    let mut world = World::new();
    let left = |world: &World| world.shard.home_sessions().next().unwrap().checkpoint;
    let remaining = vec![(A, Millis(7))];
    world.reply(Command::Session(SessionCommand::Checkpoint { remaining }));
    assert_eq!(left(&world), Some(Millis(7)));
    let revive = Command::Session(SessionCommand::Revive { session: A });
    assert_eq!(world.reply(revive.clone()), Reply::Done);
    assert_eq!(left(&world), None);
    world.apply(end(A));
    assert_eq!(world.reply(revive), ended(EndReason::Closed, A));
    let nobody = Command::Session(SessionCommand::Revive { session: FAR });
    let none = Reply::Refused(Refusal::Session(SessionRefusal::NoSession { session: FAR }));
    assert_eq!(world.reply(nobody), none);
}

/// A revoked session keeps what it holds until its time is over, and gets no more time.
#[test]
fn a_revoked_session_lives_its_lease_out() {
    let mut world = World::new();
    world.take(A, "l", X);
    world.blocks(acquire(request(B, 1), &[("l", X)], Wait::Forever));
    let session = A;
    let revoke = Command::Session(SessionCommand::Revoke { session });
    let (outcome, effects) = world.apply(revoke.clone());
    let lease = Millis(10_000);
    assert_eq!(
        outcome,
        done(Reply::Session(SessionReply::Revoked { lease }))
    );
    assert_eq!(effects, [Effect::SessionRevoked { session }]);
    let again = world.reply(revoke);
    assert_eq!(
        again,
        Reply::Session(SessionReply::Revoked { lease }),
        "again, without effects"
    );
    let closed = ended(EndReason::Closed, A);
    let others = [
        Command::Session(SessionCommand::Resume { session }),
        Command::Session(SessionCommand::Revive { session }),
        Command::Session(SessionCommand::TouchShard {
            session,
            shard: OTHER,
        }),
    ];
    for command in others {
        assert_eq!(world.reply(command), closed);
    }
    assert!(world.shard.home_sessions().next().unwrap().revoked);
    assert!(world.shard.end_of(A).is_some() && world.shard.end_of(B).is_none());
    let expire = Command::Session(SessionCommand::End {
        session,
        reason: EndReason::Expired,
    });
    let (_, effects) = world.apply(expire);
    let reason = EndReason::Closed;
    let expected = [
        Effect::SessionEnding { session, reason },
        completed(B, 1, granted("l", X, 2, 1)),
    ];
    assert_eq!(effects, expected);
}

/// What a shard is yet to release is told apart from what others are, so that one that does not answer holds
/// up none of them; also after a restart.
#[test]
fn releases_are_listed_by_shard() {
    let mut world = World::new();
    let third = ShardId(3);
    for (session, shards) in [(A, vec![OTHER, third]), (B, vec![OTHER]), (C, vec![OTHER])] {
        for shard in shards {
            world.reply(Command::Session(SessionCommand::TouchShard {
                session,
                shard,
            }));
        }
        world.apply(end(session));
    }
    let listed = |world: &World, skipped: &[ShardId], limit| {
        let skipped = skipped.iter().copied().collect();
        let due = world.shard.releases(&skipped, limit);
        let sessions = |ending: Vec<EndingSession>| ending.iter().map(|e| e.session).collect();
        due.into_iter()
            .map(|(shard, ending)| (shard, sessions(ending)))
            .collect::<Vec<(ShardId, Vec<SessionId>)>>()
    };
    let all = [(OTHER, vec![A, B, C]), (third, vec![A])];
    assert_eq!(listed(&world, &[], 9), all);
    assert_eq!(
        listed(&world, &[], 2),
        [(OTHER, vec![A, B]), (third, vec![A])]
    );
    assert_eq!(listed(&world, &[OTHER], 9), [(third, vec![A])]);
    let bytes = Machine::Data(world.shard.clone()).snapshot();
    let Machine::Data(restored) = Machine::restore(&bytes).unwrap() else {
        panic!("another kind of machine");
    };
    world.shard = restored;
    assert_eq!(listed(&world, &[], 9), all);
    let released =
        |session, shard| Command::Session(SessionCommand::ShardReleased { session, shard });
    world.reply(released(A, third));
    world.reply(released(B, OTHER));
    assert_eq!(listed(&world, &[], 9), [(OTHER, vec![A, C])]);
}

/// A session of another home acts only between its attach and its detach.
#[test]
fn a_session_acts_only_while_attached() {
    let mut world = World::new();
    let take = |serial| acquire(request(FAR, serial), &[("l", X)], Wait::Try);
    assert_eq!(
        world.reply(take(1)),
        Reply::Refused(Refusal::Session(SessionRefusal::NotAttached {
            session: FAR
        }))
    );
    assert_eq!(world.reply(attach(LAST)), Reply::Done);
    assert_eq!(
        world.reply(take(1)),
        granted("l", X, 1, 1),
        "the refusal was not kept"
    );
    assert_eq!(world.reply(attach(1)), Reply::Done, "attached already");
    assert_eq!(world.shard.home_sessions().count(), 3);
    world.blocks(acquire(request(B, 1), &[("l", X)], Wait::Forever));
    let (_, effects) = world.apply(detach());
    assert_eq!(effects, [completed(B, 1, granted("l", X, 2, 1))]);
    assert_eq!(world.reply(detach()), Reply::Done);
    assert_eq!(world.reply(take(2)), ended(EndReason::Expired, FAR));
}

/// A delayed attach is refused: by the tombstone, and then by the floor. Even of a session that the
/// detach found unknown.
#[test]
fn a_delayed_attach_revives_nothing() {
    let mut world = World::new();
    assert_eq!(world.reply(detach()), Reply::Done);
    assert_eq!(world.reply(attach(LAST)), ended(EndReason::Expired, FAR));
    world.passes(TOMBSTONE_LIFE.0 - 1);
    assert_eq!(world.reply(attach(LAST)), ended(EndReason::Expired, FAR));
    world.passes(1);
    let too_old = Reply::Refused(Refusal::Session(SessionRefusal::AttachTooOld {
        session: FAR,
    }));
    for number in [1, LAST] {
        assert_eq!(world.reply(attach(number)), too_old);
    }
    assert_eq!(world.shard.counts().tombstones, 0);
    assert_eq!(world.reply(detach()), Reply::Done);
    assert_eq!(world.shard.counts().tombstones, 0, "the floor is enough");
    // It is of that home alone, outlives a restart, and is passed by a later touch.
    let bytes = Machine::Data(world.shard.clone()).snapshot();
    let Machine::Data(restored) = Machine::restore(&bytes).unwrap() else {
        panic!("another kind of machine");
    };
    world.shard = restored;
    assert_eq!(world.reply(attach(LAST)), too_old);
    assert_eq!(world.reply(attach_from(ShardId(3), 1)), Reply::Done);
    world.apply(detach());
    world.passes(TOMBSTONE_LIFE.0);
    assert_eq!(world.reply(attach(LAST + 1)), Reply::Done);
}

/// Ends are remembered up to a number of them; what is forgotten early is kept out all the same.
#[test]
fn tombstones_are_bounded() {
    let mut world = World::new();
    let ends = |sessions: std::ops::Range<u64>| {
        let end = |session| {
            Command::Session(SessionCommand::Detach {
                session: SessionId(session),
                reason: EndReason::Closed,
                touch: touch(OTHER, session),
            })
        };
        sessions.map(end).collect()
    };
    let most = MAX_TOMBSTONES as u64;
    world.apply_all(ends(1_000..1_000 + most));
    assert_eq!(world.shard.counts().tombstones, MAX_TOMBSTONES);
    world.apply_all(ends(1_000 + most..1_002 + most));
    assert_eq!(world.shard.counts().tombstones, MAX_TOMBSTONES);
    let attach = |session| {
        Command::Session(SessionCommand::Attach {
            session: SessionId(session),
            priority: Priority(1),
            opened: Timestamp(7),
            touch: touch(OTHER, session),
        })
    };
    let too_old = |session| {
        let session = SessionId(session);
        Reply::Refused(Refusal::Session(SessionRefusal::AttachTooOld { session }))
    };
    for forgotten in [1_000, 1_001] {
        assert_eq!(world.reply(attach(forgotten)), too_old(forgotten));
    }
    let remembered = ended(EndReason::Closed, SessionId(1_002));
    assert_eq!(world.reply(attach(1_002)), remembered);
    // Another that was touched before those ends asks once more, and is let in.
    assert_eq!(world.reply(attach(900)), too_old(900));
}

/// A wall clock decides nothing: it may be anything.
#[test]
fn wall_clocks_decide_nothing() {
    let mut world = World::new();
    world.take(A, "l", X);
    let wait = acquire(request(B, 1), &[("l", X)], Wait::AtMost(Millis(50)));
    world.blocks(wait);
    let mut at_wall = |ms: u64, wall: u64| {
        world.passes(ms);
        let applied = world.shard.apply(Batch {
            at: world.at,
            wall: Timestamp(wall),
            commands: vec![Command::Expire],
        });
        applied.effects.len()
    };
    assert_eq!(at_wall(0, u64::MAX), 0);
    assert_eq!(at_wall(49, 0), 0);
    assert_eq!(at_wall(1, 0), 2, "the wait is over, and so is its deadline");
}

/// Time never goes back.
#[test]
fn time_is_the_latest_seen() {
    let mut world = World::new();
    world.passes(500);
    world.reply(Command::Expire);
    world.at = ShardTime(3);
    world.take(B, "l", X);
    assert_eq!(world.shard.now(), ShardTime(1_500));
    let release = world.release(B, "l", FencingToken(9));
    let stale = Refusal::Lock(LockRefusal::StaleToken {
        name: "l".to_owned(),
        token: FencingToken(9),
    });
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
    assert_eq!(
        world.shard.query(&Query::Meta(MetaQuery::Cluster)),
        Answer::WrongShard
    );
}
