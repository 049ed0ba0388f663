//! What is said over the pipes between this program and the daemons and phones that it started: a line of JSON each.

use relay_sim::message::Session;
use serde::{Deserialize, Serialize};
use std::io::{BufRead as _, Write as _};
use tokio::sync::mpsc;

/// What a daemon or a phone is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Phones: send a frame when connected, and report when one that is sent from now on is answered.
    Mark(u64),
    /// Say nothing by yourself.
    Hush,
    /// Talk again.
    Speak,
    /// Daemons: so many frames with so much padding for this phone's present session.
    Flood {
        /// The phone.
        phone: usize,
        /// How many.
        frames: u64,
        /// Bytes of padding of each.
        pad: usize,
    },
    /// Tell what you know, under this number.
    Report(u64),
    /// Close, and end.
    Quit,
}

/// What a daemon or a phone tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// It has a connection.
    Connected,
    /// It has none any more.
    Lost {
        /// The close code, if there was one.
        code: Option<u16>,
        /// The reason, or what broke.
        reason: String,
    },
    /// A dial failed.
    Failed {
        /// Why.
        error: String,
    },
    /// It gave up for good.
    Stopped {
        /// Why.
        why: String,
    },
    /// A daemon has a new session.
    Heard(Session),
    /// A daemon was told that a phone it knew is gone.
    Gone {
        /// The session.
        session: Session,
        /// How it ended.
        code: u16,
    },
    /// A phone has an answer to a frame that it sent after this mark.
    Recovered(u64),
    /// A daemon has handed all of a flood to its connection, or the connection or the phone is gone.
    Flooded,
    /// A promise was broken.
    Wrong(String),
    /// Under this number: what it knows.
    Report(u64, Report),
}

/// What a daemon or a phone knows when it is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// It has a connection.
    pub(crate) connected: bool,
    /// Sessions: all of a daemon, the present one of a phone.
    pub(crate) sessions: Vec<Spoken>,
    /// Frames that came, in all.
    pub(crate) frames: u64,
    /// Frames of a daemon that were lost with its connection, where the session went on.
    pub(crate) lost_down: u64,
}

/// What was said in a session, as one of the two knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spoken {
    /// Which.
    pub(crate) session: Session,
    /// Frames sent by this side.
    pub(crate) sent: u64,
    /// The number of the next frame from the other side.
    pub(crate) next: u64,
    /// It is not known to be over.
    pub(crate) is_open: bool,
}

/// Tells it. If nobody listens any more, this process has no purpose either.
pub(crate) fn tell(event: &Event) {
    let line = serde_json::to_string(event).unwrap_or_default();
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(1);
    }
}

/// Orders as they come; ends with standard input.
pub(crate) fn orders() -> mpsc::UnboundedReceiver<Order> {
    let (sender, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines();
        for line in lines.map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(order) => drop(sender.send(order)),
                Err(error) => tell(&Event::Wrong(format!("no order: {line}: {error}"))),
            }
        }
    });
    orders
}
