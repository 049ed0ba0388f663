//! Every event of the log is written somewhere, every key is filled in, and no other file makes lines. (That each is
//! documented, and that no line has another key, is tested where they are.)

use crate::none;
use crate::source::{self, Source};

const VOCABULARY: &str = "crates/relay/src/observe/vocabulary.rs";

/// The variants of the macro's table `table! { … }`.
fn variants(vocabulary: &Source, table: &str) -> Vec<String> {
    let mut lines = vocabulary
        .lines()
        .skip_while(|line| line.code != format!("{table}! {{"));
    lines.next();
    lines
        .take_while(|line| line.code != "}")
        .filter(|line| line.code.starts_with("    ") && !line.code.starts_with("     "))
        .filter_map(|line| line.code.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// The variants of `kind` that no other file names.
fn unused(kind: &str, variants: &[String], sources: &[Source]) -> Vec<String> {
    let named = |variant: &str| {
        let path = format!("{kind}::{variant}");
        let whole = |code: &str| {
            let mut places = code.match_indices(&path).map(|(at, _)| at + path.len());
            places.any(|end| !code[end..].starts_with(char::is_alphanumeric))
        };
        let inside = |source: &&Source| {
            source.path.starts_with("crates/relay/src/") && source.path != VOCABULARY
        };
        let mut others = sources.iter().filter(inside);
        others.any(|source| source.program().any(|line| whole(line.code)))
    };
    let unused = variants.iter().filter(|variant| !named(variant));
    unused.map(|variant| format!("{kind}::{variant}")).collect()
}

#[test]
fn every_event_and_every_key_is_written_somewhere() {
    let sources = source::all();
    let vocabulary = sources
        .iter()
        .find(|source| source.path == VOCABULARY)
        .unwrap();
    let (events, keys) = (variants(vocabulary, "events"), variants(vocabulary, "keys"));
    assert!(events.len() > 50 && keys.len() > 30, "{events:?} {keys:?}");
    none("never logged", &unused("Event", &events, &sources));
    none("never filled in", &unused("Key", &keys, &sources));
}

#[test]
fn an_unused_variant_is_found() {
    let table = "events! {\n    Starts Info \"starts\" [Err]\n        \"Begins.\",\n    Ends Info \"ends\" []\n        \"Over.\",\n}\n\nkeys! {\n    Err \"err\",\n}\n";
    let vocabulary = Source::new(VOCABULARY, table);
    assert_eq!(variants(&vocabulary, "keys"), ["Err"]);
    let events = variants(&vocabulary, "events");
    assert_eq!(events, ["Starts", "Ends"]);
    let user = Source::new(
        "crates/relay/src/a.rs",
        "log(Event::Starts);\nlog(Event::EndsSoon);\n// Event::Ends\n",
    );
    assert_eq!(
        unused("Event", &events, &[vocabulary, user]),
        ["Event::Ends"]
    );
}
