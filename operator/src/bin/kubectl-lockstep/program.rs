//! lockstepctl: where it is, and its life.
//!
//! Invariant: it gets each signal once. The terminal sends its own to it as well as to this program;
//! what others send only to this program is passed on.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::IsTerminal as _,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

/// The program that does the work.
const NAME: &str = "lockstepctl";
/// Codes above it stand for signals, as in shells.
const SIGNAL_BASE: i32 = 128;

/// There is no lockstepctl.
#[derive(Debug, thiserror::Error)]
#[error(
    "{NAME} is missing: put it beside this program or into PATH (`make build` makes it; it is in the image lockstep-cli, too), or name it with --lockstepctl"
)]
pub(crate) struct Missing;

/// Finds lockstepctl: the named one, the one beside this program, or the one in `PATH`.
///
/// # Errors
/// If there is none.
pub(crate) fn find(named: Option<&Path>) -> Result<PathBuf, Missing> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let me = env::current_exe().ok();
    let beside = me.as_deref().and_then(Path::parent);
    search(beside, env::var_os("PATH").as_deref())
}

fn search(beside: Option<&Path>, path: Option<&OsStr>) -> Result<PathBuf, Missing> {
    let directories = path.map(env::split_paths).into_iter().flatten();
    let places = beside.map(Path::to_owned).into_iter().chain(directories);
    let mut programs = places.map(|place| place.join(NAME));
    programs.find(|program| program.is_file()).ok_or(Missing)
}

/// Runs lockstepctl to its end. Its exit code.
///
/// # Errors
/// If it cannot be started.
pub(crate) async fn run(program: &Path, endpoint: &str, rest: &[OsString]) -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut child = Command::new(program)
        // It speaks of itself as `kubectl lockstep` then.
        .arg0("kubectl-lockstep")
        .args(rest)
        // For what it runs, too: `lock run NAME -- lockstepctl ...`.
        .env("LOCKSTEP_ENDPOINTS", endpoint)
        // The names that nodes have for each other are good within their Kubernetes only.
        .env("LOCKSTEP_ONLY_ENDPOINTS", "true")
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let pass = |signal: Signal| {
        if let Some(id) = id {
            // It may have ended already.
            let _ended = kill(Pid::from_raw(id), signal);
        }
    };
    let by_terminal = std::io::stdin().is_terminal();
    loop {
        tokio::select! {
            status = child.wait() => return Ok(code(status?)),
            _ = terminate.recv() => pass(Signal::SIGTERM),
            _ = hangup.recv() => pass(Signal::SIGHUP),
            _ = interrupt.recv() => if !by_terminal { pass(Signal::SIGINT) },
        }
    }
}

fn code(status: ExitStatus) -> u8 {
    let signal = status.signal().map_or(0, |signal| SIGNAL_BASE + signal);
    u8::try_from(status.code().unwrap_or(signal)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_passed_on() {
        assert_eq!(code(ExitStatus::from_raw(0)), 0);
        assert_eq!(code(ExitStatus::from_raw(75 << 8)), 75);
        assert_eq!(code(ExitStatus::from_raw(15)), 143);
    }

    #[test]
    fn it_is_found_beside_or_in_path() {
        let root = env::temp_dir().join(format!("kubectl-lockstep-{}", std::process::id()));
        let (beside, other) = (root.join("beside"), root.join("other"));
        std::fs::create_dir_all(&beside).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        assert!(search(Some(&beside), Some(other.as_os_str())).is_err());
        std::fs::write(other.join(NAME), "").unwrap();
        let found = search(Some(&beside), Some(other.as_os_str())).unwrap();
        assert_eq!(found, other.join(NAME));
        std::fs::write(beside.join(NAME), "").unwrap();
        let found = search(Some(&beside), Some(other.as_os_str())).unwrap();
        assert_eq!(found, beside.join(NAME));
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[tokio::test]
    async fn it_gets_the_endpoint_and_its_code_comes_back() {
        let script = "test \"$1 $LOCKSTEP_ENDPOINTS $LOCKSTEP_ONLY_ENDPOINTS\" = 'status 127.0.0.1:1 true' && exit 9";
        let path = env::temp_dir().join(format!("kubectl-lockstep-{}.sh", std::process::id()));
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mut permissions = std::fs::metadata(&path).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o700);
        std::fs::set_permissions(&path, permissions).unwrap();
        let ended = run(&path, "127.0.0.1:1", &["status".into()]).await;
        std::fs::remove_file(&path).unwrap();
        assert_eq!(ended.unwrap(), 9);
    }
}
