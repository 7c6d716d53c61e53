//! What is made of locks, on real processes: semaphores, barriers, elections, and watches that go on
//! when the node that served them dies.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use lockstep_drill::{
    cluster::{Cluster, ClusterOptions, with_cluster},
    drill::Cut,
};
use lockstep_proto::lock::v1::{
    AcquireOperation, AcquireRequest, Change, ChangeKind, Grant, LockMode, LockSpec,
    OpenSessionRequest, Position, ProclaimOperation, ProclaimRequest, ReleaseOperation,
    ReleaseRequest, Wait, WatchRequest, WatchResponse, lock_service_client::LockServiceClient,
    wait, watch_request::Target,
};
use tokio::task::JoinSet;
use tonic::{Code, Streaming, transport::Channel};

/// For a whole scenario: a start and an election on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A session at one node.
struct Caller {
    client: LockServiceClient<Channel>,
    session_id: u64,
}

impl Caller {
    async fn open(cluster: &Cluster, node: usize) -> anyhow::Result<Self> {
        let mut client = cluster.locks(node)?;
        let request = OpenSessionRequest {
            ttl_ms: 60_000,
            ..OpenSessionRequest::default()
        };
        let session_id = client.open_session(request).await?.into_inner().session_id;
        Ok(Self { client, session_id })
    }

    async fn acquire(&mut self, spec: LockSpec, value: &str) -> Result<Grant, tonic::Status> {
        let wait = wait::Wait::TimeoutMs(30_000);
        let request = AcquireRequest {
            session_id: self.session_id,
            operation: Some(AcquireOperation {
                locks: vec![spec],
                // Each call is a program of its own.
                owner: format!("{:x}", rand::random::<u64>()),
                wait: Some(Wait { wait: Some(wait) }),
                value: value.as_bytes().to_vec(),
            }),
            ..AcquireRequest::default()
        };
        let granted = self.client.acquire(request).await?.into_inner().grants;
        let grant = granted.into_iter().next();
        grant.ok_or_else(|| tonic::Status::internal("a grant of nothing"))
    }

    async fn release(&mut self, grant: &Grant) -> anyhow::Result<()> {
        let request = ReleaseRequest {
            session_id: self.session_id,
            operation: Some(ReleaseOperation {
                name: grant.name.clone(),
                token: grant.token,
            }),
            ..ReleaseRequest::default()
        };
        self.client.release(request).await?;
        Ok(())
    }

    async fn proclaim(&mut self, grant: &Grant, value: &str) -> Result<(), tonic::Status> {
        let request = ProclaimRequest {
            session_id: self.session_id,
            operation: Some(ProclaimOperation {
                name: grant.name.clone(),
                token: grant.token,
                value: value.as_bytes().to_vec(),
            }),
            ..ProclaimRequest::default()
        };
        self.client.proclaim(request).await?;
        Ok(())
    }
}

fn spec(name: &str, mode: LockMode, size: u32) -> LockSpec {
    LockSpec {
        name: name.to_owned(),
        mode: mode.into(),
        size,
        ..LockSpec::default()
    }
}

/// A watch of everything, and what it has told.
struct Watcher {
    stream: Streaming<WatchResponse>,
    positions: BTreeMap<u32, Position>,
    changes: Vec<Change>,
}

impl Watcher {
    async fn open(
        cluster: &Cluster,
        node: usize,
        positions: BTreeMap<u32, Position>,
    ) -> anyhow::Result<Self> {
        let request = WatchRequest {
            target: Some(Target::Prefix("shape/".to_owned())),
            after: positions.values().cloned().collect(),
        };
        let stream = cluster.locks(node)?.watch(request).await?.into_inner();
        Ok(Self {
            stream,
            positions,
            changes: Vec::new(),
        })
    }

