//! The crates depend on each other in one direction only.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeSet;
use std::process::Command;

/// Every edge between the crates of this workspace that is meant to be.
const EDGES: [(&str, &str); 14] = [
    ("relay-core", "relay-proto"),
    ("relay-client", "relay-proto"),
    ("pyrycode-relay", "relay-proto"),
    ("pyrycode-relay", "relay-core"),
    ("pyrycode-relay", "relay-client"),
    ("relay-bench", "relay-proto"),
    ("relay-bench", "relay-client"),
    // For sessions without sockets, whose memory it measures.
    ("relay-bench", "pyrycode-relay"),
    ("relay-sim", "relay-proto"),
    ("relay-sim", "relay-core"),
    ("relay-sim", "relay-client"),
    // For the whole relay without sockets.
    ("relay-sim", "pyrycode-relay"),
    ("relay-chaos", "relay-client"),
    // For its messages, its chance and its reader of metrics.
    ("relay-chaos", "relay-sim"),
];

#[test]
fn the_crates_depend_on_each_other_as_drawn() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap().to_owned();
    let members: BTreeSet<String> = packages.iter().map(name).collect();
    let mut found = BTreeSet::new();
    for package in packages {
        let dependencies = package["dependencies"].as_array().unwrap();
        let inside = dependencies
            .iter()
            .map(name)
            .filter(|d| members.contains(d));
        found.extend(inside.map(|dependency| (name(package), dependency)));
    }
    let meant = EDGES.map(|(from, to)| (from.to_owned(), to.to_owned()));
    assert_eq!(
        found,
        BTreeSet::from(meant),
        "an edge was added or is gone: change it here, with a reason"
    );
}

#[test]
fn the_pure_crates_keep_their_bans() {
    for crate_name in ["proto", "core"] {
        let path = format!(
            "{}/../crates/{crate_name}/clippy.toml",
            env!("CARGO_MANIFEST_DIR")
        );
        let bans = std::fs::read_to_string(path).unwrap();
        for banned in [
            "std::time::Instant",
            "std::time::SystemTime",
            "std::net::TcpStream",
        ] {
            assert!(bans.contains(banned), "{crate_name} does not ban {banned}");
        }
    }
}
