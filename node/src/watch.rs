//! Watching who holds what: a shard's changes, told from a replica here or from another node's.
//!
//! Every replica applies the same changes under the same numbers, so a watch may go on at any of
//! them. Invariants: a watch tells every change after its position once and in order, or says that
//! it cannot; present holders are those of a moment after it began; and whoever reads slowly costs nothing but a number, since all read from one history.

pub mod history;
pub mod relay;
pub mod staleness;
pub mod target;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lockstep_model::{Machine, Revision, ShardId, locks::change::Change};
use lockstep_proto::raft::v1 as pb;
use rand::seq::IndexedRandom as _;
use tokio::{
    sync::mpsc,
    time::{interval, sleep, timeout},
};

use crate::{
    replica::Replica,
    router::{RouteError, Router},
    watch::{history::Compacted, staleness::Health, target::Target},
};

/// Most changes in one message.
const PAGE: usize = 500;
/// How far a watch that has nothing to tell gets before it says where it is.
const QUIET_STRETCH: u64 = 1_024;
/// Pause before another replica is tried.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a replica may take to apply what the leader had when a watch began.
const CATCH_UP: Duration = Duration::from_secs(5);
/// How often a watch looks whether its replica is still here, and follows its leader.
const LOOK: Duration = Duration::from_secs(1);

/// News of a shard.
#[derive(Clone, Debug)]
pub struct News {
    /// All up to here has been told; none while the present holders are being told.
    pub revision: Option<Revision>,
    /// In order.
    pub changes: Vec<Change>,
}

/// Why a watch cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// What came after its position is forgotten.
    #[error(transparent)]
    Compacted(#[from] Compacted),
    /// The shard does not serve, or not from here: another node may be asked.
    #[error(transparent)]
    Unserved(#[from] RouteError),
}

/// Why the telling from one replica ends.
#[derive(Debug)]
enum End {
    /// Nobody listens any more.
    Unheard,
    /// This replica does not serve any more: another may go on.
    Lost,
    /// None can go on.
    Broken(Broken),
}

impl From<Compacted> for End {
    fn from(error: Compacted) -> Self {
        Self::Broken(error.into())
    }
}

impl From<RouteError> for End {
    fn from(error: RouteError) -> Self {
        Self::Broken(error.into())
    }
}

/// The one who is told, and how far.
struct Telling {
    news: mpsc::Sender<Result<News, Broken>>,
    position: Option<Revision>,
    /// Whether present holders were told, but not yet all.
    half_told: bool,
}

impl Telling {
    const fn new(news: mpsc::Sender<Result<News, Broken>>, position: Option<Revision>) -> Self {
        Self {
            news,
            position,
            half_told: false,
        }
    }

    async fn tell(&mut self, revision: Option<Revision>, changes: Vec<Change>) -> Result<(), End> {
        let told = News { revision, changes };
        self.news.send(Ok(told)).await.map_err(|_| End::Unheard)?;
        self.half_told = revision.is_none();
        self.position = revision.or(self.position);
        Ok(())
    }

    async fn end(self, end: End) {
        if let End::Broken(broken) = end {
            // Whoever does not listen any more need not know.
            let _ = self.news.send(Err(broken)).await;
        }
    }
}

/// Tells what happens in a shard until nobody listens, wherever its replicas are. The last item is an
/// error if it cannot go on.
pub async fn follow(
    router: Arc<Router>,
    shard: ShardId,
    target: Target,
    after: Option<Revision>,
    news: mpsc::Sender<Result<News, Broken>>,
) {
    let mut telling = Telling::new(news, after);
    loop {
        match once(&router, shard, &target, &mut telling).await {
            // Who was told some of the holders cannot tell those of another replica from them.
            End::Lost if telling.half_told => {
                let broken = RouteError::NoLeader { shard }.into();
                return telling.end(End::Broken(broken)).await;
            }
            End::Lost => {}
            end @ (End::Unheard | End::Broken(_)) => return telling.end(end).await,
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = telling.news.closed() => return,
        }
    }
}

/// Tells from one replica, which has all that the leader had when this began.
async fn once(router: &Arc<Router>, shard: ShardId, target: &Target, telling: &mut Telling) -> End {
    let floor = tokio::select! {
        floor = staleness::revision(router, shard) => floor,
        () = telling.news.closed() => return End::Unheard,
    };
    let floor = match floor {
        Ok(floor) => floor,
        Err(error) => return error.into(),
    };
    if telling.position.is_some_and(|position| position > floor) {
        return Compacted.into();
    }
    match router.replica(shard).filter(|replica| replica.caught_up()) {
        Some(replica) => here(router, &replica, target, floor, telling).await,
        None => there(router, shard, target, floor, telling).await,
    }
}

/// Tells what a replica on this node applies, once it has applied the changes up to `floor`.
async fn here(
    router: &Arc<Router>,
    replica: &Arc<Replica>,
    target: &Target,
    floor: Revision,
    telling: &mut Telling,
) -> End {
    match tell(router, replica, target, floor, telling).await {
        Ok(()) => End::Lost,
        Err(end) => end,
    }
}

async fn tell(
    router: &Arc<Router>,
    replica: &Arc<Replica>,
    target: &Target,
    floor: Revision,
    telling: &mut Telling,
) -> Result<(), End> {
    let mut latest = replica.history.latest();
    let reached = latest.wait_for(|latest| *latest >= floor);
    if !matches!(timeout(CATCH_UP, reached).await, Ok(Ok(_))) {
        return Ok(());
    }
    let pulse = replica.pulse.listen(router, replica.shard, floor);
    let mut cursor = match telling.position {
        Some(revision) => revision,
        None => present(replica, target, telling).await?,
    };
    let mut told = cursor;
    let mut look = interval(LOOK);
    loop {
        latest.mark_unchanged();
        loop {
            let page = replica.history.after(cursor, PAGE)?;
            let Some(last) = page.last().map(|change| change.revision) else {
                break;
            };
            cursor = last;
            let changes: Vec<Change> = page
                .into_iter()
                .filter(|change| target.takes(&change.name))
                .collect();
            if !changes.is_empty() || cursor.0 - told.0 >= QUIET_STRETCH {
                told = cursor;
                telling.tell(Some(cursor), changes).await?;
            }
        }
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return Ok(()) },
            _ = look.tick() => {
                let present = router.replica(replica.shard);
                if !present.is_some_and(|present| Arc::ptr_eq(&present, replica)) {
                    return Ok(());
                }
                match pulse.health(*latest.borrow(), Instant::now()) {
                    Health::Follows => {}
                    Health::Behind => return Ok(()),
                    Health::Deaf => {
                        let shard = replica.shard;
                        return Err(RouteError::NoLeader { shard }.into());
                    }
                }
            }
            () = telling.news.closed() => return Err(End::Unheard),
        }
    }
}

