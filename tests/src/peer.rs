//! Well-behaved peers, on `tokio-tungstenite`: a task of their own always reads, so pings are
//! answered and closes are echoed whatever the test does meanwhile.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_tungstenite::tungstenite::{Bytes, Error};
use tokio_tungstenite::{WebSocketStream, tungstenite};

use crate::transport::Stream;
use crate::wire::{Envelope, data_envelope, directive};
use crate::{SILENCE, soon};

/// What a peer saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A text message.
    Text(String),
    /// A binary message; the relay must never send one.
    Binary(Vec<u8>),
    /// A ping; it has been answered.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The other side's close frame; an empty one has the code 1005.
    Close(u16, String),
    /// The connection ended after a complete close handshake.
    Eof,
    /// The connection ended in any other way: reset, or without a close handshake.
    Broken(String),
}

/// One WebSocket connection.
pub struct Peer {
    to_send: mpsc::UnboundedSender<Message>,
    events: mpsc::UnboundedReceiver<Event>,
    /// Messages that came while a pong was waited for.
    passed_over: VecDeque<Event>,
    tasks: [JoinHandle<()>; 2],
    /// The peer's own address.
    pub local: SocketAddr,
    /// The header names and values of the 101.
    pub accepted: Vec<(String, String)>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Peer {
    pub(crate) fn new(stream: WebSocketStream<Stream>, accepted: Vec<(String, String)>) -> Self {
        let local = stream
            .get_ref()
            .socket()
            .local_addr()
            .expect("a connected socket has an address");
        let (mut sink, mut source) = stream.split();
        let (to_send, mut messages) = mpsc::unbounded_channel();
        let (seen, events) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel::<()>();
        let writer = tokio::spawn(async move {
            let write = async {
                while let Some(message) = messages.recv().await {
                    if sink.send(message).await.is_err() {
                        break;
                    }
                }
                // The reader reports how the connection ends.
                std::future::pending().await
            };
            // The socket closes when both tasks are done with it.
            tokio::select!(() = write => (), _ = ended => ());
        });
        let reader = tokio::spawn(async move {
            let _end = end;
            loop {
                let event = event(source.next().await);
                let last = matches!(event, Event::Eof | Event::Broken(_));
                if seen.send(event).is_err() || last {
                    return;
                }
            }
        });
        Self {
            to_send,
            events,
            passed_over: VecDeque::new(),
            tasks: [writer, reader],
            local,
            accepted,
        }
    }

    fn push(&self, message: Message) {
        // After the connection's end there is no one to send to; `recv` tells the test.
        let _ = self.to_send.send(message);
    }

    /// Sends a text message.
    pub fn send(&self, text: &str) {
        self.push(Message::text(text));
    }

    /// Sends a binary message.
    pub fn send_binary(&self, bytes: &[u8]) {
        self.push(Message::binary(Bytes::copy_from_slice(bytes)));
    }

    /// Sends a ping.
    pub fn ping(&self, payload: &[u8]) {
        self.push(Message::Ping(Bytes::copy_from_slice(payload)));
    }

    /// Starts a close handshake.
    pub fn close(&self, code: u16, reason: &str) {
        let frame = CloseFrame {
            code: code.into(),
            reason: reason.into(),
        };
        self.push(Message::Close(Some(frame)));
    }

    /// Starts a close handshake without a code.
    pub fn close_empty(&self) {
        self.push(Message::Close(None));
    }

    /// Drops the TCP connection without a close frame; returns when the socket is gone.
    pub async fn cut(mut self) {
        for task in &mut self.tasks {
            task.abort();
            // The only outcome of interest is that the task no longer holds the socket.
            let _ = task.await;
        }
    }

    /// The next event, control frames included.
    pub async fn next(&mut self) -> Event {
        match self.passed_over.pop_front() {
            Some(event) => event,
            None => self.arrival().await,
        }
    }

    async fn arrival(&mut self) -> Event {
        let event = soon("something from the relay", self.events.recv()).await;
        event.unwrap_or_else(|| Event::Broken("read past the end".into()))
    }

    /// The next event that isn't a ping or pong.
    pub async fn recv(&mut self) -> Event {
        loop {
            match self.next().await {
                Event::Ping(_) | Event::Pong(_) => {}
                other => return other,
            }
        }
    }

    /// The next message, which must be text.
    pub async fn text(&mut self) -> String {
        match self.recv().await {
            Event::Text(text) => text,
            other => panic!("expected a text message, got {other:?}"),
        }
    }

    /// That the relay closes this connection with `code` and `reason` next, by a complete
    /// handshake, and never resets it.
    pub async fn expect_close(&mut self, code: u16, reason: &str) {
        let got = self.recv().await;
        assert_eq!(got, Event::Close(code, reason.to_owned()));
        assert_eq!(self.recv().await, Event::Eof, "after close {code}");
    }

    /// Skips messages until the close, which must be as in [`Peer::expect_close`].
    pub async fn expect_close_after_messages(&mut self, code: u16, reason: &str) {
        let close = loop {
            match self.recv().await {
                Event::Text(_) => {}
                other => break other,
            }
        };
        assert_eq!(close, Event::Close(code, reason.to_owned()));
        assert_eq!(self.recv().await, Event::Eof, "after close {code}");
    }

    /// That the other side answers our close with the same code and reason, then ends the connection.
    pub async fn expect_echo(&mut self, code: u16, reason: &str) {
        assert_eq!(
            self.recv().await,
            Event::Close(code, reason.to_owned()),
            "the echo"
        );
        assert_eq!(self.recv().await, Event::Eof);
    }

    /// The payload of the next pong. Messages that come before it are kept for later.
    pub async fn pong(&mut self) -> Vec<u8> {
        loop {
            match self.arrival().await {
                Event::Pong(payload) => return payload,
                Event::Ping(_) => {}
                message @ (Event::Text(_) | Event::Binary(_)) => {
                    self.passed_over.push_back(message);
                }
                end => panic!("no pong but {end:?}"),
            }
        }
    }

    /// That nothing arrives, and the connection stays, for [`SILENCE`].
    pub async fn expect_silence(&mut self) {
        self.expect_silence_for(SILENCE).await;
    }

    /// That nothing but pings arrives for `time`.
    pub async fn expect_silence_for(&mut self, time: Duration) {
        if let Ok(event) = tokio::time::timeout(time, self.recv()).await {
            panic!("expected nothing, got {event:?}");
        }
    }

    /// That the relay answers a ping: the connection lives, and everything it sent before has
    /// been read by the relay.
    pub async fn expect_alive(&mut self) {
        self.ping(b"alive?");
        assert_eq!(self.pong().await, b"alive?");
    }
}

fn event(item: Option<Result<Message, Error>>) -> Event {
    match item {
        None | Some(Err(Error::ConnectionClosed)) => Event::Eof,
        Some(Ok(Message::Text(text))) => Event::Text(text.to_string()),
        Some(Ok(Message::Binary(bytes))) => Event::Binary(bytes.to_vec()),
        Some(Ok(Message::Ping(bytes))) => Event::Ping(bytes.to_vec()),
        Some(Ok(Message::Pong(bytes))) => Event::Pong(bytes.to_vec()),
        Some(Ok(Message::Close(None))) => Event::Close(1005, String::new()),
        Some(Ok(Message::Close(Some(frame)))) => {
            Event::Close(frame.code.into(), frame.reason.to_string())
        }
        Some(Ok(Message::Frame(frame))) => unreachable!("a raw frame while reading: {frame:?}"),
        Some(Err(error)) => Event::Broken(error.to_string()),
    }
}

/// The status and headers of a refused upgrade.
pub(crate) fn refusal(error: Error) -> tungstenite::http::Response<Option<Vec<u8>>> {
    match error {
        Error::Http(response) => *response,
        other => panic!("the upgrade failed: {other}"),
    }
}

/// A daemon's connection.
pub struct Daemon(pub Peer);

/// A phone's connection.
pub struct Phone(pub Peer);

impl Deref for Daemon {
    type Target = Peer;
    fn deref(&self) -> &Peer {
        &self.0
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Peer {
        &mut self.0
    }
}

impl Deref for Phone {
    type Target = Peer;
    fn deref(&self) -> &Peer {
        &self.0
    }
}

impl DerefMut for Phone {
    fn deref_mut(&mut self) -> &mut Peer {
        &mut self.0
    }
}

impl Daemon {
    /// The next envelope.
    pub async fn envelope(&mut self) -> Envelope {
        Envelope::parse(&self.0.text().await)
    }

