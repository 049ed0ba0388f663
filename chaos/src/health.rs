//! Somebody who asks `/healthz` all the time.

use crate::book::Book;
use crate::relay::healthz;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// For an answer: what a platform's checker waits at the least.
const BOUND: Duration = Duration::from_secs(5);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Default)]
struct Sums {
    answers: u64,
    slowest: Duration,
}

fn note(sums: &Mutex<Sums>, time: Duration) {
    let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
    sums.answers += 1;
    sums.slowest = sums.slowest.max(time);
}

/// The watcher. A question without an answer is a broken promise, except in a pause.
pub(crate) struct Health {
    asks: watch::Sender<bool>,
    sums: Arc<Mutex<Sums>>,
    task: JoinHandle<()>,
}

impl Drop for Health {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Health {
    /// Begins to ask.
    pub(crate) fn watch(relay: SocketAddr, book: Book) -> Self {
        let (asks, mut may_ask) = watch::channel(true);
        let sums = Arc::<Mutex<Sums>>::default();
        let noted = sums.clone();
        let task = tokio::spawn(async move {
            while may_ask.wait_for(|asks| *asks).await.is_ok() {
                let start = Instant::now();
                let answer = tokio::select! {
                    answer = healthz(relay, BOUND) => answer,
                    _ = may_ask.changed() => continue,
                };
                if !*may_ask.borrow() {
                    continue;
                }
                if let Err(broken) = answer {
                    book.wrong(broken.to_string());
                }
                note(&noted, start.elapsed());
                sleep(PAUSE).await;
            }
        });
        Self { asks, sums, task }
    }

    /// Nothing is promised now.
    pub(crate) fn pause(&self) {
        self.asks.send_replace(false);
    }

    /// Asks again.
    pub(crate) fn resume(&self) {
        self.asks.send_replace(true);
    }

    /// Asks no more; what there was to see, in words.
    pub(crate) fn stop(&self) -> String {
        self.pause();
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{}× in at most {:.0?}", sums.answers, sums.slowest)
    }
}
