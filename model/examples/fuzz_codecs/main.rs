//! Fuzzes every decoder of the model: `cargo run --release --example fuzz_codecs -- --seconds 600`.
//!
//! Valid values are generated, encoded, damaged and decoded. Whatever comes in: nothing panics; what
//! is decoded encodes to the very bytes that it was read from, so that no input claims more
//! elements than it has bytes; and a machine that was restored, or was given a decoded batch or
//! query, goes on. On the first violation the input is printed as hex, and the program exits with 1.

mod check;
mod corpus;
mod mutate;
mod small_world;

#[allow(
    clippy::unwrap_used,
    reason = "the generators of the tests, which know what they generate"
)]
#[path = "../../tests/suite/arbitrary.rs"]
mod arbitrary;

use std::{
    env, fs,
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{
    check::{Format, Violation},
    corpus::Corpus,
    small_world::SmallWorld,
};

/// Threads at work, each with a corpus of its own.
const THREADS: u64 = 2;
/// One input in so many is new and undamaged, and joins the corpus.
const GENERATE_ONE_IN: u32 = 32;
/// One input in so many is made of random bytes alone.
const RANDOM_ONE_IN: u32 = 64;
/// One damaged input in so many that was decoded all the same joins the corpus: it leads further the
/// next time. More would crowd out the whole ones, because what is cut short is decoded more often.
const KEEP_DAMAGED_ONE_IN: u32 = 16;
/// Longest input of random bytes.
const MAX_RANDOM_BYTES: usize = 256;
/// The most memory that all of it may ever have taken, in MiB: the corpora take a few, and an
/// input of at most [`mutate::MAX_BYTES`] justifies no more than that many elements.
const MAX_MEMORY_MIB: f64 = 256.0;

/// What all threads count.
#[derive(Default)]
struct Counts {
    of: [FormatCounts; Format::ALL.len()],
    /// The longest that one input took.
    slowest_nanos: AtomicU64,
    stop: AtomicBool,
}

/// What is counted of one format.
#[derive(Default)]
struct FormatCounts {
    executions: AtomicU64,
    /// Inputs that were decoded.
    accepted: AtomicU64,
    /// The lengths of those together.
    accepted_bytes: AtomicU64,
}

struct Asked {
    seconds: u64,
    seed: u64,
}

fn main() -> ExitCode {
    let ended = Asked::parse(env::args().skip(1)).and_then(|asked| run(&asked));
    match ended {
        Ok(code) => code,
        Err(message) => {
            say(&message);
            ExitCode::from(2)
        }
    }
}

impl Asked {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut asked = Self {
            seconds: 60,
            seed: RandomState::new().hash_one("seed"),
        };
        while let Some(option) = arguments.next() {
            let number = arguments.next().and_then(|value| value.parse().ok());
            match (option.as_str(), number) {
                ("--seconds", Some(seconds)) => asked.seconds = seconds,
                ("--seed", Some(seed)) => asked.seed = seed,
                _ => return Err("usage: fuzz_codecs [--seconds N] [--seed N]".to_owned()),
            }
        }
        Ok(asked)
    }
}

fn run(asked: &Asked) -> Result<ExitCode, String> {
    say(&format!(
        "seed {}, {} s, {THREADS} threads",
        asked.seed, asked.seconds
    ));
    let counts = Counts::default();
    let began = Instant::now();
    let end = began + Duration::from_secs(asked.seconds);
    let violations: Vec<Violation> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let counts = &counts;
                scope.spawn(move || fuzz(asked.seed, thread, end, counts))
            })
            .collect();
        let results = threads.into_iter().map(thread::ScopedJoinHandle::join);
        results.flat_map(|result| result.ok().flatten()).collect()
    });
    for violation in &violations {
        say(&violation.to_string());
    }
    report(&counts, began.elapsed(), violations.len())
}

