//! Behind real proxies, configured as `packaging/` says: haproxy with the PROXY protocol in front
//! of a relay that ends TLS itself (or serves plain HTTP), nginx and haproxy as HTTP proxies.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use relay_tests::{
    DAEMON_HEADERS, Daemon, Headers, Launch, PHONE_HEADERS, Peer, Phone, Proxy, Refused, Relay,
    Transport, certificate, eventually, frame, free_port, json_of, packaged, server_program,
    skipped, soon,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Where the proxies run. They alone are trusted.
const PROXY: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Two clients of the proxy, and one that goes around it.
const ALICE: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
const BOB: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 2);
const MALLORY: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 3);

/// An address that nobody has, and that Mallory would like to have.
const CLAIMED: &str = "198.51.100.7";

/// A proxy, and how it tells the relay who is calling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    /// haproxy, with the PROXY protocol.
    Tcp(&'static str),
    /// haproxy, with `X-Forwarded-For` in a line of its own.
    Haproxy,
    /// nginx, with `X-Forwarded-For` appended to what the client sent.
    Nginx,
}

const FRONTS: [Front; 5] = [
    Front::Tcp("send-proxy"),
    Front::Tcp("send-proxy-v2"),
    Front::Tcp("send-proxy-v2 proxy-v2-options crc32c,ssl,cert-cn"),
    Front::Haproxy,
    Front::Nginx,
];

/// A relay behind a proxy.
struct Site {
    relay: Relay,
    proxy: Proxy,
}

impl Front {
    /// Whether its program is here; notes it if not.
    fn is_installed(self, test: &str) -> bool {
        let name = match self {
            Self::Tcp(_) | Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        };
        let found = server_program(name);
        if let Err(why) = &found {
            skipped(test, why);
        }
        found.is_ok()
    }

    /// The proxy in front of a new relay with `args`. On a run over TLS, haproxy passes it through
    /// and the others end it.
    async fn before_a_relay(self, args: &[&str]) -> Site {
        let clients = Transport::of_this_run();
        let launch = Launch::new(&["--trust-proxy", &PROXY.to_string()]).args(args);
        let launch = match (self, clients) {
            (Self::Tcp(_), Transport::Plain) => launch.args(&["--proxy-protocol"]).over(clients),
            (Self::Tcp(_), Transport::Tls) => {
                launch.args(&["--https-proxy-protocol"]).over(clients)
            }
            _ => launch.over(Transport::Plain),
        };
        let relay = launch.start().await;
        let upstream = relay.addr();
        let proxy = match self {
            Self::Tcp(options) => {
                Proxy::haproxy(clients, |addr| tcp_configuration(addr, upstream, options)).await
            }
            Self::Haproxy => {
                // It is read when haproxy starts, and not later.
                let both = tempfile::NamedTempFile::new().unwrap();
                Proxy::haproxy(clients, |addr| {
                    http_configuration(clients, addr, upstream, both.path())
                })
                .await
            }
            Self::Nginx => {
                Proxy::nginx(clients, |addr| nginx_configuration(clients, addr, upstream)).await
            }
        };
        Site { relay, proxy }
    }
}

/// The packaged configuration of haproxy, with `options` for the relay.
fn tcp_configuration(addr: SocketAddr, relay: SocketAddr, options: &str) -> String {
    let http = SocketAddr::from((PROXY, free_port(PROXY)));
    packaged(
        "haproxy/pyrycode-relay.cfg",
        &[
            (":443,[::]:443 v6only", &addr.to_string()),
            (":80,[::]:80 v6only", &http.to_string()),
            ("127.0.0.1:8443", &relay.to_string()),
            ("send-proxy-v2", options),
            // Each takes two descriptors, which the tests may not have.
            ("maxconn 28000", "maxconn 400"),
        ],
    )
}

/// haproxy as an HTTP proxy. It wants certificate and key in one file, which is written to `both`.
fn http_configuration(
    clients: Transport,
    addr: SocketAddr,
    relay: SocketAddr,
    both: &Path,
) -> String {
    let files = ["leaf.pem", "leaf.key"].map(|file| std::fs::read(certificate(file)).unwrap());
    std::fs::write(both, files.concat()).unwrap();
    let tls = match clients {
        Transport::Plain => String::new(),
        Transport::Tls => format!("ssl crt {}", both.display()),
    };
    format!(
        "
defaults
    mode http
    option forwardfor
    timeout connect 5s
    timeout client 120s
    timeout server 120s
frontend public
    bind {addr} {tls}
    default_backend relay
backend relay
    server relay {relay}
"
    )
}

