//! `leader transfer`.

use lockstep_client::{Client, ShardId};

use crate::{
    args::Format, command::node::find, exit::Failure, output::Output, row::LeadsTransferred,
};

/// Has a node hand leads over.
pub(crate) async fn transfer(
    client: &Client,
    node: &str,
    shard: Option<u32>,
    to: Option<&str>,
    output: &Output,
) -> Result<(), Failure> {
    let node = find(client, node).await?;
    let to = match to {
        Some(to) => Some(find(client, to).await?),
        None => None,
    };
    let done = client
        .transfer_leaders(node, shard.map(ShardId), to)
        .await?;
    let numbers = |shards: &[ShardId]| shards.iter().map(|shard| shard.0).collect::<Vec<_>>();
    let (transferred, kept) = (numbers(&done.transferred), numbers(&done.kept));
    match output.format() {
        Format::Json => output.json(&LeadsTransferred {
            transferred,
            kept: kept.clone(),
        })?,
        Format::Table => output.write(&format!(
            "node {node} handed over {} leads\n",
            transferred.len()
        ))?,
    }
    if kept.is_empty() {
        Ok(())
    } else {
        Err(Failure::Other(format!(
            "nobody took over the leads of shards {kept:?}: see `status` for who lags behind"
        )))
    }
}
