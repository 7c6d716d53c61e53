//! Why a text is no name of a lock, and no owner.

/// Longest lock name in bytes: names are keys in memory, in the log and in every listing.
pub const MAX_LOCK_NAME_BYTES: usize = 512;
/// Longest owner tag in bytes: a tag names a thread or a task, not a document.
pub const MAX_OWNER_BYTES: usize = 128;
/// How the owners of acquisitions that name none begin; no client may name such a one.
pub const UNNAMED: &str = "~";

/// Why a text is no name of a lock or no owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A lock name has no bytes.
    #[error("a lock name must not be empty: give it 1 to {MAX_LOCK_NAME_BYTES} bytes")]
    Empty,
    /// A lock name is over its bound.
    #[error("a lock name of {len} bytes is too long: at most {MAX_LOCK_NAME_BYTES} are allowed")]
    NameTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// An owner tag is over its bound.
    #[error("an owner tag of {len} bytes is too long: at most {MAX_OWNER_BYTES} are allowed")]
    OwnerTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// An owner tag looks like that of an unnamed acquisition.
    #[error(
        "an owner tag may not begin with {UNNAMED:?}: such are given to acquisitions that name none"
    )]
    OwnerReserved,
}
