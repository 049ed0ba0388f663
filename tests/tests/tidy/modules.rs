//! Which parts of the program use which: the edges between the modules of `crates/relay`, as docs/architecture.md draws
//! them.

use crate::none;
use crate::source::{self, Source};
use std::collections::{BTreeMap, BTreeSet};

const FOLDER: &str = "crates/relay/src/";

/// Every module, and the ones it may use: outermost first. Where two use each other, each is named with what it wants.
const USES: [(&str, &[&str]); 24] = [
    // The command line.
    (
        "program",
        &[
            "boot",
            "cli",
            "config",
            "demo",
            "healthcheck",
            "observe",
            "os",
            "probe",
            "server",
            "stdout",
            "top",
        ],
    ),
    ("cli", &["boot", "config", "demo", "probe", "top"]),
    ("demo", &["config", "observe", "probe", "server", "stdout"]),
    ("probe", &["foreign", "net", "stdout"]),
    ("healthcheck", &["config", "stdout"]),
    // Looks at a relay from outside.
    ("top", &["config", "foreign"]),
    ("foreign", &[]),
    // One relay, from its start to its end.
    (
        "server",
        &[
            "admin", "config", "net", "observe", "os", "phase", "router", "start",
        ],
    ),
    (
        "start",
        &[
            "admin", "cli", "clock", "config", "http", "net", "observe", "os", "phase", "push",
            "router", "server",
        ],
    ),
    // A relay without sockets, for the bench and the simulation.
    (
        "memory",
        &[
            "clock", "config", "http", "net", "observe", "os", "phase", "router", "server",
            "session", "start",
        ],
    ),
    (
        "admin",
        &["config", "http", "net", "observe", "router", "session"],
    ),
    // From the accept to the 101. `net` hands a connection to `http`, which tells the door when it is answered; the
    // door logs and counts where the router does.
    (
        "net",
        &[
            "clock", "config", "http", "observe", "os", "router", "session",
        ],
    ),
    (
        "http",
        &["config", "net", "observe", "phase", "router", "session"],
    ),
    // A session tells the router what its peer does, the router leaves orders in the shared half of a session; the place
    // among the connections is given back with the seat.
    ("session", &["clock", "observe", "router", "sync"]),
    (
        "router",
        &[
            "clock", "config", "http", "observe", "os", "push", "session", "sync",
        ],
    ),
    ("push", &["clock", "config", "net", "observe"]),
    // The settings know what would speak against them as the boot checks' refusals.
    ("boot", &["config", "net", "observe", "os", "push"]),
    (
        "config",
        &["boot", "net", "observe", "os", "push", "stdout"],
    ),
    // Used by everybody.
    ("observe", &["cli", "phase"]),
    ("os", &["observe", "phase"]),
    ("stdout", &[]),
    ("clock", &[]),
    ("phase", &[]),
    ("sync", &[]),
];

/// The module of a file, and the other modules that its program names.
fn uses(source: &Source) -> Option<(String, BTreeSet<String>)> {
    let inside = source.path.strip_prefix(FOLDER)?;
    // What only fuzz targets are built with.
    if inside.ends_with("fuzzing.rs") {
        return None;
    }
    let module = inside.split('/').next()?.trim_end_matches(".rs").to_owned();
    if matches!(&*module, "lib" | "main") {
        return None;
    }
    let code: String = source
        .program()
        .map(|line| format!("{}\n", line.code))
        .collect();
    let mut named = paths(&code, "crate::");
    if !inside.contains('/') || inside == format!("{module}/mod.rs") {
        named.extend(paths(&code, "super::"));
    }
    named.remove(&module);
    Some((module, named))
}

/// The names directly behind `prefix`, also several of them in braces.
fn paths(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        let group = rest
            .strip_prefix('{')
            .and_then(|group| group.split_once('}'));
        let parts = group.map_or(rest, |(group, _)| group).split(',');
        let count = if group.is_some() { usize::MAX } else { 1 };
        let word = |part: &str| {
            let part = part.trim_start();
            let end = part.find(|c: char| !c.is_alphanumeric() && c != '_');
            part[..end.unwrap_or(part.len())].to_owned()
        };
        names.extend(parts.take(count).map(word).filter(|name| !name.is_empty()));
    }
    names
}

fn wrong(found: &BTreeMap<String, BTreeSet<String>>, meant: &[(&str, &[&str])]) -> Vec<String> {
    let found: BTreeSet<(&str, &str)> = found
        .iter()
        .flat_map(|(module, used)| used.iter().map(move |used| (&**module, &**used)))
        .collect();
    let meant: BTreeSet<(&str, &str)> = meant
        .iter()
        .flat_map(|(module, used)| used.iter().map(move |used| (*module, *used)))
        .collect();
    let new = found
        .difference(&meant)
        .map(|(a, b)| format!("{a} uses {b}: is that meant?"));
    let gone = meant
        .difference(&found)
        .map(|(a, b)| format!("{a} does not use {b} any more"));
    new.chain(gone).collect()
}

#[test]
fn modules_use_each_other_as_meant() {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, used) in source::all().iter().filter_map(uses) {
        found.entry(module).or_default().extend(used);
    }
    let modules: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(modules, BTreeSet::from(USES.map(|(module, _)| module)));
    none("change the table, with a reason", &wrong(&found, &USES));
}

#[test]
fn a_new_edge_is_found() {
    let text = "use crate::{net, top::Top};\nuse super::http;\nuse crate::boot::{A, B};\n// crate::demo\n#[cfg(test)]\nuse crate::probe;\n";
    let (module, used) = uses(&Source::new("crates/relay/src/boot/mod.rs", text)).unwrap();
    assert_eq!(module, "boot");
    assert_eq!(used.iter().collect::<Vec<_>>(), ["http", "net", "top"]);
    let (_, deeper) = uses(&Source::new("crates/relay/src/boot/a.rs", text)).unwrap();
    assert!(!deeper.contains("http"));
    let wrong = wrong(
        &BTreeMap::from([(module, used)]),
        &[("boot", &["http", "net", "os"])],
    );
    assert_eq!(
        wrong,
        [
            "boot uses top: is that meant?",
            "boot does not use os any more"
        ]
    );
}
