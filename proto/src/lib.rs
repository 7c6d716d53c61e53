//! Generated gRPC types and services, one module a package; see `lockstep/**/*.proto`.
//!
//! Invariant: `gen` is what `make gen` writes, byte for byte; a test compares.

/// Clusters: nodes, shards, leaders.
pub mod cluster {
    /// Version 1.
    pub mod v1 {
        include!("gen/lockstep.cluster.v1.rs");
    }
}

/// Locks and sessions.
pub mod lock {
    /// Version 1.
    pub mod v1 {
        include!("gen/lockstep.lock.v1.rs");
    }
}

/// What nodes say to each other.
pub mod raft {
    /// Version 1.
    pub mod v1 {
        include!("gen/lockstep.raft.v1.rs");
    }
}

/// All of the above as an encoded `FileDescriptorSet`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptors.bin");
