//! The echo endpoint for WebSocket conformance suites: `echo --listen 127.0.0.1:9001`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pyrycode_relay::session::echo;
use relay_proto::handshake;
use relay_proto::ws::{Limits, Utf8};
use std::convert::Infallible;
use tokio::net::{TcpListener, TcpStream};

/// The suites' largest message is 16 MiB.
const LIMITS: Limits = Limits {
    message_bytes: 64 * 1024 * 1024,
    utf8: Utf8::TextOnly,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip_while(|arg| arg != "--listen").skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:9001".into());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(upgrade))
                .with_upgrades(),
        );
    }
}

async fn upgrade(
    mut request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let key = request
        .headers()
        .get("sec-websocket-key")
        .map(|key| key.as_bytes().to_vec());
    let on_upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = on_upgrade.await else {
            return;
        };
        if let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() {
            echo::serve(parts.io.into_inner(), LIMITS, parts.read_buf).await;
        }
    });
    let accept = handshake::accept_key(&key.unwrap_or_default());
    let reply = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", accept);
    Ok(reply.body(Full::default()).unwrap_or_default())
}
