//! One WebSocket connection in the client's role: no reconnecting, no policy.

mod error;
mod options;
mod output;
mod race;
mod stream;
mod upgrade;

pub use self::error::{ConnectError, SocketError};
pub use self::options::{Options, Timeouts};
pub use self::stream::{ByteStream, Dialer, Dialling};
pub(crate) use self::upgrade::sendable;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use relay_proto::ws::{self, Decoder, Event, Limits, Opcode, Role, Utf8};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};

use self::output::Output;
use self::stream::Stream;
use crate::endpoint::Endpoint;
use crate::keepalive::after;

/// Bytes taken from the socket at once; a relayed frame is at most about 87 KB and mostly far less.
const READ_BYTES: usize = 16 * 1024;

/// What arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A text message: UTF-8, or the connection would have ended with 1007.
    Text(Vec<u8>),
    /// A binary message, of any bytes. A relay never sends one.
    Binary(Vec<u8>),
    /// A pong; the payload is that of the ping it answers.
    Pong(Vec<u8>),
    /// The peer closes. The answer is on its way once [`Socket::close`] or [`Socket::recv`] runs again.
    Close {
        /// The close code; `None` if the close frame carried none.
        code: Option<u16>,
        /// The close reason.
        reason: String,
    },
}

/// A connected WebSocket in the client's role.
///
/// Pings are answered on their own whenever [`recv`](Self::recv), [`flush`](Self::flush) or
/// [`close`](Self::close) runs. Dropping it ends the TCP connection without a close frame, as a
/// crash would.
///
/// # Cancel safety
/// Every method but [`connect`](Self::connect) and [`close`](Self::close) is cancel-safe: bytes half
/// read or half written are kept in the socket, and the next call goes on where the last one was
/// dropped. A message handed to [`send_text`](Self::send_text) is taken before its future is ever polled, and goes out with
/// what is awaited next on the socket, even if that future is dropped.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    decoder: Decoder,
    timeouts: Timeouts,
    input: Vec<u8>,
    taken: usize,
    output: Output,
    /// All was written, and not yet flushed.
    must_flush: bool,
    blocked_since: Option<Instant>,
    /// The peer broke the protocol: what it says means nothing any more, and is not decoded.
    violated: bool,
}

impl Socket {
    /// Connects: name lookup, TCP (`TCP_NODELAY`), TLS for `wss`, upgrade.
    ///
    /// Of a name's addresses, IPv6 and IPv4 in turn, the first that answers is taken. One that has not after 250 ms is not
    /// given up, but the next is tried beside it (RFC 8305).
    ///
    /// `headers` go out as given, after the WebSocket's own.
    ///
    /// # Errors
    /// See [`ConnectError`]. Redirects are not followed.
    pub async fn connect(
        endpoint: &Endpoint,
        headers: &[(&str, &str)],
        options: &Options,
    ) -> Result<Self, ConnectError> {
        let unusable = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        endpoint.check().map_err(unusable)?;
        let after = options.timeouts.connect;
        let connecting = Self::connect_untimed(endpoint, headers, options);
        timeout(after, connecting)
            .await
            .map_err(|_| ConnectError::Timeout { after })?
    }

    async fn connect_untimed(
        endpoint: &Endpoint,
        headers: &[(&str, &str)],
        options: &Options,
    ) -> Result<Self, ConnectError> {
        let mut stream = match &options.dialer {
            Some(dialer) => Stream::Dialled(dialer.dial(endpoint).await?),
            None => Self::tcp(endpoint, options).await?,
        };
        let input = upgrade::upgrade(&mut stream, endpoint, headers).await?;
        let limits = Limits {
            message_bytes: options.message_bytes,
            utf8: Utf8::TextOnly,
        };
        Ok(Self {
            stream,
            decoder: Decoder::new(Role::Client, limits),
            timeouts: options.timeouts,
            input,
            taken: 0,
            output: Output::default(),
            must_flush: false,
            blocked_since: None,
            violated: false,
        })
    }

