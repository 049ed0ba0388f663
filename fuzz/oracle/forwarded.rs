//! `X-Forwarded-For` once more: all lines are one list, and addresses are taken apart by hand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The client behind a connection from `peer`.
pub(crate) fn client(peer: IpAddr, lines: &[&str], trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let list = lines.join(",");
    let mut elements: Vec<&str> = match lines.is_empty() {
        true => Vec::new(),
        false => list.split(',').collect(),
    };
    let mut client = peer.to_canonical();
    while trusted(client)
        && let Some(element) = elements.pop()
        && let Some(before) = address(element.trim_matches([' ', '\t', '\n', '\r', '\x0c']))
    {
        client = before.to_canonical();
    }
    client
}

fn address(text: &str) -> Option<IpAddr> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (inside, port) = bracketed.split_once(']')?;
        let ip: Ipv6Addr = inside.parse().ok()?;
        return (port.is_empty() || is_port(port)).then_some(ip.into());
    }
    let colons = text.matches(':').count();
    if let (1, Some((ip, _))) = (colons, text.split_once(':')) {
        let ip: Ipv4Addr = ip.parse().ok()?;
        return is_port(&text[text.find(':')?..]).then_some(ip.into());
    }
    text.parse().ok()
}

/// A colon, and a number that fits.
fn is_port(text: &str) -> bool {
    let Some(digits) = text.strip_prefix(':') else {
        return false;
    };
    digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok()
}
