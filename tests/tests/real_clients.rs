//! The same exchange driven by WebSocket clients that nobody here wrote: npm `ws`, which the
//! desktop app uses, and Python's `websockets`. Both offer `permessage-deflate`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use relay_tests::{Relay, Transport, certificate, within};
use tokio::process::Command;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs `program script URL`; it exits with 0 when everything it checks held.
async fn exchange(program: &Path, script: &Path, needs: &Path) {
    assert!(
        needs.exists(),
        "no {}: run scripts/setup-tests",
        needs.display()
    );
    let relay = Relay::start(&[]).await;
    let scheme = match Transport::of_this_run() {
        Transport::Plain => "ws",
        Transport::Tls => "wss",
    };
    let mut command = Command::new(program);
    command
        .arg(script)
        .arg(format!("{scheme}://{}", relay.addr()))
        // Whom to trust, each in its own way: Node's, and OpenSSL's, which Python uses.
        .env("NODE_EXTRA_CA_CERTS", certificate("ca.pem"))
        .env("SSL_CERT_FILE", certificate("ca.pem"));
    let child = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = within(
        std::time::Duration::from_secs(60),
        "the client's exchange",
        child,
    )
    .await;
    let output = output.unwrap_or_else(|e| {
        panic!(
            "{} can't be run ({e}): run scripts/setup-tests",
            program.display()
        )
    });
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{stdout}\n{stderr}",
        output.status
    );
    let checks = stdout
        .lines()
        .filter(|line| line.starts_with("ok "))
        .count();
    assert_eq!(checks, 9, "all checks of the script ran:\n{stdout}");
}

#[tokio::test]
async fn npm_ws_is_served() {
    let folder = here("clients/node");
    let needs = folder.join("node_modules/ws");
    exchange(Path::new("node"), &folder.join("exchange.mjs"), &needs).await;
}

#[tokio::test]
async fn python_websockets_is_served() {
    let python = here("../target/test-tools/venv/bin/python");
    exchange(&python, &here("clients/python/exchange.py"), &python).await;
}
