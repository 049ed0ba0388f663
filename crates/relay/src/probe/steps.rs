//! The checks themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use relay_client::{ConnectError, Endpoint, Options, Received, Socket, SocketError, Timeouts};
use relay_proto::envelope::{self, Directive};
use relay_proto::headers;
use rustls::ClientConfig;
use tokio::time::timeout;

use super::Args;
use super::advice;
use super::report::{Failure, Report};
use super::stats::RoundTrips;

const USER_AGENT: &str = concat!("pyrycode-relay-probe/", env!("CARGO_PKG_VERSION"));
/// A code of the range that is free for applications (RFC 6455 §7.4.2), used by nobody here: a
/// relay passes it on without knowing it.
const DIRECTED: u16 = 4999;
/// The frame that the daemon answers with an echo and a close directive.
const LAST: &str = r#""last""#;
/// A holder answers the relay's ping at once, but the relay may take ten seconds to give up on one.
const CONFLICT_TIMEOUT: Duration = Duration::from_secs(20);
/// Above this, a phone without a daemon was made to wait for one.
const PARKED: Duration = Duration::from_secs(1);

/// Dials this relay under this server-id.
struct Dialler {
    relay: Endpoint,
    server_id: String,
    options: Options,
}

impl Dialler {
    async fn daemon(&self) -> Result<Socket, ConnectError> {
        let named = (headers::VERSION, env!("CARGO_PKG_VERSION"));
        self.dial("/v1/server", &[named]).await
    }

    /// With a token: the reference demands one, whatever it says.
    async fn phone(&self) -> Result<Socket, ConnectError> {
        self.dial(
            "/v1/client",
            &[(headers::TOKEN, "probe"), (headers::DEVICE_NAME, "probe")],
        )
        .await
    }

    async fn dial(&self, route: &str, own: &[(&str, &str)]) -> Result<Socket, ConnectError> {
        let endpoint = self
            .relay
            .clone()
            .with_path(&format!("{}{route}", self.relay.path));
        let mut all = vec![
            (headers::SERVER, self.server_id.as_str()),
            (headers::USER_AGENT, USER_AGENT),
        ];
        all.extend_from_slice(own);
        Socket::connect(&endpoint, &all, &self.options).await
    }

    fn cannot(&self, who: &str, error: &ConnectError) -> Failure {
        Failure {
            unreachable: matches!(error, ConnectError::Io(_) | ConnectError::Timeout { .. }),
            ..Failure::new(
                format!("{who} got no connection: {error}"),
                advice::connect(error, &self.relay),
            )
        }
    }
}

/// Runs every step that makes sense after the ones before it.
pub(super) async fn run(
    relay: &Endpoint,
    args: &Args,
    tls: Option<Arc<ClientConfig>>,
    report: &mut Report,
) {
    let mut nonce = [0; 8];
    if let Err(error) = getrandom::fill(&mut nonce) {
        let what = format!("this machine has no randomness: {error}");
        let fix = "start the probe elsewhere".to_owned();
        report.step("start", Duration::ZERO, Err(Failure::new(what, fix)));
        return;
    }
    let timeouts = Timeouts {
        connect: args.timeout,
        write: args.timeout,
        ..Timeouts::default()
    };
    let dialler = Dialler {
        relay: relay.clone(),
        server_id: format!("probe-{:016x}", u64::from_be_bytes(nonce)),
        options: Options {
            timeouts,
            tls,
            ..Options::default()
        },
    };

    let since = Instant::now();
    let result = absent(&dialler, args.timeout).await;
    let reachable = !matches!(&result, Err(failure) if failure.unreachable);
    report.step("absent", since.elapsed(), result);
    if !reachable {
        return;
    }

    let since = Instant::now();
    let daemon = dialler.daemon().await;
    let result = match &daemon {
        Ok(_) => Ok("a daemon claims a server-id".to_owned()),
        Err(error) => Err(dialler.cannot("the daemon", error)),
    };
    report.step("daemon", since.elapsed(), result);
    let Ok(mut daemon) = daemon else { return };

    let since = Instant::now();
    let end = tokio::select! {
        () = with_daemon(&dialler, args, report) => None,
        end = serve(&mut daemon) => Some(end),
    };
    if let Some(what) = end {
        let fix = advice::unexpected_close(None).to_owned();
        let what = format!("the daemon lost its connection: {what}");
        report.step("daemon", since.elapsed(), Err(Failure::new(what, fix)));
    }
    daemon.close(1000, "probe is done").await;
}

