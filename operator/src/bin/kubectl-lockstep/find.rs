//! Which cluster, and which of its pods.
//!
//! Invariant: nothing is guessed: of several clusters one has to be named.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use lockstep_operator::{cluster::build::selector, crd::v1alpha1::SyncCluster};

/// Why there is nobody to talk to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    #[error(
        "this Kubernetes knows no SyncClusters: install the chart lockstep-crds, or name another with --context"
    )]
    NoDefinition,
    #[error("there is no SyncCluster in namespace {namespace}: name another with --namespace")]
    NoCluster { namespace: String },
    #[error("there is no SyncCluster {name} in namespace {namespace}, but {others}")]
    NotThat {
        name: String,
        namespace: String,
        others: String,
    },
    #[error(
        "there are several SyncClusters in namespace {namespace}: name one of {names} with --cluster"
    )]
    Several { namespace: String, names: String },
    #[error("no pod of {cluster} is ready: look at `kubectl describe synccluster {cluster}`")]
    NoReadyPod { cluster: String },
    #[error("cannot list {what}: {source}")]
    Refused {
        what: &'static str,
        source: Box<kube::Error>,
    },
}

fn refused(what: &'static str, source: kube::Error) -> FindError {
    FindError::Refused {
        what,
        source: Box::new(source),
    }
}

/// The cluster that is meant.
///
/// # Errors
/// If there is none of the name, or several without a name.
pub(crate) async fn cluster(
    clusters: &Api<SyncCluster>,
    namespace: &str,
    wanted: Option<&str>,
) -> Result<String, FindError> {
    let listed = match clusters.list_metadata(&ListParams::default()).await {
        Ok(listed) => listed,
        Err(kube::Error::Api(answer)) if answer.code == 404 => return Err(FindError::NoDefinition),
        Err(error) => return Err(refused("SyncClusters", error)),
    };
    let names = listed.items.iter().map(ResourceExt::name_any);
    choose(names.collect(), namespace, wanted)
}

fn choose(
    mut names: Vec<String>,
    namespace: &str,
    wanted: Option<&str>,
) -> Result<String, FindError> {
    let namespace = namespace.to_owned();
    names.sort_unstable();
    match (wanted, names.as_slice()) {
        (_, []) => Err(FindError::NoCluster { namespace }),
        (Some(name), names) if names.iter().any(|known| known == name) => Ok(name.to_owned()),
        (Some(name), names) => Err(FindError::NotThat {
            name: name.to_owned(),
            namespace,
            others: names.join(", "),
        }),
        (None, [only]) => Ok(only.clone()),
        (None, names) => Err(FindError::Several {
            namespace,
            names: names.join(", "),
        }),
    }
}

/// The ready pods of a cluster.
///
/// # Errors
/// If there is none.
pub(crate) async fn pods(pods: &Api<Pod>, cluster: &str) -> Result<Vec<String>, FindError> {
    let labels: Vec<String> = selector(cluster)
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mine = ListParams::default().labels(&labels.join(","));
    let listed = pods.list(&mine).await;
    let listed = listed.map_err(|error| refused("pods", error))?;
    let ready = listed.items.iter().filter(|pod| serves(pod));
    let names: Vec<String> = ready.map(ResourceExt::name_any).collect();
    if names.is_empty() {
        let cluster = cluster.to_owned();
        return Err(FindError::NoReadyPod { cluster });
    }
    Ok(names)
}

/// True if a pod is ready and is to stay.
fn serves(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    pod.metadata.deletion_timestamp.is_none() && ready.any(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_only_cluster_needs_no_name() {
        assert_eq!(choose(names(&["demo"]), "apps", None).unwrap(), "demo");
        assert_eq!(choose(names(&["a", "b"]), "apps", Some("b")).unwrap(), "b");
    }

    #[test]
    fn what_is_missing_is_named() {
        let none = choose(vec![], "apps", Some("demo")).unwrap_err();
        assert!(matches!(&none, FindError::NoCluster { namespace } if namespace == "apps"));
        let several = choose(names(&["b", "a"]), "apps", None).unwrap_err();
        assert!(several.to_string().contains("a, b"), "{several}");
        let other = choose(names(&["b", "a"]), "apps", Some("c")).unwrap_err();
        assert!(other.to_string().contains("no SyncCluster c"), "{other}");
        assert!(other.to_string().contains("a, b"), "{other}");
    }

    #[test]
    fn pods_that_start_or_stop_are_not_connected_to() {
        let pod = |ready: &str, deleted: Option<&str>| -> Pod {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "demo-0", "deletionTimestamp": deleted},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap()
        };
        assert!(serves(&pod("True", None)));
        assert!(!serves(&pod("False", None)));
        assert!(!serves(&pod("True", Some("2026-01-01T00:00:00Z"))));
        assert!(!serves(&Pod::default()));
    }
}
