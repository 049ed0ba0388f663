//! A wall clock that jumps. What is measured in the relay is time that passes, which no jump changes.
//!
//! The clock of a shared machine can't be set; `libfaketime`, loaded before the C library, answers for it. It leaves the
//! monotonic clock as it is, as the kernel does when somebody sets the time.

use super::Outcome;
use crate::book::{Broken, Result, ensure};
use crate::launch::PATIENCE;
use crate::relay::{Relay, Settings};
use crate::report::Order;
use crate::stage::Stage;
use crate::world::World;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// `--grace` here.
const GRACE: Duration = Duration::from_secs(6);

/// By how much, in hours: forth, back, a month forth, and home again.
const JUMPS: [i64; 4] = [5, -10, 720, 0];

/// The wall clock of a relay.
struct Wall {
    file: PathBuf,
    library: PathBuf,
}

impl Wall {
    fn new(dir: &Path) -> Option<Self> {
        let libraries = std::fs::read_dir("/usr/lib").ok()?;
        let library = libraries
            .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
            .find(|path| path.is_file())?;
        let wall = Self {
            file: dir.join("clock"),
            library,
        };
        wall.jump(0).ok()?;
        Some(wall)
    }

    fn env(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file)),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("FAKETIME_NO_CACHE", "1".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// So many hours from the real time.
    fn jump(&self, hours: i64) -> Result<()> {
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{hours:+}h\n"))?;
        Ok(std::fs::rename(next, &self.file)?)
    }
}

/// How far the time of the log's last line is from ours, in hours.
fn offset(log: &str) -> Result<f64> {
    let mut lines = log.lines().rev();
    let time = lines.find_map(|line| line.strip_prefix("time=")?.split(' ').next());
    let time = time.ok_or_else(|| Broken("no line with a time".into()))?;
    let time = humantime::parse_rfc3339(time)?;
    let seconds = match time.duration_since(SystemTime::now()) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(error) => -error.duration().as_secs_f64(),
    };
    Ok(seconds / 3600.0)
}

/// Heartbeats every 2 s, a grace window, and a certificate that is exchanged, while the clock jumps.
pub(crate) async fn jumps(world: World) -> Result<Outcome> {
    let Some(wall) = Wall::new(&world.dir) else {
        return Ok(Outcome::Skipped(
            "no libfaketime (Debian: apt install faketime)".into(),
        ));
    };
    let args = ["--ping-interval=2s", "--pong-timeout=2s", "--grace=6s"];
    let settings = Settings {
        args: args.map(String::from).to_vec(),
        env: wall.env(),
        ..Settings::default()
    };
    let mut stage = Stage::with(&world, settings).await?;
    let mut town = stage.town().await?;
    let steady: Vec<u64> = town
        .daemons
        .iter()
        .chain(&town.phones[1..])
        .map(|m| m.process)
        .collect();
    for hours in JUMPS {
        wall.jump(hours)?;
        // A phone that comes again is worth a line, which shows the time.
        town.phones[0].way()?.reset();
        let log = &stage.relay;
        stage
            .until(PATIENCE, || async {
                let off = offset(&log.log_text())? - hours as f64;
                Ok((off.abs() > 0.05)
                    .then(|| format!("the clock is {off:.1} h off"))
                    .into_iter()
                    .collect())
            })
            .await?;
        let calm = stage.book.calm(Duration::from_secs(6), |inner| {
            let lost = steady
                .iter()
                .map(|process| inner.of(*process))
                .find(|seen| !seen.losses.is_empty());
            lost.map(|seen| {
                format!(
                    "{} ended by a jump of {hours} h: {:?}",
                    seen.name, seen.losses
                )
            })
        });
        calm.await?;
        stage.recover(&mut town, PATIENCE).await?;
    }

    town.tell(&Order::Hush).await?;
    stage.recover(&mut town, PATIENCE).await?;
    town.daemons[0].kill().await?;
    let start = Instant::now();
    let phone = town.phones[1].process;
    wall.jump(5)?;
    let grace = stage
        .book
        .wait("the end of the grace window", GRACE + PATIENCE, |inner| {
            let loss = inner.of(phone).losses.first()?;
            Some((loss.at - start, loss.reason.clone()))
        })
        .await?;
    ensure(
        grace.0 >= GRACE - Duration::from_millis(200) && grace.0 < GRACE * 2,
        || format!("a grace window of {GRACE:?} lasted {:?}", grace.0),
    )?;
    ensure(grace.1 == "binary did not return", || {
        format!("it ended with {}", grace.1)
    })?;
    stage.start(&mut town.daemons[0])?;
    stage.recover(&mut town, PATIENCE).await?;
    let reload = certificates(&world, &wall).await?;
    let figures = stage.finish(town).await?;
    let grace = grace.0;
    Ok(Outcome::Kept(format!(
        "jumps {JUMPS:?} h; grace {grace:.1?} of {GRACE:?}; certificates within {reload:.1?}; {figures}"
    )))
}

/// A certificate is exchanged after each jump; returns the longest time until it is in force.
async fn certificates(world: &World, wall: &Wall) -> Result<Duration> {
    let dir = &world.dir;
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let write = |year: i32| -> Result<()> {
        let mut params = rcgen::CertificateParams::new(vec!["relay.test".to_owned()])?;
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let pair = rcgen::KeyPair::generate()?;
        std::fs::write(&key, pair.serialize_pem())?;
        Ok(std::fs::write(&cert, params.self_signed(&pair)?.pem())?)
    };
    write(2040)?;
    wall.jump(0)?;
    let settings = Settings {
        program: world.relay.clone(),
        args: vec![
            format!("--tls-cert={}", cert.display()),
            format!("--tls-key={}", key.display()),
            "--tls-reload=1s".into(),
        ],
        env: wall.env(),
        tls: true,
        log: Some(dir.join("tls.log")),
        ..Settings::default()
    };
    let mut relay = Relay::start(settings, dir).await?;
    let mut slowest = Duration::ZERO;
    let mut last = relay
        .page()
        .await?
        .get("certificate_not_after_timestamp_seconds");
    for (n, hours) in JUMPS.into_iter().enumerate() {
        wall.jump(hours)?;
        write(2050 + 10 * n as i32)?;
        let start = Instant::now();
        loop {
            let now = relay
                .page()
                .await?
                .get("certificate_not_after_timestamp_seconds");
            if now > last {
                last = now;
                break;
            }
            ensure(start.elapsed() < PATIENCE, || {
                format!("after a jump of {hours} h a new certificate is not noticed")
            })?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        slowest = slowest.max(start.elapsed());
    }
    relay.terminate().await?;
    Ok(slowest)
}
