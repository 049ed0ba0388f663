//! The scripts that judge a change: they fail when they should, and what they started ends with them. They are the
//! repository's own; what they call is a stand-in that does what a case needs.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use relay_tests::{eventually, skipped};
use tempfile::TempDir;

/// A repository with one script of ours.
struct Repository {
    root: TempDir,
    script: PathBuf,
}

impl Repository {
    fn with(script: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let ours = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(script);
        let repository = Self {
            script: root.path().join(script),
            root,
        };
        repository.file(script, &fs::read_to_string(ours).unwrap());
        for installed in ["scripts/need", "bin/cargo"] {
            repository.program(installed, "");
        }
        repository
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    /// A stand-in for a program, or a script; those in `bin` are found by their names.
    fn program(&self, path: &str, text: &str) {
        self.file(path, &format!("#!/bin/sh\n{text}\n"));
    }

    /// Its status, and what it said.
    fn run(&self) -> (Option<i32>, String) {
        let bin = self.root.path().join("bin");
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let said = self.root.path().join("said");
        let output = fs::File::create(&said).unwrap();
        // Not a pipe: that would be read until everybody has ended who was started.
        let status = Command::new(&self.script)
            .env("PATH", path)
            .env_remove("CARGO_TARGET_DIR")
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .status()
            .unwrap();
        (status.code(), fs::read_to_string(said).unwrap())
    }
}

/// Whether this process is there, and not only waits to be asked how it ended.
fn runs(id: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn what_a_failed_ci_run_had_started_beside_its_steps_ends_with_it() {
    let ci = Repository::with(".ci/run");
    for passes in [
        "scripts/deny",
        "scripts/test",
        "target/debug/pyrycode-relay",
    ] {
        ci.program(passes, "");
    }
    let goes_on = |name: &str| format!("echo $$ >{name}.new; mv {name}.new {name}; exec sleep 100");
    ci.program("target/debug/relay-chaos", &goes_on("chaos"));
    let release = goes_on("release");
    ci.program(
        "bin/cargo",
        &format!("case $* in *--release*) {release};; esac"),
    );
    ci.program(
        "scripts/fuzz",
        "until [ -e chaos ] && [ -e release ]; do sleep 0.02; done; echo broken; exit 7",
    );
    let (status, said) = ci.run();
    assert_eq!(status, Some(7), "{said}");
    assert!(said.ends_with("broken\n"), "{said}");
    for name in ["chaos", "release"] {
        let id = fs::read_to_string(ci.root.path().join(name)).unwrap();
        eventually(name, || async { (!runs(id.trim())).then_some(()) }).await;
    }
}

/// What a count that measures so much comes to, where 100 instructions per frame are known: the status, and what is said.
fn counted(cases: &str, instructions: &str, valgrind: &str) -> (Option<i32>, String) {
    let count = Repository::with("scripts/instructions");
    count.file("scripts/instructions.txt", "up 100\n");
    let program = "target/release/instructions";
    count.program(program, &format!("printf '{cases}'"));
    count.program("bin/valgrind", valgrind);
    let program = count.root.path().join(program);
    let line = format!(
        "{instructions} (99 %)  frames.rs:measured [{}]",
        program.display()
    );
    count.program("bin/callgrind_annotate", &format!("echo '{line}'"));
    count.run()
}

#[test]
fn a_count_of_instructions_passes_only_if_it_counted_and_no_more_than_before() {
    let test = "a_count_of_instructions_passes_only_if_it_counted_and_no_more_than_before";
    if !fs::read_to_string("/proc/cpuinfo")
        .unwrap()
        .contains("avx2")
    {
        return skipped(test, "the known counts are of a processor with AVX2");
    }
    for (cases, instructions, valgrind, status, part) in [
        ("up 1000\\n", "100,000", "", 0, "(+0.0 %)"),
        ("up 1000\\n", "104,000", "", 0, "(+4.0 %)"),
        ("up 1000\\n", "106,000", "", 1, "worse"),
        ("up 1000\\n", "90,000", "", 0, "better"),
        ("up 1000\\n", "0", "", 1, ""),
        (
            "up 1000\\n",
            "100,000",
            "echo no valgrind >&2; exit 3",
            1,
            "no valgrind",
        ),
        ("down 1000\\n", "100,000", "", 1, "up was not measured"),
        ("", "100,000", "", 1, "names no cases"),
    ] {
        let (ended, said) = counted(cases, instructions, valgrind);
        assert_eq!(ended, Some(status), "{cases} {instructions}: {said}");
        assert!(said.contains(part), "{cases} {instructions}: {said}");
    }
}
