//! What is shown, act by act.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use relay_client::{App, Endpoint, Options, Received, Socket};
use relay_proto::headers;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::daemon::{Daemon, News};
use super::noise;
use super::phone::{Ended, Phone};
use super::stage::{Stage, Who};
use super::{PROBE_MS, SERVER_ID};
use crate::probe::RoundTrips;

const FIRST: Who = Who::Daemon("daemon");
const RIVAL: Who = Who::Daemon("rival");
const SECOND: Who = Who::Daemon("daemon 2");
const THIRD: Who = Who::Daemon("daemon 3");
const ECHOES: usize = 100;

/// Performs everything. `Err`: it could not go on, and why.
pub(super) async fn perform(
    stage: &Stage,
    addr: SocketAddr,
    pause: Duration,
) -> Result<(), String> {
    let url = format!("ws://{addr}");
    let keys = noise::keys().map_err(|error| error.to_string())?;
    let mut daemon = claim(stage, FIRST, &url, &keys.private).await?;
    let mut one = Phone::start("phone 1", App::Mobile, &url, &keys.public)?;
    let mut two = Phone::start("phone 2", App::Desktop, &url, &keys.public)?;
    for phone in [&mut one, &mut two] {
        phone.hello(stage).await?;
        phone.answered(stage).await?;
    }
    sleep(pause).await;

    both_ways(stage, &mut daemon, &mut one).await?;
    let mut times = RoundTrips::default();
    echoes(&mut [&mut one, &mut two], &mut times).await?;
    sleep(pause).await;

    rival(stage, &url, &mut one).await?;
    sleep(pause).await;

    stage.act("The daemon crashes, and comes back while the relay keeps its place");
    drop(daemon);
    stage.line(FIRST, "killed: its connection ends without a close frame");
    until_released(addr).await?;
    stage.line(
        Who::Relay,
        "keeps the server-id for it for 30 s; phones 1 and 2 stay connected",
    );
    let mut three = Phone::start("phone 3", App::Mobile, &url, &keys.public)?;
    three.hello(stage).await?;
    let waited = Instant::now();
    let parked = three.undisturbed(Duration::from_millis(700)).await;
    stage.check(
        "phone 3 arrives while no daemon is there, and is parked, not turned away",
        parked,
    );

    let daemon = claim(stage, SECOND, &url, &keys.private).await?;
    three.answered(stage).await?;
    let waited = waited.elapsed().as_millis();
    let carried = expect(three.connections == 1, || {
        "it had to connect again".to_owned()
    });
    let claim_text = format!(
        "phone 3 is carried over on the same connection: its noise_init waited {waited} ms"
    );
    stage.check(&claim_text, carried);
    for phone in [&mut one, &mut two] {
        let ended = phone.ended(stage).await?;
        let name = phone.who.name();
        let claim = format!("{name} is evicted: its session died with the crashed daemon");
        stage.check(&claim, is(&ended, 4404, "binary reclaimed server-id"));
    }
    let (first, second) = tokio::join!(one.back(stage), two.back(stage));
    first.and(second)?;
    echoes(&mut [&mut one, &mut two, &mut three], &mut times).await?;
    stage.check(
        "all three phones are answered again, without anybody's help",
        Ok(()),
    );
    sleep(pause).await;

    let phones = [&mut one, &mut two, &mut three];
    takeover(stage, &url, &keys.private, daemon, phones, &mut times).await?;

    stage.act("Summary");
    let [p50, p90, p99, max] = times.percentiles_ms([50.0, 90.0, 99.0, 100.0]);
    stage.print(&format!(
        "{} encrypted round trips phone, relay, daemon and back: \
         p50 {p50:.2} ms, p90 {p90:.2} ms, p99 {p99:.2} ms, max {max:.2} ms",
        times.count()
    ));
    Ok(())
}

