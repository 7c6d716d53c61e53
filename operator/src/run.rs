//! The operator's life: wait for the lease, act, give it up.
//!
//! Invariant: nothing acts without the lease. Who loses it ends at once; who is told to stop ends what
//! is under way first, and gives it up then.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use kube::{
    Client, Config,
    runtime::events::{Recorder, Reporter},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    context::{Context, ask_served},
    controller,
    health::Health,
    http,
    lease::Election,
    metrics,
    sentinel::Sentinel,
};

/// How often it is asked what the API server serves: kinds come with what users install.
const ASK_SERVED: Duration = Duration::from_secs(600);
/// How long reconciles may take to end when the operator stops.
const GRACE: Duration = Duration::from_secs(20);

/// How an operator runs.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "run")]
pub struct Options {
    /// The image of clusters that name none.
    #[arg(long, env = "LOCKSTEP_OPERATOR_NODE_IMAGE", default_value = concat!("lockstep-node:", env!("CARGO_PKG_VERSION")))]
    pub node_image: String,
    /// Namespaces whose clusters are kept, comma-separated [default: all].
    #[arg(long, env = "LOCKSTEP_OPERATOR_NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// The namespace of the lease: the operator's own.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub lease_namespace: String,
    /// The lease's name: each release of the chart has its own, so that two in one namespace, which keep
    /// clusters of different namespaces, do not wait for each other.
    #[arg(
        long,
        env = "LOCKSTEP_OPERATOR_LEASE",
        default_value = "lockstep-operator"
    )]
    pub lease: String,
    /// Who holds the lease: the pod's name.
    #[arg(long, env = "POD_NAME", default_value = "lockstep-operator")]
    pub identity: String,
    /// Where to listen for health checks and metrics. Where there is no IPv6, `[::]` is taken for `0.0.0.0`.
    #[arg(
        long,
        env = "LOCKSTEP_OPERATOR_HTTP_LISTEN",
        default_value = "[::]:7403"
    )]
    pub http_listen: SocketAddr,
}

/// Runs until cancelled.
///
/// # Errors
/// If the API server cannot be found, the lease is lost, or the listener fails.
pub async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = listen(options.http_listen)
        .await
        .with_context(|| format!("cannot listen on {} for health checks", options.http_listen))?;
    let health = Arc::new(Health::default());
    let server = tokio::spawn(http::serve(listener, Arc::clone(&health), stop.clone()));
    let config = Config::infer()
        .await
        .context("no Kubernetes API server is configured")?;
    let client = Client::try_from(config)?;
    // Outside of pods nothing else tells two operators apart.
    let me = format!("{}_{}", options.identity, std::process::id());
    let mut election = Election::new(client.clone(), &options.lease_namespace, &options.lease, me);
    tracing::info!(identity = %options.identity, "waiting for the lease");
    if election.acquire(&stop).await {
        tracing::info!("acting");
        metrics::get().leads(true);
        let ended = lead(&options, client, health, &mut election, &stop).await;
        metrics::get().leads(false);
        ended?;
    }
    stop.cancel();
    server.await??;
    Ok(())
}

/// Listens for connections of both IPv6 and IPv4 at `[::]`, or of IPv4 where there is no IPv6.
async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// Acts while the lease is held.
async fn lead(
    options: &Options,
    client: Client,
    health: Arc<Health>,
    election: &mut Election,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let served = ask_served(&client)
        .await
        .context("the API server does not say what it serves")?;
    let reporter = Reporter {
        controller: "lockstep-operator".to_owned(),
        instance: Some(options.identity.clone()),
    };
    let recorder = Recorder::new(client.clone(), reporter);
    let (sentinel, changes) = Sentinel::new();
    let context = Arc::new(Context::new(
        client,
        recorder,
        options.node_image.clone(),
        format!("{}/{}", options.lease_namespace, options.lease),
        sentinel.clone(),
        served,
    ));
    let watching = tokio::spawn(sentinel.run(stop.clone()));
    let asking = tokio::spawn(keep_asking(Arc::clone(&context), stop.clone()));
    let namespaces: Vec<String> = options
        .namespaces
        .iter()
        .filter(|name| !name.is_empty())
        .cloned()
        .collect();
    let mut controlling = Box::pin(controller::run(
        context,
        health,
        &namespaces,
        changes,
        stop.clone(),
    ));
    tokio::select! {
        // Dropping the controller ends what is under way where it is.
        is_held = election.hold(stop) => {
            anyhow::ensure!(is_held, "the lease is lost: another operator may act now, so this one ends");
            if tokio::time::timeout(GRACE, controlling).await.is_err() {
                tracing::warn!("reconciles did not end in time");
            }
        }
        () = &mut controlling => {}
    }
    election.release().await;
    watching.await?;
    asking.await?;
    Ok(())
}

async fn keep_asking(context: Arc<Context>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ASK_SERVED) => {}
        }
        match ask_served(&context.client).await {
            Ok(served) => context.serves(served),
            Err(error) => tracing::warn!(%error, "the API server does not say what it serves"),
        }
    }
}
