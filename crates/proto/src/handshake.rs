//! The WebSocket opening handshake, server side (RFC 6455 §4.2), without an HTTP library: the
//! caller hands in the few parts of the request that matter.

use crate::headers::trim_blanks;
use base64::engine::{Engine as _, GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest as _, Sha1};

/// Standard base64. Bits after the last byte needn't be zero: that does no harm in a nonce, and Go's
/// decoder, which peers were tested with, doesn't mind either.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// RFC 6455 §1.3: hashed together with the client's key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The parts of an upgrade request that the handshake looks at. Header fields hold every value
/// that was sent, in order.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// The request is HTTP/1.1 (or a later 1.x).
    pub http_1_1: bool,
    /// The method, as sent.
    pub method: &'a str,
    /// `Connection`.
    pub connection: Vec<&'a [u8]>,
    /// `Upgrade`.
    pub upgrade: Vec<&'a [u8]>,
    /// `Sec-WebSocket-Version`.
    pub version: Vec<&'a [u8]>,
    /// `Sec-WebSocket-Key`.
    pub key: Vec<&'a [u8]>,
    /// `Origin`, its first value.
    pub origin: Option<&'a [u8]>,
    /// A body follows: it would be taken for frames.
    pub has_body: bool,
}

/// A request that is a proper upgrade: what the 101 must carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept(String);

impl Accept {
    /// The value for `Sec-WebSocket-Accept`: 28 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value for `Sec-WebSocket-Accept`, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Why a request isn't a proper upgrade. In the order in which [`check`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.explain())]
pub enum Refusal {
    /// Older than HTTP/1.1: 426, with the same headers as the next.
    HttpVersion,
    /// Not an upgrade to WebSocket: 426 with `Connection: Upgrade` and `Upgrade: websocket`.
    NotUpgrade,
    /// Not a GET: 405 with `Allow: GET`.
    Method,
    /// Not version 13: 400 with `Sec-WebSocket-Version: 13`.
    Version,
    /// The key is missing, repeated, or not the base64 of 16 bytes: 400.
    Key,
    /// The origin isn't a URL: 403.
    Origin,
    /// It has a body: 400.
    Body,
}

impl Refusal {
    /// The HTTP status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            Self::HttpVersion | Self::NotUpgrade => 426,
            Self::Method => 405,
            Self::Version | Self::Key | Self::Body => 400,
            Self::Origin => 403,
        }
    }

    /// The headers to answer with, beyond the usual ones.
    pub fn headers(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::HttpVersion | Self::NotUpgrade => {
                &[("connection", "Upgrade"), ("upgrade", "websocket")]
            }
            Self::Method => &[("allow", "GET")],
            Self::Version => &[("sec-websocket-version", "13")],
            _ => &[],
        }
    }

    /// One line for a person who reads the answer.
    pub fn explain(&self) -> &'static str {
        match self {
            Self::HttpVersion => "WebSocket needs HTTP/1.1",
            Self::NotUpgrade => "this endpoint speaks WebSocket only",
            Self::Method => "WebSocket handshakes are GET requests",
            Self::Version => "only WebSocket version 13 is spoken here",
            Self::Key => "Sec-WebSocket-Key must be the base64 of 16 bytes, once",
            Self::Origin => "Origin is not a URL",
            Self::Body => "WebSocket handshakes have no body",
        }
    }
}

/// Checks an upgrade request.
///
/// # Errors
/// The first [`Refusal`] that applies, in the order of its variants.
pub fn check(request: &Request<'_>) -> Result<Accept, Refusal> {
    if !request.http_1_1 {
        return Err(Refusal::HttpVersion);
    }
    if !has_token(&request.connection, "upgrade") || !has_token(&request.upgrade, "websocket") {
        return Err(Refusal::NotUpgrade);
    }
    if request.method != "GET" {
        return Err(Refusal::Method);
    }
    if request.version.first().map(|v| trim_blanks(v)) != Some(b"13") {
        return Err(Refusal::Version);
    }
    let [key] = request.key[..] else {
        return Err(Refusal::Key);
    };
    let key = trim_blanks(key);
    if !is_nonce(key) {
        return Err(Refusal::Key);
    }
    if !request.origin.is_none_or(is_url) {
        return Err(Refusal::Origin);
    }
    if request.has_body {
        return Err(Refusal::Body);
    }
    Ok(Accept(accept_key(key)))
}

