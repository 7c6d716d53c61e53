//! What servers count themselves: synced writes, log entries, batches.
//!
//! Invariant: a counter that is missing is an error, so that a renamed metric is noticed.

use anyhow::Context;

/// Counts of all servers together, since they were started. Not a number: the peer does not count it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Synced writes of logs.
    pub syncs: f64,
    /// Time spent in them, in seconds.
    pub sync_seconds: f64,
    /// Log entries written, on all replicas.
    pub entries: f64,
    /// Batches of commands that leaders proposed, each a log entry.
    pub batches: f64,
    /// Commands in them.
    pub commands: f64,
}

impl Counters {
    /// What one node of Lockstep says.
    ///
    /// # Errors
    /// If it lacks one of the counters.
    pub fn of_node(metrics: &str) -> anyhow::Result<Self> {
        let get = |name: &str| value(metrics, name).with_context(|| format!("no metric {name}"));
        Ok(Self {
            syncs: get("lockstep_storage_fsyncs")?,
            sync_seconds: get("lockstep_storage_fsync_time_seconds")?,
            entries: get("lockstep_storage_log_entries")?,
            batches: get("lockstep_batch_commands_count")?,
            commands: get("lockstep_batch_commands_sum")?,
        })
    }

    /// What one member of etcd says. Its database is synced besides its log, ten times a second or
    /// every 10,000 writes, which is not counted.
    ///
    /// # Errors
    /// If it lacks one of the counters.
    pub fn of_etcd(metrics: &str) -> anyhow::Result<Self> {
        let get = |name: &str| value(metrics, name).with_context(|| format!("no metric {name}"));
        Ok(Self {
            syncs: get("etcd_disk_wal_fsync_duration_seconds_count")?,
            sync_seconds: get("etcd_disk_wal_fsync_duration_seconds_sum")?,
            entries: f64::NAN,
            batches: f64::NAN,
            commands: f64::NAN,
        })
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, |own, other| own + other)
    }

    /// What was counted since an earlier moment.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        self.with(earlier, |now, then| now - then)
    }

    fn with(self, other: Self, of: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            syncs: of(self.syncs, other.syncs),
            sync_seconds: of(self.sync_seconds, other.sync_seconds),
            entries: of(self.entries, other.entries),
            batches: of(self.batches, other.batches),
            commands: of(self.commands, other.commands),
        }
    }
}

/// The value of a metric without labels in the text format of Prometheus.
fn value(metrics: &str, name: &str) -> Option<f64> {
    let mut lines = metrics.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_counts_of_etcd_are_read() {
        let text = "etcd_disk_wal_fsync_duration_seconds_sum 3.25\n\
                    etcd_disk_wal_fsync_duration_seconds_count 1.234567e+06\n";
        let counters = Counters::of_etcd(text).unwrap();
        assert_eq!((counters.syncs, counters.sync_seconds), (1_234_567.0, 3.25));
    }

    #[test]
    fn metrics_are_found_by_their_whole_names() {
        let text = "# HELP a Something.\n# TYPE a gauge\na_b 1\na 2\na_sum 3.5\n";
        assert_eq!(value(text, "a"), Some(2.0));
        assert_eq!(value(text, "a_sum"), Some(3.5));
        assert_eq!(value(text, "b"), None);
        assert!(Counters::of_node(text).is_err() && Counters::of_etcd(text).is_err());
    }
}
