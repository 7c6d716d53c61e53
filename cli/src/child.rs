//! A command that runs under a lock, as its holder sees it: through its [supervisor].
//!
//! [supervisor]: crate::supervisor
//!
//! Invariant: what the command started is gone before its end is told; also if the supervisor is
//! killed, because what that leaves comes to this process.

pub(crate) mod signals;

use std::{ffi::OsString, io, process::Child as Process, time::Duration};

use nix::unistd::Pid;
use rustix::process::{WaitId, WaitIdOptions};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    signal::unix::{Signal as SignalStream, SignalKind, signal},
    time::sleep,
};

use crate::supervisor::{
    self, Ended, Lease, Order, Report,
    tree::{self, Tree},
};

/// How often is looked whether what a supervisor left has ended.
const LOOK: Duration = Duration::from_millis(50);

/// A running command.
#[derive(Debug)]
pub(crate) struct Child {
    supervisor: Process,
    orders: OwnedWriteHalf,
    reports: Lines<BufReader<OwnedReadHalf>>,
    /// Tells of children that ended.
    changes: SignalStream,
    lease: Lease,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// By itself.
    Ended(Ended),
    /// It was ended, because what it ran under was lost or would have been.
    EndedForLoss,
    /// It was not started.
    NotStarted(String),
    /// It was killed, because its supervisor was.
    Unsupervised,
}

impl Child {
    /// Starts a command. `what` it runs under is for messages.
    pub(crate) fn start(
        command: &[OsString],
        environment: impl IntoIterator<Item = (&'static str, String)>,
        what: String,
        lease: Lease,
    ) -> io::Result<Self> {
        Tree::adopt_orphans()?;
        let changes = signal(SignalKind::child())?;
        let (supervisor, stream) = supervisor::start(command, environment, what, lease)?;
        stream.set_nonblocking(true)?;
        let (reports, orders) = UnixStream::from_std(stream)?.into_split();
        Ok(Self {
            supervisor,
            orders,
            reports: BufReader::new(reports).lines(),
            changes,
            lease,
        })
    }

    /// Waits for its end. May be dropped and called again.
    pub(crate) async fn ended(&mut self) -> Outcome {
        loop {
            tokio::select! {
                report = self.reports.next_line() => {
                    return self.reported(report.ok().flatten()).await;
                }
                // As process 1 of a container this one is given strangers' orphans too.
                _ = self.changes.recv() => self.reap_strangers(),
            }
        }
    }

    /// Says that what it runs under is confirmed for longer.
    pub(crate) fn renewed(&mut self, lease: Lease) {
        if lease != self.lease {
            self.lease = lease;
            self.send(Order::renewed(lease));
        }
    }

    /// Passes a signal on.
    pub(crate) fn signal(&mut self, number: i32) {
        self.send(Order::signal(number));
    }

    /// Says that what it runs under is lost.
    pub(crate) fn lost(&mut self) {
        self.send(Order::lost());
    }

    /// Ends the supervisor, which has not done what it is for, and so the command.
    pub(crate) fn give_supervisor_up(&mut self) {
        let _ended_already = self.supervisor.kill();
    }

    fn send(&mut self, line: io::Result<Vec<u8>>) {
        let sent = line.and_then(|line| Ok(self.orders.try_write(&line)? == line.len()));
        // One that reads nothing is stopped. Its death is noticed, and what follows from it.
        if !matches!(sent, Ok(true)) {
            self.give_supervisor_up();
        }
    }

    async fn reported(&mut self, report: Option<String>) -> Outcome {
        let report = report.and_then(|line| serde_json::from_str(&line).ok());
        if report.is_none() {
            self.give_supervisor_up();
        }
        // It has ended or ends now, and with its report or death all is said.
        let _status = self.supervisor.wait();
        match report {
            Some(Report::Ended { how, for_loss }) if !for_loss => Outcome::Ended(how),
            Some(Report::Ended { .. }) => Outcome::EndedForLoss,
            Some(Report::NotStarted { words }) => Outcome::NotStarted(words),
            None => {
                let mut remains = Tree::remains();
                while remains.reap() {
                    remains.kill();
                    sleep(LOOK).await;
                }
                Outcome::Unsupervised
            }
        }
    }

    /// Waits for children that have ended and are not the supervisor.
    fn reap_strangers(&self) {
        let is_stranger = |pid: &Pid| u32::try_from(pid.as_raw()) != Ok(self.supervisor.id());
        for stranger in tree::children().into_iter().filter(is_stranger) {
            let id = rustix::process::Pid::from_raw(stranger.as_raw());
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let _others = id.map(|id| rustix::process::waitid(WaitId::Pid(id), ended));
        }
    }
}
