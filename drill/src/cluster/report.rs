//! What a person needs who looks at a failed run: where everything is, and how the logs end.

use std::{
    fmt::Write as _,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use super::node::Node;

/// How much of each log is shown: the last minute or so of a healthy node.
const TAIL_BYTES: u64 = 6 * 1024;

pub(super) fn logs(dir: &Path, nodes: &[Node]) -> String {
    let mut report = format!("data and logs are kept in {}", dir.display());
    for node in nodes {
        let tail = tail(node.log()).unwrap_or_else(|error| format!("unreadable: {error}"));
        let shown = node.log().display();
        let _infallible = write!(report, "\n--- the end of {shown}:\n{}", tail.trim_end());
    }
    report
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    if len <= TAIL_BYTES {
        return Ok(text.into_owned());
    }
    let whole_lines = text.split_once('\n').map_or("", |(_cut, rest)| rest);
    Ok(whole_lines.to_owned())
}
