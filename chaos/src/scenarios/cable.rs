//! Paths that die without a FIN or a RST.

use super::Outcome;
use crate::book::{Broken, Result, ensure};
use crate::launch::PATIENCE;
use crate::proxy::{Flow, Way};
use crate::relay::Settings;
use crate::stage::{Kind, Stage, Town};
use crate::world::World;
use relay_tests::Namespace;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// When the relay has given a silent peer up at the latest: 30 s to the next ping, 30 s for its pong, 5 s for the Close.
const HEARTBEAT: Duration = Duration::from_secs(65);

/// And on a machine that does other things as well.
const HEARTBEAT_BOUND: Duration = Duration::from_secs(80);

/// A daemon's machine loses its cable: the next process, on another machine, has the slot long before a heartbeat would
/// notice. The cable comes back: a process that may resume goes on. A phone that stays away is given up.
pub(crate) async fn cut(world: World) -> Result<Outcome> {
    let machine = match Namespace::new() {
        Ok(machine) => machine,
        Err(why) => return Ok(Outcome::Skipped(format!("no second machine: {why}"))),
    };
    let settings = Settings {
        everywhere: true,
        ..Settings::default()
    };
    let mut stage = Stage::with(&world, settings).await?;
    let mut town = Town::default();
    // Two daemons on the other machine, with phones here; and one here, with a phone there.
    for (resumable, server) in [(false, "plain"), (true, "resumable"), (false, "here")] {
        let number = town.phones.len();
        let mut daemon = stage.member(Kind::Daemon { resumable }, server).await?;
        let mut phone = stage.member(Kind::Phone { number }, server).await?;
        let away = if server == "here" {
            &mut phone
        } else {
            &mut daemon
        };
        let url = machine.url(stage.relay.addr);
        *away = stage.direct(away.kind, server, url);
        away.launch.netns = Some(machine.name.clone());
        away.args.push("--ping-ms=3000".into());
        town.daemons.push(daemon);
        town.phones.push(phone);
    }
    stage.populate(&mut town).await?;

    machine.cable(false).map_err(Broken)?;
    let start = Instant::now();
    let mut next = stage.member(town.daemons[0].kind, "plain").await?;
    stage.start(&mut next)?;
    let mut before = std::mem::replace(&mut town.daemons[0], next);
    let phone = town.phones[0].process;
    // The kernel has had no acknowledgement for 2 s, and the probe's own 10 s are not over.
    let takeover = stage
        .book
        .wait(
            "the takeover of a dead path",
            Duration::from_secs(9),
            |inner| inner.of(phone).losses.first().map(|loss| loss.at - start),
        )
        .await?;
    // Long enough for everybody there to have noticed by their own pings, and to be dialling.
    sleep(Duration::from_secs(12).saturating_sub(start.elapsed())).await;
    machine.cable(true).map_err(Broken)?;
    let back = stage.recover(&mut town, Duration::from_secs(40)).await?;
    let resumes = stage.relay.page().await?.get("resumes_total");
    ensure(resumes == 1.0, || format!("there were {resumes} resumes"))?;
    before.kill().await?;

    machine.cable(false).map_err(Broken)?;
    let start = Instant::now();
    let here = town.daemons[2].process;
    let session = stage.book.open().of(here).gone.len();
    // By the heartbeat (1011), or earlier because nothing that its daemon says can be written (1001).
    let code = stage
        .book
        .wait(
            "the end of a phone that was cut off",
            HEARTBEAT_BOUND,
            |inner| {
                let mut gone = inner.of(here).gone.iter().skip(session);
                gone.next().map(|(_, code)| *code)
            },
        )
        .await?;
    let ended = start.elapsed();
    machine.cable(true).map_err(Broken)?;
    stage.recover(&mut town, Duration::from_secs(60)).await?;
    let figures = stage.finish(town).await?;
    Ok(Outcome::Kept(format!(
        "taken over after {takeover:.1?}, back in {back:.1?}; a phone ended after {ended:.0?} with {code} (≤ {HEARTBEAT:?}); {figures}"
    )))
}

