//! A relay in the same process, for tests and examples of what is built on the links.
//!
//! [`Router`] is a small but working relay. [`Script`] gives a test the relay's side of each connection, to
//! do with as it likes. Neither is meant for anything but tests: there are no limits, no grace, no
//! heartbeat.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use relay_proto::envelope::{self, Directive};
use relay_proto::handshake::accept_key;
use relay_proto::ws::{self, Control, Decoder, Event, Limits, Role, Utf8};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::endpoint::SERVER_PATH;

/// Listens on a free loopback port and leaves everything else to the test.
#[derive(Debug)]
pub struct Script {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Script {
    /// Starts listening.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn start() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        // Room for a storm: a dial that finds the queue full is tried again only a second later.
        let listener = socket.listen(1024)?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr })
    }

    /// The URL to give to a link.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}", self.addr)
    }

    /// Takes the next connection and upgrades it, whatever its path and headers.
    ///
    /// # Errors
    /// When the peer sends no upgrade request.
    pub async fn accept(&self) -> io::Result<Peer> {
        Peer::upgrade(self.accept_tcp().await?).await
    }

    /// Takes the next connection as it is, to be [upgraded](Peer::upgrade) while others are taken.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn accept_tcp(&self) -> io::Result<TcpStream> {
        Ok(self.listener.accept().await?.0)
    }

    /// Takes the next connection, reads its request, and answers with `response` as it is.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn refuse(&self, response: &str) -> io::Result<()> {
        let (mut stream, _) = self.listener.accept().await?;
        read_head(&mut stream).await?;
        stream.write_all(response.as_bytes()).await
    }
}

/// What a [`Peer`] sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A message, text or binary.
    Message(Vec<u8>),
    /// A ping; not answered unless the test does.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close frame's code; not answered unless the test does.
    Close(Option<u16>),
}

