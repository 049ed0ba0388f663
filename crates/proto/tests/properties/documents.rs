//! Generated JSON: every legal spelling, and documents that are almost JSON.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

fn whitespace() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"]
}

fn number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?"
}

/// With quotes around it. Lengths from nothing to several of the scanner's steps.
pub(crate) fn string() -> impl Strategy<Value = String> {
    let plain = "[^\"\\\\\\p{Cc}]{0,12}";
    let long = "[A-Za-z0-9+/=]{0,300}";
    let escape = prop_oneof![
        "\\\\[\"\\\\/bfnrt]",
        "\\\\u[0-9a-cA-Ce-fE-F][0-9a-fA-F]{3}",
        // A character beyond them, as two.
        "\\\\u[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2}",
    ];
    vec(prop_oneof![3 => plain, 1 => long, 2 => escape], 0..4)
        .prop_map(|parts| format!("\"{}\"", parts.concat()))
}

/// A JSON value with whitespace around it.
pub(crate) fn value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        select(vec!["null", "true", "false"]).prop_map(str::to_owned),
        number(),
        string(),
    ];
    let value = scalar.prop_recursive(5, 40, 6, |inner| {
        let member = (whitespace(), string(), whitespace(), inner.clone())
            .prop_map(|(a, key, b, value)| format!("{a}{key}{b}:{value}"));
        prop_oneof![
            (vec(inner, 0..6), whitespace())
                .prop_map(|(items, end)| format!("[{}{end}]", items.join(","))),
            (vec(member, 0..6), whitespace())
                .prop_map(|(members, end)| format!("{{{}{end}}}", members.join(","))),
        ]
    });
    (whitespace(), value, whitespace()).prop_map(|(a, value, b)| format!("{a}{value}{b}"))
}

/// Edits a document: bytes that matter to the grammar put in, taken out, or put in place of others.
pub(crate) fn edited(document: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => select(b"\"\\{}[],:-+.eE0123456789tfnu \n/bx".to_vec()),
        1 => any::<u8>(),
    ];
    (document, vec((any::<Index>(), 0..3u8, byte), 0..4)).prop_map(|(document, edits)| {
        let mut document = document.into_bytes();
        for (at, edit, byte) in edits {
            let at = at.index(document.len() + 1);
            match edit {
                0 => document.insert(at, byte),
                1 if at < document.len() => document[at] = byte,
                _ if at < document.len() => drop(document.remove(at)),
                _ => {}
            }
        }
        document
    })
}
