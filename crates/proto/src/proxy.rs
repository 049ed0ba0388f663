//! Who calls through a proxy: the PROXY protocol, versions 1 and 2, as in HAProxy's `proxy-protocol.txt`.
//!
//! The header comes before everything else on the connection, the TLS handshake included, so a reader must not take
//! one byte more than it: [`parse`] says how many bytes belong to it for certain.
//!
//! ```text
//!   version 1   PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n        a line of 15 to 107 bytes
//!   version 2   12 bytes of signature, version | command, family | protocol, length, addresses, TLVs
//! ```
//!
//! The framing is decided here, strictly; the addresses within it are read by the crate `proxy-header`, which by
//! itself takes `PROXY UNKNOWNX`, ports like `+080` and a version 2 header without addresses for good ones.

use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxyHeader};

/// The longest header of version 1, in bytes, with its CR LF. The specification's worst case.
pub const V1_MAX_BYTES: usize = 107;

/// The longest header of version 2, in bytes.
///
/// Its length field allows for 64 KiB. Behind the addresses are the TLVs that load balancers add: tens of bytes, some
/// hundreds with the names of a client's certificate, more with tokens of their own.
pub const V2_MAX_BYTES: usize = V2_FIXED_BYTES + 4_096;

/// The most bytes of a header that [`parse`] has to be shown: it wants to see no more of a longer one.
pub const SHOWN_MAX_BYTES: usize = V1_MAX_BYTES;

const V1_SIGNATURE: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family and length.
const V2_FIXED_BYTES: usize = V2_SIGNATURE.len() + 4;
/// Two addresses of IPv6 and their ports.
const V2_ADDRESSES_MAX_BYTES: usize = 2 * (16 + 2);

/// The protocols of version 1, each with its shortest line.
const V1_PROTOCOLS: [(&[u8], &[u8]); 3] = [
    (b"UNKNOWN", b"PROXY UNKNOWN\r\n"),
    (b"TCP4", b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"),
    (b"TCP6", b"PROXY TCP6 :: :: 0 0\r\n"),
];

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Header {
    /// The proxy calls for this address. An IPv4 address mapped into IPv6 is given as that IPv4 address.
    Proxied(SocketAddr),
    /// The proxy speaks for itself, as health checks do (LOCAL), or can't say for whom (UNKNOWN): the connection's own
    /// address counts.
    Local,
}

/// How far a header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Progress {
    /// At least this many more bytes (one or more) belong to the header: reading no more than that never reads beyond
    /// its end.
    Need(usize),
    /// All that counts is there: this header, and so many more bytes (one or more) that belong to it and are ignored.
    Skip(Header, usize),
    /// The header is complete.
    Complete(Header),
}

/// Why a connection doesn't begin with a header that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// Neither version's signature: probably no proxy.
    #[error("no PROXY protocol signature")]
    Signature,
    /// Version 2's signature, but an unknown version or command.
    #[error("unknown PROXY protocol version or command")]
    Command,
    /// Not TCP over IPv4 or IPv6.
    #[error("PROXY header not for TCP over IPv4 or IPv6")]
    Family,
    /// Longer than [`V1_MAX_BYTES`] or [`V2_MAX_BYTES`].
    #[error("PROXY header is too long")]
    TooLong,
    /// Its line, addresses or ports are malformed, or it has no room for them.
    #[error("malformed PROXY header")]
    Malformed,
}

