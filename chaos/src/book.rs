//! What daemons and phones told: the truth that the relay is measured against. All waiting is here, on what they tell.

use crate::report::{Event, Report};
use relay_sim::message::Session;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// A promise was broken, or the scenario could not be played.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<T: std::error::Error> From<T> for Broken {
    fn from(error: T) -> Self {
        Self(error.to_string())
    }
}

/// A result whose error ends the scenario.
pub(crate) type Result<T> = std::result::Result<T, Broken>;

/// Holds, or is broken.
pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Broken(what())) }
}

/// A connection that ended.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    /// When this was told.
    pub(crate) at: Instant,
    /// The close code.
    pub(crate) code: Option<u16>,
    /// The reason, or what broke.
    pub(crate) reason: String,
}

/// What one process told.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Whose.
    pub(crate) name: String,
    /// Connected, as far as it knows.
    pub(crate) connected: bool,
    /// When its connections began.
    pub(crate) connects: Vec<Instant>,
    /// How its connections ended.
    pub(crate) losses: Vec<Loss>,
    /// Dials that failed.
    pub(crate) failures: Vec<String>,
    /// When it had an answer to something it said after a mark.
    pub(crate) recovered: BTreeMap<u64, Instant>,
    /// Phones of which a daemon was told that they are gone.
    pub(crate) gone: Vec<(Session, u16)>,
    /// Floods that are out.
    pub(crate) floods: u64,
    /// The last report, and its number.
    pub(crate) report: Option<(u64, Report)>,
}

/// Everything that was told.
#[derive(Debug, Default)]
pub(crate) struct Inner {
    /// Promises that were broken.
    pub(crate) wrong: Vec<String>,
    /// By number of the process.
    pub(crate) processes: BTreeMap<u64, Seen>,
    heard: BTreeMap<Session, u64>,
}

impl Inner {
    /// What this process told.
    pub(crate) fn of(&self, process: u64) -> &Seen {
        &self.processes[&process]
    }

    /// Whether a daemon has heard of this session.
    pub(crate) fn heard(&self, session: Session) -> bool {
        self.heard.contains_key(&session)
    }

    fn note(&mut self, process: u64, event: Event) {
        let at = Instant::now();
        let seen = self.processes.entry(process).or_default();
        match event {
            Event::Connected => {
                seen.connected = true;
                seen.connects.push(at);
            }
            Event::Lost { code, reason } => {
                seen.connected = false;
                seen.losses.push(Loss { at, code, reason });
            }
            Event::Failed { error } => seen.failures.push(error),
            Event::Stopped { why } => {
                let what = format!("{} gave up for good: {why}", seen.name);
                self.wrong.push(what);
            }
            Event::Heard(session) => {
                let first = *self.heard.entry(session).or_insert(process);
                if first != process {
                    let what = format!("{session:?} reached processes {first} and {process}");
                    self.wrong.push(what);
                }
            }
            Event::Gone { session, code } => seen.gone.push((session, code)),
            Event::Recovered(mark) => {
                seen.recovered.insert(mark, at);
            }
            Event::Flooded => seen.floods += 1,
            Event::Wrong(what) => {
                let what = format!("{}: {what}", seen.name);
                self.wrong.push(what);
            }
            Event::Report(number, report) => seen.report = Some((number, report)),
        }
    }
}

/// The book; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<watch::Sender<()>>,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            inner: Arc::default(),
            changed: Arc::new(watch::channel(()).0),
        }
    }
}

impl Book {
    /// To read.
    pub(crate) fn open(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process starts.
    pub(crate) fn enter(&self, process: u64, name: String) {
        let seen = Seen {
            name,
            ..Seen::default()
        };
        self.open().processes.insert(process, seen);
    }

    /// A process told this.
    pub(crate) fn note(&self, process: u64, event: Event) {
        self.open().note(process, event);
        self.changed.send_replace(());
    }

    /// A promise was broken.
    pub(crate) fn wrong(&self, what: String) {
        self.open().wrong.push(what);
        self.changed.send_replace(());
    }

    /// A process has no connection any more, without having been able to say so.
    pub(crate) fn killed(&self, process: u64) {
        if let Some(seen) = self.open().processes.get_mut(&process) {
            seen.connected = false;
        }
    }

    /// Everything that was promised so far was kept.
    ///
    /// # Errors
    /// If not.
    pub(crate) fn check(&self) -> Result<()> {
        let inner = self.open();
        ensure(inner.wrong.is_empty(), || {
            inner.wrong[..inner.wrong.len().min(3)].join("; ")
        })
    }

    /// What `probe` finds, within the bound.
    ///
    /// # Errors
    /// If it finds nothing in time, or a promise is broken meanwhile.
    pub(crate) async fn wait<T>(
        &self,
        what: &str,
        bound: Duration,
        mut probe: impl FnMut(&Inner) -> Option<T>,
    ) -> Result<T> {
        let until = Instant::now() + bound;
        let mut changes = self.changed.subscribe();
        loop {
            changes.borrow_and_update();
            self.check()?;
            if let Some(found) = probe(&self.open()) {
                return Ok(found);
            }
            if timeout_at(until, changes.changed()).await.is_err() {
                return Err(Broken(format!("waited {bound:?} in vain for: {what}")));
            }
        }
    }

    /// For this time no promise is broken, and `probe` finds nothing wrong.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) async fn calm(
        &self,
        time: Duration,
        mut probe: impl FnMut(&Inner) -> Option<String>,
    ) -> Result<()> {
        let until = Instant::now() + time;
        let mut changes = self.changed.subscribe();
        loop {
            changes.borrow_and_update();
            self.check()?;
            if let Some(wrong) = probe(&self.open()) {
                return Err(Broken(wrong));
            }
            if timeout_at(until, changes.changed()).await.is_err() {
                return Ok(());
            }
        }
    }
}
