//! The program as its users start it, in its shortest form.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use serde_json::Value;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The relay that the black-box tests are told to use.
fn relay() -> Option<PathBuf> {
    let relay = std::env::var_os("PYRYCODE_RELAY_BIN").map(PathBuf::from);
    if relay.is_none() {
        println!("skipped: PYRYCODE_RELAY_BIN names no relay");
    }
    relay
}

fn bench(args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_relay-bench");
    Command::new(program).args(args).output().unwrap()
}

/// What a run wrote to its JSON file, which must be a success.
fn figures(name: &str, args: &[&str]) -> Value {
    let file = std::env::temp_dir().join(format!("relay-bench-{}-{name}.json", std::process::id()));
    let output = bench(&[&["--quick", "--json", file.to_str().unwrap()], args].concat());
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn rows<'a>(figures: &'a Value, part: &str) -> Vec<&'a Value> {
    let rows = figures["rows"].as_array().unwrap();
    rows.iter().filter(|row| row["part"] == part).collect()
}

/// Every part has its figures, each one a number, and those with a target are judged.
#[test]
fn a_quick_run_covers_everything() {
    const PARTS: [(&str, usize); 13] = [
        ("frames", 7),
        ("latency", 6),
        ("slots", 1),
        ("slow", 1),
        ("fairness", 2),
        ("accepts", 2),
        ("reclaim", 8),
        ("storm", 2),
        ("idle", 1),
        ("heartbeats", 1),
        ("sessions", 1),
        ("tls", 5),
        ("admin", 2),
    ];
    let Some(relay) = relay() else { return };
    let page = std::env::temp_dir().join(format!("relay-bench-{}.html", std::process::id()));
    let [relay, page_arg] = [&relay, &page].map(|path| path.to_str().unwrap());
    let only = PARTS.map(|(part, _)| part).join(",");
    let args = ["--relay", relay, "--html", page_arg, "--only", &only];
    let figures = figures("all", &args);
    for (part, count) in PARTS {
        let rows = rows(&figures, part);
        assert_eq!(rows.len(), count, "{part}");
        for row in rows {
            assert!(row["median"].is_number(), "{row}");
            assert_eq!(row["target"].is_null(), row["verdict"].is_null(), "{row}");
        }
    }
    let html = std::fs::read_to_string(&page).unwrap();
    std::fs::remove_file(page).unwrap();
    assert!(html.matches("<svg").count() >= PARTS.len());
}

/// Killed when dropped.
struct Running(Child, SocketAddr);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

const UNLIMITED: [&str; 5] = [
    "--metrics-listen=",
    "--rate-burst=0",
    "--max-connections-per-ip=0",
    "--max-handshakes-per-ip=0",
    "--connect-burst=0",
];

fn start(relay: &PathBuf) -> Running {
    let addr = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut command = Command::new(relay);
    command
        .arg(format!("--insecure-listen={addr}"))
        .args(UNLIMITED);
    let child = command.stderr(Stdio::null()).spawn().unwrap();
    let running = Running(child, addr);
    let since = Instant::now();
    while TcpStream::connect(addr).is_err() {
        assert!(
            since.elapsed() < Duration::from_secs(20),
            "it does not listen"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    running
}

#[test]
fn a_running_relay_is_measured_as_far_as_it_is_known() {
    let Some(relay) = relay() else { return };
    let running = start(&relay);
    let (url, pid) = (format!("ws://{}", running.1), running.0.id().to_string());
    let only = "latency,accepts,storm,sessions";
    let known = figures("pid", &["--url", &url, "--pid", &pid, "--only", only]);
    let unknown = figures("url", &["--url", &url, "--only", only]);
    for (figures, measured, left_out) in [
        (
            &known,
            &["latency", "accepts"][..],
            &["storm", "sessions"][..],
        ),
        (&unknown, &["latency"], &["accepts", "storm", "sessions"]),
    ] {
        for part in measured {
            let rows = rows(figures, part);
            assert!(rows.iter().all(|row| row["median"].is_number()), "{rows:?}");
        }
        for part in left_out {
            let rows = rows(figures, part);
            assert!(
                rows.iter().all(|row| row["left_out"].is_string()),
                "{rows:?}"
            );
        }
    }
}

/// Ours, started as if it were somebody else's.
#[test]
fn another_program_is_started_with_its_own_arguments() {
    let Some(relay) = relay() else { return };
    let args = format!("--insecure-listen={{addr}} {}", UNLIMITED.join(" "));
    let args = ["--relay", relay.to_str().unwrap(), "--relay-args", &args];
    let figures = figures("other", &[&args[..], &["--only", "slow,tls"]].concat());
    assert!(rows(&figures, "slow")[0]["median"].is_number());
    assert!(rows(&figures, "tls")[0]["left_out"].is_string());
}

#[test]
fn what_cannot_be_measured_fails_and_says_so() {
    // It ends at once, and never listens.
    let output = bench(&["--quick", "--relay", "/bin/true", "--only", "latency"]);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("FAILED: /bin/true ended"), "{text}");
    let output = bench(&["--quick", "--relay", "/no/such/program"]);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("no program at /no/such/program"), "{text}");
}
