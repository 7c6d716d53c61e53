//! Finds the node program that belongs to this build.

use std::{env, path::PathBuf};

use anyhow::{Context, ensure};

/// `LOCKSTEP_NODE_BIN`, or else `lockstep-node` beside this program or one directory up, where
/// cargo puts it for the programs and tests of one build.
pub(super) fn node_program() -> anyhow::Result<PathBuf> {
    if let Some(path) = env::var_os("LOCKSTEP_NODE_BIN") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "LOCKSTEP_NODE_BIN names {}, which is no file",
            path.display()
        );
        return Ok(path);
    }
    let this = env::current_exe().context("where this program is")?;
    let name = format!("lockstep-node{}", env::consts::EXE_SUFFIX);
    let mut beside = this.ancestors().skip(1).take(2).map(|dir| dir.join(&name));
    beside.find(|path| path.is_file()).with_context(|| {
        format!(
            "no {name} beside {}: build it with `cargo build --release -p lockstep-node`, or name it \
             in LOCKSTEP_NODE_BIN",
            this.display()
        )
    })
}
