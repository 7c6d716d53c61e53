//! `status`: nodes, shards, leaders, lag.

use std::time::Duration;

use lockstep_client::{Client, ClusterStatus, Lifecycle, NodeId, NodeStatus, ShardStatus};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    args::Format,
    exit::Failure,
    output::Output,
    row::{ShardList, Status},
    table::{Cell, Table, printable},
};

/// Time between two looks of `--watch`: people do not read faster.
const REFRESH: Duration = Duration::from_secs(1);
/// Clears the terminal once, before the first look.
const CLEAR: &str = "\x1b[2J";
/// Goes to the top left, so that the next look is written over the last one.
const HOME: &str = "\x1b[H";
/// Clears what the last look left behind the end of a line.
const CLEAR_LINE: &str = "\x1b[K";
/// Clears what the last look left below.
const CLEAR_BELOW: &str = "\x1b[J";

/// Shows the cluster once, or every second.
pub(crate) async fn show(client: &Client, watch: bool, output: &Output) -> Result<(), Failure> {
    if !watch {
        let status = client.status().await?;
        return match output.format() {
            Format::Json => output.json(&Status::from(&status)),
            Format::Table => output.write(&in_words(&status, output.has_colour())),
        };
    }
    let in_place = output.is_terminal() && output.format() == Format::Table;
    if in_place {
        output.write(CLEAR)?;
    }
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match (client.status().await, output.format()) {
            (Ok(status), Format::Json) => output.json_line(&Status::from(&status))?,
            (Ok(status), Format::Table) => {
                let text = in_words(&status, output.has_colour());
                output.write(&if in_place { over(&text) } else { text + "\n" })?;
            }
            // It may come back: that is what one watches for.
            (Err(error), Format::Table) if in_place => {
                output.write(&over(&format!("{error}\n")))?;
            }
            (Err(error), Format::Json | Format::Table) => output.hint(error),
        }
    }
}

/// Text that replaces what is on the terminal.
fn over(text: &str) -> String {
    let lines = text.replace('\n', &format!("{CLEAR_LINE}\n"));
    format!("{HOME}{lines}{CLEAR_BELOW}")
}

/// Lists the shards.
pub(crate) async fn shards(client: &Client, output: &Output) -> Result<(), Failure> {
    let status = client.status().await?;
    match output.format() {
        Format::Json => {
            let shards = status.shards.iter().map(Into::into).collect();
            output.json(&ShardList { shards })
        }
        Format::Table => output.write(&shard_table(&status).render(output.has_colour())),
    }
}

fn in_words(status: &ClusterStatus, colour: bool) -> String {
    let mut text = format!(
        "cluster {}, as {} sees it\n\n{}\n{}",
        printable(&status.cluster_id),
        printable(&name(status, status.answered_by)),
        node_table(status).render(colour),
        shard_table(status).render(colour),
    );
    for node in &status.nodes {
        if let Some(why) = &node.not_ready {
            let name = printable(&name(status, node.id));
            text += &format!("\n{name} is not ready: {}\n", printable(why));
        } else if let Some(words) = &node.disk_low {
            let name = printable(&name(status, node.id));
            text += &format!("\n{name}: {}\n", printable(words));
        }
    }
    if !status.obstacles.is_empty() {
        text += "\nthe placement waits for:\n";
    }
    for obstacle in &status.obstacles {
        text += &format!("  {}\n", printable(obstacle));
    }
    text
}

/// The nodes, a row each.
pub(crate) fn node_table(status: &ClusterStatus) -> Table {
    let mut nodes = Table::new([
        "NODE", "NAME", "STATE", "LEADS", "HOLDS", "CLIENTS", "PEERS", "ZONE", "VERSION",
    ]);
    for node in &status.nodes {
        nodes.row([
            node.id.0.into(),
            node.name.as_str().into(),
            state(node),
            node.shards_led.into(),
            node.shards_placed.into(),
            node.client_address.as_str().into(),
            node.peer_address.as_str().into(),
            dash(&node.zone).into(),
            node.version.as_str().into(),
        ]);
    }
    nodes
}

fn shard_table(status: &ClusterStatus) -> Table {
    let mut shards = Table::new([
        "SHARD",
        "LEADER",
        "TERM",
        "LAST",
        "COMMITTED",
        "LAG",
        "REPLICAS",
    ]);
    for shard in &status.shards {
        let lag = shard.replicas.iter().map(|replica| replica.lag).max();
        let leader = shard.leader;
        shards.row([
            if shard.id.0 == 0 {
                "meta".into()
            } else {
                shard.id.0.into()
            },
            leader.map_or_else(|| Cell::bad("none"), |leader| name(status, leader).into()),
            shard.term.into(),
            shard.last_index.into(),
            shard.committed_index.into(),
            lag.unwrap_or(0).into(),
            replicas(status, shard).into(),
        ]);
    }
    shards
}

fn state(node: &NodeStatus) -> Cell {
    match (node.lifecycle, node.reachable, node.ready) {
        (Lifecycle::Lost, ..) => Cell::bad("lost"),
        (_, false, _) => Cell::bad("unreachable"),
        (_, true, false) => Cell::bad("not ready"),
        (Lifecycle::Draining, true, true) => "draining".into(),
        (Lifecycle::Active | Lifecycle::Unknown, true, true) => "ready".into(),
    }
}

/// A node's name, or what it is called where it has none.
pub(crate) fn name(status: &ClusterStatus, id: NodeId) -> String {
    let node = status.nodes.iter().find(|node| node.id == id);
    match node.map(|node| node.name.as_str()) {
        Some(name) if !name.is_empty() => name.to_owned(),
        Some(_) | None => format!("node {id}"),
    }
}

/// The nodes of a shard; the lag of those that are behind.
fn replicas(status: &ClusterStatus, shard: &ShardStatus) -> String {
    let replicas: Vec<String> = shard
        .replicas
        .iter()
        .map(|replica| {
            let mut text = name(status, replica.node);
            if !replica.voter {
                text += " (learner)";
            }
            if replica.lag > 0 {
                text += &format!(" (-{})", replica.lag);
            }
            text
        })
        .collect();
    replicas.join(", ")
}

const fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
