//! `pyrycode-relay top`: the relay's figures as text, as JSON, and in a real terminal.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::net::Ipv4Addr;

use relay_tests::{Ended, Launch, Relay, Terminal, Transport, exchange, free_port, skipped};
use rustix::process::{Signal, kill_process};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use serde_json::Value;

fn url(relay: &Relay) -> String {
    format!("http://{}", relay.metrics_addr())
}

/// Runs `top` with `args` to its end.
async fn top(args: &[&str]) -> Ended {
    Launch::new(&["top"]).args(args).ended().await
}

/// The sentence of a run that failed with `code`.
fn complaint(ended: &Ended, code: i32) -> &str {
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(code), ""),
        "{ended:?}"
    );
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    &ended.stderr
}

#[tokio::test]
async fn a_snapshot_says_who_is_connected() {
    let relay = Relay::start(&[]).await;
    let (_daemon, _phone, _) = relay.pair("home").await;
    let _second = relay.phone("home").await;
    let _other = relay.daemon("away").await;
    relay.expect_counts(2, 2).await;
    let ended = top(&[&url(&relay), "--once"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let text = &ended.stdout;
    assert!(
        text.contains("2 daemons, 2 phones") && text.contains("2 live"),
        "{text}"
    );
    // The busiest slot first.
    let slots: Vec<Vec<&str>> = text
        .lines()
        .skip_while(|line| !line.starts_with("SLOT"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!((slots.len(), slots[0][2]), (3, "PHONES"), "{text}");
    assert_eq!((slots[1][2], slots[2][2]), ("2", "0"), "{text}");
    assert!(slots[1].contains(&"9.9.9-test"), "{text}");
    assert!(
        !text.contains("home"),
        "server-ids are not shown unasked:\n{text}"
    );
    assert!(
        text.bytes().all(|byte| byte == b'\n' || byte >= b' '),
        "{text}"
    );
}

#[tokio::test]
async fn the_settings_say_which_relay() {
    let relay = Relay::start(&[]).await;
    let address = relay.metrics_addr().to_string();
    let by_flag = top(&["--once", "--metrics-listen", &address]).await;
    assert!(by_flag.stdout.contains(&address), "{by_flag:?}");
    let by_environment =
        Launch::new(&["top", "--once"]).env("PYRYCODE_RELAY_METRICS_LISTEN", &address);
    let by_environment = by_environment.ended().await;
    assert!(
        by_environment.stdout.contains(&address),
        "{by_environment:?}"
    );
    // Without a terminal, and without --once: one snapshot after the other, until nobody reads.
    let head = ["sh", "-c", r#""$0" "$@" | grep -m 2 ' phones; '"#].map(str::to_owned);
    let again = Launch::new(&["top", &address, "--interval", "100ms"])
        .through(&head)
        .ended()
        .await;
    assert_eq!(again.stdout.lines().count(), 2, "{again:?}");
    assert_eq!(again.stderr, "");
}

#[tokio::test]
async fn json_is_the_relays_own_summary() {
    let relay = Relay::start(&[]).await;
    let (_daemon, _phone, _) = relay.pair("home").await;
    relay.expect_counts(1, 1).await;
    let once = top(&[&url(&relay), "--once", "--json"]).await;
    assert_eq!(
        (once.code, once.stdout.lines().count()),
        (Some(0), 1),
        "{once:?}"
    );
    let summary: Value = serde_json::from_str(&once.stdout).expect("one JSON document");
    assert_eq!(
        (&summary["binaries"], &summary["phones"]),
        (&1.into(), &1.into()),
        "{summary}"
    );
    assert_eq!(summary["phase"], "ready");
    let mut stream = Transport::Plain.connect(relay.metrics_addr()).await;
    let request = "GET /admin/summary HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let own = exchange(&mut stream, request).await;
    let own: Value = serde_json::from_slice(&own.body).expect("JSON");
    let keys = |value: &Value| {
        let object = value.as_object();
        object.map(|object| object.keys().cloned().collect::<Vec<_>>())
    };
    assert_eq!(keys(&summary), keys(&own));
    // A line each interval, until nobody reads.
    let head = ["sh", "-c", r#""$0" "$@" | head -n 3"#].map(str::to_owned);
    let lines = Launch::new(&["top", &url(&relay), "--json", "--interval", "100ms"])
        .through(&head)
        .ended()
        .await;
    let phones = lines
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["phones"].clone());
    assert_eq!(phones.collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(lines.stderr, "");
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_in_a_sentence() {
    let nobody = format!("http://127.0.0.1:{}", free_port(Ipv4Addr::LOCALHOST));
    for args in [&["--once"][..], &["--json", "--once"], &[]] {
        let ended = top(&[&[nobody.as_str()], args].concat()).await;
        let said = complaint(&ended, 1);
        assert!(
            said.contains(&nobody) && said.contains("start the relay"),
            "{said}"
        );
    }
    let off = top(&["--metrics-listen=", "--once"]).await;
    assert!(
        complaint(&off, 2).contains("--metrics-listen is empty"),
        "{off:?}"
    );
    let wrong = top(&["--metrics-listen=0.0.0.0:9090", "--once"]).await;
    assert!(complaint(&wrong, 2).contains("0.0.0.0:9090"), "{wrong:?}");
    let no_url = top(&["https://relay.example.com", "--once"]).await;
    assert!(
        complaint(&no_url, 2).contains("write http://"),
        "{no_url:?}"
    );
    for time in ["1ms", "2h", "often"] {
        let odd = top(&[&nobody, "--interval", time]).await;
        let said = "write a time from 100ms to 1h";
        assert!(odd.code == Some(2) && odd.stderr.contains(said), "{odd:?}");
    }
    // The public listener answers, but not these questions: as an older relay.
    let relay = Launch::new(&[]).over(Transport::Plain).start().await;
    let public = top(&[&format!("http://{}", relay.addr()), "--once"]).await;
    assert!(
        complaint(&public, 1).contains("has no admin page"),
        "{public:?}"
    );
}

/// What `top` draws in a terminal of this size.
async fn terminal(test: &str, relay: &Relay, width: u16, height: u16) -> Option<Terminal> {
    let started =
        Terminal::start(width, height, &["top", &url(relay), "--interval", "200ms"]).await;
    started.map_err(|why| skipped(test, &why)).ok()
}

#[tokio::test]
async fn the_live_view_follows_the_relay_and_obeys_keys() {
    let relay = Relay::start(&[]).await;
    let (_daemon, phone, conn_id) = relay.pair("home").await;
    let _other = relay.daemon("away").await;
    let Some(terminal) = terminal("the live view of top", &relay, 100, 30).await else {
        return;
    };
    let screen = terminal
        .expect(&[
            "ready",
            "2 daemons, 1 phone",
            "slots 1–2 of 2",
            "server_claimed",
        ])
        .await;
    assert!(!screen.contains("home"), "{screen}");
    assert!(
        terminal.coloured_screen().await.contains("\u{1b}["),
        "nothing is marked or coloured"
    );
    let second = relay.phone("home").await;
    terminal.expect(&["2 daemons, 2 phones"]).await;

    terminal.press(&["s"]).await;
    terminal.expect(&["sort: queue"]).await;
    terminal.press(&["f", "f"]).await;
    terminal.expect(&["state: grace", "slots none of 0"]).await;
    terminal.press(&["f", "f"]).await;
    terminal.expect(&["state: all", "slots 1–2 of 2"]).await;
    terminal.press(&["/", "h", "o", "m", "e", "Enter"]).await;
    terminal.expect(&["search: home", "slots 1–1 of 1"]).await;
    terminal.press(&["Enter"]).await;
    let suffix = &conn_id[conn_id.len() - 8..];
    terminal
        .expect(&[
            "2 phones",
            "test phone",
            "daemon 9.9.9-test from 127.0.0.1",
            suffix,
        ])
        .await;
    drop(second);
    terminal.expect(&["live", "  1 phone"]).await;
    terminal.press(&["BSpace"]).await;
    terminal.expect(&["search: home"]).await;

    terminal.resize(60, 12).await;
    // The last line of the smaller screen is drawn, and what has no room is gone.
    let small = terminal.expect(&["2 daemons, 1 phone", "q quit"]).await;
    assert!(
        small.lines().count() <= 12 && !small.contains("recent"),
        "{small}"
    );
    terminal.press(&["?"]).await;
    terminal.expect(&["this help"]).await;
    terminal.press(&["x", "q"]).await;
    terminal.expect_end(0).await;
    drop(phone);
}

#[tokio::test]
async fn a_relay_that_comes_back_is_shown_again_and_sigterm_restores_the_terminal() {
    let ports = [
        free_port(Ipv4Addr::LOCALHOST),
        free_port(Ipv4Addr::LOCALHOST),
    ];
    let metrics = format!("127.0.0.1:{}", ports[1]);
    let launch = Launch::new(&["--boot-park", "0s", "--metrics-listen", &metrics]).port(ports[0]);
    let mut relay = launch.clone().start().await;
    let daemon = relay.daemon("home").await;
    let args = ["top", &metrics, "--interval", "200ms"];
    let terminal = match Terminal::start(80, 24, &args).await {
        Ok(terminal) => terminal,
        Err(why) => return skipped("top while a relay restarts", &why),
    };
    terminal.expect(&["ready", "1 daemon, 0 phones"]).await;
    relay.terminate();
    relay.exited().await;
    drop(daemon);
    terminal
        .expect(&["reconnecting: ", "1 daemon, 0 phones"])
        .await;
    let relay = launch.start().await;
    terminal.expect(&["ready", "0 daemons, 0 phones"]).await;
    let _daemon = relay.daemon("home").await;
    terminal.expect(&["1 daemon, 0 phones"]).await;

    let process = terminal.process("pyrycode-relay").await;
    kill_process(process, Signal::TERM).expect("the process is there");
    terminal.expect_end(0).await;
}

/// Standard output is another terminal, which takes nothing any more: the keyboard is had already by then.
#[tokio::test]
async fn a_terminal_that_cannot_be_drawn_on_is_left_as_it_was() {
    let relay = Relay::start(&[]).await;
    let other = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&other).unwrap();
    let path = ptsname(&other, Vec::new()).unwrap();
    let path = path.to_str().unwrap();
    // It is full, and whoever writes to it does not wait.
    let script = r#"exec >"$1"; shift; dd if=/dev/zero oflag=nonblock 2>&-; exec "$@""#;
    let wrapper = ["sh", "-c", script, "sh", path];
    let args = ["top", &url(&relay)];
    let terminal = match Terminal::start_through(&wrapper, 100, 24, &args).await {
        Ok(terminal) => terminal,
        Err(why) => return skipped("top on a terminal that is full", &why),
    };
    // The kernel may have made room for the first bytes: then it cannot be used, in the end, for the next.
    let screen = terminal.expect(&["pyrycode-relay: ", "exit 1"]).await;
    assert!(screen.contains("modes kept"), "{screen}");
}

#[tokio::test]
async fn no_color_means_no_colours() {
    let relay = Relay::start(&[]).await;
    let address = url(&relay);
    let started = Terminal::start_through(&["env", "NO_COLOR=1"], 80, 24, &["top", &address]).await;
    let terminal = match started {
        Ok(terminal) => terminal,
        Err(why) => return skipped("top without colours", &why),
    };
    terminal.expect(&["ready", "0 daemons"]).await;
    let screen = terminal.coloured_screen().await;
    let sequences: Vec<&str> = screen
        .split('\u{1b}')
        .skip(1)
        .filter_map(|rest| rest.split('m').next())
        .collect();
    // Bold, dim, reversed, their ends; none of the numbers from 30 on, which are colours (39 and 49: the default).
    let colour = |sequence: &&str| {
        sequence.trim_start_matches('[').split(';').any(|n| {
            n.parse()
                .is_ok_and(|n: u32| n >= 30 && ![39, 49].contains(&n))
        })
    };
    assert!(!sequences.iter().any(colour), "{sequences:?}");
    terminal.press(&["C-c"]).await;
    terminal.expect_end(0).await;
}
