//! A load on a cluster that somebody else runs, and may break meanwhile: in containers, or far away.
//!
//! Invariant: the verdict is about all that the clients saw, up to and including that every shard
//! grants again when the load is asked to end.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use lockstep_proto::cluster::v1::{GetStatusRequest, cluster_service_client::ClusterServiceClient};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tonic::transport::{Channel, Endpoint};

use super::{
    Outcome,
    exercise::{LOCKS_PER_SHARD, SERVE_LIMIT},
};
use crate::{
    checker::{Expectations, Judge, Verdict, Violation},
    console::say,
    figure::{Figures, Goal},
    history::Moment,
    load::{Arena, Door, Load, LoadOptions},
    poll::{TimedOut, until},
};

/// How long a node may take to answer a question that needs a quorum: an election and a little.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// What is asked of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignOptions {
    /// Nodes to start from, `host:port`; all others are learnt from them.
    pub endpoints: Vec<String>,
    /// How many clients lock and unlock.
    pub clients: usize,
    /// For how long, unless SIGTERM ends it before.
    pub limit: Duration,
    /// Whether a lost session is a violation.
    pub sessions_survive: bool,
    /// From which all that is random is drawn.
    pub seed: u64,
}

/// Lets clients lock and unlock until the time is over or SIGTERM comes; waits until every shard
/// grants; and judges.
///
/// # Errors
/// If there is no cluster that serves to begin with.
pub async fn load(options: ForeignOptions) -> anyhow::Result<Outcome> {
    say(format_args!("load: {options:?}"));
    let mut terminate = signal(SignalKind::terminate())?;
    let channels = options.endpoints.iter().map(|endpoint| channel(endpoint));
    let channels: Vec<Channel> = channels.collect::<Result<_, _>>()?;
    let doors: Vec<Door> = channels.iter().cloned().map(Door::new).collect();
    let shards = data_shards(&channels).await?;
    let first = doors.first().context("no endpoint is given")?.clone();
    let arena = Arc::new(Arena::spread_behind(first, shards, LOCKS_PER_SHARD).await?);
    let how = LoadOptions::new(options.clients, options.seed);
    let load = Load::start(&arena, &options.endpoints, &how);
    serving(&arena, "at first", Moment(0)).await?;
    // Whoever breaks the cluster waits for this line.
    say("every shard grants");

    let begin = arena.recorder.now();
    tokio::select! {
        () = sleep(options.limit) => {}
        _ = terminate.recv() => {}
    }
    let end = arena.recorder.now();
    let served = serving(&arena, "in the end", end).await;
    let gaps = (1..=shards).map(|shard| arena.grants.longest_gap(shard, begin, end));
    let longest_gap = gaps.max().unwrap_or_default();
    let finished = load.finish().await;
    let mut judge = Judge::new(Expectations {
        sessions_survive: options.sessions_survive,
    });
    let mut verdict = judge.judge(&finished.history);
    let failure = finished
        .failure
        .map(|failure| format!("every client can go on: {failure:#}"));
    let unserved = served.err().map(|timed_out| timed_out.to_string());
    for what in failure.into_iter().chain(unserved) {
        verdict.report(Violation::Unmet { what });
    }
    if let Some(left_over) = arena.wait_empty_behind(&doors).await? {
        verdict.report(left_over);
    }

    Ok(Outcome {
        figures: figures(&verdict, end.since(begin), longest_gap),
        verdict,
        kept: None,
    })
}

fn figures(verdict: &Verdict, lasted: Duration, longest_gap: Duration) -> Figures {
    let mut figures = Figures::new("load");
    let counts = verdict.counts;
    let violations = verdict.violation_count as f64;
    figures.judge("violations", violations, "count", Goal::exactly(0.0));
    figures.note("longest_gap", longest_gap.as_secs_f64(), "s");
    figures.note("lasted", lasted.as_secs_f64(), "s");
    figures.note("operations", counts.operations as f64, "count");
    figures.note("grants", counts.grants as f64, "count");
    figures.note("unknown_outcomes", counts.unknown as f64, "count");
    figures.note("refused", counts.refused as f64, "count");
    figures.note("lost_sessions", counts.lost_sessions as f64, "count");
    figures
}

fn channel(endpoint: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{endpoint}"))
        .with_context(|| format!("{endpoint} is not HOST:PORT"))?;
    let endpoint = endpoint.connect_timeout(CALL_LIMIT / 5);
    Ok(endpoint.timeout(CALL_LIMIT).connect_lazy())
}

/// How many data shards there are, as the first node that knows says.
async fn data_shards(channels: &[Channel]) -> Result<u32, TimedOut> {
    until("a node says what the shards are", SERVE_LIMIT, || async {
        let mut last = "no endpoint is given".to_owned();
        for channel in channels {
            let mut client = ClusterServiceClient::new(channel.clone());
            match client.get_status(GetStatusRequest {}).await {
                Ok(status) => {
                    let shards = status.into_inner().shards;
                    // Shard 0 is the cluster's own.
                    return Ok(shards.iter().filter(|shard| shard.shard != 0).count() as u32);
                }
                Err(status) => last = status.to_string(),
            }
        }
        Err(last)
    })
    .await
}

/// Waits until every shard has granted something that was asked for after `since`.
async fn serving(arena: &Arena, when: &str, since: Moment) -> Result<(), TimedOut> {
    let what = format!("every shard grants {when}");
    until(what, SERVE_LIMIT, || async {
        match arena.grants.silent_since(since) {
            silent if silent.is_empty() => Ok(()),
            silent => Err(format!("shards {silent:?} have granted nothing")),
        }
    })
    .await
}
