//! `wss://` against a TLS server of the test's own. The certificates next to this file are for
//! `localhost`, valid for a hundred years, and trusted by nobody but this test.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use relay_client::{ConnectError, Endpoint, Options, Socket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Answers every request on TLS with 418: enough to know that TLS and HTTP got through.
async fn teapot() -> u16 {
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/leaf.key")).unwrap();
    let cert = CertificateDer::from_pem_slice(include_bytes!("tls/leaf.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(Arc::new(config.clone()));
            // A client that doesn't trust the certificate ends it here.
            let Ok(mut tls) = acceptor.accept(tcp).await else {
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
    port
}

#[tokio::test]
async fn roots_of_your_own_are_trusted() {
    let endpoint = Endpoint::parse(&format!("wss://localhost:{}", teapot().await)).unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(include_bytes!("tls/ca.pem")).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let options = Options {
        tls: Some(Arc::new(config)),
        ..Options::default()
    };
    let refused = Socket::connect(&endpoint, &[], &options).await.unwrap_err();
    assert_eq!(refused.to_string(), "the relay answered HTTP 418: tea");
}

#[tokio::test]
async fn a_certificate_of_nobody_is_not_trusted() {
    let endpoint = Endpoint::parse(&format!("wss://localhost:{}", teapot().await)).unwrap();
    let refused = Socket::connect(&endpoint, &[], &Options::default())
        .await
        .unwrap_err();
    assert!(matches!(refused, ConnectError::Io(_)), "{refused:?}");
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
}
