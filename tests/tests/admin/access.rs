//! Who may ask, and who may close.

use std::time::{Duration, Instant};

use relay_tests::{ADMIN_TOKEN, Launch, exchange};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{connect, exactly, only_slot, relay, request};

/// Every route, with its method.
const ROUTES: [(&str, &str); 7] = [
    ("GET", "/"),
    ("GET", "/admin/summary"),
    ("GET", "/admin/events"),
    ("GET", "/admin/slots"),
    ("GET", "/admin/slots/0123456789ab"),
    ("POST", "/admin/slots/0123456789ab/close"),
    ("POST", "/admin/slots/0123456789ab/phones/00abcdef/close"),
];

#[tokio::test]
async fn other_names_and_other_sites_get_nowhere() {
    let relay = relay(&[]).await;
    let token = ("X-Pyrycode-Admin-Token", ADMIN_TOKEN);
    let host = ("Host", "localhost:9090");
    for (method, path) in ROUTES {
        for headers in [
            &[token] as &[_],
            &[("Host", ""), token],
            &[("Host", "evil.example"), token],
            &[("Host", "127.0.0.1.evil.example"), token],
            &[("Host", "evil.example:9090"), token],
            &[host, ("Host", "evil.example"), token],
            &[host, ("Sec-Fetch-Site", "cross-site"), token],
            &[host, ("Sec-Fetch-Site", "same-site"), token],
        ] {
            let response = exactly(&relay, method, path, headers).await;
            let said = (method, path, headers);
            // hyper itself has no use for an empty Host.
            assert!(matches!(response.status, 400 | 403), "{said:?}");
            let error: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
            assert!(error["error"].is_string(), "{said:?}");
            assert_eq!(response.header("access-control-allow-origin"), None);
        }
    }
    // Prometheus asks by whatever name it was told.
    let metrics = exactly(&relay, "GET", "/metrics", &[("Host", "evil.example")]).await;
    assert_eq!(metrics.status, 200);
    assert_eq!(metrics.header("connection"), Some("close"));
}

#[tokio::test]
async fn this_machine_may_look_by_all_its_names() {
    let relay = relay(&[]).await;
    for host in ["127.0.0.1", "[::1]:9090", "localhost:1234", "LOCALHOST"] {
        for site in ["same-origin", "none"] {
            let headers = [("Host", host), ("Sec-Fetch-Site", site)];
            let response = exactly(&relay, "GET", "/admin/summary", &headers).await;
            assert_eq!(response.status, 200, "{host} {site}");
            assert_eq!(response.header("cache-control"), Some("no-store"));
            assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        }
    }
}

#[tokio::test]
async fn the_page_loads_nothing_else() {
    let relay = relay(&[]).await;
    let page = exactly(&relay, "GET", "/", &[("Host", "localhost")]).await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "img-src data:",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(page.text().starts_with("<!doctype html>"));
    let mut stream = connect(&relay).await;
    let headers = [("Host", "localhost"), ("Connection", "close")];
    let head = request("HEAD", "/", &headers);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    relay_tests::soon("the end", read).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"));
}

#[tokio::test]
async fn methods_and_paths_that_mean_nothing_are_refused() {
    let relay = relay(&[]).await;
    let host = [("Host", "localhost"), ("Content-Length", "0")];
    for (method, path) in ROUTES {
        for wrong in ["GET", "POST", "PUT", "DELETE", "OPTIONS"] {
            if wrong == method {
                continue;
            }
            let response = exactly(&relay, wrong, path, &host).await;
            assert_eq!(response.status, 405, "{wrong} {path}");
            let allowed = response.header("allow").unwrap();
            assert!(allowed.contains(method), "{wrong} {path}: {allowed}");
        }
    }
    for path in [
        "/admin",
        "/admin/",
        "/admin/nothing",
        "/admin/summary/",
        "/admin/slots/0123456789ab",
        "/admin/slots/0123456789AB",
        "/admin/slots/",
        "/admin/slots/0123456789ab/phones",
        "/page.js",
        "/v1/server",
    ] {
        let response = exactly(&relay, "GET", path, &host).await;
        assert_eq!(response.status, 404, "{path}");
    }
    for query in [
        "state=dead",
        "limit=0",
        "limit=501",
        "offset=x",
        "sort=name",
    ] {
        let path = format!("/admin/slots?{query}");
        let response = exactly(&relay, "GET", &path, &host).await;
        assert_eq!(response.status, 400, "{query}");
        assert!(response.text().contains("write "), "{}", response.text());
    }
}