/// The packaged configuration of nginx. Without TLS two lines of it change.
fn nginx_configuration(clients: Transport, addr: SocketAddr, relay: SocketAddr) -> String {
    let [leaf, key] = ["leaf.pem", "leaf.key"].map(|file| certificate(file).display().to_string());
    let listen = match clients {
        Transport::Plain => format!("listen {addr};"),
        Transport::Tls => format!("listen {addr} ssl;"),
    };
    packaged(
        "nginx/pyrycode-relay.conf",
        &[
            ("listen 443 ssl;", &listen),
            ("listen [::]:443 ssl;", ""),
            ("127.0.0.1:8080;", &format!("{relay};")),
            ("/etc/ssl/relay.example.com/fullchain.pem", &leaf),
            ("/etc/ssl/relay.example.com/privkey.pem", &key),
            ("relay.example.com", "relay.test"),
        ],
    )
}

impl Site {
    /// A dial through the proxy.
    async fn dial(&self, who: Ipv4Addr, path: &str, headers: Headers<'_>) -> Result<Peer, Refused> {
        let stream = self.proxy.connect_from(who).await;
        self.relay.upgrade_on(stream, path, headers).await
    }

    /// A daemon's dial through the proxy, with further headers.
    async fn claim(&self, who: Ipv4Addr, id: &str, more: Headers<'_>) -> Result<Daemon, Refused> {
        let headers = [&[("x-pyrycode-server", id)], DAEMON_HEADERS, more].concat();
        self.dial(who, "/v1/server", &headers).await.map(Daemon)
    }

    /// A phone's dial through the proxy.
    async fn phone(&self, who: Ipv4Addr, id: &str) -> Phone {
        let headers = [&[("x-pyrycode-server", id)], PHONE_HEADERS].concat();
        Phone(self.dial(who, "/v1/client", &headers).await.unwrap())
    }

    /// That the log has `event` of this server-id, caused by `who`.
    async fn assert_logged(&self, event: &str, server_id: &str, who: Ipv4Addr) {
        let line = self
            .relay
            .log
            .wait(event, &[("server_id", server_id)])
            .await;
        assert_eq!(line.get("remote"), Some(&*who.to_string()), "{}", line.line);
    }

    fn assert_never_logged(&self, text: &str) {
        let lines = self.relay.log.lines();
        assert!(!lines.iter().any(|line| line.contains(text)), "{lines:#?}");
    }
}

/// The value that `rate_limited` has for its `remote`.
fn quoted(who: Ipv4Addr) -> String {
    format!("\"{who}\"")
}

#[tokio::test]
async fn a_pair_exchanges_frames_and_closes_through_each_proxy() {
    for front in FRONTS {
        if !front.is_installed("a_pair_exchanges_frames_and_closes_through_each_proxy") {
            continue;
        }
        let site = front.before_a_relay(&[]).await;
        let mut daemon = site.claim(ALICE, "home", &[]).await.unwrap();
        let mut phone = site.phone(BOB, "home").await;
        site.assert_logged("server_claimed", "home", ALICE).await;
        site.assert_logged("phone_registered", "home", BOB).await;

        let conn_id = daemon.hear(&mut phone).await;
        let large = json_of(200 * 1024);
        for n in 0..20 {
            phone.send(&frame(n));
            phone.send(&large);
            daemon.send_to(&conn_id, &large);
            daemon.send_to(&conn_id, &frame(n));
        }
        for n in 0..20 {
            daemon.expect_frame_from(&conn_id, &frame(n)).await;
            daemon.expect_frame_from(&conn_id, &large).await;
            phone.expect_frame(&large).await;
            phone.expect_frame(&frame(n)).await;
        }
        daemon.expect_alive().await;
        phone.expect_alive().await;

        daemon.close_phone(&conn_id, Some(&frame(99)), 4401);
        phone.expect_frame(&frame(99)).await;
        phone.expect_close(4401, "").await;

        let mut phone = site.phone(BOB, "home").await;
        let conn_id = daemon.hear(&mut phone).await;
        phone.close(4000, "bye");
        daemon.expect_notice(&conn_id, 4000).await;
        phone.expect_echo(4000, "bye").await;

        // A connection that vanishes does so on the other side of the proxy, too.
        let mut phone = site.phone(BOB, "home").await;
        let conn_id = daemon.hear(&mut phone).await;
        phone.cut().await;
        daemon.expect_notice(&conn_id, 1001).await;
    }
}

