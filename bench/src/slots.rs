//! Whether a frame costs more when there are many server-ids: ten phones at a time exchange frames,
//! and hand on to the next ones, so that the load is the same and all slots are in use.

use std::io;

use crate::bench::{Bench, Scale};
use crate::dial::{Dialler, Ids, Leg, PATIENCE};
use crate::fleet::{Fleet, Role};
use crate::floor::Floor;
use crate::frames::{Cost, measure};
use crate::report::{Row, Target};

/// Server-ids of the small relay, and phones that exchange frames at the same time.
const ACTIVE: usize = 10;
const IN_FLIGHT: u64 = 16;
/// Frames of a phone before it is another's turn.
const TURN: u64 = 32;
const FRAME_BYTES: usize = 256;

/// The cost of a frame among many server-ids over that among ten.
pub(crate) fn run(bench: &Bench) -> io::Result<Vec<Row>> {
    let scale = &bench.scale;
    let runs = bench.repeat("relay and floor", || {
        Ok((relay(bench)?, floor(&bench.scale)?))
    })?;
    let growth = |[few, many]: &[Cost; 2]| many.cpu_us() / few.cpu_us();
    let ours = runs.iter().map(|(ours, _)| growth(ours)).collect();
    let floor = runs.iter().map(|(_, floor)| growth(floor)).collect();
    let name = format!("CPU per frame, {} ids over {ACTIVE}", scale.slots);
    let at: Vec<f64> = runs.iter().map(|(ours, _)| ours[0].cpu_us()).collect();
    let note = format!(
        "{:.2} µs among {ACTIVE}; {} of the many have a phone and take turns. The floor: as many connections",
        crate::stats::median(&at),
        scale.slots_with_phones
    );
    let row = Row::new(name, "times", ours)
        .floor(floor)
        .target(Target::median(1.2, Some(1.05)))
        .loads(runs.iter().map(|(ours, _)| ours[1].load))
        .note(note);
    Ok(vec![row])
}

/// Among ten, and among many, of the same relay.
fn relay(bench: &Bench) -> io::Result<[Cost; 2]> {
    let scale = &bench.scale;
    let server = bench.subject.start(&[])?;
    let mut dialler = Dialler::new(server.addr);
    let ids = Ids::new("slots");
    let mut fleet = Fleet::new(FRAME_BYTES)?;
    let mut phones = Vec::new();
    let mut ids_now = 0;
    let mut at = |ids_then: usize, phones_then: usize| -> io::Result<Cost> {
        let request = |index| ids.request(Leg::Binary, ids_now + index);
        for link in dialler.upgraded(ids_then - ids_now, None, request)? {
            fleet.add(link, Role::binary())?;
        }
        let first = phones.len();
        let request = |index| ids.request(Leg::Phone, first + index);
        for link in dialler.upgraded(phones_then - first, None, request)? {
            phones.push(fleet.add(link, Role::Phone)?);
        }
        ids_now = ids_then;
        turns(&mut fleet, &phones)?;
        let cost = measure(&server, &mut fleet, scale)?;
        fleet.end_turns(PATIENCE)?;
        Ok(cost)
    };
    Ok([
        at(ACTIVE, ACTIVE)?,
        at(scale.slots, scale.slots_with_phones)?,
    ])
}

fn floor(scale: &Scale) -> io::Result<[Cost; 2]> {
    let mut floor = Floor::start()?;
    let mut fleet = Fleet::new(FRAME_BYTES)?;
    let mut phones = Vec::new();
    let mut at = |count: usize| -> io::Result<Cost> {
        while phones.len() < count {
            let [near, far] = floor.pair()?;
            fleet.add(far, Role::Mirror)?;
            phones.push(fleet.add(near, Role::Phone)?);
        }
        turns(&mut fleet, &phones)?;
        let cost = measure(&floor.server, &mut fleet, scale)?;
        fleet.end_turns(PATIENCE)?;
        Ok(cost)
    };
    Ok([at(ACTIVE)?, at(scale.slots_with_phones)?])
}

fn turns(fleet: &mut Fleet, phones: &[usize]) -> io::Result<()> {
    // Neighbours were connected together and lie together in memory: turns go elsewhere each time.
    let stride = 7919;
    let count = phones.len();
    let shuffled = (0..count).map(|index| phones[index * stride % count]);
    fleet.take_turns(shuffled, ACTIVE, IN_FLIGHT, TURN)
}
