//! Sessions as they are spoken of: what a shard is told and asked about them, and what it answers.
//!
//! What a shard knows of a session, and the rules that it keeps, stand in [`crate::kernel`].

mod command;
mod end_reason;
pub(crate) mod labels;
mod query;
mod reply;
mod touch;

pub use command::{DEFAULT_SESSION_TTL, MAX_SESSION_TTL, MIN_SESSION_TTL, SessionCommand};
pub use end_reason::EndReason;
pub use labels::{Labels, MAX_LABEL_KEY_BYTES, MAX_LABEL_VALUE_BYTES, MAX_LABELS};
pub use query::{MAX_SESSIONS_ASKED, SessionAnswer, SessionQuery, SessionView};
pub use reply::{SessionRefusal, SessionReply};
pub use touch::Touch;
