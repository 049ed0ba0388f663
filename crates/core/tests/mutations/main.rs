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
use std::process::{Command, Output};

use list::{MUTATIONS, Mutation};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// Without optimisation and debug information: what counts here is the time to build.
const WORKSPACE: &str = r#"
[workspace]
resolver = "3"
members = ["mutant-*"]

[profile.dev]
debug = false
strip = true
incremental = false
"#;

fn manifest(name: &str) -> String {
    let proto = Path::new(CRATE).with_file_name("proto");
    format!(
        r#"
[package]
name = "{name}"
version = "0.0.0"
edition = "2024"

[lib]
name = "relay_core"
test = false
doctest = false

[[test]]
name = "{name}"
path = "{CRATE}/tests/model/main.rs"

[dependencies]
relay-proto = {{ path = "{}" }}
thiserror = "2"
"#,
        proto.display()
    )
}

/// Copies the sources that are newer or other than those that lie there already.
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

fn mutate(mutation: &Mutation, text: &str) -> String {
    let Mutation {
        what,
        file,
        right,
        wrong,
        ..
    } = mutation;
    let found = text.matches(right).count();
    assert_eq!(
        found, 1,
        "the mutation {what:?} does not apply any more: {file} should have once\n{right}"
    );
    text.replace(right, wrong)
}

fn make_copy(workspace: &Path, name: &str, mutation: Option<&Mutation>) {
    let to = workspace.join(name);
    let source = Path::new(CRATE).join("src");
    copy_tree(&source, &to.join("src"), &|path, text| match mutation {
        Some(mutation) if path == Path::new(CRATE).join(mutation.file) => mutate(mutation, &text),
        _ => text,
    });
    write_if_other(&to.join("Cargo.toml"), &manifest(name));
}

fn cargo(workspace: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(workspace)
        .env("CARGO_TARGET_DIR", workspace.join("target"))
        .env_remove("RUSTFLAGS")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn every_mutation_is_caught() {
    let workspace = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    fs::create_dir_all(&workspace).unwrap();
    write_if_other(&workspace.join("Cargo.toml"), WORKSPACE);
    let lock = Path::new(CRATE).join("../../Cargo.lock");
    let name = |n: usize| format!("mutant-{n:02}");
    // The first copy is the original, and must pass.
    make_copy(&workspace, &name(0), None);
    for (n, mutation) in (1..).zip(MUTATIONS) {
        make_copy(&workspace, &name(n), Some(mutation));
    }
    if !workspace.join("Cargo.lock").exists() {
        fs::copy(lock, workspace.join("Cargo.lock")).unwrap();
    }
    let built = cargo(
        &workspace,
        &[
            "test",
            "--quiet",
            "--offline",
            "--workspace",
            "--test",
            "*",
            "--no-run",
        ],
    );
    assert!(built.status.success(), "{}", text(&built));
    let check = |n: usize| {
        cargo(
            &workspace,
            &[
                "test",
                "--quiet",
                "--offline",
                "--package",
                &name(n),
                "--test",
                &name(n),
                "mutants",
            ],
        )
    };
    let original = text(&check(0));
    assert!(original.contains("1 passed"), "{original}");
    let mut missed = String::new();
    for (n, Mutation { what, breaks, .. }) in (1..).zip(MUTATIONS) {
        let output = text(&check(n));
        if !output.contains(&format!("broken: {breaks}\n")) {
            writeln!(
                missed,
                "NOT CAUGHT: {what}, which breaks {breaks:?}\n{output}"
            )
            .unwrap();
        }
    }
    assert!(missed.is_empty(), "{missed}");
}
