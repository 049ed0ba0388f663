//! One load and nothing else: for a profiler, or a counter of calls, that looks at a relay meanwhile.

use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::accepts;
use crate::frames;
use crate::machine;

/// What the relay is kept busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Frames of so many bytes, as the part `frames` sends them.
    Frames(usize),
    /// Whole lives of connections, as in the part `accepts`.
    Lives,
}

impl FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "lives" => Ok(Self::Lives),
            bytes => match bytes.parse() {
                Ok(bytes @ 64..=200_000) => Ok(Self::Frames(bytes)),
                _ => Err("a frame's size from 64 to 200000 bytes, or lives".to_owned()),
            },
        }
    }
}

/// Does this for so long; the last line tells how often.
pub(crate) fn run(relay: SocketAddr, work: Work, time: Duration) -> io::Result<()> {
    machine::prepare()?;
    match work {
        Work::Frames(bytes) => {
            let mut fleet = frames::fleet(relay, bytes)?;
            fleet.run(time)?;
            println!("{} frames", fleet.passed);
        }
        Work::Lives => {
            let (mut crowd, _binaries) = accepts::crowd(relay)?;
            crowd.run(time)?;
            println!("{} lives", crowd.ended);
        }
    }
    Ok(())
}
