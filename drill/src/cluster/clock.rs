//! A wall clock of its own for each node process, by libfaketime.
//!
//! Invariant: only the wall clock is shifted: what is measured by monotonic clocks stays true.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};

use super::options::node_name;

/// Where Debian's package `faketime` puts the library, beneath the directory of the architecture.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The variables that give a node its clock. It begins right.
pub(super) fn env(dir: &Path, at: usize) -> anyhow::Result<Vec<(String, String)>> {
    set(dir, at, Duration::ZERO)?;
    let shift = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Ok(vec![
        shift("LD_PRELOAD", &library()?.to_string_lossy()),
        shift("FAKETIME_TIMESTAMP_FILE", &file(dir, at).to_string_lossy()),
        shift("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        shift("DONT_FAKE_MONOTONIC", "1"),
        // The file is read again each second.
        shift("FAKETIME_CACHE_DURATION", "1"),
    ])
}

/// Says how far ahead a node's clock is.
pub(super) fn set(dir: &Path, at: usize, ahead: Duration) -> anyhow::Result<()> {
    let file = file(dir, at);
    // Written beside it and moved: the node never reads half of it.
    let new = file.with_extension("new");
    fs::write(&new, format!("+{}\n", ahead.as_secs()))?;
    fs::rename(&new, &file).with_context(|| format!("writing {}", file.display()))
}

fn file(dir: &Path, at: usize) -> PathBuf {
    dir.join(format!("{}.clock", node_name(at)))
}

fn library() -> anyhow::Result<PathBuf> {
    for entry in fs::read_dir("/usr/lib")? {
        let library = entry?.path().join(LIBRARY);
        if library.exists() {
            return Ok(library);
        }
    }
    bail!("there is no /usr/lib/*/{LIBRARY}: apt-get install faketime");
}
