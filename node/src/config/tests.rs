//! Bad values are reported together, each with its key; good ones come through every source.

use super::{ConfigError, Flags, LogFormat, Raw, load};

fn flags() -> Flags {
    Flags {
        peer_listen: Some("127.0.0.1:9001".into()),
        initial_nodes: Some("127.0.0.1:9003, 127.0.0.1:9001,127.0.0.1:9002".into()),
        ..Flags::default()
    }
}

#[test]
fn flags_are_stronger_than_the_file_and_lists_may_have_commas() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "name = \"from-file\"\nzone = \"a\"\nlog_format = \"json\"\ndial = [\"127.0.0.1:9002=127.0.0.1:1\"]\n",
    )
    .unwrap();
    let config = load(&Flags {
        config: Some(file.path().to_owned()),
        name: Some("from-flag".into()),
        ..flags()
    })
    .unwrap();
    assert_eq!(config.name, "from-flag");
    assert_eq!(config.zone, "a");
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.peer_advertise, "127.0.0.1:9001");
    assert_eq!(
        config.initial_nodes,
        ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"]
    );
    assert_eq!(config.dial["127.0.0.1:9002"], "127.0.0.1:1");
}

#[test]
fn every_problem_is_reported_with_its_key() {
    let error = load(&Flags {
        client_listen: Some("nonsense".into()),
        http_listen: Some("0.0.0.0:1".into()),
        peer_advertise: Some("nohost".into()),
        initial_nodes: Some("nohost".into()),
        replace_lost_after_seconds: Some(1),
        replication_factor: Some(2),
        shards: Some(0),
        heartbeat_ms: Some(1_400),
        dial: Some("x".into()),
        log_format: Some("xml".into()),
        ..flags()
    })
    .unwrap_err();
    let ConfigError::Invalid(problems) = error else {
        panic!("{error}");
    };
    let mut keys: Vec<_> = problems.iter().map(|problem| problem.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(
        keys,
        [
            "client_listen",
            "dial",
            "heartbeat_ms",
            "initial_nodes",
            "log_format",
            "peer_advertise",
            "replace_lost_after_seconds",
            "replication_factor",
            "shards"
        ]
    );
}

#[test]
fn an_unknown_key_in_the_file_is_an_error_that_names_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "shrads = 3\n").unwrap();
    let error = load(&Flags {
        config: Some(file.path().to_owned()),
        ..flags()
    })
    .unwrap_err();
    assert!(error.to_string().contains("shrads"), "{error}");
}

#[test]
fn placeholders_name_this_machine_and_are_looked_up_only_where_they_are() {
    let raw = Raw {
        name: "{host}".into(),
        data_dir: "/data/{host}".into(),
        peer_advertise: Some("{host}:7401".into()),
        initial_nodes: vec!["{host-stem}1:7401".into(), "{host-stem}2:7401".into()],
        ..Raw::default()
    };
    let named = raw.name_host(|| Ok("lockstep-node-12".into())).unwrap();
    assert_eq!(named.name, "lockstep-node-12");
    assert_eq!(named.data_dir.to_str(), Some("/data/lockstep-node-12"));
    assert_eq!(
        named.peer_advertise.as_deref(),
        Some("lockstep-node-12:7401")
    );
    assert_eq!(
        named.initial_nodes,
        ["lockstep-node-1:7401", "lockstep-node-2:7401"]
    );
    Raw::default()
        .name_host(|| panic!("nothing asks for a name"))
        .unwrap();
}
