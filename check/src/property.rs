//! What holds in every state, and what has to happen in some.

use lockstep_model::{
    Mode,
    locks::query::{HolderView, LockView},
};
use stateright::Property;

use crate::{
    cluster::Cluster,
    scenario::Scenario,
    truth::Truth,
    witness::{Mark, Wrong},
};

/// By what clients believe, and by the tables.
pub const EXCLUSIVE: &str = "exclusive holders are alone";
/// What a client was granted is its own until it gives it back or its session ends.
pub const HOLDS_ARE_KEPT: &str = "open sessions have what they were granted";
/// Over releases, elections and all.
pub const TOKENS_GROW: &str = "tokens of a lock only grow";
/// However often it is repeated.
pub const GRANTED_ONCE: &str = "an acquisition is granted once";
/// The first of each queue has to wait.
pub const SETTLED: &str = "nobody waits for what could be granted";
/// First come, first served.
pub const NOT_OVERTAKEN: &str = "nobody is overtaken in a queue";
/// Wherever its end was acknowledged.
pub const ENDED_DO_NOTHING: &str = "ended sessions hold and do nothing";
/// A home remembers an ended session as long as it may hold something anywhere.
pub const RELEASED_BEFORE_FORGOTTEN: &str = "a home forgets a session when all have released it";
/// Circles within a shard are broken by the command that closes them.
pub const NO_LOCAL_CIRCLE: &str = "no circle lies within a shard";
/// All its waits and holds stood at the moment between the two passes.
pub const NO_FALSE_VICTIM: &str = "no victim without a closed circle";
/// Whoever finds it.
pub const ONE_VICTIM: &str = "no second victim of a circle";
/// The lowest priority, then the youngest session.
pub const BY_THE_RULE: &str = "who gives way is the lowest, then the youngest";
/// From every state: so also where nothing else is left to do.
pub const COMES_TO_REST: &str = "left alone, circles are broken and ended sessions released";
/// It makes the same state of the same bytes.
pub const SAME_STATE: &str = "a new leader has the same state";

type Condition = fn(&Scenario, &Cluster) -> bool;

