//! What the clients of one measurement want.
//!
//! Invariant: a scenario says the same to every peer; where a peer lacks something, the peer says
//! what it does instead, not the scenario.

use std::{fmt, str::FromStr};

use crate::peer::{Access, Lock};

/// Of so many turns one is a writer's.
const TURNS_PER_WRITE: u64 = 10;
/// Clients' turns at writing are apart by this, so that they do not all write at once. Coprime with
/// [`TURNS_PER_WRITE`].
const WRITE_STRIDE: u64 = 7;

/// Who wants what. Written as `distinct:256`, `hot:16` or `rw:64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// So many clients, each with locks that no other wants.
    Distinct(usize),
    /// So many clients that all want the same lock.
    Hot(usize),
    /// So many clients that all want the same lock, nine times of ten for reading only.
    ReadersWriters(usize),
}

impl Scenario {
    /// How many clients it has.
    #[must_use]
    pub const fn clients(self) -> usize {
        match self {
            Self::Distinct(clients) | Self::Hot(clients) | Self::ReadersWriters(clients) => clients,
        }
    }

    /// What it is, for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Distinct(_) => "distinct locks",
            Self::Hot(_) => "one hot lock",
            Self::ReadersWriters(_) => "one lock, 9 read : 1 writes",
        }
    }

    /// What its figures' names begin with, after the peer's.
    #[must_use]
    pub fn figure_prefix(self) -> String {
        match self {
            Self::Distinct(clients) => clients.to_string(),
            Self::Hot(clients) => format!("hot_{clients}"),
            Self::ReadersWriters(clients) => format!("rw_{clients}"),
        }
    }

    /// What a client asks for in one of its turns.
    #[must_use]
    pub const fn wanted(self, client: usize, turn: u64) -> (Lock, Access) {
        match self {
            Self::Distinct(_) => (Lock::Own(turn), Access::Exclusive),
            Self::Hot(_) => (Lock::Hot, Access::Exclusive),
            Self::ReadersWriters(_) => {
                let place = turn.wrapping_add(WRITE_STRIDE.wrapping_mul(client as u64));
                match place % TURNS_PER_WRITE {
                    0 => (Lock::Hot, Access::Exclusive),
                    _ => (Lock::Hot, Access::Shared),
                }
            }
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Distinct(_) => "distinct",
            Self::Hot(_) => "hot",
            Self::ReadersWriters(_) => "rw",
        };
        write!(f, "{kind}:{}", self.clients())
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(kind, clients)| {
            let clients = clients.parse().ok().filter(|clients| *clients > 0)?;
            match kind {
                "distinct" => Some(Self::Distinct(clients)),
                "hot" => Some(Self::Hot(clients)),
                "rw" => Some(Self::ReadersWriters(clients)),
                _ => None,
            }
        });
        parsed.ok_or_else(|| {
            "write distinct:CLIENTS, hot:CLIENTS or rw:CLIENTS, with one client or more".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_read_as_they_are_written() {
        for text in ["distinct:1", "hot:16", "rw:64"] {
            assert_eq!(text.parse::<Scenario>().unwrap().to_string(), text);
        }
        for text in ["hot", "hot:0", "cold:1", "hot:-1"] {
            assert!(text.parse::<Scenario>().is_err(), "{text}");
        }
    }

    #[test]
    fn one_turn_in_ten_writes_and_clients_do_not_write_in_step() {
        let scenario = Scenario::ReadersWriters(10);
        let writes = |client, turn| scenario.wanted(client, turn).1 == Access::Exclusive;
        for client in 0..10 {
            assert_eq!((0..100).filter(|turn| writes(client, *turn)).count(), 10);
        }
        for turn in 0..10 {
            assert_eq!((0..10).filter(|client| writes(*client, turn)).count(), 1);
        }
    }
}
