//! `node ls`, `drain`, `remove`, `replace` and `activate`.
//!
//! Invariant: a command that waits says how far it is, and what keeps it from going on.

use std::time::Duration;

use lockstep_client::{Client, ClusterStatus, Lifecycle, NodeId, RequestError};
use tokio::time::{Instant, sleep};

use crate::{
    args::{Format, NodeAction, NodeChange},
    command::status::{name, node_table},
    exit::Failure,
    output::Output,
    progress::Progress,
    row::{NodeChanged, NodeList},
};

/// Time between two looks while a command waits.
const LOOK: Duration = Duration::from_millis(500);

/// Does what was asked for.
pub(crate) async fn act(
    client: &Client,
    action: NodeAction,
    output: &Output,
) -> Result<(), Failure> {
    match action {
        NodeAction::Ls => list(client, output).await,
        NodeAction::Drain(change) => {
            let node = find(client, &change.node).await?;
            let revision = client.drain_node(node, change.expected_revision).await?;
            let left = emptied(client, node, &change, output).await?;
            report(
                node,
                revision,
                left,
                "is drained: stop it, then remove it",
                output,
            )
        }
        NodeAction::Replace(change) => {
            let node = find(client, &change.node).await?;
            let revision = client.replace_node(node, change.expected_revision).await?;
            let left = emptied(client, node, &change, output).await?;
            report(node, revision, left, "is replaced: remove it", output)
        }
        NodeAction::Remove(change) => {
            let node = match find(client, &change.node).await {
                // It may be removed already, which the cluster knows.
                Err(_) if change.node.parse::<u64>().is_ok_and(|id| id > 0) => {
                    NodeId(change.node.parse().unwrap_or_default())
                }
                found => found?,
            };
            let revision = client.remove_node(node, change.expected_revision).await?;
            report(node, revision, 0, "is removed", output)
        }
        NodeAction::Activate(change) => {
            let node = find(client, &change.node).await?;
            let revision = client.activate_node(node, change.expected_revision).await?;
            report(node, revision, 0, "is active", output)
        }
    }
}

async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    let status = client.status().await?;
    match output.format() {
        Format::Json => {
            let nodes = status.nodes.iter().map(Into::into).collect();
            output.json(&NodeList { nodes })
        }
        Format::Table => output.write(&node_table(&status).render(output.has_colour())),
    }
}

/// A node by its id or its name; of several of one name the one that is not lost.
pub(crate) async fn find(client: &Client, node: &str) -> Result<NodeId, Failure> {
    let status = client.status().await?;
    let by_id = node.parse().ok().map(NodeId);
    if let Some(known) = status.nodes.iter().find(|known| Some(known.id) == by_id) {
        return Ok(known.id);
    }
    let mut named: Vec<_> = status
        .nodes
        .iter()
        .filter(|known| known.name == node)
        .collect();
    if named.len() > 1 {
        named.retain(|known| known.lifecycle != Lifecycle::Lost);
    }
    match named.as_slice() {
        [known] => Ok(known.id),
        [] => Err(Failure::Other(format!(
            "there is no node {node:?}: `node ls` lists them"
        ))),
        _ => Err(Failure::Other(format!(
            "several nodes are called {node:?}: name one by its id"
        ))),
    }
}

/// Waits until the placement gives a node nothing; how many replicas are left.
async fn emptied(
    client: &Client,
    node: NodeId,
    change: &NodeChange,
    output: &Output,
) -> Result<u32, Failure> {
    let began = Instant::now();
    let mut said = String::new();
    let mut bar = Progress::new();
    loop {
        let (left, words) = match client.status().await {
            Ok(status) => progress(&status, node),
            // It was answered before, and will be again.
            Err(error @ RequestError::Unreachable { .. }) => (u32::MAX, error.to_string()),
            Err(error) => return Err(error.into()),
        };
        if left == 0 || (change.no_wait && left != u32::MAX) {
            return Ok(left);
        }
        if left != u32::MAX {
            bar.left(left, &words);
        } else if words != said {
            output.progress(&words);
        }
        said = words;
        if began.elapsed() > change.timeout {
            return Err(Failure::Other(format!(
                "gave up waiting after {:?}; it goes on without this command. Last: {said}",
                change.timeout
            )));
        }
        sleep(LOOK).await;
    }
}

fn progress(status: &ClusterStatus, node: NodeId) -> (u32, String) {
    let known = status.nodes.iter().find(|known| known.id == node);
    let left = known.map_or(0, |known| known.shards_placed);
    let mut words = format!("{}: {left} replicas left", name(status, node));
    if let Some(obstacle) = status.obstacles.first() {
        words += &format!(" ({obstacle})");
    }
    (left, words)
}

fn report(
    node: NodeId,
    revision: u64,
    shards_placed: u32,
    done: &str,
    output: &Output,
) -> Result<(), Failure> {
    match output.format() {
        Format::Json => output.json(&NodeChanged {
            node_id: node.0,
            revision,
            shards_placed,
        }),
        Format::Table if shards_placed > 0 => output.write(&format!(
            "node {node}: {shards_placed} replicas are to move\n"
        )),
        Format::Table => output.write(&format!("node {node} {done}\n")),
    }
}