/// The steps that need a daemon, which is served meanwhile.
async fn with_daemon(dialler: &Dialler, args: &Args, report: &mut Report) {
    let since = Instant::now();
    let phone = dialler.phone().await;
    let result = match &phone {
        Ok(_) => Ok("a phone connects".to_owned()),
        Err(error) => Err(dialler.cannot("the phone", error)),
    };
    report.step("phone", since.elapsed(), result);
    let Ok(mut phone) = phone else { return };

    let since = Instant::now();
    let result = echoes(&mut phone, args).await;
    let result = result.map(|times| report.round_trips(&times, args.size as usize));
    if !report.step("echo", since.elapsed(), result) {
        return;
    }
    if !args.skip_conflict {
        let since = Instant::now();
        let mut result = conflict(dialler).await;
        if result.is_ok()
            && let Err(failure) = echo(&mut phone, "0", args.timeout).await
        {
            result = Err(failure);
        }
        report.step("conflict", since.elapsed(), result);
    }
    let since = Instant::now();
    let result = directed(&mut phone, args.timeout).await;
    report.step("close", since.elapsed(), result);
    phone.close(1000, "").await;
}

/// A phone of a server-id that nobody holds.
async fn absent(dialler: &Dialler, within: Duration) -> Result<String, Failure> {
    let since = Instant::now();
    let mut phone = dialler
        .phone()
        .await
        .map_err(|error| dialler.cannot("a phone", &error))?;
    let (code, reason) = closed(&mut phone, within).await?;
    phone.close(1000, "").await;
    if code != Some(4404) {
        return Err(Failure::new(
            format!(
                "a phone without a daemon was closed with {}",
                shown(code, &reason)
            ),
            "expected 4404: check that this is a pyrycode relay, and its log",
        ));
    }
    let waited = if since.elapsed() > PARKED {
        ", after a wait for its daemon (the relay has just been started)"
    } else {
        ""
    };
    Ok(format!(
        "a phone without a daemon is closed with {}{waited}",
        shown(code, &reason)
    ))
}

/// A second daemon for the same server-id.
async fn conflict(dialler: &Dialler) -> Result<String, Failure> {
    let second = dialler.daemon().await;
    let mut second = second.map_err(|error| dialler.cannot("a second daemon", &error))?;
    let (code, reason) = closed(&mut second, CONFLICT_TIMEOUT).await?;
    second.close(1000, "").await;
    match code {
        Some(4409) => Ok(format!(
            "a second daemon is closed with {}",
            shown(code, &reason)
        )),
        _ => Err(Failure::new(
            format!("a second daemon was closed with {}", shown(code, &reason)),
            advice::unexpected_close(code),
        )),
    }
}

/// As many echoes as asked for, one after the other.
async fn echoes(phone: &mut Socket, args: &Args) -> Result<RoundTrips, Failure> {
    let mut times = RoundTrips::default();
    for n in 0..args.round_trips {
        let since = Instant::now();
        echo(phone, &payload(n, args.size as usize), args.timeout).await?;
        times.push(since.elapsed());
    }
    Ok(times)
}

/// A JSON number of exactly `size` digits, different for each `n` as far as it has room.
fn payload(n: u32, size: usize) -> String {
    let number = n.to_string();
    let digits = &number[number.len().saturating_sub(size - 1)..];
    format!("1{}{digits}", "0".repeat(size - 1 - digits.len()))
}

