//! One node from start to stop.
//!
//! Start: storage, front doors (which say what is being waited for), membership, replicas, service.
//! Stop: not ready, leaders handed over, streams ended, replicas closed, storage closed. Invariant:
//! the storage outlives everything that writes to it.

use std::{sync::Arc, time::Duration};

use lockstep_model::ShardId;
use lockstep_proto::{
    cluster::v1::cluster_service_server::ClusterServiceServer,
    lock::v1::lock_service_server::LockServiceServer,
    raft::v1::peer_service_server::PeerServiceServer,
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{cluster::ClusterServer, layer::CallLayer},
    clock,
    config::Config,
    directory::Directory,
    entry::Entry,
    follow,
    formation::Lobby,
    identity::{Identity, founding_command},
    locks::{chase, service::LockServer},
    peer::Peers,
    placement,
    raft::{server::PeerServer, snapshot_pace::Pace},
    recover::mark::Mark,
    replica_host::Custody,
    request::Request,
    router::Router,
    storage::{Storage, watch_space},
    transport::{self, descriptors::Shares},
};

mod component;
pub mod handover;
mod opening;

use component::{component, what_ended};

/// How long an orderly stop may take before what is left is dropped.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// Runs a node until `stop` is cancelled.
///
/// # Errors
/// If it cannot start, or fails while it runs.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let shares = transport::descriptors::claim()?;
    let Some(storage) = opening::open(&config, shares.http, &stop).await? else {
        return Ok(());
    };
    let storage = Arc::new(storage);
    let served = serve(&config, shares, Arc::clone(&storage), stop).await;
    storage.shutdown().await?;
    tracing::info!("stopped");
    served
}

async fn serve(
    config: &Config,
    shares: Shares,
    storage: Arc<Storage>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mark = Mark::of_startable(&storage)?;
    let lobby = Lobby::open(config.clone(), Arc::clone(&storage))?;
    let lobby = Arc::new(lobby.recovered_from(mark.map(|mark| mark.old)));
    let entry = Entry::new(Arc::clone(&lobby));
    let peer_server = PeerServer::new(Arc::clone(&lobby), entry.clone());
    let doors = CancellationToken::new();
    let mut tasks = open_doors(config, shares, &entry, &peer_server, &storage, &doors).await?;
    tracing::info!(
        name = config.name,
        clients = config.client_advertise,
        peers = config.peer_advertise,
        http = %config.http_listen,
        "started"
    );
    let identity = tokio::select! {
        identity = lobby.join() => identity?,
        () = stop.cancelled() => return Ok(()),
    };
    tracing::info!(node = %identity.node, cluster = %identity.cluster, "part of the cluster");
    if let Some(left) = mark.and_then(|mark| mark.hold_off(clock::now())) {
        let words = format!(
            "clients' old sessions to run out, {} ms more",
            left.as_millis()
        );
        tracing::info!("recovered: waiting for {words}");
        lobby.holds_back(words);
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
    let tending = CancellationToken::new();
    let (router, mut components) = start(config, &identity, &storage, &entry, &tending).await;
    describe_self(config, &identity, &router, &tending);
    let failure = tokio::select! {
        () = stop.cancelled() => None,
        ended = tasks.join_next() => ended,
        ended = components.join_next() => ended,
    };
    tracing::info!("stopping");
    if timeout(
        STOP_TIMEOUT,
        halt(&router, &doors, &tending, tasks, components),
    )
    .await
    .is_err()
    {
        tracing::warn!("not everything stopped in time");
    }
    match failure {
        Some(ended) => Err(what_ended(ended)),
        None => Ok(()),
    }
}

async fn halt(
    router: &Router,
    doors: &CancellationToken,
    tending: &CancellationToken,
    mut tasks: JoinSet<anyhow::Result<()>>,
    mut components: JoinSet<anyhow::Result<()>>,
) {
    let replicas = router.replicas();
    handover::hand_over(&replicas, None).await;
    doors.cancel();
    while tasks.join_next().await.is_some() {}
    tending.cancel();
    while components.join_next().await.is_some() {}
    for replica in router.replicas() {
        if let Err(error) = replica.raft.shutdown().await {
            tracing::warn!(shard = %replica.shard, %error, "the replica did not stop cleanly");
        }
    }
}

/// Opens the three listeners. They answer before there is a cluster.
async fn open_doors(
    config: &Config,
    shares: Shares,
    entry: &Entry,
    peer_server: &PeerServer,
    storage: &Arc<Storage>,
    stop: &CancellationToken,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let clients =
        transport::listen(config.client_listen, transport::CLIENTS, shares.clients).await?;
    let peers = transport::listen(config.peer_listen, transport::PEERS, shares.peers).await?;
    let http = transport::listen(config.http_listen, transport::HTTP, shares.http).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_peers(peers, peer_server.clone(), stop.clone()));
    tasks.spawn(serve_clients(clients, entry.clone(), stop.clone()));
    let (entry, storage, stop) = (entry.clone(), Arc::clone(storage), stop.clone());
    tasks.spawn(async move {
        crate::http::serve(http, entry, storage, stop)
            .await
            .map_err(anyhow::Error::new)
    });
    Ok(tasks)
}

