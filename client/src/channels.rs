//! The one place where connections to nodes are made.
//!
//! Invariant: one connection a node, shared by all that a client does with it; connections to
//! nodes that are neither configured nor in the placement are let go.

use std::collections::{BTreeSet, HashMap};

use lockstep_proto::{
    cluster::v1::cluster_service_client::ClusterServiceClient,
    lock::v1::lock_service_client::LockServiceClient,
};
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use crate::{
    address::Address,
    config::{ClientConfig, MAX_ANSWER_BYTES, PING_INTERVAL, PING_TIMEOUT},
};

/// The connections of a client, made when first used.
#[derive(Debug)]
pub(crate) struct Channels {
    connect_timeout: std::time::Duration,
    open: Mutex<HashMap<Address, Channel>>,
}

impl Channels {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        Self {
            connect_timeout: config.connect_timeout,
            open: Mutex::default(),
        }
    }

    /// The lock service of a node.
    pub(crate) fn locks(&self, address: &Address) -> LockServiceClient<Channel> {
        LockServiceClient::new(self.channel(address)).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The cluster service of a node.
    pub(crate) fn cluster(&self, address: &Address) -> ClusterServiceClient<Channel> {
        ClusterServiceClient::new(self.channel(address)).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Lets go of connections to other nodes than these. Streams in use keep theirs.
    pub(crate) fn keep_only(&self, addresses: &BTreeSet<Address>) {
        self.open
            .lock()
            .retain(|address, _| addresses.contains(address));
    }

    fn channel(&self, address: &Address) -> Channel {
        self.open
            .lock()
            .entry(address.clone())
            .or_insert_with(|| self.connect(address))
            .clone()
    }

    fn connect(&self, address: &Address) -> Channel {
        // An address was parsed as a URI's authority, so it makes a URI again; if that should ever
        // be wrong, the first call on the channel fails and says so.
        Endpoint::from_shared(format!("http://{address}"))
            .unwrap_or_else(|_| Endpoint::from_static("http://invalid.invalid"))
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_lazy()
    }
}