/// The `Sec-WebSocket-Accept` value that belongs to a `Sec-WebSocket-Key` value: 28 characters.
pub fn accept_key(key: &[u8]) -> String {
    BASE64.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Whether a comma-separated list header names `token`, in whatever case.
fn has_token(values: &[&[u8]], token: &str) -> bool {
    let mut items = values.iter().flat_map(|value| value.split(|&b| b == b','));
    items.any(|item| trim_blanks(item).eq_ignore_ascii_case(token.as_bytes()))
}

/// Base64 (padded) of 16 bytes, which is 24 characters.
fn is_nonce(key: &[u8]) -> bool {
    let mut nonce = [0; 18]; // room for what 24 characters can decode to
    key.len() == 24 && BASE64.decode_slice(key, &mut nonce) == Ok(16)
}

/// Lenient: refuses only what no URL parser takes. Any origin that is a URL is welcome, `null` too;
/// what keeps browsers out are the headers that they can't set.
fn is_url(origin: &[u8]) -> bool {
    let printable = origin.iter().all(|b| !b.is_ascii_control());
    let has_scheme = !origin.starts_with(b":");
    let mut escapes = origin.split(|&b| b == b'%').skip(1);
    let well_escaped = escapes.all(|rest| match rest {
        [high, low, ..] => high.is_ascii_hexdigit() && low.is_ascii_hexdigit(),
        _ => false,
    });
    printable && has_scheme && well_escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Request<'static> {
        Request {
            http_1_1: true,
            method: "GET",
            connection: vec![b"keep-alive, Upgrade"],
            upgrade: vec![b"h2c", b"WebSocket"],
            version: vec![b"13"],
            key: vec![b"dGhlIHNhbXBsZSBub25jZQ=="],
            origin: None,
            has_body: false,
        }
    }

    #[test]
    fn the_example_of_the_rfc() {
        let accept = check(&good()).unwrap();
        assert_eq!(accept.as_str(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accept.into_string().len(), 28);
    }

    #[test]
    fn defects_are_found_in_order() {
        // From a request with every defect, mend one after the other.
        let mut r = Request {
            origin: Some(b":foo"),
            method: "POST",
            has_body: true,
            ..Request::default()
        };
        let expect = |r: &Request<'_>, refusal: Refusal, status| {
            assert_eq!(check(r), Err(refusal));
            assert_eq!(refusal.status(), status);
            // RFC 9110, sections 15.5.6 and 15.5.22.
            let has = |name| refusal.headers().iter().any(|(n, _)| *n == name);
            assert_eq!(
                (has("allow"), has("upgrade")),
                (status == 405, status == 426)
            );
        };
        expect(&r, Refusal::HttpVersion, 426);
        r.http_1_1 = true;
        expect(&r, Refusal::NotUpgrade, 426);
        r.connection = good().connection;
        expect(&r, Refusal::NotUpgrade, 426);
        r.upgrade = good().upgrade;
        expect(&r, Refusal::Method, 405);
        r.method = "GET";
        expect(&r, Refusal::Version, 400);
        r.version = vec![b"8", b"13"];
        expect(&r, Refusal::Version, 400);
        r.version = good().version;
        expect(&r, Refusal::Key, 400);
        r.key = [good().key, good().key].concat();
        expect(&r, Refusal::Key, 400);
        r.key = good().key;
        expect(&r, Refusal::Origin, 403);
        r.origin = Some(b"null");
        expect(&r, Refusal::Body, 400);
        r.has_body = false;
        assert!(check(&r).is_ok());
    }

    #[test]
    fn refusals_carry_their_headers() {
        let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
        assert_eq!(Refusal::NotUpgrade.headers(), upgrade);
        assert_eq!(
            Refusal::Version.headers(),
            [("sec-websocket-version", "13")]
        );
        assert!(Refusal::Key.headers().is_empty());
    }

    #[test]
    fn keys_are_the_base64_of_sixteen_bytes() {
        let verdict = |key: &'static [u8]| {
            check(&Request {
                key: vec![key],
                ..good()
            })
            .is_ok()
        };
        assert!(verdict(b" dGhlIHNhbXBsZSBub25jZQ== "));
        assert!(
            verdict(b"dGhlIHNhbXBsZSBub25jZR=="),
            "bits after the last byte"
        );
        for bad in [
            &b""[..],
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25jZQ=",
            b"dGhlIHNhbXBsZSBub25jZTE=",
            b"dGhlIHNhbXBsZSBub25jZTEy",
            b"dGhlIHNhbXBsZSBub25jZQ!=",
            b"\xff\xff",
        ] {
            assert!(!verdict(bad), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn origins_that_are_urls_are_welcome() {
        let verdict = |o: &'static [u8]| {
            check(&Request {
                origin: Some(o),
                ..good()
            })
            .is_ok()
        };
        for ok in [
            &b"https://a.example:8443"[..],
            b"null",
            b"",
            b"file://",
            b"http://x/%41",
        ] {
            assert!(verdict(ok), "{}", ok.escape_ascii());
        }
        for bad in [
            &b":foo"[..],
            b"http://x/%4",
            b"http://x/%zz",
            b"http://\x01",
            b"a\x7f",
        ] {
            assert!(!verdict(bad), "{}", bad.escape_ascii());
        }
    }
}
