//! Generates `src/gen` from `lockstep/**/*.proto` and fails where the committed code differs.
//!
//! `make gen` writes instead of comparing. A workspace of its own, because protox would change the
//! features of what RocksDB's build script uses, and with them build RocksDB once more.
//! The compiler is protox: no protoc is needed anywhere.

use std::{fs, path::Path};

use prost::Message as _;

const PROTOS: [&str; 3] = [
    "lockstep/cluster/v1/cluster.proto",
    "lockstep/lock/v1/lock.proto",
    "lockstep/raft/v1/raft.proto",
];

fn generate(root: &Path, out: &Path) {
    let descriptors = protox::compile(PROTOS, [root]).expect("the protos compile");
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec()).expect("write descriptors");
    tonic_prost_build::configure()
        .out_dir(out)
        .bytes(".lockstep.raft.v1")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)
        .expect("code is generated");
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("directory is there")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    names
}

#[test]
fn committed_code_is_what_the_protos_generate() {
    // Asked at run time: several clones share a target directory, and with it this test's binary.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this");
    let root = Path::new(&here).parent().expect("proto is above");
    let committed = root.join("src/gen");
    if std::env::var_os("LOCKSTEP_GEN").is_some_and(|how| how == "write") {
        fs::create_dir_all(&committed).expect("create src/gen");
        generate(root, &committed);
        return;
    }
    let fresh = tempfile::tempdir().expect("temporary directory");
    generate(root, fresh.path());
    assert_eq!(files(&committed), files(fresh.path()), "run `make gen`");
    for name in files(&committed) {
        let same = fs::read(committed.join(&name)).ok() == fs::read(fresh.path().join(&name)).ok();
        assert!(same, "src/gen/{name} is stale: run `make gen`");
    }
}
