//! docs/operate.md lists every setting with its default, docs/log.md everything the log can say.
//! `UPDATE_DOCS=1 cargo test -p pyrycode-relay --test manual` writes the lists anew.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use clap::Arg;
use pyrycode_relay::observe::log::Event;
use std::fmt::Write as _;

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

/// What the log can say, event by event.
fn events() -> String {
    let mut text = "| event | level | keys | |\n|---|---|---|---|\n".to_owned();
    for event in Event::ALL {
        let keys = event.keys().iter().map(|key| format!("`{}`", key.name()));
        let keys = keys.collect::<Vec<_>>().join(", ");
        let (name, level) = (event.name(), event.level().name());
        let meaning = event.meaning();
        writeln!(text, "| `{name}` | {level} | {keys} | {meaning} |").unwrap();
    }
    text
}

/// That the part of `docs/FILE` from `start` to `end` is `expected`.
fn pin(file: &str, start: &str, end: &str, expected: &str) {
    let path = format!("{}/../../docs/{file}", env!("CARGO_MANIFEST_DIR"));
    let manual = std::fs::read_to_string(&path).unwrap();
    let start = manual.find(start).unwrap() + start.len();
    let end = match end {
        "" => manual.len(),
        end => manual.find(end).unwrap(),
    };
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let new = [&manual[..start], expected, &manual[end..]].concat();
        return std::fs::write(path, new).unwrap();
    }
    assert_eq!(manual[start..end], *expected, "run with UPDATE_DOCS=1");
}

#[test]
fn every_setting_is_documented() {
    let (start, end) = ("### Every setting\n\n", "### What the environment asserts");
    pin("operate.md", start, end, &tables());
}

#[test]
fn every_event_of_the_log_is_documented() {
    pin("log.md", "## Events\n\n", "", &events());
}
