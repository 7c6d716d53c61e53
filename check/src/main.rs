//! `lockstep-check`: explores all scenarios, then has each planted mistake found, and prints what came
//! of it. With `--quick`: the scenarios within smaller bounds, and all mistakes. With names of
//! scenarios as arguments: only those, and the mistakes that are planted in them.
//!
//! It exits with 0 if every property held, every event was seen and every mistake was found, with 1 if
//! not, and with 2 if it does not know a name.

use std::{
    env,
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use lockstep_check::{
    action::Action,
    bug::Bug,
    run::{Report, check, counterexample},
    scenario::Scenario,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Scenarios that are explored at once: each is one thread's work, and takes up to half a gibibyte.
const AT_ONCE: usize = 2;
/// How long a scenario may take.
const GOAL: Duration = Duration::from_secs(120);

/// What all runs came to.
#[derive(Default)]
struct Sum {
    scenarios: usize,
    states: usize,
    unique: usize,
    deepest: usize,
    longest: Duration,
    held: usize,
    events: usize,
    missed_events: usize,
    violations: usize,
    planted: usize,
    found: usize,
}

fn main() -> ExitCode {
    let begun = Instant::now();
    let Some(jobs) = jobs(env::args().skip(1)) else {
        say("usage: lockstep-check [--quick] [SCENARIO]...\n");
        return ExitCode::from(2);
    };
    let sum = work(jobs);
    say(&sum.figures(begun.elapsed()));
    if sum.violations == 0 && sum.missed_events == 0 && sum.found == sum.planted {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What is to be done with a scenario.
enum Job {
    /// All has to hold in it.
    Holds(Scenario),
    /// A mistake is to be found in it.
    Breaks(Scenario),
}

impl Job {
    const fn name(&self) -> &'static str {
        match self {
            Self::Holds(scenario) | Self::Breaks(scenario) => scenario.name,
        }
    }
}

/// What the arguments ask for; none if one of them is not known.
fn jobs(arguments: impl Iterator<Item = String>) -> Option<Vec<Job>> {
    let (options, names): (Vec<_>, Vec<_>) = arguments.partition(|word| word.starts_with('-'));
    let sound = if options.is_empty() {
        Scenario::all()
    } else {
        Scenario::small()
    };
    let planted = Scenario::planted();
    let mut jobs: Vec<Job> = sound.into_iter().map(Job::Holds).collect();
    jobs.extend(planted.into_iter().map(Job::Breaks));
    let is_known = |name: &String| jobs.iter().any(|job| job.name() == name);
    if options.iter().any(|option| option != "--quick") || !names.iter().all(is_known) {
        return None;
    }
    jobs.retain(|job| names.is_empty() || names.iter().any(|name| name == job.name()));
    Some(jobs)
}

/// Does it, [`AT_ONCE`] at once, and tells of each when it is done.
fn work(jobs: Vec<Job>) -> Sum {
    let waiting = Mutex::new(jobs.into_iter());
    let sum = Mutex::new(Sum::default());
    let next = || lock(&waiting).next();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(job) = next() {
                    match job {
                        Job::Holds(scenario) => {
                            let report = check(&scenario);
                            lock(&sum).add(&report);
                            say(&told(&scenario, &report));
                        }
                        Job::Breaks(scenario) => {
                            let path = counterexample(&scenario, due(&scenario));
                            lock(&sum).seek(path.is_some());
                            say(&shown(&scenario, path.as_deref()));
                        }
                    }
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a scenario's mistake has to break.
fn due(scenario: &Scenario) -> &'static str {
    scenario.bug.map_or("nothing", Bug::breaks)
}

impl Sum {
    fn add(&mut self, report: &Report) {
        let (held, events) = report.kept();
        self.scenarios += 1;
        self.states += report.states;
        self.unique += report.unique;
        self.deepest = self.deepest.max(report.depth);
        self.longest = self.longest.max(report.time);
        self.held += held;
        self.events += events;
        let (broken, missed): (Vec<_>, Vec<_>) = report.broken().partition(|v| v.is_invariant);
        self.violations += broken.len();
        self.missed_events += missed.len();
    }

    fn seek(&mut self, is_found: bool) {
        self.planted += 1;
        self.found += usize::from(is_found);
    }

    fn figures(&self, time: Duration) -> String {
        let judged = self.held + self.violations;
        let events = self.events + self.missed_events;
        [
            "\n".to_owned(),
            figure("check_scenarios", self.scenarios, "count", None),
            figure("check_states", self.states, "count", None),
            figure("check_unique_states", self.unique, "count", None),
            figure("check_deepest", self.deepest, "steps", None),
            figure("check_properties_held", self.held, "count", Some(judged)),
            figure("check_violations", self.violations, "count", Some(0)),
            figure("check_events_seen", self.events, "count", Some(events)),
            figure("check_bugs_found", self.found, "count", Some(self.planted)),
            {
                let (longest, goal) = (self.longest.as_secs_f64(), GOAL.as_secs());
                let verdict = if self.longest <= GOAL { "met" } else { "short" };
                format!("figure check_longest {longest:.1} s goal <= {goal} {verdict}\n")
            },
            format!("figure check_time {:.1} s\n", time.as_secs_f64()),
        ]
        .concat()
    }
}

/// A figure, as benchmarks and drills print theirs; the goal is to be met exactly.
fn figure(name: &str, value: usize, unit: &str, goal: Option<usize>) -> String {
    match goal {
        Some(goal) => {
            let verdict = if value == goal { "met" } else { "short" };
            format!("figure {name} {value} {unit} goal = {goal} {verdict}\n")
        }
        None => format!("figure {name} {value} {unit}\n"),
    }
}

fn told(scenario: &Scenario, report: &Report) -> String {
    let Report {
        states,
        unique,
        depth,
        ..
    } = report;
    let (held, events) = report.kept();
    let time = report.time.as_secs_f64();
    let mut text = format!(
        "{}: {}\n  {states} states, {unique} unique, depth {depth}, {time:.1} s; {held} properties held, {events} events seen\n",
        scenario.name, scenario.about,
    );
    for verdict in report.broken() {
        let how = if verdict.is_invariant {
            "BROKEN"
        } else {
            "NEVER SEEN"
        };
        let path = verdict.path.as_deref().unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = write!(text, "  {how}: {}\n{}", verdict.property, steps(path));
    }
    text
}

/// How a mistake shows.
fn shown(scenario: &Scenario, path: Option<&[Action]>) -> String {
    let Scenario { name, about, .. } = scenario;
    let bug = scenario.bug.map(|bug| format!("{bug:?}, "));
    let what = bug.unwrap_or_default() + "planted in";
    match path {
        Some(path) => format!(
            "{what} {name}: breaks \"{}\" in {} steps\n{}",
            due(scenario),
            path.len(),
            steps(path)
        ),
        None => format!("{what} {name}: NOT FOUND ({about})\n"),
    }
}

fn steps(path: &[Action]) -> String {
    let lines = (1..).zip(path);
    lines
        .map(|(at, action)| format!("  {at:2}. {action:?}\n"))
        .collect()
}

fn say(text: &str) {
    // Nowhere is left to report a failure of this write.
    let _ = io::stdout().write_all(text.as_bytes());
}
