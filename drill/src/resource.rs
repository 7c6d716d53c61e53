//! What the locks of a drill guard: one register a lock, in the harness's memory, that remembers
//! the highest fencing tokens it saw and refuses holders that were replaced.
//!
//! Invariant: after a token has written, no lower one is accepted; after a token has read, no lower
//! one may write (Kleppmann, "How to do distributed locking", 2016).

use parking_lot::Mutex;

use crate::history::{LockId, Mode, Token};

/// The registers of all locks of a run.
#[derive(Debug)]
pub struct Resource {
    registers: Vec<Mutex<Register>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Register {
    /// Of any access.
    highest: Token,
    /// Of writes.
    highest_written: Token,
}

impl Resource {
    /// Registers for locks 0 to `locks` - 1.
    #[must_use]
    pub fn new(locks: usize) -> Self {
        let registers = (0..locks).map(|_| Mutex::default()).collect();
        Self { registers }
    }

    /// What a holder does in its critical section: an exclusive one writes, a shared one reads. False
    /// if its token says that it was replaced.
    #[must_use]
    pub fn access(&self, lock: LockId, mode: Mode, token: Token) -> bool {
        let Some(register) = self.registers.get(lock.0 as usize) else {
            return false;
        };
        let mut register = register.lock();
        let bound = match mode {
            Mode::Exclusive => register.highest,
            Mode::Shared => register.highest_written,
        };
        if token < bound {
            return false;
        }
        register.highest = register.highest.max(token);
        match mode {
            Mode::Exclusive => register.highest_written = token,
            Mode::Shared => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replaced_are_refused_and_readers_of_one_time_are_not() {
        let resource = Resource::new(1);
        let access = |mode, token| resource.access(LockId(0), mode, Token(token));
        assert!(access(Mode::Exclusive, 3));
        assert!(access(Mode::Exclusive, 3));
        assert!(access(Mode::Shared, 5));
        assert!(access(Mode::Shared, 4));
        assert!(!access(Mode::Exclusive, 4));
        assert!(access(Mode::Exclusive, 6));
        assert!(!access(Mode::Shared, 5));
        assert!(!access(Mode::Exclusive, 3));
    }
}
