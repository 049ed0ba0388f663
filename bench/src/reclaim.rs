//! All daemons of a relay crash at once and come back: how long until each phone is answered again.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relay_client::testing::{Peer, Script, Seen};
use relay_client::{Endpoint, Options, Received, Socket};
use relay_proto::envelope::{self, Directive};
use relay_proto::headers;
use tokio::net::TcpStream;
use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;

use crate::frames::start_floor_to;
use crate::machine::start_relay;

/// How many daemons, and how many phones each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    pub(crate) servers: usize,
    pub(crate) phones: usize,
}

/// Milliseconds from the crash until each phone got an answer from the daemon that returned, sorted.
///
/// Daemons and phones dial at once, without the waits of the real apps: what is measured is the relay.
pub(crate) fn run(relay: &Path, crowd: Crowd) -> io::Result<Vec<f64>> {
    let server = start_relay(relay)?;
    let url = format!("ws://{}", server.addr);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut times = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), storm(url, crowd)).await
    })??;
    times.sort_unstable_by(f64::total_cmp);
    Ok(times)
}

/// Milliseconds until as many phones, dialling at once through the floor, are answered by a process of
/// ours: what the machine needs for a storm without anything to reclaim.
pub(crate) fn floor(crowd: Crowd) -> io::Result<Vec<f64>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let back = Script::start().await?;
        let to = back.url();
        let to = to
            .trim_start_matches("ws://")
            .parse()
            .map_err(io::Error::other)?;
        let server = start_floor_to(to)?;
        let url = format!("ws://{}", server.addr);
        tokio::spawn(async move {
            while let Ok(stream) = back.accept_tcp().await {
                tokio::spawn(echo(stream));
            }
        });
        let since = Instant::now();
        let mut phones = JoinSet::new();
        for _ in 0..crowd.servers * crowd.phones {
            let url = url.clone();
            phones.spawn(async move {
                let mut socket = dial(&url, "/v1/client", "floor").await?;
                match echoed(&mut socket).await {
                    true => Ok(since.elapsed().as_secs_f64() * 1e3),
                    false => Err(io::Error::other("no echo through the floor")),
                }
            });
        }
        let mut times = Vec::new();
        while let Some(time) = phones.join_next().await {
            times.push(time.map_err(io::Error::other)??);
        }
        times.sort_unstable_by(f64::total_cmp);
        Ok(times)
    })
}

/// The far side of the floor.
async fn echo(stream: TcpStream) {
    // The first connection only saw whether the floor listens.
    let Ok(mut peer) = Peer::upgrade(stream).await else {
        return;
    };
    while let Some(Seen::Message(word)) = peer.recv().await {
        if peer.send(&word).await.is_err() {
            break;
        }
    }
}

async fn storm(url: String, crowd: Crowd) -> io::Result<Vec<f64>> {
    let url: Arc<str> = url.into();
    // Everybody is ready; then the crash.
    let ready = Arc::new(Barrier::new(crowd.servers * crowd.phones + 1));
    let (crash, crashed) = watch::channel(None::<Instant>);
    let mut daemons = JoinSet::new();
    let mut phones = JoinSet::new();
    for n in 0..crowd.servers {
        let id: Arc<str> = format!("reclaim-{n}").into();
        let first = dial(&url, "/v1/server", &id).await?;
        daemons.spawn(daemon(
            Arc::clone(&url),
            Arc::clone(&id),
            first,
            crashed.clone(),
        ));
        for _ in 0..crowd.phones {
            let (url, id) = (Arc::clone(&url), Arc::clone(&id));
            phones.spawn(phone(url, id, Arc::clone(&ready), crashed.clone()));
        }
    }
    tokio::select! {
        _ = ready.wait() => {}
        Some(failed) = phones.join_next() => return Err(early(failed)),
        Some(failed) = daemons.join_next() => return Err(early(failed)),
    }
    crash.send_replace(Some(Instant::now()));
    let mut times = Vec::new();
    while let Some(time) = phones.join_next().await {
        times.push(time.map_err(io::Error::other)??);
    }
    Ok(times)
}

/// The error of a task that ended too early.
fn early<T>(ended: Result<io::Result<T>, tokio::task::JoinError>) -> io::Error {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(_)) => io::Error::other("ended before the crash"),
        Err(error) => io::Error::other(error),
    }
}

/// Echoes; crashes once.
async fn daemon(
    url: Arc<str>,
    id: Arc<str>,
    first: Socket,
    mut crashed: watch::Receiver<Option<Instant>>,
) -> io::Result<()> {
    let mut socket = first;
    let mut well = true;
    loop {
        let received = tokio::select! {
            _ = crashed.changed(), if well => {
                well = false;
                // Ends the connection without a close frame.
                drop(socket);
                socket = dial(&url, "/v1/server", &id).await?;
                continue;
            }
            received = socket.recv() => received.map_err(io::Error::other)?,
        };
        if let Received::Text(message) = received
            && let Ok(Directive::Frame { conn_id, frame }) = envelope::parse(&message)
        {
            let answer = [&envelope::prefix(&conn_id), frame, envelope::SUFFIX].concat();
            socket.send_text(&answer).await.map_err(io::Error::other)?;
        }
    }
}

/// Is answered, loses its connection by the crash, dials until it is answered again.
async fn phone(
    url: Arc<str>,
    id: Arc<str>,
    ready: Arc<Barrier>,
    mut crashed: watch::Receiver<Option<Instant>>,
) -> io::Result<f64> {
    let mut socket = dial(&url, "/v1/client", &id).await?;
    if !echoed(&mut socket).await {
        return Err(io::Error::other("no echo before the crash"));
    }
    ready.wait().await;
    let crash = *crashed
        .wait_for(Option::is_some)
        .await
        .map_err(io::Error::other)?;
    let crash = crash.unwrap_or_else(Instant::now);
    // The old connection ends with 4404 as soon as the daemon is back.
    while !matches!(socket.recv().await, Ok(Received::Close { .. }) | Err(_)) {}
    loop {
        // The answer to a Close goes out on the side; nobody waits for its end.
        let old = socket;
        tokio::spawn(async move { old.close(1000, "").await });
        socket = dial(&url, "/v1/client", &id).await?;
        if echoed(&mut socket).await {
            return Ok(crash.elapsed().as_secs_f64() * 1e3);
        }
    }
}

/// Whether a frame comes back on this connection.
async fn echoed(socket: &mut Socket) -> bool {
    const WORD: &[u8] = br#"{"v":2,"type":"noise_init","data":"AAAA"}"#;
    let sent = socket.send_text(WORD).await;
    sent.is_ok() && matches!(socket.recv().await, Ok(Received::Text(echo)) if echo == WORD)
}

async fn dial(url: &str, path: &str, id: &str) -> io::Result<Socket> {
    let endpoint = Endpoint::parse(url)
        .map_err(io::Error::other)?
        .with_path(path);
    let all = [
        (headers::SERVER, id),
        (headers::VERSION, "bench"),
        (headers::TOKEN, "bench"),
        (headers::USER_AGENT, "relay-bench"),
    ];
    Socket::connect(&endpoint, &all, &Options::default())
        .await
        .map_err(|error| io::Error::other(format!("{id} at {path}: {error}")))
}
