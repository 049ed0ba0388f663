//! What the simulation has found once, each in the smallest world that shows it.

use crate::actor::{Actor, Next, Order, Who};
use crate::book::{Book, How};
use crate::history::History;
use crate::net::{Dials, FOR_EVER, Host, Net, Path};
use crate::relay::{Machine, config};
use crate::rng::Rng;
use crate::traffic::Traffic;
use relay_client::{
    App, DaemonBuilder, DaemonEvent, DaemonLink, Endpoint, Ladder, Options, PhoneEvent, PhoneLink,
    Received, Socket,
};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const PATH: Path = Path {
    latency: Duration::from_millis(10),
    rate: 10_000_000,
    buffer: 16 * 1024,
};

struct Small {
    net: Net,
    daemon: Host,
    phone: Host,
    relay: Machine,
}

impl Small {
    fn new() -> Self {
        let history = History::start();
        let mut rng = Rng::new(1);
        let net = Net::new(history.clone(), rng.fork(), None);
        let mut relay = Machine::new(net.clone(), Book::new(history), config(&mut Rng::new(0)));
        relay.start();
        Self {
            daemon: net.host("daemon", PATH),
            phone: net.host("phone", PATH),
            net,
            relay,
        }
    }

    fn options(&self, host: Host) -> Options {
        Options {
            dialer: Some(self.net.dialer(host, Dials::default())),
            ..Options::default()
        }
    }

    /// A daemon with these settings, when it is connected.
    async fn daemon(&self, with: impl FnOnce(DaemonBuilder) -> DaemonBuilder) -> DaemonLink {
        let daemon = DaemonLink::builder("ws://relay.test", "home");
        let daemon = with(daemon.options(self.options(self.daemon)));
        let mut daemon = daemon.start().unwrap();
        let event = daemon.recv().await;
        assert!(matches!(event, Some(DaemonEvent::Connected { .. })));
        daemon
    }

    async fn phone(&self) -> Socket {
        let endpoint = Endpoint::parse("ws://relay.test/v1/client").unwrap();
        let headers = [("x-pyrycode-server", "home"), ("user-agent", "test")];
        let options = self.options(self.phone);
        Socket::connect(&endpoint, &headers, &options)
            .await
            .unwrap()
    }
}

/// A daemon that may resume is gone, and a phone has filled its window before. It is read all the same: its pings are
/// answered, and it is told in time that nobody comes.
#[tokio::test(start_paused = true)]
async fn a_phone_with_a_full_window_is_read_while_its_daemon_is_away() {
    let world = Small::new();
    let mut daemon = world.daemon(|daemon| daemon.instance("process")).await;
    let mut phone = world.phone().await;
    phone.send_text(b"1").await.unwrap();
    assert!(matches!(
        daemon.recv().await,
        Some(DaemonEvent::Frame { .. })
    ));

    // Nothing reaches the daemon any more. What its kernel does not take waits in the relay, and in the phone.
    let link = world.net.links()[0];
    world.net.stall(link, 0, FOR_EVER);
    let frame = format!("\"{}\"", "a".repeat(8_000));
    for _ in 0..12 {
        phone.queue_text(frame.as_bytes()).unwrap();
    }
    let start = Instant::now();
    let held = || world.relay.audit().unwrap().counts;
    while held().grace == 0 {
        drop(timeout(Duration::from_millis(100), phone.recv()).await);
    }
    // By then the relay has found out by a write that went nowhere for 10 s.
    assert!(
        start.elapsed() < Duration::from_secs(12),
        "{:?}",
        start.elapsed()
    );
    phone.queue_ping(b"are you there").unwrap();
    let mut answers = Vec::new();
    while let Ok(Ok(answer)) = timeout(Duration::from_secs(12), phone.recv()).await {
        answers.push(answer);
    }
    let pong = Received::Pong(b"are you there".to_vec());
    assert!(answers.contains(&pong), "{answers:?}");
    let close = answers.iter().any(|answer| {
        matches!(
            answer,
            Received::Close {
                code: Some(4404),
                ..
            }
        )
    });
    assert!(close, "{answers:?}");
}

