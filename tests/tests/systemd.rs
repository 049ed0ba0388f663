//! What the service manager is told, and the sockets it hands over.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::os::unix::net::UnixDatagram as StdDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use relay_tests::{Launch, Relay, Transport, eventually, exchange, free_port, skipped, soon};
use tokio::net::{TcpStream, UnixDatagram};

/// The service manager's end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = StdDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = UnixDatagram::from_std(socket).unwrap();
        Self { socket, folder }
    }

    /// A start that reports here.
    fn watches(&self, launch: Launch) -> Launch {
        let path = self.folder.path().join("notify");
        launch.env("NOTIFY_SOCKET", path.to_str().unwrap())
    }

    /// The lines of the next report.
    async fn next(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = soon("a report", self.socket.recv(&mut buffer))
            .await
            .unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for a report with this line; returns that report.
    async fn wait(&self, line: &str) -> Vec<String> {
        loop {
            let report = self.next().await;
            if report.iter().any(|l| l == line) {
                return report;
            }
        }
    }
}

fn status(report: &[String]) -> &str {
    let status = report.iter().find_map(|line| line.strip_prefix("STATUS="));
    status.unwrap_or_else(|| panic!("no status in {report:?}"))
}

#[tokio::test]
async fn ready_is_said_when_every_listener_accepts_and_stopping_when_it_drains() {
    let manager = Manager::new();
    let launch = Launch::new(&[]).listener("--health-listen");
    let mut relay = manager.watches(launch).spawn();
    let report = manager.wait("READY=1").await;
    assert!(status(&report).starts_with("ready"), "{report:?}");
    for address in [
        relay.addr(),
        relay.metrics_addr(),
        relay.listener("--health-listen"),
    ] {
        let connected = TcpStream::connect(address).await;
        connected.unwrap_or_else(|e| panic!("ready, but {address}: {e}"));
    }
    let mut daemon = relay.daemon("home").await;
    relay.terminate();
    let report = manager.wait("STOPPING=1").await;
    assert!(status(&report).starts_with("draining"), "{report:?}");
    daemon.expect_close(1001, "shutting down").await;
    assert_eq!(relay.exited().await.code(), Some(0));
}

/// A start that is refused was never ready.
#[tokio::test]
async fn a_refused_start_is_not_ready() {
    let manager = Manager::new();
    let launch = Launch::new(&["--insecure-listen", "127.0.0.1:0"]);
    let ended = manager.watches(launch).ended().await;
    assert_eq!(ended.code, Some(2));
    let mut buffer = [0; 4096];
    while let Ok(length) = manager.socket.try_recv(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..length]);
        assert!(!text.contains("READY=1"), "{text}");
    }
}

#[tokio::test]
async fn the_watchdog_is_fed_in_half_its_time() {
    let manager = Manager::new();
    let launch = Launch::new(&[]).env("WATCHDOG_USEC", "400000");
    let relay = manager.watches(launch).spawn();
    manager.wait("READY=1").await;
    let _pair = relay.pair("home").await;
    manager.wait("WATCHDOG=1").await;
    let began = Instant::now();
    for _ in 0..5 {
        let report = manager.wait("WATCHDOG=1").await;
        assert!(status(&report).starts_with("ready"), "{report:?}");
    }
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(4),
        "five times 200 ms took {took:?}"
    );
    assert!(
        took > Duration::from_millis(700),
        "much too often: {took:?}"
    );
    let report = manager.wait("WATCHDOG=1").await;
    assert!(
        status(&report).contains("1 binaries, 1 phones"),
        "{report:?}"
    );
}

/// Who fills the relay must not get it killed, and everybody with it.
#[tokio::test]
async fn the_watchdog_is_fed_without_descriptors() {
    let manager = Manager::new();
    let limit = ["prlimit".to_owned(), "--nofile=96:96".to_owned()];
    let launch = Launch::new(&["--max-connections", "500"])
        .args(&["--rate-burst", "0", "--connect-burst", "0"])
        .env("WATCHDOG_USEC", "400000")
        .through(&limit);
    let relay = manager.watches(launch).spawn();
    manager.wait("READY=1").await;
    let mut crowd = Vec::new();
    while relay.log.count("accept_failed", &[]) == 0 {
        let id = format!("crowd-{}", crowd.len());
        let dial = relay.try_daemon(&id, &[]);
        // The last ones are not answered: nobody accepts them.
        if let Ok(dialled) = tokio::time::timeout(Duration::from_millis(500), dial).await {
            crowd.push(dialled.unwrap());
        }
    }
    // What was under way before that.
    while manager.socket.try_recv(&mut [0; 4096]).is_ok() {}
    for _ in 0..5 {
        manager.wait("WATCHDOG=1").await;
    }
    assert_eq!(relay.log.count("accept_failed", &[]), 1);
}

