//! What the environment says of the configuration: `LOCKSTEP_<KEY>`.
//!
//! Invariant: a value is taken as what its key is, never as what it looks like: a node may be called
//! `123`, and a zone `1`. An empty variable is one that is not set, as deployments write it that leave
//! a value out. What is no setting is named, because it is a misspelt one as a rule.

use std::collections::BTreeMap;

use figment::{
    Error, Figment, Metadata, Profile, Provider,
    providers::Serialized,
    value::{Dict, Map, Value},
};

use super::raw::{KEYS, Raw};

const PREFIX: &str = "LOCKSTEP_";
/// Variables that are no keys of the configuration, but known.
const OTHERS: &[&str] = &["CONFIG", "CRASH_AT", "ENDPOINTS", "ONLY_ENDPOINTS"];

/// The variables of a process whose names begin with `LOCKSTEP_`, without that.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Of this process. A value that is no text counts as not set; figment takes it so, too.
    #[must_use]
    pub fn of_process() -> Self {
        let texts = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            Some((name, value.into_string().ok()?))
        });
        Self::of(texts)
    }

    fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = variables
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_owned(), value)));
        Self(ours.collect())
    }

    /// The variables that set nothing. Those that Kubernetes makes for a Service of this name are not
    /// among them.
    pub fn unknown(&self) -> impl Iterator<Item = String> + '_ {
        let names = self.0.keys().filter(|name| {
            let is_key = KEYS.contains(&name.to_ascii_lowercase().as_str());
            !is_key && !OTHERS.contains(&name.as_str()) && !is_service_link(name)
        });
        names.map(|name| format!("{PREFIX}{name}"))
    }

    /// What is given of the keys that have these defaults.
    fn given(&self, defaults: &Dict) -> Dict {
        let given = KEYS.iter().filter_map(|key| {
            let text = self.0.get(&key.to_ascii_uppercase())?;
            let number = match defaults.get(*key) {
                Some(Value::Num(..)) => text.trim().parse::<u64>().ok(),
                // What is no number is told by who takes it.
                Some(_) | None => None,
            };
            let value = number.map_or_else(|| Value::from(text.clone()), Value::from);
            Some(((*key).to_owned(), value))
        });
        given.collect()
    }
}

/// `..._SERVICE_HOST`, `..._SERVICE_PORT` and what begins so, `..._PORT`, `..._PORT_7400_TCP...`: of a
/// Service called `lockstep` or `lockstep-...` in the pod's namespace.
fn is_service_link(name: &str) -> bool {
    let after_port = |(_, rest): (&str, &str)| rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("SERVICE_HOST")
        || name.contains("SERVICE_PORT")
        || name == "PORT"
        || name.ends_with("_PORT")
        || name.split_once("PORT_").is_some_and(after_port)
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("environment variables").interpolater(|_, keys| {
            let keys: Vec<String> = keys.iter().map(|key| key.to_ascii_uppercase()).collect();
            format!("{PREFIX}{}", keys.join("_"))
        })
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let defaults: Dict = Figment::from(Serialized::defaults(Raw::default())).extract()?;
        Ok(Map::from([(Profile::Default, self.given(&defaults))]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Environment::of(variables.iter().map(owned))
    }

    fn raw(variables: &[(&str, &str)]) -> Result<Raw, String> {
        Figment::from(Serialized::defaults(Raw::default()))
            .merge(environment(variables))
            .extract()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_value_is_what_its_key_is() {
        let raw = raw(&[
            ("LOCKSTEP_NAME", "123"),
            ("LOCKSTEP_ZONE", "1"),
            ("LOCKSTEP_LOG", "true"),
            ("LOCKSTEP_SHARDS", "4"),
            ("LOCKSTEP_INITIAL_NODES", "a:1,b:2,"),
            ("LOCKSTEP_HEARTBEAT_MS", ""),
        ]);
        let raw = raw.unwrap();
        assert_eq!((raw.name.as_str(), raw.zone.as_str()), ("123", "1"));
        assert_eq!((raw.log.as_str(), raw.shards), ("true", 4));
        assert_eq!(raw.initial_nodes, ["a:1", "b:2"]);
        assert_eq!(raw.heartbeat_ms, Raw::default().heartbeat_ms);
    }

    #[test]
    fn what_is_no_number_is_refused_by_its_name() {
        let error = raw(&[("LOCKSTEP_SHARDS", "four")]).unwrap_err();
        assert!(
            error.contains("LOCKSTEP_SHARDS") && error.contains("four"),
            "{error}"
        );
    }

    #[test]
    fn a_misspelt_setting_is_named_and_kubernetes_links_are_not() {
        let environment = environment(&[
            ("LOCKSTEP_SHRADS", "4"),
            ("LOCKSTEP_SHARDS", "4"),
            ("LOCKSTEP_CONFIG", "f"),
            ("LOCKSTEP_SERVICE_HOST", "10.0.0.1"),
            ("LOCKSTEP_SERVICE_PORT_CLIENTS", "7400"),
            ("LOCKSTEP_PORT", "tcp://10.0.0.1:7400"),
            ("LOCKSTEP_DEMO_PORT_7400_TCP_ADDR", "10.0.0.1"),
            ("OTHER", "x"),
        ]);
        let unknown: Vec<String> = environment.unknown().collect();
        assert_eq!(unknown, ["LOCKSTEP_SHRADS"]);
    }
}
