//! A grant, and from when to when it was certainly in force.
//!
//! Invariant: at every moment in `from..until` the server held the lock for this client, unless it
//! broke its promises. Where that cannot be known, the span is shorter, down to empty.

use std::{collections::HashMap, fmt};

use serde::Serialize;

use super::sessions::Ends;
use crate::history::{
    Acquired, Action, ClientId, Mode, Moment, Operation, Released, Session, SessionEnd, Token,
};

/// A grant that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Whose.
    pub client: ClientId,
    /// In which session.
    pub session: Session,
    /// How.
    pub mode: Mode,
    /// Under which token.
    pub token: Token,
    /// When it was asked for.
    pub invoked: Moment,
    /// When the grant was answered: it is in force.
    pub from: Moment,
    /// Up to when it was certainly in force.
    pub until: Moment,
    /// When its release was acknowledged: it is in force no more.
    pub released: Option<Moment>,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "client {} (session {:016x}) {:?} token {}, asked {}, held {} .. {}",
            self.client.0,
            self.session.0,
            self.mode,
            self.token.0,
            self.invoked,
            self.from,
            self.until
        )?;
        match self.released {
            Some(released) => write!(f, ", released by {released}"),
            None => Ok(()),
        }
    }
}

/// What is known about the end of a hold, before it is weighed.
#[derive(Clone, Copy, Default)]
struct Evidence {
    /// When a release was asked for, and how that ended.
    release: Option<(Moment, Moment, Released)>,
    /// The latest moment at which the server, or the client by its lease, was sure of the hold.
    confirmed: Option<Moment>,
}

/// The holds of one lock, by the time their grant was answered.
pub(super) fn collect(operations: &[&Operation], ends: &Ends) -> Vec<Hold> {
    let mut evidence: HashMap<Token, Evidence> = HashMap::new();
    for operation in operations {
        match operation.action {
            Action::Release { token, outcome } => {
                let release = (operation.invoked, operation.returned, outcome);
                evidence.entry(token).or_default().release = Some(release);
            }
            Action::Validate { token, valid: true } | Action::Access { token, .. } => {
                let confirmed = &mut evidence.entry(token).or_default().confirmed;
                *confirmed = (*confirmed).max(Some(operation.invoked));
            }
            Action::Validate { valid: false, .. } | Action::Acquire { .. } => {}
        }
    }
    let granted = operations.iter().filter_map(|operation| {
        let Action::Acquire { mode, outcome, .. } = operation.action else {
            return None;
        };
        let Acquired::Granted(token) = outcome else {
            return None;
        };
        let evidence = evidence.get(&token).copied().unwrap_or_default();
        Some(weigh(operation, mode, token, evidence, ends))
    });
    let mut holds: Vec<Hold> = granted.collect();
    holds.sort_by_key(|hold| (hold.from, hold.token));
    holds
}

fn weigh(operation: &Operation, mode: Mode, token: Token, evidence: Evidence, ends: &Ends) -> Hold {
    let from = operation.returned;
    let asked = evidence.release.map(|(asked, ..)| asked);
    let done = match evidence.release {
        Some((_, returned, Released::Done)) => Some(returned),
        Some(_) | None => None,
    };
    let until = match (done, ends.get(&operation.session)) {
        // A release that was done under this token shows that it was held until then.
        (Some(_), _) => asked.unwrap_or(from),
        // Of a lost session only what was confirmed is certain.
        (None, Some((_, SessionEnd::Lost))) => evidence.confirmed.unwrap_or(from),
        (None, Some((closed, SessionEnd::Closed))) => asked.unwrap_or(Moment::NEVER).min(*closed),
        (None, None) => asked.unwrap_or(Moment::NEVER),
    };
    Hold {
        client: operation.client,
        session: operation.session,
        mode,
        token,
        invoked: operation.invoked,
        from,
        until: until.max(from),
        released: done,
    }
}
