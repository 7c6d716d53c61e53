//! The process between the holder of a lock and the command that runs under it.
//!
//! It is this program once more, which the holder starts with a socket as its standard input. The
//! holder keeps the lease and says until when it holds; the supervisor ends the command in time, by a
//! clock of its own, also if the holder is stopped, and at once if it is killed.
//!
//! Invariant: nothing of the command outlives its lease, and the supervisor reports the command's
//! end only when nothing of it is left. No signal but SIGKILL and SIGSTOP does anything to it; it is in
//! a process group of its own, so that neither is meant for it where it was meant for the holder.
//! Where both are killed at once, the system kills the command itself, but not what that has started.

mod course;
pub(crate) mod launch;
mod order;
mod terminal;
pub(crate) mod tree;

use std::{
    ffi::OsString,
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
    unistd::Pid,
};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

pub(crate) use self::order::{Ended, GRACE, Lease, Order, Report};
use self::{
    course::{Course, Step},
    terminal::Terminal,
    tree::Tree,
};
use crate::{args::Format, boot_time::BootTime, exit, output::Output};

/// The name that this program is called by to be this: not its own, so that what is meant for the
/// holder by its name spares the one who ends the command then.
pub(crate) const NAME: &str = "lockstep-run";

/// How often is looked for what a command has left: those who are left by others tell nobody.
const LOOK: Duration = Duration::from_millis(50);

/// Longest line that a holder sends: names of locks have 512 bytes, six times that in JSON.
const MAX_LINE: usize = 16 * 1024;

/// This program, called by another name. It is found even if its file was replaced meanwhile.
fn own_program(name: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name);
    command
}

/// Starts a supervisor, and has it start a command. The socket is the way to it.
pub(crate) fn start(
    command: &[OsString],
    environment: impl IntoIterator<Item = (&'static str, String)>,
    what: String,
    lease: Lease,
) -> io::Result<(std::process::Child, UnixStream)> {
    let (own, its) = UnixStream::pair()?;
    let supervisor = own_program(NAME)
        .args(command)
        .envs(environment)
        .stdin(Stdio::from(OwnedFd::from(its)))
        .process_group(0)
        .spawn()?;
    let start = Order::Start {
        what,
        lease,
        holder_group: nix::unistd::getpgrp().as_raw(),
    };
    let input = io::stdin();
    let passed = [input.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    with.push(SendAncillaryMessage::ScmRights(&passed));
    let line = line(&start)?;
    let sent = sendmsg(&own, &[IoSlice::new(&line)], &mut with, SendFlags::NOSIGNAL)?;
    if sent < line.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok((supervisor, own))
}

impl Order {
    /// As it is sent.
    pub(crate) fn renewed(lease: Lease) -> io::Result<Vec<u8>> {
        line(&Self::Renewed(lease))
    }

    /// As it is sent.
    pub(crate) fn signal(number: i32) -> io::Result<Vec<u8>> {
        line(&Self::Signal(number))
    }

    /// As it is sent.
    pub(crate) fn lost() -> io::Result<Vec<u8>> {
        line(&Self::Lost)
    }
}

fn line(message: &impl serde::Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Supervises the command that is named, until it has ended.
pub(crate) fn run(command: impl Iterator<Item = OsString>) -> ExitCode {
    let command: Vec<OsString> = command.collect();
    match supervise(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let words = format!("cannot supervise a command: {error}");
            Output::new(Format::Table).error(&words);
            ExitCode::from(exit::FAILED)
        }
    }
}

fn supervise(command: &[OsString]) -> io::Result<()> {
    // What is started from here has them blocked too, until it becomes the command.
    SigSet::all().thread_block()?;
    Tree::adopt_orphans()?;
    let mut control = Control::from_stdin()?;
    let Some((start, input)) = control.start()? else {
        return Ok(());
    };
    let Order::Start {
        what,
        lease,
        holder_group,
    } = start
    else {
        return Err(io::Error::other("the first order is not to start"));
    };
    let mut report = control.stream.try_clone()?;
    let report = match Supervisor::start(command, control, input, what, lease, holder_group) {
        Ok(supervisor) => {
            let ended = supervisor.run()?;
            report.write_all(&line(&ended)?)
        }
        Err(error) => {
            let words = error.to_string();
            report.write_all(&line(&Report::NotStarted { words })?)
        }
    };
    // A holder that has gone needs no report.
    let _gone = report;
    Ok(())
}

/// The orders as they come.
struct Control {
    stream: UnixStream,
    unread: Vec<u8>,
    over: bool,
}

impl Control {
    fn from_stdin() -> io::Result<Self> {
        Ok(Self {
            stream: io::stdin().as_fd().try_clone_to_owned()?.into(),
            unread: Vec::new(),
            over: false,
        })
    }

    /// The first order, and the standard input of the command; none if the holder has gone.
    fn start(&mut self) -> io::Result<Option<(Order, OwnedFd)>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut with = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = vec![0; MAX_LINE];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(
            &self.stream,
            &mut [IoSliceMut::new(&mut buffer)],
            &mut with,
            flags,
        )?;
        let input = with.drain().find_map(|message| {
            if let RecvAncillaryMessage::ScmRights(mut passed) = message {
                passed.next()
            } else {
                None
            }
        });
        self.unread
            .extend_from_slice(buffer.get(..got.bytes).unwrap_or_default());
        self.over = got.bytes == 0;
        loop {
            match (self.next()?, self.over) {
                (Some(order), _) => {
                    let input = input.ok_or_else(|| io::Error::other("no standard input"))?;
                    return Ok(Some((order, input)));
                }
                (None, true) => return Ok(None),
                (None, false) => self.read()?,
            }
        }
    }

    /// Reads what is there; waits if there is nothing.
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; MAX_LINE];
        let bytes = match self.stream.read(&mut buffer) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            // As when it is killed while something to it is under way.
            Err(_) => 0,
        };
        self.over |= bytes == 0;
        self.unread
            .extend_from_slice(buffer.get(..bytes).unwrap_or_default());
        Ok(())
    }

    /// The next order of those that were read.
    fn next(&mut self) -> io::Result<Option<Order>> {
        let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') else {
            if self.unread.len() > MAX_LINE {
                return Err(io::Error::other("an order is too long"));
            }
            return Ok(None);
        };
        let line: Vec<u8> = self.unread.drain(..=end).collect();
        Ok(Some(serde_json::from_slice(&line)?))
    }
}

