//! What all steps use: narration, and programs with sessions of their own.

use std::time::Duration;

use anyhow::{bail, ensure};
use lockstep_client::{AcquireError, Client, LockGuard, Mode, Session, SessionOptions};
use tokio::task::JoinHandle;

use crate::{
    console::{Style, say, styled},
    poll::until,
};

/// How long anything in the demo may take: an election on a busy machine, and some.
const STEP_LIMIT: Duration = Duration::from_secs(30);

/// Where the steps are shown.
pub(super) struct Stage {
    pub(super) client: Client,
}

/// One of the programs that the demo plays: it has a session of its own, as a process would.
pub(super) struct Program {
    pub(super) name: &'static str,
    session: Session,
}

/// A program's request for a lock that is not answered yet.
pub(super) struct Asked {
    name: &'static str,
    answer: JoinHandle<Result<LockGuard, AcquireError>>,
}

impl Stage {
    pub(super) const fn new(client: Client) -> Self {
        Self { client }
    }

    pub(super) fn heading(&self, number: u32, text: &str) {
        say(styled(Style::Bold, format_args!("\n{number}. {text}")));
    }

    pub(super) fn tell(&self, text: impl std::fmt::Display) {
        say(format_args!("   {text}"));
    }

    /// Says what was claimed and holds; fails if it does not.
    pub(super) fn holds(&self, claim: impl std::fmt::Display, truth: bool) -> anyhow::Result<()> {
        if !truth {
            bail!("this should hold, and does not: {claim}");
        }
        say(format_args!("   {} {claim}", styled(Style::Good, "ok")));
        Ok(())
    }

    pub(super) async fn program(&self, name: &'static str) -> anyhow::Result<Program> {
        let options = SessionOptions {
            labels: [("program".to_owned(), name.to_owned())].into(),
            ..SessionOptions::default()
        };
        let session = self.client.open_session(options).await?;
        Ok(Program { name, session })
    }

    /// Waits until a lock has so many holders and waiters.
    pub(super) async fn see(
        &self,
        lock: &str,
        holders: usize,
        waiters: usize,
    ) -> anyhow::Result<()> {
        let what = format!("{lock} has {holders} holders and {waiters} waiters");
        until(what, STEP_LIMIT, || async {
            let seen = self.client.get_lock(lock).await;
            let seen = seen.map_err(|error| error.to_string())?;
            let is = (seen.holders.len(), seen.waiter_count as usize);
            if is == (holders, waiters) {
                Ok(())
            } else {
                Err(format!("{} holders, {} waiters", is.0, is.1))
            }
        })
        .await?;
        Ok(())
    }
}

impl Program {
    pub(super) async fn lock(&self, lock: &str, mode: Mode) -> anyhow::Result<LockGuard> {
        self.ask(lock, mode).granted().await
    }

    /// Asks in the background.
    pub(super) fn ask(&self, lock: &str, mode: Mode) -> Asked {
        let request = self.session.lock(lock).mode(mode);
        Asked {
            name: self.name,
            answer: tokio::spawn(request.acquire()),
        }
    }

    pub(super) async fn leave(self) -> anyhow::Result<()> {
        Ok(self.session.close().await?)
    }
}

impl Asked {
    pub(super) fn is_answered(&self) -> bool {
        self.answer.is_finished()
    }

    pub(super) async fn granted(self) -> anyhow::Result<LockGuard> {
        let answer = tokio::time::timeout(STEP_LIMIT, self.answer).await;
        ensure!(
            answer.is_ok(),
            "{} was not granted within {STEP_LIMIT:?}",
            self.name
        );
        Ok(answer???)
    }
}
