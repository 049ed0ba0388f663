//! Files and functions can be taken in at a look.

use crate::none;
use crate::source::{self, Source};

const FILE_LINES: usize = 500;

/// A tall screen.
const FUNCTION_LINES: usize = 60;

/// Longer functions, and why they are not cut.
const LONG: [(&str, &str, &str); 25] = [
    ("crates/proto/src/close.rs", "row", TABLE),
    ("crates/relay/src/demo/play.rs", "perform", SCENARIO),
    ("crates/relay/src/router/apply.rs", "apply_one", TABLE),
    ("bench/src/html.rs", "plot", "one drawing"),
    ("sim/src/daemon.rs", "frame", TABLE),
    (
        "sim/src/metrics.rs",
        "differences",
        "one line for each series",
    ),
    (
        "tests/src/pebble.rs",
        "try_start",
        "a configuration file and its process",
    ),
    (
        "tests/tests/admin/look.rs",
        "a_slots_page_shows_its_binary_its_phones_and_their_frames",
        SCENARIO,
    ),
    (
        "tests/tests/admin/look.rs",
        "lists_are_sorted_searched_and_cut_into_pages",
        SCENARIO,
    ),
    (
        "tests/tests/admin/look.rs",
        "the_summary_is_what_is_connected",
        SCENARIO,
    ),
    (
        "tests/tests/admin/stream.rs",
        "events_tell_what_happens_while_it_happens",
        SCENARIO,
    ),
    (
        "tests/tests/boot.rs",
        "refusals_come_in_the_references_order",
        SCENARIO,
    ),
    ("tests/tests/metrics/ends.rs", "registry", SCENARIO),
    ("tests/tests/metrics/moves.rs", "refusals", SCENARIO),
    ("tests/tests/metrics/moves.rs", "traffic", SCENARIO),
    ("tests/tests/secrets.rs", "exercise", SCENARIO),
    ("chaos/src/scenarios/cable.rs", "cut", SCENARIO),
    ("chaos/src/scenarios/cable.rs", "black_hole", SCENARIO),
    ("chaos/src/scenarios/clock.rs", "jumps", SCENARIO),
    ("chaos/src/scenarios/disk.rs", "full", SCENARIO),
    ("chaos/src/scenarios/kill.rs", "daemons", SCENARIO),
    ("chaos/src/scenarios/limits.rs", "descriptors", SCENARIO),
    ("chaos/src/scenarios/limits.rs", "full", SCENARIO),
    ("chaos/src/scenarios/limits.rs", "memory", SCENARIO),
    ("chaos/src/scenarios/mix.rs", "fault", TABLE),
];

const TABLE: &str = "a table: one arm for each case";
const SCENARIO: &str = "one story, told from its beginning to its end";

fn too_long(source: &Source) -> Vec<String> {
    let lines = source.lines().count();
    let file = (lines > FILE_LINES).then(|| format!("{}: {lines} lines", source.path));
    let functions = source.functions().into_iter();
    let long = functions.filter(|f| f.lines > FUNCTION_LINES && !is_excused(&source.path, &f.name));
    let told = long.map(|f| {
        format!(
            "{}:{}: {} has {} lines",
            source.path, f.line, f.name, f.lines
        )
    });
    file.into_iter().chain(told).collect()
}

fn is_excused(path: &str, name: &str) -> bool {
    LONG.iter()
        .any(|(file, function, _)| (*file, *function) == (path, name))
}

#[test]
fn files_and_functions_can_be_taken_in_at_a_look() {
    let sources = source::all();
    let long: Vec<_> = sources.iter().flat_map(too_long).collect();
    none("too long, cut it", &long);
    let still = |path: &str, name: &str| {
        let source = sources.iter().find(|source| source.path == path);
        source.is_some_and(|source| {
            let functions = source.functions();
            functions
                .iter()
                .any(|f| f.name == name && f.lines > FUNCTION_LINES)
        })
    };
    let gone = LONG.iter().filter(|(path, name, _)| !still(path, name));
    let gone: Vec<_> = gone
        .map(|(path, name, _)| format!("{path}: {name}"))
        .collect();
    none("not too long any more, take it off the list", &gone);
}

#[test]
fn what_is_too_long_is_found() {
    let function = |lines| format!("fn f() {{\n{}}}\n", "\n".repeat(lines - 2));
    assert!(too_long(&Source::new("a.rs", &function(FUNCTION_LINES))).is_empty());
    let long = too_long(&Source::new("a.rs", &function(FUNCTION_LINES + 1)));
    assert_eq!(long, ["a.rs:1: f has 61 lines"]);
    let long = too_long(&Source::new("a.rs", &"//\n".repeat(FILE_LINES + 1)));
    assert_eq!(long, ["a.rs: 501 lines"]);
}
