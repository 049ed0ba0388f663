//! The list of cases has no gap: each is tested, or belongs to later work.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeSet;
use std::path::Path;

use relay_tests::cases::{COUNT, LATER};

/// The case numbers of all test functions beside this file.
fn tested() -> BTreeSet<u32> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut numbers = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            let names = source
                .lines()
                .filter_map(|line| line.strip_prefix("async fn c"));
            numbers.extend(names.filter_map(|name| name.split('_').next()?.parse::<u32>().ok()));
        }
    }
    numbers
}

#[test]
fn every_case_is_a_test_or_belongs_to_later_work() {
    let later: BTreeSet<u32> = LATER.iter().map(|(number, _)| *number).collect();
    for (number, subject) in LATER {
        println!("later: case {number}: {subject}");
    }
    let tested = tested();
    let both: Vec<_> = tested.intersection(&later).collect();
    assert!(both.is_empty(), "tested, so no longer later work: {both:?}");
    let all: BTreeSet<u32> = tested.union(&later).copied().collect();
    assert_eq!(all, (1..=COUNT).collect());
}
