//! A small cluster in memory for tests: several nodes on loopback ports, one lock table.
//!
//! Invariant: it keeps the wire's contract (exactly-once by serial, first come first served,
//! growing tokens), so that a test sees what a client does about the faults that it is told to
//! make, and nothing else.

mod history;
mod service;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use lockstep_model::{id::ClusterId, ring::RING_VERSION};
use lockstep_proto::{
    cluster::v1::{
        NodeEndpoint, ShardPlacement, WatchPlacementResponse,
        cluster_service_server::ClusterServiceServer,
    },
    lock::v1::{
        Deadlock, SessionEnded, SessionResponse, WatchRequest,
        lock_service_server::LockServiceServer, session_response::Response,
    },
};
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::AbortHandle,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Status, transport::Server};

pub use self::{
    history::History,
    table::{Hold, Table},
};
use crate::{Client, ClientConfig, ConnectError};

/// Data shards of the fake.
pub const SHARDS: u32 = 8;
/// Messages that may wait on one stream.
const STREAM_QUEUE: usize = 16_384;
/// How long a condition is awaited before the test fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// What happens to the next operation instead of the usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with this code and reason, and not carried out.
    Refuse(Code, &'static str),
    /// It is carried out, and the stream breaks before the answer.
    LoseAnswer,
    /// The stream breaks before it is carried out.
    LoseRequest,
    /// It is neither carried out nor answered.
    Ignore,
}

/// An operation as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// To which node, from 1.
    pub node: u64,
    /// Of which session.
    pub session: u64,
    /// Its number.
    pub serial: u64,
    /// The client has the answers below.
    pub acked_below: u64,
    /// And of these above: from the first to the last.
    pub acked: Vec<(u64, u64)>,
    /// `acquire`, `release`, `renew`, `upgrade`, `downgrade`, `proclaim`, `cancel` or `abandon`.
    pub kind: &'static str,
    /// The first lock.
    pub name: String,
}

/// A session of the fake.
#[derive(Clone, Debug)]
pub struct FakeSession {
    /// Its TTL.
    pub ttl_ms: u64,
    /// Counts resumes.
    pub epoch: u64,
    /// Its priority.
    pub priority: i32,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// Why it is over.
    pub ended: Option<&'static str>,
    /// Keep-alives received.
    pub keep_alives: u64,
}

/// Everything that the fake knows.
pub struct State {
    /// Locks.
    pub table: Table,
    /// By id.
    pub sessions: BTreeMap<u64, FakeSession>,
    /// Every operation and cancellation, in the order in which they came.
    pub seen: Vec<Seen>,
    /// Attaches as they came: node, session, resume.
    pub attaches: Vec<(u64, u64, bool)>,
    /// Watches as they came, with their nodes.
    pub watches: Vec<(u64, WatchRequest)>,
    /// How many watches break off while the present holders are being told.
    pub cut_tellings: u32,
    /// How watches are refused from now on.
    refuse_watches: Option<(Code, &'static str)>,
    /// What is told of deadlocks.
    pub deadlocks: Vec<Deadlock>,
    faults: VecDeque<Fault>,
    mute: BTreeSet<u64>,
    down: BTreeSet<u64>,
    cut_off: BTreeSet<u64>,
    streams: BTreeMap<u64, Stream>,
    /// The tasks of watches, with their nodes.
    watchers: Vec<(u64, AbortHandle)>,
    next_stream: u64,
    next_session: u64,
}

struct Stream {
    node: u64,
    session: u64,
    outbound: mpsc::Sender<Result<SessionResponse, Status>>,
    reader: Option<AbortHandle>,
}

/// What the nodes share.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Counts changes of the state.
    changes: watch::Sender<u64>,
    placement: watch::Sender<WatchPlacementResponse>,
}

/// The fake.
pub struct FakeCluster {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    servers: Vec<AbortHandle>,
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        for server in &self.servers {
            server.abort();
        }
        let mut state = self.shared.state.lock();
        state.drop_streams(|_| true);
        state.drop_watches(|_| true);
    }
}

