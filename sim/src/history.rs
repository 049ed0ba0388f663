//! What happened, in lines, with the virtual time in front. Two runs of one seed have the same one.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// The history of one run; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct History(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    start: Instant,
    lines: Vec<String>,
    violations: Vec<String>,
    /// Of everything that crossed the network (FNV-1a).
    digest: u64,
    crossed: u64,
}

impl History {
    /// An empty one, which starts now.
    pub(crate) fn start() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            start: Instant::now(),
            lines: Vec::new(),
            violations: Vec::new(),
            digest: 0xcbf2_9ce4_8422_2325,
            crossed: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line.
    pub(crate) fn note(&self, who: &str, what: impl AsRef<str>) {
        let mut inner = self.lock();
        let ms = inner.start.elapsed().as_millis();
        let line = format!(
            "{:>5}.{:03}  {who:<10}  {}",
            ms / 1000,
            ms % 1000,
            what.as_ref()
        );
        inner.lines.push(line);
    }

    /// Adds a line about a check that failed.
    pub(crate) fn violation(&self, who: &str, what: impl AsRef<str>) {
        let what = what.as_ref();
        self.note(who, format!("VIOLATION: {what}"));
        let ms = self.lock().start.elapsed().as_millis();
        let at = format!("{}.{:03}", ms / 1000, ms % 1000);
        self.lock()
            .violations
            .push(format!("{who} at {at} s: {what}"));
    }

    /// Counts bytes that crossed the network, too many for lines of their own.
    pub(crate) fn crossed(&self, link: u64, side: usize, bytes: usize) {
        let mut inner = self.lock();
        let ms = inner.start.elapsed().as_millis() as u64;
        for word in [ms, link, side as u64, bytes as u64] {
            inner.digest = (inner.digest ^ word).wrapping_mul(0x100_0000_01b3);
        }
        inner.crossed += bytes as u64;
    }

    /// The checks that failed.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Milliseconds since the start.
    pub(crate) fn ms(&self) -> u64 {
        self.lock().start.elapsed().as_millis() as u64
    }

    /// Everything, to be read or compared.
    pub(crate) fn text(&self) -> String {
        let inner = self.lock();
        let mut text = inner.lines.join("\n");
        let (bytes, digest) = (inner.crossed, inner.digest);
        let _ = write!(
            text,
            "\n{bytes} bytes crossed the network; digest {digest:016x}\n"
        );
        text
    }
}
