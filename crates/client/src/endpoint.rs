//! Where a relay is: the small part of a URL that a WebSocket client needs.

use std::fmt;

/// The path a daemon dials when its URL names none.
pub const SERVER_PATH: &str = "/v1/server";
/// The path a phone dials when its URL names none.
pub const CLIENT_PATH: &str = "/v1/client";

/// The address of a relay: whether to encrypt, the host, the port and the path.
///
/// Accepts `ws://`, `wss://`, `http://` and `https://`; the last two mean the first two. An address that was put
/// together otherwise is checked when it is dialled.
///
/// ```
/// use relay_client::Endpoint;
/// let relay = Endpoint::parse("wss://relay.example.com")?;
/// assert!(relay.tls);
/// assert_eq!((relay.host.as_str(), relay.port), ("relay.example.com", 443));
/// assert_eq!(relay.or_path("/v1/server").to_string(), "wss://relay.example.com/v1/server");
/// # Ok::<(), relay_client::EndpointError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether the connection is encrypted (`wss`).
    pub tls: bool,
    /// Host name or address; an IPv6 address is without its brackets.
    pub host: String,
    /// TCP port; 443 with TLS and 80 without, when the URL names none.
    pub port: u16,
    /// Path and query, starting with `/`.
    pub path: String,
}

/// Why a text is not the URL of a relay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It starts with none of the four schemes.
    #[error("the URL must start with ws://, wss://, http:// or https://")]
    Scheme,
    /// There is no host, or it holds characters no host has.
    #[error("the URL has no usable host")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("the URL's port is not a number from 1 to 65535")]
    Port,
    /// It carries `user:password@`, which a relay has no use for.
    #[error("the URL must not carry a user name or password")]
    Credentials,
    /// The path does not start with `/`, or holds a `#`, a blank, or what is not printable ASCII.
    #[error("the URL's path must start with / and be printable ASCII without blanks and #")]
    Path,
}

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// See [`EndpointError`]; a fragment (`#...`) is dropped without one.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let (scheme, rest) = url.trim().split_once("://").ok_or(EndpointError::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(EndpointError::Scheme),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(split);
        if authority.contains('@') {
            return Err(EndpointError::Credentials);
        }
        let (host, port) = split_port(authority)?;
        let endpoint = Self {
            tls,
            host: host.to_owned(),
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            path: if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}")
            },
        };
        endpoint.check()?;
        Ok(endpoint)
    }

    /// Whether a request can be made of it. The fields are open to everybody, and a path with a line break in it would be
    /// headers.
    pub(crate) fn check(&self) -> Result<(), EndpointError> {
        let clean = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        let no_host = ['[', ']', '\\', '/', '?', '#', '@'];
        if self.host.is_empty() || !clean(&self.host) || self.host.contains(no_host) {
            return Err(EndpointError::Host);
        }
        if self.port == 0 {
            return Err(EndpointError::Port);
        }
        if !self.path.starts_with('/') || !clean(&self.path) || self.path.contains('#') {
            return Err(EndpointError::Path);
        }
        Ok(())
    }

    /// The same relay with `path`, unless the URL named a path of its own: that one is kept as it is.
    /// The URL's query stays in either case.
    #[must_use]
    pub fn or_path(mut self, path: &str) -> Self {
        if self.path == "/" || self.path.starts_with("/?") {
            self.path.replace_range(..1, path);
        }
        self
    }

    /// The same relay with `path` in place of whatever path it had.
    #[must_use]
    pub fn with_path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// `host` or `host:port` as a `Host` header has it: the scheme's own port is left out.
    #[must_use]
    pub fn authority(&self) -> String {
        let v6 = self.host.contains(':');
        let host = if v6 {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// Splits `host:port` and `[v6]:port`.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), EndpointError> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(EndpointError::Host)?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(EndpointError::Host),
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let number = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(EndpointError::Port),
    };
    Ok((
        host,
        port.filter(|p| !p.is_empty()).map(number).transpose()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_usual_spellings() {
        for (url, shown) in [
            ("ws://127.0.0.1:8080", "ws://127.0.0.1:8080/"),
            ("http://relay.test/", "ws://relay.test/"),
            (
                "https://relay.test:8443/v2/server?a=b#c",
                "wss://relay.test:8443/v2/server?a=b",
            ),
            ("WSS://relay.test:443", "wss://relay.test/"),
            ("ws://[::1]:9/x", "ws://[::1]:9/x"),
            ("ws://[::1]", "ws://[::1]/"),
            ("ws://relay.test?q", "ws://relay.test/?q"),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().to_string(), shown, "{url}");
        }
    }

    #[test]
    fn refuses_what_is_no_relay() {
        for (url, why) in [
            ("relay.test", EndpointError::Scheme),
            ("ftp://relay.test", EndpointError::Scheme),
            ("ws://", EndpointError::Host),
            ("ws://a b/", EndpointError::Host),
            ("ws://[::1/", EndpointError::Host),
            ("ws://[::1]x/", EndpointError::Host),
            ("ws://host:0", EndpointError::Port),
            ("ws://host:65536", EndpointError::Port),
            ("ws://me:pw@host", EndpointError::Credentials),
            ("ws://host/a b", EndpointError::Path),
            ("ws://host/\r\nx: y", EndpointError::Path),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap_err(), why, "{url}");
        }
    }

    #[test]
    fn what_is_put_together_is_checked_like_a_url() {
        let good = Endpoint::parse("ws://[::1]/a?b=c").unwrap();
        assert_eq!(good.check(), Ok(()));
        for path in ["", "a", "/a b", "/#", "/\u{e9}", "/ HTTP/1.1\r\nx: y"] {
            let bad = good.clone().with_path(path);
            assert_eq!(bad.check(), Err(EndpointError::Path), "{path:?}");
        }
        for host in ["", "a b", "a/b", "a?", "a#", "me@a", "[::1]", "a\r\nx: y"] {
            let host = host.to_owned();
            let bad = Endpoint {
                host,
                ..good.clone()
            };
            assert_eq!(bad.check(), Err(EndpointError::Host), "{bad:?}");
        }
        let bad = Endpoint { port: 0, ..good };
        assert_eq!(bad.check(), Err(EndpointError::Port));
    }

    #[test]
    fn a_path_of_its_own_is_kept() {
        let plain = Endpoint::parse("ws://host/").unwrap();
        assert_eq!(plain.clone().or_path(SERVER_PATH).path, SERVER_PATH);
        let query = Endpoint::parse("ws://host?x=1").unwrap();
        assert_eq!(query.or_path(SERVER_PATH).path, "/v1/server?x=1");
        let own = Endpoint::parse("ws://host/v2/server").unwrap();
        assert_eq!(own.clone().or_path(SERVER_PATH).path, "/v2/server");
        assert_eq!(own.with_path(CLIENT_PATH).path, CLIENT_PATH);
    }
}
