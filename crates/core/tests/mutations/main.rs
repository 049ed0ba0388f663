//! Whether the model check would notice: each mistake of the list is made in a copy of this crate, and the check of
//! that copy must fail for the reason that the list names.
//!
//! The copies are the members of one workspace below the target directory, so that cargo builds them together, and
//! their dependencies once.

// It writes files and starts cargo; the rules of this crate are about its decisions.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod list;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use list::{MUTATIONS, Mutation};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// Without optimisation and debug information: what counts here is the time to build.
fn workspace_manifest(members: &[String]) -> String {
    format!(
        r#"[workspace]
resolver = "3"
members = {members:?}

[profile.dev]
debug = false
strip = true
incremental = false
"#
    )
}

fn manifest(name: &str) -> String {
    let model = Path::new(CRATE).join("tests/model/main.rs");
    let proto = Path::new(CRATE).with_file_name("proto");
    format!(
        r#"[package]
name = "{name}"
version = "0.0.0"
edition = "2024"

[lib]
name = "relay_core"

[[test]]
name = "model"
path = {model:?}

[dependencies]
relay-proto = {{ path = {proto:?} }}
thiserror = "2"
"#
    )
}

/// Copies a tree of texts. What is there already and the same keeps its date, and is not built again.
fn copy_tree(from: &Path, to: &Path, change: &dyn Fn(&Path, String) -> String) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_tree(&from, &to, change);
        } else {
            let text = change(&from, fs::read_to_string(&from).unwrap());
            write_if_other(&to, &text);
        }
    }
}

fn write_if_other(to: &Path, text: &str) {
    if fs::read_to_string(to).ok().as_deref() != Some(text) {
        fs::write(to, text).unwrap();
    }
}

impl Mutation {
    /// The text of the file, with the mistake.
    fn make(&self, text: &str) -> String {
        let Self {
            what, file, right, ..
        } = self;
        assert_eq!(
            text.matches(right).count(),
            1,
            "the mutation {what:?} does not apply any more: {file} should have once\n{right}"
        );
        text.replace(right, self.wrong)
    }
}

fn make_copy(to: &Path, name: &str, mutation: Option<&Mutation>) {
    let source = Path::new(CRATE).join("src");
    let mutated = mutation.map(|mutation| (mutation, Path::new(CRATE).join(mutation.file)));
    if let Some((Mutation { what, file, .. }, path)) = &mutated {
        assert!(
            path.exists(),
            "the mutation {what:?} does not apply any more: there is no {file}"
        );
    }
    copy_tree(&source, &to.join("src"), &|path, text| match &mutated {
        Some((mutation, its)) if path == its => mutation.make(&text),
        _ => text,
    });
    write_if_other(&to.join("Cargo.toml"), &manifest(name));
}

/// Runs cargo in the workspace. Whether it succeeded, and what it said.
fn cargo(workspace: &Path, arguments: &str) -> (bool, String) {
    let output = Command::new(env!("CARGO"))
        .args(arguments.split(' '))
        .current_dir(workspace)
        .env("CARGO_TARGET_DIR", workspace.join("target"))
        .env("RUST_BACKTRACE", "0")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn every_mutation_is_caught() {
    let workspace = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    // The first copy is the original, and must pass.
    let mutations = [None].into_iter().chain(MUTATIONS.iter().map(Some));
    let mutants: Vec<_> = (0..)
        .map(|n| format!("mutant-{n:02}"))
        .zip(mutations)
        .collect();
    for (name, mutation) in &mutants {
        make_copy(&workspace.join(name), name, *mutation);
    }
    let names: Vec<_> = mutants.iter().map(|(name, _)| name.clone()).collect();
    write_if_other(&workspace.join("Cargo.toml"), &workspace_manifest(&names));
    let lock = Path::new(CRATE).join("../../Cargo.lock");
    fs::copy(lock, workspace.join("Cargo.lock")).unwrap();
    let (built, said) = cargo(
        &workspace,
        "test --quiet --offline --workspace --test model --no-run",
    );
    assert!(built, "{said}");
    let mut missed = String::new();
    for (name, mutation) in &mutants {
        let check = format!("test --quiet --offline --package {name} --test model mutants");
        let (passed, said) = cargo(&workspace, &check);
        match mutation {
            None => assert!(passed && said.contains("1 passed"), "{said}"),
            Some(Mutation { breaks, .. }) if said.contains(&format!("broken: {breaks}\n")) => {}
            Some(Mutation { what, breaks, .. }) => {
                writeln!(
                    missed,
                    "NOT CAUGHT: {what}, which breaks {breaks:?}\n{said}"
                )
                .unwrap();
            }
        }
    }
    assert!(missed.is_empty(), "{missed}");
}

#[test]
#[should_panic(expected = "does not apply any more")]
fn a_mutation_of_code_that_is_gone_fails() {
    MUTATIONS[0].make("other code");
}