    /// Listens until something was told, or the watch breaks off.
    async fn until(&mut self, told: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        while !told(self) {
            let message = self.stream.message().await?.context("the watch ended")?;
            // One without changes tells how far a shard is, even if nothing has happened there yet.
            if message.revision > 0 || message.changes.is_empty() {
                let position = Position {
                    shard: message.shard,
                    revision: message.revision,
                    cluster_id: message.cluster_id,
                };
                self.positions.insert(message.shard, position);
            }
            self.changes.extend(message.changes);
        }
        Ok(())
    }

    fn kinds(&self, name: &str) -> Vec<(ChangeKind, String)> {
        let changes = self.changes.iter().filter(|change| change.name == name);
        changes
            .map(|change| {
                let value = String::from_utf8_lossy(&change.value).into_owned();
                (change.kind(), value)
            })
            .collect()
    }
}

/// Programs campaign one after another; what a watch tells is the succession of leaders with their
/// values, once and in order, also when the node that told it is killed on the way.
#[tokio::test(flavor = "multi_thread")]
async fn an_election_is_watched_through_the_death_of_a_node() -> anyhow::Result<()> {
    const NAME: &str = "shape/leader";
    let options = ClusterOptions::new("test-election");
    with_cluster(options, LIMIT, async |cluster| {
        let mut first = Caller::open(cluster, 1).await?;
        let mut second = Caller::open(cluster, 2).await?;
        let campaign = || spec(NAME, LockMode::Exclusive, 0);
        let one = first.acquire(campaign(), "one").await?;

        let mut watcher = Watcher::open(cluster, 0, BTreeMap::new()).await?;
        let shards = cluster.options().shards as usize;
        watcher
            .until(|watcher| watcher.positions.len() == shards)
            .await?;
        first.proclaim(&one, "one again").await?;
        watcher.until(|watcher| watcher.changes.len() == 2).await?;
        let told = [
            (ChangeKind::Present, "one".to_owned()),
            (ChangeKind::Proclaimed, "one again".to_owned()),
        ];
        ensure!(watcher.kinds(NAME) == told, "{:?}", watcher.changes);

        cluster.kill(0).await?;
        let positions = watcher.positions;
        let waiting = tokio::spawn(async move {
            let two = second.acquire(campaign(), "two").await?;
            anyhow::Ok((second, two))
        });
        first.release(&one).await?;
        let (mut second, two) = waiting.await??;
        ensure!(two.token > one.token, "tokens grow");
        let late = first.proclaim(&one, "too late").await;
        let late = late.err().context("a deposed leader was heard")?;
        ensure!(late.code() == Code::FailedPrecondition, "{late}");

        let mut watcher = Watcher::open(cluster, 1, positions).await?;
        watcher
            .until(|watcher| watcher.kinds(NAME).len() == 2)
            .await?;
        let told = [
            (ChangeKind::Released, "one again".to_owned()),
            (ChangeKind::Acquired, "two".to_owned()),
        ];
        ensure!(watcher.kinds(NAME) == told, "{:?}", watcher.changes);
        second.release(&two).await
    })
    .await
}

/// Where a watch cannot go on it says so, instead of leaving something out.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_cannot_go_on_says_so() -> anyhow::Result<()> {
    let options = ClusterOptions {
        nodes: 1,
        founders: 1,
        ..ClusterOptions::new("test-watch").with_shards(1)
    };
    with_cluster(options, LIMIT, async |cluster| {
        let mut first = Watcher::open(cluster, 0, BTreeMap::new()).await?;
        first.until(|watcher| !watcher.positions.is_empty()).await?;
        let mut positions = first.positions;
        for position in positions.values_mut() {
            position.revision = 77;
        }
        let mut watcher = Watcher::open(cluster, 0, positions).await?;
        let error = watcher.until(|_| false).await;
        let error = error.err().context("a position that was never reached")?;
        let status = error.downcast::<tonic::Status>()?;
        ensure!(status.code() == Code::OutOfRange, "{status}");
        Ok(())
    })
    .await
}