/// A phone leaves while frames of it wait for its daemon, and others are lost with the daemon's connection. The daemon
/// resumes, and gets nothing from behind the gap.
#[tokio::test(start_paused = true)]
async fn a_phone_that_has_left_leaves_no_gap_to_a_daemon_that_resumes() {
    let world = Small::new();
    let at_once = Ladder::fixed(Duration::ZERO);
    let with = |daemon: DaemonBuilder| daemon.ladder(at_once).instance("process");
    let mut daemon = world.daemon(with).await;
    let mut phone = world.phone().await;
    phone.send_text(b"1").await.unwrap();
    let first = daemon.recv().await;
    assert!(matches!(first, Some(DaemonEvent::Frame { .. })));

    // The daemon's kernel takes two of these, which nobody reads; four wait in the relay.
    let link = world.net.links()[0];
    world.net.stall(link, 0, FOR_EVER);
    let frame = format!("\"{}\"", "a".repeat(8_000));
    for _ in 0..6 {
        phone.queue_text(frame.as_bytes()).unwrap();
    }
    phone.close(1000, "").await;
    assert_eq!(world.relay.audit().unwrap().counts.phones, 0);
    while world.relay.audit().unwrap().counts.grace == 0 {
        sleep(Duration::from_millis(100)).await;
    }
    world.net.reset(link);
    let mut events = Vec::new();
    while let Ok(Some(event)) = timeout(Duration::from_secs(1), daemon.recv()).await {
        events.push(event);
    }
    let [
        DaemonEvent::Disconnected { .. },
        DaemonEvent::Connected { .. },
        DaemonEvent::PhoneGone { code: 1000, .. },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
}

/// Of the network itself: of two faults that slow a machine down, the second one ends last.
#[tokio::test(start_paused = true)]
async fn a_machine_that_was_throttled_twice_is_as_fast_as_before() {
    let world = Small::new();
    let upgrade = async || {
        let start = Instant::now();
        drop(world.phone().await);
        start.elapsed()
    };
    let before = upgrade().await;
    let second = Duration::from_secs(1);
    for latency in [second, 2 * second] {
        world.net.throttle(world.phone, Path { latency, ..PATH });
    }
    world.net.relieve(world.phone);
    assert!(upgrade().await >= second);
    world.net.relieve(world.phone);
    assert_eq!(upgrade().await, before);
}

/// For how long a phone of this app keeps a connection whose relay takes nothing.
async fn patience(app: App) -> Duration {
    let world = Small::new();
    let _daemon = world.daemon(|daemon| daemon).await;
    let options = Options {
        dialer: world.options(world.phone).dialer,
        ..Options::of(app)
    };
    let phone = PhoneLink::builder("ws://relay.test", "home");
    let mut phone = phone.app(app).options(options).start().unwrap();
    let connected = phone.recv().await;
    assert!(matches!(connected, Some(PhoneEvent::Connected { .. })));
    let link = world.net.links()[1];
    world.net.stall(link, 1, FOR_EVER);
    let start = Instant::now();
    let frame = format!("\"{}\"", "a".repeat(8_000));
    for _ in 0..3 {
        phone.send(frame.as_bytes()).await.unwrap();
    }
    let lost = phone.recv().await;
    assert!(matches!(lost, Some(PhoneEvent::Disconnected { .. })));
    start.elapsed()
}

/// The relay gives a daemon 10 s to take something. What its phones send meanwhile may not be taken either, and their
/// apps do not lose patience before the relay does.
#[tokio::test(start_paused = true)]
async fn a_phone_has_more_patience_with_the_relay_than_the_relay_with_its_daemon() {
    let mobile = patience(App::Mobile).await.as_secs();
    assert!((15..20).contains(&mobile), "{mobile} s");
    let desktop = patience(App::Desktop).await.as_secs();
    // Then it says so, and waits 5 s for the answer.
    assert!((30..=65).contains(&desktop), "{desktop} s");
}

/// A daemon dials, is let in, and crashes before its owner has heard of that. The relay has: it turns others away.
#[tokio::test(start_paused = true)]
async fn a_connection_that_its_owner_never_heard_of_is_in_the_book() {
    let world = Small::new();
    let book = Book::new(History::start());
    let dials = Dials::default();
    let options = Options {
        dialer: Some(world.net.dialer(world.daemon, dials.clone())),
        ..Options::default()
    };
    let daemon = DaemonLink::builder("ws://relay.test", "home").options(options);
    let mut daemon = daemon.start().unwrap();
    while world.relay.audit().unwrap().counts.binaries == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    let traffic = Traffic::new(Rng::new(1));
    let who = Who::Daemon(1);
    let mut actor = Actor::new(who, "daemon".to_owned(), book.clone(), dials, traffic);
    let (orders, mut order) = tokio::sync::mpsc::unbounded_channel();
    orders.send(Order::Crash(Duration::ZERO)).unwrap();
    let next = actor.next(&mut order, daemon.recv()).await;
    assert!(matches!(next, Next::Leave { .. }));
    let conns = book.open().conns(who).clone();
    let ends: Vec<_> = conns
        .all
        .iter()
        .map(|conn| &conn.end.as_ref().unwrap().how)
        .collect();
    assert_eq!(ends, [&How::Killed]);
    assert!(!conns.is_open);
}

/// A phone says more than its daemon's slow path takes, and is read at that pace. The pong that the relay waits for is
/// behind its frames, and must not be late for it.
#[tokio::test(start_paused = true)]
async fn a_phone_that_is_held_back_is_not_late_with_its_pong() {
    const FRAMES: usize = 100;
    let world = Small::new();
    let mut daemon = world.daemon(|daemon| daemon).await;
    let mut phone = world.phone().await;
    let path = Path {
        rate: 8_000,
        ..PATH
    };
    world.net.throttle(world.daemon, path);
    let start = Instant::now();
    let frame = format!("\"{}\"", "a".repeat(8_000));
    for _ in 0..FRAMES {
        phone.queue_text(frame.as_bytes()).unwrap();
    }
    let mut arrived = 0;
    while arrived < FRAMES {
        tokio::select! {
            event = daemon.recv() => {
                assert!(matches!(event, Some(DaemonEvent::Frame { .. })), "{event:?}");
                arrived += 1;
            }
            said = phone.recv() => {
                assert!(!matches!(said, Ok(Received::Close { .. }) | Err(_)), "{said:?}");
            }
        }
    }
    // A ping goes out after 30 s, and has 30 s.
    assert!(start.elapsed() > Duration::from_secs(90));
}
