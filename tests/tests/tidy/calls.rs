//! Calls that do not belong into a program, or not into this part of it. What clippy bans already (`unwrap`, `dbg!`,
//! `todo!`; clocks, locks and sockets in the pure crates) is not repeated here.

use crate::none;
use crate::source::{self, Source};

/// What is banned, where, and where not all the same.
struct Ban {
    /// With a space before it if a word begins there.
    calls: &'static [&'static str],
    /// Folders, ending in `/`.
    within: &'static [&'static str],
    /// Files or folders that may.
    except: &'static [(&'static str, &'static str)],
    /// A comment in the line above that says why makes it right, too.
    unless_explained: bool,
    in_tests_too: bool,
    why: &'static str,
}

const PROGRAM: &[&str] = &["crates/"];

const BANS: &[Ban] = &[
    Ban {
        calls: &[
            ".expect(\"",
            " panic!(",
            " unreachable!(",
            " assert!(",
            " assert_eq!(",
            " assert_ne!(",
        ],
        within: &["crates/", "sim/src/"],
        except: &[],
        unless_explained: true,
        in_tests_too: false,
        why: "a panic ends a connection; say above it why it cannot happen, or what else could be done",
    },
    Ban {
        calls: &[" println!(", " print!(", " eprintln!(", " eprint!("],
        within: PROGRAM,
        except: &[
            (
                "crates/relay/src/config/report.rs",
                "what check-config prints",
            ),
            ("crates/relay/src/demo/", "runs in a terminal"),
            ("crates/relay/src/healthcheck.rs", "runs in a terminal"),
            ("crates/relay/src/probe/", "runs in a terminal"),
            (
                "crates/relay/src/program.rs",
                "--version, and errors of the command line",
            ),
            ("crates/relay/src/top/", "runs in a terminal"),
            ("crates/relay/examples/", "run in a terminal"),
        ],
        unless_explained: false,
        in_tests_too: false,
        why: "a running relay writes through observe::log",
    },
    Ban {
        calls: &["process::exit(", "process::abort("],
        within: &["crates/", "sim/src/", "bench/src/"],
        except: &[(
            "bench/src/progress.rs",
            "its watchdog: the main thread is stuck",
        )],
        unless_explained: false,
        in_tests_too: false,
        why: "destructors and the log's last lines would be lost: return an exit code",
    },
    Ban {
        calls: &["thread::sleep"],
        within: &["crates/", "sim/src/"],
        except: &[(
            "crates/relay/src/observe/log.rs",
            "the log's own thread, and the end of the process",
        )],
        unless_explained: false,
        in_tests_too: false,
        why: "it stops a thread of the runtime, and with it every connection there",
    },
    Ban {
        calls: &["Instant::now(", "SystemTime::now("],
        within: &["crates/relay/src/router/", "crates/relay/src/session/"],
        except: &[],
        unless_explained: false,
        in_tests_too: false,
        why: "time is the relay's `Clock`, which tests and the simulation own",
    },
    Ban {
        calls: &["block_on(", "std::net::TcpStream", "std::fs::"],
        within: &[
            "crates/relay/src/session/",
            "crates/relay/src/router/",
            "crates/relay/src/http/",
        ],
        except: &[],
        unless_explained: false,
        in_tests_too: false,
        why: "it blocks a thread of the runtime",
    },
    Ban {
        calls: &["#[ignore", "#[allow(clippy::unwrap_used)]"],
        within: &["crates/", "sim/", "bench/", "tests/"],
        except: &[],
        unless_explained: false,
        in_tests_too: true,
        why: "a test that does not run proves nothing; an allowance has a reason",
    },
];

impl Ban {
    fn found(&self, source: &Source) -> Vec<String> {
        let within = self
            .within
            .iter()
            .any(|folder| source.path.starts_with(folder));
        let excused = self
            .except
            .iter()
            .any(|(path, _)| source.path.starts_with(path));
        if !within || excused {
            return Vec::new();
        }
        let mut above = "";
        let mut found = Vec::new();
        let lines: Vec<_> = if self.in_tests_too {
            source.lines().collect()
        } else {
            source.program().collect()
        };
        for line in lines {
            let code = format!(" {}", line.code.trim_start());
            let call = self
                .calls
                .iter()
                .find(|call| code.contains(call.trim_end_matches('"')));
            // `expect` of a parser takes no text.
            let call = call.filter(|call| !call.ends_with('"') || line.text.contains(*call));
            let explained = self.unless_explained && above.trim_start().starts_with("//");
            if let Some(call) = call.filter(|_| !explained) {
                let call = call.trim().trim_end_matches(['(', '"']);
                found.push(format!(
                    "{}:{}: {call}: {}",
                    source.path, line.number, self.why
                ));
            }
            above = line.text;
        }
        found
    }
}

#[test]
fn nothing_calls_what_it_should_not() {
    let sources = source::all();
    let found = |ban: &Ban| {
        sources
            .iter()
            .flat_map(|source| ban.found(source))
            .collect::<Vec<_>>()
    };
    none("banned", &BANS.iter().flat_map(found).collect::<Vec<_>>());
}

#[test]
fn every_exception_is_needed() {
    let sources = source::all();
    for ban in BANS {
        let strict = Ban {
            except: &[],
            ..*ban
        };
        for (path, why) in ban.except {
            let mut excused = sources
                .iter()
                .filter(|source| source.path.starts_with(path));
            assert!(
                excused.any(|source| !strict.found(source).is_empty()),
                "{path} does not call {:?} any more ({why})",
                ban.calls
            );
        }
    }
}

#[test]
fn banned_calls_are_found() {
    let bad = "fn f() {\n    a.expect(\"b\");\n    // Proof.\n    c.expect(\"d\");\n    self.expect(b':')?;\n    x(\"panic!()\");\n    \
               println!(\"\"); std::process::exit(1);\n    std::thread::sleep(e);\n    Instant::now();\n}\n#[ignore]\nfn g() {}\n";
    let numbers = |path: &str| {
        let source = Source::new(path, bad);
        let all = BANS.iter().flat_map(|ban| ban.found(&source));
        let lines = all.map(|line| line.split(':').nth(1).unwrap().to_owned());
        lines.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(numbers("crates/relay/src/session/a.rs"), "2 7 7 8 9 11");
    assert_eq!(numbers("crates/relay/src/program.rs"), "2 7 8 11");
    assert_eq!(numbers("bench/src/main.rs"), "7 11");
    assert_eq!(numbers("crates/relay/tests/a.rs"), "11");
}