impl FakeCluster {
    /// Starts nodes 1..=`nodes`; node 1 leads every shard.
    ///
    /// # Panics
    /// If there is no loopback port.
    pub async fn start(nodes: u64) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..nodes {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            #[expect(clippy::expect_used, reason = "a test cannot go on without")]
            listeners.push(listener.expect("a loopback port"));
        }
        let addresses: Vec<SocketAddr> = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect();
        let placement = WatchPlacementResponse {
            cluster_id: "0123456789abcdef0123456789abcdef".to_owned(),
            nodes: (1..)
                .zip(&addresses)
                .map(|(node_id, address)| NodeEndpoint {
                    node_id,
                    client_address: address.to_string(),
                })
                .collect(),
            shards: (0..=SHARDS)
                .map(|shard| ShardPlacement {
                    shard,
                    leader: 1,
                    replicas: (1..=nodes).collect(),
                })
                .collect(),
            ring_version: RING_VERSION,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new()),
            changes: watch::Sender::new(0),
            placement: watch::Sender::new(placement),
        });
        let servers = (1..)
            .zip(listeners)
            .map(|(node, listener)| {
                let service = service::Node {
                    node,
                    shared: Arc::clone(&shared),
                };
                let server = Server::builder()
                    .add_service(LockServiceServer::new(service.clone()))
                    .add_service(ClusterServiceServer::new(service))
                    .serve_with_incoming(TcpListenerStream::new(listener));
                tokio::spawn(server).abort_handle()
            })
            .collect();
        Self {
            shared,
            addresses,
            servers,
        }
    }

    /// A client of it, with short time-outs.
    ///
    /// # Errors
    /// If no node answers.
    pub async fn client(&self) -> Result<Client, ConnectError> {
        let config = ClientConfig {
            request_timeout: Duration::from_secs(3),
            ..ClientConfig::new(self.endpoints())
        };
        Client::connect(config).await
    }

    /// `host:port` of each node.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.addresses.iter().map(ToString::to_string).collect()
    }

    /// Looks at the state, or changes it; the nodes wait meanwhile.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    /// Waits until the state fulfils a condition.
    ///
    /// # Panics
    /// If it does not within ten seconds.
    pub async fn until(&self, what: &str, mut condition: impl FnMut(&State) -> bool) {
        let mut changes = self.shared.changes.subscribe();
        let met = async {
            while !condition(&self.shared.state.lock()) {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, met).await.is_ok();
        assert!(in_time, "not within {PATIENCE:?}: {what}");
    }

    /// Adds faults: one for each operation to come.
    pub fn fault(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.state.lock().faults.extend(faults);
    }

    /// Refuses watches from now on.
    pub fn refuse_watches(&self, code: Code, reason: &'static str) {
        self.shared.state.lock().refuse_watches = Some((code, reason));
    }

    /// Makes a node the leader of every shard.
    pub fn lead(&self, node: u64) {
        self.shared.placement.send_modify(|placement| {
            for shard in &mut placement.shards {
                shard.leader = node;
            }
        });
    }

    /// Makes nodes the leaders of shards, by shard.
    pub fn lead_shards(&self, leader: impl Fn(u32) -> u64) {
        self.shared.placement.send_modify(|placement| {
            for shard in &mut placement.shards {
                shard.leader = leader(shard.shard);
            }
        });
    }

    /// Breaks every stream of a node.
    pub fn drop_streams(&self, node: u64) {
        let mut state = self.shared.state.lock();
        state.drop_streams(|stream| stream.node == node);
        state.drop_watches(|of| of == node);
    }

    /// Makes a node leave keep-alives without an answer, or not any longer.
    pub fn mute(&self, node: u64, mute: bool) {
        let mut state = self.shared.state.lock();
        if mute {
            state.mute.insert(node);
        } else {
            state.mute.remove(&node);
        }
    }

    /// Makes a node refuse everything, or not any longer.
    pub fn down(&self, node: u64, down: bool) {
        let mut state = self.shared.state.lock();
        if down {
            state.down.insert(node);
            state.drop_streams(|stream| stream.node == node);
            state.drop_watches(|of| of == node);
        } else {
            state.down.remove(&node);
        }
    }

    /// Makes another cluster of it, as a recovery or a restored backup does: what was held before is
    /// not, and changes are counted anew. Its id.
    pub fn become_another_cluster(&self, fill: impl FnOnce(&mut Table)) -> ClusterId {
        let cluster = ClusterId([0xaa; 16]);
        let mut state = self.shared.state.lock();
        state.table = Table::default();
        fill(&mut state.table);
        self.shared
            .placement
            .send_modify(|placement| placement.cluster_id = cluster.to_string());
        state.drop_watches(|_| true);
        cluster
    }

    /// Makes somebody hold a lock exclusively, and say something.
    pub fn occupy(&self, name: &str, session: u64, value: &[u8]) {
        let mut state = self.shared.state.lock();
        state.table.occupy_saying(name, session, value);
        drop(state);
        self.shared.changed();
    }

    /// Frees a lock that was made occupied.
    pub fn vacate(&self, name: &str) {
        let mut state = self.shared.state.lock();
        let answers = state.table.vacate(name);
        state.push(answers);
        drop(state);
        self.shared.changed();
    }

    /// Makes a node refuse operations for want of a leader, as one does that is cut off from the
    /// others.
    pub fn cut_off(&self, node: u64) {
        self.shared.state.lock().cut_off.insert(node);
    }

    /// Ends a session as the cluster does.
    pub fn end_session(&self, session: u64, reason: &'static str) {
        self.shared.state.lock().end_session(session, reason);
        self.shared.changed();
    }
}