/// The relay's side of one connection.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    decoder: Decoder,
    input: Vec<u8>,
    taken: usize,
    /// The path it dialled.
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Peer {
    /// Reads the upgrade request and answers 101.
    ///
    /// # Errors
    /// When the peer sends no upgrade request.
    pub async fn upgrade(mut stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (head, input) = read_head(&mut stream).await?;
        let mut lines = head.split("\r\n");
        let path = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .unwrap_or_default();
        let split = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let mut peer = Self {
            path: path.to_owned(),
            headers: lines.filter_map(split).collect(),
            stream,
            decoder: Decoder::new(
                Role::Server,
                Limits {
                    message_bytes: 1 << 20,
                    utf8: Utf8::Every,
                },
            ),
            input,
            taken: 0,
        };
        let accept = accept_key(
            peer.header("sec-websocket-key")
                .unwrap_or_default()
                .as_bytes(),
        );
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        peer.send_raw(response.as_bytes()).await?;
        Ok(peer)
    }

    /// The first header of this name (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// What comes next; `None` when the connection is over, in whatever way. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Seen> {
        loop {
            if self.taken < self.input.len() {
                let mut rest = &mut self.input[self.taken..];
                let before = rest.len();
                let event = self.decoder.decode(&mut rest).ok()?;
                self.taken += before - rest.len();
                match event {
                    None => {}
                    Some(Event::Message { payload, .. }) => {
                        return Some(Seen::Message(payload.into_vec()));
                    }
                    Some(Event::Ping(payload)) => return Some(Seen::Ping(payload.to_vec())),
                    Some(Event::Pong(payload)) => return Some(Seen::Pong(payload.to_vec())),
                    Some(Event::Close(frame)) => return Some(Seen::Close(frame.map(|f| f.code))),
                }
            }
            self.input.clear();
            self.taken = 0;
            if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn send(&mut self, text: &[u8]) -> io::Result<()> {
        self.send_raw(&[&ws::text_header(text.len()), text].concat())
            .await
    }

    /// Sends a control frame.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn send_control(&mut self, control: Control, payload: &[u8]) -> io::Result<()> {
        self.send_raw(&ws::control_frame(control, payload)).await
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends Close, waits for the answer, and ends the connection. Returns the answer's code.
    ///
    /// As a relay does that was told to: with 1005 the Close carries nothing, and with a code that none may carry there is
    /// no Close, only the end.
    pub async fn close(mut self, code: u16, reason: &str) -> Option<u16> {
        let close = ws::close_frame(code, reason)?;
        self.send_raw(&close).await.ok()?;
        loop {
            if let Seen::Close(code) = self.recv().await? {
                return code;
            }
        }
    }
}

/// Reads an HTTP head; returns it with the bytes that followed.
async fn read_head(stream: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A working relay for one process: daemons, phones, frames, close directives and close notices.
///
/// A phone without a daemon is closed with 4404, a second daemon of one server-id with 4409. Ends when
/// dropped, and with it all its connections, without a close frame.
#[derive(Debug)]
pub struct Router {
    url: String,
    task: JoinHandle<()>,
}

impl Router {
    /// Starts it on a free loopback port.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn start() -> io::Result<Self> {
        let script = Script::start().await?;
        let url = script.url();
        let task = tokio::spawn(async move {
            let slots = Slots::default();
            // Owned by this task, so that the connections end with it.
            let mut served = JoinSet::new();
            let mut phones = 0_u32;
            while let Ok(stream) = script.accept_tcp().await {
                while served.try_join_next().is_some() {}
                phones += 1;
                served.spawn(slots.clone().serve(stream, phones));
            }
        });
        Ok(Self { url, task })
    }

    /// The URL to give to a link.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a connection of the router is told to do.
enum Order {
    Send(Vec<u8>),
    Close(u16),
}

#[derive(Default)]
struct Slot {
    daemon: Option<mpsc::UnboundedSender<Order>>,
    phones: HashMap<String, mpsc::UnboundedSender<Order>>,
}

#[derive(Clone, Default)]
struct Slots(Arc<Mutex<HashMap<String, Slot>>>);

impl Slots {
    /// A panic in one connection's task leaves the map as it was; the others go on.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self, stream: TcpStream, number: u32) {
        let Ok(mut peer) = Peer::upgrade(stream).await else {
            return;
        };
        let id = peer
            .header("x-pyrycode-server")
            .unwrap_or_default()
            .to_owned();
        let (orders, mut inbox) = mpsc::unbounded_channel();
        let daemon = peer.path == SERVER_PATH;
        let conn_id = format!("client-{id}-{number:08x}");
        if let Err(code) = self.register(&id, &conn_id, daemon, orders) {
            peer.close(code, "").await;
            return;
        }
        let mut code = 1001;
        loop {
            let seen = tokio::select! {
                seen = peer.recv() => seen,
                order = inbox.recv() => match order {
                    Some(Order::Send(text)) => match peer.send(&text).await {
                        Ok(()) => continue,
                        Err(_) => None,
                    },
                    Some(Order::Close(directed)) => {
                        peer.close(directed, "").await;
                        return;
                    }
                    None => None,
                },
            };
            match seen {
                Some(Seen::Message(text)) if daemon => self.to_phone(&id, &text),
                Some(Seen::Message(text)) => self.to_daemon(&id, &wrap(&conn_id, &text)),
                Some(Seen::Ping(payload)) => {
                    // A broken connection shows at the next read.
                    let _ = peer.send_control(Control::Pong, &payload).await;
                }
                Some(Seen::Pong(_)) => {}
                Some(Seen::Close(sent)) => {
                    code = sent.unwrap_or(1005);
                    // No code is answered by none: 1005 never goes over the wire (RFC 6455 §7.4.1).
                    let answer = sent.map_or(vec![], |code| code.to_be_bytes().to_vec());
                    let _ = peer.send_control(Control::Close, &answer).await;
                    break;
                }
                None => break,
            }
        }
        self.gone(&id, &conn_id, daemon, code);
    }

    fn register(
        &self,
        id: &str,
        conn_id: &str,
        daemon: bool,
        orders: mpsc::UnboundedSender<Order>,
    ) -> Result<(), u16> {
        let mut slots = self.lock();
        let slot = slots.entry(id.to_owned()).or_default();
        match (daemon, slot.daemon.is_some()) {
            (true, true) => return Err(4409),
            (false, false) => return Err(4404),
            (true, false) => slot.daemon = Some(orders),
            (false, true) => {
                slot.phones.insert(conn_id.to_owned(), orders);
            }
        }
        Ok(())
    }

    fn to_daemon(&self, id: &str, message: &[u8]) {
        if let Some(daemon) = self.lock().get(id).and_then(|slot| slot.daemon.as_ref()) {
            let _ = daemon.send(Order::Send(message.to_vec()));
        }
    }

    fn to_phone(&self, id: &str, message: &[u8]) {
        let (conn_id, frame, code) = match envelope::parse(message) {
            Ok(Directive::Frame { conn_id, frame }) => (conn_id, Some(frame), None),
            Ok(Directive::Close {
                conn_id,
                frame,
                code,
            }) => (conn_id, frame, Some(code)),
            _ => return,
        };
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(id) else {
            return;
        };
        let Some(phone) = slot.phones.get(&*conn_id) else {
            return;
        };
        if let Some(frame) = frame {
            let _ = phone.send(Order::Send(frame.to_vec()));
        }
        if let Some(code) = code {
            let _ = phone.send(Order::Close(code));
            slot.phones.remove(&*conn_id);
        }
    }

    fn gone(&self, id: &str, conn_id: &str, daemon: bool, code: u16) {
        if daemon {
            for (_, phone) in self.lock().remove(id).unwrap_or_default().phones {
                let _ = phone.send(Order::Close(4404));
            }
        } else {
            self.lock()
                .get_mut(id)
                .and_then(|slot| slot.phones.remove(conn_id));
            self.to_daemon(id, &envelope::close_notice(conn_id, code));
        }
    }
}

fn wrap(conn_id: &str, frame: &[u8]) -> Vec<u8> {
    [&envelope::prefix(conn_id), frame, envelope::SUFFIX].concat()
}
