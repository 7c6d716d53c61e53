//! Ports for the nodes, which must be the same again after a restart.
//!
//! Invariant: two harnesses at work at one time never use the same ports, and no port is one that
//! the system gives to outgoing connections: a client could be given a stopped node's port, and the
//! node could not come back.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::ensure;
use rand::Rng;

use super::options::Ports;

/// Most nodes: as many as a block has ports for.
pub(super) const MAX_NODES: usize = 10;
/// Client, peer and HTTP ports of all nodes, and the guard.
const BLOCK: u16 = MAX_NODES as u16 * 3 + 2;
/// Below are well-known ports.
const LOWEST: u16 = 10_240;
/// Where outgoing connections begin on Linux, unless the system says otherwise.
const DEFAULT_HIGHEST: u16 = 32_768;
/// Blocks that are tried before giving up: a machine on which so many are taken has another problem.
const ATTEMPTS: usize = 200;
/// The friendly ports: node n has 7400 + 10 n and the two after it, as the defaults of a real node.
const FRIENDLY: u16 = 7_400;
/// From one node's friendly ports to the next one's.
const FRIENDLY_STEP: u16 = 10;

/// Where one node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAddresses {
    /// For clients.
    pub client: SocketAddr,
    /// For other nodes.
    pub peer: SocketAddr,
    /// For health checks and metrics.
    pub http: SocketAddr,
}

/// Ports that are this cluster's while it lives.
pub struct PortBlock {
    first: u16,
    step: u16,
    /// Held so that no other harness takes the block.
    _guard: Option<TcpListener>,
}

impl PortBlock {
    /// Finds ports for so many nodes.
    ///
    /// # Errors
    /// If there are more nodes than a block has ports for, or no block is free.
    pub fn reserve(ports: Ports, nodes: usize) -> anyhow::Result<Self> {
        ensure!(
            (1..=MAX_NODES).contains(&nodes),
            "{nodes} nodes: 1 to {MAX_NODES} are possible"
        );
        let friendly = Self {
            first: FRIENDLY,
            step: FRIENDLY_STEP,
            _guard: None,
        };
        match ports {
            Ports::Friendly if friendly.is_free(nodes) => Ok(friendly),
            Ports::Friendly | Ports::Free => Self::reserve_any(nodes),
        }
    }

    fn reserve_any(nodes: usize) -> anyhow::Result<Self> {
        let highest = lowest_outgoing().unwrap_or(DEFAULT_HIGHEST);
        let blocks = highest.saturating_sub(LOWEST) / BLOCK;
        ensure!(blocks > 0, "outgoing connections may use all ports");
        for _ in 0..ATTEMPTS {
            let base = LOWEST + BLOCK * rand::rng().random_range(0..blocks);
            let Ok(guard) = TcpListener::bind((Ipv4Addr::LOCALHOST, base)) else {
                continue;
            };
            let block = Self {
                first: base + 1,
                step: 3,
                _guard: Some(guard),
            };
            if block.is_free(nodes) {
                return Ok(block);
            }
        }
        anyhow::bail!("no free block of {BLOCK} ports between {LOWEST} and {highest}")
    }

    /// The ports of a node, from 0.
    #[must_use]
    pub fn node(&self, at: usize) -> NodeAddresses {
        let first = self.first + self.step * at as u16;
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        NodeAddresses {
            client: address(first),
            peer: address(first + 1),
            http: address(first + 2),
        }
    }

    fn is_free(&self, nodes: usize) -> bool {
        (0..nodes).map(|at| self.node(at)).all(|node| {
            [node.client, node.peer, node.http]
                .iter()
                .all(|address| TcpListener::bind(address).is_ok())
        })
    }
}

/// The first port that the system may give to an outgoing connection, where it says so.
fn lowest_outgoing() -> Option<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_share_no_port() {
        let blocks = [(); 8].map(|()| PortBlock::reserve(Ports::Free, MAX_NODES).unwrap());
        let mut ports: Vec<u16> = blocks
            .iter()
            .flat_map(|block| (0..MAX_NODES).map(|at| block.node(at)))
            .flat_map(|node| [node.client, node.peer, node.http])
            .map(|address| address.port())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 8 * MAX_NODES * 3);
        let outgoing = lowest_outgoing().unwrap_or(DEFAULT_HIGHEST);
        assert!(ports.iter().all(|port| *port < outgoing));
    }
}
