//! Keeps openraft's warnings from flooding the log.
//!
//! Invariant: each place in openraft's code that warns is heard at once, and at most [`BURST`] times in
//! each interval after that. With many shards and one node away it warns some hundred times a second, of
//! one and the same thing: that node. Errors, and all that is ours, are never left out.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tracing::{Level, Metadata, callsite::Identifier};
use tracing_subscriber::layer::{Context, Filter};

/// Lines from one place in an interval: a few, because they may be of several shards.
const BURST: u32 = 3;
/// The interval.
const INTERVAL: Duration = crate::throttle::EVERY;

/// See the module. Remembers one entry for each place in the code that warns, which are few.
#[derive(Debug, Default)]
pub struct Thinned(Mutex<HashMap<Identifier, Heard>>);

#[derive(Debug)]
struct Heard {
    since: Instant,
    times: u32,
}

impl Thinned {
    fn lets(&self, place: Identifier, now: Instant) -> bool {
        let mut places = self.0.lock();
        let heard = places.entry(place).or_insert(Heard {
            since: now,
            times: 0,
        });
        if now.saturating_duration_since(heard.since) >= INTERVAL {
            *heard = Heard {
                since: now,
                times: 0,
            };
        }
        heard.times = heard.times.saturating_add(1);
        heard.times <= BURST
    }
}

impl<S> Filter<S> for Thinned {
    fn enabled(&self, about: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        let thinned = about.is_event()
            && *about.level() == Level::WARN
            && about.target().starts_with("openraft");
        !thinned || self.lets(about.callsite(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex as StdMutex},
    };

    use tracing_subscriber::{Layer as _, layer::SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<StdMutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_lasting_warning_of_openraft_is_told_a_few_times_and_ours_always() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_filter(Thinned::default());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..100 {
                tracing::warn!(target: "openraft::replication", "a node is away");
                tracing::warn!(target: "openraft::core", "another thing");
                tracing::error!(target: "openraft::core", "an error");
                tracing::warn!("one of ours");
            }
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let count = |words: &str| text.matches(words).count();
        assert_eq!(count("a node is away"), BURST as usize);
        assert_eq!(count("another thing"), BURST as usize);
        assert_eq!((count("an error"), count("one of ours")), (100, 100));
    }
}
