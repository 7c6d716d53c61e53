//! What signals mean to a node.
//!
//! Invariant: no signal that can be caught ends a node without a line and without the hand-over of its
//! leads. One that was ignored when it started, as `nohup` does it with SIGHUP, stays ignored.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// These ask a process to end.
const STOPPING: [(SignalKind, &str); 4] = [
    (SignalKind::terminate(), "SIGTERM"),
    (SignalKind::interrupt(), "SIGINT"),
    (SignalKind::hangup(), "SIGHUP"),
    (SignalKind::quit(), "SIGQUIT"),
];
/// These would end a process that does not know them, and ask for nothing.
const MEANINGLESS: [(SignalKind, &str); 3] = [
    (SignalKind::user_defined1(), "SIGUSR1"),
    (SignalKind::user_defined2(), "SIGUSR2"),
    (SignalKind::alarm(), "SIGALRM"),
];

/// From now on, cancels `stop` when the process is asked to end.
///
/// # Errors
/// If the system does not let signals be caught.
pub fn stop_on_signals(stop: &CancellationToken) -> io::Result<()> {
    for (kind, name) in STOPPING {
        if is_ignored(kind) {
            continue;
        }
        let (mut signals, stop) = (signal(kind)?, stop.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                tracing::info!(signal = name, "told to stop");
                stop.cancel();
            }
        });
    }
    for (kind, name) in MEANINGLESS {
        let mut signals = signal(kind)?;
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                tracing::info!(signal = name, "this signal means nothing to a node");
            }
        });
    }
    Ok(())
}

/// As Linux tells it; nothing is ignored where it cannot be told.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored(&status) & (1 << (kind.as_raw_value() - 1)) != 0
}

fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_hang_up_stops_in_order_and_a_user_signal_does_nothing() {
        let stop = CancellationToken::new();
        stop_on_signals(&stop).unwrap();
        kill_process(getpid(), Signal::USR1).unwrap();
        kill_process(getpid(), Signal::HUP).unwrap();
        stop.cancelled().await;
    }

    #[test]
    fn what_is_ignored_is_read_from_the_mask() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000000001\n"), 1);
        assert_eq!(ignored("SigCgt:\t0000000000000001\n"), 0);
    }
}
