//! One node: its process, its data directory and its log.
//!
//! Invariant: signals go to a process that this program started and has not yet reaped, so its
//! number cannot have passed to another process.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::{options::node_name, ports::NodeAddresses};

/// How long a killed process may take to be gone; one that waits for its disk can take a while.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How often that is looked at.
const END_POLL: Duration = Duration::from_millis(1);

pub(super) struct Node {
    name: String,
    program: PathBuf,
    data: PathBuf,
    log: PathBuf,
    addresses: NodeAddresses,
    env: BTreeMap<String, String>,
    own_group: bool,
    descriptors: Option<u64>,
    child: Option<Child>,
}

impl Node {
    pub(super) fn new(
        program: &Path,
        dir: &Path,
        at: usize,
        addresses: NodeAddresses,
        env: BTreeMap<String, String>,
        own_group: bool,
        descriptors: Option<u64>,
    ) -> io::Result<Self> {
        let name = node_name(at);
        let data = dir.join(&name);
        fs::create_dir_all(&data)?;
        Ok(Self {
            program: program.to_owned(),
            log: dir.join(format!("{name}.log")),
            name,
            data,
            addresses,
            env,
            own_group,
            descriptors,
            child: None,
        })
    }

    pub(super) const fn addresses(&self) -> NodeAddresses {
        self.addresses
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    pub(super) fn spawn(&mut self, env: &[(&str, &str)]) -> anyhow::Result<()> {
        ensure!(!self.is_running(), "{} runs already", self.name);
        let mut log = self.open_log()?;
        writeln!(log, "--- start of {} {env:?}", self.name)?;
        let mut command = self.command();
        command
            .arg("serve")
            .envs(&self.env)
            .env("LOCKSTEP_DATA_DIR", &self.data)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        if self.own_group {
            command.process_group(0);
        }
        let child = command.spawn();
        let child = child.with_context(|| format!("starting {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// The program, or a shell that sets the limit and then becomes the program.
    fn command(&self) -> Command {
        let Some(descriptors) = self.descriptors else {
            return Command::new(&self.program);
        };
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""))
            .arg(&self.program);
        command
    }

    fn open_log(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(&self.log)
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.try_wait(), Ok(None)) && self.child.is_some()
    }

    /// How it ended, if it has.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => child.try_wait(),
            None => Err(io::Error::new(ErrorKind::NotFound, "it was not started")),
        }
    }

    pub(super) async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let child = self.child.as_mut();
        let child = child.with_context(|| format!("{} was not started", self.name))?;
        Ok(child.wait().await?)
    }

    pub(super) fn start_kill(&mut self) -> anyhow::Result<()> {
        let child = self.child.as_mut();
        let child = child.with_context(|| format!("{} was not started", self.name))?;
        let killed = child.start_kill();
        killed.with_context(|| format!("{} does not run", self.name))
    }

    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.start_kill()?;
        self.wait().await.map(|_status| ())
    }

    /// Ends what may still run, without a word.
    pub(super) fn end(&mut self) {
        if let Some(child) = &mut self.child {
            let _ended_before = child.start_kill();
        }
    }

    /// Sees it end after [`Self::end`], so that it no longer writes into a directory that is about to
    /// be removed. The system needs a moment for it.
    pub(super) fn see_end(&mut self) {
        let give_up = Instant::now() + END_LIMIT;
        while self.is_running() && Instant::now() < give_up {
            thread::sleep(END_POLL);
        }
    }

    pub(super) fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    pub(super) fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    pub(super) fn ask_to_stop(&self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let number = self.child.as_ref().and_then(Child::id);
        let pid = number.and_then(|number| Pid::from_raw(number.try_into().ok()?));
        let pid = pid.with_context(|| format!("{} does not run", self.name))?;
        kill_process(pid, signal)?;
        Ok(())
    }

    pub(super) fn wipe(&mut self) -> anyhow::Result<()> {
        ensure!(!self.is_running(), "{} runs: stop it before", self.name);
        fs::remove_dir_all(&self.data)?;
        fs::create_dir_all(&self.data)?;
        Ok(())
    }
}
