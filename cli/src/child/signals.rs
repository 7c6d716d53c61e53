//! The signals that this program gets.
//!
//! Invariant: none that can be caught ends or suspends this program while it holds a lock or
//! waits for one; each is passed on, or ends the wait in order.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use nix::sys::signal::Signal;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use crate::exit::Failure;

/// What is listened to.
const HEARD: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGTSTP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// The signals, as they come.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(Signal, SignalStream)>,
}

impl Signals {
    /// From now on, signals come here.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let streams = HEARD
            .into_iter()
            .map(|heard| Ok((heard, signal(SignalKind::from_raw(heard as i32))?)))
            .collect::<std::io::Result<_>>()
            .map_err(|error| Failure::Other(format!("cannot listen to signals: {error}")))?;
        Ok(Self { streams })
    }

    /// The next signal.
    pub(crate) async fn any(&mut self) -> Signal {
        poll_fn(|context| self.poll(context)).await
    }

    /// The number of the next signal that asks this program to end.
    pub(crate) async fn ending(&mut self) -> u8 {
        loop {
            let signal = self.any().await;
            let suspends_or_tells =
                matches!(signal, Signal::SIGTSTP | Signal::SIGUSR1 | Signal::SIGUSR2);
            if let (false, Ok(number)) = (suspends_or_tells, u8::try_from(signal as i32)) {
                return number;
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Signal> {
        for (signal, stream) in &mut self.streams {
            if let Poll::Ready(Some(())) = stream.poll_recv(context) {
                return Poll::Ready(*signal);
            }
        }
        Poll::Pending
    }
}