/// One frame to the daemon and back, to the byte.
async fn echo(phone: &mut Socket, text: &str, within: Duration) -> Result<(), Failure> {
    phone
        .send_text(text.as_bytes())
        .await
        .map_err(|error| broken(&error))?;
    let frame = next(phone, within).await?;
    match frame {
        Received::Text(bytes) if bytes == text.as_bytes() => Ok(()),
        Received::Close { code, reason } => Err(Failure::new(
            format!("the phone was closed with {}", shown(code, &reason)),
            advice::unexpected_close(code),
        )),
        _ => Err(Failure::new(
            "an echo came back changed".to_owned(),
            "look for a proxy that rewrites traffic; the relay must not",
        )),
    }
}

/// The daemon asks for the phone's end, with a last frame.
async fn directed(phone: &mut Socket, within: Duration) -> Result<String, Failure> {
    echo(phone, LAST, within).await?;
    match closed(phone, within).await? {
        (Some(DIRECTED), _) => Ok(format!(
            "a daemon's close code reaches the phone ({DIRECTED}), after its last frame"
        )),
        (code, reason) => Err(Failure::new(
            format!(
                "the daemon asked for {DIRECTED}, the phone got {}",
                shown(code, &reason)
            ),
            advice::unexpected_close(code),
        )),
    }
}

/// The daemon: echoes everything, [`LAST`] with a close directive, until its connection ends.
async fn serve(daemon: &mut Socket) -> String {
    let directive = format!(r#","close_code":{DIRECTED}"#);
    loop {
        let message = match daemon.recv().await {
            Ok(Received::Text(message) | Received::Binary(message)) => message,
            Ok(Received::Pong(_)) => continue,
            Ok(Received::Close { code, reason }) => {
                return format!("closed with {}", shown(code, &reason));
            }
            Err(error) => return error.to_string(),
        };
        if let Ok(Directive::Frame { conn_id, frame }) = envelope::parse(&message) {
            let last = if frame == LAST.as_bytes() {
                directive.as_str()
            } else {
                ""
            };
            let prefix = envelope::prefix(&conn_id);
            let answer = [&prefix, frame, last.as_bytes(), envelope::SUFFIX].concat();
            if let Err(error) = daemon.send_text(&answer).await {
                return error.to_string();
            }
        }
    }
}

/// Waits for the peer's Close, whatever comes before it.
async fn closed(socket: &mut Socket, within: Duration) -> Result<(Option<u16>, String), Failure> {
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Received::Close { code, reason } = next(socket, left).await? {
            return Ok((code, reason));
        }
    }
}

async fn next(socket: &mut Socket, within: Duration) -> Result<Received, Failure> {
    match timeout(within, socket.recv()).await {
        Ok(received) => received.map_err(|error| broken(&error)),
        Err(_) => Err(Failure::new(
            format!("nothing came within {within:.1?}"),
            "look at the relay's log, or give a longer --timeout",
        )),
    }
}

fn broken(error: &SocketError) -> Failure {
    Failure::new(
        format!("the connection broke: {error}"),
        advice::unexpected_close(None),
    )
}

fn shown(code: Option<u16>, reason: &str) -> String {
    let code = code.map_or("no code".to_owned(), |code| code.to_string());
    if reason.is_empty() {
        code
    } else {
        format!("{code} ({reason})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_size_and_are_json() {
        for size in [1, 2, 3, 256, 131_072] {
            for n in [0, 7, 4_000_000_000] {
                let text = payload(n, size);
                assert_eq!(text.len(), size);
                assert!(
                    relay_proto::json::validate(text.as_bytes()).is_ok(),
                    "{text}"
                );
            }
        }
        assert_ne!(payload(1, 256), payload(2, 256));
    }
}
