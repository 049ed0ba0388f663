//! Is it alive, is it ready: on the public listener, on one of its own, and by `healthcheck`.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use relay_tests::{Launch, Relay, Response, Stream, Transport, eventually, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const HEALTH: &str = "--health-listen";

const CLOSE: (&str, &str) = ("Connection", "close");

/// Starts `launch` with a health listener, and waits until that says that the start is over: before,
/// connections are accepted already.
async fn ready(launch: Launch) -> Relay {
    let relay = launch.listener(HEALTH).start().await;
    eventually("the end of the start", || async {
        let ready = relay.http_of(HEALTH, "/readyz").await;
        (ready.status == 200).then_some(())
    })
    .await;
    relay
}

fn assert_says(answer: &Response, status: u16, word: &str) {
    assert_eq!((answer.status, answer.text().trim()), (status, word));
}

fn assert_is_healthz(answer: &Response) {
    assert_eq!(answer.status, 200);
    let start = r#"{"status":"ok","version":""#;
    assert!(answer.text().starts_with(start), "{}", answer.text());
}

#[tokio::test]
async fn the_public_listener_says_that_it_lives_and_is_ready() {
    let relay = ready(Launch::new(&["--rate-burst", "1"])).await;
    for _ in 0..5 {
        for method in ["GET", "HEAD", "POST"] {
            let alive = relay.http(method, "/livez", &[CLOSE]).await;
            let ready = relay.http(method, "/readyz?full", &[CLOSE]).await;
            let words = if method == "HEAD" {
                ["", ""]
            } else {
                ["ok", "ready"]
            };
            assert_says(&alive, 200, words[0]);
            assert_says(&ready, 200, words[1]);
        }
    }
    for path in ["/livez/", "/ready"] {
        assert_eq!(relay.http("GET", path, &[CLOSE]).await.status, 404);
    }
}

/// As `nc -N` does, and health checks written in a hurry: who has said all, and ends its half of the connection, waits for
/// the answer.
#[tokio::test]
async fn a_client_that_has_said_all_is_answered() {
    let relay = ready(Launch::new(&[])).await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n";
    for address in [relay.addr(), relay.listener(HEALTH)] {
        for _ in 0..20 {
            let mut client = match address == relay.addr() {
                true => relay.connect().await,
                false => Stream::Plain(TcpStream::connect(address).await.unwrap()),
            };
            client.write_all(request).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn the_health_listener_serves_health_and_nothing_else() {
    let relay = ready(Launch::new(&["--proxy-protocol"])).await;
    assert_is_healthz(&relay.http_of(HEALTH, "/healthz").await);
    assert_says(&relay.http_of(HEALTH, "/livez").await, 200, "ok");
    assert_says(&relay.http_of(HEALTH, "/readyz").await, 200, "ready");
    for path in ["/", "/metrics", "/v1/server", "/v1/client", "/v2/client"] {
        assert_eq!(relay.http_of(HEALTH, path).await.status, 404, "{path}");
    }
    let address = relay.listener(HEALTH).to_string();
    let line = [("listen", &*address)];
    relay.log.wait("starting health listener", &line).await;
}

/// A full relay is still alive.
#[tokio::test]
async fn health_is_answered_when_every_connection_is_taken() {
    let relay = ready(Launch::new(&["--max-connections", "1"])).await;
    let _daemon = relay.daemon("home").await;
    assert_eq!(relay.try_phone("home").await.err().unwrap().status, 503);
    assert_says(&relay.http_of(HEALTH, "/readyz").await, 200, "ready");
    assert_says(&relay.http("GET", "/readyz", &[CLOSE]).await, 200, "ready");
}

/// `healthcheck` with `args`: its exit code, and all it printed.
async fn healthcheck(args: &[&str]) -> (i32, String) {
    let ended = Launch::new(&["healthcheck"]).args(args).ended().await;
    (ended.code.unwrap(), ended.stdout + &ended.stderr)
}

#[tokio::test]
async fn healthcheck_asks_the_relay_that_the_settings_describe() {
    let relay = ready(Launch::new(&[]).over(Transport::Plain)).await;
    let public = relay.addr().to_string();
    let health = relay.listener(HEALTH).to_string();
    let by_public = ["--insecure-listen", &*public];
    let (code, said) = healthcheck(&by_public).await;
    assert_eq!((code, said.trim()), (0, "ready"));
    // The health listener is asked if there is one.
    let elsewhere = ["--insecure-listen", "127.0.0.1:1", HEALTH, &health];
    assert_eq!(healthcheck(&elsewhere).await.0, 0);
    let tls = ["--self-signed", HEALTH, &*health];
    assert_eq!(healthcheck(&tls).await.0, 0);
    let any = format!(":{}", relay.addr().port());
    assert_eq!(healthcheck(&["--insecure-listen", &any]).await.0, 0);
    let ended = Launch::new(&["healthcheck"])
        .env("PYRYCODE_RELAY_INSECURE_LISTEN", &public)
        .ended()
        .await;
    assert_eq!(ended.code, Some(0), "{ended:?}");

    drop(relay);
    eventually("the check to fail", || async {
        (healthcheck(&by_public).await.0 == 1).then_some(())
    })
    .await;
    let (_, said) = healthcheck(&by_public).await;
    assert!(said.contains(&public), "whom it asked: {said}");
}

/// It can't ask through TLS or behind a PROXY header: it says what to give it instead.
#[tokio::test]
async fn healthcheck_names_the_health_listener_when_it_needs_one() {
    for args in [
        &["--self-signed"][..],
        &["--insecure-listen", "127.0.0.1:8080", "--proxy-protocol"],
    ] {
        let (code, said) = healthcheck(args).await;
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(HEALTH), "{said}");
    }
}

/// A relay that doesn't answer, or that isn't one, is not ready; and the check doesn't hang.
#[tokio::test]
async fn healthcheck_fails_on_anything_but_ready() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    assert_eq!(healthcheck(&["--insecure-listen", &address]).await.0, 1);
    drop(silent);

    for answer in [
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\nConnection: close\r\n\r\ndraining\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "SSH-2.0-no relay at all\r\n",
        "",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let asked = socket.read(&mut [0; 1024]).await.unwrap();
            assert!(asked > 0);
            socket.write_all(answer.as_bytes()).await.unwrap();
        });
        assert_eq!(
            healthcheck(&["--insecure-listen", &address]).await.0,
            1,
            "{answer}"
        );
        server.await.unwrap();
    }
    let nobody = free_port([127, 0, 0, 1].into());
    let nobody = format!("127.0.0.1:{nobody}");
    assert_eq!(healthcheck(&["--insecure-listen", &nobody]).await.0, 1);
}
