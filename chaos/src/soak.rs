//! A mixed load for a long time: is the relay the same afterwards?

use crate::book::{Result, ensure};
use crate::crowd;
use crate::household;
use crate::launch::PATIENCE;
use crate::report::Order;
use crate::stage::{Kind, Stage, Town};
use crate::world::World;
use relay_client::Socket;
use relay_sim::rng::Rng;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// How long, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// The built relay
    #[arg(long, default_value = "target/debug/pyrycode-relay")]
    relay: PathBuf,
    /// Decides what comes when
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Between two samples.
const SAMPLE: Duration = Duration::from_secs(10);

/// By how much the memory may rise over the second half, on a line through its samples. An allocator's pages move it by some
/// hundred KiB. In an hour, more would be two bytes of each frame, or 75 of each connection.
const RISE_BYTES: f64 = 2.0 * 1048576.0;

/// Between two frames of everybody who talks, on the average.
const EVERY_MS: u64 = 20;

/// That begin in each second.
const HOUSEHOLDS: usize = 4;

/// Descriptors besides listeners and connections: whoever asks for metrics, and who is leaving at that moment.
const OTHER_FDS: f64 = 12.0;

/// Until everybody talks, after whatever the load did last.
const TALK: Duration = Duration::from_secs(60);

/// The relay at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    seconds: f64,
    rss_bytes: f64,
    fds: f64,
    connections: f64,
    handshakes: f64,
    frames: f64,
    ends: f64,
    cpu: Duration,
}

impl Sample {
    async fn take(stage: &Stage, start: Instant) -> Result<Self> {
        let page = stage.relay.page().await?;
        let figures = stage.relay.figures()?;
        Ok(Self {
            seconds: start.elapsed().as_secs_f64(),
            rss_bytes: figures.rss_bytes as f64,
            fds: figures.fds as f64,
            connections: page.get("connections"),
            handshakes: page.get("handshakes"),
            frames: page.sum("frames_forwarded_total"),
            ends: page.sum("connection_ends_total"),
            cpu: figures.cpu,
        })
    }

    fn print(&self, before: &Self) {
        let seconds = (self.seconds - before.seconds).max(0.001);
        println!(
            "{:>7.1} {:>8.1} {:>5} {:>11} {:>10} {:>9.1} {:>7} {:>6.1}",
            self.seconds / 60.0,
            self.rss_bytes / 1048576.0,
            self.fds,
            self.connections,
            self.handshakes,
            (self.frames - before.frames) / seconds,
            self.ends,
            100.0 * (self.cpu - before.cpu).as_secs_f64() / seconds,
        );
    }
}

/// How much a line through these points rises from the first to the last (least squares).
fn rise(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let slope = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum::<f64>()
        / points
            .iter()
            .map(|point| (point.0 - x).powi(2))
            .sum::<f64>();
    match (points.first(), points.last()) {
        (Some(first), Some(last)) if slope.is_finite() => slope * (last.0 - first.0),
        _ => 0.0,
    }
}

/// Runs it; whether every promise was kept.
pub(crate) async fn run(args: Args) -> bool {
    let Ok(dir) = tempfile::Builder::new().prefix("relay-soak-").tempdir() else {
        println!("BROKEN   no directory for the log");
        return false;
    };
    let world = World {
        dir: dir.path().to_owned(),
        relay: args.relay,
        vandalism: None,
        seed: args.seed,
    };
    match soak(&world, args.minutes).await {
        Ok(figures) => {
            println!("kept     {figures}");
            true
        }
        Err(what) => {
            println!("BROKEN   {what}\n         log: {}", dir.keep().display());
            false
        }
    }
}