    /// That the next envelope carries exactly `frame`; returns its conn_id.
    pub async fn expect_frame(&mut self, frame: &str) -> String {
        let envelope = self.envelope().await;
        assert_eq!(envelope.frame.as_deref(), Some(frame), "{envelope:?}");
        envelope.conn_id
    }

    /// That the next envelope carries exactly `frame` from `conn_id`.
    pub async fn expect_frame_from(&mut self, conn_id: &str, frame: &str) {
        assert_eq!(self.expect_frame(frame).await, conn_id);
    }

    /// That the next envelope is the close notice of `conn_id` with `code`.
    pub async fn expect_notice(&mut self, conn_id: &str, code: u64) {
        let envelope = self.envelope().await;
        assert_eq!(
            (&*envelope.conn_id, envelope.close_code),
            (conn_id, Some(code))
        );
    }

    /// Sends `frame` to the phone `conn_id`.
    pub fn send_to(&self, conn_id: &str, frame: &str) {
        self.0.send(&data_envelope(conn_id, frame));
    }

    /// Asks the relay to close the phone `conn_id` with `code`, after `frame` if there is one.
    pub fn close_phone(&self, conn_id: &str, frame: Option<&str>, code: u16) {
        self.0.send(&directive(conn_id, frame, code.into()));
    }

    /// Lets `phone` send a frame and waits for it here; returns the phone's conn_id. From then
    /// on the relay knows that this daemon has heard of the phone.
    pub async fn hear(&mut self, phone: &mut Phone) -> String {
        let hello = Value::from(format!("hello from {}", phone.local)).to_string();
        phone.send(&hello);
        self.expect_frame(&hello).await
    }

    /// Drops the TCP connection.
    pub async fn cut(self) {
        self.0.cut().await;
    }
}

impl Phone {
    /// That the next message is exactly `frame`.
    pub async fn expect_frame(&mut self, frame: &str) {
        assert_eq!(self.0.text().await, frame);
    }

    /// Drops the TCP connection.
    pub async fn cut(self) {
        self.0.cut().await;
    }
}
