//! The crates depend on each other in one direction only, and the pure ones on little else.

use crate::none;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What each crate of this workspace uses of it.
const USES: [(&str, &[&str]); 9] = [
    ("relay-proto", &[]),
    ("relay-core", &["relay-proto"]),
    ("relay-client", &["relay-proto"]),
    (
        "pyrycode-relay",
        &["relay-client", "relay-core", "relay-proto"],
    ),
    // For sessions without sockets, whose memory it measures.
    (
        "relay-bench",
        &["pyrycode-relay", "relay-client", "relay-proto"],
    ),
    // For the whole relay without sockets.
    (
        "relay-sim",
        &[
            "pyrycode-relay",
            "relay-client",
            "relay-core",
            "relay-proto",
        ],
    ),
    // For the simulation's messages, its chance and its reader of metrics, and the tests' second host.
    ("relay-chaos", &["relay-client", "relay-sim", "relay-tests"]),
    // Compiles files of the relay against loom.
    (
        "relay-loom",
        &["pyrycode-relay", "relay-core", "relay-proto"],
    ),
    // Shares no code with what it tests.
    ("relay-tests", &[]),
];

/// What the pure crates use from elsewhere in the program: no runtime, no sockets, no clock.
const PURE: [(&str, &[&str]); 2] = [
    (
        "relay-proto",
        &[
            "base64",
            "multiversion",
            "proxy-header",
            "sha1",
            "simdutf8",
            "thiserror",
        ],
    ),
    ("relay-core", &["thiserror"]),
];

/// For each crate of a workspace what it depends on: as (name, only for its tests).
pub(crate) type Graph = BTreeMap<String, BTreeSet<(String, bool)>>;

/// That of the workspace of this manifest, as cargo understands it.
pub(crate) fn graph(manifest: &str) -> Graph {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--no-deps",
            "--offline",
            "--manifest-path",
        ])
        .arg(crate::root().join(manifest))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let dependencies = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.map(|d| (name(d), d["kind"] == "dev")).collect()
    };
    packages
        .map(|package| (name(package), dependencies(package)))
        .collect()
}

fn wrong(graph: &Graph, uses: &[(&str, &[&str])], pure: &[(&str, &[&str])]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |who: &str, found: BTreeSet<&str>, meant: &[&str]| {
        let meant = BTreeSet::from_iter(meant.iter().copied());
        if found != meant {
            wrong.push(format!("{who} uses {found:?}, meant are {meant:?}"));
        }
    };
    for (member, dependencies) in graph {
        let meant = uses.iter().find(|(name, _)| name == member);
        let inside = dependencies
            .iter()
            .filter(|(name, _)| graph.contains_key(name));
        compare(
            member,
            inside.map(|(name, _)| &**name).collect(),
            meant.map_or(&["?"], |m| m.1),
        );
        if let Some((_, meant)) = pure.iter().find(|(name, _)| name == member) {
            let outside = dependencies
                .iter()
                .filter(|(name, dev)| !dev && !graph.contains_key(name));
            compare(member, outside.map(|(name, _)| &**name).collect(), meant);
        }
    }
    wrong
}

#[test]
fn the_crates_depend_on_each_other_as_drawn() {
    none(
        "change the table, with a reason",
        &wrong(&graph("Cargo.toml"), &USES, &PURE),
    );
}

#[test]
fn a_new_dependency_is_found() {
    let needs = |of: &[(&str, bool)]| of.iter().map(|(n, dev)| ((*n).to_owned(), *dev)).collect();
    let graph = BTreeMap::from([
        (
            "core".to_owned(),
            needs(&[("tokio", false), ("proptest", true), ("relay", true)]),
        ),
        (
            "relay".to_owned(),
            needs(&[("core", false), ("tokio", false)]),
        ),
        ("new".to_owned(), needs(&[])),
    ]);
    let wrong = wrong(
        &graph,
        &[("core", &[]), ("relay", &["core"])],
        &[("core", &[])],
    );
    assert_eq!(
        wrong,
        [
            "core uses {\"relay\"}, meant are {}",
            "core uses {\"tokio\"}, meant are {}",
            "new uses {}, meant are {\"?\"}",
        ]
    );
}

#[test]
fn the_pure_crates_keep_their_bans() {
    for crate_name in ["proto", "core"] {
        let path = crate::root().join(format!("crates/{crate_name}/clippy.toml"));
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