impl Shared {
    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

impl State {
    fn new() -> Self {
        Self {
            table: Table::default(),
            sessions: BTreeMap::new(),
            seen: Vec::new(),
            attaches: Vec::new(),
            watches: Vec::new(),
            cut_tellings: 0,
            refuse_watches: None,
            deadlocks: Vec::new(),
            faults: VecDeque::new(),
            mute: BTreeSet::new(),
            down: BTreeSet::new(),
            cut_off: BTreeSet::new(),
            streams: BTreeMap::new(),
            watchers: Vec::new(),
            next_stream: 1,
            next_session: 0x5e55_0001,
        }
    }

    /// How many streams are open.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    fn drop_streams(&mut self, which: impl Fn(&Stream) -> bool) {
        self.streams.retain(|_, stream| {
            let doomed = which(stream);
            if let (true, Some(reader)) = (doomed, &stream.reader) {
                reader.abort();
            }
            !doomed
        });
    }

    fn drop_watches(&mut self, which: impl Fn(u64) -> bool) {
        for (_, watcher) in self.watchers.extract_if(.., |(node, _)| which(*node)) {
            watcher.abort();
        }
    }

    fn end_session(&mut self, session: u64, reason: &'static str) {
        if let Some(open) = self.sessions.get_mut(&session) {
            open.ended.get_or_insert(reason);
        }
        let ended = Response::Ended(SessionEnded {
            reason: reason.to_owned(),
            message: format!("session {session:016x} is over"),
        });
        for stream in self.streams.values() {
            if stream.session == session {
                let _full_or_gone = stream.outbound.try_send(Ok(SessionResponse {
                    response: Some(ended.clone()),
                }));
            }
        }
        let answers = self.table.end_session(session);
        self.push(answers);
    }

    /// Sends answers on the streams that their operations came on last.
    fn push(&mut self, answers: Vec<table::Push>) {
        for push in answers {
            if let Some(stream) = self.streams.get(&push.stream) {
                let _full_or_gone = stream.outbound.try_send(Ok(SessionResponse {
                    response: Some(Response::Result(push.result)),
                }));
            }
        }
    }
}
