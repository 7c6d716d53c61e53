//! Sessions that are ended by somebody else, on real processes.

use std::time::Duration;

use anyhow::{Context, ensure};
use lockstep_client::{
    Client, ClientConfig, Loss, Reason, Release, Session, SessionOptions, SessionState,
};
use lockstep_drill::cluster::{Cluster, ClusterOptions, with_cluster};
use tokio::time::timeout;

/// For a whole scenario: a start and an election on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// A client sends a keep-alive every ten seconds at most; what it hears before the first one, it was told
/// of.
const BEFORE_KEEP_ALIVE: Duration = Duration::from_secs(8);

async fn connect(cluster: &Cluster) -> anyhow::Result<Client> {
    Ok(Client::connect(ClientConfig::new(cluster.endpoints())).await?)
}

/// A session with a lock that another waits for, who is another client's.
async fn holder(client: &Client, name: &str, ttl: Duration) -> anyhow::Result<Session> {
    let options = SessionOptions {
        ttl,
        ..SessionOptions::default()
    };
    let session = client.open_session(options).await?;
    let guard = session.lock(name).acquire().await?;
    // It is to be lost with its session, and not to be given back.
    std::mem::forget(guard);
    Ok(session)
}

async fn loss(session: &Session) -> anyhow::Result<Loss> {
    let told = timeout(BEFORE_KEEP_ALIVE, session.lost()).await;
    told.context("the holder was not told that its session was ended")
}

/// The end is pushed: the holder hears of it long before it would have asked. On whichever node its streams
/// and the session's home are.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_is_told_at_once_that_its_session_was_ended() -> anyhow::Result<()> {
    with_cluster(ClusterOptions::new("told"), LIMIT, async |cluster| {
        let (client, operator) = (connect(cluster).await?, connect(cluster).await?);
        for number in 0..6 {
            let name = format!("told/{number}");
            let session = holder(&client, &name, Duration::from_secs(3_600)).await?;
            let lease = operator.close_session(session.id(), Release::Now).await?;
            ensure!(lease.is_zero(), "it is over");
            let Loss::Ended { reason, .. } = loss(&session).await? else {
                anyhow::bail!("another loss than the end");
            };
            ensure!(reason == Reason::SessionClosed, "{reason:?}");
            let next = operator.open_session(SessionOptions::default()).await?;
            next.lock(&name).acquire().await?;
        }
        Ok(())
    })
    .await
}

/// Unless told otherwise, nobody gets the lock before the holder's lease is over.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_closed_by_somebody_else_is_held_until_its_lease_is_over() -> anyhow::Result<()> {
    with_cluster(ClusterOptions::new("lease"), LIMIT, async |cluster| {
        let (client, operator) = (connect(cluster).await?, connect(cluster).await?);
        let session = holder(&client, "lease", Duration::from_secs(6)).await?;
        let id = session.id();
        let lease = operator.close_session(id, Release::AfterLease).await?;
        ensure!(lease == Duration::from_secs(6), "{lease:?}");
        loss(&session).await?;
        let holders = operator.get_lock("lease").await?.holders;
        ensure!(
            holders.iter().map(|holder| holder.session).eq([id]),
            "it holds the lock although it knows that it has lost it: {holders:?}"
        );
        let again = operator.close_session(id, Release::AfterLease).await?;
        ensure!(again == lease, "closing it again changes nothing");
        let next = operator.open_session(SessionOptions::default()).await?;
        let guard = next.lock("lease").acquire().await?;
        ensure!(guard.is_held(), "the next one has it in the end");
        ensure!(matches!(next.state(), SessionState::Alive { .. }), "alive");
        Ok(())
    })
    .await
}
