//! Points in time that two processes of one machine agree on.
//!
//! Invariant: it is the time since the machine was started, that in which it slept included: what
//! ends while it sleeps has ended when it wakes.

use std::time::Duration;

use nix::{sys::time::TimeSpec, time::ClockId};
use serde::{Deserialize, Serialize};

/// Nanoseconds since the machine was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct BootTime(u64);

impl BootTime {
    /// Now.
    pub(crate) fn now() -> nix::Result<Self> {
        let now = ClockId::CLOCK_BOOTTIME.now()?;
        Ok(Self(0).after(now.into()))
    }

    /// So much later.
    pub(crate) fn after(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// So much earlier.
    pub(crate) fn before(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }

    /// As the system writes it.
    pub(crate) fn to_spec(self) -> TimeSpec {
        Duration::from_nanos(self.0).into()
    }
}
