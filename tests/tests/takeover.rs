//! A dead incumbent leaves fast, a living one never: what decides between two claims of one slot.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::process::Stdio;
use std::time::{Duration, Instant};

use relay_tests::{
    DAEMON_HEADERS, Daemon, Envelope, Event, Frame, Namespace, PATIENCE, Raw, Relay, data_envelope,
    frame, masked, op, skipped, soon,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const DAEMON: &str = env!("CARGO_BIN_EXE_stand-in-daemon");

/// The time until `claimant` holds the slot "home": until a phone's frame reaches it.
async fn time_to_take_over(relay: &Relay, claimant: &mut Daemon, since: Instant) -> Duration {
    relay
        .log
        .wait("server_id_takeover", &[("server_id", "home")])
        .await;
    let took = since.elapsed();
    let mut phone = relay.phone("home").await;
    claimant.hear(&mut phone).await;
    took
}

/// A holder on another host whose network dies: packets vanish, no FIN, no RST. The kernel reports
/// that nothing is acknowledged, so the slot changes hands after `--probe-dead-path` (2 s), not
/// after the probe's timeout (10 s).
#[tokio::test]
async fn a_holder_on_a_dead_path_is_taken_over_within_the_dead_path_time() {
    let test = "a_holder_on_a_dead_path_is_taken_over_within_the_dead_path_time";
    let namespace = match Namespace::new() {
        Ok(namespace) => namespace,
        Err(why) => return skipped(test, &why),
    };
    let relay = Relay::start_on(namespace.host, &[]).await;
    let stream = match namespace.connect(relay.addr()).await {
        Ok(tcp) => relay.over(tcp).await,
        Err(why) => return skipped(test, &why),
    };
    let headers = [&[("x-pyrycode-server", "home")], DAEMON_HEADERS].concat();
    let mut holder = Daemon(
        relay
            .upgrade_on(stream, "/v1/server", &headers)
            .await
            .unwrap(),
    );
    let mut phone = relay.phone("home").await;
    holder.hear(&mut phone).await;
    namespace.cable(false).expect("the cable is pulled");

    let asked = Instant::now();
    let mut claimant = relay.daemon("home").await;
    let took = time_to_take_over(&relay, &mut claimant, asked).await;
    assert!(
        took >= Duration::from_millis(1_900),
        "without the evidence: {took:?}"
    );
    assert!(
        took < Duration::from_secs(8),
        "only by the probe's timeout: {took:?}"
    );
    phone.expect_close(4404, "binary reclaimed server-id").await;
}

struct StandIn {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl StandIn {
    async fn claim(relay: &Relay, server_id: &str) -> Self {
        let mut child = Command::new(DAEMON)
            .args([&relay.addr().to_string(), server_id])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let mut stand_in = Self {
            child,
            lines: BufReader::new(stdout).lines(),
        };
        assert_eq!(stand_in.line().await, "claimed");
        stand_in
    }

    async fn line(&mut self) -> String {
        let line = soon("a line of the stand-in daemon", self.lines.next_line()).await;
        line.unwrap().expect("it still runs")
    }

    fn signal(&self, signal: Signal) {
        let pid = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id as i32))
            .unwrap();
        kill_process(pid, signal).unwrap();
    }
}

/// A stopped process: its kernel acknowledges everything, so only the missing pong tells.
#[tokio::test]
async fn a_stopped_process_is_taken_over_after_the_probe_timeout() {
    let flags = ["--probe-timeout", "1500ms", "--probe-dead-path", "300ms"];
    let relay = Relay::start(&flags).await;
    let mut holder = StandIn::claim(&relay, "home").await;
    holder.signal(Signal::STOP);
    let asked = Instant::now();
    let mut claimant = relay.daemon("home").await;
    let took = time_to_take_over(&relay, &mut claimant, asked).await;
    assert!(
        took >= Duration::from_millis(1_400),
        "the path was alive: {took:?}"
    );
    // When it wakes up it learns what happened.
    holder.signal(Signal::CONT);
    assert_eq!(holder.line().await, "close 1011 heartbeat timeout");
    assert_eq!(holder.line().await, "end");
}