async fn soak(world: &World, minutes: f64) -> Result<String> {
    let mut load = Load::start(world).await?;
    let start = Instant::now();
    let total = Duration::from_secs_f64(minutes * 60.0);
    let rows = (total.as_secs() / SAMPLE.as_secs() / 40).max(1);
    println!("minutes  RSS MiB   fds connections handshakes  frames/s    ends  CPU %");
    let mut samples = vec![Sample::take(&load.stage, start).await?];
    let mut shown = samples[0];
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_sample = start + SAMPLE;
    while start.elapsed() < total {
        seconds.tick().await;
        load.second().await?;
        load.stage.book.check()?;
        if Instant::now() < next_sample {
            continue;
        }
        load.stage.recover(&mut load.town, TALK).await?;
        let sample = Sample::take(&load.stage, start).await?;
        next_sample = Instant::now() + SAMPLE;
        samples.push(sample);
        let held = load.stage.base.fds as f64 + sample.connections + sample.handshakes;
        ensure(sample.fds <= held + OTHER_FDS, || {
            format!(
                "{} descriptors for {} connections",
                sample.fds, sample.connections
            )
        })?;
        if (samples.len() as u64).is_multiple_of(rows) {
            sample.print(&shown);
            shown = sample;
        }
    }
    let last = samples[samples.len() - 1];
    let half = &samples[samples.len() / 2..];
    let points: Vec<_> = half
        .iter()
        .map(|sample| (sample.seconds, sample.rss_bytes))
        .collect();
    let risen = rise(&points);
    ensure(risen <= RISE_BYTES, || {
        format!(
            "memory rose by {:.1} MiB in the second half",
            risen / 1048576.0
        )
    })?;
    let percent = 100.0 * (last.cpu - samples[0].cpu).as_secs_f64() / last.seconds;
    let done = load.done.clone();
    let figures = load.finish().await?;
    Ok(format!(
        "{:.1} min, {:.0} frames, {} connections ended, {percent:.1} % of a processor, RSS {:+.2} MiB in the second half; {done}; {figures}",
        last.seconds / 60.0,
        last.frames,
        last.ends,
        risen / 1048576.0,
    ))
}

/// What was done, in numbers.
#[derive(Clone, Debug, Default)]
struct Done {
    bursts: u32,
    resets: u32,
    restarts: u32,
    slow: u32,
    hostile: u32,
    households: usize,
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            bursts,
            resets,
            restarts,
            slow,
            hostile,
            households,
        } = self;
        write!(
            f,
            "{bursts} bursts, {resets} resets, {restarts} restarts of daemons, {slow} slow readers, {hostile} hostile, {households} households"
        )
    }
}

/// The load.
struct Load {
    stage: Stage,
    town: Town,
    rng: Rng,
    second: u64,
    /// Who stopped in the middle of a request.
    half: Vec<TcpStream>,
    /// Who doesn't read, and since which second.
    mute: Option<(Socket, u64)>,
    households: JoinSet<Result<()>>,
    done: Done,
}

impl Load {
    /// Two daemons that talk, and two idle ones, with two phones each.
    async fn start(world: &World) -> Result<Self> {
        let mut stage = Stage::open(world, &[]).await?;
        let mut town = Town::default();
        let servers = [
            ("plain", EVERY_MS),
            ("resumable", EVERY_MS),
            ("idle-1", 0),
            ("idle-2", 0),
        ];
        for (server, every_ms) in servers {
            let resumable = server != "plain";
            let every = format!("--every-ms={every_ms}");
            let mut daemon = stage.member(Kind::Daemon { resumable }, server).await?;
            daemon.args.push(every.clone());
            town.daemons.push(daemon);
            for _ in 0..2 {
                let number = town.phones.len();
                let mut phone = stage.member(Kind::Phone { number }, server).await?;
                phone.args.push(every.clone());
                if number % 4 == 0 {
                    phone.args.push("--mobile".into());
                }
                town.phones.push(phone);
            }
        }
        stage.populate(&mut town).await?;
        Ok(Self {
            stage,
            town,
            rng: Rng::new(world.seed),
            second: 0,
            half: Vec::new(),
            mute: None,
            households: JoinSet::new(),
            done: Done::default(),
        })
    }

    /// What begins in one second.
    async fn second(&mut self) -> Result<()> {
        self.second += 1;
        self.hostile().await?;
        self.live()?;
        match self.second % 60 {
            5 | 20 | 35 | 50 => self.burst().await?,
            8 | 28 | 48 => self.reset()?,
            12 => self.restart().await?,
            30 => self.slow_reader().await?,
            _ => {}
        }
        // Past its heartbeat, and its descriptor is of no use any more.
        if self
            .mute
            .as_ref()
            .is_some_and(|(_, since)| self.second > since + 25)
        {
            self.mute = None;
        }
        Ok(())
    }

