//! Mistakes that are planted on purpose, to see that the check would find them.
//!
//! Each is one that such a system can be written with. They live here, around the model: the model
//! itself stays as it serves.

pub mod chase;

use lockstep_model::{
    Answer, Applied, Batch, Command, Effect, FencingToken, LockAnswer, LockCommand, LockName,
    LockQuery, Machine, Outcome, Query, Refusal, Reply, Serial, SessionCommand, SessionId,
    SessionRefusal, ShardTime, Timestamp, TouchNumber, WaitEpoch,
    locks::query::HolderView,
    request::{AckedRanges, RequestId},
};

use crate::{property, replica::party, scenario::name};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// Lock table: a request that is repeated is carried out again.
    RepeatsAcquire,
    /// Lock table: whoever holds the lock loses it by a release, whatever token that names.
    ReleasesAnyToken,
    /// Lock table: an upgrade does not wait for the other readers, and takes the lock from them.
    UpgradesAtOnce,
    /// Session expiry: the end of a session that a shard has never heard of is not remembered.
    ForgetsUnknownEnds,
    /// Session expiry: an attach's number is not compared with the floor.
    IgnoresFloor,
    /// Session expiry: an end is forgotten and the floor stays where it was.
    KeepsFloor,
    /// Session expiry: a detach carries an older number than the home's at the end.
    DetachesOlder,
    /// Session expiry: the home is told of a release that was asked for, not of one that was done.
    BuriesEarly,
    /// Edge chasing: a circle is believed when it was seen once.
    SkipsSecondPass,
    /// Edge chasing: the second pass asks whoever answers, a deposed leader too.
    AsksDeposed,
    /// Edge chasing: the second pass asks whether the waits stand, and not the holds.
    ConfirmsWaitsOnly,
    /// Edge chasing: an abort ends whatever wait the session has by then.
    AbortsAnyWait,
    /// Edge chasing: each node has the session give way that waits in the shard that it leads.
    OwnVictim,
}

impl Bug {
    /// The property that it breaks.
    #[must_use]
    pub const fn breaks(self) -> &'static str {
        match self {
            Self::RepeatsAcquire => property::GRANTED_ONCE,
            Self::ReleasesAnyToken => property::HOLDS_ARE_KEPT,
            Self::UpgradesAtOnce => property::EXCLUSIVE,
            Self::ForgetsUnknownEnds
            | Self::IgnoresFloor
            | Self::KeepsFloor
            | Self::DetachesOlder => property::ENDED_DO_NOTHING,
            Self::BuriesEarly => property::RELEASED_BEFORE_FORGOTTEN,
            Self::SkipsSecondPass
            | Self::AsksDeposed
            | Self::ConfirmsWaitsOnly
            | Self::AbortsAnyWait => property::NO_FALSE_VICTIM,
            Self::OwnVictim => property::ONE_VICTIM,
        }
    }
}

/// A shard's time, and its leader's wall clock.
type At = (ShardTime, Timestamp);

/// Serials of [`Bug::RepeatsAcquire`] are the client's plus a multiple of this.
const SERIALS: u64 = 1_000;

/// Applies one command, with the mistake if there is one.
pub fn apply(machine: &mut Machine, command: &Command, at: At, bug: Option<Bug>) -> Applied {
    let sound = command.clone();
    match (bug, command) {
        (Some(Bug::RepeatsAcquire), Command::Lock(LockCommand::Acquire { .. })) => {
            repeat(machine, sound, at)
        }
        (Some(Bug::RepeatsAcquire), _) => with_old_serials(run(machine, sound, at)),
        (Some(Bug::ReleasesAnyToken), Command::Lock(LockCommand::Release { .. })) => {
            release(machine, sound, at)
        }
        (Some(Bug::UpgradesAtOnce), Command::Lock(LockCommand::Upgrade { name, token, .. })) => {
            drop_others(machine, name, *token, at);
            run(machine, sound, at)
        }
        (
            Some(Bug::ForgetsUnknownEnds),
            Command::Session(SessionCommand::Detach { session, .. }),
        ) => {
            if is_unknown(machine, *session, at) {
                done(Reply::Done)
            } else {
                run(machine, sound, at)
            }
        }
        (Some(Bug::IgnoresFloor), Command::Session(SessionCommand::Attach { .. })) => {
            run(machine, with_touch(sound, u64::MAX), at)
        }
        (Some(Bug::KeepsFloor), Command::Session(SessionCommand::Detach { .. })) => {
            run(machine, with_touch(sound, 0), at)
        }
        (
            Some(Bug::AbortsAnyWait),
            Command::Lock(LockCommand::AbortWait { session, cycle, .. }),
        ) => {
            let Some((serial, epoch)) = present_wait(machine, *session) else {
                return run(machine, sound, at);
            };
            let abort = Command::Lock(LockCommand::AbortWait {
                session: *session,
                serial,
                epoch,
                cycle: cycle.clone(),
            });
            run(machine, abort, at)
        }
        (
            None
            | Some(
                Bug::ReleasesAnyToken
                | Bug::UpgradesAtOnce
                | Bug::ForgetsUnknownEnds
                | Bug::IgnoresFloor
                | Bug::KeepsFloor
                | Bug::DetachesOlder
                | Bug::AbortsAnyWait
                | Bug::BuriesEarly
                | Bug::SkipsSecondPass
                | Bug::AsksDeposed
                | Bug::ConfirmsWaitsOnly
                | Bug::OwnVictim,
            ),
            _,
        ) => run(machine, sound, at),
    }
}

