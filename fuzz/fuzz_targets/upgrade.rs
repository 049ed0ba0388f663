//! A connection's request from its bytes to a 101 or a refusal, through the same HTTP server and the same checks.
#![no_main]

use httparse::{EMPTY_HEADER, Request, Response, Status};
use libfuzzer_sys::fuzz_target;
use pyrycode_relay::config::Proxies;
use pyrycode_relay::fuzzing::{Front, Upgraded, exchange};
use relay_fuzz::socket::{self, Socket};
use std::net::IpAddr;
use tungstenite::handshake::derive_accept_key;

#[path = "../oracle/forwarded.rs"]
mod forwarded;

/// As the relay has it: header fields of a request, and bytes of a head.
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// As the relay has it: bytes of a server-id or an instance.
const NAME_BYTES: usize = 256;

const DOMAIN: &str = "relay.example";
const STATUSES: [u16; 10] = [200, 400, 403, 404, 405, 421, 426, 429, 431, 503];

fuzz_target!(|data: &[u8]| {
    let [how, request @ ..] = data else { return };
    let bytes = relay_fuzz::stretch(request);
    let piece = [usize::MAX, 1, 9, 200][usize::from(how & 3)];
    let socket = Socket::new(bytes.clone(), vec![piece], how & 4 != 0);
    let written = socket.written();
    let proxies = Proxies {
        header: false,
        trusted: vec!["10.0.0.0/8".parse().expect("a network")],
        trust_x_forwarded_for: how & 8 != 0,
    };
    let domain = (how & 16 != 0).then_some(DOMAIN);
    // One of our proxies, or a stranger.
    let peer = match how >> 5 {
        proxy @ ..4 => IpAddr::from([10, 0, 0, proxy]),
        stranger => IpAddr::from([192, 0, 2, stranger]),
    };
    let front = Front {
        domain: domain.map(str::to_owned),
        proxies,
        peer,
    };
    let upgraded = socket::run(exchange(socket, front));
    let written = written.take();

    let mut fields = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = Request::new(&mut fields);
    let head_bytes = match request.parse(&bytes) {
        Ok(Status::Complete(head_bytes)) => head_bytes,
        _ => {
            assert!(upgraded.is_none(), "no complete head");
            0
        }
    };
    let mut fields = [EMPTY_HEADER; 16];
    let mut reply = Response::new(&mut fields);
    let reply_bytes = reply.parse(&written);
    let Some(upgraded) = upgraded else {
        let good = head_bytes > 0 && head_bytes <= MAX_HEAD_BYTES && is_good(&request, domain);
        assert!(!good, "refused: {}", bytes.escape_ascii());
        return check_refusal(&request, &reply, reply_bytes, &written);
    };
    assert!(head_bytes <= MAX_HEAD_BYTES);
    assert_eq!(reply_bytes, Ok(Status::Complete(written.len())));
    check_reply(&request, &reply);
    check_request(&request, domain, &upgraded);
    if how & 8 == 0 {
        check_caller(&request, peer, &upgraded);
    }
    let rest = [&upgraded.early, upgraded.socket.unread()].concat();
    assert_eq!(rest, bytes[head_bytes..], "what follows the request");
});

/// The values of a header.
fn all<'a>(fields: &[httparse::Header<'a>], name: &str) -> Vec<&'a [u8]> {
    let named = fields.iter().filter(|f| f.name.eq_ignore_ascii_case(name));
    named.map(|field| field.value).collect()
}

/// Whether nothing at all is wrong with the request. Of some that may be, this says that something is.
fn is_good(request: &Request<'_, '_>, domain: Option<&str>) -> bool {
    let one = |name: &str| match all(request.headers, name)[..] {
        [value] => value,
        _ => b"",
    };
    let asks = [
        ("connection", &b"Upgrade"[..]),
        ("upgrade", b"websocket"),
        ("sec-websocket-version", b"13"),
    ];
    let required = match request.path {
        Some("/v1/server" | "/v2/server") => &["x-pyrycode-version", "user-agent"][..],
        Some("/v1/client" | "/v2/client") => &["user-agent"],
        _ => return false,
    };
    let unwanted = ["origin", "content-length", "transfer-encoding", "expect"];
    let host = one("host");
    let key = one("sec-websocket-key");
    let server = one("x-pyrycode-server").trim_ascii();
    (request.method, request.version) == (Some("GET"), Some(1))
        && domain.map_or(is_name(host), |domain| host == domain.as_bytes())
        && asks.iter().all(|(name, value)| one(name) == *value)
        && required
            .iter()
            .all(|name| !one(name).trim_ascii().is_empty())
        && unwanted
            .iter()
            .all(|name| all(request.headers, name).is_empty())
        && key.len() == 24
        && key[..21].iter().all(u8::is_ascii_alphanumeric)
        && matches!(key[21..], [b'A' | b'Q' | b'g' | b'w', b'=', b'='])
        && !server.is_empty()
        && [server, one("x-pyrycode-instance")]
            .iter()
            .all(|name| name.len() <= NAME_BYTES)
        && all(request.headers, "x-pyrycode-instance").len() <= 1
        && std::str::from_utf8(server).is_ok()
}

