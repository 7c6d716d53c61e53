//! Watching the fake.
//!
//! Invariant: present holders come first, in messages without a revision; then every change, once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use lockstep_proto::lock::v1::{
    Change, ChangeKind, WatchRequest, WatchResponse, watch_request::Target,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{Node, status};
use crate::fake::{SHARDS, STREAM_QUEUE, Shared, State, history::change};

/// What is told.
pub(super) type Told = ReceiverStream<Result<WatchResponse, Status>>;

struct Teller {
    shared: Arc<Shared>,
    target: Target,
    /// Up to where each shard was told.
    told: BTreeMap<u32, u64>,
    /// Whether it is to go on where another cluster was.
    is_stranger: bool,
    stream: mpsc::Sender<Result<WatchResponse, Status>>,
}

impl Node {
    /// Begins a watch.
    pub(super) fn tell(&self, request: WatchRequest) -> Told {
        let (stream, told) = mpsc::channel(STREAM_QUEUE);
        let mut state = self.shared.state.lock();
        state.watches.push((self.node, request.clone()));
        let target = request.target.unwrap_or(Target::Prefix(String::new()));
        let after = request.after.iter();
        let own = self.shared.placement.borrow().cluster_id.clone();
        let teller = Teller {
            shared: Arc::clone(&self.shared),
            target,
            is_stranger: request.after.iter().any(|at| at.cluster_id != own),
            told: after.map(|at| (at.shard, at.revision)).collect(),
            stream,
        };
        let task = tokio::spawn(teller.run()).abort_handle();
        state.watchers.push((self.node, task));
        drop(state);
        self.shared.changed();
        ReceiverStream::new(told)
    }
}

impl Teller {
    async fn run(mut self) {
        let mut changes = self.shared.changes.subscribe();
        loop {
            let shared = Arc::clone(&self.shared);
            let told = self.tell(&mut shared.state.lock());
            if told.is_none() || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells what is new; none if nobody listens any more, or the watch cannot go on.
    fn tell(&mut self, state: &mut State) -> Option<()> {
        if self.is_stranger {
            self.compacted(HashMap::new());
            return None;
        }
        let shards = match &self.target {
            Target::Name(name) => {
                let shard = state.table.history.shard_of(name);
                shard..=shard
            }
            Target::Prefix(_) => 1..=SHARDS,
        };
        for shard in shards {
            let latest = state.table.history.latest(shard);
            let Some(told) = self.told.insert(shard, latest) else {
                let present = self.present(state, shard);
                if !present.is_empty() {
                    self.send(shard, 0, present)?;
                    if state.cut_tellings > 0 {
                        state.cut_tellings -= 1;
                        return None;
                    }
                }
                self.send(shard, latest, Vec::new())?;
                continue;
            };
            let Some(mut changes) = state.table.history.after(shard, told) else {
                self.compacted(HashMap::from([("shard".to_owned(), shard.to_string())]));
                return None;
            };
            changes.retain(|change| self.takes(&change.name));
            if !changes.is_empty() {
                self.send(shard, latest, changes)?;
            }
        }
        Some(())
    }

    fn present(&self, state: &State, shard: u32) -> Vec<Change> {
        let history = &state.table.history;
        let names = state.table.names().into_iter();
        names
            .filter(|name| self.takes(name) && history.shard_of(name) == shard)
            .flat_map(|name| {
                let holders = state.table.holders(&name).iter();
                let latest = history.latest(shard);
                let present = |hold| change(ChangeKind::Present, latest, &name, hold);
                holders.map(present).collect::<Vec<_>>()
            })
            .collect()
    }

    fn takes(&self, name: &str) -> bool {
        match &self.target {
            Target::Name(own) => own == name,
            Target::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }

    fn compacted(&self, facts: HashMap<String, String>) {
        let words = "the changes are forgotten";
        let compacted = status(Code::OutOfRange, "WATCH_COMPACTED", words, facts);
        let _nobody = self.stream.try_send(Err(compacted));
    }

    fn send(&self, shard: u32, revision: u64, changes: Vec<Change>) -> Option<()> {
        let message = WatchResponse {
            shard,
            revision,
            changes,
            cluster_id: self.shared.placement.borrow().cluster_id.clone(),
        };
        self.stream.try_send(Ok(message)).ok()
    }
}
