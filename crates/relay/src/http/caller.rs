//! Who is calling: the one address that limits, logs and everything else go by.

use crate::config::Proxies;
use hyper::header::{HeaderMap, HeaderValue};
use relay_core::bucket::{SourceKey, source_key};
use relay_core::forwarded;
use std::borrow::Cow;
use std::net::IpAddr;

/// Longest `X-Forwarded-For` element that is told apart from others, in characters.
const LONGEST_TEXT: usize = 64;

/// One client, as the limits see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Client {
    /// An address; IPv6 by its /64.
    Address(SourceKey),
    /// What a trusted proxy wrote, when it is no address.
    Text(String),
}

/// A client, and its name for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) client: Client,
    pub(crate) shown: String,
}

impl From<IpAddr> for Caller {
    fn from(ip: IpAddr) -> Self {
        Self {
            client: Client::Address(source_key(ip)),
            shown: ip.to_string(),
        }
    }
}

impl Caller {
    /// Who made a request that came in from `peer`.
    pub(crate) fn of_request(proxies: &Proxies, headers: &HeaderMap, peer: IpAddr) -> Self {
        let forwarded = headers.get_all("x-forwarded-for");
        if proxies.trust_x_forwarded_for {
            let first = forwarded.iter().next().map(text);
            let first = first.and_then(|value| Self::first(&value));
            return first.unwrap_or_else(|| peer.into());
        }
        if !proxies.trusts(peer) {
            return peer.into();
        }
        let values: Vec<_> = forwarded.iter().map(text).collect();
        let values = values.iter().map(|value| &**value);
        forwarded::client(peer, values, |ip| proxies.trusts(ip)).into()
    }

    /// The first element of a header value, whatever it is; `None` if it is blank.
    fn first(value: &str) -> Option<Self> {
        let text = value.split(',').next().unwrap_or_default().trim();
        if text.is_empty() {
            return None;
        }
        Some(match text.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical().into(),
            Err(_) => {
                let text: String = text.chars().take(LONGEST_TEXT).collect();
                Self {
                    shown: text.clone(),
                    client: Client::Text(text),
                }
            }
        })
    }
}

/// With a replacement for each byte that is none of a text: our proxy has appended to the line in which the stranger before
/// it wrote them, and only that element is no address.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(proxies: &Proxies, peer: &str, forwarded: &[impl AsRef<[u8]>]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            let value = HeaderValue::from_bytes(value.as_ref()).unwrap();
            headers.append("x-forwarded-for", value);
        }
        Caller::of_request(proxies, &headers, peer.parse().unwrap()).shown
    }

    #[test]
    fn by_default_nobody_is_believed() {
        let nobody = Proxies::default();
        assert_eq!(caller(&nobody, "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
    }

    #[test]
    fn everybody_may_be_believed_in_the_first_element() {
        let everybody = Proxies {
            trust_x_forwarded_for: true,
            ..Proxies::default()
        };
        let first = |values: &[&str]| caller(&everybody, "192.0.2.1", values);
        assert_eq!(
            first(&["198.51.100.7, 10.0.0.1", "203.0.113.1"]),
            "198.51.100.7"
        );
        assert_eq!(first(&["some thing:1"]), "some thing:1");
        assert_eq!(first(&[" , 203.0.113.1"]), "192.0.2.1");
        assert_eq!(first(&[]), "192.0.2.1");
        let broken = [&b"\xff, 10.0.0.1"[..]];
        assert_eq!(caller(&everybody, "192.0.2.1", &broken), "\u{fffd}");
    }

    #[test]
    fn our_proxies_are_believed_and_nobody_else() {
        let ours = Proxies {
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
            ..Proxies::default()
        };
        let spoofed = ["198.51.100.7, 203.0.113.9", "10.0.0.2"];
        assert_eq!(caller(&ours, "10.0.0.1", &spoofed), "203.0.113.9");
        assert_eq!(caller(&ours, "192.0.2.1", &spoofed), "192.0.2.1");
        assert_eq!(caller(&ours, "10.0.0.1", &[""; 0]), "10.0.0.1");
        // Written by the stranger himself, in front of what our proxy appends.
        for forged in [
            "\u{fffd}".as_bytes(),
            b"\xff",
            b"\xe4\xb8",
            b"203.0.113.9\xff",
        ] {
            let line = [forged, b", 198.51.100.7"].concat();
            assert_eq!(caller(&ours, "10.0.0.1", &[line]), "198.51.100.7");
            assert_eq!(caller(&ours, "10.0.0.1", &[forged]), "10.0.0.1");
        }
    }

    #[test]
    fn a_long_text_is_told_apart_by_its_beginning() {
        let client = |text: &str| Caller::first(text).unwrap().client;
        assert_eq!(client(&"x".repeat(100)), client(&"x".repeat(200)));
        assert_ne!(client("a"), client("b"));
    }
}
