//! Memory per idle connection: the slope between two counts, so that what the process needs anyway
//! doesn't matter. Every connection carried a frame before, and answered a ping of the heartbeat.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Scale};
use crate::dial::{Dialler, Ids, Leg, PATIENCE};
use crate::fleet::{Fleet, Role};
use crate::floor::Floor;
use crate::link::{Keys, Link, start_relay};
use crate::machine::{Server, free_addr};
use crate::report::{Row, Target};

/// What each phone sends and gets back, in bytes: more than a socket is read with in one small piece.
const FRAME_BYTES: usize = 4096;

/// For every connection to be pinged by a relay whose heartbeat we don't know.
const HEARTBEAT: Duration = Duration::from_secs(40);

/// Plain connections.
pub(crate) fn run(bench: &Bench) -> io::Result<Vec<Row>> {
    let runs = bench.repeat("plain", || slope(bench, None))?;
    let floor = bench.repeat("the floor", || floor_slope(&bench.scale))?;
    let (kib, notes): (Vec<f64>, Vec<_>) = runs.into_iter().unzip();
    let mut row = Row::new(name(&bench.scale, "connection"), "KiB", kib)
        .floor(floor)
        .published(38.4, 38.4)
        .target(Target::median(3.0, Some(2.0)));
    row.note = notes.into_iter().flatten().next();
    Ok(vec![row])
}

/// TLS connections.
pub(crate) fn encrypted(bench: &Bench) -> io::Result<Row> {
    let keys = Keys::new(false)?;
    let runs = bench.repeat("idle with TLS", || slope(bench, Some(&keys)))?;
    let (kib, notes): (Vec<f64>, Vec<_>) = runs.into_iter().unzip();
    let row = Row::new(name(&bench.scale, "TLS connection"), "KiB", kib);
    let mut row = row.target(Target::median(14.0, Some(9.0)));
    row.note = notes.into_iter().flatten().next();
    Ok(row)
}

fn name(scale: &Scale, what: &str) -> String {
    format!("idle {what}, {} to {}", scale.few, scale.many)
}

/// KiB of the relay's memory for each connection more, with binaries among them as in earnest; and a
/// remark if the relay did not ping all of them.
fn slope(bench: &Bench, keys: Option<&Keys>) -> io::Result<(f64, Option<String>)> {
    let scale = &bench.scale;
    // Where we can choose: a heartbeat every 30 s would not need other memory.
    let ping_interval = match scale.quick {
        true => "--ping-interval=500ms",
        false => "--ping-interval=3s",
    };
    let server = start_relay(&bench.subject, free_addr()?, keys, &[ping_interval])?;
    let mut crowd = Crowd::new(&server)?;
    crowd.grow(scale.few, keys)?;
    let few = crowd.settled(&server)?;
    crowd.grow(scale.many, keys)?;
    let many = crowd.settled(&server)?;
    let (count, pinged) = (crowd.fleet.len(), crowd.fleet.pinged);
    let remark = (pinged < count).then(|| {
        let seconds = HEARTBEAT.as_secs();
        format!("{pinged} of {count} connections were pinged within {seconds} s")
    });
    let kib = many.saturating_sub(few) as f64 / 1024.0;
    Ok((kib / (scale.many - scale.few) as f64, remark))
}

/// Binaries with their phones, connected, quiet.
pub(crate) struct Crowd {
    pub(crate) fleet: Fleet,
    dialler: Dialler,
    ids: Ids,
}

impl Crowd {
    pub(crate) fn new(server: &Server) -> io::Result<Self> {
        Ok(Self {
            fleet: Fleet::new(FRAME_BYTES)?,
            dialler: Dialler::new(server.addr),
            ids: Ids::new("idle"),
        })
    }

    /// Connects until there are so many. Each new phone sends a frame and gets it back.
    pub(crate) fn grow(&mut self, to: usize, keys: Option<&Keys>) -> io::Result<()> {
        while self.fleet.len() < to {
            let first = self.fleet.len();
            let before = self.fleet.passed;
            let mut awaited = 0;
            // A binary first, and its phones once it is there; old pings are answered meanwhile.
            let binaries = usize::from(Ids::member(first).0 == Leg::Binary);
            let phones = (first + binaries..to).take_while(|n| Ids::member(*n).0 == Leg::Phone);
            for (leg, count) in [(Leg::Binary, binaries), (Leg::Phone, phones.count())] {
                let (ids, start) = (&self.ids, self.fleet.len());
                let links = self.dialler.upgraded(count, keys, |index| {
                    ids.request(leg, Ids::member(start + index).1)
                })?;
                for link in links {
                    if leg == Leg::Binary {
                        self.fleet.add(link, Role::binary())?;
                    } else {
                        let phone = self.fleet.add(link, Role::Phone)?;
                        self.fleet.start(phone, 1, 1)?;
                        awaited += 2;
                    }
                }
            }
            let all = move |fleet: &Fleet| fleet.passed >= before + awaited;
            self.fleet.run_until(PATIENCE, "the first frames", all)?;
        }
        Ok(())
    }

    /// The relay's memory once all have been pinged and it stands still.
    fn settled(&mut self, server: &Server) -> io::Result<u64> {
        let until = Instant::now() + HEARTBEAT;
        while self.fleet.pinged < self.fleet.len() && Instant::now() < until {
            self.fleet.run(Duration::from_millis(100))?;
        }
        let fleet = &mut self.fleet;
        settled(server, |time| fleet.run(time))
    }
}

/// The same of the floor, which needs two connections for each: fewer of them.
fn floor_slope(scale: &Scale) -> io::Result<f64> {
    let mut floor = Floor::start()?;
    let (few, many) = (scale.few * 2 / 5, scale.many * 2 / 5);
    let mut held: Vec<[Link; 2]> = Vec::new();
    let mut grow = |to: usize| -> io::Result<u64> {
        while held.len() < to {
            held.push(floor.pair()?);
        }
        settled(&floor.server, |time| {
            sleep(time);
            Ok(())
        })
    };
    let (small, large) = (grow(few)?, grow(many)?);
    let kib = large.saturating_sub(small) as f64 / 1024.0;
    Ok(kib / (many - few) as f64)
}

/// Lets time pass until memory stands still, but not for ever.
fn settled(server: &Server, mut pass: impl FnMut(Duration) -> io::Result<()>) -> io::Result<u64> {
    let mut last = server.resident_bytes()?;
    for _ in 0..25 {
        pass(Duration::from_millis(200))?;
        let now = server.resident_bytes()?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}