fn with_touch(mut command: Command, number: u64) -> Command {
    if let Command::Session(SessionCommand::Attach { touch, .. })
    | Command::Session(SessionCommand::Detach { touch, .. }) = &mut command
    {
        touch.number = TouchNumber(number);
    }
    command
}

fn run(machine: &mut Machine, command: Command, at: At) -> Applied {
    let ((at, wall), commands) = (at, vec![command]);
    machine.apply(Batch { at, wall, commands })
}

fn done(reply: Reply) -> Applied {
    Applied {
        outcomes: vec![Outcome::Done(reply)],
        ..Applied::default()
    }
}

/// A serial of its own for every time that it comes.
fn repeat(machine: &mut Machine, mut command: Command, at: At) -> Applied {
    let changes = match machine {
        Machine::Data(shard) => shard.revision().0,
        Machine::Meta(_) => 0,
    };
    if let Command::Lock(LockCommand::Acquire { request, .. }) = &mut command {
        request.serial.0 += SERIALS * (changes + 1);
    }
    with_old_serials(run(machine, command, at))
}

fn with_old_serials(mut applied: Applied) -> Applied {
    for effect in &mut applied.effects {
        if let Effect::Complete { serial, .. } = effect {
            serial.0 %= SERIALS;
        }
    }
    applied
}

/// The first holder, whoever that is, gives the lock back.
fn release(machine: &mut Machine, sound: Command, at: At) -> Applied {
    if let Command::Lock(LockCommand::Release { name, .. }) = &sound
        && let Some(holder) = holders(machine, name).first()
    {
        return run(machine, release_of(name.clone(), holder), at);
    }
    run(machine, sound, at)
}

/// All but one give the lock back.
fn drop_others(machine: &mut Machine, name: &LockName, token: FencingToken, at: At) {
    let others = holders(machine, name).into_iter();
    for other in others.filter(|holder| holder.token != token) {
        run(machine, release_of(name.clone(), &other), at);
    }
}

fn holders(machine: &Machine, name: &LockName) -> Vec<HolderView> {
    let name = name.clone();
    let Answer::Lock(LockAnswer::Lock(lock)) =
        machine.query(&Query::Lock(LockQuery::Lock { name }))
    else {
        return Vec::new();
    };
    lock.holders
}

/// A release in a holder's name, of which nothing is kept.
const fn release_of(name: LockName, holder: &HolderView) -> Command {
    Command::Lock(LockCommand::Release {
        request: of(holder.session),
        name,
        token: holder.token,
    })
}

const fn of(session: SessionId) -> RequestId {
    RequestId {
        session,
        serial: Serial::FIRST_EPHEMERAL,
        acked_below: Serial(0),
        acked: AckedRanges::NONE,
    }
}

/// True if a shard knows neither the session nor its end.
pub fn is_unknown(machine: &Machine, session: SessionId, at: At) -> bool {
    let probe = Command::Lock(LockCommand::Release {
        request: of(session),
        name: name("probe"),
        token: FencingToken(0),
    });
    let applied = run(&mut machine.clone(), probe, at);
    applied.outcomes.first()
        == Some(&Outcome::Done(Reply::Refused(Refusal::Session(
            SessionRefusal::NotAttached { session },
        ))))
}

fn present_wait(machine: &Machine, session: SessionId) -> Option<(Serial, WaitEpoch)> {
    let parties = vec![party(session)];
    let Answer::Lock(LockAnswer::Waits(waits)) =
        machine.query(&Query::Lock(LockQuery::Waits { parties }))
    else {
        return None;
    };
    let wait = &waits.first()?.wait;
    Some((wait.serial, wait.epoch))
}