/// Nobody asked for proofs of life; or another process was asked for them.
#[tokio::test]
async fn without_a_watchdog_it_is_not_fed() {
    for variables in [
        &[][..],
        &[("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", "1")],
    ] {
        let manager = Manager::new();
        let mut launch = Launch::new(&[]);
        for (name, value) in variables {
            launch = launch.env(name, value);
        }
        let mut relay = manager.watches(launch).spawn();
        manager.wait("READY=1").await;
        // Six times as long as it would take.
        let mut reports = Vec::new();
        let listen = async {
            loop {
                reports.extend(manager.next().await);
            }
        };
        let _: Result<(), _> = tokio::time::timeout(Duration::from_millis(600), listen).await;
        assert!(
            !reports.iter().any(|line| line == "WATCHDOG=1"),
            "{reports:?}"
        );
        relay.terminate();
        manager.wait("STOPPING=1").await;
        relay.exited().await;
    }
}

const ACTIVATE: &str = "/usr/bin/systemd-socket-activate";

/// Starts `launch` with sockets on `others` and on its public port, which `systemd-socket-activate`
/// hands over at the first connection. Before that, the program doesn't run.
async fn activate(launch: Launch, others: &[u16]) -> Relay {
    let public = free_port([127, 0, 0, 1].into());
    let mut words = vec![ACTIVATE.to_owned()];
    for port in others.iter().chain([&public]) {
        words.push(format!("--listen=127.0.0.1:{port}"));
    }
    let relay = launch.port(public).through(&words).spawn();
    eventually("the sockets", || async {
        relay.listening().contains(&public).then_some(())
    })
    .await;
    assert_eq!(
        relay.log.records().len(),
        0,
        "it is there only when it is needed"
    );
    relay
}

/// That whoever dialled before the program ran is served, and others are.
async fn assert_serves(relay: &Relay) {
    let (mut daemon, mut phone, _) = relay.pair("home").await;
    daemon.expect_alive().await;
    phone.expect_alive().await;
}

fn skip(test: &str) -> bool {
    let missing = !Path::new(ACTIVATE).exists();
    if missing {
        skipped(test, &format!("no {ACTIVATE} (package systemd)"));
    }
    missing
}

/// Had it bound the two ports itself, they would be taken.
#[tokio::test]
async fn inherited_sockets_are_used_for_the_listeners_of_their_ports() {
    if skip("inherited_sockets_are_used_for_the_listeners_of_their_ports") {
        return;
    }
    let metrics = free_port([127, 0, 0, 1].into());
    let address = format!("127.0.0.1:{metrics}");
    let launch = Launch::new(&["--metrics-listen", &address]);
    let relay = activate(launch, &[metrics]).await;
    assert_serves(&relay).await;
    let mut stream = Transport::Plain.connect(address.parse().unwrap()).await;
    let request = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(&mut stream, request).await.status, 200);
    assert_eq!(relay.log.count("inherited socket is not used", &[]), 0);
}

/// A socket for a port that no setting names is a mistake worth a line, and no more.
#[tokio::test]
async fn an_inherited_socket_that_nothing_asks_for_is_mentioned() {
    if skip("an_inherited_socket_that_nothing_asks_for_is_mentioned") {
        return;
    }
    let other = free_port([127, 0, 0, 1].into());
    let relay = activate(Launch::new(&["--metrics-listen", ""]), &[other]).await;
    assert_serves(&relay).await;
    let line = relay.log.wait("inherited socket is not used", &[]).await;
    assert_eq!(line.level, "WARN");
    assert_eq!(line.get("addr"), Some(&*format!("127.0.0.1:{other}")));
}