    /// Households begin, and those that are over were as they should be.
    fn live(&mut self) -> Result<()> {
        for _ in 0..HOUSEHOLDS {
            self.done.households += 1;
            let (relay, number) = (self.stage.relay.addr, self.done.households);
            self.households.spawn(household::live(relay, number));
        }
        while let Some(over) = self.households.try_join_next() {
            over??;
        }
        Ok(())
    }

    /// Someone who says half a request, or nonsense, or nothing, and stays or goes.
    async fn hostile(&mut self) -> Result<()> {
        let mut stream = TcpStream::connect(self.stage.relay.addr).await?;
        let texts: [&[u8]; 4] = [
            b"",
            b"GET /v1/client HTTP/1.1\r\nHost: relay\r\nX-Pyry",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
            b"GET /v1/client HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\n\r\n",
        ];
        let text: &[u8] = self.rng.pick::<&[u8]>(&texts);
        stream.write_all(text).await?;
        if self.rng.percent(50) {
            self.half.push(stream);
        }
        if self.half.len() > 8 {
            self.half.remove(0);
        }
        self.done.hostile += 1;
        Ok(())
    }

    /// A daemon that says a lot at once to a phone that listens.
    async fn burst(&mut self) -> Result<()> {
        let large = self.rng.percent(30);
        let (frames, pad) = if large { (15, 60_000) } else { (150, 300) };
        let flood = Order::Flood {
            phone: 2,
            frames,
            pad,
        };
        self.done.bursts += 1;
        self.town.daemons[1].peer()?.tell(flood).await
    }

    /// Somebody's connection gets a RST.
    fn reset(&mut self) -> Result<()> {
        let group = match self.rng.percent(30) {
            true => &self.town.daemons,
            false => &self.town.phones,
        };
        self.done.resets += 1;
        self.rng.pick(group).way()?.reset();
        Ok(())
    }

    /// A daemon is killed, or ends properly; its next process comes.
    async fn restart(&mut self) -> Result<()> {
        let daemon = &mut self.town.daemons[0];
        match self.rng.percent(50) {
            true => daemon.kill().await?,
            false => daemon.quit().await?,
        }
        self.done.restarts += 1;
        sleep(Duration::from_millis(500)).await;
        self.stage.start(daemon)
    }

    /// A phone that reads nothing, and a daemon that says more to it than its outbox holds.
    async fn slow_reader(&mut self) -> Result<()> {
        self.done.slow += 1;
        let session = (1_000 + self.done.slow as usize, 1);
        let server = &self.town.daemons[0].server;
        let socket = crowd::mute_phone(self.stage.relay.addr, server, session).await?;
        self.stage
            .book
            .wait(
                "a daemon that has heard of a slow reader",
                PATIENCE,
                |inner| inner.heard(session).then_some(()),
            )
            .await?;
        self.mute = Some((socket, self.second));
        let flood = Order::Flood {
            phone: session.0,
            frames: 120,
            pad: 80_000,
        };
        self.town.daemons[0].peer()?.tell(flood).await
    }

    async fn finish(mut self) -> Result<String> {
        while let Some(over) = self.households.join_next().await {
            over??;
        }
        drop((self.half, self.mute));
        self.stage.finish(self.town).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_is_found_through_noise() {
        let noise = |n: f64| if n % 2.0 == 0.0 { 1.0 } else { -1.0 };
        let line = |slope: f64| {
            (0..60)
                .map(f64::from)
                .map(move |n| (n, slope * n + noise(n)))
        };
        let flat: Vec<_> = line(0.0).collect();
        let rising: Vec<_> = line(0.5).collect();
        assert!(rise(&flat).abs() < 0.3, "{}", rise(&flat));
        assert!((rise(&rising) - 29.5).abs() < 0.3, "{}", rise(&rising));
        assert_eq!(rise(&[]), 0.0);
        assert_eq!(rise(&[(1.0, 1.0)]), 0.0);
    }
}