#[tokio::test]
async fn closing_takes_the_token_and_a_wrong_one_takes_time() {
    let relay = relay(&[]).await;
    let mut daemon = relay.daemon("home").await;
    let path = format!("/admin/slots/{}/close", only_slot(&relay).await);
    let post = async |token: &[(&str, &str)]| {
        let headers = [&[("Host", "localhost"), ("Content-Length", "0")], token].concat();
        exactly(&relay, "POST", &path, &headers).await
    };
    let missing = post(&[]).await;
    assert_eq!(missing.status, 401);
    assert!(missing.text().contains("X-Pyrycode-Admin-Token"));
    let longer = format!("{ADMIN_TOKEN}x");
    for wrong in ["x", &longer, &ADMIN_TOKEN[1..]] {
        let start = Instant::now();
        let response = post(&[("X-Pyrycode-Admin-Token", wrong)]).await;
        assert_eq!(response.status, 401);
        assert!(start.elapsed() >= Duration::from_millis(990), "{wrong}");
        assert!(!response.text().contains(ADMIN_TOKEN));
    }
    daemon.expect_alive().await;
    let response = post(&[("X-Pyrycode-Admin-Token", ADMIN_TOKEN)]).await;
    assert_eq!((response.status, response.text()), (202, "{\"closed\":1}"));
    daemon.expect_close(1001, "closed by the operator").await;
}

#[tokio::test]
async fn a_token_that_nobody_chose_is_printed_once_and_works() {
    let mut relay = Launch::new(&[]).start().await;
    let line = relay.printed().await.unwrap();
    let url = format!("admin page: http://{}/ token: ", relay.metrics_addr());
    let token = line.strip_prefix(&url).unwrap_or_else(|| panic!("{line}"));
    let token = token.trim_end();
    assert!(token.len() == 32 && token.bytes().all(|b| b.is_ascii_hexdigit()));
    let headers = [("Host", "localhost"), ("X-Pyrycode-Admin-Token", token)];
    let unknown = exactly(&relay, "POST", "/admin/slots/0123456789ab/close", &headers).await;
    assert_eq!(unknown.status, 404, "{}", unknown.text());
    let logged = relay.log.lines();
    assert!(!logged.iter().any(|line| line.contains(token)));
    relay.terminate();
    assert_eq!(relay.printed().await, None, "nothing else is printed");
}

#[tokio::test]
async fn a_chosen_token_is_not_printed_and_without_a_page_there_is_none() {
    let mut chosen = crate::client::relay(&[]).await;
    let mut without = Launch::new(&["--metrics-listen", ""]).start().await;
    for relay in [&mut chosen, &mut without] {
        relay.terminate();
        assert_eq!(relay.printed().await, None);
    }
}

#[tokio::test]
async fn check_config_says_only_that_a_token_is_set() {
    let check = async |token: &str| {
        let args = ["check-config", "--insecure-listen", "127.0.0.1:1"];
        let launch = Launch::new(&args).env("PYRYCODE_RELAY_ADMIN_TOKEN", token);
        launch.ended().await
    };
    let ended = check(ADMIN_TOKEN).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said = "# PYRYCODE_RELAY_ADMIN_TOKEN is set\n";
    assert!(ended.stdout.contains(said), "{ended:?}");
    assert!(!ended.stdout.contains(ADMIN_TOKEN), "{ended:?}");
    let short = check("too-short-53cr3t").await;
    assert_eq!(short.code, Some(0), "16 characters are enough: {short:?}");
    let short = check("53cr3t").await;
    assert_eq!(short.code, Some(2), "{short:?}");
    let both = short.stdout + &short.stderr;
    assert!(both.contains("16 characters") && !both.contains("53cr3t"));
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_ends_when_it_is_idle() {
    let relay = relay(&["--header-timeout", "1s"]).await;
    let mut stream = connect(&relay).await;
    for _ in 0..3 {
        let request = request("GET", "/admin/summary", &[("Host", "localhost")]);
        assert_eq!(exchange(&mut stream, &request).await.status, 200);
    }
    let mut rest = Vec::new();
    relay_tests::soon("the end", stream.read_to_end(&mut rest))
        .await
        .unwrap();
}

#[tokio::test]
async fn who_holds_on_to_connections_keeps_others_out_for_a_moment_only() {
    let relay = relay(&["--header-timeout", "1s"]).await;
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(connect(&relay).await);
    }
    let answered = async || {
        let mut stream = connect(&relay).await;
        let request = request("GET", "/metrics", &[("Host", "localhost")]);
        // It may be gone already.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer.starts_with(b"HTTP/1.1 200")
    };
    assert!(!answered().await, "there is no place");
    relay_tests::eventually("a place", || async { answered().await.then_some(()) }).await;
}
