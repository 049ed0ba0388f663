//! The HTTP/1.1 half of a WebSocket: the request, and what may come back (RFC 6455 §4.1).

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use relay_proto::handshake::accept_key;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::ConnectError;
use super::stream::Stream;
use crate::endpoint::Endpoint;

/// The longest response head taken; hyper and Node stop at the same order of size.
const HEAD_BYTES: usize = 16 * 1024;
/// How much of a refusal's body is kept for the error.
const BODY_BYTES: usize = 512;
/// How long a refusal's body may take: it is only for the error's text.
const BODY_WAIT: Duration = Duration::from_secs(1);

/// Sends the upgrade request and waits for 101. Returns the bytes that followed the response.
pub(super) async fn upgrade(
    stream: &mut Stream,
    endpoint: &Endpoint,
    headers: &[(&str, &str)],
) -> Result<Vec<u8>, ConnectError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|_| io::Error::other("no randomness"))?;
    let key = STANDARD.encode(nonce);
    stream.write_all(&request(endpoint, headers, &key)?).await?;
    stream.flush().await?;

    let mut bytes = Vec::with_capacity(1024);
    loop {
        if let Some(head) = Head::parse(&bytes)? {
            let rest = bytes.split_off(head.bytes);
            return match head.status {
                101 => head.check(&key).map(|()| rest),
                _ => Err(head.into_error(stream, rest).await),
            };
        }
        if bytes.len() >= HEAD_BYTES {
            return Err(ConnectError::NotWebSocket("its response head is too long"));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// The request's bytes.
fn request(
    endpoint: &Endpoint,
    headers: &[(&str, &str)],
    key: &str,
) -> Result<Vec<u8>, ConnectError> {
    let mut text = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n",
        endpoint.path,
        endpoint.authority(),
    );
    for (name, value) in headers {
        if !sendable(name, value) {
            return Err(ConnectError::Header {
                name: (*name).to_owned(),
            });
        }
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    Ok(text.into_bytes())
}

/// Whether HTTP can carry this header (RFC 9110 §5.1 and §5.5).
pub(crate) fn sendable(name: &str, value: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let named = !name.is_empty() && name.bytes().all(token);
    named
        && value
            .bytes()
            .all(|b| b != 0x7f && (b >= 0x20 || b == b'\t'))
}

/// The parts of a response head that matter here.
struct Head {
    status: u16,
    bytes: usize,
    accept: Vec<u8>,
    upgrades: bool,
    offers_refused: bool,
    retry_after: Option<Duration>,
    content_length: usize,
}

impl Head {
    /// `None`: the head is not complete yet.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, ConnectError> {
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut slots);
        let bytes = match response.parse(bytes) {
            Ok(httparse::Status::Complete(bytes)) => bytes,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(ConnectError::NotWebSocket("its answer is not HTTP/1.1")),
        };
        let get = |name: &str| {
            let found = response
                .headers
                .iter()
                .find(|h| h.name.eq_ignore_ascii_case(name));
            found.map(|header| header.value.trim_ascii())
        };
        let has_token = |name: &str, token: &str| {
            let values = response
                .headers
                .iter()
                .filter(|h| h.name.eq_ignore_ascii_case(name));
            let mut tokens = values.flat_map(|header| header.value.split(|b| *b == b','));
            tokens.any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
        };
        let number =
            |name| get(name).and_then(|v| std::str::from_utf8(v).ok()?.parse::<u32>().ok());
        Ok(Some(Self {
            status: response.code.unwrap_or(0),
            bytes,
            accept: get("sec-websocket-accept").unwrap_or_default().to_vec(),
            upgrades: has_token("connection", "upgrade") && has_token("upgrade", "websocket"),
            offers_refused: get("sec-websocket-extensions").is_none()
                && get("sec-websocket-protocol").is_none(),
            retry_after: number("retry-after").map(|secs| Duration::from_secs(secs.into())),
            content_length: number("content-length").unwrap_or(u32::MAX) as usize,
        }))
    }

    /// Whether a 101 answers our request and nobody else's.
    fn check(&self, key: &str) -> Result<(), ConnectError> {
        if !self.upgrades {
            return Err(ConnectError::NotWebSocket(
                "its 101 does not upgrade to websocket",
            ));
        }
        if self.accept != accept_key(key.as_bytes()).as_bytes() {
            return Err(ConnectError::NotWebSocket("its 101 answers another key"));
        }
        if !self.offers_refused {
            return Err(ConnectError::NotWebSocket(
                "its 101 selects what was not offered",
            ));
        }
        Ok(())
    }

    /// The error for any status but 101, with the beginning of the body.
    async fn into_error(self, stream: &mut Stream, mut body: Vec<u8>) -> ConnectError {
        let wanted = self.content_length.min(BODY_BYTES);
        let read = async {
            while body.len() < wanted && matches!(stream.read_buf(&mut body).await, Ok(1..)) {}
        };
        // A body that doesn't come in time is shown as far as it came.
        let _ = tokio::time::timeout(BODY_WAIT, read).await;
        body.truncate(wanted);
        let body = String::from_utf8_lossy(&body).trim().to_owned();
        ConnectError::Refused {
            status: self.status,
            retry_after: self.retry_after,
            body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_what_a_daemon_sends() {
        let endpoint = Endpoint::parse("ws://relay.test:81/v1/server").unwrap();
        let bytes = request(&endpoint, &[("x-pyrycode-server", "home")], "KEY").unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with("GET /v1/server HTTP/1.1\r\nHost: relay.test:81\r\n"),
            "{text}"
        );
        assert!(
            text.ends_with("Key: KEY\r\nx-pyrycode-server: home\r\n\r\n"),
            "{text}"
        );
    }

    #[test]
    fn a_header_can_not_smuggle_another() {
        let endpoint = Endpoint::parse("ws://relay.test").unwrap();
        for header in [("a", "b\r\nc: d"), ("a\n", "b"), ("", "b"), ("a", "\u{7f}")] {
            let refused = request(&endpoint, &[header], "KEY");
            assert!(
                matches!(refused, Err(ConnectError::Header { .. })),
                "{header:?}"
            );
        }
    }

    #[test]
    fn a_head_is_taken_whole_or_not_at_all() {
        let head = b"HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\nno";
        for cut in 0..head.len() - 2 {
            assert!(Head::parse(&head[..cut]).unwrap().is_none(), "{cut}");
        }
        let parsed = Head::parse(head).unwrap().unwrap();
        assert_eq!((parsed.status, parsed.bytes), (429, head.len() - 2));
        assert_eq!(parsed.retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn only_the_right_101_counts() {
        // The key and its answer are the example of RFC 6455 §1.3.
        let check = |head: &str| {
            let head = Head::parse(head.as_bytes()).unwrap().unwrap();
            head.check("dGhlIHNhbXBsZSBub25jZQ==")
        };
        let good = "HTTP/1.1 101 x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        assert!(check(&format!("{good}\r\n")).is_ok());
        assert!(
            check(&format!(
                "{good}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
            ))
            .is_err()
        );
        assert!(
            check(
                &good
                    .replace("s3p", "s3q")
                    .replace("xOo=\r\n", "xOo=\r\n\r\n")
            )
            .is_err()
        );
        assert!(
            check(
                &good
                    .replace("WebSocket\r", "h2c\r")
                    .replace("xOo=\r\n", "xOo=\r\n\r\n")
            )
            .is_err()
        );
    }
}
