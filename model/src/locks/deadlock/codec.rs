//! The encodings of circles of waits.
//!
//! Invariant: fields come in the order of their declaration.

use super::{Blocked, Deadlock, Edge, Holds, Waits};
use crate::codec::{Decode, DecodeError, Encode, Reader, fields};

fields!(Blocked { wait, holders });
fields!(Waits {
    party,
    priority,
    opened,
    shard,
    serial,
    epoch,
    name
});
fields!(Holds { party, token });
fields!(Edge { wait, holder });
fields!(Deadlock {
    at,
    victim,
    name,
    cycle
});