/// A process that is stopped and goes on in time has proved its life.
#[tokio::test]
async fn a_process_that_wakes_up_in_time_keeps_its_slot() {
    let relay = Relay::start(&["--probe-timeout", "15s"]).await;
    let holder = StandIn::claim(&relay, "home").await;
    holder.signal(Signal::STOP);
    let mut claimant = relay.daemon("home").await;
    claimant.expect_silence().await;
    holder.signal(Signal::CONT);
    claimant
        .expect_close(4409, "server-id already claimed")
        .await;
    assert_eq!(relay.log.count("server_id_takeover", &[]), 0);
}

/// Bytes that were already under way prove nothing: a holder whose frames keep coming but that
/// answers no ping loses its slot.
#[tokio::test]
async fn traffic_without_a_pong_is_no_proof_of_life() {
    let relay = Relay::start(&["--probe-timeout", "1s", "--probe-dead-path", "500ms"]).await;
    let mut holder = relay.raw_daemon("home").await;
    let mut phone = relay.phone("home").await;
    phone.send(&frame(1));
    let conn_id = loop {
        let received: Frame = holder.read().await.unwrap().unwrap();
        if received.first == op::TEXT {
            let text = String::from_utf8(received.payload).unwrap();
            break Envelope::parse(&text).conn_id;
        }
    };
    let asked = Instant::now();
    let _claimant = relay.daemon("home").await;
    let mut sent = 0;
    let envelope = data_envelope(&conn_id, &frame(2));
    while relay.log.count("server_id_takeover", &[]) == 0 {
        // The write fails once the relay has cut the displaced holder; by then it is over.
        let _ = holder.write(&masked(op::TEXT, envelope.as_bytes())).await;
        sent += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(
            asked.elapsed() < PATIENCE,
            "{sent} messages kept it in its slot"
        );
    }
    phone
        .expect_close_after_messages(4404, "binary reclaimed server-id")
        .await;
}

/// The pong that answers an earlier claim's ping proves nothing for a later claim.
#[tokio::test]
async fn a_pong_older_than_the_claim_is_no_proof_of_life() {
    let relay = Relay::start(&["--probe-timeout", "2s"]).await;
    let mut holder = relay.raw_daemon("home").await;
    let mut first = relay.daemon("home").await;
    let ping = next_ping(&mut holder).await;
    let mut second = relay.daemon("home").await;
    let later = next_ping(&mut holder).await;
    assert_ne!(ping, later, "pings are told apart");
    holder.frame(op::PONG, &ping).await;
    first.expect_close(4409, "server-id already claimed").await;
    second.expect_silence().await;
    relay
        .log
        .wait("server_id_takeover", &[("server_id", "home")])
        .await;
    let mut phone = relay.phone("home").await;
    second.hear(&mut phone).await;
}

/// A peer may answer only the newest of several pings (RFC 6455, section 5.5.3). So those of the heartbeat, and those that
/// prove the arrival of frames, have an unanswered probe's behind them again.
#[tokio::test]
async fn a_holder_that_answers_only_the_newest_ping_keeps_its_slot() {
    let patient = ["--probe-timeout", "60s", "--probe-dead-path", "60s"];
    let heartbeat = ["--ping-interval", "1s", "--pong-timeout", "60s"];
    let relay = Relay::start(&[patient, heartbeat].concat()).await;
    let names = [
        ("x-pyrycode-server", "home"),
        ("x-pyrycode-instance", "instance-of-home"),
    ];
    let headers = [&names, DAEMON_HEADERS].concat();
    let mut holder = relay.raw("/v1/server", &headers, None).await;
    let mut claimant = relay.daemon("home").await;
    let probe = ping_with(&mut holder, |first| first == b'p').await;
    let phone = relay.phone("home").await;
    phone.send(&frame(1));
    while holder.read().await.unwrap().unwrap().first != op::TEXT {}
    let (mut heartbeat, mut proof) = (false, false);
    while !(heartbeat && proof) {
        match ping_with(&mut holder, |first| first != b'p').await[0] {
            b's' => proof = true,
            _ => heartbeat = true,
        }
        assert_eq!(next_ping(&mut holder).await, probe);
    }
    holder.frame(op::PONG, &probe).await;
    claimant
        .expect_close(4409, "server-id already claimed")
        .await;
    let proof = ping_with(&mut holder, |first| first == b's').await;
    // That one is passed over as well.
    let heartbeat = ping_with(&mut holder, |first| first.is_ascii_digit()).await;
    holder.frame(op::PONG, &heartbeat).await;
    assert_eq!(ping_with(&mut holder, |first| first == b's').await, proof);
}

