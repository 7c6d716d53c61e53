//! The signals that this program gets.
//!
//! Invariant: none that can be caught ends or suspends this program while it holds a lock or
//! waits for one; each is passed on, or ends the wait in order. What was ignored when it started, as
//! by `nohup`, stays ignored, here and by the command.

use std::{
    fs,
    future::poll_fn,
    task::{Context, Poll},
};

use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use crate::exit::Failure;

/// What is listened to: all that would end or suspend a program and can be caught, but those for which
/// it has itself to blame: SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS and SIGTRAP. If one of
/// these ends it, the command's supervisor does what SIGKILL lets it do.
const HEARD: [Signal; 17] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGTSTP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGSTKFLT,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// Real-time signals of Linux. The C library keeps the first for itself and refuses them.
const REAL_TIME: std::ops::RangeInclusive<i32> = 32..=64;

/// The signals, as they come.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(i32, SignalStream)>,
}

impl Signals {
    /// From now on, signals come here.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let ignored = ignored();
        let wanted = |number: &i32| ignored & 1 << (number - 1) == 0;
        let listen = |number| Ok((number, signal(SignalKind::from_raw(number))?));
        let mut streams = HEARD
            .into_iter()
            .map(|heard| heard as i32)
            .filter(wanted)
            .map(listen)
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(|error| Failure::Other(format!("cannot listen to signals: {error}")))?;
        let real_time = REAL_TIME.filter(wanted).map(listen);
        streams.extend(real_time.filter_map(Result::ok));
        Ok(Self { streams })
    }

    /// The number of the next signal.
    pub(crate) async fn any(&mut self) -> i32 {
        poll_fn(|context| self.poll(context)).await
    }

    /// The number of the next signal that asks this program to end.
    pub(crate) async fn ending(&mut self) -> u8 {
        const OTHERS: [Signal; 5] = [
            Signal::SIGTSTP,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGCONT,
            Signal::SIGWINCH,
        ];
        loop {
            let number = self.any().await;
            let ends = OTHERS.iter().all(|other| *other as i32 != number);
            if let (true, Ok(number)) = (ends, u8::try_from(number)) {
                return number;
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<i32> {
        for (number, stream) in &mut self.streams {
            if let Poll::Ready(Some(())) = stream.poll_recv(context) {
                return Poll::Ready(*number);
            }
        }
        Poll::Pending
    }
}

/// Sees to it that this program is not stopped for writing to a terminal from the background: it
/// could not keep what it holds. To be called before there are other threads.
pub(crate) fn never_stop_for_the_terminal() {
    let mut stops = SigSet::empty();
    stops.add(Signal::SIGTTIN);
    stops.add(Signal::SIGTTOU);
    // Then it is as it would be without.
    let _refused = stops.thread_block();
}

/// The signals that this process ignores: bit 0 is signal 1. See proc(5).
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .map(str::trim);
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok())
        .unwrap_or(0)
}
