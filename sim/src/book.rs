//! What daemons and phones know: the truth that the relay is measured against.

use crate::actor::Who;
use crate::history::History;
use crate::message::Session;
use crate::net::Dialled;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One connection of a daemon or a phone, from its 101 on.
#[derive(Clone, Debug)]
pub(crate) struct Conn {
    /// The connection underneath.
    pub(crate) dialled: Dialled,
    /// When the first frame or notice came by it: until then a daemon does not know whether its claim is decided.
    pub(crate) proven_ms: Option<u64>,
    /// Frames that its owner, a phone, has sent by it.
    pub(crate) said: u64,
    /// Its owner did not take what came, for a while.
    pub(crate) slow: bool,
    /// When and how it ended.
    pub(crate) end: Option<End>,
}

/// The end of a connection, as its owner learnt of it.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// When.
    pub(crate) at_ms: u64,
    /// How.
    pub(crate) how: How,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// With a Close from the relay.
    Close(u16, String),
    /// Without one: what broke.
    Broken(String),
    /// Its owner closed it, with 1000.
    Quit,
    /// Its owner was killed.
    Killed,
}

impl Conn {
    /// The connection that came of a dial. `slow`: its owner took nothing, for a while or at all.
    pub(crate) fn of(dialled: Dialled, slow: bool) -> Self {
        Self {
            dialled,
            slow,
            said: 0,
            proven_ms: None,
            end: None,
        }
    }

    /// Why it need not have gone well.
    pub(crate) fn excuse(&self) -> Option<String> {
        let slow = self.slow.then(|| "slow".to_owned());
        self.dialled.hurt().or(slow)
    }
}

/// All connections of one daemon's process, or of one phone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conns {
    /// The last one lives, as far as its owner knows.
    pub(crate) is_open: bool,
    /// In their order.
    pub(crate) all: Vec<Conn>,
}

impl Conns {
    /// The number of the last one, counted from 1.
    pub(crate) fn number(&self) -> u64 {
        self.all.len() as u64
    }

    /// A new one.
    pub(crate) fn begin(&mut self, conn: Conn) {
        self.is_open = true;
        self.all.push(conn);
    }

    /// The last one's end, if it has not ended before.
    pub(crate) fn end(&mut self, at_ms: u64, how: How) {
        let was_open = std::mem::take(&mut self.is_open);
        if let Some(conn) = self.all.last_mut().filter(|_| was_open) {
            conn.end = Some(End { at_ms, how });
        }
    }

    /// Its owner does not take what comes by the last one.
    pub(crate) fn slow(&mut self) {
        if let Some(conn) = self.all.last_mut() {
            conn.slow = true;
        }
    }

    /// A frame or a notice came by the last one.
    pub(crate) fn prove(&mut self, now_ms: u64) {
        if let Some(conn) = self.all.last_mut() {
            conn.proven_ms.get_or_insert(now_ms);
        }
    }
}

/// What a daemon's process knows of one session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spoken {
    /// The number of the next frame from the phone.
    pub(crate) next: u64,
    /// Frames sent to the phone.
    pub(crate) sent: u64,
    /// Of these, before the daemon's present connection.
    pub(crate) sent_before: u64,
    /// The process's connection, counted from 1, on which the session began.
    pub(crate) began: u64,
    /// The code with which the process asked for its end.
    pub(crate) directed: Option<u16>,
    /// The connection on which it did so last.
    pub(crate) directed_on: u64,
    /// What the relay said of its end.
    pub(crate) notice: Option<u16>,
    /// The connection on which it said so.
    pub(crate) noticed_on: u64,
}

/// A process of a daemon.
#[derive(Clone, Debug, Default)]
pub(crate) struct Daemon {
    /// Its server-id, by number.
    pub(crate) server: usize,
    /// It names its process.
    pub(crate) resumable: bool,
    /// It should not be there: another machine with the same server-id.
    pub(crate) rival: bool,
    /// It has ended.
    pub(crate) ended: bool,
    /// Its connections.
    pub(crate) conns: Conns,
    /// Its sessions.
    pub(crate) sessions: BTreeMap<Session, Spoken>,
}

/// A phone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phone {
    /// The server-id it dials, by number.
    pub(crate) server: usize,
    /// Its sessions are its connections, in order.
    pub(crate) conns: Conns,
    /// Frames sent in the present session.
    pub(crate) sent: u64,
    /// The number of the next frame of the present session.
    pub(crate) next: u64,
    /// The number of the last frame that was answered.
    pub(crate) answered: Option<u64>,
    /// The number of the first frame sent after the calm began.
    pub(crate) calm_number: Option<u64>,
    /// When it got the first answer to such a frame.
    pub(crate) recovered_ms: Option<u64>,
}

/// Everything that daemons and phones know.
#[derive(Debug, Default)]
pub(crate) struct Inner {
    /// Processes of daemons, by number.
    pub(crate) daemons: BTreeMap<u64, Daemon>,
    /// Phones, by number.
    pub(crate) phones: Vec<Phone>,
    /// Which process heard of a session.
    pub(crate) heard: BTreeMap<Session, u64>,
    /// Codes with which a phone may be closed: what its daemon asked for.
    pub(crate) directives: BTreeSet<(Session, u16)>,
    /// When orderly shutdowns of a relay began.
    pub(crate) shutdowns_ms: Vec<u64>,
    /// Daemons' frames that were on their way when a connection broke, where the session went on.
    pub(crate) lost_down: u64,
    /// The faults are over.
    pub(crate) calm: bool,
}

impl Inner {
    /// The connections of one.
    pub(crate) fn conns(&mut self, who: Who) -> &mut Conns {
        match who {
            Who::Daemon(process) => &mut self.daemons.entry(process).or_default().conns,
            Who::Phone(number) => &mut self.phones[number].conns,
        }
    }
}

/// The book; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    inner: Arc<Mutex<Inner>>,
    /// Where violations go.
    pub(crate) history: History,
}

impl Book {
    /// An empty one.
    pub(crate) fn new(history: History) -> Self {
        Self {
            inner: Arc::default(),
            history,
        }
    }

    /// To read or write.
    pub(crate) fn open(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
