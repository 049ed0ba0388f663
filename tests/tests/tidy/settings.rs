//! Every setting has an effect, and a test that sets it. (The compiler sees to it that the command line's fields are read
//! at all; the fields here are public, and it cannot.)

use crate::none;
use crate::source::{self, Source};

/// Where settings are kept once they are read, and the structs they are kept in.
const KEPT: [(&str, &[&str]); 3] = [
    (
        "crates/relay/src/config/mod.rs",
        &["Acme", "CertificateFiles", "Push", "Proxies", "Config"],
    ),
    ("crates/relay/src/observe/log.rs", &["LogSettings"]),
    ("crates/core/src/policy.rs", &["Policy", "SessionPolicy"]),
];

/// The public fields of these structs.
fn fields(source: &Source, structs: &[&str]) -> Vec<String> {
    let mut inside = false;
    let mut fields = Vec::new();
    for line in source.program() {
        let code = line.code;
        if let Some(rest) = code.strip_prefix("pub struct ") {
            inside = structs.contains(&rest.trim_end_matches(" {"));
        } else if code == "}" {
            inside = false;
        } else if inside && let Some((name, _)) = code.trim_start().split_once(": ") {
            fields.push(name.trim_start_matches("pub ").to_owned());
        }
    }
    fields
}

/// Whether a program other than the configuration itself reads this field.
fn is_read(field: &str, sources: &[Source]) -> bool {
    let reads = |code: &str| {
        let mut places = code.match_indices(field);
        places.any(|(at, _)| {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            // Not one that is filled in; a longer name is another field.
            code[..at].ends_with('.') && !code[at + field.len()..].starts_with(word)
        })
    };
    let mut users = sources.iter().filter(|source| {
        source.path.starts_with("crates/") && !source.path.starts_with("crates/relay/src/config/")
    });
    users.any(|source| source.program().any(|line| reads(line.code)))
}

#[test]
fn every_setting_is_read() {
    let sources = source::all();
    let mut unread = Vec::new();
    for (path, structs) in KEPT {
        let source = sources.iter().find(|source| source.path == path).unwrap();
        let fields = fields(source, structs);
        assert!(fields.len() >= structs.len(), "{path}: {fields:?}");
        unread.extend(fields.into_iter().filter(|field| !is_read(field, &sources)));
    }
    none("nothing reads these", &unread);
}

#[test]
fn every_setting_is_set_by_a_test() {
    let manual = std::fs::read_to_string(crate::root().join("docs/operate.md")).unwrap();
    let flags = manual
        .lines()
        .filter_map(|line| line.strip_prefix("| `--")?.split('`').next());
    let flags: Vec<&str> = flags.collect();
    assert!(flags.len() > 50, "{flags:?}");
    let tests = source::files(&["rs"]).into_iter();
    let tests: Vec<String> = tests
        .filter(|(path, _)| path.starts_with("tests/") && !path.starts_with("tests/tests/tidy"))
        .map(|(_, text)| text)
        .collect();
    none("no black-box test sets these", &never_set(&flags, &tests));
}

fn never_set(flags: &[&str], tests: &[String]) -> Vec<String> {
    // As a flag, a variable, or a key of a file.
    let sets = |flag: &str, test: &str| {
        let upper = flag.to_uppercase().replace('-', "_");
        [
            format!("--{flag}\""),
            format!("--{flag}="),
            format!("--{flag} "),
            format!("_{upper}"),
            format!("{flag} = "),
        ]
        .iter()
        .any(|spelling| test.contains(spelling))
    };
    let never = flags
        .iter()
        .filter(|flag| !tests.iter().any(|test| sets(flag, test)));
    never.map(|flag| format!("--{flag}")).collect()
}

#[test]
fn a_setting_without_effect_is_found() {
    let text = "pub struct Policy {\n    /// A.\n    pub a_ms: u64,\n    pub b: Vec<u8>,\n}\npub struct Other {\n    pub c: u8,\n}\n";
    let policy = Source::new("crates/core/src/policy.rs", text);
    let fields = fields(&policy, &["Policy"]);
    assert_eq!(fields, ["a_ms", "b"]);
    let code =
        "let p = Policy { a_ms: 1, b: 2 };\nuse_it(p.a_ms, p.bc);\n#[cfg(test)]\nfn f() { p.b }\n";
    let sources = [policy, Source::new("crates/core/src/slot.rs", code)];
    assert!(is_read("a_ms", &sources));
    assert!(!is_read("b", &sources));
}

#[test]
fn a_setting_without_a_test_is_found() {
    let tests = [
        "&[\"--park\", \"1s\"]",
        "PYRYCODE_RELAY_QUEUE_BYTES",
        "drain = \"1s\"",
    ];
    let tests = tests.map(str::to_owned);
    let never = never_set(&["park", "park-bytes", "queue-bytes", "drain"], &tests);
    assert_eq!(never, ["--park-bytes"]);
}
