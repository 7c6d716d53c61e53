//! What a benchmark or drill measured, printed one line a figure and kept as JSON.
//!
//! Invariant: the lines and the file say the same, and a missed goal is a fact to read, never a
//! failed run: whether a run *ended* and whether it *met* its goals are two questions.

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

/// Which side of its value a goal allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Comparison {
    /// The figure is at most the goal.
    #[serde(rename = "<=")]
    AtMost,
    /// The figure is at least the goal.
    #[serde(rename = ">=")]
    AtLeast,
    /// The figure is the goal, exactly.
    #[serde(rename = "=")]
    Exactly,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtMost => "<=",
            Self::AtLeast => ">=",
            Self::Exactly => "=",
        })
    }
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Goal {
    /// Which side is allowed.
    pub op: Comparison,
    /// In the figure's unit.
    pub value: f64,
}

impl Goal {
    /// At most `value`.
    #[must_use]
    pub const fn at_most(value: f64) -> Self {
        let op = Comparison::AtMost;
        Self { op, value }
    }

    /// At least `value`.
    #[must_use]
    pub const fn at_least(value: f64) -> Self {
        let op = Comparison::AtLeast;
        Self { op, value }
    }

    /// Exactly `value`.
    #[must_use]
    pub const fn exactly(value: f64) -> Self {
        let op = Comparison::Exactly;
        Self { op, value }
    }

    /// Whether `measured` is as it should be. What is not a number meets no goal.
    #[must_use]
    pub fn is_met_by(&self, measured: f64) -> bool {
        match self.op {
            Comparison::AtMost => measured <= self.value,
            Comparison::AtLeast => measured >= self.value,
            Comparison::Exactly => (measured - self.value).abs() < f64::EPSILON,
        }
    }
}

/// One measured number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured: lower case, words joined by `_`.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what: `s`, `ms`, `count`, `pairs/s`, ...
    pub unit: String,
    /// What it should be, where that is agreed.
    pub goal: Option<Goal>,
    /// Whether the goal is met, where there is one.
    pub met: Option<bool>,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, value, unit, ..
        } = self;
        write!(f, "figure {name} {} {unit}", Shown(*value))?;
        match self.goal {
            None => Ok(()),
            Some(goal) => {
                let verdict = if goal.is_met_by(*value) {
                    "met"
                } else {
                    "short"
                };
                write!(f, " goal {} {} {verdict}", goal.op, Shown(goal.value))
            }
        }
    }
}

/// Shows whole numbers whole and others with four decimals, without trailing zeros.
struct Shown(f64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.4}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// The figures of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// The benchmark's or drill's name: also the file's.
    name: String,
    /// When it was made: Unix time in seconds.
    at_unix_s: u64,
    /// What the run was asked to do: seed, clients, cycles, ...
    settings: BTreeMap<String, String>,
    figures: Vec<Figure>,
}

impl Figures {
    /// None yet, for the run `name`: letters, digits, `-` and `_`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            name: name.to_owned(),
            at_unix_s: since_epoch.map_or(0, |span| span.as_secs()),
            settings: BTreeMap::new(),
            figures: Vec::new(),
        }
    }

    /// Notes what the run was asked to do.
    pub fn set(&mut self, key: &str, value: impl fmt::Display) {
        self.settings.insert(key.to_owned(), value.to_string());
    }

    /// Adds a figure with an agreed goal.
    pub fn judge(&mut self, name: &str, value: f64, unit: &str, goal: Goal) {
        self.push(name, value, unit, Some(goal));
    }

    /// Adds a figure that is only to be known.
    pub fn note(&mut self, name: &str, value: f64, unit: &str) {
        self.push(name, value, unit, None);
    }

    fn push(&mut self, name: &str, value: f64, unit: &str, goal: Option<Goal>) {
        self.figures.push(Figure {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            goal,
            met: goal.map(|goal| goal.is_met_by(value)),
        });
    }

    /// The figures so far.
    #[must_use]
    pub fn all(&self) -> &[Figure] {
        &self.figures
    }

    /// Prints one line a figure on stdout and writes the JSON: how every run ends.
    ///
    /// # Errors
    /// If stdout or the file cannot be written.
    pub fn publish(&self) -> io::Result<()> {
        self.print()?;
        let path = self.save_under(&workspace_root())?;
        writeln!(io::stdout().lock(), "written to {}", path.display())
    }

    /// Prints one line a figure on stdout, and no more: where nothing can be written.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let mut figures = self.figures.iter();
        figures.try_for_each(|figure| writeln!(out, "{figure}"))
    }

    /// Writes `bench/results/NAME.json` under `root`, in place of an earlier run's, and says where.
    ///
    /// # Errors
    /// If the directory or the file cannot be written.
    pub fn save_under(&self, root: &Path) -> io::Result<PathBuf> {
        let dir = root.join("bench").join("results");
        fs::create_dir_all(&dir)?;
        let path = dir.join(format!("{}.json", self.name));
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        fs::write(&path, json)?;
        Ok(path)
    }
}

/// The workspace: the nearest directory, upwards from the current one or else from this program,
/// that holds a `Cargo.lock`; the current directory if there is none.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let here = env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    let program = env::current_exe().ok();
    let found = here
        .ancestors()
        .chain(program.iter().flat_map(|program| program.ancestors()))
        .find(|dir| dir.join("Cargo.lock").is_file());
    found.map_or_else(|| here.clone(), Path::to_path_buf)
}

/// The value below or at which a share `q` (0 to 1) of the sorted `samples` lies, by the nearest
/// rank; not a number when there are none.
#[must_use]
pub fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    let at = rank.saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_met_or_short() {
        let mut figures = Figures::new("kill");
        figures.judge("violations", 0.0, "count", Goal::exactly(0.0));
        figures.judge(
            "gap_after_leader_death_p99",
            3.123_46,
            "s",
            Goal::at_most(3.0),
        );
        figures.judge("pairs", 12_000.0, "pairs/s", Goal::at_least(10_000.0));
        figures.note("operations", 1_234_567.0, "count");
        let lines: Vec<String> = figures.all().iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "figure violations 0 count goal = 0 met",
                "figure gap_after_leader_death_p99 3.1235 s goal <= 3 short",
                "figure pairs 12000 pairs/s goal >= 10000 met",
                "figure operations 1234567 count",
            ]
        );
    }

    #[test]
    fn a_figure_that_was_not_measured_is_short() {
        assert!(!Goal::at_most(3.0).is_met_by(f64::NAN));
        assert!(!Goal::exactly(0.0).is_met_by(f64::NAN));
    }

    #[test]
    fn the_file_says_what_the_lines_say() {
        let root = tempfile::tempdir().unwrap();
        let mut figures = Figures::new("kill");
        figures.set("seed", 7);
        figures.judge("violations", 1.0, "count", Goal::exactly(0.0));
        let path = figures.save_under(root.path()).unwrap();
        assert!(path.ends_with("bench/results/kill.json"));
        let json: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        assert_eq!(json["settings"]["seed"], "7");
        assert_eq!(json["figures"][0]["goal"]["op"], "=");
        assert_eq!(json["figures"][0]["met"], false);
    }

    #[test]
    fn quantiles_are_samples_of_the_nearest_rank() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&samples, 0.5), 50.0);
        assert_eq!(quantile(&samples, 0.99), 99.0);
        assert_eq!(quantile(&[4.0], 0.99), 4.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
