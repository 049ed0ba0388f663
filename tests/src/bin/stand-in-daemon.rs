//! A daemon in a process of its own, so that a test can stop that process: claims a server-id,
//! reads (and so answers pings), and prints what it sees, one line each. It speaks what its parent's
//! run of the tests speaks.
//!
//! Usage: `stand-in-daemon HOST:PORT SERVER-ID`

use futures_util::StreamExt as _;
use relay_tests::{DAEMON_HEADERS, Transport};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let [_, address, server_id] = &std::env::args().collect::<Vec<_>>()[..] else {
        panic!("usage: stand-in-daemon HOST:PORT SERVER-ID")
    };
    let url = format!("ws://{address}/v1/server");
    let mut request = url.into_client_request().expect("a valid URL");
    for (name, value) in [&[("x-pyrycode-server", server_id.as_str())], DAEMON_HEADERS].concat() {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        request
            .headers_mut()
            .append(name, HeaderValue::from_str(value).expect("a header value"));
    }
    let address = address.parse().expect("an IP address and a port");
    let stream = Transport::of_this_run().connect(address).await;
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream)
        .await
        .expect("a 101 for the daemon");
    println!("claimed");
    while let Some(message) = socket.next().await {
        match message {
            Ok(Message::Close(Some(frame))) => {
                println!("close {} {}", u16::from(frame.code), frame.reason);
            }
            Ok(Message::Text(text)) => println!("text {text}"),
            Ok(_) => {}
            Err(error) => return println!("broken {error}"),
        }
    }
    println!("end");
}
