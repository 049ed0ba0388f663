//! The PROXY header against `proxy-header`, whose encoder and decoder are complete but read from a whole buffer, and, since
//! addresses are read by that crate, against a model from the specification.

use proxy_header::{ParseConfig, ProxyHeader};
use relay_proto::proxy::{Error, Header, Progress, SHOWN_MAX_BYTES, V2_MAX_BYTES, parse};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Reads a header from `stream` as a connection's reader does, taking no more than is asked for. Returns it and how
/// many bytes it took, or None if the stream ends within it.
pub(crate) fn read(stream: &[u8]) -> Result<Option<(Header, usize)>, Error> {
    let mut taken_bytes = 0;
    loop {
        match parse(&stream[..taken_bytes])? {
            Progress::Complete(header) => return Ok(Some((header, taken_bytes))),
            Progress::Skip(header, n) => {
                assert_ne!(n, 0, "it is complete");
                taken_bytes += n;
                assert!(taken_bytes <= V2_MAX_BYTES);
                return Ok((taken_bytes <= stream.len()).then_some((header, taken_bytes)));
            }
            Progress::Need(n) => {
                assert_ne!(n, 0, "a reader that goes in circles");
                taken_bytes += n;
                assert!(taken_bytes <= SHOWN_MAX_BYTES);
            }
        }
        if taken_bytes > stream.len() {
            return Ok(None);
        }
    }
}

/// The header that a stream begins with, and its length; None if there is none that is accepted, or not all of it.
fn model(stream: &[u8]) -> Option<(Header, usize)> {
    if let Some(rest) = stream.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n") {
        let (&[command, family, high, low], rest) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let body = rest.get(..length).filter(|_| length <= 4_096)?;
        let header = match (command, family) {
            (0x20, _) => Header::Local,
            (0x21, 0x11) => source::<4>(body)?,
            (0x21, 0x21) => source::<16>(body)?,
            _ => return None,
        };
        return Some((header, 16 + length));
    }
    let end = stream.iter().position(|b| matches!(b, b'\r' | b'\n'))?;
    let line = stream[..end].strip_prefix(b"PROXY ")?;
    if end + 2 > 107 || stream.get(end..end + 2) != Some(b"\r\n") {
        return None;
    }
    let words: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let header = match words[..] {
        [b"UNKNOWN", ..] => Header::Local,
        [b"TCP4", from, to, from_port, to_port] => {
            let (from, _): (Ipv4Addr, Ipv4Addr) = (word(from)?, word(to)?);
            proxied(from.into(), port(from_port)?, port(to_port)?)
        }
        [b"TCP6", from, to, from_port, to_port] => {
            let (from, _): (Ipv6Addr, Ipv6Addr) = (word(from)?, word(to)?);
            proxied(from.into(), port(from_port)?, port(to_port)?)
        }
        _ => return None,
    };
    Some((header, end + 2))
}

/// Source and destination, then their ports; TLVs may follow.
fn source<const N: usize>(body: &[u8]) -> Option<Header>
where
    IpAddr: From<[u8; N]>,
{
    let (ip, rest) = body.split_first_chunk::<N>()?;
    let (_, rest) = rest.split_first_chunk::<N>()?;
    let (from, rest) = rest.split_first_chunk()?;
    let (to, _) = rest.split_first_chunk()?;
    let (from, to) = (u16::from_be_bytes(*from), u16::from_be_bytes(*to));
    Some(proxied(IpAddr::from(*ip), from, to))
}

fn proxied(ip: IpAddr, from: u16, _to: u16) -> Header {
    Header::Proxied(SocketAddr::new(ip.to_canonical(), from))
}

fn word<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Digits, and no zero in front.
fn port(text: &[u8]) -> Option<u16> {
    let port: u16 = word(text)?;
    (port.to_string().as_bytes() == text).then_some(port)
}

/// What is accepted is what the model and the library read, to the byte; and it doesn't matter how it is cut.
pub(crate) fn compare(stream: &[u8]) {
    let read = read(stream);
    assert_eq!(
        read.ok().flatten(),
        model(stream),
        "{}",
        stream.escape_ascii()
    );
    let whole = parse(stream);
    match read {
        Ok(Some((header, _))) => assert_eq!(whole, Ok(Progress::Complete(header))),
        Ok(None) => assert!(!matches!(whole, Ok(Progress::Complete(_)))),
        Err(error) => assert_eq!(whole, Err(error)),
    }
    let Ok(Some((Header::Proxied(source), taken_bytes))) = read else {
        return;
    };
    let (theirs, used_bytes) = ProxyHeader::parse(stream, ParseConfig::default()).unwrap();
    let theirs = theirs.proxied_address().unwrap();
    assert_eq!(taken_bytes, used_bytes);
    assert_eq!(source.ip(), theirs.source.ip().to_canonical());
    assert_eq!(source.port(), theirs.source.port());
}
