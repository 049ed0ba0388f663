//! Who calls through HTTP proxies of ours: `X-Forwarded-For`, read from the right.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The address of the client behind a connection from `peer`.
///
/// `values` are the values of all `X-Forwarded-For` header lines, in their order; each is a list with commas. Every
/// proxy appends the address that called it, so the list is walked from its right end, for as long as the address
/// reached is `trusted`, that is, one of our own proxies: whatever is further left was written by a stranger. The walk
/// ends
/// - at the first address that is not trusted,
/// - at the left end: the leftmost address, if all are trusted,
/// - at an element that isn't an IP address (`unknown`, an obfuscated name, nothing): the last address reached, since
///   the proxy there didn't know whom it spoke for.
///
/// An address may have a port and, if IPv6, brackets. An IPv4 address mapped into IPv6 is that IPv4 address, in the
/// answer as in what `trusted` is asked.
pub fn client<'a>(
    peer: IpAddr,
    values: impl DoubleEndedIterator<Item = &'a str>,
    trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut reached = peer.to_canonical();
    for element in values.rev().flat_map(|value| value.rsplit(',')) {
        if !trusted(reached) {
            break;
        }
        let Some(before) = address(element.trim_ascii()) else {
            break;
        };
        reached = before.to_canonical();
    }
    reached
}

/// `ip`, `ip:port`, `[ipv6]` or `[ipv6]:port`.
fn address(element: &str) -> Option<IpAddr> {
    let bare = || element.parse().ok();
    let with_port = || element.parse().ok().map(|address: SocketAddr| address.ip());
    let bracketed = || {
        let inner = element.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse().ok().map(|ip: Ipv6Addr| ip.into())
    };
    bare().or_else(with_port).or_else(bracketed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ours(ip: IpAddr) -> bool {
        matches!(ip, IpAddr::V4(v4) if v4.octets()[0] == 10)
    }

    fn walk(peer: &str, values: &[&str]) -> String {
        client(peer.parse().unwrap(), values.iter().copied(), ours).to_string()
    }

    #[test]
    fn a_stranger_speaks_for_himself_only() {
        assert_eq!(walk("192.0.2.7", &["198.51.100.1"]), "192.0.2.7");
        assert_eq!(walk("::ffff:192.0.2.7", &[]), "192.0.2.7");
    }

    #[test]
    fn the_first_stranger_from_the_right_is_the_client() {
        assert_eq!(walk("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        let forged = "1.1.1.1, 10.9.9.9, 198.51.100.1 ,\t10.0.0.2";
        assert_eq!(walk("10.0.0.1", &[forged]), "198.51.100.1");
        assert_eq!(
            walk("::ffff:10.0.0.1", &["::ffff:10.0.0.2", "198.51.100.1"]),
            "198.51.100.1"
        );
    }

    #[test]
    fn header_lines_are_one_list() {
        let lines = ["1.1.1.1", "198.51.100.1, 10.0.0.3", "10.0.0.2"];
        assert_eq!(walk("10.0.0.1", &lines), "198.51.100.1");
    }

    #[test]
    fn all_ours_is_the_leftmost() {
        assert_eq!(walk("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(walk("10.0.0.1", &["10.0.0.3,10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        for odd in [
            "unknown",
            "_hidden",
            "",
            " ",
            "[10.0.0.9]",
            "10.0.0.9:",
            "10.0.0.9:99999",
            "fe80::1%eth0",
            "1.2.3",
        ] {
            let value = format!("198.51.100.1, {odd}, 10.0.0.2");
            assert_eq!(walk("10.0.0.1", &[&value]), "10.0.0.2", "{odd:?}");
            assert_eq!(
                walk("10.0.0.1", &["198.51.100.1", odd]),
                "10.0.0.1",
                "{odd:?}"
            );
        }
    }

    #[test]
    fn ports_and_brackets_are_no_part_of_it() {
        for form in ["2001:db8::7", "[2001:db8::7]", "[2001:db8::7]:443"] {
            assert_eq!(walk("10.0.0.1", &[form]), "2001:db8::7");
        }
        assert_eq!(walk("10.0.0.1", &["192.0.2.7:443"]), "192.0.2.7");
        assert_eq!(walk("10.0.0.1", &["[::ffff:192.0.2.7]:443"]), "192.0.2.7");
    }

    fn ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 3]>().prop_map(|[a, b, c]| IpAddr::from([10, a, b, c])),
            any::<IpAddr>()
        ]
    }

    proptest! {
        /// Whatever a stranger claims, and however the list is cut into lines, he stays who he is.
        #[test]
        fn a_claim_changes_nothing(
            claims in prop::collection::vec(".{0,30}", 0..4),
            stranger in ip().prop_filter("a stranger", |ip| !ours(ip.to_canonical())),
            proxies in prop::collection::vec(any::<u8>(), 0..5),
            one_line in any::<bool>(),
        ) {
            let mut values = claims;
            values.push(stranger.to_string());
            values.extend(proxies.iter().map(|n| format!("10.0.0.{n}")));
            if one_line {
                values = vec![values.join(", ")];
            }
            let peer = IpAddr::from([10, 0, 0, 1]);
            let found = client(peer, values.iter().map(String::as_str), ours);
            prop_assert_eq!(found, stranger.to_canonical());
        }
    }
}
