//! Processor time, as Linux counts it.
//!
//! Invariant: a time that cannot be read is an error, never a zero.

use std::fs;

use anyhow::{Context, ensure};

/// A process of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId(pub u32);

/// The unit of processor times under `/proc`: `USER_HZ`, which is part of the kernel's interface
/// and the same wherever this program runs (proc(5), time(7)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time at one moment, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Of the servers, all threads, user and system.
    pub servers: f64,
    /// Of this process, which makes the load.
    pub load: f64,
    /// Of all processes and the kernel.
    pub machine: f64,
}

impl Usage {
    /// The times until now.
    ///
    /// # Errors
    /// If one of the processes has ended.
    pub fn now(servers: &[ProcessId]) -> anyhow::Result<Self> {
        let mut sum = 0.0;
        for server in servers {
            sum += processor_seconds(&server.0.to_string())?;
        }
        Ok(Self {
            servers: sum,
            load: processor_seconds("self")?,
            machine: machine_seconds()?,
        })
    }

    /// The times since an earlier moment.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            servers: self.servers - earlier.servers,
            load: self.load - earlier.load,
            machine: self.machine - earlier.machine,
        }
    }

    /// What neither the servers nor the load used: other programs, and the kernel on nobody's
    /// account.
    #[must_use]
    pub fn others(self) -> f64 {
        (self.machine - self.servers - self.load).max(0.0)
    }
}

/// The processes that this one has started and that have not ended, in the order of their ids.
///
/// # Errors
/// If there is no `/proc`.
pub fn children() -> anyhow::Result<Vec<ProcessId>> {
    let parent = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("listing /proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end while it is looked at: then it is none that is meant.
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else {
            continue;
        };
        let stat = Stat::parse(&stat);
        if stat.is_some_and(|stat| stat.fields.get(1) == Some(&parent.as_str())) {
            found.push(ProcessId(id));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A line of `/proc/PID/stat`.
struct Stat<'a> {
    /// From the state on: the third field of proc(5) is the first here.
    fields: Vec<&'a str>,
}

impl<'a> Stat<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        // The program's name is in brackets, and may hold blanks and brackets itself.
        let (_name, after) = line.rsplit_once(") ")?;
        let fields = after.split_whitespace().collect();
        Some(Self { fields })
    }

    fn processor_seconds(&self) -> Option<f64> {
        let ticks = |at: usize| self.fields.get(at)?.parse::<u64>().ok();
        Some((ticks(11)? + ticks(12)?) as f64 / TICKS_PER_SECOND)
    }
}

fn processor_seconds(process: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{process}/stat");
    let line = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let seconds = Stat::parse(&line).and_then(|stat| stat.processor_seconds());
    seconds.with_context(|| format!("{path} has no times: {line}"))
}

/// All but idle time and waiting for the disk, over all processors.
fn machine_seconds() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    parse_machine(&text)
}

fn parse_machine(text: &str) -> anyhow::Result<f64> {
    let line = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("cpu "));
    let line = line.context("/proc/stat does not begin with all processors")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    // user nice system idle iowait irq softirq steal, and guest times that user includes.
    let [user, nice, system, _idle, _waiting, irq, softirq, ..] = ticks.as_slice() else {
        anyhow::bail!("/proc/stat has too few times: {line}");
    };
    ensure!(*user > 0, "/proc/stat does not count");
    Ok((user + nice + system + irq + softirq) as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn names_with_brackets_do_not_shift_the_fields() {
        let line = "42 (a) (b) S 7 42 42 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 9 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat.fields[1], "7");
        assert_eq!(stat.processor_seconds(), Some(3.0));
    }

    #[test]
    fn idle_time_is_not_used_time() {
        let text = "cpu  100 10 50 9999 8888 1 2 777 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(parse_machine(text).unwrap(), 1.63);
    }

    #[test]
    fn this_process_uses_time() {
        let before = Usage::now(&[]).unwrap();
        let give_up = Instant::now() + Duration::from_secs(10);
        // The two are brought up to date at moments of their own.
        loop {
            let used = Usage::now(&[]).unwrap().since(before);
            if used.load >= 0.02 && used.machine > 0.0 {
                break;
            }
            assert!(Instant::now() < give_up, "{used:?}");
        }
    }
}