/// Surely the name of a host.
fn is_name(host: &[u8]) -> bool {
    !host.is_empty() && host.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'.')
}

/// Surely not what a Host header may have (RFC 9112, section 3.2; RFC 3986, section 3.2).
fn is_no_host(host: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(b);
    !host.iter().all(allowed)
}

/// What is said instead of a 101, if anything.
fn check_refusal(
    request: &Request<'_, '_>,
    reply: &Response<'_, '_>,
    reply_bytes: httparse::Result<usize>,
    written: &[u8],
) {
    if written.is_empty() {
        return;
    }
    let Ok(Status::Complete(head_bytes)) = reply_bytes else {
        panic!("half an answer: {}", written.escape_ascii());
    };
    let code = reply.code.unwrap_or_default();
    assert!(STATUSES.contains(&code), "status {code}");
    if request.method == Some("HEAD") {
        return;
    }
    let length = all(reply.headers, "content-length");
    let length = length
        .first()
        .and_then(|l| std::str::from_utf8(l).ok()?.parse().ok());
    assert_eq!(length, Some(written.len() - head_bytes));
    assert_eq!(all(reply.headers, "sec-websocket-accept").len(), 0);
}

/// The 101 is what RFC 6455 asks for, and agrees to nothing else.
fn check_reply(request: &Request<'_, '_>, reply: &Response<'_, '_>) {
    assert_eq!(reply.code, Some(101));
    assert_eq!(all(reply.headers, "connection"), [b"Upgrade"]);
    assert_eq!(all(reply.headers, "upgrade"), [b"websocket"]);
    let keys = all(request.headers, "sec-websocket-key");
    let [key] = keys[..] else {
        panic!("{} keys", keys.len());
    };
    let accept = derive_accept_key(key.trim_ascii());
    assert_eq!(
        all(reply.headers, "sec-websocket-accept"),
        [accept.as_bytes()]
    );
    for declined in ["sec-websocket-extensions", "sec-websocket-protocol"] {
        assert_eq!(all(reply.headers, declined).len(), 0);
    }
}

/// The request asked for it.
fn check_request(request: &Request<'_, '_>, domain: Option<&str>, upgraded: &Upgraded<Socket>) {
    assert_eq!((request.method, request.version), (Some("GET"), Some(1)));
    let first = |name: &str| all(request.headers, name).first().map(|v| v.trim_ascii());
    assert_eq!(first("sec-websocket-version"), Some(&b"13"[..]));
    for (name, token) in [("connection", "upgrade"), ("upgrade", "websocket")] {
        let values = all(request.headers, name).join(&b","[..]);
        let mut tokens = values.split(|b| *b == b',').map(<[u8]>::trim_ascii);
        assert!(tokens.any(|t| t.eq_ignore_ascii_case(token.as_bytes())));
    }
    let server = first("x-pyrycode-server").expect("a server-id");
    assert_eq!(upgraded.server_id.as_bytes(), server);
    assert!((1..=NAME_BYTES).contains(&upgraded.server_id.len()));
    assert!(first("user-agent").is_some());
    let path: hyper::Uri = request.path.unwrap_or_default().parse().expect("a target");
    let leg = if upgraded.is_binary {
        "server"
    } else {
        "client"
    };
    assert!(
        ["/v1/", "/v2/"]
            .iter()
            .any(|v| path.path() == format!("{v}{leg}"))
    );
    let hosts = all(request.headers, "host");
    assert_eq!(hosts.len(), 1);
    assert!(
        !is_no_host(hosts[0].trim_ascii()),
        "{}",
        hosts[0].escape_ascii()
    );
    if let Some(domain) = domain {
        let host = match path.authority() {
            Some(authority) => authority.as_str().to_owned(),
            None => String::from_utf8_lossy(hosts[0].trim_ascii()).into_owned(),
        };
        let name = host.split(':').next().unwrap_or_default();
        assert!(name.eq_ignore_ascii_case(domain), "for {host}");
    }
}

/// Our proxies are believed, and nobody else.
fn check_caller(request: &Request<'_, '_>, peer: IpAddr, upgraded: &Upgraded<Socket>) {
    let lines = all(request.headers, "x-forwarded-for");
    // What is no ASCII is in no address, and parts none.
    let lines: Vec<String> = lines
        .into_iter()
        .map(|line| {
            line.iter()
                .map(|&b| if b.is_ascii() { b.into() } else { '?' })
                .collect()
        })
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    if lines.iter().any(|line| line.contains('%')) {
        return;
    }
    let ours = |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 10);
    let client = forwarded::client(peer, &lines, ours);
    assert_eq!(upgraded.remote, client.to_string());
}
