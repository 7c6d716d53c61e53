//! `barrier wait`: waiting for others.
//!
//! Invariant: whoever gives up, or dies, has not come: the session ends with this program.

use std::{ffi::OsStr, time::Duration};

use lockstep_client::{AcquireError, Client};

use super::wait::{close, open, until};
use crate::{
    args::Format, child::signals::Signals, exit::Failure, output::Output, row::Passed, span,
};

/// How long a party that has vanished counts as waiting.
const TTL: Duration = Duration::from_secs(10);

/// Waits until all parties do.
pub(crate) async fn wait(
    client: &Client,
    name: String,
    parties: u32,
    timeout: Option<Duration>,
    output: &Output,
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let session = open(client, TTL, OsStr::new("barrier wait")).await?;
    let mut request = session.barrier(name.as_str(), parties);
    if let Some(limit) = timeout {
        request = request.timeout(limit);
    }
    let explain = |error: AcquireError| match (&error, timeout) {
        (AcquireError::WaitTimeout { .. }, Some(limit)) => Failure::NotObtained(format!(
            "{parties} parties did not meet at barrier {name:?} within {}: `lock show {name}` says who waits",
            span::show(limit)
        )),
        _ => error.into(),
    };
    let what = format!("barrier {name:?}");
    let attempt = request.wait();
    let generation = until(&session, attempt, &what, explain, &mut signals, output).await?;
    close(&session, output).await;
    match output.format() {
        Format::Json => output.json(&Passed {
            name,
            generation: generation.0,
        }),
        Format::Table => output.write(&format!("{generation}\n")),
    }
}