/// Whoever answers each claim's ping only after the next one's lives all the same, though no answer is to the newest ping,
/// and none to the heartbeat's.
#[tokio::test]
async fn claims_closer_together_than_a_round_trip_cost_the_holder_nothing() {
    let patient = ["--probe-timeout", "60s", "--probe-dead-path", "60s"];
    let heartbeat = ["--ping-interval", "1s", "--pong-timeout", "4s"];
    let relay = Relay::start(&[patient, heartbeat].concat()).await;
    let headers = [&[("x-pyrycode-server", "home")], DAEMON_HEADERS].concat();
    let mut holder = relay.raw("/v1/server", &headers, None).await;
    let mut earlier = relay.daemon("home").await;
    let mut unanswered = ping_with(&mut holder, |first| first == b'p').await;
    let mut heartbeat = 0;
    // Two intervals beyond the time that the first of the heartbeat's pings has.
    while heartbeat < 7 {
        let number = ping_with(&mut holder, |first| first.is_ascii_digit()).await;
        heartbeat = String::from_utf8(number).unwrap().parse().unwrap();
        let claimant = relay.daemon("home").await;
        let mut newest = unanswered.clone();
        while newest == unanswered {
            newest = ping_with(&mut holder, |first| first == b'p').await;
        }
        holder.frame(op::PONG, &unanswered).await;
        earlier
            .expect_close(4409, "server-id already claimed")
            .await;
        (earlier, unanswered) = (claimant, newest);
    }
    let mut phone = relay.phone("home").await;
    phone.send(&frame(1));
    while holder.recv().await.first != op::TEXT {}
    phone.expect_alive().await;
}

/// The payload of the next ping whose first byte is such a one.
async fn ping_with(peer: &mut Raw, wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    loop {
        let frame = peer.read().await.unwrap().expect("a frame, not the end");
        if frame.first == op::PING && wanted(frame.payload[0]) {
            return frame.payload;
        }
    }
}

async fn next_ping(peer: &mut Raw) -> Vec<u8> {
    let frame = peer.read().await.unwrap().expect("a frame, not the end");
    assert_eq!(frame.first, op::PING, "{frame:?}");
    frame.payload
}

/// One pong answers every claim made before its ping.
#[tokio::test]
async fn a_living_holder_refuses_several_claimants_at_once() {
    let relay = Relay::start(&[]).await;
    let mut holder = relay.daemon("home").await;
    let mut claimants = Vec::new();
    for _ in 0..8 {
        claimants.push(relay.daemon("home").await);
    }
    for claimant in &mut claimants {
        claimant
            .expect_close(4409, "server-id already claimed")
            .await;
    }
    let mut phone = relay.phone("home").await;
    holder.hear(&mut phone).await;
    relay.expect_attempts("server", "reject_409", 8).await;
}

/// Waiting claimants are bounded: the next one is refused before the upgrade, and may come back.
#[tokio::test]
async fn claimants_of_one_slot_are_bounded() {
    let relay = Relay::start(&["--probe-timeout", "3s"]).await;
    let _holder = relay.raw_daemon("home").await;
    let mut waiting = Vec::new();
    let refused = loop {
        match relay.try_daemon("home", &[]).await {
            Ok(claimant) => waiting.push(claimant),
            Err(refused) => break refused,
        }
        assert!(waiting.len() < 1_000, "no limit in sight");
    };
    assert!(waiting.len() >= 8, "only {} could wait", waiting.len());
    assert_eq!(refused.status, 429);
    assert!(
        refused.retry_after.is_some_and(|s| (1..=10).contains(&s)),
        "{refused:?}"
    );
    relay.daemon("elsewhere").await.expect_alive().await;
    // The one that waited longest wins; the others learn that it lives.
    let mut winner = waiting.remove(0);
    for claimant in &mut waiting {
        claimant
            .expect_close(4409, "server-id already claimed")
            .await;
    }
    let mut phone = relay.phone("home").await;
    winner.hear(&mut phone).await;
}

