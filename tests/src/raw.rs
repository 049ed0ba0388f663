//! A WebSocket client made of frames by hand, for peers that break the rules, stall or never read.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::http;
use crate::soon;
use crate::transport::Stream;
use crate::wire::Headers;

/// First bytes of frames: FIN (0x80) plus the opcode.
pub mod op {
    /// A whole text message.
    pub const TEXT: u8 = 0x81;
    /// The first fragment of a text message.
    pub const TEXT_START: u8 = 0x01;
    /// A fragment in the middle.
    pub const MORE: u8 = 0x00;
    /// The last fragment.
    pub const LAST: u8 = 0x80;
    /// A whole binary message.
    pub const BINARY: u8 = 0x82;
    /// Close.
    pub const CLOSE: u8 = 0x88;
    /// Ping.
    pub const PING: u8 = 0x89;
    /// Pong.
    pub const PONG: u8 = 0x8a;
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame: `first` is FIN, RSV bits and opcode as they go on the wire.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len(), 0x80);
    frame.extend_from_slice(&KEY);
    frame.extend(
        payload
            .iter()
            .zip(KEY.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

fn header(first: u8, length: usize, mask_bit: u8) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..=125 => head.push(mask_bit | length as u8),
        126..=0xffff => {
            head.push(mask_bit | 126);
            head.extend((length as u16).to_be_bytes());
        }
        _ => {
            head.push(mask_bit | 127);
            head.extend((length as u64).to_be_bytes());
        }
    }
    head
}

/// A frame the relay sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// FIN, RSV bits and opcode.
    pub first: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

/// An upgraded connection. It does nothing by itself: it answers no ping and reads only when asked.
pub struct Raw {
    stream: Stream,
    inbox: Vec<u8>,
}

impl Raw {
    /// Upgrades `stream` on `path`, with `early` in the same segment as the request: it doesn't
    /// wait for the 101.
    pub async fn upgrade(
        mut stream: Stream,
        path: &str,
        headers: Headers<'_>,
        early: &[u8],
    ) -> Self {
        let upgrade = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let request = http::request("GET", path, &[&upgrade, headers].concat());
        let bytes = [request.as_bytes(), early].concat();
        stream.write_all(&bytes).await.expect("the request is sent");
        stream.flush().await.expect("the request is sent");
        let (response, inbox) = soon("the 101", http::read_head(&mut stream)).await;
        assert_eq!(response.status, 101, "{response:?}");
        assert_eq!(
            response.header("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            "the answer to the sample key of RFC 6455"
        );
        Self { stream, inbox }
    }

    /// The peer's own address.
    pub fn local(&self) -> SocketAddr {
        let local = self.stream.socket().local_addr();
        local.expect("a connected socket has an address")
    }

    /// Writes bytes as they are; waits as long as the relay doesn't read.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Writes as many of the bytes as the connection takes at once; waits while it takes none.
    /// On TLS some of them may stay in this process until the next write.
    pub async fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes).await
    }

    /// Writes one masked frame.
    pub async fn frame(&mut self, first: u8, payload: &[u8]) {
        self.write(&masked(first, payload))
            .await
            .expect("the frame is sent");
    }

    /// Sends a text message.
    pub async fn send(&mut self, text: &str) {
        self.frame(op::TEXT, text.as_bytes()).await;
    }

    /// The next frame; `None` at the end of the stream. A reset is an error.
    pub async fn read(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some((frame, length)) = parse(&self.inbox) {
                self.inbox.drain(..length);
                return Ok(Some(frame));
            }
            if soon(
                "bytes from the relay",
                self.stream.read_buf(&mut self.inbox),
            )
            .await?
                == 0
            {
                return Ok(None);
            }
        }
    }

    /// The next frame, answering pings on the way.
    pub async fn recv(&mut self) -> Frame {
        loop {
            let frame = self
                .read()
                .await
                .expect("no reset")
                .expect("a frame, not the end");
            match frame.first {
                op::PING => self.frame(op::PONG, &frame.payload).await,
                _ => return frame,
            }
        }
    }

    /// The next text message, answering pings on the way.
    pub async fn text(&mut self) -> String {
        let frame = self.recv().await;
        assert_eq!(frame.first, op::TEXT, "{frame:?}");
        String::from_utf8(frame.payload).expect("text is UTF-8")
    }

    /// Skips to the close frame and returns its code (1005 if it has none) and reason.
    pub async fn close_frame(&mut self) -> (u16, String) {
        loop {
            let frame = self
                .read()
                .await
                .expect("no reset")
                .expect("a close frame, not the end");
            if frame.first == op::CLOSE {
                return close_payload(&frame.payload);
            }
        }
    }

    /// That the relay closes with `code` and `reason`; answers the close, then there is nothing
    /// but the end of the stream.
    pub async fn expect_close(&mut self, code: u16, reason: &str) {
        assert_eq!(self.close_frame().await, (code, reason.to_owned()));
        self.frame(op::CLOSE, &code.to_be_bytes()).await;
        self.expect_end().await;
    }

    /// That the stream ends by FIN, with nothing before it.
    pub async fn expect_end(&mut self) {
        match self.read().await {
            Ok(None) => {}
            Ok(Some(frame)) => panic!("expected the end, got {frame:?}"),
            Err(error) => panic!("expected the end, got {error}"),
        }
    }

    /// Reads and throws away until the connection ends, in whatever way.
    pub async fn drain(&mut self) {
        while let Ok(Some(_)) = self.read().await {}
    }

    /// Sends FIN (on TLS after its close alert): nothing more comes from here, but it still reads.
    pub async fn half_close(&mut self) {
        self.stream.shutdown().await.expect("the FIN is sent");
    }

    /// Sends FIN, on TLS without its close alert.
    pub fn bare_fin(&mut self) {
        let socket = socket2::SockRef::from(self.stream.socket());
        let sent = socket.shutdown(std::net::Shutdown::Write);
        sent.expect("the FIN is sent");
    }

    /// Ends the connection by a reset.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(self.stream.socket());
        socket
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("the option is set");
    }
}

/// Code and reason of a close frame's payload.
fn close_payload(payload: &[u8]) -> (u16, String) {
    match payload {
        [] => (1005, String::new()),
        [high, low, reason @ ..] => (
            u16::from_be_bytes([*high, *low]),
            String::from_utf8_lossy(reason).into_owned(),
        ),
        [_] => panic!("a close payload of one byte"),
    }
}

/// The frame at the front of `bytes` and its length on the wire, if it is complete.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(second & 0x80, 0, "a server never masks");
    let (length, start) = match second {
        126 => (
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            4,
        ),
        127 => (
            u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
            10,
        ),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(start..start + length)?.to_vec();
    Some((Frame { first, payload }, start + length))
}
