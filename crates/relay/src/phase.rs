//! What the relay is doing as a whole. Readiness answers, and what the service manager is told, follow it.

use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// The phases of a relay, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Listeners are being bound.
    Starting,
    /// Peers are served.
    Ready,
    /// Nobody new is let in; who is there is being closed.
    Draining,
    /// Everything is closed.
    Stopped,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        })
    }
}

/// The present phase, for everybody to see; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Phases(Arc<watch::Sender<Phase>>);

impl Default for Phases {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Starting)))
    }
}

impl Phases {
    /// What it is now.
    pub(crate) fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// Goes on to `phase`. A phase that is over does not come back.
    pub(crate) fn enter(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = phase > *now;
            if later {
                *now = phase;
            }
            later
        });
    }

    /// Tells of every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }
}
