//! How many file descriptors this process may have, and who may have how many of them.
//!
//! Invariant: the shares add up to no more than the limit, so that whatever clients do, the storage
//! can open its files and peers can connect.

use rustix::process::{Resource, getrlimit, setrlimit};

/// For the storage: 256 table files (`storage/engine.rs`), those being written or adopted, three
/// segments of the journal, directories while they are synced, and RocksDB's own logs.
const STORAGE: u64 = 320;
/// For the process itself: its log, timers, signals, and the three listeners.
const PROCESS: u64 = 32;
/// Connections for health checks and metrics: a scraper, a kubelet and a person need few.
const HTTP: u64 = 64;
/// Peers get an eighth of the limit each way, within these. A node has one connection each way
/// with each other node, one more while it starts, and old ones until they are noticed to be dead.
const PEERS: std::ops::RangeInclusive<u64> = 64..=2_048;
/// Most connections of clients: each costs some 50 KiB.
const MOST_CLIENTS: u64 = 65_536;
/// Below it, too little is left for clients to be of use.
const LEAST: u64 = 640;
/// Below it, a node serves, but fewer clients than one might expect.
const ENOUGH: u64 = 4_096;

/// How many connections each listener may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Of clients.
    pub clients: usize,
    /// From peers. As many again are reserved for those to peers.
    pub peers: usize,
    /// For health checks and metrics.
    pub http: usize,
}

/// Why a node cannot start with its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {limit} open files; a node needs {LEAST} at least, and {ENOUGH} to serve \
     some thousand clients: raise the limit (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile of \
     a container)"
)]
pub struct TooFew {
    limit: u64,
}

/// Raises this process's limit as far as it may, and divides it.
///
/// # Errors
/// If the limit is too low for a node.
pub fn claim() -> Result<Shares, TooFew> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let mut raised = limit;
        raised.current = limit.maximum;
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit = raised,
            Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
        }
    }
    let limit = limit.current.unwrap_or(u64::MAX);
    let shares = share(limit)?;
    if limit < ENOUGH {
        tracing::warn!(
            limit,
            clients = shares.clients,
            "few open files are allowed: raise the limit to {ENOUGH} or more to serve more clients"
        );
    } else {
        tracing::debug!(limit, ?shares, "open files");
    }
    Ok(shares)
}

fn share(limit: u64) -> Result<Shares, TooFew> {
    if limit < LEAST {
        return Err(TooFew { limit });
    }
    let peers = (limit / 8).clamp(*PEERS.start(), *PEERS.end());
    let others = STORAGE + PROCESS + HTTP + 2 * peers;
    let clients = limit.saturating_sub(others).min(MOST_CLIENTS);
    let count = |share: u64| usize::try_from(share).unwrap_or(usize::MAX);
    Ok(Shares {
        clients: count(clients),
        peers: count(peers),
        http: count(HTTP),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_fit_into_the_limit() {
        for limit in [LEAST, 1_024, ENOUGH, 20_000, 1 << 20, u64::MAX] {
            let shares = share(limit).unwrap();
            let sum = STORAGE + PROCESS + (shares.clients + 2 * shares.peers + shares.http) as u64;
            assert!(sum <= limit, "{limit}: {shares:?}");
            assert!(shares.clients >= 64, "{limit}: {shares:?}");
        }
        assert_eq!(share(LEAST - 1), Err(TooFew { limit: LEAST - 1 }));
        let few = TooFew { limit: 256 }.to_string();
        assert!(few.contains("256") && few.contains("LimitNOFILE"), "{few}");
    }
}
