//! The numbered conformance cases, 1 to 80: which are tested here, and which belong to later work.
//!
//! "The reference" in the tests' comments is the Go relay whose place this one takes; where ours differs
//! on purpose, the test asserts ours and says so.
//!
//! A test of case *n* has a name that starts with `c<n>_`. Tests without a number cover what this
//! relay does beyond the list.

/// How many cases there are.
pub const COUNT: u32 = 80;

/// Cases whose subject isn't built yet, and what they are about.
pub const LATER: &[(u32, &str)] = &[
    (
        60,
        "rate limit: a burst, then 429 on both routes, other addresses unaffected",
    ),
    (
        61,
        "connection cap: 503 before the handshake, health unaffected",
    ),
    (62, "order of cap, header gate and rate limit"),
    (63, "X-Forwarded-For counts only with the trust flag"),
    (64, "push off: a wake is dropped with one log line"),
    (
        65,
        "push on: one POST per wake, one token fetch for several",
    ),
    (66, "push: malformed wakes are dropped without a counter"),
    (67, "push: the wakes of one server-id are limited"),
    (
        68,
        "push: answers of the push service are classified, free text isn't logged",
    ),
    (69, "push: a slow push service delays no frame"),
    (70, "start without mode flags; --version"),
    (71, "mutually exclusive flags"),
    (72, "environment contracts"),
    (73, "addresses of the metrics listener"),
    (74, "root with capabilities in production mode"),
    (75, "certificate cache directory"),
    (76, "host enforcement and port 80 in TLS mode"),
    (77, "PROXY protocol"),
    (79, "an occupied port ends the program with exit 1"),
];