#[tokio::test]
async fn the_limits_of_one_address_are_those_of_the_client_behind_the_proxy() {
    let limits = [
        "--max-connections-per-ip",
        "2",
        "--rate-burst",
        "3",
        "--rate-per-minute",
        "1",
    ];
    for front in FRONTS {
        if !front.is_installed("the_limits_of_one_address_are_those_of_the_client_behind_the_proxy")
        {
            continue;
        }
        let site = front.before_a_relay(&limits).await;
        let mut connected = Vec::new();
        for (who, ids) in [(ALICE, ["a", "b"]), (BOB, ["c", "d"])] {
            for id in ids {
                connected.push(site.claim(who, id, &[]).await.unwrap());
            }
            let refused = site.claim(who, "e", &[]).await.err().unwrap();
            assert_eq!(refused.status, 429, "{front:?}");
            let remote = [("remote", &*who.to_string())];
            site.relay.log.wait("ip_conn_cap_reached", &remote).await;
            let refused = site.claim(who, "e", &[]).await.err().unwrap();
            assert_eq!(refused.status, 429, "{front:?}");
            let remote = [("remote", &*quoted(who))];
            site.relay.log.wait("rate_limited", &remote).await;
        }
        for daemon in &mut connected {
            daemon.expect_alive().await;
        }
    }
}

/// Alice has used up what she may; saying that she is somebody else helps her nothing.
#[tokio::test]
async fn what_a_client_says_of_itself_through_the_proxy_counts_nothing() {
    for front in FRONTS {
        if !front.is_installed("what_a_client_says_of_itself_through_the_proxy_counts_nothing") {
            continue;
        }
        let site = front
            .before_a_relay(&["--rate-burst", "1", "--rate-per-minute", "1"])
            .await;
        let _daemon = site.claim(ALICE, "home", &[]).await.unwrap();
        let lists = [
            CLAIMED,
            "198.51.100.7, 127.0.0.1",
            "127.0.0.1",
            "unknown",
            "",
        ];
        for (n, list) in lists.into_iter().enumerate() {
            let forged = [("x-forwarded-for", list), ("x-forwarded-for", list)];
            let refused = site.claim(ALICE, "again", &forged).await.err().unwrap();
            assert_eq!(refused.status, 429, "{front:?} {list:?}");
            let remote = [("remote", &*quoted(ALICE))];
            site.relay
                .log
                .wait_nth(n + 1, "rate_limited", &remote)
                .await;
        }
        // A PROXY header of her own. Over TLS it is no ClientHello, without it no request.
        let header = format!("PROXY TCP4 {CLAIMED} 192.0.2.1 4711 443\r\n");
        let mut tcp = site.proxy.tcp_from(ALICE).await;
        let answer = answer_to(&mut tcp, &(header + &upgrade_request())).await;
        assert!(!answer.contains(" 101 "), "{front:?}: {answer}");
        site.assert_never_logged(CLAIMED);

        let _daemon = site.claim(BOB, "bob", &[]).await.unwrap();
        site.assert_logged("server_claimed", "bob", BOB).await;
    }
}

/// Who reaches the relay's own port is refused where only the proxy has business, and is himself
/// where everybody has.
#[tokio::test]
async fn the_way_around_the_proxy_leads_nowhere() {
    let header = format!("PROXY TCP4 {CLAIMED} 192.0.2.1 4711 443\r\n");
    for front in FRONTS {
        if !front.is_installed("the_way_around_the_proxy_leads_nowhere") {
            continue;
        }
        let site = front.before_a_relay(&[]).await;
        if let Front::Tcp(_) = front {
            for begin in [&*header, ""] {
                let mut tcp = site.relay.tcp_from(MALLORY).await;
                let answer = answer_to(&mut tcp, &format!("{begin}{}", upgrade_request())).await;
                assert_eq!(answer, "", "{front:?} {begin:?}");
            }
        } else {
            let stream = site.relay.over(site.relay.tcp_from(MALLORY).await).await;
            let id = [("x-pyrycode-server", "home"), ("x-forwarded-for", CLAIMED)];
            let headers = [&id[..], DAEMON_HEADERS].concat();
            let _daemon = site
                .relay
                .upgrade_on(stream, "/v1/server", &headers)
                .await
                .unwrap();
            site.assert_logged("server_claimed", "home", MALLORY).await;
        }
        site.assert_never_logged(CLAIMED);
    }
}

