//! Making a new cluster of what is left of one that has lost its majority.
//!
//! It works on the data directories of stopped nodes. For each shard the replica that is furthest is
//! taken, all of its log is applied, and the state becomes a snapshot of a new group of the
//! survivors alone, at a place in the log after all and in a term above all that were seen. The
//! cluster gets a new id, which every message between nodes names: the lost nodes can never take
//! part again.
//!
//! What the lost nodes alone had acknowledged is lost, and nobody can say what that was. So no
//! session is taken over (`lockstep_model::shard`, `succeed.rs`): clients hear that theirs are over,
//! and tokens go on far above. The node starts only when every session that was found would have run
//! out, so that a client knows before anybody else can get its locks.
//!
//! Invariants: nothing is changed before the operator agrees and all that is to be put in place is
//! written; each directory changes as a whole; and a directory in which that is begun and not done
//! does not start. Whatever is interrupted is finished by repeating the command.

pub mod directory;
pub mod mark;
pub mod plan;
mod report;

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use lockstep_model::{ClusterId, Machine, Millis, NodeId, ShardId, Timestamp, query::ClusterView};

use self::{
    directory::Directory,
    mark::{Mark, Stage},
    plan::{Plan, ShardPlan},
};
use crate::{
    clock,
    identity::{Founding, Identity},
    raft::types::{LeaderId, LogId, Membership, PeerAddress, StoredMembership, Vote},
    storage::{Replayed, Staged},
};

