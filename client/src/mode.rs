//! Modes as they are on the wire.
//!
//! Invariant: a mode that the server did not say, or not whole, is none.

use lockstep_model::locks::mode::Mode;
use lockstep_proto::lock::v1::{LockMode, LockSpec};

/// A lock as it is asked for.
pub(crate) fn spec(name: String, mode: Mode) -> LockSpec {
    let (mode, permits, size) = match mode {
        Mode::Shared => (LockMode::Shared, 0, 0),
        Mode::Exclusive => (LockMode::Exclusive, 0, 0),
        Mode::Permits { count, of } => (LockMode::Semaphore, count, of),
        Mode::Meet { parties } => (LockMode::Barrier, 0, parties),
    };
    LockSpec {
        name,
        mode: mode.into(),
        permits,
        size,
    }
}

/// The mode that three fields of the wire make; none where the server did not set it.
pub(crate) const fn mode_of(mode: LockMode, permits: u32, size: u32) -> Option<Mode> {
    match mode {
        LockMode::Unspecified => None,
        LockMode::Shared => Some(Mode::Shared),
        LockMode::Exclusive => Some(Mode::Exclusive),
        LockMode::Semaphore => Some(Mode::Permits {
            count: permits,
            of: size,
        }),
        LockMode::Barrier => Some(Mode::Meet { parties: size }),
    }
}
