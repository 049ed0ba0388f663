//! Faults as they come.

use super::Outcome;
use crate::book::{Broken, Result};
use crate::proxy::{Flow, Way};
use crate::report::Order;
use crate::stage::{Kind, Member, Stage, Town};
use crate::world::World;
use relay_sim::rng::Rng;
use rustix::process::Signal;
use std::time::Duration;
use tokio::time::sleep;

/// How many faults.
const FAULTS: usize = 25;

/// Until everybody talks again when they are over: what can happen one after the other is a client that notices at its
/// own ping (20 s), a dial that is not answered (15 s), two ladders (36 s each) and a probe (10 s).
const CALM: Duration = Duration::from_secs(120);

/// Plays them.
pub(crate) async fn play(world: World) -> Result<Outcome> {
    let seed = world.seed;
    let mut history = Vec::new();
    let played = storm(&world, &mut Rng::new(seed), &mut history).await;
    match played {
        Ok(figures) => Ok(Outcome::Kept(format!("seed {seed}: {figures}"))),
        Err(Broken(what)) => Err(Broken(format!(
            "seed {seed}: {what}\n         repeat: just chaos --only mix --seed {seed}\n         {}",
            history.join("\n         ")
        ))),
    }
}

async fn storm(world: &World, rng: &mut Rng, history: &mut Vec<String>) -> Result<String> {
    let mut stage = Stage::open(world, &[]).await?;
    let mut town = stage.town().await?;
    for _ in 0..FAULTS {
        let what = fault(&mut stage, &mut town, rng).await;
        history.push(match &what {
            Ok(what) => what.clone(),
            Err(broken) => format!("here: {broken}"),
        });
        what?;
        stage.book.check()?;
        sleep(rng.time_ms(50..4_000)).await;
    }
    for member in town.daemons.iter().chain(&town.phones) {
        for way in [Way::Up, Way::Down] {
            member.way()?.always(way, Flow::Open);
        }
    }
    town.tell(&Order::Speak).await?;
    let calm = stage.recover(&mut town, CALM).await?;
    // Half of a connection may be a hole still, whose other half nobody has missed yet.
    for member in town.daemons.iter().chain(&town.phones) {
        member.way()?.reset();
    }
    let again = stage.recover(&mut town, CALM).await?;
    let restarts = stage.restarts;
    let figures = stage.finish(town).await?;
    Ok(format!(
        "{FAULTS} faults, {restarts} restarts of the relay, recovered in {calm:.1?} and {again:.1?}; {figures}"
    ))
}

/// Whom it meets.
fn victim<'a>(town: &'a mut Town, rng: &mut Rng) -> &'a mut Member {
    let group = match rng.percent(40) {
        true => &mut town.daemons,
        false => &mut town.phones,
    };
    let n = rng.within(0..group.len() as u64) as usize;
    &mut group[n]
}

/// Does something, and says what it was.
async fn fault(stage: &mut Stage, town: &mut Town, rng: &mut Rng) -> Result<String> {
    let ms = rng.time_ms(100..8_000);
    let way = *rng.pick(&[Way::Up, Way::Down]);
    let choice = rng.within(0..100);
    let victim = victim(town, rng);
    let name = match victim.kind {
        Kind::Daemon { .. } => format!("the daemon of {}", victim.server),
        Kind::Phone { number } => format!("phone {number}"),
    };
    Ok(match choice {
        0..15 => {
            victim.way()?.reset();
            format!("{name} gets a RST")
        }
        15..25 => {
            victim.way()?.always(way, Flow::Stalled);
            sleep(ms).await;
            victim.way()?.always(way, Flow::Open);
            format!("{name} is stalled {way:?} for {ms:?}")
        }
        25..33 => {
            victim.way()?.now(Way::Up, Flow::Hole);
            victim.way()?.now(Way::Down, Flow::Hole);
            format!("{name} is in a black hole")
        }
        33..38 => {
            victim.way()?.half_close(way);
            format!("{name} is half closed {way:?}")
        }
        38..48 => {
            let flow = match rng.percent(50) {
                true => Flow::Delayed(rng.time_ms(20..1_000)),
                false => Flow::Throttled(rng.within(5_000..100_000)),
            };
            victim.way()?.always(way, flow);
            format!("{name} is {flow:?} {way:?}")
        }
        48..65 => {
            victim.kill().await?;
            sleep(ms / 2).await;
            stage.start(victim)?;
            format!(
                "{name} is killed; its next process comes {:?} later",
                ms / 2
            )
        }
        65..80 => {
            victim.peer()?.signal(Signal::STOP)?;
            sleep(ms).await;
            victim.peer()?.signal(Signal::CONT)?;
            format!("{name} is stopped for {ms:?}")
        }
        80..85 => {
            stage.health.pause();
            stage.relay.signal(Signal::STOP)?;
            sleep(ms / 2).await;
            stage.relay.signal(Signal::CONT)?;
            stage.health.resume();
            format!("the relay is stopped for {:?}", ms / 2)
        }
        85..92 => {
            stage.kill_relay().await?;
            sleep(ms / 4).await;
            stage.restart_relay().await?;
            stage.health.resume();
            format!(
                "the relay is killed; the next process comes {:?} later",
                ms / 4
            )
        }
        _ => {
            let kind = Kind::Daemon {
                resumable: rng.percent(50),
            };
            let server = victim.server.clone();
            let mut rival = stage.member(kind, &server).await?;
            stage.start(&mut rival)?;
            sleep(ms).await;
            rival.kill().await?;
            format!("a second daemon of {server} is there for {ms:?}")
        }
    })
}