/// A command under supervision.
struct Supervisor {
    control: Control,
    children: SignalFd,
    timer: TimerFd,
    tree: Tree,
    course: Course,
    what: String,
    output: Output,
    /// Given to the command; taken back when this is dropped.
    _terminal: Option<Terminal>,
}

impl Supervisor {
    fn start(
        command: &[OsString],
        control: Control,
        input: OwnedFd,
        what: String,
        lease: Lease,
        holder_group: i32,
    ) -> io::Result<Self> {
        let mut child_signal = SigSet::empty();
        child_signal.add(Signal::SIGCHLD);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let children = SignalFd::with_flags(&child_signal, flags)?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        let mut course = Course::new(lease);
        if course.due(BootTime::now()?) != Step::Wait {
            return Err(io::Error::other("its lease ended before it was started"));
        }
        let terminal = input.try_clone()?;
        let started = launch::command(command).stdin(Stdio::from(input)).spawn()?;
        let group = i32::try_from(started.id()).map_err(io::Error::other)?;
        // The leader of a group gives it its own id.
        let group = Pid::from_raw(group);
        let tree = Tree::of(group);
        let terminal = Terminal::give_to(group, Pid::from_raw(holder_group), terminal);
        if terminal.is_some() {
            // It may have been stopped for reading before the terminal was its own.
            tree.group(Signal::SIGCONT);
        }
        Ok(Self {
            control,
            children,
            timer,
            tree,
            course,
            what,
            output: Output::new(Format::Table),
            _terminal: terminal,
        })
    }

    /// Until nothing of the command is left.
    fn run(mut self) -> io::Result<Report> {
        loop {
            let some_left = self.tree.reap();
            let now = BootTime::now()?;
            if let (false, Some(how)) = (some_left, self.tree.ended()) {
                return Ok(Report::Ended {
                    how,
                    for_loss: self.course.for_loss(),
                });
            }
            if self.tree.ended().is_some() && self.course.is_running() {
                self.output.hint("ending what the command has left running");
                let step = self.course.command_ended(now);
                self.take(step);
            }
            let step = self.course.due(now);
            if step == Step::Terminate {
                self.output.hint(format_args!(
                    "{} was not confirmed and will be lost: ending the command",
                    self.what
                ));
            }
            self.take(step);
            let again = self.again();
            self.wait(now, again)?;
            self.obey(BootTime::now()?)?;
        }
    }

    /// Does anew what may not have reached all, and says when to look again.
    fn again(&mut self) -> bool {
        if self.course.is_killing() {
            self.tree.kill();
        } else if self.tree.ended().is_some() {
            self.tree.terminate();
        }
        self.course.is_killing() || self.tree.ended().is_some()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Wait => {}
            Step::Terminate => self.tree.terminate(),
            Step::Kill => {
                if !self.control.over {
                    self.output.hint("not ended in time: killing it");
                }
                self.tree.kill();
            }
        }
    }

    /// Waits for an order, a child, or the time.
    fn wait(&self, now: BootTime, look: bool) -> io::Result<()> {
        let mut next = self.course.next();
        if look {
            next = now.after(LOOK);
        }
        let at = Expiration::OneShot(next.to_spec());
        self.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        let control: BorrowedFd<'_> = self.control.stream.as_fd();
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut sources = vec![
            readable(self.children.as_fd()),
            readable(self.timer.as_fd()),
        ];
        if !self.control.over {
            sources.push(readable(control));
        }
        match poll(&mut sources, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Several that ended may have sent one signal.
        while let Ok(Some(_)) = self.children.read_signal() {}
        Ok(())
    }

    fn obey(&mut self, now: BootTime) -> io::Result<()> {
        let control = self.control.stream.as_fd();
        let mut source = [PollFd::new(control, PollFlags::POLLIN)];
        if self.control.over || poll(&mut source, PollTimeout::ZERO)? == 0 {
            return Ok(());
        }
        self.control.read()?;
        while let Some(order) = self.control.next()? {
            match order {
                Order::Renewed(lease) => self.course.renewed(lease),
                Order::Signal(number) => self.pass_on(number),
                Order::Lost => {
                    let step = self.course.lost(now);
                    if step == Step::Terminate {
                        let what = &self.what;
                        self.output
                            .hint(format_args!("{what} is lost: ending the command"));
                    }
                    self.take(step);
                }
                Order::Start { .. } => return Err(io::Error::other("started twice")),
            }
        }
        if self.control.over {
            self.output
                .hint("lockstepctl is gone: killing the command that it ran");
            let step = self.course.abandoned();
            self.take(step);
        }
        Ok(())
    }

    fn pass_on(&self, number: i32) {
        match Signal::try_from(number) {
            Ok(Signal::SIGTSTP) => self
                .output
                .hint("not suspended: a suspended holder would lose its lock"),
            Ok(signal) => self.tree.group(signal),
            // Real-time signals cannot be sent from here. Whoever does not expect one is ended by it.
            Err(_) => self.tree.group(Signal::SIGTERM),
        }
    }
}
