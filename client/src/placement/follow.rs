//! Keeps a client's [`Placement`] up to date.
//!
//! Invariant: as long as one known node answers, the placement is followed from some node; a node
//! that fell silent towards a session is not followed any longer.

use std::{sync::Arc, time::Duration};

use lockstep_proto::cluster::v1::{WatchPlacementRequest, WatchPlacementResponse};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tonic::Status;

use crate::{
    address::Address,
    backoff,
    channels::Channels,
    config::{ATTEMPTS_PER_TIMEOUT, ClientConfig},
    error::{Disposition, ServerError},
    placement::{Key, Placement},
};

/// Reports of silent nodes that may wait. A lost one is followed by others while it matters.
const SUSPECTS_QUEUE: usize = 16;

/// What the follower has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Contact {
    /// Not everyone was asked yet, or a node says that it is not ready yet; in its words.
    Trying(String),
    /// A node has answered.
    Made,
    /// Everyone was asked, and nobody answered; the last error.
    Failed(String),
}

/// The handle of the background task; it ends with it.
#[derive(Debug)]
pub(crate) struct Follower {
    placement: watch::Receiver<Arc<Placement>>,
    contact: watch::Receiver<Contact>,
    suspects: mpsc::Sender<Address>,
    task: AbortHandle,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    /// Starts the task. Must be called within a tokio runtime.
    pub(crate) fn start(
        endpoints: Vec<Address>,
        channels: Arc<Channels>,
        config: &ClientConfig,
    ) -> Self {
        let (placement_tx, placement) = watch::channel(Arc::new(Placement::unknown(&endpoints)));
        let (contact_tx, contact) = watch::channel(Contact::Trying("no answer".to_owned()));
        let (suspects, suspects_rx) = mpsc::channel(SUSPECTS_QUEUE);
        let task = Task {
            endpoints,
            only_endpoints: config.only_endpoints,
            channels,
            patience: config.request_timeout / ATTEMPTS_PER_TIMEOUT,
            placement: placement_tx,
            contact: contact_tx,
            suspects: suspects_rx,
        };
        Self {
            placement,
            contact,
            suspects,
            task: tokio::spawn(task.run()).abort_handle(),
        }
    }

    /// The present view.
    pub(crate) fn current(&self) -> Arc<Placement> {
        Arc::clone(&self.placement.borrow())
    }

    /// Tells of every newer view.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Placement>> {
        self.placement.clone()
    }

    /// Waits until a node has answered; at most so long, and not if there is nobody at any
    /// endpoint.
    pub(crate) async fn first_contact(&self, limit: Duration) -> Result<(), String> {
        let mut contact = self.contact.clone();
        let decided = contact.wait_for(|contact| !matches!(contact, Contact::Trying(_)));
        let in_time = timeout(limit, decided).await.is_ok();
        let found = self.contact.borrow().clone();
        match found {
            Contact::Made => Ok(()),
            Contact::Failed(error) => Err(error),
            Contact::Trying(last) if in_time => Err(last),
            Contact::Trying(last) => Err(format!("{last}; waited for {limit:?}")),
        }
    }

    /// Says that a node is silent, so that the placement is not learnt from it.
    pub(crate) fn suspect(&self, address: &Address) {
        let _full_or_over = self.suspects.try_send(address.clone());
    }
}

struct Task {
    endpoints: Vec<Address>,
    /// Whether the nodes' own addresses are left alone.
    only_endpoints: bool,
    channels: Arc<Channels>,
    /// How long an answer is awaited.
    patience: Duration,
    placement: watch::Sender<Arc<Placement>>,
    contact: watch::Sender<Contact>,
    suspects: mpsc::Receiver<Address>,
}

impl Task {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            let known = Arc::clone(&self.placement.borrow());
            let mut round = Contact::Failed("no endpoint is known".to_owned());
            for address in known.candidates(&Key::Any) {
                match (self.follow(&address).await, &round) {
                    (Contact::Made, _) => {
                        round = Contact::Made;
                        break;
                    }
                    (Contact::Failed(_), Contact::Trying(_)) => {}
                    (found, _) => round = found,
                }
            }
            if round == Contact::Made {
                failures = 0;
            }
            self.found(round);
            failures += 1;
            sleep(backoff::pause(failures)).await;
        }
    }

    /// Follows one node until it ends or falls silent.
    async fn follow(&mut self, address: &Address) -> Contact {
        let mut client = self.channels.cluster(address);
        let open = timeout(
            self.patience,
            client.watch_placement(WatchPlacementRequest {}),
        );
        let mut stream = match open.await {
            Err(_) => return Contact::Failed(format!("{address}: no answer")),
            Ok(Err(status)) => return refused(address, &status),
            Ok(Ok(response)) => response.into_inner(),
        };
        match timeout(self.patience, stream.message()).await {
            Err(_) => return Contact::Failed(format!("{address}: no answer")),
            Ok(Err(status)) => return refused(address, &status),
            Ok(Ok(None)) => return Contact::Made,
            Ok(Ok(Some(news))) => self.learn(address, &news),
        }
        loop {
            tokio::select! {
                news = stream.message() => match news {
                    Ok(Some(news)) => self.learn(address, &news),
                    Ok(None) | Err(_) => return Contact::Made,
                },
                Some(suspect) = self.suspects.recv() => if suspect == *address {
                    tracing::debug!(%address, "placement is followed elsewhere");
                    return Contact::Made;
                },
            }
        }
    }

    /// Remembers the first contact: once made, it is not lost any more.
    fn found(&self, found: Contact) {
        self.contact.send_if_modified(|contact| {
            let news = *contact != Contact::Made && *contact != found;
            if news {
                *contact = found;
            }
            news
        });
    }

    fn learn(&self, address: &Address, news: &WatchPlacementResponse) {
        let mut news = news.clone();
        if self.only_endpoints {
            news.nodes.clear();
        }
        let next = self.placement.borrow().learnt(&news, &self.endpoints);
        tracing::debug!(%address, shards = news.shards.len(), nodes = news.nodes.len(), "placement");
        self.channels.keep_only(&next.address_set());
        self.placement.send_if_modified(|placement| {
            let news = !next.routes_as(placement);
            if news {
                *placement = Arc::new(next);
            }
            news
        });
        self.found(Contact::Made);
    }
}

/// What a refusal says about a node. One that cannot tell the placement is still one that answers.
fn refused(address: &Address, status: &Status) -> Contact {
    let error = ServerError::from_status(status);
    let by_service = !error.reason.as_str().is_empty();
    match error.disposition() {
        Disposition::Retry if by_service => Contact::Trying(format!("{address}: {error}")),
        Disposition::Retry => Contact::Failed(format!("{address}: {}", error.message)),
        Disposition::Final | Disposition::SessionOver => {
            tracing::debug!(%address, %status, "placement is unknown: nodes route");
            Contact::Made
        }
    }
}
