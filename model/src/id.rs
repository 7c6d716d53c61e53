//! Every identifier and unit that crosses a module boundary, each a type of its own.
//!
//! Invariant: a value of a validated type ([`LockName`], [`Owner`]) is within its bounds wherever
//! it is found, because its constructor is the only way to it.

mod codec;
pub(crate) mod name_error;

use std::{fmt, str::FromStr, sync::Arc};

pub use name_error::{MAX_LOCK_NAME_BYTES, MAX_OWNER_BYTES, NameError, UNNAMED};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A server process, for as long as it keeps its data directory. Given by the meta shard; never 0, never reused.
    NodeId(u64)
}
number! {
    /// A Raft group and its slice of the key space. Shard 0 is the meta shard.
    ShardId(u32)
}
number! {
    /// A span of time in milliseconds.
    Millis(u64)
}
number! {
    /// Unix time in milliseconds, as the leader that wrote a batch saw it. For people to read: nothing
    /// is decided by it.
    Timestamp(u64)
}
number! {
    /// A shard's own time: the milliseconds that its leaders have counted since it was made, each by
    /// its own monotonic clock, going on where the one before stopped. It never goes back, never runs
    /// faster than those clocks, and stands still while nobody counts. Not comparable with another
    /// shard's.
    ShardTime(u64)
}
number! {
    /// The number of a touch in its home: a home gives each once, in ascending order. See
    /// [`crate::session`].
    TouchNumber(u64)
}
number! {
    /// Grows with every grant of a lock, for ever: a resource that remembers the highest it saw
    /// can refuse a holder that was replaced (Kleppmann, "How to do distributed locking", 2016).
    FencingToken(u64)
}
number! {
    /// How often a session was resumed; 1 when new.
    SessionEpoch(u64)
}
number! {
    /// In a deadlock the lowest priority gives way.
    Priority(i32)
}
number! {
    /// The number of an operation in its session, used once.
    Serial(u64)
}
number! {
    /// The number of a wait in its shard, never given twice: who names it means that wait and none
    /// that came later under the same serial.
    WaitEpoch(u64)
}
number! {
    /// The number of a change of a shard's holders: where a watch goes on.
    Revision(u64)
}

impl ShardId {
    /// The shard that holds the node registry and the placement table.
    pub const META: Self = Self(0);
}

impl Timestamp {
    /// This time plus a span, saturating.
    #[must_use]
    pub const fn plus(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The span from `earlier` to this time; zero if it is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl ShardTime {
    /// This time plus a span, saturating.
    #[must_use]
    pub const fn plus(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// This time less a span; the beginning if that is longer.
    #[must_use]
    pub const fn minus(self, span: Millis) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// The span from `earlier` to this time; zero if it is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl TouchNumber {
    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl FencingToken {
    /// The token after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl WaitEpoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl SessionEpoch {
    /// The epoch of a new session.
    pub const FIRST: Self = Self(1);

    /// The epoch after a resume.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Serial {
    /// Serials from here up are given by nodes to requests whose client named none. Their answers
    /// are not kept once given.
    pub const FIRST_EPHEMERAL: Self = Self(1 << 63);

    /// True for a serial that a node gave.
    #[must_use]
    pub const fn is_ephemeral(self) -> bool {
        self.0 >= Self::FIRST_EPHEMERAL.0
    }
}

/// A client's leased identity: random, never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A cluster's identity: 16 random bytes, made when it is founded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text is no cluster's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cluster's id has 32 hexadecimal digits")]
pub struct ClusterIdError;

impl FromStr for ClusterId {
    type Err = ClusterIdError;

    /// Reads what [`ClusterId`]'s `Display` writes.
    fn from_str(text: &str) -> Result<Self, ClusterIdError> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).map_err(|_| ClusterIdError)?;
        is_hex
            .then_some(Self(number.to_be_bytes()))
            .ok_or(ClusterIdError)
    }
}

/// A lock's name: 1 to [`MAX_LOCK_NAME_BYTES`] bytes of UTF-8. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockName(Arc<str>);

impl LockName {
    /// Checks the bounds.
    ///
    /// # Errors
    /// If the text is empty or over [`MAX_LOCK_NAME_BYTES`].
    pub fn new(text: &str) -> Result<Self, NameError> {
        match text.len() {
            0 => Err(NameError::Empty),
            len if len > MAX_LOCK_NAME_BYTES => Err(NameError::NameTooLong { len }),
            _ => Ok(Self(text.into())),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tells holders of one session apart, for re-entrance: 0 to [`MAX_OWNER_BYTES`] bytes. Cheap to clone.
///
/// An empty one stands for nobody else: the acquisition that has it gets an owner of its own, by its
/// serial ([`Owner::or_of`]), so that two unnamed acquisitions exclude each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(Arc<str>);

impl Owner {
    /// Checks the bound.
    ///
    /// # Errors
    /// If the text is over [`MAX_OWNER_BYTES`].
    pub fn new(text: &str) -> Result<Self, NameError> {
        match text.len() {
            len if len > MAX_OWNER_BYTES => Err(NameError::OwnerTooLong { len }),
            _ => Ok(Self(text.into())),
        }
    }

    /// As [`Owner::new`], of an owner that a client names: not one that looks like those which unnamed
    /// acquisitions get.
    ///
    /// # Errors
    /// If the text is over [`MAX_OWNER_BYTES`], or begins with [`UNNAMED`].
    pub fn named(text: &str) -> Result<Self, NameError> {
        if text.starts_with(UNNAMED) {
            return Err(NameError::OwnerReserved);
        }
        Self::new(text)
    }

    /// Itself, or the owner of an unnamed acquisition: the same in every shard and for every
    /// repetition, and no other acquisition's.
    #[must_use]
    pub fn or_of(self, serial: Serial) -> Self {
        if self.0.is_empty() {
            Self(format!("{UNNAMED}{serial}").into())
        } else {
            self
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who holds or waits: an owner of a session. It stands for one thread of control, which while it
/// waits gives nothing back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Party {
    /// The session.
    pub session: SessionId,
    /// Which of its owners.
    pub owner: Owner,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.session)?;
        match self.owner.as_str() {
            "" => Ok(()),
            owner => write!(f, " ({owner})"),
        }
    }
}
