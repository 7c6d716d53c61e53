//! Making a new cluster of what is left of one that has lost its majority.
//!
//! It works on the data directories of stopped nodes. For each shard the replica that is furthest is
//! taken, all of its log is applied, and the state becomes a snapshot of a new group of the
//! survivors alone, at a place in the log after all and in a term above all that were seen. The
//! cluster gets a new id, which every message between nodes names: the lost nodes can never take
//! part again.
//!
//! What the lost nodes alone had acknowledged is lost, and nobody can say what that was. So no
//! session is taken over (`lockstep_model::locks`, `succeed.rs`): clients hear that theirs are over,
//! and tokens go on far above. The node starts only when every session that was found would have run
//! out, so that a client knows before anybody else can get its locks.
//!
//! Invariants: nothing is changed before the operator agrees and all that is to be put in place is
//! written; each directory changes as a whole; and none of them starts before all of them are
//! changed. Whatever is interrupted is finished by repeating the command. However often it is repeated,
//! nobody gets a lock before the clients of the first cluster know that they have lost theirs.

pub mod directory;
pub mod mark;
pub mod plan;
mod prepare;
mod readable;
mod report;
mod switch;

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    path::PathBuf,
};

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;
use lockstep_model::{ClusterId, Millis, NodeId, Timestamp};

use self::{directory::Directory, switch::Switch};
use crate::clock;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub struct Asked {
    /// The data directory of a stopped node; once for each node that is left
    #[arg(long = "data-dir", value_name = "DIR", required = true)]
    pub data_dirs: Vec<PathBuf>,
    /// A node of a recovery that was interrupted, whose directory is gone since: makes another cluster without
    /// it; once for each
    #[arg(long, value_name = "NODE_ID")]
    pub lost: Vec<u64>,
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
    let lost = asked.lost.iter().copied().map(NodeId).collect();
    let fresh = ClusterId(rand::random());
    let (plan, found) = readable::plan(&mut directories, &lost, fresh).await?;
    let shown = report::Shown::new(&directories, &plan, &found);
    match (asked.output, asked.yes) {
        (Format::Table, _) => say(io::stdout().lock(), &shown.table())?,
        // Standard output is the program's.
        (Format::Json, false) => say(io::stderr().lock(), &shown.table())?,
        (Format::Json, true) => {}
    }
    if !asked.yes {
        agree()?;
    }
    let prepared = prepare::prepare(&directories, &plan);
    let prepared = prepared.await.context("nothing was changed")?;
    let not_before = not_before(&directories, prepared.longest);
    let switch = Switch {
        directories: &directories,
        plan: &plan,
        view: &prepared.view,
        not_before,
    };
    switch.begin().await?;
    for (at, ready) in &prepared.ready {
        switch.place(*at, ready).await?;
    }
    switch.finish().await?;
    for one in &directories {
        one.storage.shutdown().await?;
    }
    let wait = Millis(not_before.0.saturating_sub(clock::now().0));
    let text = match asked.output {
        Format::Json => shown.json(not_before)?,
        Format::Table => format!(
            "\nrecovered: cluster {}. Start the nodes of these directories; they serve once clients' old sessions \
             have run out ({} s from now). Empty the directories of all other nodes: they join as new ones.\n",
            plan.new,
            wait.0.div_ceil(1_000)
        ),
    };
    say(io::stdout().lock(), &text)
}

/// Until when clients of the old cluster may believe in their locks: those whose sessions were found,
/// and those whose sessions an earlier recovery has ended, of which nothing is left but its mark.
fn not_before(directories: &[Directory], longest: Millis) -> Timestamp {
    let marks = directories.iter().filter_map(|one| one.mark);
    let earlier = marks.map(|mark| mark.not_before).max();
    clock::now()
        .plus(longest)
        .max(earlier.unwrap_or(Timestamp(0)))
}

fn say(mut out: impl io::Write, text: &str) -> anyhow::Result<()> {
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Asks at the terminal.
fn agree() -> anyhow::Result<()> {
    const WORD: &str = "recover";
    if !io::stdin().is_terminal() {
        bail!("nothing was changed: look at the table, then repeat the command with --yes");
    }
    let question = format!(
        "\nThe nodes that are not named here must never run on their old directories again. What only they \
         had acknowledged is lost.\nType {WORD} to go on: "
    );
    say(io::stderr().lock(), &question)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    ensure!(answer.trim() == WORD, "nothing was changed");
    Ok(())
}

#[cfg(test)]
mod tests;