/// A node that hears no leader would tell nothing and seem quiet.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_served_by_a_node_that_is_cut_off_ends() -> anyhow::Result<()> {
    let options = ClusterOptions::new("test-watch-cut").with_links();
    with_cluster(options, LIMIT, async |cluster| {
        let mut watcher = Watcher::open(cluster, 1, BTreeMap::new()).await?;
        // What is held already has been told by then.
        let mut caller = Caller::open(cluster, 0).await?;
        caller
            .acquire(spec("shape/seen", LockMode::Exclusive, 0), "")
            .await?;
        watcher.until(|watcher| !watcher.changes.is_empty()).await?;
        Cut::Isolate(1).apply(cluster.links()?);
        let error = watcher.until(|_| false).await;
        let error = error.err().context("it cannot go on")?;
        let status = error.downcast::<tonic::Status>()?;
        ensure!(status.code() == Code::Unavailable, "{status}");
        let positions = std::mem::take(&mut watcher.positions);
        let mut elsewhere = Watcher::open(cluster, 2, positions).await?;
        caller
            .acquire(spec("shape/later", LockMode::Exclusive, 0), "")
            .await?;
        elsewhere
            .until(|watcher| watcher.kinds("shape/later").len() == 1)
            .await
    })
    .await
}

/// As many as there are permits hold a semaphore, never more, and all get their turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_semaphore_lets_so_many_in() -> anyhow::Result<()> {
    const PERMITS: u32 = 3;
    const PROGRAMS: usize = 12;
    const NAME: &str = "shape/pool";
    let options = ClusterOptions::new("test-semaphore");
    with_cluster(options, LIMIT, async |cluster| {
        let mut watcher = Watcher::open(cluster, 0, BTreeMap::new()).await?;
        let mut programs = JoinSet::new();
        for number in 0..PROGRAMS {
            let mut caller = Caller::open(cluster, number % 3).await?;
            programs.spawn(async move {
                for _ in 0..5 {
                    let grant = caller.acquire(spec(NAME, LockMode::Semaphore, PERMITS), "");
                    let grant = grant.await?;
                    caller.release(&grant).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = programs.join_next().await {
            done??;
        }
        let turns = 5 * PROGRAMS;
        watcher
            .until(|watcher| watcher.changes.len() == 2 * turns)
            .await?;
        let (mut held, mut most) = (0, 0);
        for change in &watcher.changes {
            match change.kind() {
                ChangeKind::Acquired => held += 1,
                ChangeKind::Released => held -= 1,
                other @ (ChangeKind::Unspecified
                | ChangeKind::Present
                | ChangeKind::Converted
                | ChangeKind::Proclaimed) => anyhow::bail!("{other:?} of a permit"),
            }
            most = most.max(held);
        }
        ensure!(
            (held, most) == (0, PERMITS as i32),
            "{held} left, {most} at once"
        );
        Ok(())
    })
    .await
}

/// Nobody passes a barrier before all have come, at whichever nodes they did.
#[tokio::test(flavor = "multi_thread")]
async fn a_barrier_lets_all_pass_together() -> anyhow::Result<()> {
    const PARTIES: u32 = 5;
    let options = ClusterOptions::new("test-barrier");
    with_cluster(options, LIMIT, async |cluster| {
        let mut last = 0;
        for _round in 0..3 {
            let mut coming = JoinSet::new();
            for number in 0..PARTIES {
                let mut caller = Caller::open(cluster, number as usize % 3).await?;
                coming.spawn(async move {
                    let gate = spec("shape/gate", LockMode::Barrier, PARTIES);
                    let passed = caller.acquire(gate, "").await?;
                    anyhow::Ok(passed.token)
                });
            }
            let mut tokens = Vec::new();
            while let Some(passed) = coming.join_next().await {
                tokens.push(passed??);
            }
            tokens.dedup();
            ensure!(tokens.len() == 1, "one generation, not {tokens:?}");
            let generation = tokens.first().copied().context("a token")?;
            ensure!(generation > last, "generations grow");
            last = generation;
        }
        Ok(())
    })
    .await
}
