//! Processes that are stopped and go on: their kernel acknowledges everything meanwhile.

use super::{Outcome, undisturbed};
use crate::book::{Result, ensure};
use crate::launch::PATIENCE;
use crate::report::Order;
use crate::stage::{Kind, Stage, Town};
use crate::world::World;
use rustix::process::Signal;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// `--probe-timeout`: for a holder's pong.
const PROBE: Duration = Duration::from_secs(10);

/// Until every phone of a displaced daemon talks to the next: the probe, and a phone's first wait or two.
const AFTER_CLAIM: Duration = Duration::from_secs(25);

/// A daemon is stopped for a while: nothing ends, and nothing is lost. Stopped once more, it loses its slot to a second one,
/// but not before it had its time to answer.
pub(crate) async fn daemon(world: World) -> Result<Outcome> {
    let mut stage = Stage::open(&world, &[]).await?;
    let mut town = stage.town().await?;
    for daemon in &mut town.daemons {
        daemon.peer()?.signal(Signal::STOP)?;
    }
    sleep(Duration::from_secs(5)).await;
    for daemon in &mut town.daemons {
        daemon.peer()?.signal(Signal::CONT)?;
    }
    stage.recover(&mut town, PATIENCE).await?;
    undisturbed(&stage, &town, &[])?;

    let kind = Kind::Daemon { resumable: false };
    let mut next = stage.member(kind, "plain").await?;
    town.daemons[0].peer()?.signal(Signal::STOP)?;
    let start = Instant::now();
    stage.start(&mut next)?;
    let mut before = std::mem::replace(&mut town.daemons[0], next);
    let phone = town.phones[0].process;
    let displaced = stage
        .book
        .wait("the takeover", AFTER_CLAIM, |inner| {
            inner.of(phone).losses.first().map(|loss| loss.at)
        })
        .await?;
    let takeover = displaced - start;
    ensure(takeover >= PROBE, || {
        format!("a stopped daemon lost its slot after {takeover:?}, before its {PROBE:?} were over")
    })?;
    stage.recover(&mut town, AFTER_CLAIM).await?;
    let takeovers = stage.relay.page().await?.get("takeovers_total");
    ensure(takeovers == 1.0, || format!("{takeovers} takeovers"))?;
    undisturbed(&stage, &town, &[phone, town.phones[1].process])?;

    before.peer()?.signal(Signal::CONT)?;
    let process = before.process;
    stage
        .book
        .wait("4409 for the one that was displaced", PATIENCE, |inner| {
            let mut losses = inner.of(process).losses.iter();
            losses.find(|loss| loss.code == Some(4409)).map(drop)
        })
        .await?;
    before.kill().await?;
    stage.recover(&mut town, PATIENCE).await?;
    let figures = stage.finish(town).await?;
    Ok(Outcome::Kept(format!(
        "taken over after {takeover:.1?}; {figures}"
    )))
}

/// A phone is stopped while its daemon has more to say than its outbox holds: it alone ends, in bounded time, and the
/// daemon is told.
pub(crate) async fn phone(world: World) -> Result<Outcome> {
    let mut stage = Stage::open(&world, &[]).await?;
    let mut town = stage.town().await?;
    town.phones[0].peer()?.signal(Signal::STOP)?;
    let start = Instant::now();
    let (frames, pad) = (300, 80_000);
    let flood = Order::Flood {
        phone: 0,
        frames,
        pad,
    };
    town.daemons[0].peer()?.tell(flood).await?;
    let daemon = town.daemons[0].process;
    stage
        .book
        .wait("the end of the stopped phone", PATIENCE, |inner| {
            let mut gone = inner.of(daemon).gone.iter();
            gone.find(|((phone, _), code)| *phone == 0 && *code == 1011)
                .map(drop)
        })
        .await?;
    let ended = start.elapsed();
    let mut others = Town {
        daemons: Vec::new(),
        phones: town.phones.split_off(1),
    };
    let meanwhile = stage.recover(&mut others, PATIENCE).await?;
    town.phones.append(&mut others.phones);
    undisturbed(&stage, &town, &[town.phones[0].process])?;
    town.phones[0].peer()?.signal(Signal::CONT)?;
    stage.recover(&mut town, PATIENCE).await?;
    let figures = stage.finish(town).await?;
    Ok(Outcome::Kept(format!(
        "ended after {ended:.1?}, others answered in {meanwhile:.1?}; {figures}"
    )))
}

/// The relay itself is stopped for longer than any pong may take. Those who are that patient notice nothing; nobody is
/// taken for dead because the relay did not listen; and the others come back.
pub(crate) async fn relay(world: World) -> Result<Outcome> {
    const STOP: Duration = Duration::from_secs(40);
    // A phone that dialled meanwhile waits for up to 15 s before it tries again, in up to 19 s.
    const BACK: Duration = Duration::from_secs(45);
    let mut stage = Stage::open(&world, &[]).await?;
    let mut town = Town::default();
    for (resumable, server, ping_ms) in [(false, "patient", "120000"), (true, "usual", "30000")] {
        let mut daemon = stage.member(Kind::Daemon { resumable }, server).await?;
        daemon.args.push(format!("--ping-ms={ping_ms}"));
        town.daemons.push(daemon);
        for _ in 0..2 {
            let number = town.phones.len();
            let mut phone = stage.member(Kind::Phone { number }, server).await?;
            match resumable {
                false => phone.args.push(format!("--ping-ms={ping_ms}")),
                true => phone.args.push("--mobile".into()),
            }
            town.phones.push(phone);
        }
    }
    stage.populate(&mut town).await?;
    stage.health.pause();
    stage.relay.signal(Signal::STOP)?;
    sleep(STOP).await;
    stage.relay.signal(Signal::CONT)?;
    stage.health.resume();
    let back = stage.recover(&mut town, BACK).await?;
    let usual: Vec<u64> = town.phones[2..].iter().map(|phone| phone.process).collect();
    undisturbed(
        &stage,
        &town,
        &[&usual[..], &[town.daemons[1].process]].concat(),
    )?;
    let judged = {
        let inner = stage.book.open();
        let losses = inner.processes.values().flat_map(|seen| &seen.losses);
        losses.filter(|loss| loss.code == Some(1011)).count()
    };
    ensure(judged == 0, || format!("{judged} were taken for dead"))?;
    let figures = stage.finish(town).await?;
    Ok(Outcome::Kept(format!(
        "all back {back:.1?} after {STOP:?}; {figures}"
    )))
}