/// Connections become black holes whose near end acknowledges everything. The daemons notice by their own pings, redial, and
/// have their slots back when the probe's time is over; a phone is given up by the heartbeat; and a phone that half
/// closes has left.
pub(crate) async fn black_hole(world: World) -> Result<Outcome> {
    // From the next connection: the probe's 10 s, and a phone's ladder. A heartbeat would take up to 65 s.
    const BOUND: Duration = Duration::from_secs(20);
    let mut stage = Stage::open(&world, &[]).await?;
    let mut town = Town::default();
    for (resumable, server) in [(false, "plain"), (true, "resumable")] {
        let mut daemon = stage.member(Kind::Daemon { resumable }, server).await?;
        // Patient enough for the probe: nobody is read from while the holder still has time to answer.
        let pings = ["--ping-ms=2000", "--pong-ms=11500"];
        daemon.args.extend(pings.map(String::from));
        town.daemons.push(daemon);
        for _ in 0..2 {
            let number = town.phones.len();
            let mut phone = stage.member(Kind::Phone { number }, server).await?;
            phone.args.push("--ping-ms=5000".into());
            town.phones.push(phone);
        }
    }
    stage.populate(&mut town).await?;

    let start = Instant::now();
    for daemon in &town.daemons {
        daemon.way()?.now(Way::Up, Flow::Hole);
        daemon.way()?.now(Way::Down, Flow::Hole);
    }
    for daemon in &town.daemons {
        let process = daemon.process;
        stage
            .book
            .wait("a daemon's next connection", PATIENCE, |inner| {
                (inner.of(process).connects.len() > 1).then_some(())
            })
            .await?;
    }
    stage.recover(&mut town, BOUND).await?;
    let back = start.elapsed();
    let page = stage.relay.page().await?;
    let successions = page.get("takeovers_total") + page.get("resumes_total");
    ensure(successions == 2.0, || format!("{successions} successions"))?;

    let phone = &town.phones[3];
    let daemon = town.daemons[1].process;
    let gone_before = stage.book.open().of(daemon).gone.len();
    let start = Instant::now();
    phone.way()?.now(Way::Up, Flow::Hole);
    phone.way()?.now(Way::Down, Flow::Hole);
    let process = phone.process;
    let connects = stage.book.open().of(process).connects.len();
    stage
        .book
        .wait("the phone's next connection", PATIENCE, |inner| {
            (inner.of(process).connects.len() > connects).then_some(())
        })
        .await?;
    stage
        .book
        .wait("the end of the one in the hole", HEARTBEAT_BOUND, |inner| {
            let mut gone = inner.of(daemon).gone.iter().skip(gone_before);
            gone.find(|((phone, _), code)| *phone == 3 && *code == 1011)
                .map(drop)
        })
        .await?;
    let ended = start.elapsed();

    let plain = town.daemons[0].process;
    let gone_before = stage.book.open().of(plain).gone.len();
    town.phones[0].way()?.half_close(Way::Up);
    stage
        .book
        .wait("the end of a phone that half closed", PATIENCE, |inner| {
            let mut gone = inner.of(plain).gone.iter().skip(gone_before);
            gone.find(|((phone, _), _)| *phone == 0).map(drop)
        })
        .await?;
    stage.recover(&mut town, PATIENCE).await?;
    let figures = stage.finish(town).await?;
    Ok(Outcome::Kept(format!(
        "daemons back in {back:.1?}; a phone ended after {ended:.0?} (≤ {HEARTBEAT:?}); {figures}"
    )))
}

/// Paths that are slow, stall in one direction, and go on: nobody is ended for it, and nothing is lost.
pub(crate) async fn slow(world: World) -> Result<Outcome> {
    let mut stage = Stage::open(&world, &[]).await?;
    let mut town = stage.town().await?;
    let all = |town: &Town, way, flow| -> Result<()> {
        for member in town.daemons.iter().chain(&town.phones) {
            member.way()?.always(way, flow);
        }
        Ok(())
    };
    let mut slowest = Duration::ZERO;
    for (way, flow) in [
        (Way::Up, Flow::Delayed(Duration::from_millis(700))),
        (Way::Down, Flow::Throttled(20_000)),
        (Way::Up, Flow::Throttled(20_000)),
    ] {
        all(&town, way, flow)?;
        slowest = slowest.max(stage.recover(&mut town, PATIENCE).await?);
        sleep(Duration::from_secs(2)).await;
        all(&town, way, Flow::Open)?;
    }
    for way in [Way::Up, Way::Down] {
        all(&town, way, Flow::Stalled)?;
        sleep(Duration::from_secs(6)).await;
        all(&town, way, Flow::Open)?;
        slowest = slowest.max(stage.recover(&mut town, PATIENCE).await?);
    }
    for member in town.phones.iter().chain(&town.daemons) {
        let inner = stage.book.open();
        let seen = inner.of(member.process);
        ensure(seen.losses.is_empty(), || {
            format!("{} ended: {:?}", seen.name, seen.losses)
        })
        .map_err(|Broken(what)| Broken(format!("on a slow path {what}")))?;
    }
    let figures = stage.finish(town).await?;
    Ok(Outcome::Kept(format!(
        "answers in at most {slowest:.1?}; {figures}"
    )))
}
