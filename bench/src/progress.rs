//! What is going on, on standard error; and the end of what goes on for too long.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// One line that changes, on a terminal; a line for each part otherwise.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    since: Instant,
    now: Arc<Mutex<Now>>,
}

#[derive(Debug, Default)]
struct Now {
    /// Which part of how many, and its name.
    part: String,
    /// When it has taken too long.
    deadline: Option<Instant>,
}

impl Progress {
    /// Nothing goes on yet.
    pub(crate) fn new() -> Self {
        let now = Arc::<Mutex<Now>>::default();
        let watched = now.clone();
        thread::spawn(move || watch(&watched));
        Self {
            terminal: stderr().is_terminal(),
            since: Instant::now(),
            now,
        }
    }

    /// A part begins; it may take so long.
    pub(crate) fn part(&self, number: usize, of: usize, name: &str, bound: Duration) {
        let part = format!("[{number}/{of}] {name}");
        if !self.terminal {
            self.say(&format!("{part} ({} s)\n", self.since.elapsed().as_secs()));
        }
        let mut now = lock(&self.now);
        now.part = part;
        now.deadline = Some(Instant::now() + bound);
    }

    /// Where the part is.
    pub(crate) fn step(&self, what: &str) {
        if self.terminal {
            let part = lock(&self.now).part.clone();
            let seconds = self.since.elapsed().as_secs();
            self.say(&format!("\r\x1b[K{part}: {what} ({seconds} s)"));
        }
    }

    /// Nothing goes on; the line is free for others.
    pub(crate) fn rest(&self) {
        lock(&self.now).deadline = None;
        if self.terminal {
            self.say("\r\x1b[K");
        }
    }

    fn say(&self, text: &str) {
        // Nobody may be reading; that is no reason to stop measuring.
        let _ = stderr().write_all(text.as_bytes());
    }
}

fn lock(now: &Mutex<Now>) -> MutexGuard<'_, Now> {
    now.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that waits has a bound of its own. Should one be missing, this is the last.
fn watch(now: &Mutex<Now>) {
    loop {
        thread::sleep(Duration::from_millis(500));
        let now = lock(now);
        if now
            .deadline
            .is_some_and(|deadline| Instant::now() > deadline)
        {
            eprintln!("\nrelay-bench: {} took too long; giving up", now.part);
            // What it has started is killed with it.
            std::process::exit(1);
        }
    }
}
