//! Peers that mean harm, or behave as if: the others don't notice, memory returns, counts are
//! exact, the daemon's connection lives.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::{Duration, Instant};

use relay_tests::{Daemon, Phone, Raw, Relay, eventually, frame, masked, op, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// What a round trip of the innocent may take on a machine that is busy with the attack itself.
const UNDISTURBED: Duration = Duration::from_secs(2);

const MIB: usize = 1 << 20;

/// Room for hundreds of connections from one address.
const MANY: [&str; 4] = [
    "--max-connections",
    "5000",
    "--max-connections-per-ip",
    "5000",
];

/// A pair on a server-id of its own that exchanges frames without pause and measures each round.
struct Witness {
    task: JoinHandle<(usize, Duration)>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Witness {
    async fn start(relay: &Relay) -> Self {
        let mut daemon = relay.daemon("witness").await;
        let mut phone = relay.phone("witness").await;
        let conn_id = daemon.hear(&mut phone).await;
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let (mut rounds, mut worst) = (0, Duration::ZERO);
            // Some attacks are over in no time.
            while rounds <= 3 || stopped.try_recv().is_err() {
                let took = round(&mut daemon, &mut phone, &conn_id).await;
                (rounds, worst) = (rounds + 1, worst.max(took));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (rounds, worst)
        });
        Self { task, stop }
    }

    /// Ends the exchange; none of its rounds may have been slow.
    async fn assert_undisturbed(self) {
        self.stop.send(()).expect("the witness is still at it");
        let (rounds, worst) = self.task.await.expect("the witness was not disturbed");
        assert!(
            worst < UNDISTURBED,
            "of {rounds} round trips the slowest took {worst:?}"
        );
    }
}

/// A frame and a ping each way.
async fn round(daemon: &mut Daemon, phone: &mut Phone, conn_id: &str) -> Duration {
    let began = Instant::now();
    phone.send(&frame(1));
    daemon.expect_frame_from(conn_id, &frame(1)).await;
    daemon.send_to(conn_id, &frame(2));
    phone.expect_frame(&frame(2)).await;
    daemon.expect_alive().await;
    phone.expect_alive().await;
    began.elapsed()
}

#[tokio::test]
async fn one_phone_that_never_reads() {
    let relay = Relay::start(&["--write-timeout", "3s"]).await;
    let mut daemon = relay.daemon("home").await;
    let mut sibling = relay.phone("home").await;
    let sibling_id = daemon.hear(&mut sibling).await;
    let witness = Witness::start(&relay).await;
    relay.expect_counts(2, 2).await;
    let before = relay.resident_bytes();
    let large = format!("\"{}\"", "x".repeat(100_000));
    for _ in 0..5 {
        let mut stalled = relay.raw_phone("home", Some(4096)).await;
        stalled.send(&frame(1)).await;
        let stalled_id = daemon.expect_frame(&frame(1)).await;
        for _ in 0..30 {
            daemon.send_to(&stalled_id, &large);
        }
        let took = round(&mut daemon, &mut sibling, &sibling_id).await;
        assert!(took < UNDISTURBED, "{took:?}");
        // It is cut because nothing can be written to it.
        daemon.expect_notice(&stalled_id, 1001).await;
    }
    relay.expect_counts(2, 2).await;
    witness.assert_undisturbed().await;
    relay.expect_resident_at_most(before + 16 * MIB).await;
}

#[tokio::test]
async fn sixteen_phones_that_flood() {
    let relay = Relay::start(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let witness = Witness::start(&relay).await;
    let before = relay.resident_bytes();
    let mut floods = Vec::new();
    for id in 0..16 {
        let mut phone = relay.raw_phone("home", None).await;
        floods.push(tokio::spawn(async move {
            for n in 0..500 {
                phone
                    .send(&format!("[{id},{n},\"{}\"]", "x".repeat(2_000)))
                    .await;
            }
            phone
        }));
    }
    let mut next = [0; 16];
    soon("8,000 frames", async {
        for _ in 0..8_000 {
            let received = daemon.envelope().await.frame.unwrap();
            let mut parts = received.trim_start_matches('[').split(',');
            let mut number = || parts.next().unwrap().parse::<usize>().unwrap();
            let (id, n) = (number(), number());
            assert_eq!(next[id], n, "phone {id} in order");
            next[id] += 1;
        }
    })
    .await;
    assert_eq!(next, [500; 16]);
    daemon.expect_alive().await;
    relay.expect_counts(2, 17).await;
    witness.assert_undisturbed().await;
    for flood in floods {
        drop(flood.await.unwrap());
    }
    relay.expect_counts(1, 0).await;
    relay.expect_resident_at_most(before + 32 * MIB).await;
}

/// A flood towards a daemon that doesn't read stops at the phones, not in the relay's memory.
#[tokio::test]
async fn a_flood_towards_a_stalled_daemon_stays_in_the_phones() {
    let relay = Relay::start(&["--write-timeout", "60s"]).await;
    let witness = Witness::start(&relay).await;
    let mut daemon = relay.raw_daemon("home").await;
    let before = relay.resident_bytes();
    let message = masked(op::TEXT, format!("\"{}\"", "x".repeat(200_000)).as_bytes());
    let mut phones = Vec::new();
    for _ in 0..8 {
        let mut phone = relay.raw_phone("home", None).await;
        let message = message.clone();
        phones.push(tokio::spawn(async move {
            for sent in 0..200 {
                let write = phone.write(&message);
                if tokio::time::timeout(Duration::from_secs(1), write)
                    .await
                    .is_err()
                {
                    return (sent, phone);
                }
            }
            panic!("the relay took 40 MB for a daemon that doesn't read");
        }));
    }
    let mut stuck = Vec::new();
    for phone in phones {
        stuck.push(phone.await.unwrap());
    }
    let grown = relay.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB", grown / MIB);
    witness.assert_undisturbed().await;
    let first = daemon.read().await.unwrap().unwrap();
    assert_eq!(
        first.first,
        op::TEXT,
        "it is all there when the daemon reads"
    );
}

#[tokio::test]
async fn three_hundred_connections_that_vanish_at_once() {
    let relay = Relay::start(&MANY).await;
    let witness = Witness::start(&relay).await;
    let mut daemons = Vec::new();
    for id in 0..20 {
        daemons.push(relay.daemon(&format!("home-{id}")).await);
    }
    let before = relay.resident_bytes();
    for attack in 0..3 {
        let mut phones = Vec::new();
        for n in 0..300 {
            let mut phone = relay.raw_phone(&format!("home-{}", n / 15), None).await;
            phone.send(&frame(n)).await;
            phones.push(phone);
        }
        relay.expect_counts(21, 301).await;
        match attack {
            0 => drop(phones),
            _ => phones.into_iter().for_each(Raw::reset),
        }
        relay.expect_counts(21, 1).await;
        for daemon in &mut daemons {
            let mut notices = 0;
            for _ in 0..30 {
                notices += usize::from(daemon.envelope().await.close_code == Some(1001));
            }
            assert_eq!(notices, 15, "one notice per phone");
        }
    }
    for daemon in &mut daemons {
        daemon.expect_alive().await;
        daemon.expect_silence_for(Duration::from_millis(20)).await;
    }
    witness.assert_undisturbed().await;
    relay.expect_resident_at_most(before + 16 * MIB).await;
}

#[tokio::test]
async fn a_slow_loris_of_three_hundred_sockets() {
    let relay = Relay::start(&[&MANY[..], &["--header-timeout", "2s"]].concat()).await;
    let witness = Witness::start(&relay).await;
    let before = relay.resident_bytes();
    let mut sockets = Vec::new();
    for _ in 0..300 {
        let mut socket = relay.connect().await;
        socket
            .write_all(b"GET /v1/client HTTP/1.1\r\nHost: relay.test\r\nX-A: ")
            .await
            .unwrap();
        sockets.push(tokio::spawn(async move {
            let (mut source, mut sink) = tokio::io::split(socket);
            let dribble = async {
                // A byte at a time keeps a careless server waiting for ever.
                while sink.write_all(b"a").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            let ended =
                async { while !matches!(source.read(&mut [0; 512]).await, Ok(0) | Err(_)) {} };
            soon("the relay to hang up", async {
                tokio::select!(() = dribble => (), () = ended => ())
            })
            .await;
        }));
    }
    let mut phone = relay.phone("nobody").await;
    phone.expect_close(4404, "no server with that id").await;
    for socket in sockets {
        socket.await.unwrap();
    }
    relay.expect_counts(1, 1).await;
    witness.assert_undisturbed().await;
    relay.expect_resident_at_most(before + 16 * MIB).await;
}

#[tokio::test]
async fn three_hundred_mebibytes_of_pings_from_a_peer_that_never_reads() {
    let relay = Relay::start(&[]).await;
    let witness = Witness::start(&relay).await;
    let mut daemon = relay.daemon("home").await;
    let mut flooder = relay.raw_phone("home", Some(4096)).await;
    flooder.send(&frame(1)).await;
    let conn_id = daemon.expect_frame(&frame(1)).await;
    let before = relay.resident_bytes();
    let pings = masked(op::PING, &[b'p'; 125]).repeat(1_000);
    let (mut sent, mut peak) = (0, 0);
    let mut cut = false;
    while sent < 300 * MIB && !cut {
        // A peer that can't be written may be cut; it may not be served for ever either.
        cut = soon("the relay to read or to hang up", flooder.write(&pings))
            .await
            .is_err();
        sent += pings.len();
        if sent % (16 * pings.len()) == 0 {
            peak = peak.max(relay.resident_bytes());
        }
    }
    let grown = peak.saturating_sub(before);
    assert!(
        grown < 16 * MIB,
        "{} MiB after {} MiB of pings",
        grown / MIB,
        sent / MIB
    );
    witness.assert_undisturbed().await;
    drop(flooder);
    assert_eq!(
        daemon.envelope().await.conn_id,
        conn_id,
        "its end is noticed"
    );
    daemon.expect_alive().await;
    relay.expect_counts(1, 0).await;
}

#[tokio::test]
async fn a_message_of_256_kib_in_one_byte_fragments() {
    let relay = Relay::start(&[]).await;
    let witness = Witness::start(&relay).await;
    let mut daemon = relay.daemon("home").await;
    let mut phone = relay.raw_phone("home", None).await;
    relay.expect_counts(2, 2).await;
    let before = relay.resident_bytes();
    let text = format!("\"{}\"", "x".repeat(262_144 - 2));
    let (first, rest) = text.as_bytes().split_at(1);
    let (middle, last) = rest.split_at(rest.len() - 1);
    let mut wire = masked(op::TEXT_START, first);
    for byte in middle {
        wire.extend(masked(op::MORE, &[*byte]));
    }
    wire.extend(masked(op::LAST, last));
    phone.write(&wire).await.unwrap();
    daemon.expect_frame(&text).await;
    daemon.expect_alive().await;
    relay.expect_counts(2, 2).await;
    witness.assert_undisturbed().await;
    relay.expect_resident_at_most(before + 16 * MIB).await;
}

/// Parked frames are bounded in bytes; the smallest possible frames must not cost many times that.
#[tokio::test]
async fn tiny_frames_of_parked_phones_cost_no_more_than_the_bound() {
    let flags = ["--boot-park", "60s", "--park", "60s"];
    let relay = Relay::start(&[&MANY[..], &flags].concat()).await;
    let witness = Witness::start(&relay).await;
    relay.expect_counts(1, 1).await;
    let before = relay.resident_bytes();
    let tiny = masked(op::TEXT, b"1").repeat(60_000);
    let mut floods = Vec::new();
    for n in 0..64 {
        let mut phone = relay.raw_phone(&format!("absent-{}", n / 16), None).await;
        let tiny = tiny.clone();
        floods.push(tokio::spawn(async move {
            // The relay may stop reading it: then it has written as much as it can.
            let _ = tokio::time::timeout(Duration::from_secs(5), phone.write(&tiny)).await;
            phone
        }));
    }
    let mut phones = Vec::new();
    for flood in floods {
        phones.push(flood.await.unwrap());
    }
    relay.expect_counts(1, 65).await;
    let grown = relay.resident_bytes().saturating_sub(before);
    assert!(
        grown < 96 * MIB,
        "{} MiB, where 32 MiB may be parked",
        grown / MIB
    );
    witness.assert_undisturbed().await;
}

/// The smallest frames towards peers that don't read: both legs are bounded in memory, not only in payload.
#[tokio::test]
async fn tiny_frames_for_peers_that_never_read_cost_no_more_than_the_bounds() {
    let relay = Relay::start(&["--write-timeout", "60s"]).await;
    let witness = Witness::start(&relay).await;
    let mut daemon = relay.daemon("home").await;
    let mut stalled = relay.raw_phone("home", Some(4096)).await;
    stalled.send(&frame(1)).await;
    let conn_id = daemon.expect_frame(&frame(1)).await;
    let mut deaf_daemon = relay.raw_daemon("deaf").await;
    relay.expect_counts(3, 2).await;
    let before = relay.resident_bytes();

    let tiny = masked(op::TEXT, b"1").repeat(600_000);
    let mut floods = Vec::new();
    for _ in 0..16 {
        let mut phone = relay.raw_phone("deaf", None).await;
        let tiny = tiny.clone();
        floods.push(tokio::spawn(async move {
            // The relay stops reading it at some point.
            let _ = tokio::time::timeout(Duration::from_secs(5), phone.write(&tiny)).await;
            phone
        }));
    }
    for _ in 0..50_000 {
        daemon.send_to(&conn_id, "1");
    }
    daemon.expect_alive().await;
    let mut phones = Vec::new();
    for flood in floods {
        phones.push(flood.await.unwrap());
    }
    let grown = relay.resident_bytes().saturating_sub(before);
    assert!(grown < 48 * MIB, "{} MiB", grown / MIB);
    witness.assert_undisturbed().await;
    let first = deaf_daemon.read().await.unwrap().unwrap();
    assert_eq!(first.first, op::TEXT);
    relay.expect_counts(2, 17).await;
}

/// Every connection of an attack is gone afterwards, to the last file descriptor.
#[tokio::test]
async fn descriptors_return_after_every_kind_of_end() {
    let relay = Relay::start(&[&MANY[..], &["--close-timeout", "500ms"]].concat()).await;
    let mut daemon = relay.daemon("home").await;
    daemon.expect_alive().await;
    let before = relay.descriptors();
    for _ in 0..10 {
        let _silent = relay.raw_phone("nobody", None).await;
        let mut phone = relay.raw_phone("home", None).await;
        phone.send("not json").await;
        let phone = relay.phone("home").await;
        phone.close(1000, "");
        relay.raw_phone("home", None).await.reset();
        relay.http("GET", "/v1/client", &[]).await;
        let _half = TcpStream::connect(relay.addr()).await.unwrap();
    }
    relay.expect_counts(1, 0).await;
    eventually("every descriptor to be closed", || async {
        (relay.descriptors() <= before).then_some(())
    })
    .await;
}
