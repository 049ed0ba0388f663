//! HTTP/1.1 by hand, for requests a client library would not send.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::soon;
use crate::transport::{HOST, Stream};
use crate::wire::Headers;

/// What a server answered.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, as its `Content-Length` or the end of the connection delimits it.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of the header `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// That the body says nothing: empty, or a single newline.
    ///
    /// # Panics
    /// When it says something.
    pub fn expect_contentless(&self) {
        assert!(
            matches!(&self.body[..], b"" | b"\n"),
            "a body: {:?}",
            self.body
        );
    }
}

/// The request's text. `Host` and nothing else is added.
pub(crate) fn request(method: &str, target: &str, headers: Headers<'_>) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text + "\r\n"
}

/// Sends the text of one request and reads the answer. (What follows a 101 is no body.)
///
/// # Panics
/// When there is no answer.
pub async fn exchange(stream: &mut Stream, request: &str) -> Response {
    soon("an HTTP answer", async {
        stream
            .write_all(request.as_bytes())
            .await
            .expect("the request is sent");
        stream.flush().await.expect("the request is sent");
        let (mut response, surplus) = read_head(stream).await;
        response.body = surplus;
        let length = match response.status {
            101 => Some(0),
            _ => response
                .header("content-length")
                .map(|v| v.parse().expect("a length")),
        };
        let mut chunk = [0; 4096];
        while length.is_none_or(|length: usize| response.body.len() < length) {
            match stream.read(&mut chunk).await.expect("the body is read") {
                0 => break,
                n => response.body.extend_from_slice(&chunk[..n]),
            }
        }
        response
    })
    .await
}

/// Reads up to the end of the headers; also returns the bytes read beyond it.
pub(crate) async fn read_head(stream: &mut Stream) -> (Response, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        let n = stream.read(&mut chunk).await.expect("the answer is read");
        assert_ne!(n, 0, "the connection ended inside the headers: {bytes:?}");
        bytes.extend_from_slice(&chunk[..n]);
    };
    let surplus = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes).expect("headers are text");
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|l| l.split(' ').nth(1))
        .and_then(|s| s.parse().ok());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let status = status.unwrap_or_else(|| panic!("no status line: {head:?}"));
    (
        Response {
            status,
            headers,
            body: Vec::new(),
        },
        surplus,
    )
}