/// The limit at the accept: who is over it is told nothing, and the proxy's other clients are let in.
#[tokio::test]
async fn connections_are_counted_by_the_client_in_the_proxy_header() {
    for front in [Front::Tcp("send-proxy"), Front::Tcp("send-proxy-v2")] {
        if !front.is_installed("connections_are_counted_by_the_client_in_the_proxy_header") {
            continue;
        }
        let site = front
            .before_a_relay(&["--connect-burst", "2", "--connect-per-second", "1"])
            .await;
        let _daemons = [
            site.claim(ALICE, "a", &[]).await.unwrap(),
            site.claim(ALICE, "b", &[]).await.unwrap(),
        ];
        // She gets one back each second, so it may be the second or third that is one too many.
        eventually("a connection of hers to be dropped", || async {
            let mut tcp = site.proxy.tcp_from(ALICE).await;
            let answer = answer_to(&mut tcp, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            answer.is_empty().then_some(())
        })
        .await;
        let line = site.relay.log.wait("connections_dropped", &[]).await;
        assert_eq!(line.get("remote"), Some(&*ALICE.to_string()));
        let _daemon = site.claim(BOB, "c", &[]).await.unwrap();
    }
}

/// In version 2 haproxy's checks say LOCAL, which is believed of `--trust-proxy` only; in version 1
/// they say who they are, like everybody.
#[tokio::test]
async fn health_checks_of_haproxy_are_green() {
    if !Front::Haproxy.is_installed("health_checks_of_haproxy_are_green") {
        return;
    }
    let clients = Transport::of_this_run();
    let over_tls = match clients {
        Transport::Plain => "",
        Transport::Tls => " check-ssl verify none check-sni relay.test",
    };
    let ours = Launch::new(&["--proxy-protocol", "--trust-proxy", "127.0.0.0/8"]);
    let strict = Launch::new(&["--proxy-protocol"]);
    for (launch, options, expected) in [
        (&ours, "send-proxy", "UP"),
        (&ours, "send-proxy-v2", "UP"),
        (&strict, "send-proxy", "UP"),
        (&strict, "send-proxy-v2", "DOWN"),
    ] {
        let relay = launch.clone().start().await;
        let options = format!("{options} inter 100ms fall 1{over_tls}");
        let proxy = Proxy::haproxy(clients, |addr| {
            let packaged = tcp_configuration(addr, relay.addr(), &options);
            let backend = "\nbackend relay_tls\n";
            assert!(packaged.contains(backend));
            packaged.replace(
                backend,
                &format!("{backend}    option httpchk GET /readyz\n"),
            )
        })
        .await;
        eventually(&format!("{options}: {expected}"), || async {
            let (status, check) = proxy.server_state("relay").await;
            (status == expected && (check == "L7OK") == (expected == "UP")).then_some(())
        })
        .await;
    }
}

/// As packaged, a check is a connection with a header and nothing else.
#[tokio::test]
async fn the_packaged_check_of_haproxy_is_green() {
    let front = Front::Tcp("send-proxy-v2");
    if !front.is_installed("the_packaged_check_of_haproxy_is_green") {
        return;
    }
    let site = front.before_a_relay(&[]).await;
    eventually("the check to be green", || async {
        let state = site.proxy.server_state("relay").await;
        (state == ("UP".into(), "L4OK".into())).then_some(())
    })
    .await;
}

fn upgrade_request() -> String {
    "GET /v1/server HTTP/1.1\r\nHost: relay.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
     X-Pyrycode-Server: mallory\r\nX-Pyrycode-Version: 1\r\nUser-Agent: pyry/1\r\n\r\n"
        .to_owned()
}

/// What comes back for `request` until the connection ends, in whatever way.
async fn answer_to(tcp: &mut TcpStream, request: &str) -> String {
    // The other side may have hung up before everything is written, and may end by a reset.
    let _ = tcp.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = soon("the end of the connection", tcp.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}
