//! Processes that are killed, and connections that get a RST.

use super::Outcome;
use crate::book::{Result, ensure};
use crate::launch::PATIENCE;
use crate::report::Order;
use crate::stage::{Kind, Stage};
use crate::world::World;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Until every phone talks to its daemon again after a restart of the relay: a daemon's ladder (1, 2, 4 s) and a phone's,
/// each with its spread, on a busy machine.
const AFTER_RESTART: Duration = Duration::from_secs(20);

/// Until every phone talks to the daemon's next process: told to redial at the claim, a phone waits for a second or two.
const AFTER_CLAIM: Duration = Duration::from_secs(15);

/// kill -9 of the relay.
pub(crate) async fn relay(world: World) -> Result<Outcome> {
    let mut stage = Stage::open(&world, &[]).await?;
    let mut town = stage.town().await?;
    let mut slowest = Duration::ZERO;
    for down in [Duration::ZERO, Duration::from_secs(3)] {
        stage.kill_relay().await?;
        // That long it is away.
        sleep(down).await;
        stage.restart_relay().await?;
        stage.health.resume();
        slowest = slowest.max(stage.recover(&mut town, AFTER_RESTART).await?);
    }
    let figures = stage.finish(town).await?;
    Ok(Outcome::Kept(format!(
        "recovered in {slowest:.1?}; {figures}"
    )))
}

/// kill -9 of both daemons. Their phones, who are silent, stay connected until the next process claims.
pub(crate) async fn daemons(world: World) -> Result<Outcome> {
    let mut stage = Stage::open(&world, &[]).await?;
    let mut town = stage.town().await?;
    for phone in &mut town.phones {
        phone.peer()?.tell(Order::Hush).await?;
    }
    // What was said before is answered.
    stage.recover(&mut town, PATIENCE).await?;
    for daemon in &mut town.daemons {
        daemon.kill().await?;
    }
    let phones: Vec<u64> = town.phones.iter().map(|phone| phone.process).collect();
    let relay = &stage.relay;
    stage
        .until(PATIENCE, || async {
            let grace = relay.page().await?.get("slots{state=\"grace\"}");
            Ok((grace != 2.0)
                .then(|| format!("{grace} slots are in grace"))
                .into_iter()
                .collect())
        })
        .await?;
    stage
        .book
        .calm(Duration::from_secs(2), |inner| {
            let lost = phones
                .iter()
                .map(|phone| inner.of(*phone))
                .find(|seen| !seen.connected);
            lost.map(|seen| format!("{} did not stay: {:?}", seen.name, seen.losses))
        })
        .await?;
    for daemon in &mut town.daemons {
        stage.start(daemon)?;
    }
    // What a phone said before the claim would have nowhere to go.
    for phone in &phones {
        stage
            .book
            .wait("a phone's end at the claim", PATIENCE, |inner| {
                inner.of(*phone).losses.first().map(drop)
            })
            .await?;
    }
    let slowest = stage.recover(&mut town, AFTER_CLAIM).await?;
    for phone in &phones {
        let inner = stage.book.open();
        let losses = &inner.of(*phone).losses;
        let told: Vec<_> = losses
            .iter()
            .map(|loss| (loss.code, loss.reason.as_str()))
            .collect();
        ensure(told == [(Some(4404), "binary reclaimed server-id")], || {
            format!("a phone's connections ended with {told:?}")
        })?;
    }
    let page = stage.relay.page().await?;
    for (counter, truth) in [
        ("reclaims_total", 2.0),
        ("evictions_total", 4.0),
        ("resumes_total", 0.0),
    ] {
        let said = page.get(counter);
        ensure(said == truth, || {
            format!("{counter} says {said}, and it is {truth}")
        })?;
    }
    town.tell(&Order::Speak).await?;
    let figures = stage.finish(town).await?;
    Ok(Outcome::Kept(format!(
        "phones stayed for 2 s of grace, recovered in {slowest:.1?}; {figures}"
    )))
}

/// kill -9 of one phone of each daemon: the daemon is told, and nobody else notices.
pub(crate) async fn phones(world: World) -> Result<Outcome> {
    let mut stage = Stage::open(&world, &[]).await?;
    let mut town = stage.town().await?;
    let mut slowest = Duration::ZERO;
    for n in [0, 2] {
        let Kind::Phone { number } = town.phones[n].kind else {
            continue;
        };
        let start = Instant::now();
        town.phones[n].kill().await?;
        let daemon = town.daemons[n / 2].process;
        stage
            .book
            .wait("the notice of a phone's end", PATIENCE, |inner| {
                let mut gone = inner.of(daemon).gone.iter();
                gone.find(|(session, code)| session.0 == number && *code == 1001)
                    .map(drop)
            })
            .await?;
        slowest = slowest.max(start.elapsed());
        stage.start(&mut town.phones[n])?;
    }
    stage.recover(&mut town, AFTER_CLAIM).await?;
    for member in town.phones.iter().chain(&town.daemons) {
        let losses = stage.losses(member);
        ensure(losses == 0, || {
            format!("somebody of {} lost a connection", member.server)
        })?;
    }
    let figures = stage.finish(town).await?;
    Ok(Outcome::Kept(format!(
        "daemons were told within {slowest:.0?}; {figures}"
    )))
}

/// RST on the daemons' connections. Silent phones of the one that may resume notice nothing; those that talk may be told to
/// redial, since what they said may be lost.
pub(crate) async fn resets(world: World) -> Result<Outcome> {
    const RESETS: usize = 6;
    let mut stage = Stage::open(&world, &[]).await?;
    let mut town = stage.town().await?;
    town.tell(&Order::Hush).await?;
    stage.recover(&mut town, PATIENCE).await?;
    let mut slowest = Duration::ZERO;
    for n in 1..=RESETS {
        // With every end a phone of the other one waits longer.
        let daemons = if n == 1 {
            &town.daemons[..]
        } else {
            &town.daemons[1..]
        };
        // A frame that was answered is not proven to have arrived before the pong behind it is back.
        for daemon in daemons {
            daemon.way()?.silence().await;
        }
        for daemon in daemons {
            daemon.way()?.reset();
        }
        for daemon in daemons {
            let process = daemon.process;
            stage
                .book
                .wait("the daemon's next connection", PATIENCE, |inner| {
                    (inner.of(process).connects.len() > n).then_some(())
                })
                .await?;
        }
        slowest = slowest.max(stage.recover(&mut town, AFTER_CLAIM).await?);
        for phone in town
            .phones
            .iter()
            .filter(|phone| phone.server == "resumable")
        {
            let inner = stage.book.open();
            let losses = &inner.of(phone.process).losses;
            let fine = match n > RESETS / 2 {
                false => losses.is_empty(),
                true => losses.iter().all(|loss| loss.code == Some(4404)),
            };
            ensure(fine, || format!("a session did not go on: {losses:?}"))?;
        }
        if n == RESETS / 2 {
            town.tell(&Order::Speak).await?;
        }
    }
    let resumes = stage.relay.page().await?.get("resumes_total");
    ensure(resumes == RESETS as f64, || {
        format!("there were {resumes} resumes")
    })?;
    let figures = stage.finish(town).await?;
    Ok(Outcome::Kept(format!(
        "{resumes} resumes, recovered in {slowest:.1?}; {figures}"
    )))
}
