//! The admin page in a real browser: Chromium, driven by `clients/browser/admin.mjs`. What the page is
//! for is checked there; what it does to daemons and phones is checked here.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use relay_tests::{
    Daemon, Launch, PATIENCE, Phone, Relay, frame, free_port, json_of, skipped, soon, within,
};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const TOKEN: &str = "admin-token-of-this-test";
const CLOSED: (u16, &str) = (1001, "closed by the operator");

/// Where Debian installs it; `CHROMIUM` names another one.
const CHROMIUM: &str = "/usr/bin/chromium";

/// A start whose admin listener is at `admin`, with the harness's usual limits.
fn launch(admin: SocketAddr, args: &[&str]) -> Launch {
    Launch::new(&["--metrics-listen", &admin.to_string()])
        .args(&["--connect-burst", "0", "--rate-burst", "0"])
        .args(&["--max-handshakes-per-ip", "0"])
        .args(args)
        .env("PYRYCODE_RELAY_ADMIN_TOKEN", TOKEN)
}

fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port(Ipv4Addr::LOCALHOST)).into()
}

/// A scenario of the script, under way.
struct Scenario {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    stdin: ChildStdin,
    checks: usize,
}

impl Scenario {
    /// Starts `name` on the page at `admin`. `None` if there is no browser; that is noted.
    fn start(name: &str, admin: SocketAddr) -> Option<Self> {
        let browser = std::env::var("CHROMIUM").unwrap_or_else(|_| CHROMIUM.into());
        if !Path::new(&browser).exists() {
            let why = format!("no {browser}: run scripts/setup-tests, or set CHROMIUM");
            skipped(&format!("admin_page::{name}"), &why);
            return None;
        }
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients/browser");
        assert!(
            folder.join("node_modules/playwright-core").exists(),
            "no playwright-core in {}: run scripts/setup-tests",
            folder.display()
        );
        let mut child = Command::new("node")
            .arg(folder.join("admin.mjs"))
            .args([name, &format!("http://{admin}/"), TOKEN])
            .env("CHROMIUM", browser)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node can be executed: run scripts/setup-tests");
        let stdout = child.stdout.take().expect("it is piped");
        Some(Self {
            lines: BufReader::new(stdout).lines(),
            stdin: child.stdin.take().expect("it is piped"),
            child,
            checks: 0,
        })
    }

    /// Waits until the script says something that is no check.
    async fn next(&mut self) -> String {
        loop {
            // The script has a deadline of its own for each of its steps, and says which one failed.
            let line = within(PATIENCE * 2, "the browser", self.lines.next_line()).await;
            match line.expect("what it prints is text") {
                Some(line) if line.starts_with("ok ") => {
                    println!("{line}");
                    self.checks += 1;
                }
                Some(line) => return line,
                None => {
                    let mut errors = String::new();
                    let stderr = self.child.stderr.as_mut().expect("it is piped");
                    let read = soon("its errors", stderr.read_to_string(&mut errors)).await;
                    read.expect("what it prints is text");
                    panic!("after {} checks:\n{errors}", self.checks);
                }
            }
        }
    }

    /// Waits until the script asks for `what`.
    async fn asks(&mut self, what: &str) {
        assert_eq!(self.next().await, format!("please {what}"));
    }

    /// Says that `what` has been done.
    async fn done(&mut self, what: &str) {
        let line = format!("{what}\n");
        let told = self.stdin.write_all(line.as_bytes()).await;
        told.expect("the script listens");
    }

    /// Waits until the script has come to its end, after that many checks.
    async fn ends(mut self, checks: usize) {
        assert_eq!(self.next().await, "done");
        let status = soon("the script's end", self.child.wait()).await;
        assert!(status.expect("it can be waited for").success());
        assert_eq!(self.checks, checks);
    }
}

