//! TCP to a name with several addresses, of which some may lead nowhere (RFC 8305 §5).

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;

/// How long an attempt may go on before the next address gets one beside it; RFC 8305 recommends this.
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to whichever address answers first. The error is that of the attempt that failed last.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addrs = interleaved(lookup_host((host, port)).await?);
    first(addrs, TcpStream::connect).await
}

/// The families take turns, beginning with that of the resolver's first address; within each its order stays.
fn interleaved(addrs: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addrs = addrs.peekable();
    let v6_first = addrs.peek().is_some_and(SocketAddr::is_ipv6);
    let (these, those): (Vec<_>, Vec<_>) = addrs.partition(|addr| addr.is_ipv6() == v6_first);
    let (mut these, mut those) = (these.into_iter(), those.into_iter());
    let mut order = Vec::new();
    loop {
        match (these.next(), those.next()) {
            (None, None) => return order,
            (this, that) => order.extend(this.into_iter().chain(that)),
        }
    }
}

/// Starts an attempt for each address in turn: when the one before has failed, or gone on for [`STAGGER`]. Those that did
/// not win are dropped.
async fn first<T, F>(addrs: Vec<SocketAddr>, connect: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = addrs.into_iter();
    let mut attempts = Vec::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        attempts.extend(waiting.next().map(|addr| Box::pin(connect(addr))));
        if attempts.is_empty() {
            return Err(failed);
        }
        tokio::select! {
            biased;
            ended = any(&mut attempts) => match ended {
                Ok(connected) => return Ok(connected),
                Err(error) => failed = error,
            },
            () = sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

/// What the first attempt to end has come to; it is taken out.
async fn any<F: Future + Unpin>(attempts: &mut Vec<F>) -> F::Output {
    poll_fn(|cx| {
        for at in 0..attempts.len() {
            if let Poll::Ready(ended) = Pin::new(&mut attempts[at]).poll(cx) {
                attempts.remove(at);
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::{Instant, timeout};

    use super::*;

    /// Far more than any race here takes.
    const FOR_EVER: Duration = Duration::from_secs(600);

    fn addrs<const N: usize>(texts: [&str; N]) -> Vec<SocketAddr> {
        texts.map(|text| text.parse().unwrap()).into()
    }

    /// What becomes of an attempt.
    #[derive(Clone, Copy)]
    enum Fate {
        Hangs,
        Connects(u64),
        Fails(u64),
    }
    use Fate::{Connects, Fails, Hangs};

    /// Races addresses of these fates, with waits in milliseconds: the place of the winner or of the failure told, and
    /// when it was. Checks that no attempt outlives the race.
    async fn race(fates: &[Fate]) -> (Result<u16, u16>, u128) {
        let addrs = (0..fates.len() as u16).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let (alive, started) = (Arc::new(()), Instant::now());
        let attempt = |addr: SocketAddr| {
            let (fate, alive) = (fates[usize::from(addr.port())], Arc::clone(&alive));
            async move {
                let _alive = alive;
                match fate {
                    Hangs => std::future::pending().await,
                    Connects(after) => sleep(Duration::from_millis(after)).await,
                    Fails(after) => {
                        sleep(Duration::from_millis(after)).await;
                        return Err(io::Error::other(addr.port().to_string()));
                    }
                }
                Ok(addr.port())
            }
        };
        let ended = timeout(FOR_EVER, first(addrs.collect(), attempt)).await;
        let ended = ended.expect("it ends");
        assert_eq!(Arc::strong_count(&alive), 1);
        let ended = ended.map_err(|error| error.to_string().parse().unwrap());
        (ended, started.elapsed().as_millis())
    }

    #[test]
    fn the_families_take_turns() {
        for (resolved, order) in [
            (
                addrs(["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]),
                addrs(["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]),
            ),
            (
                addrs(["1.1.1.1:1", "[::1]:1", "[::2]:1"]),
                addrs(["1.1.1.1:1", "[::1]:1", "[::2]:1"]),
            ),
            (
                addrs(["1.1.1.1:1", "2.2.2.2:1"]),
                addrs(["1.1.1.1:1", "2.2.2.2:1"]),
            ),
        ] {
            assert_eq!(interleaved(resolved.into_iter()), order);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_address_costs_a_quarter_of_a_second() {
        assert_eq!(race(&[Hangs, Connects(20)]).await, (Ok(1), 270));
        let dead = [Hangs, Hangs, Hangs, Connects(0)];
        assert_eq!(race(&dead).await, (Ok(3), 750));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_fails_makes_room_for_the_next_at_once() {
        assert_eq!(race(&[Fails(10), Connects(0)]).await, (Ok(1), 10));
        let late = [Hangs, Fails(100), Connects(0)];
        assert_eq!(race(&late).await, (Ok(2), 350));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_attempt_may_still_win() {
        assert_eq!(race(&[Connects(300), Hangs]).await, (Ok(0), 300));
    }

    #[tokio::test(start_paused = true)]
    async fn where_none_connects_the_last_error_is_told() {
        assert_eq!(race(&[Fails(500), Fails(100)]).await, (Err(0), 500));
        let none = first(vec![], |_| std::future::ready(Ok(()))).await;
        assert_eq!(none.unwrap_err().to_string(), "the name has no address");
    }
}