fn report(counts: &Counts, took: Duration, violations: usize) -> Result<ExitCode, String> {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let mut executions = 0.0;
    for (format, counts) in Format::ALL.iter().zip(&counts.of) {
        let (all, accepted) = (get(&counts.executions), get(&counts.accepted));
        let percent = 100.0 * accepted / all;
        let mean = get(&counts.accepted_bytes) / accepted;
        say(&format!(
            "{format:?}: {all} inputs; {percent:.1} % decoded, which have {mean:.0} bytes on average"
        ));
        executions += all;
    }
    let per_second = executions / took.as_secs_f64();
    let slowest = get(&counts.slowest_nanos) / 1e6;
    let memory = peak_memory_mib()?;
    let fits = memory <= MAX_MEMORY_MIB;
    let verdict = |good| if good { "met" } else { "short" };
    say(&format!("figure fuzz_executions {executions} count"));
    say(&format!(
        "figure fuzz_executions_per_second {per_second:.0} 1/s"
    ));
    say(&format!("figure fuzz_slowest {slowest:.3} ms"));
    say(&format!(
        "figure fuzz_peak_memory {memory:.1} MiB goal <= {MAX_MEMORY_MIB} {}",
        verdict(fits)
    ));
    say(&format!(
        "figure fuzz_panics {violations} count goal = 0 {}",
        verdict(violations == 0)
    ));
    Ok(if fits && violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// One thread's work, until the time is over or something was found.
fn fuzz(seed: u64, thread: u64, end: Instant, counts: &Counts) -> Option<Violation> {
    let mut bytes = [0; 32];
    let (low, high) = bytes.split_at_mut(8);
    low.copy_from_slice(&seed.to_le_bytes());
    for (to, from) in high.iter_mut().zip(thread.to_le_bytes()) {
        *to = from;
    }
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng.clone());
    let mut corpus = Corpus::new();
    let mut world = SmallWorld::new();
    while !counts.stop.load(Ordering::Relaxed) && Instant::now() < end {
        let format = Format::draw(&mut rng);
        let is_new = rng.random_ratio(1, GENERATE_ONE_IN) || corpus.is_empty(format);
        let input = if is_new {
            corpus::generate(format, &mut runner, &mut world, &mut rng)
        } else {
            damaged(format, &corpus, &mut rng)
        };
        let began = Instant::now();
        let checked = check::check(format, &input, &mut world, &mut rng);
        counts.add(format, &checked, input.len(), began.elapsed());
        match checked {
            Ok(true) if is_new || rng.random_ratio(1, KEEP_DAMAGED_ONE_IN) => {
                corpus.keep(format, input, &mut rng);
            }
            Ok(_) => {}
            Err(violation) => {
                counts.stop.store(true, Ordering::Relaxed);
                return Some(violation);
            }
        }
    }
    None
}

impl Counts {
    fn add(
        &self,
        format: Format,
        checked: &Result<bool, Violation>,
        length: usize,
        took: Duration,
    ) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.slowest_nanos.fetch_max(nanos, Ordering::Relaxed);
        if let Some(counts) = self.of.get(format as usize) {
            counts.executions.fetch_add(1, Ordering::Relaxed);
            if let Ok(true) = checked {
                counts.accepted.fetch_add(1, Ordering::Relaxed);
                counts
                    .accepted_bytes
                    .fetch_add(length as u64, Ordering::Relaxed);
            }
        }
    }
}

/// An input of random bytes, or a damaged one of the corpus.
fn damaged(format: Format, corpus: &Corpus, rng: &mut TestRng) -> Vec<u8> {
    let mut input = if rng.random_ratio(1, RANDOM_ONE_IN) {
        let length = rng.random_range(0..MAX_RANDOM_BYTES);
        (0..length).map(|_| rng.random()).collect()
    } else {
        let mut input = corpus.draw(format, rng).to_vec();
        mutate::mutate(&mut input, corpus.draw(format, rng), rng);
        input
    };
    format.make_plausible(&mut input, rng);
    input
}

/// The most memory that this process ever had.
fn peak_memory_mib() -> Result<f64, String> {
    let path = "/proc/self/status";
    let status = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0)
        .ok_or_else(|| format!("{path} does not tell the peak of memory"))
}

fn say(line: &str) {
    let _closed_pipe = writeln!(io::stdout().lock(), "{line}");
}
