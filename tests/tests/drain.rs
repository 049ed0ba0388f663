//! A shutdown that takes its time, so that the peers of a big relay don't all dial again in the same
//! second.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::{Duration, Instant};

use relay_tests::{Event, Launch, Peer, Relay, eventually, op, within};
use rustix::process::Signal;
use tokio::net::TcpStream;

const HEALTH: &str = "--health-listen";

/// Without limits on dials from one address.
const MANY: [&str; 10] = [
    "--max-connections",
    "5000",
    "--max-connections-per-ip",
    "5000",
    "--max-handshakes-per-ip",
    "0",
    "--connect-burst",
    "0",
    "--rate-burst",
    "0",
];

async fn start(drain: &str) -> Relay {
    let launch = Launch::new(&MANY).args(&["--drain", drain]);
    launch.listener(HEALTH).start().await
}

/// `homes` daemons with `phones` phones each.
async fn populate(relay: &Relay, homes: usize, phones: usize) -> Vec<Peer> {
    let mut peers = Vec::new();
    for home in 0..homes {
        let home = format!("home-{home}");
        peers.push(relay.daemon(&home).await.0);
        for _ in 0..phones {
            peers.push(relay.phone(&home).await.0);
        }
    }
    relay
        .expect_counts(homes as u64, (homes * phones) as u64)
        .await;
    peers
}

/// When the relay closed this peer, with 1001 and by a complete handshake. A daemon may be told of
/// its phones' ends before.
async fn closed(mut peer: Peer) -> Instant {
    // The harness's patience is shorter than the window.
    let close = within(Duration::from_secs(40), "the close", async {
        loop {
            match tokio::time::timeout(Duration::from_secs(5), peer.recv()).await {
                Err(_) | Ok(Event::Text(_)) => {}
                Ok(event) => break event,
            }
        }
    })
    .await;
    let at = Instant::now();
    assert_eq!(close, Event::Close(1001, "shutting down".into()));
    assert_eq!(peer.recv().await, Event::Eof);
    at
}

#[tokio::test]
async fn a_thousand_closes_are_spread_evenly_over_the_window() {
    let mut relay = start("10s").await;
    let peers = populate(&relay, 100, 9).await;
    assert_eq!(peers.len(), 1_000);
    let closes: Vec<_> = peers.into_iter().map(|p| tokio::spawn(closed(p))).collect();
    let began = Instant::now();
    relay.terminate();

    let ready = eventually("the drain", || async {
        let ready = relay.http_of(HEALTH, "/readyz").await;
        (ready.status != 200).then_some(ready)
    })
    .await;
    assert_eq!((ready.status, ready.text().trim()), (503, "draining"));
    assert_eq!(relay.http_of(HEALTH, "/livez").await.status, 200);
    assert_eq!(relay.http_of(HEALTH, "/healthz").await.status, 200);
    let address = relay.addr();
    eventually("new dials to be refused", || async {
        TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );

    let mut in_second = [0_usize; 14];
    let mut last = Duration::ZERO;
    for close in closes {
        let after = close.await.unwrap().duration_since(began);
        in_second[after.as_secs() as usize] += 1;
        last = last.max(after);
    }
    assert_eq!(relay.exited().await.code(), Some(0));
    for count in in_second {
        assert!(count <= 150, "a hundred on average: {in_second:?}");
    }
    assert!(last >= Duration::from_millis(9_500), "too early: {last:?}");
    assert!(last <= Duration::from_secs(12), "too late: {last:?}");
    relay.log.wait("shutdown complete", &[]).await;
}

/// Without a window everybody is closed at once.
#[tokio::test]
async fn by_default_nothing_is_spread() {
    let mut relay = Launch::new(&MANY).start().await;
    let peers = populate(&relay, 5, 9).await;
    let closes: Vec<_> = peers.into_iter().map(|p| tokio::spawn(closed(p))).collect();
    let began = Instant::now();
    relay.terminate();
    for close in closes {
        close.await.unwrap();
    }
    assert_eq!(relay.exited().await.code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_second_signal_ends_the_drain_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let mut relay = start("120s").await;
        let peers = populate(&relay, 5, 9).await;
        let closes: Vec<_> = peers.into_iter().map(|p| tokio::spawn(closed(p))).collect();
        let began = Instant::now();
        relay.terminate();
        eventually("the drain", || async {
            let ready = relay.http_of(HEALTH, "/readyz").await;
            (ready.status == 503).then_some(())
        })
        .await;
        let health = relay.listener(HEALTH).to_string();
        let check = ["healthcheck", "--insecure-listen", "127.0.0.1:1"];
        let check = Launch::new(&check).args(&[HEALTH, &health]).ended().await;
        assert_eq!((check.code, check.stdout.trim()), (Some(1), "draining"));
        assert!(
            !closes.iter().all(|close| close.is_finished()),
            "it was spread"
        );
        relay.signal(second);
        for close in closes {
            close.await.unwrap();
        }
        assert_eq!(relay.exited().await.code(), Some(0));
        let took = began.elapsed();
        assert!(took < Duration::from_secs(15), "{took:?}");
    }
}

/// The holder goes with the relay, not because it is dead: who waits for its slot does not take over from it.
#[tokio::test]
async fn a_claimant_that_waits_is_closed_at_once_and_takes_nothing_over() {
    let mut relay = Launch::new(&["--drain", "3s", "--probe-timeout", "60s"])
        .start()
        .await;
    let mut silent = relay.raw_daemon("home").await;
    let claimant = relay.daemon("home").await;
    let asked = silent.read().await.unwrap().unwrap();
    assert_eq!(asked.first, op::PING);
    relay.terminate();
    closed(claimant.0).await;
    silent.expect_close(1001, "shutting down").await;
    assert_eq!(relay.exited().await.code(), Some(0));
    relay.log.ended().await;
    assert_eq!(relay.log.count("server_id_takeover", &[]), 0);
}

/// While it lasts, the daemon and the phones that are still there go on as ever.
#[tokio::test]
async fn those_who_are_not_closed_yet_are_served() {
    let mut relay = start("120s").await;
    let mut pairs = Vec::new();
    for n in 0..20 {
        pairs.push(relay.pair(&format!("home-{n}")).await);
    }
    relay.terminate();
    relay
        .log
        .wait("shutdown signal received; draining", &[])
        .await;
    // Of forty closes in two minutes, some are far away.
    let mut served = 0;
    for (daemon, phone, conn_id) in &mut pairs {
        phone.send("1");
        let exchange = async {
            let Event::Text(_) = daemon.recv().await else {
                return false;
            };
            daemon.send_to(conn_id, "2");
            matches!(phone.recv().await, Event::Text(_))
        };
        served += usize::from(exchange.await);
    }
    assert!(served >= 15, "{served} of 20");
    relay.terminate();
    assert_eq!(relay.exited().await.code(), Some(0));
}