async fn serve_peers(
    listener: transport::Acceptor,
    server: PeerServer,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let service = PeerServiceServer::new(server)
        .max_decoding_message_size(transport::MAX_PEER_MESSAGE_BYTES)
        .max_encoding_message_size(transport::MAX_PEER_MESSAGE_BYTES);
    let serving = transport::server()
        .add_service(service)
        .serve_with_incoming(transport::incoming(listener));
    // Peers' streams never end by themselves, so they are cut.
    tokio::select! {
        served = serving => served.map_err(anyhow::Error::new),
        () = stop.cancelled() => Ok(()),
    }
}

async fn serve_clients(
    listener: transport::Acceptor,
    entry: Entry,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(lockstep_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let locks = LockServiceServer::new(LockServer {
        entry: entry.clone(),
        stop: stop.clone(),
    })
    .max_decoding_message_size(transport::MAX_CLIENT_MESSAGE_BYTES);
    let cluster = ClusterServiceServer::new(ClusterServer {
        entry: entry.clone(),
        stop: stop.clone(),
        turns: Arc::default(),
    })
    .max_decoding_message_size(transport::MAX_CLIENT_MESSAGE_BYTES);
    let reporting = report_health(reporter, entry, stop.clone());
    let serving = transport::server()
        .layer(CallLayer::default())
        .add_service(health)
        .add_service(reflection)
        .add_service(locks)
        .add_service(cluster)
        .serve_with_incoming_shutdown(transport::incoming(listener), stop.cancelled_owned());
    let (served, ()) = tokio::join!(serving, reporting);
    served.map_err(anyhow::Error::new)
}

/// Keeps the standard health service in step with readiness.
async fn report_health(
    reporter: tonic_health::server::HealthReporter,
    entry: Entry,
    stop: CancellationToken,
) {
    /// How often readiness is looked at.
    const PERIOD: Duration = Duration::from_millis(250);
    loop {
        let status = if entry.ready().is_ok() && !stop.is_cancelled() {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        // The empty name stands for the whole server.
        reporter.set_service_status("", status).await;
        reporter
            .set_service_status("lockstep.lock.v1.LockService", status)
            .await;
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Opens the replicas that the placement gives to this node, and starts what looks after them, the
/// tables and the placement.
async fn start(
    config: &Config,
    identity: &Identity,
    storage: &Arc<Storage>,
    entry: &Entry,
    stop: &CancellationToken,
) -> (Arc<Router>, JoinSet<anyhow::Result<()>>) {
    let directory = Arc::new(Directory::new(identity.node, identity.plan.clone()));
    let peers = Arc::new(Peers::new(
        identity.cluster,
        config.dial.clone(),
        Pace::new(config.snapshot_bytes_per_second),
        stop.clone(),
    ));
    let router = Arc::new(Router::new(directory, peers, Arc::clone(storage)));
    let custody = Custody::new(
        config.clone(),
        identity.clone(),
        Arc::clone(storage),
        Arc::clone(&router),
        stop.clone(),
    );
    // Those that are open serve while others are being opened.
    entry.open(Arc::clone(&router));
    custody.open_all().await;
    let mut components = JoinSet::new();
    components.spawn(component("the custody of replicas", custody.run()));
    let watching = watch_space(storage.space(), stop.clone());
    components.spawn(component("the watch over disk space", watching));
    let following = follow::follow(Arc::clone(&router), stop.clone());
    components.spawn(component("the follower of the tables", following));
    let chasing = chase::chase(Arc::clone(&router), stop.clone());
    components.spawn(component("the search for deadlocks", chasing));
    let driving = placement::drive(Arc::clone(&router), config.replace_lost_after, stop.clone());
    components.spawn(component("the driver of the placement", driving));
    (router, components)
}

/// Pause before the meta shard is asked again.
const DESCRIBE_PAUSE: Duration = Duration::from_millis(200);

/// Writes the founding plan into the meta shard if that is not done yet, then what this node says of itself.
fn describe_self(
    config: &Config,
    identity: &Identity,
    router: &Arc<Router>,
    stop: &CancellationToken,
) {
    let record = lockstep_model::meta::NodeRecord {
        node: identity.node,
        name: config.name.clone(),
        client_address: config.client_advertise.clone(),
        peer_address: config.peer_advertise.clone(),
        zone: config.zone.clone(),
        version: crate::VERSION.to_owned(),
    };
    let found = founding_command(&identity.plan);
    let describe =
        lockstep_model::Command::Meta(lockstep_model::MetaCommand::DescribeNode { node: record });
    let router = Arc::clone(router);
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        for command in [found, describe] {
            while let Err(error) = router
                .execute(ShardId::META, Request::Command(command.clone()))
                .await
            {
                tracing::debug!(%error, "the meta shard does not answer yet");
                tokio::time::sleep(DESCRIBE_PAUSE).await;
            }
        }
    }));
}
