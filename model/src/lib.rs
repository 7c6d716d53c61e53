//! The pure core of Lockstep: state machines that take commands and give replies and effects.
//!
//! Invariant: nothing here reads a clock, draws a random number, does I/O or is async. Time comes
//! inside each [`Batch`]; the same batches in the same order give the same state everywhere, which
//! is what lets replicas, tests and simulations run the very same code.

pub mod applied;
pub mod codec;
pub mod command;
mod cow_map;
pub mod id;
pub mod kernel;
pub mod locks;
pub mod machine;
pub mod meta;
pub mod outcome;
pub mod page;
pub mod placement;
pub mod query;
pub mod queue;
pub mod reply;
pub mod request;
pub mod ring;
pub mod session;
pub mod shard;
pub mod snapshot;
pub mod value;

pub use applied::Applied;
pub use codec::DecodeError;
pub use command::{Batch, Command};
pub use id::{
    ClusterId, FencingToken, LockName, Millis, NodeId, Owner, Party, Priority, Revision, Serial,
    SessionEpoch, SessionId, ShardId, ShardTime, Timestamp, TouchNumber, WaitEpoch,
};
pub use locks::command::LockCommand;
pub use locks::mode::{Mode, Usage};
pub use locks::query::{LockAnswer, LockQuery};
pub use locks::reply::{LockRefusal, LockReply};
pub use machine::Machine;
pub use meta::{MetaAnswer, MetaCommand, MetaQuery, MetaRefusal, MetaReply};
pub use outcome::{Effect, Outcome};
pub use query::{Answer, Query};
pub use reply::{Refusal, Reply};
pub use session::{SessionAnswer, SessionCommand, SessionQuery, SessionRefusal, SessionReply};
pub use value::Value;
