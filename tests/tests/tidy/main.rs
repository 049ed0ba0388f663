//! What no compiler checks about this repository: sizes, banned calls, who may use whom, that nothing is declared and
//! then not used, and that its documents are true. Reads the sources, builds nothing, and takes a second.
//!
//! Each rule has a test of its own on a bad sample, so that it is known to be able to fail.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod calls;
mod crates;
mod dependencies;
mod documents;
mod modules;
mod settings;
mod sizes;
mod source;
mod vocabulary;

use std::path::PathBuf;

/// The root of the repository.
fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Fails with all of them at once.
fn none(rule: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{rule}:\n{}", violations.join("\n"));
}