/// All that is judged in a scenario.
#[must_use]
pub fn of(scenario: &Scenario) -> Vec<Property<Scenario>> {
    let invariants: [(&'static str, Condition); 14] = [
        (EXCLUSIVE, |_, now| is_exclusive(now)),
        (HOLDS_ARE_KEPT, |_, now| {
            now.witness.is_clear_of(Wrong::HoldLost) && has_granted(now)
        }),
        (TOKENS_GROW, |_, now| {
            now.witness.is_clear_of(Wrong::TokenFell)
        }),
        (GRANTED_ONCE, |_, now| {
            now.witness.is_clear_of(Wrong::GrantedTwice) && are_held_once(now)
        }),
        (SETTLED, |_, now| now.locks().all(is_settled)),
        (NOT_OVERTAKEN, |_, now| {
            now.witness.is_clear_of(Wrong::Overtaken)
        }),
        (ENDED_DO_NOTHING, |_, now| {
            now.witness.is_clear_of(Wrong::Revived) && are_gone(now)
        }),
        (RELEASED_BEFORE_FORGOTTEN, are_released),
        (NO_LOCAL_CIRCLE, |_, now| {
            let mut sites = now.sites.values();
            !sites.any(|site| Truth::of_sites([site]).has_circle())
        }),
        (NO_FALSE_VICTIM, |_, now| {
            now.witness.is_clear_of(Wrong::FalseVictim)
        }),
        (ONE_VICTIM, |_, now| {
            now.witness.is_clear_of(Wrong::SecondVictim)
        }),
        (BY_THE_RULE, |_, now| {
            now.witness.is_clear_of(Wrong::OtherVictim)
        }),
        (COMES_TO_REST, |scenario, now| now.comes_to_rest(scenario)),
        (SAME_STATE, |_, now| {
            now.witness.is_clear_of(Wrong::NotRestored)
        }),
    ];
    let invariants = invariants.map(|(name, condition)| Property::always(name, condition));
    let events = scenario.shows.iter().map(|mark| sometimes(*mark));
    invariants.into_iter().chain(events).collect()
}

fn sometimes(mark: Mark) -> Property<Scenario> {
    let (name, condition): (&'static str, Condition) = match mark {
        Mark::CircleBroken => ("a circle over shards is broken", |_, now| {
            now.witness.has_seen(Mark::CircleBroken)
        }),
        Mark::LocalCircleBroken => ("a circle within a shard is broken", |_, now| {
            now.witness.has_seen(Mark::LocalCircleBroken)
        }),
        Mark::SuspicionDispelled => ("the second pass dispels a suspicion", |_, now| {
            now.witness.has_seen(Mark::SuspicionDispelled)
        }),
        Mark::AbortTooLate => ("an abort comes when its wait is over", |_, now| {
            now.witness.has_seen(Mark::AbortTooLate)
        }),
        Mark::EndedWaiting => ("a session expires while it waits elsewhere", |_, now| {
            now.witness.has_seen(Mark::EndedWaiting)
        }),
        Mark::AttachAfterEnd => ("a late attach meets a remembered end", |_, now| {
            now.witness.has_seen(Mark::AttachAfterEnd)
        }),
        Mark::AttachTooOld => ("an attach of an old touch is refused", |_, now| {
            now.witness.has_seen(Mark::AttachTooOld)
        }),
        Mark::GrantRepeated => ("a repeated request gets its first answer", |_, now| {
            now.witness.has_seen(Mark::GrantRepeated)
        }),
        Mark::RepeatedTooLate => (
            "a repetition of what was acknowledged is refused",
            |_, now| now.witness.has_seen(Mark::RepeatedTooLate),
        ),
        Mark::Upgraded => ("an upgrade is granted after a wait", |_, now| {
            now.witness.has_seen(Mark::Upgraded)
        }),
        Mark::TimedOut => ("a wait's time is over", |_, now| {
            now.witness.has_seen(Mark::TimedOut)
        }),
    };
    Property::sometimes(name, condition)
}

impl Cluster {
    /// All locks that are held or waited for.
    fn locks(&self) -> impl Iterator<Item = &LockView> {
        let sites = self.sites.values();
        sites.flat_map(|site| site.replica.locks())
    }
}

fn is_exclusive(cluster: &Cluster) -> bool {
    let beliefs = cluster.clients.iter().flat_map(|(session, client)| {
        let holds = client.holds.iter();
        holds.map(move |(name, belief)| (session, name, belief.mode))
    });
    let beliefs: Vec<_> = beliefs.collect();
    let apart = |(session, name, mode): &(_, _, Mode)| {
        beliefs.iter().all(|(other, same, theirs)| {
            session == other || name != same || (*mode == Mode::Shared && *theirs == Mode::Shared)
        })
    };
    let alone = |lock: &LockView| {
        let mut holders = lock.holders.iter();
        lock.holders.len() < 2 || !holders.any(|holder| holder.mode == Mode::Exclusive)
    };
    beliefs.iter().all(apart) && cluster.locks().all(alone)
}

/// What a client believes to hold is its own by the table, and no less.
fn has_granted(cluster: &Cluster) -> bool {
    cluster.clients.iter().all(|(session, client)| {
        client.holds.iter().all(|(name, belief)| {
            let locks = cluster.locks().filter(|lock| lock.name == *name);
            let mut holders = locks.flat_map(|lock| &lock.holders);
            let is_it = |holder: &HolderView| {
                holder.session == *session
                    && holder.token == belief.token
                    && (holder.mode == belief.mode || holder.mode == Mode::Exclusive)
            };
            holders.any(is_it)
        })
    })
}

/// No client of the check takes a lock that it holds already.
fn are_held_once(cluster: &Cluster) -> bool {
    let mut holders = cluster.locks().flat_map(|lock| &lock.holders);
    holders.all(|holder| holder.holds == 1)
}

/// The first who waits has to; and there is nobody to be kept waiting in a lock that is free.
fn is_settled(lock: &LockView) -> bool {
    let Some(first) = lock.waiters.first() else {
        return !lock.holders.is_empty();
    };
    let mut others = lock
        .holders
        .iter()
        .filter(|holder| !first.upgrade || holder.session != first.session);
    others.any(|holder| holder.mode == Mode::Exclusive || first.mode == Mode::Exclusive)
}

fn are_gone(cluster: &Cluster) -> bool {
    cluster.witness.ended().all(|(session, shard)| {
        let site = cluster.sites.get(&shard);
        site.is_none_or(|site| !site.replica.has_part(session))
    })
}

/// A session that has ended at its home, and is not being released any more, has no part anywhere.
fn are_released(scenario: &Scenario, cluster: &Cluster) -> bool {
    scenario.sessions.iter().all(|(session, plan)| {
        let home = cluster.sites.get(&plan.home);
        let ending = home.and_then(|site| site.replica.shard()).map(|shard| {
            let ending = shard.ending();
            ending.iter().any(|ending| ending.session == *session)
        });
        !cluster.witness.has_ended(*session, plan.home)
            || ending.unwrap_or(true)
            || !cluster.has_part(*session)
    })
}
