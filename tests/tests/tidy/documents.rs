//! What is written beside the code is true: links lead somewhere, named files exist, every test says what it is about,
//! and nothing names a place that only one machine has.

use crate::none;
use crate::source::{self, Source};
use std::path::Path;

/// Folders of this repository, as documents name files in them.
const FOLDERS: [&str; 9] = [
    "bench/",
    "crates/",
    "docs/",
    "fuzz/",
    "loom/",
    "packaging/",
    "scripts/",
    "sim/",
    "tests/",
];

/// Folders of some machine. `/tmp` and the system's own are everywhere.
const ELSEWHERE: [&str; 6] = ["/home/", "/opt/", "/root/", "/Users/", "/work/", "/mnt/"];

/// The targets of a document's links that are files, and the files of this repository that it names as code; each with
/// whether it is seen from the root.
fn named(text: &str) -> Vec<(&str, bool)> {
    let links = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#']).next());
    let links = links.filter(|target| !target.is_empty() && !target.contains("://"));
    let spans = text.split('`').skip(1).step_by(2);
    let files = spans.filter(|span| {
        FOLDERS.iter().any(|folder| span.starts_with(folder))
            && !span.contains([' ', '*', '\n', '…'])
    });
    links
        .map(|link| (link, false))
        .chain(files.map(|file| (file, true)))
        .collect()
}

fn leads_nowhere(path: &str, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let folder = Path::new(path).parent().unwrap();
    let lost = named(text).into_iter().filter(|(target, from_root)| {
        let place = if *from_root {
            Path::new(target).to_owned()
        } else {
            folder.join(target)
        };
        !exists(&place)
    });
    lost.map(|(target, _)| format!("{path}: {target}"))
        .collect()
}

#[test]
fn what_documents_name_is_there() {
    let documents = source::files(&["md"]);
    assert!(documents.len() > 10);
    let exists = |path: &Path| crate::root().join(path).exists();
    let lost = documents
        .iter()
        .flat_map(|(path, text)| leads_nowhere(path, text, exists));
    none("no such file", &lost.collect::<Vec<_>>());
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let text =
        "[a](b.md#c) [d](../e.md) [f](https://g.h/) `crates/i.rs` `crates/*.rs` `j.rs` [k](#l)";
    let known = ["docs/b.md", "crates/m.rs"].map(Path::new);
    let lost = leads_nowhere("docs/n.md", text, |path| known.contains(&path));
    assert_eq!(lost, ["docs/n.md: ../e.md", "docs/n.md: crates/i.rs"]);
}

/// The lines that name a folder of one machine only.
fn of_one_machine(path: &str, text: &str) -> Vec<String> {
    let begins = |line: &str, at: usize| {
        let before = line[..at].chars().next_back();
        before
            .is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '*' | '}' | '/'))
    };
    let found = |line: &&str| {
        ELSEWHERE
            .iter()
            .any(|place| line.match_indices(place).any(|(at, _)| begins(line, at)))
    };
    let lines = text.lines().filter(found);
    lines
        .map(|line| format!("{path}: {}", line.trim()))
        .collect()
}

#[test]
fn nothing_names_a_place_of_one_machine() {
    let files = source::files(&[]);
    let own = |path: &str| path == "tests/tests/tidy/documents.rs";
    let found = files.iter().filter(|(path, _)| !own(path));
    let found = found.flat_map(|(path, text)| of_one_machine(path, text));
    none("other machines do not have it", &found.collect::<Vec<_>>());
}

#[test]
fn a_place_of_one_machine_is_found() {
    let text = "a /opt/b\nc.d/work/e\n\"/home/f\"\nhttps://g/root/h\n";
    assert_eq!(of_one_machine("i", text), ["i: a /opt/b", "i: \"/home/f\""]);
}

/// Whether it begins by saying what it is about.
fn is_explained(source: &Source) -> bool {
    let mut lines = source.lines();
    lines
        .next()
        .is_some_and(|line| line.text.starts_with("//! ") && line.text.len() > 10)
}

#[test]
fn every_file_says_what_it_is_about() {
    let sources = source::all();
    // A module's tests are about the module.
    let about_itself = |source: &&Source| !source.path.ends_with("tests.rs");
    let silent = sources
        .iter()
        .filter(about_itself)
        .filter(|source| !is_explained(source));
    none(
        "begins without `//! `",
        &silent.map(|source| source.path.clone()).collect::<Vec<_>>(),
    );
}

#[test]
fn a_file_without_explanation_is_found() {
    assert!(!is_explained(&Source::new(
        "tests/tests/a.rs",
        "use b;\n//! Something about it.\n"
    )));
    assert!(is_explained(&Source::new(
        "tests/tests/a.rs",
        "//! Something about it.\n"
    )));
}
