//! Floods. Attackers keep the relay busy; a pair from elsewhere goes on, and newcomers from
//! elsewhere get in, as before. `--no-capture` shows what they waited.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use relay_tests::{
    Attack, DAEMON_HEADERS, Daemon, HOST, Innocent, Launch, PHONE_HEADERS, Raw, Relay, Stream,
    Transport, eventually, exchange, frame, json_of, tcp_from, tls,
};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// The attacker with one address.
const MALLORY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

const MIB: usize = 1 << 20;

/// The phases, when nothing else says how long they are.
const BEFORE: Duration = Duration::from_millis(1500);
const DURING: Duration = Duration::from_secs(3);
const AFTER: Duration = BEFORE;

/// How many connections were dropped for `reason`.
async fn dropped(relay: &Relay, reason: &str) -> usize {
    let name = "pyrycode_relay_connections_dropped_total";
    let series = format!("{name}{{reason=\"{reason}\"}}");
    relay.metric(&series).await.unwrap() as usize
}

/// One line a second about dropped connections, at most.
fn assert_quiet_log(relay: &Relay, since: Instant) {
    let lines = relay.log.count("connections_dropped", &[]);
    let seconds = since.elapsed().as_secs() as usize + 1;
    let some = 1..=seconds + 1;
    assert!(some.contains(&lines), "{lines} lines in {seconds} s");
}

/// That nothing of the attack is left: descriptors and memory are as before, nearly.
async fn assert_all_returned(relay: &Relay, descriptors: usize, resident_bytes: usize) {
    eventually("the attackers' connections to be closed", || async {
        (relay.descriptors() <= descriptors + 4).then_some(())
    })
    .await;
    relay
        .expect_resident_at_most(resident_bytes + 24 * MIB)
        .await;
}

/// What begins a connection that never becomes one: nothing, a part, or all but the last word.
async fn beginnings() -> [Vec<u8>; 3] {
    let whole = match Transport::of_this_run() {
        Transport::Plain => b"GET /v1/client HTTP/1.1\r\nHost: relay.test\r\nx-a: b\r\n".to_vec(),
        Transport::Tls => client_hello().await,
    };
    [Vec::new(), whole[..whole.len() / 2].to_vec(), whole]
}

/// The first message of a TLS handshake. The answer is a signature, which is what costs.
async fn client_hello() -> Vec<u8> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let mut hello = vec![0; 4096];
    tokio::select! {
        _ = tls(client, HOST) => panic!("nobody answered"),
        read = server.read(&mut hello) => hello.truncate(read.unwrap()),
    }
    hello
}