/// Starts a daemon and waits for its 101.
async fn claim(stage: &Stage, who: Who, url: &str, private: &[u8]) -> Result<Daemon, String> {
    let mut daemon = Daemon::start(url, private).map_err(|error| error.to_string())?;
    match news(&mut daemon).await? {
        News::Connected => stage.line(who, &format!("claims the server-id {SERVER_ID:?}: 101")),
        other => return Err(format!("{other:?}")),
    }
    Ok(daemon)
}

/// One word each way, and how it looks to the relay.
async fn both_ways(stage: &Stage, daemon: &mut Daemon, phone: &mut Phone) -> Result<(), String> {
    stage.act("Frames both ways, opaque to the relay");
    const WORD: &str = "open the pod bay doors";
    phone.say(WORD).await?;
    stage.line(phone.who, &format!("says {WORD:?}"));
    let (conn_id, frame) = loop {
        if let News::Heard {
            conn_id,
            frame,
            text,
        } = news(daemon).await?
        {
            let same = expect(text == WORD, || format!("it heard {text:?}"));
            stage.line(FIRST, &format!("hears {text:?} from {conn_id}"));
            stage.check("the daemon reads what the phone said", same);
            break (conn_id, frame);
        }
    };
    let seen = format!(
        r#"{{"conn_id":"{conn_id}","frame":{}}}"#,
        String::from_utf8_lossy(&frame)
    );
    stage.line(Who::Relay, "saw no more of it than this:");
    stage.aside(&seen);
    let opaque = expect(!seen.contains(WORD), || "it can read along".to_owned());
    stage.check("the words are not in it", opaque);

    let echo = phone.hear().await?;
    stage.line(phone.who, &format!("hears {echo:?}"));
    daemon.say(&conn_id, "I'm sorry, Dave");
    let unasked = phone.hear().await?;
    stage.line(phone.who, &format!("hears {unasked:?}, unasked"));
    let heard = echo == format!("echo: {WORD}") && unasked == "I'm sorry, Dave";
    stage.check(
        "the phone reads what the daemon said",
        expect(heard, || "other words".to_owned()),
    );
    Ok(())
}

/// A second daemon for the same server-id, while the first one is well.
async fn rival(stage: &Stage, url: &str, phone: &mut Phone) -> Result<(), String> {
    stage.act("A second daemon wants the same server-id");
    let endpoint = Endpoint::parse(url).map_err(|error| error.to_string())?;
    let own = [
        (headers::SERVER, SERVER_ID),
        (headers::VERSION, "rival"),
        (headers::USER_AGENT, "pyry/rival"),
    ];
    let options = Options::default();
    let dialled = Socket::connect(&endpoint.or_path("/v1/server"), &own, &options).await;
    let mut socket = dialled.map_err(|error| error.to_string())?;
    let since = Instant::now();
    stage.line(
        RIVAL,
        "101, and the relay asks the holder for a sign of life",
    );
    let received = timeout(Duration::from_secs(5), socket.recv()).await;
    let after = since.elapsed().as_secs_f64() * 1e3;
    let refused = match received {
        Ok(Ok(Received::Close { code, reason })) => {
            let shown = code.unwrap_or_default();
            stage.line(
                RIVAL,
                &format!("closed {shown} {reason:?} after {after:.1} ms"),
            );
            is(&(code, reason), 4409, "server-id already claimed")
        }
        other => Err(format!("{other:?}")),
    };
    socket.close(1000, "").await;
    stage.check(
        "the second daemon is refused with 4409: the first one is alive",
        refused,
    );
    phone.say("still there?").await?;
    let answer = phone.hear().await?;
    let same = expect(answer == "echo: still there?", || format!("{answer:?}"));
    stage.check("the first daemon serves its phones as before", same);
    Ok(())
}

