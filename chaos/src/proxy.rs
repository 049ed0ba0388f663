//! The way from one peer to the relay, and what can happen to it: a TCP proxy whose faults are switched at run time.
//!
//! Every peer has a proxy of its own, so a fault has an address. What the proxy takes from a socket its kernel has
//! acknowledged: to the relay a black hole here looks like a peer that is stopped, not like a cable that is cut (that is
//! what [`relay_tests::Namespace`] is for).

use crate::vandal::{Vandal, Vandalism};
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Taken from a socket at once. Four of these wait between the two sockets at most.
const CHUNK: usize = 16 * 1024;

/// Much longer than an answer of a peer that has nothing else to do.
const SILENCE: Duration = Duration::from_millis(200);

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the peer to the relay.
    Up,
    /// From the relay to the peer.
    Down,
}

/// How bytes go in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Flow {
    /// As they come.
    #[default]
    Open,
    /// Each so much later.
    Delayed(Duration),
    /// So many in a second.
    Throttled(u64),
    /// Not at all: nothing is taken, and in the end the sender can't write. A stall that ends loses nothing.
    Stalled,
    /// They are taken and dropped, ends too. What comes later is of no use to a peer, so this has no way back.
    Hole,
}

/// An end that is done to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    No,
    /// RST to both.
    Reset,
    /// FIN in this direction, while the other goes on.
    Half(Way),
}

/// One connection.
struct Line {
    flows: [watch::Sender<Flow>; 2],
    end: watch::Sender<End>,
}

#[derive(Default)]
struct State {
    later: [Flow; 2],
    lines: Vec<Line>,
    /// Bytes that came from either side, ever.
    carried: watch::Sender<u64>,
}

/// The way of one peer. It ends, with its connections, when it is dropped.
pub(crate) struct Proxy {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.reset();
    }
}

impl Proxy {
    /// A way to `relay`, on which `vandalism` is done to each connection.
    pub(crate) async fn open(relay: SocketAddr, vandalism: Option<Vandalism>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let state = Arc::<Mutex<State>>::default();
        let lines = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((peer, _)) = listener.accept().await {
                tokio::spawn(carry(peer, relay, lines.clone(), vandalism));
            }
        });
        Ok(Self { addr, state, task })
    }

    /// Where the peer dials.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.addr)
    }

    /// From now on, for the connections there are.
    pub(crate) fn now(&self, way: Way, flow: Flow) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for line in &state.lines {
            line.flows[way as usize].send_if_modified(|before| {
                let stays = *before == Flow::Hole || *before == flow;
                *before = if stays { *before } else { flow };
                !stays
            });
        }
    }

    /// For all connections, also those to come.
    pub(crate) fn always(&self, way: Way, flow: Flow) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.later[way as usize] = flow;
        drop(state);
        self.now(way, flow);
    }

    /// Waits until nothing has come from either side for a while.
    pub(crate) async fn silence(&self) {
        let mut carried = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.carried.subscribe()
        };
        while let Ok(Ok(())) = timeout(SILENCE, carried.changed()).await {}
    }

    /// RST to both ends of every connection.
    pub(crate) fn reset(&self) {
        self.end(End::Reset);
    }

    /// FIN in one direction of every connection; the other goes on.
    pub(crate) fn half_close(&self, way: Way) {
        self.end(End::Half(way));
    }

    fn end(&self, end: End) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lines.retain(|line| line.end.receiver_count() > 0);
        for line in &state.lines {
            line.end.send_replace(end);
        }
    }
}