    async fn tcp(endpoint: &Endpoint, options: &Options) -> Result<Stream, ConnectError> {
        let tcp = race::connect(&endpoint.host, endpoint.port).await?;
        tcp.set_nodelay(true)?;
        match endpoint.tls {
            false => Ok(Stream::Plain(tcp)),
            #[cfg(feature = "tls")]
            true => Ok(Stream::tls(tcp, &endpoint.host, options.tls.clone()).await?),
            #[cfg(not(feature = "tls"))]
            true => Err(ConnectError::NoTls),
        }
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// [`SocketError::WriteTimeout`] when it doesn't leave within [`Timeouts::write`].
    pub fn send_text<'a>(
        &'a mut self,
        payload: &[u8],
    ) -> impl Future<Output = Result<(), SocketError>> + use<'a> {
        let queued = self.queue_text(payload);
        let after = self.timeouts.write;
        async move {
            queued?;
            timeout(after, self.flush())
                .await
                .map_err(|_| SocketError::WriteTimeout { after })?
        }
    }

    /// Takes a text message to be sent by the next [`flush`](Self::flush) or [`recv`](Self::recv).
    /// After a close frame was sent it is dropped, as RFC 6455 §5.5.1 demands.
    ///
    /// # Errors
    /// Only if the operating system has no randomness for the mask.
    pub fn queue_text(&mut self, payload: &[u8]) -> Result<(), SocketError> {
        Ok(self.output.text(payload)?)
    }

    /// Takes a ping to be sent as [`queue_text`](Self::queue_text) does.
    ///
    /// # Errors
    /// [`SocketError::Io`] of kind `InvalidInput` if `payload` has more than the 125 bytes that a control frame may carry
    /// (RFC 6455 §5.5): nothing is taken then. Otherwise only if the operating system has no randomness for the mask.
    pub fn queue_ping(&mut self, payload: &[u8]) -> Result<(), SocketError> {
        Ok(self.output.ping(payload)?)
    }

    /// Bytes taken but not yet written to the stream. TLS may hold up to 16 KiB more.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.output.len()
    }

    /// Since when a write or a flush has made no progress; `None` if none is blocked.
    #[must_use]
    pub fn blocked_since(&self) -> Option<Instant> {
        self.blocked_since
    }

    /// Waits until everything taken is handed to the operating system. No timeout of its own.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn flush(&mut self) -> Result<(), SocketError> {
        poll_fn(|cx| self.poll_write_out(cx)).await
    }

    /// Waits for what arrives next, and meanwhile writes what was taken to be sent.
    ///
    /// # Errors
    /// When the connection breaks, when the peer ends it without a close frame, or when it breaks
    /// the protocol; the connection is of no use then. After [`Received::Close`] or [`SocketError::Protocol`] the next
    /// call ends with [`SocketError::Io`] of kind `UnexpectedEof` once our Close is out and the peer is gone.
    pub async fn recv(&mut self) -> Result<Received, SocketError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The closing handshake: sends Close (or the answer to the peer's) behind what was taken before, as
    /// long as something of it leaves within each [`Timeouts::close`]; then waits for the peer's half and
    /// the end of the TCP connection, for as long again. Messages still arriving are discarded. Returns
    /// the peer's close code and reason, if its Close came in time.
    ///
    /// After [`SocketError::Protocol`] the Close is the one that tells of it, whatever `code` is, and what still arrives is
    /// not looked at.
    ///
    /// A `code` no close frame may carry goes out as an empty close frame.
    pub async fn close(mut self, code: u16, reason: &str) -> Option<(Option<u16>, String)> {
        let within = self.timeouts.close;
        let mut answer = None;
        // However it ends, by the peer's FIN, an error or a timeout: the connection is over.
        if self.output.close(code, reason).is_ok() && self.all_leaves(&mut answer).await {
            let ends = async {
                while let Ok(received) = self.recv().await {
                    note_close(received, &mut answer);
                }
            };
            let _ = timeout(within, ends).await;
        }
        answer
    }

    /// Writes what waits, reading on. False: the connection is over, or takes nothing.
    async fn all_leaves(&mut self, answer: &mut Option<(Option<u16>, String)>) -> bool {
        let started = Instant::now();
        // What arrives is no progress and must not put it off.
        let given_up_at = |socket: &Self| {
            let since = socket.blocked_since.map(|since| since.max(started));
            after(since.unwrap_or_else(Instant::now), socket.timeouts.close)
        };
        while self.unsent() > 0 {
            match timeout_at(given_up_at(self), self.drive(true, 1)).await {
                Ok(Ok(Some(received))) => note_close(received, answer),
                Ok(Err(_)) => return false,
                Ok(Ok(None)) | Err(_) => {}
            }
            if self.blocked_since.is_some() && given_up_at(self) <= Instant::now() {
                return false;
            }
        }
        true
    }

    /// What waits, in bytes; what is only to be flushed counts as one.
    fn unsent(&self) -> usize {
        self.queued_bytes() + usize::from(self.must_flush)
    }

    /// As [`recv`](Self::recv), or only the writing half of it when `read` is false. `None`: of `room` bytes or more that were
    /// [unsent](Self::unsent), fewer are left.
    pub(crate) async fn drive(
        &mut self,
        read: bool,
        room: usize,
    ) -> Result<Option<Received>, SocketError> {
        let was_full = self.unsent() >= room;
        poll_fn(|cx| {
            let polled = match read {
                true => self.poll_recv(cx).map_ok(Some),
                false => match self.poll_write_out(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    _ => Poll::Pending,
                },
            };
            match polled {
                Poll::Pending if was_full && self.unsent() < room => Poll::Ready(Ok(None)),
                polled => polled,
            }
        })
        .await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, SocketError>> {
        loop {
            match self.decode() {
                Ok(Some(received)) => return Poll::Ready(Ok(received)),
                Ok(None) => {}
                Err(error) => {
                    self.violated = true;
                    self.output.close(error.close_code(), "")?;
                    // As far as it goes without waiting. That nothing goes any more shows at the next call.
                    let _ = self.poll_write_out(cx);
                    return Poll::Ready(Err(error.into()));
                }
            }
            if let Poll::Ready(Err(error)) = self.poll_write_out(cx) {
                return Poll::Ready(Err(error));
            }
            ready!(self.poll_fill(cx))?;
        }
    }

    /// The next event among the bytes already read.
    fn decode(&mut self) -> Result<Option<Received>, ws::Error> {
        if self.violated {
            self.taken = self.input.len();
        }
        while self.taken < self.input.len() {
            let mut rest = &mut self.input[self.taken..];
            let before = rest.len();
            let event = self.decoder.decode(&mut rest)?;
            self.taken += before - rest.len();
            match event {
                None => break,
                Some(Event::Message { opcode, payload }) => {
                    let bytes = payload.into_vec();
                    return Ok(Some(match opcode {
                        Opcode::Text => Received::Text(bytes),
                        Opcode::Binary => Received::Binary(bytes),
                    }));
                }
                Some(Event::Ping(payload)) => self.output.answer_ping(&payload),
                Some(Event::Pong(payload)) => return Ok(Some(Received::Pong(payload.to_vec()))),
                Some(Event::Close(frame)) => {
                    let (code, reason) = match frame {
                        Some(frame) => (Some(frame.code), frame.reason().to_owned()),
                        None => (None, String::new()),
                    };
                    self.output.answer_close(code.unwrap_or(1005));
                    return Ok(Some(Received::Close { code, reason }));
                }
            }
        }
        Ok(None)
    }

    /// Reads once; only called when everything read before is decoded.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.input.resize(READ_BYTES, 0);
        self.taken = READ_BYTES;
        let mut buf = ReadBuf::new(&mut self.input);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut buf);
        let filled = buf.filled().len();
        if let Poll::Ready(Ok(())) = read {
            self.input.truncate(filled);
            self.taken = 0;
        }
        ready!(read)?;
        match filled {
            0 => Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Writes what waits. A flush is seen to its end before anything more is written: a stream like TLS takes bytes while
    /// nothing leaves, and that must not pass for progress.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        loop {
            if self.must_flush {
                let flushed = Pin::new(&mut self.stream).poll_flush(cx);
                ready!(self.note_progress(flushed))?;
                self.must_flush = false;
            }
            let bytes = self.output.unwritten()?;
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
            match ready!(self.note_progress(written))? {
                0 => return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into())),
                count => self.output.wrote(count),
            }
            self.must_flush = self.output.unwritten()?.is_empty();
        }
    }

    fn note_progress<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        match polled {
            Poll::Pending => _ = self.blocked_since.get_or_insert_with(Instant::now),
            Poll::Ready(_) => self.blocked_since = None,
        }
        polled
    }
}

/// Keeps code and reason of the peer's Close.
fn note_close(received: Received, answer: &mut Option<(Option<u16>, String)>) {
    if let Received::Close { code, reason } = received {
        *answer = Some((code, reason));
    }
}
