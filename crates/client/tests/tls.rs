//! `wss://` against a TLS server of the test's own. The certificates next to this file are for
//! `localhost`, valid for a hundred years, and trusted by nobody but this test.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use relay_client::{ConnectError, Endpoint, Options, Socket};
use relay_proto::handshake::accept_key;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

fn acceptor() -> TlsAcceptor {
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/leaf.key")).unwrap();
    let cert = CertificateDer::from_pem_slice(include_bytes!("tls/leaf.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Trusts that certificate.
fn trusting() -> Options {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(include_bytes!("tls/ca.pem")).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Options {
        tls: Some(Arc::new(config)),
        ..Options::default()
    }
}

/// Listens on a free port of `localhost`.
async fn listen() -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let endpoint = Endpoint::parse(&format!("wss://localhost:{port}"));
    (listener, endpoint.unwrap())
}

/// Answers every request on TLS with 418: enough to know that TLS and HTTP got through.
async fn teapot() -> Endpoint {
    let (listener, endpoint) = listen().await;
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            // A client that doesn't trust the certificate ends it here.
            let Ok(mut tls) = acceptor().accept(tcp).await else {
                continue;
            };
            let mut request = [0; 1024];
            assert!(tls.read(&mut request).await.unwrap() > 0);
            let _ = tls
                .write_all(b"HTTP/1.1 418 x\r\nContent-Length: 3\r\n\r\ntea")
                .await;
            let _ = tls.shutdown().await;
        }
    });
    endpoint
}

#[tokio::test]
async fn roots_of_your_own_are_trusted() {
    let refused = Socket::connect(&teapot().await, &[], &trusting()).await;
    let refused = refused.unwrap_err().to_string();
    assert_eq!(refused, "the relay answered HTTP 418: tea");
}

#[tokio::test]
async fn a_certificate_of_nobody_is_not_trusted() {
    let refused = Socket::connect(&teapot().await, &[], &Options::default())
        .await
        .unwrap_err();
    assert!(matches!(refused, ConnectError::Io(_)), "{refused:?}");
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
}

/// Takes one connection, upgrades it, and counts the bytes that arrive until it ends.
async fn count(listener: TcpListener) -> usize {
    let (tcp, _) = listener.accept().await.unwrap();
    let mut tls = acceptor().accept(tcp).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tls.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let (_, key) = head.split_once("Sec-WebSocket-Key: ").unwrap();
    let accept = accept_key(key.lines().next().unwrap().as_bytes());
    let response = format!(
        "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    tls.write_all(response.as_bytes()).await.unwrap();
    let (mut arrived_bytes, mut buffer) = (0, vec![0; 1 << 16]);
    // It ends without TLS's own farewell, which is an error here.
    while let Ok(count @ 1..) = tls.read(&mut buffer).await {
        arrived_bytes += count;
    }
    arrived_bytes
}

/// What TLS holds does not show in `queued_bytes`, so it must be little.
#[tokio::test]
async fn tls_takes_hardly_more_than_the_network() {
    let (listener, endpoint) = listen().await;
    let counted = tokio::spawn(count(listener));
    let mut socket = Socket::connect(&endpoint, &[], &trusting()).await.unwrap();
    // Far more than the operating system takes at once.
    socket.queue_text(&vec![b'1'; 32 << 20]).unwrap();
    let queued_bytes = socket.queued_bytes();
    let mut flush = Box::pin(socket.flush());
    let polled = poll_fn(|cx| Poll::Ready(flush.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
    drop(flush);
    let taken_bytes = queued_bytes - socket.queued_bytes();
    drop(socket);
    // One record waited, and a part of another left in vain.
    let held_bytes = taken_bytes - counted.await.unwrap();
    assert!(held_bytes <= 2 * 16 * 1024, "{held_bytes}");
}
