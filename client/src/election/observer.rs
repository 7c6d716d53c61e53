//! Who leads, as it changes.
//!
//! Invariant: what is told is who led at some moment, each time another answer than before; after an
//! interruption it goes on with who leads then.

use lockstep_model::{
    id::{FencingToken, SessionId},
    locks::{change::ChangeKind, mode::Mode},
};

use crate::{
    error::RequestError,
    watch::{Change, Watch, WatchEvent},
};

/// The leader of an election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its session.
    pub session: SessionId,
    /// Which of the session's owners.
    pub owner: String,
    /// The token that it leads under: greater than those of all leaders before.
    pub token: FencingToken,
    /// What it says.
    pub value: Vec<u8>,
}

/// Tells who leads an election; made by [`crate::Client::observe`].
#[derive(Debug)]
pub struct Observer {
    watch: Watch,
    leader: Option<Leader>,
    /// Whether `leader` is the whole truth: not while the present holders are being told.
    settled: bool,
    /// What was told last.
    told: Option<Option<Leader>>,
}

impl Observer {
    pub(crate) const fn new(watch: Watch) -> Self {
        Self {
            watch,
            leader: None,
            settled: false,
            told: None,
        }
    }

    /// The present leader, at the first call; after that, the next change of it or of what it says.
    /// None while nobody leads. It may be late, so it is no proof: that is [`crate::Client::validate`].
    /// May be dropped and called again: nothing is missed.
    ///
    /// # Errors
    /// If the cluster refuses to be watched. If it does not answer, it is asked again and again.
    pub async fn next(&mut self) -> Result<Option<Leader>, RequestError> {
        loop {
            match self.watch.next().await? {
                WatchEvent::OtherCluster { .. } | WatchEvent::Began { .. } => {
                    self.leader = None;
                    self.settled = false;
                }
                WatchEvent::Changed(change) => self.learn(change),
                WatchEvent::Current { .. } => self.settled = true,
                WatchEvent::Interrupted { .. } | WatchEvent::Resumed => {}
            }
            if self.settled && self.told.as_ref() != Some(&self.leader) {
                self.told = Some(self.leader.clone());
                return Ok(self.leader.clone());
            }
        }
    }

    fn learn(&mut self, change: Change) {
        let is_over = matches!(change.kind, Some(ChangeKind::Released) | None);
        if change.mode == Some(Mode::Exclusive) && !is_over {
            self.leader = Some(Leader {
                session: change.session,
                owner: change.owner,
                token: change.token,
                value: change.value,
            });
        } else {
            self.leader.take_if(|leader| leader.token == change.token);
        }
    }
}
