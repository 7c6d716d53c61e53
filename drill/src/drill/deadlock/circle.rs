//! One circle: built, closed, and watched until all have gone on.
//!
//! Invariant: the circle is closed by its last wait, when all others are seen in their queues; and
//! afterwards nobody holds anything.

use std::{fmt, time::Duration};

use anyhow::Context;
use lockstep_client::{AcquireError, LockGuard, Mode, Session, UpgradeError, Wait};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::parties::Parties;
use crate::poll::until;

/// How long it may take until a waiter is seen in its queue, elections included.
const SEEN_LIMIT: Duration = Duration::from_secs(30);
/// How long all may take to go on once the circle is closed, elections included.
const OVER_LIMIT: Duration = Duration::from_secs(60);
/// All waits of a session are those of one owner.
const OWNER: &str = "party";

/// How one waits for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// A writer for a writer.
    Writer,
    /// A writer for a reader.
    WriterForReader,
    /// A reader for a writer.
    ReaderForWriter,
    /// A reader for a reader, because a writer stands between them.
    Queue,
    /// A reader that wants to write for another reader.
    Upgrade,
}

impl Link {
    pub(super) const ALL: [Self; 5] = [
        Self::Writer,
        Self::WriterForReader,
        Self::ReaderForWriter,
        Self::Queue,
        Self::Upgrade,
    ];

    /// How the next holds the lock.
    const fn held(self) -> Mode {
        match self {
            Self::Writer | Self::ReaderForWriter => Mode::Exclusive,
            Self::WriterForReader | Self::Queue | Self::Upgrade => Mode::Shared,
        }
    }

    /// How it is wanted.
    const fn wanted(self) -> Mode {
        match self {
            Self::Writer | Self::WriterForReader | Self::Upgrade => Mode::Exclusive,
            Self::ReaderForWriter | Self::Queue => Mode::Shared,
        }
    }
}

/// A circle that is to be closed. The party at each place holds the lock of that place, and waits
/// for that of the next.
#[derive(Clone, Debug)]
pub(super) struct Circle {
    /// How the party at each place waits for the next.
    pub(super) links: Vec<Link>,
    pub(super) names: Vec<String>,
    /// Positions in [`Parties::sessions`].
    pub(super) sessions: Vec<usize>,
    /// Whose wait comes last.
    pub(super) closing: usize,
}

/// A circle that was closed.
#[derive(Debug)]
pub(super) struct Broken {
    circle: Circle,
    /// When the last wait began.
    pub(super) closed: Instant,
    /// When the first was told that it has to give way.
    pub(super) first: Option<Instant>,
    /// Whose waits were ended, as positions in [`Parties::sessions`].
    victims: Vec<usize>,
    /// Who should have given way.
    loser: Option<usize>,
    /// Errors of those who neither gave way nor went on.
    failures: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Circle { links, names, .. } = &self.circle;
        write!(f, "{} parties ({links:?} over {names:?})", links.len())?;
        match self.first_ms() {
            Some(ms) => write!(f, " broken after {ms:.1} ms"),
            None => write!(f, " not broken"),
        }
    }
}

impl Broken {
    /// From the last wait to the first answer that says DEADLOCK.
    pub(super) fn first_ms(&self) -> Option<f64> {
        let took = self.first?.saturating_duration_since(self.closed);
        Some(took.as_secs_f64() * 1e3)
    }

    /// What is not as it must be.
    pub(super) fn wrong(&self) -> Vec<String> {
        let mut wrong = self.failures.clone();
        if self.victims.len() != 1 {
            let count = self.victims.len();
            wrong.push(format!(
                "exactly one of a circle gives way, not {count}: {self}"
            ));
        } else if self.victims.first() != self.loser.as_ref() {
            let (chosen, loser) = (&self.victims, self.loser);
            wrong.push(format!("party {loser:?} gives way, not {chosen:?}: {self}"));
        }
        wrong
    }
}

/// How a party's wait ended.
enum Went {
    /// It got the lock.
    On,
    /// It had to give way.
    Back(Instant),
}

/// What a party takes with it into its wait.
struct Leg {
    place: usize,
    session: Session,
    own: LockGuard,
    /// Its hold of the next lock, if it is to be upgraded.
    next: Option<LockGuard>,
    name: String,
    mode: Mode,
}

impl Circle {
    /// Builds the circle, closes it, and waits until all have gone on.
    pub(super) async fn close(self, parties: &Parties) -> anyhow::Result<Broken> {
        let length = self.links.len();
        let mut legs = self.prepare(parties).await?;
        let mut going = JoinSet::new();
        let mut bystanders = JoinSet::new();
        let last = legs.remove(self.closing);
        for leg in legs {
            let (name, place) = (leg.name.clone(), leg.place);
            self.stand_between(parties, place, &mut bystanders).await?;
            going.spawn(go(leg));
            seen(parties, &name, self.waiters(place)).await?;
        }
        self.stand_between(parties, last.place, &mut bystanders)
            .await?;
        let closed = Instant::now();
        going.spawn(go(last));
        let mut broken = Broken {
            loser: parties.loser(&self.sessions),
            circle: self,
            closed,
            first: None,
            victims: Vec::new(),
            failures: Vec::new(),
        };
        for _ in 0..length {
            let Ok(Some(went)) = timeout(OVER_LIMIT, going.join_next()).await else {
                broken.failures.push(format!("all go on: {broken}"));
                break;
            };
            broken.note(went?);
        }
        while let Ok(Some(passed)) = timeout(OVER_LIMIT, bystanders.join_next()).await {
            passed??;
        }
        Ok(broken)
    }