/// A daemon and its phones, with frames of many sizes both ways for as long as it is polled.
async fn traffic(daemon: &mut Daemon, phones: &mut [Phone]) {
    for n in 1.. {
        for phone in &mut *phones {
            phone.send(&json_of(100 + n * 37 % 3000));
            let conn_id = daemon.envelope().await.conn_id;
            daemon.send_to(&conn_id, &json_of(200 + n * 91 % 20_000));
            phone.text().await;
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

#[tokio::test]
async fn it_shows_what_happens_live() {
    let admin = free_address();
    let relay = launch(admin, &[]).start().await;
    let mut daemon = relay.daemon("home").await;
    let mut phones = [relay.phone("home").await, relay.phone("home").await];
    let Some(scenario) = Scenario::start("live", admin) else {
        return;
    };
    tokio::select! {
        () = scenario.ends(8) => {}
        () = traffic(&mut daemon, &mut phones) => {}
    }
}

#[tokio::test]
async fn both_themes_are_legible_and_360_pixels_are_enough() {
    let admin = free_address();
    let relay = launch(admin, &[]).start().await;
    let mut quiet = Vec::new();
    for n in 0..12 {
        quiet.push(relay.daemon(&format!("quiet-{n}")).await);
    }
    quiet.remove(0).cut().await;
    let _rival = relay.daemon("quiet-3").await;
    let mut daemon = relay.daemon("home").await;
    let mut phones = Vec::new();
    for _ in 0..4 {
        phones.push(relay.phone("home").await);
    }
    let Some(scenario) = Scenario::start("looks", admin) else {
        return;
    };
    tokio::select! {
        () = scenario.ends(3) => {}
        () = traffic(&mut daemon, &mut phones) => {}
    }
}

#[tokio::test]
async fn the_keyboard_is_enough() {
    let admin = free_address();
    let relay = launch(admin, &[]).start().await;
    let (mut daemon, mut first, first_id) = relay.pair("home").await;
    let mut second = relay.phone("home").await;
    daemon.hear(&mut second).await;
    let Some(scenario) = Scenario::start("keyboard", admin) else {
        return;
    };
    scenario.ends(4).await;
    // Which of the two is listed first is the relay's choice.
    let notice = daemon.envelope().await;
    assert_eq!(notice.close_code, Some(CLOSED.0.into()));
    let (closed, other) = match notice.conn_id == first_id {
        true => (&mut first, &mut second),
        false => (&mut second, &mut first),
    };
    closed.expect_close(CLOSED.0, CLOSED.1).await;
    other.expect_alive().await;
}

#[tokio::test]
async fn it_closes_slots_and_phones_with_the_token_only() {
    let admin = free_address();
    let relay = launch(admin, &["--boot-park", "0s"]).start().await;
    let (mut daemon, mut phone, _) = relay.pair("home").await;
    let Some(mut scenario) = Scenario::start("closing", admin) else {
        return;
    };
    let step = "see that nobody was closed";
    scenario.asks(step).await;
    daemon.expect_alive().await;
    phone.expect_alive().await;
    scenario.done(step).await;

    let step = "see that both were closed, and connect again";
    scenario.asks(step).await;
    daemon.expect_close_after_messages(CLOSED.0, CLOSED.1).await;
    phone.expect_close(CLOSED.0, CLOSED.1).await;
    let (mut daemon, mut phone, conn_id) = relay.pair("home").await;
    scenario.done(step).await;

    let step = "see that the phone was closed";
    scenario.asks(step).await;
    phone.expect_close(CLOSED.0, CLOSED.1).await;
    daemon.expect_notice(&conn_id, CLOSED.0.into()).await;
    daemon.expect_alive().await;
    scenario.done(step).await;
    scenario.ends(3).await;
}

#[tokio::test]
async fn it_survives_a_restart_of_the_relay() {
    let admin = free_address();
    let mut relay = launch(admin, &[]).start().await;
    let Some(mut scenario) = Scenario::start("restart", admin) else {
        return;
    };
    let step = "stop the relay";
    scenario.asks(step).await;
    relay.signal(Signal::KILL);
    relay.exited().await;
    scenario.done(step).await;

    let step = "start it, with a daemon";
    scenario.asks(step).await;
    let relay = launch(admin, &[]).start().await;
    let _daemon = relay.daemon("home").await;
    scenario.done(step).await;
    scenario.ends(3).await;
}

#[tokio::test]
async fn what_peers_send_is_text() {
    let admin = free_address();
    let relay = launch(admin, &[]).start().await;
    let version = [
        ("x-pyrycode-server", "home"),
        ("x-pyrycode-version", "<b>9.9</b>"),
        ("user-agent", "pyry/<i>1</i>"),
    ];
    let _daemon = relay.upgrade("/v1/server", &version).await.expect("a 101");
    let device = [
        ("x-pyrycode-server", "home"),
        ("x-pyrycode-token", "t"),
        ("user-agent", "pyry-test/1"),
        (
            "x-pyrycode-device-name",
            "<script>document.title='owned'</script><img src=x onerror=alert(1)>",
        ),
    ];
    let _phone = relay.upgrade("/v1/client", &device).await.expect("a 101");
    let Some(scenario) = Scenario::start("hostile", admin) else {
        return;
    };
    scenario.ends(1).await;
}

#[tokio::test]
async fn hundreds_of_slots_are_paged_sorted_filtered_and_found() {
    let admin = free_address();
    let args = [
        "--park",
        "10m",
        "--boot-park",
        "10m",
        "--grace",
        "10m",
        "--max-connections-per-ip",
        "1000",
    ];
    let relay = launch(admin, &args).start().await;
    let _peers = many(&relay).await;
    let Some(scenario) = Scenario::start("many", admin) else {
        return;
    };
    scenario.ends(4).await;
}

/// 260 slots: 200 live, of them 20 with two phones; 40 in grace; 20 waiting, with one phone each.
async fn many(relay: &Relay) -> (Vec<Daemon>, Vec<Phone>) {
    let mut daemons = Vec::new();
    for n in 0..240 {
        daemons.push(relay.daemon(&format!("server-number-{n}")).await);
    }
    for leaver in daemons.drain(200..) {
        leaver.cut().await;
    }
    let mut phones = Vec::new();
    for (n, daemon) in daemons.iter_mut().take(20).enumerate() {
        for _ in 0..2 {
            let mut phone = relay.phone(&format!("server-number-{n}")).await;
            daemon.hear(&mut phone).await;
            phones.push(phone);
        }
    }
    for n in 0..20 {
        let phone = relay.phone(&format!("absent-{n}")).await;
        phone.send(&frame(n));
        phones.push(phone);
    }
    (daemons, phones)
}