/// The daemon is stuck: its connection is open, and nothing comes from it. Another one takes its place.
async fn takeover(
    stage: &Stage,
    url: &str,
    private: &[u8],
    mut stuck: Daemon,
    mut phones: [&mut Phone; 3],
    times: &mut RoundTrips,
) -> Result<(), String> {
    stage.act("The daemon gets stuck, and its replacement takes over");
    let release = stuck.hang();
    stage.line(
        SECOND,
        "stands still: it reads nothing and answers nothing, not even pings",
    );
    let since = Instant::now();
    let _daemon = claim(stage, THIRD, url, private).await?;
    stage.line(
        Who::Relay,
        &format!("pings the holder and waits {PROBE_MS} ms for its pong"),
    );
    stage.aside("(shortened for this demo; the default is 10 s)");
    for phone in &mut phones {
        let ended = phone.ended(stage).await?;
        let claim = format!("{} is told that its daemon is gone", phone.who.name());
        stage.check(&claim, is(&ended, 4404, "binary reclaimed server-id"));
    }
    let after = since.elapsed();
    let waited = expect(after >= Duration::from_millis(PROBE_MS - 50), || {
        format!("after {after:?}")
    });
    stage.check("not before the holder had its time to answer", waited);
    drop(release);
    loop {
        if let News::Disconnected { code, reason } = news(&mut stuck).await? {
            let shown = code.map_or("without a code".to_owned(), |code| code.to_string());
            stage.line(
                SECOND,
                &format!("wakes up, and finds itself closed {shown} {reason:?}"),
            );
            stage.check(
                "the stuck daemon is told, too",
                is(&(code, reason), 1011, "heartbeat timeout"),
            );
            break;
        }
    }
    drop(stuck);
    let [one, two, three] = &mut phones;
    let (first, second, third) = tokio::join!(one.back(stage), two.back(stage), three.back(stage));
    first.and(second).and(third)?;
    echoes(&mut phones, times).await?;
    let seconds = since.elapsed().as_secs_f64();
    let claim =
        format!("all three phones are answered by the new daemon, {seconds:.1} s after its claim");
    stage.check(&claim, Ok(()));
    Ok(())
}

/// Round trips of every phone in turn, each checked.
async fn echoes(phones: &mut [&mut Phone], times: &mut RoundTrips) -> Result<(), String> {
    for phone in phones {
        for n in 0..ECHOES {
            let since = Instant::now();
            phone.say(&n.to_string()).await?;
            let answer = phone.hear().await?;
            times.push(since.elapsed());
            if answer != format!("echo: {n}") {
                return Err(format!("{answer:?} is not the echo of {n}"));
            }
        }
    }
    Ok(())
}

/// Waits until the relay has noticed that the daemon is gone.
async fn until_released(addr: SocketAddr) -> Result<(), String> {
    const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n";
    for _ in 0..200 {
        let mut answer = String::new();
        let ask = async {
            let mut stream = TcpStream::connect(addr).await?;
            stream.write_all(REQUEST).await?;
            stream.read_to_string(&mut answer).await
        };
        ask.await.map_err(|error| error.to_string())?;
        if answer.contains(r#""connected_binaries":0"#) {
            return Ok(());
        }
        sleep(Duration::from_millis(10)).await;
    }
    Err("the relay did not notice that the daemon is gone".to_owned())
}

async fn news(daemon: &mut Daemon) -> Result<News, String> {
    match timeout(Duration::from_secs(8), daemon.news()).await {
        Ok(Some(News::Failed(why))) => Err(format!("the daemon failed: {why}")),
        Ok(Some(news)) => Ok(news),
        Ok(None) => Err("the daemon ended".to_owned()),
        Err(_) => Err("the daemon had no news for 8 s".to_owned()),
    }
}

fn is(ended: &Ended, code: u16, reason: &str) -> Result<(), String> {
    expect(ended.0 == Some(code) && ended.1 == reason, || {
        format!("{ended:?}")
    })
}

fn expect(so: bool, instead: impl FnOnce() -> String) -> Result<(), String> {
    if so { Ok(()) } else { Err(instead()) }
}
