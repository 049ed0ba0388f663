//! How much memory a session needs: `memory FEW MANY [PING_MS]` holds FEW, then MANY registered sessions
//! over streams in memory, waits until each was pinged twice, and prints the count and the resident bytes.

use pyrycode_relay::config::Config;
use pyrycode_relay::memory::Registry;
use pyrycode_relay::observe::log::LogSettings;
use pyrycode_relay::session::Transport;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

/// Phones of each binary.
const PHONES: usize = 15;

/// Pings each session must have sent.
const PINGS: u8 = 2;

/// For all of them to be sent.
const PATIENCE: Duration = Duration::from_secs(240);

/// Streams over which enough pings came.
static PINGED: AtomicUsize = AtomicUsize::new(0);

#[tokio::main]
async fn main() -> io::Result<()> {
    let args: Vec<usize> = std::env::args()
        .skip(1)
        .flat_map(|arg| arg.parse())
        .collect();
    let [few, many, ref ping_ms @ ..] = args[..] else {
        return Err(io::Error::other("usage: memory FEW MANY [PING_MS]"));
    };
    let mut config = Config {
        log: LogSettings::silent(),
        ..Config::default()
    };
    config.session.ping_interval_ms = ping_ms.first().map_or(5_000, |ms| *ms as u64);
    let registry = Registry::new(config);
    let mut held = 0;
    for count in [few, many] {
        while held < count {
            let server = format!("home-{}", held / (PHONES + 1));
            match held % (PHONES + 1) {
                0 => registry.binary(&server, Loop::default()),
                _ => registry.phone(&server, Loop::default()),
            }
            held += 1;
            if held % 1024 == 0 {
                // The sessions' turn.
                tokio::task::yield_now().await;
            }
        }
        let since = Instant::now();
        while PINGED.load(Ordering::Relaxed) < count {
            if since.elapsed() > PATIENCE {
                return Err(io::Error::other("the pings did not come"));
            }
            sleep(Duration::from_millis(20)).await;
        }
        let (binaries, phones) = registry.counts();
        if binaries + phones != count {
            return Err(io::Error::other("not all of them are registered"));
        }
        println!("{count} {}", resident_bytes()?);
    }
    Ok(())
}

fn resident_bytes() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.ok_or_else(|| io::Error::other("no VmRSS"))? * 1024)
}

/// A stream whose far end answers each ping with its pong, and says nothing else.
#[derive(Default)]
struct Loop {
    /// The pong to be read, and its length.
    pong: [u8; 22],
    pong_bytes: u8,
    pings: u8,
    reader: Option<Waker>,
}

impl Transport for Loop {}

impl AsyncRead for Loop {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = usize::from(self.pong_bytes);
        if bytes == 0 {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        buffer.put_slice(&self.pong[..bytes]);
        self.pong_bytes = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Loop {
    /// The session writes a ping at once, and nothing else, as nobody sends anything.
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        const PING: u8 = 0x89;
        if let [PING, length, payload @ ..] = bytes
            && payload.len() == usize::from(*length)
            && payload.len() <= self.pong.len() - 6
        {
            // Masked with zeros: the payload as it is.
            self.pong[..6].copy_from_slice(&[0x8a, 0x80 | length, 0, 0, 0, 0]);
            self.pong[6..6 + payload.len()].copy_from_slice(payload);
            self.pong_bytes = 6 + length;
            self.pings = self.pings.saturating_add(1);
            if self.pings == PINGS {
                PINGED.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
