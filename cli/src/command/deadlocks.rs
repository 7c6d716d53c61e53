//! `deadlocks`: circles of waits that were broken.
//!
//! Invariant: each is told as the cluster saw it.

use lockstep_client::Client;

use crate::{
    args::Format, exit::Failure, output::Output, row::DeadlockList, span::show_age, table::Table,
};

/// Shows the last deadlocks.
pub(crate) async fn show(client: &Client, output: &Output) -> Result<(), Failure> {
    let deadlocks = client.deadlocks().await?;
    if output.format() == Format::Json {
        return output.json(&DeadlockList::from(&deadlocks));
    }
    let mut table = Table::new(["AGO", "VICTIM", "OWNER", "GAVE UP", "CIRCLE"]);
    for deadlock in &deadlocks.last {
        table.row([
            show_age(deadlock.at).into(),
            deadlock.victim.to_string().into(),
            deadlock.victim_owner.as_str().into(),
            deadlock.lock.as_str().into(),
            deadlock.words.as_str().into(),
        ]);
    }
    output.write(&table.render(output.has_colour()))?;
    let shown = deadlocks.last.len();
    output.progress(format_args!(
        "{} in all, the last {shown} are shown",
        deadlocks.count
    ));
    Ok(())
}
