//! The command line.
//!
//! Invariant: from the first word that is no option of this program on, everything is lockstepctl's.

use std::{ffi::OsString, path::PathBuf};

use clap::Parser;

/// Runs lockstepctl on a cluster, found by its SyncCluster, through the Kubernetes API server.
///
/// All that follows the options below is for lockstepctl: kubectl lockstep status --watch. Needed are
/// the rights to list SyncClusters and pods and to create pods/portforward.
#[derive(Debug, Parser)]
#[command(name = "kubectl-lockstep", bin_name = "kubectl lockstep", version)]
pub(crate) struct Arguments {
    /// The cluster's namespace [default: the context's]
    #[arg(long, short, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,

    /// The SyncCluster's name [default: the only one in the namespace]
    #[arg(long, env = "LOCKSTEP_CLUSTER", value_name = "NAME")]
    pub(crate) cluster: Option<String>,

    /// The context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// The kubeconfig [default: KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The program lockstepctl [default: the one beside this program, or in PATH]
    #[arg(long, env = "LOCKSTEPCTL", value_name = "PROGRAM")]
    pub(crate) lockstepctl: Option<PathBuf>,

    /// What lockstepctl is to do: status, node ls, lock run NAME -- COMMAND, ...
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub(crate) command: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn options_come_first_and_the_rest_is_passed_on() {
        let line = "kubectl-lockstep -n apps --cluster demo --context c --kubeconfig f lock run x -n 1 -- sh -c date";
        let read = parse(line).unwrap();
        assert_eq!(read.namespace.as_deref(), Some("apps"));
        assert_eq!(read.cluster.as_deref(), Some("demo"));
        assert_eq!(read.context.as_deref(), Some("c"));
        assert_eq!(read.kubeconfig, Some("f".into()));
        let rest: Vec<_> = "lock run x -n 1 -- sh -c date".split(' ').collect();
        assert_eq!(read.command, rest);
    }

    #[test]
    fn lockstepctls_own_options_may_come_first() {
        let read = parse("kubectl-lockstep -n apps --output json status").unwrap();
        assert_eq!(read.namespace.as_deref(), Some("apps"));
        assert_eq!(read.command, ["--output", "json", "status"]);
    }

    #[test]
    fn without_a_command_it_says_what_is_missing() {
        let error = parse("kubectl-lockstep -n apps").unwrap_err();
        assert!(error.to_string().contains("COMMAND"), "{error}");
    }
}