    /// All take what they hold.
    async fn prepare(&self, parties: &Parties) -> anyhow::Result<Vec<Leg>> {
        let length = self.links.len();
        let mut own = Vec::new();
        for (place, name) in self.names.iter().enumerate() {
            // It is waited for as the one before says.
            let link = self.link(place + length - 1)?;
            let session = self.session(parties, place)?;
            own.push(take(session, name, link.held()).await?);
        }
        let mut legs = Vec::new();
        for (place, own) in own.into_iter().enumerate() {
            let link = self.link(place)?;
            let session = self.session(parties, place)?;
            let name = self.names.get((place + 1) % length).context("a name")?;
            let next = match link {
                Link::Upgrade => Some(take(session, name, Mode::Shared).await?),
                Link::Writer | Link::WriterForReader | Link::ReaderForWriter | Link::Queue => None,
            };
            legs.push(Leg {
                place,
                session: session.clone(),
                own,
                next,
                name: name.clone(),
                mode: link.wanted(),
            });
        }
        Ok(legs)
    }

    fn link(&self, place: usize) -> anyhow::Result<Link> {
        let link = self.links.get(place % self.links.len());
        link.copied().context("a link")
    }

    fn session<'a>(&self, parties: &'a Parties, place: usize) -> anyhow::Result<&'a Session> {
        let at = self.sessions.get(place).context("a party")?;
        parties.sessions.get(*at).context("a session")
    }

    /// How many wait for the next lock once this party does.
    fn waiters(&self, place: usize) -> u32 {
        match self.link(place) {
            Ok(Link::Queue) => 2,
            Ok(_) | Err(_) => 1,
        }
    }

    /// Puts a writer between a party and the next, if that is how it waits.
    async fn stand_between(
        &self,
        parties: &Parties,
        place: usize,
        bystanders: &mut JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        if self.link(place)? != Link::Queue {
            return Ok(());
        }
        let name = self
            .names
            .get((place + 1) % self.names.len())
            .context("a name")?;
        let session = parties
            .bystanders
            .get(place)
            .context("a bystander")?
            .clone();
        let wanted = name.clone();
        bystanders.spawn(async move {
            let guard = take(&session, &wanted, Mode::Exclusive).await?;
            guard.release().await?;
            Ok(())
        });
        seen(parties, name, 1).await
    }
}

impl Broken {
    fn note(&mut self, (place, went): (usize, anyhow::Result<Went>)) {
        match went {
            Ok(Went::On) => {}
            Ok(Went::Back(at)) => {
                self.first = Some(self.first.map_or(at, |first| first.min(at)));
                let session = self.circle.sessions.get(place).copied();
                self.victims.extend(session);
            }
            Err(error) => {
                let what = format!("party {place} goes on: {error:#}; {self}");
                self.failures.push(what);
            }
        }
    }
}

async fn take(session: &Session, name: &str, mode: Mode) -> anyhow::Result<LockGuard> {
    let taken = session.lock(name).mode(mode).owner(OWNER).acquire().await;
    taken.with_context(|| format!("taking {name}"))
}

/// Waits until so many are seen to wait for a lock.
async fn seen(parties: &Parties, name: &str, count: u32) -> anyhow::Result<()> {
    let what = format!("{count} wait for {name}");
    until(what, SEEN_LIMIT, || async {
        let lock = parties.client.get_lock(name).await;
        match lock.map_err(|error| error.to_string())?.waiter_count {
            waiting if waiting == count => Ok(()),
            waiting => Err(format!("{waiting} do")),
        }
    })
    .await?;
    Ok(())
}

/// Waits for the next lock, and gives everything back, whatever came of it.
async fn go(leg: Leg) -> (usize, anyhow::Result<Went>) {
    let Leg {
        place,
        session,
        own,
        mut next,
        name,
        mode,
    } = leg;
    let went = match &mut next {
        Some(guard) => match guard.upgrade(Wait::Forever).await {
            Ok(_) => Ok(Went::On),
            Err(UpgradeError::Deadlock { .. }) => Ok(Went::Back(Instant::now())),
            Err(error) => Err(anyhow::Error::new(error).context("upgrading")),
        },
        None => match session.lock(&name).mode(mode).owner(OWNER).acquire().await {
            Ok(guard) => {
                next = Some(guard);
                Ok(Went::On)
            }
            Err(AcquireError::Deadlock { .. }) => Ok(Went::Back(Instant::now())),
            Err(error) => Err(anyhow::Error::new(error).context("acquiring")),
        },
    };
    for guard in [Some(own), next].into_iter().flatten() {
        if let Err(error) = guard.release().await {
            let error = anyhow::Error::new(error).context("releasing");
            return (place, went.and(Err(error)));
        }
    }
    (place, went)
}