/// Tells who holds now; the revision of that.
async fn present(
    replica: &Replica,
    target: &Target,
    telling: &mut Telling,
) -> Result<Revision, End> {
    let (revision, holds) = match &*replica.machine.read() {
        Machine::Data(shard) => (shard.revision(), target.present(shard)),
        Machine::Meta(_) => (Revision(0), Vec::new()),
    };
    let mut holds = holds.into_iter();
    loop {
        let page: Vec<Change> = holds.by_ref().take(PAGE).collect();
        let is_last = page.len() < PAGE;
        telling.tell(is_last.then_some(revision), page).await?;
        if is_last {
            return Ok(revision);
        }
    }
}

/// Tells what another node's replica applies.
async fn there(
    router: &Router,
    shard: ShardId,
    target: &Target,
    floor: Revision,
    telling: &mut Telling,
) -> End {
    let directory = router.directory();
    let mut others = directory.replicas(shard);
    others.retain(|node| *node != directory.me);
    let node = others.choose(&mut rand::rng()).copied();
    let Some(node) = node.and_then(|node| directory.node(node)) else {
        return End::Lost;
    };
    let Ok(peer) = router.peers().get(node.node, &node.peer_address) else {
        return End::Lost;
    };
    let request = pb::WatchShardRequest {
        to: Some(router.peers().addressee(node.node, shard)),
        target: Some(target.to_wire()),
        after: telling.position.map(|revision| revision.0),
        at_least: floor.0,
    };
    let mut client = peer.client();
    let opened = tokio::select! {
        opened = client.watch_shard(request) => opened,
        () = telling.news.closed() => return End::Unheard,
    };
    let mut messages = match opened {
        Ok(response) => response.into_inner(),
        Err(status) => return lost(&status),
    };
    loop {
        let message = tokio::select! {
            message = messages.message() => message,
            () = telling.news.closed() => return End::Unheard,
        };
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return End::Lost,
            Err(status) => return lost(&status),
        };
        let decoded = message.changes.iter().map(|bytes| Change::decode(bytes));
        let Ok(changes) = decoded.collect::<Result<Vec<Change>, _>>() else {
            return End::Lost;
        };
        // One without changes is never about present holders: nothing has happened in the shard yet.
        let all_told = message.revision > 0 || message.changes.is_empty();
        let revision = all_told.then_some(Revision(message.revision));
        if let Err(end) = telling.tell(revision, changes).await {
            return end;
        }
    }
}

fn lost(status: &tonic::Status) -> End {
    if status.code() == tonic::Code::OutOfRange {
        Compacted.into()
    } else {
        End::Lost
    }
}
