//! Memory per idle connection: the slope between two counts, so that what the process needs anyway
//! doesn't matter.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::dial::{Dialler, Leg, request};
use crate::frames::start_floor;
use crate::machine::start_relay;

/// Phones of each binary: the sixteenth place is left free.
pub(crate) const PHONES: usize = 15;

/// The two counts of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) few: usize,
    pub(crate) many: usize,
}

/// Bytes of the relay's memory for each connection more, registered, with binaries among them as in earnest.
pub(crate) fn bytes_per_connection(relay: &Path, counts: Counts) -> io::Result<f64> {
    let server = start_relay(relay)?;
    let mut dialler = Dialler::new(server.addr);
    let mut held: Vec<TcpStream> = Vec::with_capacity(counts.many);
    let mut grow = |to: usize| -> io::Result<u64> {
        while held.len() < to {
            // Rounded up: the last group before may not be full.
            let group = held.len().div_ceil(PHONES + 1);
            let id = format!("idle-{group}");
            held.extend(dialler.upgraded(1, |_| request(Leg::Binary, &id))?);
            let phones = PHONES.min(to - held.len());
            held.extend(dialler.upgraded(phones, |_| request(Leg::Phone, &id))?);
        }
        settled(|| server.resident_bytes())
    };
    let few = grow(counts.few)?;
    let many = grow(counts.many)?;
    Ok(many.saturating_sub(few) as f64 / (counts.many - counts.few) as f64)
}

/// The same of the floor, which needs two connections for each: fewer of them.
pub(crate) fn floor_bytes_per_connection(counts: Counts) -> io::Result<f64> {
    let back = TcpListener::bind("127.0.0.1:0")?;
    let server = start_floor(&back)?;
    let mut dialler = Dialler::new(server.addr);
    let mut held: Vec<[TcpStream; 2]> = Vec::new();
    let (few, many) = (counts.few * 2 / 5, counts.many * 2 / 5);
    let mut grow = |to: usize| -> io::Result<u64> {
        while held.len() < to {
            let near = dialler.tcp()?;
            held.push([near, back.accept()?.0]);
        }
        settled(|| server.resident_bytes())
    };
    let small = grow(few)?;
    let large = grow(many)?;
    Ok(large.saturating_sub(small) as f64 / (many - few) as f64)
}

/// Waits until memory stands still: registering goes on for a moment after the last 101.
pub(crate) fn settled(resident: impl Fn() -> io::Result<u64>) -> io::Result<u64> {
    let mut last = resident()?;
    loop {
        sleep(Duration::from_millis(200));
        let now = resident()?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
}