/// A holder that ends while it is being probed makes room at once.
#[tokio::test]
async fn a_holder_that_ends_during_the_probe_makes_room_at_once() {
    let relay = Relay::start(&["--probe-timeout", "60s", "--probe-dead-path", "60s"]).await;
    let holder = relay.raw_daemon("home").await;
    let mut claimant = relay.daemon("home").await;
    claimant.expect_silence().await;
    holder.reset();
    let asked = Instant::now();
    let took = time_to_take_over(&relay, &mut claimant, asked).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// What a claimant sends while it waits is read once it holds the slot.
#[tokio::test]
async fn a_waiting_claimants_frames_are_not_lost() {
    let relay = Relay::start(&["--probe-timeout", "1s"]).await;
    let _holder = relay.raw_daemon("home").await;
    let mut claimant = relay.daemon("home").await;
    claimant.ping(b"early");
    claimant.send("garbage, early");
    assert_eq!(relay.log.count("binary_forwarder_unmarshal_err", &[]), 0);
    relay
        .log
        .wait("server_id_takeover", &[("server_id", "home")])
        .await;
    assert_eq!(claimant.pong().await, b"early");
    relay
        .log
        .wait("binary_forwarder_unmarshal_err", &[("server_id", "home")])
        .await;
}

/// A claimant that has given up does not take over: the slot goes to one that is still there, at once.
#[tokio::test]
async fn a_claimant_that_has_left_does_not_take_over() {
    let relay = Relay::start(&["--probe-timeout", "2s"]).await;
    let _holder = relay.raw_daemon("home").await;
    let mut closing = relay.daemon("home").await;
    closing.send("garbage, early");
    closing.expect_alive().await;
    closing.close(1000, "changed my mind");
    closing.expect_echo(1000, "changed my mind").await;
    let mut ended = relay.raw_daemon("home").await;
    ended.half_close().await;
    relay.raw_daemon("home").await.reset();
    let mut faulty = relay.raw_daemon("home").await;
    faulty.frame(op::LAST, b"").await;
    assert_eq!(faulty.close_frame().await.0, 1002);
    assert_eq!(relay.log.count("server_id_takeover", &[]), 0);
    let mut patient = relay.daemon("home").await;
    time_to_take_over(&relay, &mut patient, Instant::now()).await;
    assert_eq!(relay.log.count("server_id_takeover", &[]), 1);
    assert_eq!(relay.log.count("server_released", &[]), 0);
    assert_eq!(relay.log.count("binary_forwarder_unmarshal_err", &[]), 0);
}

/// What waits with a claimant is bounded; what is not read before it holds the slot is read then, in order.
#[tokio::test]
async fn a_waiting_claimant_is_read_within_bounds() {
    const MESSAGES: usize = 2_000;
    let relay = Relay::start(&["--probe-timeout", "2s"]).await;
    let headers = [
        &[("x-pyrycode-server", "home"), ("x-pyrycode-instance", "it")],
        DAEMON_HEADERS,
    ]
    .concat();
    let mut holder = relay.raw("/v1/server", &headers, None).await;
    let mut phone = relay.phone("home").await;
    phone.send(&frame(0));
    let conn_id = Envelope::parse(&holder.text().await).conn_id;
    let proof = next_ping(&mut holder).await;
    holder.frame(op::PONG, &proof).await;

    let received = "pyrycode_relay_received_bytes_total{leg=\"binary\"}";
    let before = relay.metric(received).await.unwrap();
    let mut claimant = relay.raw("/v1/server", &headers, None).await;
    let mut sent = 0;
    for n in 0..MESSAGES {
        let message = masked(op::TEXT, data_envelope(&conn_id, &frame(n)).as_bytes());
        claimant.write(&message).await.unwrap();
        sent += message.len();
    }
    phone.expect_silence().await;
    let read = relay.metric(received).await.unwrap() - before;
    assert!(
        (10_000.0..140_000.0).contains(&read),
        "{read} of {sent} were read"
    );
    assert!(sent > 150_000, "{sent}");
    for n in 0..MESSAGES {
        phone.expect_frame(&frame(n)).await;
    }
    assert_eq!(relay.log.count("server_resumed", &[]), 1);
}

/// A claimant that gives up while it waits leaves no trace.
#[tokio::test]
async fn a_claimant_that_leaves_while_it_waits_is_forgotten() {
    let relay = Relay::start(&["--probe-timeout", "2s"]).await;
    let mut holder = relay.raw_daemon("home").await;
    let claimant = relay.daemon("home").await;
    let ping = next_ping(&mut holder).await;
    claimant.cut().await;
    let mut second = relay.daemon("home").await;
    let later = next_ping(&mut holder).await;
    holder.frame(op::PONG, &later).await;
    assert_ne!(ping, later);
    assert!(matches!(second.recv().await, Event::Close(4409, _)));
    assert_eq!(relay.log.count("server_id_takeover", &[]), 0);
    assert_eq!(relay.counts().await, (1, 0));
}
