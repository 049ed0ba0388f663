//! Holds registered sessions over streams in memory, in a process of its own.

use std::io::{self, Write as _, stdout};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pyrycode_relay::config::Config;
use pyrycode_relay::memory::Registry;
use pyrycode_relay::observe::log::LogSettings;
use pyrycode_relay::session::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

use crate::dial::{Ids, Leg};
use crate::machine::resident_bytes;

/// Pings each session must have sent.
const PINGS: u8 = 2;

/// For all of them to be sent.
const PATIENCE: Duration = Duration::from_secs(240);

/// Streams over which enough pings came.
static PINGED: AtomicUsize = AtomicUsize::new(0);

/// Holds `few`, then `many` sessions; when each was pinged and answered twice, prints the count and the
/// resident bytes.
pub(crate) fn run(few: usize, many: usize, ping_ms: u64) -> io::Result<()> {
    // As the program's own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(hold([few, many], ping_ms))
}

async fn hold(counts: [usize; 2], ping_ms: u64) -> io::Result<()> {
    let mut config = Config {
        log: LogSettings::silent(),
        ..Config::default()
    };
    config.session.ping_interval_ms = ping_ms;
    let registry = Registry::new(config);
    let mut held = 0;
    for count in counts {
        while held < count {
            let (leg, id) = Ids::member(held);
            let server = format!("home-{id}");
            match leg {
                Leg::Binary => registry.binary(&server, Loop::default()),
                Leg::Phone => registry.phone(&server, Loop::default()),
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
        let resident = resident_bytes(std::process::id())?;
        writeln!(stdout(), "{count} {resident}")?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn the_far_end_answers_pings_with_their_payload() {
        let mut stream = Loop::default();
        for payload in ["7", "12345678"] {
            let ping = [&[0x89, payload.len() as u8], payload.as_bytes()].concat();
            stream.write_all(&ping).await.expect("memory");
            let mut pong = vec![0; 6 + payload.len()];
            stream.read_exact(&mut pong).await.expect("memory");
            assert_eq!(pong[..2], [0x8a, 0x80 | payload.len() as u8]);
            assert_eq!(&pong[6..], payload.as_bytes());
        }
        assert_eq!(stream.pings, 2);
    }
}
