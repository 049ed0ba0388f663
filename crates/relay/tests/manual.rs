//! docs/operate.md lists every setting, with its default. `UPDATE_DOCS=1 cargo test -p pyrycode-relay --test manual`
//! writes the list anew.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use clap::Arg;
use std::fmt::Write as _;

const START: &str = "### Every setting\n\n";
const END: &str = "### What the environment asserts";

/// The settings as tables, one for each heading of `--help`.
fn tables() -> String {
    let command = pyrycode_relay::cli::command();
    let mut text = String::new();
    let mut heading = "";
    for arg in command.get_arguments() {
        let Some(own) = arg.get_help_heading() else {
            continue;
        };
        if own != heading {
            heading = own;
            let gap = if text.is_empty() { "" } else { "\n" };
            write!(
                text,
                "{gap}**{own}**\n\n| flag | default | |\n|---|---|---|\n"
            )
            .unwrap();
        }
        let (default, help) = default_and_help(arg);
        let name = arg.get_long().unwrap();
        writeln!(text, "| `--{name}` | {default} | {help} |").unwrap();
    }
    text + "\n"
}

/// A default that is computed is named at the end of the help, in brackets.
fn default_and_help(arg: &Arg) -> (String, String) {
    let help = arg.get_help().unwrap().to_string();
    let values: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|v| v.to_string_lossy())
        .collect();
    match help.split_once(" [default: ") {
        Some((help, default)) => (default.trim_end_matches(']').to_owned(), help.to_owned()),
        None if values.is_empty() => ("–".to_owned(), help),
        None => (format!("`{}`", values.join(",")), help),
    }
}

#[test]
fn every_setting_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operate.md");
    let manual = std::fs::read_to_string(path).unwrap();
    let start = manual.find(START).unwrap() + START.len();
    let end = manual.find(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let new = [&manual[..start], &tables(), &manual[end..]].concat();
        std::fs::write(path, new).unwrap();
        return;
    }
    assert_eq!(manual[start..end], tables(), "run with UPDATE_DOCS=1");
}