/// What is asked for.
#[derive(Debug, clap::Args)]
pub struct Asked {
    /// The data directory of a stopped node; once for each node that is left
    #[arg(long = "data-dir", value_name = "DIR", required = true)]
    pub data_dirs: Vec<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// How results are written
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What is going to be put in place in one directory.
#[derive(Default)]
struct Ready {
    staged: Vec<Staged>,
    dropped: Vec<ShardId>,
}

/// Recovers.
///
/// # Errors
/// If a directory cannot be used, a shard is in none of them, the operator does not agree, or a disk
/// fails. The words say whether anything was changed.
pub async fn run(asked: &Asked) -> anyhow::Result<()> {
    let mut directories = Vec::new();
    for path in &asked.data_dirs {
        directories.push(Directory::open(path).await?);
    }
    let plan = plan::plan(&directories, ClusterId(rand::random()))?;
    let shown = report::Shown::new(&directories, &plan);
    if asked.output == Format::Table {
        say(&shown.table())?;
    }
    if !asked.yes {
        agree()?;
    }
    let (ready, view, longest) = prepare(&directories, &plan)
        .await
        .context("nothing was changed")?;
    let not_before = clock::now().plus(longest);
    put_in_place(&directories, &plan, ready, &view, not_before).await?;
    for one in &directories {
        one.storage.shutdown().await?;
    }
    match asked.output {
        Format::Json => say(&shown.json(not_before)?),
        Format::Table => say(&format!(
            "\nrecovered: cluster {}. Start the nodes of these directories; they serve once clients' old sessions \
             have run out ({} s from now). Empty the directories of all other nodes: they join as new ones.\n",
            plan.new,
            longest.0.div_ceil(1_000)
        )),
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Asks at the terminal.
fn agree() -> anyhow::Result<()> {
    const WORD: &str = "recover";
    if !io::stdin().is_terminal() {
        bail!("nothing was changed: look at the table, then repeat the command with --yes");
    }
    say(&format!(
        "\nThe nodes that are not named here must never run on their old directories again. What only they \
         had acknowledged is lost.\nType {WORD} to go on: "
    ))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    ensure!(answer.trim() == WORD, "nothing was changed");
    Ok(())
}

/// Writes all that is to be put in place, beside what is there. What it is for each directory, the new
/// tables, and the longest TTL of the sessions that were found.
async fn prepare(
    directories: &[Directory],
    plan: &Plan,
) -> anyhow::Result<(Vec<Ready>, ClusterView, Millis)> {
    let mut ready: Vec<Ready> = directories.iter().map(|_| Ready::default()).collect();
    let mut longest = Millis(0);
    // The meta shard comes first: the others' members need its nodes' addresses.
    let mut view: Option<ClusterView> = None;
    for (shard, shard_plan) in &plan.shards {
        let source = directories
            .get(shard_plan.source)
            .context("a plan for other directories")?;
        let replayed = replay(source, *shard).await?;
        longest = longest.max(longest_ttl(&replayed.machine));
        let (machine, last) = if shard_plan.finished {
            (replayed.machine, replayed.last)
        } else {
            let last = LogId {
                leader_id: LeaderId {
                    term: shard_plan.term,
                    node_id: source.identity.node.0,
                },
                index: replayed.last.index.saturating_add(1),
            };
            (succeed(replayed.machine, plan)?, last)
        };
        if let Machine::Meta(meta) = &machine {
            view = meta.cluster();
        }
        let view = view.as_ref().context("the meta shard has no tables")?;
        let membership = membership(view, shard_plan, last)?;
        let state = Bytes::from(machine.snapshot());
        let vote = Vote {
            leader_id: LeaderId {
                term: last.leader_id.term.saturating_add(1),
                node_id: last.leader_id.node_id,
            },
            committed: false,
        };
        for (one, ready) in directories.iter().zip(&mut ready) {
            if one.is_fresh() && plan.resumed {
                continue;
            }
            if shard_plan.voters.contains(&one.identity.node) {
                let staged = one
                    .storage
                    .stage(*shard, last, membership.clone(), state.clone(), vote)
                    .await
                    .with_context(|| format!("shard {shard} in {}", one.path.display()))?;
                ready.staged.push(staged);
            } else {
                ready.dropped.push(*shard);
            }
        }
    }
    let view = view.context("the meta shard has no tables")?;
    Ok((ready, view, longest))
}

async fn replay(source: &Directory, shard: ShardId) -> anyhow::Result<Replayed> {
    let storage = source.storage.clone();
    let replayed = tokio::task::spawn_blocking(move || storage.replay(shard)).await?;
    replayed.with_context(|| {
        format!(
            "shard {shard} in {}: leave the directory out, if others have the shard",
            source.path.display()
        )
    })
}

fn longest_ttl(machine: &Machine) -> Millis {
    match machine {
        Machine::Meta(_) => Millis(0),
        Machine::Data(shard) => shard.longest_ttl().unwrap_or(Millis(0)),
    }
}

/// The state that the new group begins with.
fn succeed(machine: Machine, plan: &Plan) -> anyhow::Result<Machine> {
    Ok(match machine {
        Machine::Meta(meta) => {
            let voters: BTreeMap<ShardId, Vec<NodeId>> = plan
                .shards
                .iter()
                .map(|(shard, shard_plan)| (*shard, shard_plan.voters.clone()))
                .collect();
            Machine::Meta(meta.recovered(plan.new, voters)?)
        }
        Machine::Data(shard) => {
            let above = shard
                .tokens_of_successor()
                .with_context(|| format!("shard {} has given its last tokens", shard.id()))?;
            Machine::Data(shard.successor(above))
        }
    })
}

fn membership(
    view: &ClusterView,
    shard_plan: &ShardPlan,
    last: LogId,
) -> anyhow::Result<StoredMembership> {
    let nodes = view.nodes.iter();
    let nodes: BTreeMap<u64, PeerAddress> = nodes
        .filter(|node| shard_plan.voters.contains(&node.node))
        .map(|node| (node.node.0, PeerAddress(node.peer_address.clone())))
        .collect();
    let voters = shard_plan.voters.iter().map(|node| node.0).collect();
    let membership = Membership::new(vec![voters], nodes)
        .map_err(|error| anyhow::anyhow!("the members do not fit together: {error}"))?;
    Ok(StoredMembership::new(Some(last), membership))
}

/// Marks all directories, then changes one after another.
async fn put_in_place(
    directories: &[Directory],
    plan: &Plan,
    ready: Vec<Ready>,
    view: &ClusterView,
    not_before: Timestamp,
) -> anyhow::Result<()> {
    let unfinished = "the recovery is not finished: repeat the command with the same directories";
    let mark = Mark {
        stage: Stage::Begun,
        old: plan.old,
        new: plan.new,
        not_before,
    };
    let open = || {
        let all = directories.iter();
        all.filter(|one| !(plan.resumed && one.is_fresh()))
    };
    for one in open() {
        let marked = one.storage.put_meta(mark::KEY, &mark.encode()).await;
        marked.context(unfinished)?;
    }
    for (one, ready) in directories.iter().zip(ready) {
        if plan.resumed && one.is_fresh() {
            continue;
        }
        let identity = Identity {
            cluster: plan.new,
            node: one.identity.node,
            state: Founding::Active,
            plan: view.clone(),
        };
        let done = Mark {
            stage: Stage::Done,
            ..mark
        };
        let records = [identity.record(), (mark::KEY, done.encode())];
        one.storage
            .put_in_place(&ready.staged, &ready.dropped, &records)
            .await
            .with_context(|| format!("{}: {unfinished}", one.path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
