//! A client of the admin routes: one that asks, and one that reads the stream of events.

use relay_tests::{
    ADMIN_TOKEN, Headers, Launch, Relay, Response, Stream, Transport, exchange, soon,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A relay whose token is [`ADMIN_TOKEN`].
pub(crate) async fn relay(args: &[&str]) -> Relay {
    launch(args).start().await
}

/// The same, before it starts.
pub(crate) fn launch(args: &[&str]) -> Launch {
    let defaults = [
        "--connect-burst=0",
        "--max-handshakes-per-ip=0",
        "--max-connections-per-ip=0",
        "--rate-burst=0",
        "--boot-park=0s",
    ];
    let given = |default: &&&str| {
        let name = default.split('=').next().unwrap();
        !args.iter().any(|arg| arg.starts_with(name))
    };
    let defaults: Vec<&str> = defaults.iter().filter(given).copied().collect();
    let launch = Launch::new(&[args, &defaults].concat());
    launch.env("PYRYCODE_RELAY_ADMIN_TOKEN", ADMIN_TOKEN)
}

/// A connection to the admin page.
pub(crate) async fn connect(relay: &Relay) -> Stream {
    Transport::Plain.connect(relay.metrics_addr()).await
}

/// A request with exactly these headers, on a connection of its own.
pub(crate) async fn exactly(
    relay: &Relay,
    method: &str,
    target: &str,
    headers: Headers<'_>,
) -> Response {
    exchange(&mut connect(relay).await, &request(method, target, headers)).await
}

pub(crate) fn request(method: &str, target: &str, headers: Headers<'_>) -> String {
    let headers = headers.iter();
    let headers: String = headers.map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\n{headers}\r\n")
}

/// What a `GET` of `target` answers, which must be JSON.
pub(crate) async fn get(relay: &Relay, target: &str) -> Value {
    let response = exactly(relay, "GET", target, &[("Host", "localhost")]).await;
    assert_eq!(response.status, 200, "{target}: {}", response.text());
    serde_json::from_slice(&response.body).unwrap()
}

/// A `POST` with the token: the status, and the JSON of the answer.
pub(crate) async fn post(relay: &Relay, target: &str) -> (u16, Value) {
    let headers = [
        ("Host", "127.0.0.1"),
        ("Content-Length", "0"),
        ("X-Pyrycode-Admin-Token", ADMIN_TOKEN),
    ];
    let response = exactly(relay, "POST", target, &headers).await;
    let body = serde_json::from_slice(&response.body).unwrap();
    (response.status, body)
}

/// The only slot there is.
pub(crate) async fn only_slot(relay: &Relay) -> String {
    let list = get(relay, "/admin/slots").await;
    assert_eq!(list["total"], 1, "{list}");
    list["slots"][0]["slot"].as_str().unwrap().to_owned()
}

/// A stream of events.
pub(crate) struct Events {
    stream: Stream,
    /// Read, and not decoded.
    raw: Vec<u8>,
    /// Decoded, and not taken.
    text: String,
    over: bool,
}

impl Events {
    /// Opens one. Without a stream, the status.
    pub(crate) async fn open(relay: &Relay) -> Result<Self, u16> {
        Self::open_on(connect(relay).await).await
    }

    /// The same, on a connection that exists.
    pub(crate) async fn open_on(mut stream: Stream) -> Result<Self, u16> {
        let request = request("GET", "/admin/events", &[("Host", "localhost")]);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut raw = Vec::new();
        let head = loop {
            if let Some(end) = raw.windows(4).position(|w| w == b"\r\n\r\n") {
                break raw.drain(..end + 4).collect::<Vec<u8>>();
            }
            assert_ne!(soon("a head", stream.read_buf(&mut raw)).await.unwrap(), 0);
        };
        let head = String::from_utf8(head).unwrap().to_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(head.split(' ').nth(1).unwrap().parse().unwrap());
        }
        for header in [
            "content-type: text/event-stream",
            "cache-control: no-store",
            "transfer-encoding: chunked",
        ] {
            assert!(head.contains(header), "{head}");
        }
        Ok(Self {
            stream,
            raw,
            text: String::new(),
            over: false,
        })
    }

    /// The next event: its name and its data. `None` when the stream has ended as it should.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        soon("an event", async {
            loop {
                if let Some((event, rest)) = self.text.split_once("\n\n") {
                    let parsed = parse(event);
                    self.text = rest.to_owned();
                    return Some(parsed);
                }
                if self.over {
                    assert_eq!(self.text, "", "an event is cut off");
                    return None;
                }
                if !self.decode() {
                    let n = self.stream.read_buf(&mut self.raw).await.unwrap();
                    assert_ne!(n, 0, "the stream is cut off");
                }
            }
        })
        .await
    }

    /// The data of the next event with this name.
    pub(crate) async fn next_named(&mut self, wanted: &str) -> Value {
        loop {
            let (name, data) = self.next().await.expect("the stream goes on");
            if name == wanted {
                return data;
            }
        }
    }

    /// Takes one chunk (RFC 9112, section 7.1). False: it is not there yet.
    fn decode(&mut self) -> bool {
        let Some(line) = self.raw.windows(2).position(|w| w == b"\r\n") else {
            return false;
        };
        let size = std::str::from_utf8(&self.raw[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let end = line + 2 + size;
        if self.raw.len() < end + 2 {
            return false;
        }
        let text = std::str::from_utf8(&self.raw[line + 2..end]).unwrap();
        self.text += text;
        self.over = size == 0;
        self.raw.drain(..end + 2);
        true
    }
}

fn parse(event: &str) -> (String, Value) {
    let event = event.strip_prefix("retry: 2000\n").unwrap_or(event);
    let (name, data) = event.split_once('\n').unwrap();
    let name = name.strip_prefix("event: ").unwrap();
    let data = data.strip_prefix("data: ").unwrap();
    (name.to_owned(), serde_json::from_str(data).unwrap())
}
