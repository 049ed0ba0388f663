//! docs/dependencies.md says of each dependency why it is there, and of nothing else; and each is used.

use crate::crates::{Graph, graph};
use crate::none;
use std::collections::BTreeSet;

/// The crates that make up the program; everything else is tests and tools.
const PROGRAM: [&str; 4] = [
    "relay-proto",
    "relay-core",
    "relay-client",
    "pyrycode-relay",
];

/// The names in the first column of the table under `heading`.
fn documented<'a>(manual: &'a str, heading: &str) -> BTreeSet<&'a str> {
    let lines = manual.lines().skip_while(|line| *line != heading).skip(1);
    let rows = lines
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| "));
    let cells = rows.skip(1).filter_map(|row| row.split('|').nth(1));
    cells
        .flat_map(|cell| cell.split(',').map(str::trim))
        .collect()
}

/// What the program depends on, and what only the rest does.
fn used(graph: &Graph) -> [BTreeSet<&str>; 2] {
    let [mut program, mut rest] = [BTreeSet::new(), BTreeSet::new()];
    for (member, dependencies) in graph {
        let outside = dependencies
            .iter()
            .filter(|(name, _)| !graph.contains_key(name));
        for (name, for_tests) in outside {
            let own = PROGRAM.contains(&&**member) && !for_tests;
            if own { &mut program } else { &mut rest }.insert(&**name);
        }
    }
    [program, rest]
}

fn wrong(manual: &str, graph: &Graph) -> Vec<String> {
    let in_program = documented(manual, "## In the program");
    let in_rest = documented(manual, "## In tests and tools");
    let [program, rest] = used(graph);
    let both = &in_program | &in_rest;
    let missing = program
        .difference(&in_program)
        .chain(rest.difference(&both));
    let missing = missing.map(|name| format!("{name} has no line"));
    // What is in both tables is explained twice: it is in the tests for another reason.
    let stale = in_program
        .difference(&program)
        .chain(in_rest.difference(&rest));
    missing
        .chain(stale.map(|name| format!("{name} is not used there")))
        .collect()
}

#[test]
fn every_dependency_has_its_line() {
    let manual = std::fs::read_to_string(crate::root().join("docs/dependencies.md")).unwrap();
    let mut graph = graph("Cargo.toml");
    graph.extend(crate::crates::graph("fuzz/Cargo.toml"));
    none("docs/dependencies.md", &wrong(&manual, &graph));
}

#[test]
fn a_dependency_without_a_line_is_found() {
    let manual = "## In the program\n\n| crate | why |\n|---|---|\n| a, b | x |\n## In tests and tools\n| crate | why |\n|---|---|\n| c | y |\nText.\n";
    let needs = |of: &[(&str, bool)]| of.iter().map(|(n, dev)| ((*n).to_owned(), *dev)).collect();
    let graph = Graph::from([
        (
            "relay-core".to_owned(),
            needs(&[("a", false), ("d", false), ("e", true)]),
        ),
        (
            "relay-sim".to_owned(),
            needs(&[("relay-core", false), ("a", false)]),
        ),
    ]);
    assert_eq!(
        wrong(manual, &graph),
        [
            "d has no line",
            "e has no line",
            "b is not used there",
            "c is not used there",
        ]
    );
}