/// One connection, to its end.
async fn carry(
    mut peer: TcpStream,
    relay: SocketAddr,
    state: Arc<Mutex<State>>,
    vandalism: Option<Vandalism>,
) {
    let Ok(mut relay) = TcpStream::connect(relay).await else {
        // The peer sees what it would have seen: nobody is there.
        return cut(&peer);
    };
    // Small frames must not wait for more of them.
    drop((peer.set_nodelay(true), relay.set_nodelay(true)));
    let (up_flow, down_flow, mut end, carried) = enter(&state);
    drop(state);
    let ended = {
        let (from_peer, to_peer) = peer.split();
        let (from_relay, to_relay) = relay.split();
        let vandal = vandalism.map(Vandal::new);
        let up = pump(
            Way::Up,
            from_peer,
            to_relay,
            up_flow,
            end.clone(),
            None,
            carried.clone(),
        );
        let down = pump(
            Way::Down,
            from_relay,
            to_peer,
            down_flow,
            end.clone(),
            vandal,
            carried,
        );
        tokio::select! {
            ended = async { tokio::try_join!(up, down) } => ended.is_ok(),
            _ = end.wait_for(|end| *end == End::Reset) => false,
        }
    };
    if !ended {
        cut(&peer);
        cut(&relay);
    }
}

/// The socket's end will be a RST.
fn cut(socket: &TcpStream) {
    // A socket that is gone needs none.
    drop(SockRef::from(socket).set_linger(Some(Duration::ZERO)));
}

/// A new connection gets the flows of its time.
fn enter(
    state: &Mutex<State>,
) -> (
    watch::Receiver<Flow>,
    watch::Receiver<Flow>,
    watch::Receiver<End>,
    watch::Sender<u64>,
) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.lines.retain(|line| line.end.receiver_count() > 0);
    let (up, up_flow) = watch::channel(state.later[Way::Up as usize]);
    let (down, down_flow) = watch::channel(state.later[Way::Down as usize]);
    let (end, ends) = watch::channel(End::No);
    state.lines.push(Line {
        flows: [up, down],
        end,
    });
    (up_flow, down_flow, ends, state.carried.clone())
}

/// One direction, to its FIN. An error is a reset.
async fn pump(
    way: Way,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut flow: watch::Receiver<Flow>,
    mut end: watch::Receiver<End>,
    mut vandal: Option<Vandal>,
    carried: watch::Sender<u64>,
) -> io::Result<()> {
    let at_end = flow.clone();
    let (queue, mut waiting) = mpsc::channel::<(Instant, Vec<u8>)>(4);
    let read = async move {
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = from.read(&mut buffer).await?;
            carried.send_modify(|bytes| *bytes += n as u64);
            let chunk = (Instant::now(), buffer[..n].to_vec());
            if n == 0 || queue.send(chunk).await.is_err() {
                return io::Result::Ok(());
            }
        }
    };
    let write = async move {
        let mut half = false;
        while !half {
            let item = tokio::select! {
                item = waiting.recv() => item,
                _ = end.wait_for(|end| *end == End::Half(way)) => None,
            };
            let Some((came, bytes)) = item else { break };
            let bytes = match &mut vandal {
                Some(vandal) => vandal.pass(bytes),
                None => bytes,
            };
            match unstalled(&mut flow).await {
                Flow::Hole => continue,
                Flow::Delayed(by) => sleep_until(came + by).await,
                Flow::Throttled(rate) => {
                    let nanos = bytes.len() as u64 * 1_000_000_000 / rate.max(1);
                    sleep(Duration::from_nanos(nanos)).await;
                }
                Flow::Open | Flow::Stalled => {}
            }
            to.write_all(&bytes).await?;
            half = *end.borrow() == End::Half(way);
        }
        if unstalled(&mut flow).await == Flow::Hole {
            return std::future::pending().await;
        }
        to.shutdown().await?;
        // What comes after a half close is nobody's any more.
        while waiting.recv().await.is_some() {}
        Ok(())
    };
    match tokio::try_join!(read, write) {
        Err(_) if *at_end.borrow() == Flow::Hole => std::future::pending().await,
        ended => ended.map(drop),
    }
}

/// The flow, once it is not stalled.
async fn unstalled(flow: &mut watch::Receiver<Flow>) -> Flow {
    match flow.wait_for(|flow| *flow != Flow::Stalled).await {
        Ok(flow) => *flow,
        // The proxy is gone, and so will this be.
        Err(_) => Flow::Open,
    }
}