/// Reads the header that `bytes` begins with, of which they may be any part. Bytes after its end are not looked at.
///
/// # Errors
/// [`Error`] as soon as `bytes` can't be the beginning of a header that is accepted.
pub fn parse(bytes: &[u8]) -> Result<Progress, Error> {
    match bytes.first() {
        None => Ok(Progress::Need(V1_PROTOCOLS[0].1.len())),
        Some(b'P') => parse_v1(bytes),
        Some(b'\r') => parse_v2(bytes),
        Some(_) => Err(Error::Signature),
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Progress, Error> {
    let Some(rest) = after(V1_SIGNATURE, bytes)? else {
        return Ok(Progress::Need(V1_PROTOCOLS[0].1.len() - bytes.len()));
    };
    let word_end = rest.iter().position(|b| matches!(b, b' ' | b'\r' | b'\n'));
    let word = &rest[..word_end.unwrap_or(rest.len())];
    let mut possible = V1_PROTOCOLS.iter().filter(|(protocol, _)| match word_end {
        Some(_) => word == *protocol,
        None => protocol.starts_with(word),
    });
    let shortest_bytes = possible.clone().map(|(_, line)| line.len()).min();
    let shortest_bytes = shortest_bytes.ok_or(Error::Family)?;
    let Some(line) = line(bytes)? else {
        let missing_bytes = if bytes.ends_with(b"\r") { 1 } else { 2 };
        return Ok(Progress::Need(
            missing_bytes.max(shortest_bytes.saturating_sub(bytes.len())),
        ));
    };
    match possible.next() {
        Some((b"UNKNOWN", _)) => Ok(Progress::Complete(Header::Local)),
        _ if has_bad_port(line) => Err(Error::Malformed),
        _ => Ok(Progress::Complete(proxied(line)?)),
    }
}

/// The line that `bytes` begins with, including its CR LF, if it is complete. A CR or LF alone ends no line.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, Error> {
    match bytes.iter().position(|b| matches!(b, b'\r' | b'\n')) {
        // One more byte at the least, and it would be too long.
        None if bytes.len() > V1_MAX_BYTES - 2 => Err(Error::TooLong),
        None => Ok(None),
        Some(end) if end > V1_MAX_BYTES - 2 => Err(Error::TooLong),
        Some(end) => match &bytes[end..] {
            [b'\r', b'\n', ..] => Ok(Some(&bytes[..end + 2])),
            [b'\r'] => Ok(None),
            _ => Err(Error::Malformed),
        },
    }
}

/// Whether a port of this line is more than digits, or has a zero in front.
fn has_bad_port(line: &[u8]) -> bool {
    let mut ports = line[..line.len() - 2].rsplit(|b| *b == b' ').take(2);
    ports.any(|port| !port.iter().all(u8::is_ascii_digit) || (port.len() > 1 && port[0] == b'0'))
}

fn parse_v2(bytes: &[u8]) -> Result<Progress, Error> {
    let fixed = after(V2_SIGNATURE, bytes)?.unwrap_or_default();
    let local = match fixed.first() {
        Some(0x20) => true,
        Some(0x21) | None => false,
        Some(_) => return Err(Error::Command),
    };
    let addresses_bytes = match fixed.get(1) {
        // Whatever its family says is to be ignored.
        Some(_) if local => 0,
        None => 0,
        Some(0x11) => 2 * (4 + 2),
        Some(0x21) => V2_ADDRESSES_MAX_BYTES,
        Some(_) => return Err(Error::Family),
    };
    let Some(length) = fixed.get(2..4) else {
        return Ok(Progress::Need(V2_FIXED_BYTES - bytes.len()));
    };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let total_bytes = V2_FIXED_BYTES + length;
    if total_bytes > V2_MAX_BYTES {
        return Err(Error::TooLong);
    }
    if length < addresses_bytes {
        return Err(Error::Malformed);
    }
    let shown_bytes = V2_FIXED_BYTES + addresses_bytes;
    let Some(shown) = bytes.get(..shown_bytes) else {
        return Ok(Progress::Need(shown_bytes - bytes.len()));
    };
    let header = if local {
        Header::Local
    } else {
        proxied_v2(shown)?
    };
    Ok(match total_bytes.saturating_sub(bytes.len()) {
        0 => Progress::Complete(header),
        rest_bytes => Progress::Skip(header, rest_bytes),
    })
}

/// The source address of a header of version 2, of which `shown` ends with the addresses.
fn proxied_v2(shown: &[u8]) -> Result<Header, Error> {
    let mut whole = [0; V2_FIXED_BYTES + V2_ADDRESSES_MAX_BYTES];
    let whole = &mut whole[..shown.len()];
    whole.copy_from_slice(shown);
    // As if nothing followed the addresses.
    let addresses_bytes = (shown.len() - V2_FIXED_BYTES) as u16;
    whole[V2_FIXED_BYTES - 2..V2_FIXED_BYTES].copy_from_slice(&addresses_bytes.to_be_bytes());
    proxied(whole)
}

/// What follows the signature in `bytes`; None if they end within it.
fn after<'a>(signature: &[u8], bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Error> {
    match bytes.strip_prefix(signature) {
        Some(rest) => Ok(Some(rest)),
        None if signature.starts_with(bytes) => Ok(None),
        None => Err(Error::Signature),
    }
}

/// The source address of a whole header that must have one.
fn proxied(header: &[u8]) -> Result<Header, Error> {
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    let (parsed, used_bytes) = ProxyHeader::parse(header, config).map_err(|_| Error::Malformed)?;
    let source = parsed.proxied_address().ok_or(Error::Malformed)?.source;
    if used_bytes != header.len() {
        return Err(Error::Malformed);
    }
    Ok(Header::Proxied(SocketAddr::new(
        source.ip().to_canonical(),
        source.port(),
    )))
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
