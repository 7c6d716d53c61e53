//! What applying a batch gave, of whatever machine.

use crate::{
    locks::change::Change,
    outcome::{Effect, Outcome},
};

/// What applying a batch gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// One for each command, in order.
    pub outcomes: Vec<Outcome>,
    /// What the leader now does, in order.
    pub effects: Vec<Effect>,
    /// What those who watch are told, by every replica, in order.
    pub changes: Vec<Change>,
}
