//! A relay that has too little of something.

use super::{Outcome, undisturbed};
use crate::book::{Result, ensure};
use crate::crowd;
use crate::group::Group;
use crate::launch::{Launch, PATIENCE};
use crate::relay::Settings;
use crate::report::Order;
use crate::stage::{Kind, Stage, Town};
use crate::world::World;
use relay_client::ConnectError;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// For the slots of those who are only here to take room: they don't come back.
const GRACE: &str = "--grace=3s";

/// Few descriptors, and a limit of connections that takes no notice of it: accepts fail. Who is connected goes on, the
/// relay does not spin, and who waited gets in when there is room.
pub(crate) async fn descriptors(world: World) -> Result<Outcome> {
    const DESCRIPTORS: u64 = 80;
    const DIALERS: usize = 150;
    const WATCH: Duration = Duration::from_secs(5);
    let mut stage = Stage::with(
        &world,
        Settings {
            args: vec![
                GRACE.into(),
                "--max-connections=10000".into(),
                "--max-handshakes=5000".into(),
            ],
            launch: Launch {
                nofile: Some(DESCRIPTORS),
                ..Launch::default()
            },
            ..Settings::default()
        },
    )
    .await?;
    let mut town = stage.town().await?;
    // Like everybody who comes now, `/healthz` has to wait for a descriptor.
    stage.health.pause();
    let relay = stage.relay.addr;
    let mut dials = JoinSet::new();
    for n in 0..DIALERS {
        dials.spawn(crowd::daemon(
            relay,
            format!("filler-{n}"),
            Duration::from_secs(60),
        ));
    }
    let log = &stage.relay;
    stage
        .until(PATIENCE, || async {
            let fails = log.log_text().contains("accept_failed");
            Ok((!fails)
                .then(|| "no accept has failed".to_owned())
                .into_iter()
                .collect())
        })
        .await?;
    let before = stage.relay.figures()?;
    let start = Instant::now();
    sleep(WATCH).await;
    let answered = stage.recover(&mut town, PATIENCE).await?;
    let after = stage.relay.figures()?;
    let percent = 100.0 * (after.cpu - before.cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    ensure(percent < 25.0, || {
        format!("without descriptors the relay uses {percent:.0} % of a processor")
    })?;
    // The kernel's list of them is not one moment's.
    ensure(after.fds as u64 + 2 >= DESCRIPTORS, || {
        format!("{} descriptors are open", after.fds)
    })?;

    // Half of those that are in leave, again and again, until everybody has been in.
    let start = Instant::now();
    let (mut inside, mut were_in) = (Vec::new(), 0);
    while let Some(dial) = dials.join_next().await {
        inside.push(dial??);
        were_in += 1;
        if inside.len() > 20 {
            inside.drain(..10);
        }
    }
    let all_in = start.elapsed();
    ensure(were_in == DIALERS, || {
        format!("only {were_in} of {DIALERS} got in")
    })?;
    drop(inside);
    stage.health.resume();
    undisturbed(&stage, &town, &[])?;
    let lines = stage.relay.log_text().matches("accept_failed").count();
    let most = 2 + (start.elapsed() + WATCH).as_secs() as usize / 10;
    ensure(lines <= most, || {
        format!("{lines} lines about failed accepts")
    })?;
    let figures = stage.finish(town).await?;
    Ok(Outcome::Kept(format!(
        "{percent:.1} % of a processor, answers in {answered:.1?}, all {DIALERS} in after {all_in:.1?}; {figures}"
    )))
}

/// Few descriptors, and the limits that follow from them: who doesn't fit is told so, and `/healthz` answers all the time.
pub(crate) async fn full(world: World) -> Result<Outcome> {
    const DIALERS: usize = 100;
    let mut stage = Stage::with(
        &world,
        Settings {
            args: vec![GRACE.into()],
            launch: Launch {
                nofile: Some(128),
                ..Launch::default()
            },
            ..Settings::default()
        },
    )
    .await?;
    let mut town = stage.town().await?;
    let relay = stage.relay.addr;
    let mut dials = JoinSet::new();
    for n in 0..DIALERS {
        dials.spawn(crowd::daemon(relay, format!("filler-{n}"), PATIENCE));
    }
    let (mut inside, mut refused, mut dropped) = (Vec::new(), 0, 0.0);
    while let Some(dial) = dials.join_next().await {
        match dial? {
            Ok(socket) => inside.push(socket),
            Err(ConnectError::Refused {
                status: 503,
                retry_after: Some(_),
                ..
            }) => refused += 1,
            // There are more handshakes at a time than fit, and the oldest makes room.
            Err(ConnectError::Io(_)) => dropped += 1.0,
            Err(other) => ensure(false, || format!("a dialer that doesn't fit got {other}"))?,
        }
    }
    // Those who come one after the other get in until it is full, and are told then.
    while refused == 0 {
        match crowd::daemon(relay, format!("single-{}", inside.len()), PATIENCE).await {
            Ok(socket) => inside.push(socket),
            Err(ConnectError::Refused {
                status: 503,
                retry_after: Some(_),
                ..
            }) => refused += 1,
            Err(other) => ensure(false, || format!("a single one got {other}"))?,
        }
        ensure(inside.len() <= DIALERS, || "everybody gets in".into())?;
    }
    let page = stage.relay.page().await?;
    let said = page.sum("connections_dropped_total");
    ensure(dropped == said, || {
        format!("{dropped} were dropped, and it says {said}")
    })?;
    let limit = page.get("connections_limit");
    let held = inside.len() + town.phones.len() + town.daemons.len();
    ensure(held as f64 == limit, || {
        format!("{held} connections, and the limit is {limit}")
    })?;
    stage.recover(&mut town, PATIENCE).await?;
    drop(inside);
    let start = Instant::now();
    let late = loop {
        match crowd::daemon(relay, "late".into(), PATIENCE).await {
            Ok(socket) => break socket,
            Err(ConnectError::Refused { status: 503, .. }) if start.elapsed() < PATIENCE => {}
            Err(other) => return Err(other.into()),
        }
        sleep(Duration::from_millis(50)).await;
    };
    let room = start.elapsed();
    drop(late);
    undisturbed(&stage, &town, &[])?;
    ensure(!stage.relay.log_text().contains("accept_failed"), || {
        "an accept failed".into()
    })?;
    let figures = stage.finish(town).await?;
    Ok(Outcome::Kept(format!(
        "{held} connections, {refused} told to come again, {dropped} dropped; room after {room:.1?}; {figures}"
    )))
}

/// Phones that don't read, four daemons' full number of them.
const SLOW: usize = 64;

/// Each gets twice what its outbox holds; returns when all of them are gone.
async fn flood_mute_phones(stage: &mut Stage, loud: &mut Town, round: u64) -> Result<()> {
    let before = stage.relay.page().await?.get("connected_phones");
    let mut mute = Vec::new();
    for n in 0..SLOW {
        let session = (1_000 + n, round);
        let server = format!("loud-{}", n / 16);
        mute.push(crowd::mute_phone(stage.relay.addr, &server, session).await?);
    }
    for n in 0..SLOW {
        let daemon = &mut loud.daemons[n / 16];
        let process = daemon.process;
        let before = stage.book.open().of(process).floods;
        stage
            .book
            .wait("a daemon that has heard of its phones", PATIENCE, |inner| {
                inner.heard((1_000 + n, round)).then_some(())
            })
            .await?;
        let flood = Order::Flood {
            phone: 1_000 + n,
            frames: 100,
            pad: 80_000,
        };
        daemon.peer()?.tell(flood).await?;
        stage
            .book
            .wait("the end of a flood", PATIENCE, |inner| {
                (inner.of(process).floods > before).then_some(())
            })
            .await?;
    }
    drop(mute);
    let relay = &stage.relay;
    stage
        .until(PATIENCE, || async {
            let more = relay.page().await?.get("connected_phones") - before;
            Ok((more > 0.0)
                .then(|| format!("{more} mute phones are there"))
                .into_iter()
                .collect())
        })
        .await
}

/// A control group with little memory, and phones that read nothing while their daemons say more than the relay may keep.
pub(crate) async fn memory(world: World) -> Result<Outcome> {
    const LIMIT: u64 = 160 << 20;
    // Between two floods that are the same for the relay.
    const SPREAD: u64 = 16 << 20;
    // Beside the queues: the program, and what an idle connection costs.
    const REST: u64 = 48 << 20;
    let group = match Group::new(LIMIT) {
        Ok(group) => group,
        Err(why) => return Ok(Outcome::Skipped(format!("no control group: {why}"))),
    };
    let mut stage = Stage::with(
        &world,
        Settings {
            args: vec![GRACE.into()],
            launch: Launch {
                group: Some(group.dir.clone()),
                ..Launch::default()
            },
            ..Settings::default()
        },
    )
    .await?;
    // The C library's allocator keeps most of what the queues had, for the next ones.
    stage.kept_bytes = LIMIT / 2;
    let mut town = stage.town().await?;
    let mut loud = Town::default();
    for n in 0..SLOW / 16 {
        let kind = Kind::Daemon { resumable: false };
        let mut daemon = stage.direct(
            kind,
            &format!("loud-{n}"),
            format!("ws://{}", stage.relay.addr),
        );
        stage.start(&mut daemon)?;
        let process = daemon.process;
        stage
            .book
            .wait("a loud daemon's connection", PATIENCE, |inner| {
                inner.of(process).connected.then_some(())
            })
            .await?;
        loud.daemons.push(daemon);
    }
    // The second time shows whether the first left something behind that is of no use any more.
    let mut peaks = [0; 2];
    for (round, peak) in (1..).zip(&mut peaks) {
        flood_mute_phones(&mut stage, &mut loud, round).await?;
        stage.recover(&mut town, PATIENCE).await?;
        *peak = stage.relay.peak_bytes()?;
    }
    let page = stage.relay.page().await?;
    let (most, limit) = (
        page.get("queue_bytes_high_water"),
        page.get("queue_bytes_limit"),
    );
    ensure(most <= limit && most > limit * 0.8, || {
        format!("{most} bytes were queued, and the limit is {limit}")
    })?;
    ensure(group.kills()? == 0, || "the kernel killed it".into())?;
    let [first, peak] = peaks;
    ensure(peak < limit as u64 + REST && peak < first + SPREAD, || {
        format!("{} MiB were resident, and then {}", first >> 20, peak >> 20)
    })?;
    undisturbed(&stage, &town, &[])?;
    for daemon in &mut loud.daemons {
        daemon.quit().await?;
    }
    let ended = page.sum("connection_ends_total");
    let figures = stage.finish(town).await?;
    Ok(Outcome::Kept(format!(
        "{:.0} of {:.0} MiB queued, {} MiB resident at most in a group of {}, {ended} ended; {figures}",
        most / 1048576.0,
        limit / 1048576.0,
        peak >> 20,
        LIMIT >> 20,
    )))
}
