//! From an error to what its reader can do about it.

use std::io::ErrorKind;

use relay_client::{ConnectError, Endpoint};

/// What to do about a connection that did not come about.
pub(super) fn connect(error: &ConnectError, relay: &Endpoint) -> String {
    let authority = relay.authority();
    match error {
        ConnectError::Io(error) => match error.kind() {
            ErrorKind::ConnectionRefused => {
                format!("nothing listens at {authority}: start the relay, or correct host and port")
            }
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset if !relay.tls => {
                "the connection was cut before an answer: if it is a TLS port, use wss://".to_owned()
            }
            ErrorKind::InvalidData if relay.tls => {
                "TLS failed: check the certificate, its names and its dates; for a plain port use ws://".to_owned()
            }
            _ => format!("check that {authority} can be reached from here: name, route, firewall"),
        },
        ConnectError::Timeout { .. } => {
            format!("check that {authority} can be reached from here, or give a longer --timeout")
        }
        ConnectError::Refused { status, retry_after, .. } => refused(*status, *retry_after),
        ConnectError::NotWebSocket(_) => {
            "something else answers there: check host, port and path, and what the proxy routes".to_owned()
        }
        ConnectError::Header { .. } | ConnectError::NoTls => "this build can't do that".to_owned(),
    }
}

fn refused(status: u16, retry_after: Option<std::time::Duration>) -> String {
    let text = match status {
        301 | 302 | 307 | 308 => {
            "the proxy redirects: give the URL it redirects to (mostly wss://)"
        }
        400 => "a required header did not arrive: let the proxy pass user-agent and x-pyrycode-*",
        401 | 403 => {
            "something before the relay asks for a login: exempt /v1/server and /v1/client"
        }
        404 => "no relay under this path: check the URL, and what the proxy routes",
        421 => "the relay serves another host name: use the one of its certificate",
        426 => "the proxy dropped Upgrade or Connection: turn WebSocket on for this route",
        429 => {
            let wait = retry_after.map_or(60, |wait| wait.as_secs().max(1));
            return format!("the rate limit for this address is reached: try again in {wait} s");
        }
        502 | 504 => {
            "the proxy does not reach the relay: check that it runs, and the proxy's target"
        }
        503 => "the relay is full or shutting down: raise --max-connections, or wait",
        _ => "check what answers there; a relay answers 101",
    };
    text.to_owned()
}

/// What to do about a close code that is not the one that belongs there.
pub(super) fn unexpected_close(code: Option<u16>) -> &'static str {
    match code {
        Some(1001) => "the relay is shutting down: try again when it is back",
        Some(1011) => "the relay waited for a pong in vain: look for a proxy that swallows pings",
        Some(4404) => {
            "the relay lost the daemon: look at its log, and for two instances behind one name"
        }
        Some(4409) => {
            "the relay took a fresh server-id for claimed: look for a proxy that repeats requests"
        }
        Some(4429) => "the relay allows fewer phones than it should: look at its settings",
        None => {
            "the connection was cut without a close frame: look for a proxy's idle or size limit"
        }
        Some(_) => "look at the relay's log for this server-id",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_gets_a_sentence_that_names_the_fix() {
        let relay = Endpoint::parse("ws://relay.test:81").unwrap();
        let refused = |status| ConnectError::Refused {
            status,
            retry_after: None,
            body: String::new(),
        };
        let io = |kind| ConnectError::Io(std::io::Error::from(kind));
        for (error, fix) in [
            (io(ErrorKind::ConnectionRefused), "start the relay"),
            (io(ErrorKind::UnexpectedEof), "use wss://"),
            (io(ErrorKind::HostUnreachable), "relay.test:81"),
            (
                ConnectError::Timeout {
                    after: std::time::Duration::from_secs(5),
                },
                "--timeout",
            ),
            (refused(401), "exempt /v1/server"),
            (refused(421), "name"),
            (refused(502), "proxy's target"),
            (refused(500), "answers 101"),
            (refused(301), "redirects to"),
            (refused(400), "x-pyrycode-"),
            (refused(404), "path"),
            (refused(426), "turn WebSocket on"),
            (refused(429), "in 60 s"),
            (refused(503), "--max-connections"),
            (ConnectError::NotWebSocket("x"), "check host"),
        ] {
            let text = connect(&error, &relay);
            assert!(text.contains(fix), "{error}: {text}");
        }
    }

    #[test]
    fn every_unexpected_end_gets_one_of_its_own() {
        let codes = [Some(1001), Some(1011), Some(4404), Some(4409), Some(4429)];
        let ends = codes.into_iter().chain([None, Some(1000)]);
        let advice: std::collections::BTreeSet<_> = ends.map(unexpected_close).collect();
        assert_eq!(advice.len(), 7);
    }
}
