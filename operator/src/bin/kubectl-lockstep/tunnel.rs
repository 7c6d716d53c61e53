//! The way to the cluster: each connection to this machine goes on to a ready pod.
//!
//! Invariant: pods are looked for anew for every connection, so that one that has gone is not asked
//! again; a connection that fails is closed, and lockstepctl opens another.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use lockstep_operator::cluster::build::CLIENT_PORT;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{find, say};

/// Connections at a time: lockstepctl holds one or two, and opens another when one is lost.
const MAX_CONNECTIONS: usize = 16;

/// The way to a cluster.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pods: Api<Pod>,
    cluster: String,
    /// Counts connections, so that the next one goes to another pod.
    turn: AtomicUsize,
}

impl Tunnel {
    pub(crate) const fn new(pods: Api<Pod>, cluster: String) -> Self {
        Self {
            pods,
            cluster,
            turn: AtomicUsize::new(0),
        }
    }

    /// A pod that is ready.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) async fn pod(&self) -> Result<String, find::FindError> {
        let mut ready = find::pods(&self.pods, &self.cluster).await?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let at = turn.checked_rem(ready.len()).unwrap_or_default();
        Ok(ready.swap_remove(at))
    }

    /// Takes connections until it is dropped.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let tunnel = Arc::new(self);
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                Some(_ended) = open.join_next() => {}
                accepted = listener.accept(), if open.len() < MAX_CONNECTIONS => {
                    let Ok((connection, _)) = accepted else { continue };
                    let tunnel = Arc::clone(&tunnel);
                    open.spawn(async move {
                        if let Err(error) = tunnel.carry(connection).await {
                            say(&format!("{error:#}"));
                        }
                    });
                }
            }
        }
    }

    async fn carry(&self, mut connection: TcpStream) -> anyhow::Result<()> {
        let pod = self.pod().await?;
        let no_way = || format!("no connection to pod {pod} through the API server");
        let opened = self.pods.portforward(&pod, &[CLIENT_PORT]).await;
        let mut forward = opened.with_context(no_way)?;
        let mut stream = forward.take_stream(CLIENT_PORT).with_context(no_way)?;
        // Either end may hang up at any time; lockstepctl sees that by itself.
        let _hung_up = copy_bidirectional(&mut connection, &mut stream).await;
        drop(stream);
        forward.abort();
        Ok(())
    }
}
