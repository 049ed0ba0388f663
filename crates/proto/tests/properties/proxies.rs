//! PROXY headers: those that a library writes, their prefixes, and damaged ones.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use proxy_header::{ProxiedAddress, ProxyHeader, Tlv};
use relay_proto::proxy::{Header, Progress, V2_MAX_BYTES, parse};

use crate::oracle;

fn addresses() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = any::<(Ipv4Addr, Ipv4Addr)>().prop_map(|(a, b)| (a.into(), b.into()));
    let v6 = any::<(Ipv6Addr, Ipv6Addr)>().prop_map(|(a, b)| (a.into(), b.into()));
    let mapped = any::<(Ipv4Addr, Ipv4Addr)>()
        .prop_map(|(a, b)| (a.to_ipv6_mapped().into(), b.to_ipv6_mapped().into()));
    (prop_oneof![v4, v6, mapped], any::<(u16, u16)>())
        .prop_map(|((a, b), (p, q))| (SocketAddr::new(a, p), SocketAddr::new(b, q)))
}

/// A header as the library writes it, and its source.
fn header() -> impl Strategy<Value = (Vec<u8>, Header)> {
    let tlv = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..400),
        1 => prop::collection::vec(any::<u8>(), 4_000..4_050),
    ];
    (
        prop::option::of(addresses()),
        prop::option::of(tlv),
        any::<bool>(),
    )
        .prop_map(|(addresses, tlv, v1)| {
            let mut header = match addresses {
                Some((a, b)) => ProxyHeader::with_address(ProxiedAddress::stream(a, b)),
                None => ProxyHeader::with_local(),
            };
            let mut bytes = Vec::new();
            if v1 {
                header.encode_v1(&mut bytes).unwrap();
            } else {
                if let Some(value) = tlv {
                    header.append_tlv(Tlv::Custom(0xe0, value.into()));
                }
                header.encode_v2(&mut bytes).unwrap();
            }
            let expected = addresses.map_or(Header::Local, |(source, _)| {
                Header::Proxied(SocketAddr::new(source.ip().to_canonical(), source.port()))
            });
            (bytes, expected)
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_no_byte_more(
        (bytes, expected) in header(), next in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        prop_assert!(bytes.len() <= V2_MAX_BYTES);
        let stream = [&bytes[..], &next].concat();
        prop_assert_eq!(oracle::proxy::read(&stream), Ok(Some((expected, bytes.len()))));
    }

    #[test]
    fn every_prefix_needs_more_but_not_beyond_the_end((bytes, expected) in header()) {
        for n in 0..bytes.len() {
            let progress = parse(&bytes[..n]);
            match progress {
                Ok(Progress::Need(more)) => prop_assert!(more > 0 && n + more <= bytes.len()),
                Ok(Progress::Skip(header, rest)) => {
                    prop_assert_eq!((header, n + rest), (expected, bytes.len()));
                }
                _ => panic!("{progress:?} after {n} of {} bytes", bytes.len()),
            }
        }
        prop_assert_eq!(parse(&bytes), Ok(Progress::Complete(expected)));
    }

    #[test]
    fn damaged_headers_are_read_as_the_library_reads_them_or_refused(
        (mut bytes, _) in header(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in 0usize..3,
    ) {
        let at = at.index(bytes.len());
        bytes.splice(at..(at + cut).min(bytes.len()), [with]);
        oracle::proxy::compare(&bytes);
    }

    #[test]
    fn any_bytes_are_read_as_the_library_reads_them_or_refused(
        start in prop::sample::select(vec![
            &b""[..], b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN",
            b"\r\n\r\n\0\r\nQUIT\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x10",
        ]),
        rest in prop_oneof![
            prop::collection::vec(any::<u8>(), 4_090..4_110),
            prop::collection::vec(any::<u8>(), 0..700),
            "[0-9.: +\r\n]{0,120}".prop_map(String::into_bytes),
        ],
    ) {
        oracle::proxy::compare(&[start, &rest].concat());
    }
}
