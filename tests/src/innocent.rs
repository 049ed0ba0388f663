//! Bystanders of an attack: a pair that goes on, and newcomers. What they wait is the measure of it.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::peer::{Daemon, Phone};
use crate::relay::Relay;
use crate::wire::{DAEMON_HEADERS, frame};

/// What was seen in one phase.
#[derive(Default)]
struct Seen {
    /// Of a frame each way.
    frames: Vec<Duration>,
    /// From a newcomer's SYN to its 101.
    newcomers: Vec<Duration>,
}

/// The phase of this length is to be watched.
type Request = (Duration, oneshot::Sender<Seen>);

/// A pair, and newcomers from ever new addresses, none of which attacks. They live in a thread of
/// their own, so that their times don't show what else the test's process is busy with.
pub struct Innocent {
    /// None when they are done.
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    phases: Vec<(&'static str, Seen)>,
}

impl Drop for Innocent {
    /// Waits for the end of their thread: a relay that it still holds would outlive the test.
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // A panic of theirs is the test's already.
            let _ = thread.join();
        }
    }
}

impl Innocent {
    /// Connects the pair.
    pub fn new(relay: &Arc<Relay>) -> Self {
        let (requests, watches) = mpsc::channel::<Request>();
        let relay = relay.clone();
        let thread = std::thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().expect("a runtime");
            let mut pair = runtime.block_on(relay.pair("innocent"));
            for (time, seen) in watches {
                // The test may be over, by a failure elsewhere.
                let _ = seen.send(runtime.block_on(watch(&relay, &mut pair, time)));
            }
        });
        Self {
            requests: Some(requests),
            thread: Some(thread),
            phases: Vec::new(),
        }
    }

    /// Exchanges frames and lets newcomers dial for `time`. Meanwhile other tasks of the test run.
    ///
    /// # Panics
    /// When a frame is lost, or a newcomer isn't let in.
    pub async fn watch(&mut self, phase: &'static str, time: Duration) {
        let (seen, watched) = oneshot::channel();
        let requests = self.requests.as_ref().expect("they are not done");
        let sent = requests.send((time, seen));
        sent.expect("the innocent are still connected");
        let seen = watched.await.expect("the innocent are served as before");
        self.phases.push((phase, seen));
    }

    /// Prints what was seen of `attack` in the phases, the first of which came before it. In none of
    /// them anybody waited behind it: an attacker needs a core of two himself, so that times are
    /// longer then, but not by what a queue of thousands would take.
    ///
    /// # Panics
    /// When somebody waited.
    pub fn judge(mut self, attack: &str) {
        println!("{attack}: p50 / p99 / worst in ms");
        let mut p99s = Vec::new();
        for (phase, seen) in &mut self.phases {
            p99s.push([
                print(phase, "frames", &mut seen.frames),
                print(phase, "newcomers", &mut seen.newcomers),
            ]);
        }
        for p99 in &p99s[1..] {
            for (before, now) in p99s[0].iter().zip(p99) {
                let bound = 10.0 * before + 150.0;
                assert!(
                    *now <= bound,
                    "p99 {before} ms before the attack, then {now} ms"
                );
            }
        }
    }
}

/// Prints a row of the table. Returns the 99th percentile in milliseconds.
fn print(phase: &str, what: &str, times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    let [p50, p99, worst] = [50, 99, 100].map(at);
    let count = times.len();
    println!("  {phase:<7}{what:<10}{p50:>8.2} {p99:>8.2} {worst:>8.2}  of {count}");
    p99
}

async fn watch(relay: &Relay, pair: &mut (Daemon, Phone, String), time: Duration) -> Seen {
    let (daemon, phone, conn_id) = pair;
    let until = Instant::now() + time;
    let mut seen = Seen::default();
    while Instant::now() < until {
        seen.newcomers.push(newcomer(relay).await);
        for _ in 0..5 {
            let began = Instant::now();
            phone.send(&frame(1));
            daemon.expect_frame_from(conn_id, &frame(1)).await;
            daemon.send_to(conn_id, &frame(2));
            phone.expect_frame(&frame(2)).await;
            seen.frames.push(began.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    seen
}

/// A daemon that nobody has seen before dials, and is let in.
async fn newcomer(relay: &Relay) -> Duration {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let from = Ipv4Addr::new(127, 9, (n / 250) as u8, (n % 250) as u8 + 1);
    let began = Instant::now();
    let stream = relay.over(relay.tcp_from(from).await).await;
    let id = format!("newcomer-{n}");
    let headers = [&[("x-pyrycode-server", &*id)], DAEMON_HEADERS].concat();
    let peer = relay.upgrade_on(stream, "/v1/server", &headers).await;
    let took = began.elapsed();
    peer.expect("a newcomer is not refused").cut().await;
    took
}