/// Opens `total` half connections, from the address that `from` gives each and no more than
/// `per_second`, and holds on to them.
async fn half_open(
    relay: &Relay,
    total: usize,
    per_second: usize,
    from: fn(usize) -> Ipv4Addr,
) -> (Attack, Arc<Mutex<Vec<std::net::TcpStream>>>) {
    let held = Arc::new(Mutex::new(Vec::new()));
    let (to, sink, beginnings) = (relay.addr(), held.clone(), beginnings().await);
    let attack = Attack::start(1, move |n| {
        let (sink, beginning) = (sink.clone(), beginnings[n % 3].clone());
        async move {
            if n >= total {
                return tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // Without catching up: a burst would be another attack.
            if n % 10 == 0 {
                tokio::time::sleep(Duration::from_secs(10) / per_second as u32).await;
            }
            // Some are dropped before they have said anything.
            if let Ok(mut tcp) = tcp_from(from(n), to).await {
                let _ = tcp.write_all(&beginning).await;
                sink.lock().unwrap().push(tcp.into_std().unwrap());
            }
        }
    });
    (attack, held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_half_open_handshakes_from_one_address() {
    let relay = Arc::new(Relay::start_bare(&["--header-timeout", "2s"]).await);
    let mut innocent = Innocent::new(&relay);
    innocent.watch("before", BEFORE).await;
    let (descriptors, resident_bytes) = (relay.descriptors(), relay.resident_bytes());

    let began = Instant::now();
    let (attack, held) = half_open(&relay, 5_000, 1_000_000, |_| MALLORY).await;
    innocent.watch("during", DURING).await;
    let theirs = relay.descriptors().saturating_sub(descriptors);
    assert!(theirs <= 64 + 8, "{theirs} descriptors for one address");
    eventually("5,000 connections", || async {
        (attack.begun() > 5_000).then_some(())
    })
    .await;
    attack.end();

    // Those that were let in are gone after their deadline, though he still holds on to them.
    assert_all_returned(&relay, descriptors, resident_bytes).await;
    assert_quiet_log(&relay, began);
    innocent.watch("after", AFTER).await;
    drop(held);
    // The connects and the places of one address are limited: 64 places, each for two seconds.
    let full = dropped(&relay, "address_full").await;
    let rate = dropped(&relay, "address_rate").await;
    let let_in = 64 * (1 + began.elapsed().as_secs() as usize / 2);
    assert!(full + rate >= 5_000 - let_in, "{full} + {rate}");
    assert_eq!(dropped(&relay, "all_full").await, 0);
    innocent.judge("5,000 half-open handshakes from one address");
}

/// Who is answered keeps its place until the answer has arrived. To make room then is no loss, and is not counted as one.
#[tokio::test]
async fn who_makes_room_when_it_is_answered_is_not_counted() {
    let relay = Relay::start(&["--max-handshakes", "1"]).await;
    let handshakes = "pyrycode_relay_handshakes";
    // Behind the connection by which the harness looked whether it serves, which may have to make room for this one.
    drop(relay.http("GET", "/livez", &[]).await);
    relay.expect_metric(handshakes, 0.0).await;
    let before = dropped(&relay, "all_full").await;
    let request = format!("GET /nowhere HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    for _ in 0..20 {
        let mut answered = relay.connect().await;
        assert_eq!(exchange(&mut answered, &request).await.status, 404);
        // It has not closed yet, and the next one needs its place.
        assert_eq!(relay.metric(handshakes).await, Some(1.0));
        drop(relay.http("GET", "/livez", &[]).await);
        drop(answered);
    }
    assert_eq!(dropped(&relay, "all_full").await, before);
    let mut unanswered = Vec::new();
    for _ in 0..3 {
        unanswered.push(relay.tcp_from(Ipv4Addr::LOCALHOST).await);
    }
    eventually("two that made room", || async {
        (dropped(&relay, "all_full").await == before + 2).then_some(())
    })
    .await;
}

/// A newcomer has as long as 500 others take to come. So as not to measure how fast this machine is,
/// they take half a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_handshakes_from_two_thousand_addresses() {
    let flags = ["--header-timeout", "60s", "--max-handshakes", "500"];
    let relay = Arc::new(Relay::start_bare(&flags).await);
    let mut innocent = Innocent::new(&relay);
    innocent.watch("before", BEFORE).await;
    let (descriptors, resident_bytes) = (relay.descriptors(), relay.resident_bytes());

    let began = Instant::now();
    let from = |n| Ipv4Addr::new(127, 66, (n % 10) as u8, (n / 10 % 200) as u8 + 1);
    let (attack, held) = half_open(&relay, 3_000, 1_000, from).await;
    innocent.watch("during", DURING).await;
    eventually("3,000 connections", || async {
        (attack.begun() > 3_000).then_some(())
    })
    .await;
    attack.end();
    // All places are taken, and whoever came too much made room.
    eventually("500 places taken, and not one more", || async {
        let theirs = relay.descriptors().saturating_sub(descriptors);
        (490..=500 + 8).contains(&theirs).then_some(())
    })
    .await;
    let evicted = dropped(&relay, "all_full").await;
    assert!(evicted >= 2_500, "{evicted} made room");
    assert_quiet_log(&relay, began);
    innocent.watch("full", AFTER).await;

    held.lock().unwrap().clear();
    assert_all_returned(&relay, descriptors, resident_bytes).await;
    innocent.watch("after", AFTER).await;
    innocent.judge("3,000 half-open handshakes from 2,000 addresses");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_at_full_speed_from_one_address() {
    let relay = Arc::new(Relay::start_bare(&[]).await);
    let mut innocent = Innocent::new(&relay);
    innocent.watch("before", BEFORE).await;
    let (descriptors, resident_bytes) = (relay.descriptors(), relay.resident_bytes());

    let request = "GET /v1/client HTTP/1.1\r\nHost: relay.test\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        x-pyrycode-server: nobody\r\nuser-agent: storm\r\n\r\n";
    let (to, answered) = (relay.addr(), Arc::new(AtomicUsize::new(0)));
    let count = answered.clone();
    let began = Instant::now();
    let upgrades = Attack::start(2, move |_| {
        let count = count.clone();
        async move {
            let is_answered = attempt(to, request).await;
            count.fetch_add(is_answered.into(), Ordering::Relaxed);
        }
    });
    innocent.watch("during", DURING).await;
    let upgrades = upgrades.end();
    let connects = Attack::start(2, move |_| async move {
        attempt(to, "").await;
    });
    innocent.watch("later", DURING / 2).await;
    let connects = connects.end();
    let answered = answered.load(Ordering::Relaxed);
    println!("{upgrades} upgrades, {answered} of them answered, then {connects} connects");
    // The burst, and 32 a second; all but the first 60 of them, and one each second, with 429.
    let seconds = began.elapsed().as_secs() as usize + 1;
    let most = 512 + 32 * seconds;
    assert!(answered <= most, "{answered} answered, more than {most}");
    let limited = relay.log.count("rate_limited", &[]);
    assert!(
        limited + 60 + seconds >= answered,
        "{limited} of {answered}"
    );
    assert!(limited > 0 && limited <= most, "{limited} with 429");
    // Nearly all; some were reset before they were accepted.
    eventually("most of the storm to be dropped at once", || async {
        let rate = dropped(&relay, "address_rate").await;
        (2 * rate >= upgrades + connects).then_some(())
    })
    .await;
    assert_quiet_log(&relay, began);

    innocent.watch("after", AFTER).await;
    assert_all_returned(&relay, descriptors, resident_bytes).await;
    innocent.judge("upgrades, then connects, at full speed from one address");
}

/// One dial of a storm. Whether it was answered.
async fn attempt(to: SocketAddr, request: &str) -> bool {
    let Ok(tcp) = tcp_from(MALLORY, to).await else {
        return false;
    };
    // A reset leaves no port behind that stays taken for a minute.
    let _ = SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
    if request.is_empty() {
        return false;
    }
    let stream = match Transport::of_this_run() {
        Transport::Plain => Ok(Stream::Plain(tcp)),
        Transport::Tls => tls(tcp, HOST).await,
    };
    let Ok(mut stream) = stream else {
        return false;
    };
    let sent = stream.write_all(request.as_bytes()).await;
    sent.is_ok() && stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0)
}

/// The phones of the slow readers, and what a daemon that talks to them needs.
struct Slow {
    daemon: Daemon,
    ids: Vec<String>,
    /// Kept open, and not read.
    _phones: Vec<Raw>,
}

impl Slow {
    /// A daemon and 16 phones of it, behind one address, which have next to no room for what they
    /// don't read.
    async fn connect(relay: &Relay, group: u8) -> Self {
        let from = Ipv4Addr::new(127, 66, 0, group + 1);
        let id = format!("slow-{group}");
        let server = [("x-pyrycode-server", &*id)];
        let stream = relay.over(relay.tcp_from(from).await).await;
        let headers = [&server, DAEMON_HEADERS].concat();
        let daemon = relay.upgrade_on(stream, "/v1/server", &headers).await;
        let mut daemon = Daemon(daemon.unwrap());
        let (mut ids, mut phones) = (Vec::new(), Vec::new());
        for _ in 0..16 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            // As on a real path; on loopback's segments of 64 KiB the kernel would plan megabytes.
            SockRef::from(&socket).set_tcp_mss(1400).unwrap();
            socket.bind((from, 0).into()).unwrap();
            let stream = relay
                .over(socket.connect(relay.addr()).await.unwrap())
                .await;
            let headers = [&server, PHONE_HEADERS].concat();
            let mut phone = Raw::upgrade(stream, "/v1/client", &headers, &[]).await;
            phone.send(&frame(1)).await;
            ids.push(daemon.expect_frame(&frame(1)).await);
            phones.push(phone);
        }
        Self {
            daemon,
            ids,
            _phones: phones,
        }
    }

    /// Sends each phone a frame, `rounds` times, without getting further ahead of the relay.
    async fn talk(&mut self, rounds: usize) {
        let text = json_of(60_000);
        for _ in 0..rounds {
            for id in &self.ids {
                self.daemon.send_to(id, &text);
            }
            self.daemon.expect_alive().await;
        }
    }
}

/// The most memory that the relay has while `work` goes on.
async fn peak_while<T>(relay: &Relay, work: impl Future<Output = T>) -> usize {
    let mut peak_bytes = 0;
    let watch = async {
        loop {
            peak_bytes = peak_bytes.max(relay.resident_bytes());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = work => {}
        () = watch => {}
    }
    peak_bytes
}

/// 2,000 phones that don't read, each within its limits, of 125 daemons that talk to them: three of
/// these without end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_slow_readers() {
    const BUDGET: usize = 16 * MIB;
    const HOGS: usize = 3 * 16;
    let budget = BUDGET.to_string();
    let flags = ["--queue-bytes", &budget, "--write-timeout", "8s"];
    let relay = Arc::new(Relay::start_bare(&flags).await);
    let mut innocent = Innocent::new(&relay);
    innocent.watch("before", BEFORE).await;
    let (descriptors, resident_bytes) = (relay.descriptors(), relay.resident_bytes());

    let mut slow = Vec::new();
    for group in 0..125 {
        slow.push(Slow::connect(&relay, group).await);
    }
    let connected_bytes = relay.resident_bytes();
    let (mut hogs_bytes, mut peak_bytes) = (0, 0);
    let talk = async {
        let (hogs, others) = slow.split_at_mut(3);
        let hogs = hogs.iter_mut().map(|slow| slow.talk(24));
        hogs_bytes = peak_while(&relay, join_all(hogs)).await;
        // Of these the kernel takes all, or nearly so, whatever the hogs hold.
        let others = async {
            for slow in others {
                slow.talk(1).await;
            }
        };
        peak_bytes = peak_while(&relay, others).await.max(hogs_bytes);
    };
    tokio::join!(talk, innocent.watch("during", DURING));
    let idle = connected_bytes - resident_bytes;
    let queued = hogs_bytes - connected_bytes;
    println!(
        "memory: {} KiB for 2,125 connections, {} KiB more for what waits, {} KiB more for the rest",
        idle / 1024,
        queued / 1024,
        (peak_bytes - hogs_bytes) / 1024
    );
    assert!(idle < 2_125 * 16 * 1024, "{} KiB", idle / 1024);
    // What the flags allow: 64 KiB for each, and the budget; without that it would be 63 MiB.
    let most = HOGS * 64 * 1024 + BUDGET + 24 * MIB;
    assert!(queued < most, "{} KiB", queued / 1024);
    let refused = relay
        .log
        .count("binary_forwarder_phone_enqueue_failed", &[]);
    assert!(refused >= 10, "{refused} phones over their share");

    // Those to whom nothing can be written have a deadline.
    let phones = (2_001 - HOGS) as f64;
    relay
        .expect_metric("pyrycode_relay_connected_phones", phones)
        .await;
    drop(slow);
    relay
        .expect_metric("pyrycode_relay_connected_phones", 1.0)
        .await;
    // How much of the peak the allocator keeps is its own affair.
    assert_all_returned(&relay, descriptors, peak_bytes).await;
    innocent.watch("after", AFTER).await;
    innocent.judge("2,000 slow readers");
}

/// Requests for which a proxy names a client each time that nobody has heard of.
fn visit(to: SocketAddr, clients: Range<usize>) {
    let visitors = (0..4).map(|worker| {
        let clients = clients.clone().skip(worker).step_by(4);
        std::thread::spawn(move || {
            for n in clients {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                let from = Ipv4Addr::new(127, 0, 67, (n % 250) as u8 + 1);
                socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
                socket.connect(&to.into()).unwrap();
                let mut stream = std::net::TcpStream::from(socket);
                // As long as a name may be that is told apart, and no address: the worst case.
                let request = format!(
                    "GET /v1/client HTTP/1.1\r\nHost: relay.test\r\nX-Forwarded-For: {n:064}\r\n\r\n"
                );
                stream.write_all(request.as_bytes()).unwrap();
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(&answer, b"HTTP/1.1 400");
            }
        })
    });
    for visitor in visitors.collect::<Vec<_>>() {
        visitor.join().unwrap();
    }
}

/// The limits remember clients in tables of 65,536 entries, and forget those first that were there
/// least. It is the same with and without TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_clients_than_the_tables_have_room_for() {
    let limits = ["--rate-burst", "5", "--rate-per-minute", "1"];
    let launch = Launch::new(&["--trust-x-forwarded-for"]).args(&limits);
    let launch = launch.args(&["--connect-burst", "0"]);
    let relay = launch.over(Transport::Plain).start().await;
    let began = Instant::now();
    let regular = || async {
        let forwarded = [("X-Forwarded-For", "198.51.100.7")];
        relay.http("GET", "/v1/client", &forwarded).await.status
    };
    for _ in 0..5 {
        assert_eq!(regular().await, 400);
    }
    assert_eq!(regular().await, 429);
    let resident_bytes = relay.resident_bytes();
    visit(relay.addr(), 0..66_000);
    let full_bytes = relay.resident_bytes();
    visit(relay.addr(), 66_000..75_000);
    let grown = relay.resident_bytes().saturating_sub(resident_bytes);
    let beyond = relay.resident_bytes().saturating_sub(full_bytes);
    println!(
        "75,000 clients in {:?}: {} KiB more, {} KiB of them after the first 66,000",
        began.elapsed(),
        grown / 1024,
        beyond / 1024
    );
    assert!(grown < 40 * MIB, "{} KiB", grown / 1024);
    assert!(beyond < 4 * MIB, "{} KiB", beyond / 1024);
    // He who had used up what he may is not forgotten for them; he gets one back each minute.
    let mut accepted = 0;
    while accepted < 5 && regular().await == 400 {
        accepted += 1;
    }
    let most = began.elapsed().as_secs() / 60;
    assert!(
        accepted <= most,
        "{accepted} again after {:?}",
        began.elapsed()
    );
}
