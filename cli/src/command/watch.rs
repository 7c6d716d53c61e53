//! `watch`: who holds what, as it changes.
//!
//! Invariant: one line a change; and where changes may have been missed, that is said before
//! anything else.

use lockstep_client::{Change, Client, Target, WatchEvent};

use crate::{
    args::Format,
    command::lock::mode_in_words,
    exit::Failure,
    output::Output,
    row::{Event, kind},
    table::printable,
};

/// Tells changes until the output is closed, or this program is ended.
pub(crate) async fn watch(
    client: &Client,
    name: Option<String>,
    prefix: Option<String>,
    output: &Output,
) -> Result<(), Failure> {
    let target = match name {
        Some(name) => Target::Name(name),
        None => Target::Prefix(prefix.unwrap_or_default()),
    };
    let mut watch = client.watch(target, [])?;
    loop {
        let event = watch.next().await?;
        match output.format() {
            Format::Json => output.json_line(&Event::from(&event))?,
            Format::Table => tell(&event, output)?,
        }
    }
}

fn tell(event: &WatchEvent, output: &Output) -> Result<(), Failure> {
    match event {
        WatchEvent::Changed(change) => output.write(&line(change))?,
        WatchEvent::OtherCluster { cluster } => output.hint(format_args!(
            "this is another cluster now ({cluster}): nothing from before is held; its present holders follow"
        )),
        WatchEvent::Began {
            shard,
            history_lost: true,
        } => output.hint(format_args!(
            "changes in shard {shard} were missed: its present holders follow"
        )),
        WatchEvent::Interrupted { cause } => output.hint(format_args!(
            "no node serves the watch ({cause}): trying again"
        )),
        WatchEvent::Resumed => output.hint("the watch goes on"),
        WatchEvent::Began {
            history_lost: false,
            ..
        }
        | WatchEvent::Current { .. } => {}
    }
    Ok(())
}

fn line(change: &Change) -> String {
    let mut line = format!(
        "{:<10}  {}  {}  token {}  session {}",
        kind(change.kind),
        printable(&change.name),
        mode_in_words(change.mode),
        change.token,
        change.session,
    );
    if !change.owner.is_empty() {
        line += &format!("  owner {}", printable(&change.owner));
    }
    if !change.value.is_empty() {
        let value = String::from_utf8_lossy(&change.value);
        line += &format!("  says {}", printable(&value));
    }
    line + "\n"
}
