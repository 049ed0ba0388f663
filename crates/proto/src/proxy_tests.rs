use super::*;

fn header(bytes: &[u8]) -> Result<Header, Error> {
    match parse(bytes)? {
        Progress::Complete(header) => Ok(header),
        other => panic!("complete, not {other:?}"),
    }
}

fn source(address: &str) -> Result<Header, Error> {
    Ok(Header::Proxied(address.parse().unwrap()))
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE, &[command, family], &length, rest].concat()
}

#[test]
fn version_1() {
    assert_eq!(
        header(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"),
        source("192.0.2.7:56324")
    );
    assert_eq!(
        header(b"PROXY TCP6 2001:db8::7 2001:DB8::1 0 65535\r\n"),
        source("[2001:db8::7]:0")
    );
    assert_eq!(
        header(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 80 443\r\n"),
        source("192.0.2.7:80")
    );
    for (_, shortest) in V1_PROTOCOLS {
        assert!(header(shortest).is_ok());
    }
}

#[test]
fn unknown_is_local_whatever_follows_it() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
    assert_eq!(long.len(), V1_MAX_BYTES);
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ? \0 -1\r\n", &long] {
        assert_eq!(header(line.as_bytes()), Ok(Header::Local), "{line}");
    }
}

#[test]
fn version_1_is_taken_exactly() {
    let malformed = [
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 \r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 1\r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.1 56324 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +6324 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 56324 0443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
        "PROXY TCP4 192.0.2.07 198.51.100.1 56324 443\r\n",
        "PROXY TCP4 192.0.2.7 ::1 56324 443\r\n",
        "PROXY TCP4 ::7 ::1 56324 443\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 56324 443\r\n",
        "PROXY TCP6 fe80::7%1 ::1 56324 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n",
        "PROXY TCP4 192.0.2.7\r198.51.100.1 56324 443\r\n",
        "PROXY UNKNOWN\n",
        "PROXY UNKNOWN a\nb\r\n",
    ];
    for line in malformed {
        assert_eq!(header(line.as_bytes()), Err(Error::Malformed), "{line}");
    }
    for line in ["PROXY UNKNOWNX\r\n", "PROXY UDP4", "PROXY tcp4", "PROXY \r"] {
        assert_eq!(header(line.as_bytes()), Err(Error::Family), "{line}");
    }
    for long in [" ".repeat(93) + "\r\n", " ".repeat(93), " ".repeat(500)] {
        let line = format!("PROXY UNKNOWN{long}");
        assert_eq!(header(line.as_bytes()), Err(Error::TooLong), "{line}");
    }
}

#[test]
fn version_1_is_read_in_small_steps() {
    let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
    let need = |n: usize| match parse(&line[..n]) {
        Ok(Progress::Need(more)) => more,
        other => panic!("{other:?} after {n} bytes"),
    };
    assert_eq!([0, 1, 6, 7, 9, 10].map(need), [15, 14, 9, 15, 13, 22]);
    assert_eq!([31, 32, 43, 44].map(need), [2, 2, 2, 1]);
}

#[test]
fn version_2() {
    let mut v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 1, 0xbb].to_vec();
    assert_eq!(header(&v2(0x21, 0x11, &v4)), source("192.0.2.7:56324"));
    v4.extend([4, 0, 1, 0]);
    assert_eq!(header(&v2(0x21, 0x11, &v4)), source("192.0.2.7:56324"));

    let mut v6 = [0; 36];
    v6[10..16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 7]);
    v6[33] = 80;
    assert_eq!(header(&v2(0x21, 0x21, &v6)), source("192.0.2.7:80"));
    v6[0] = 0x20;
    assert_eq!(
        header(&v2(0x21, 0x21, &v6)),
        source("[2000::ffff:c000:207]:80")
    );
}

#[test]
fn local_ignores_the_family_and_skips_the_length() {
    for rest in [&[][..], &[7; 5], &[0; 4_096]] {
        for family in [0x00, 0x11, 0x21, 0x31, 0xff] {
            assert_eq!(header(&v2(0x20, family, rest)), Ok(Header::Local));
        }
    }
    assert_eq!(
        parse(&v2(0x20, 0, &[7; 5])[..20]),
        Ok(Progress::Skip(Header::Local, 1)),
        "the length counts"
    );
}

#[test]
fn version_2_refuses() {
    for family in [0x00, 0x01, 0x10, 0x12, 0x13, 0x22, 0x31, 0x32, 0x41, 0xff] {
        assert_eq!(parse(&v2(0x21, family, &[0; 216])), Err(Error::Family));
    }
    for command in [0x00, 0x11, 0x22, 0x30, 0x31] {
        assert_eq!(parse(&v2(command, 0x11, &[0; 12])), Err(Error::Command));
    }
    assert_eq!(parse(&v2(0x21, 0x11, &[0; 11])), Err(Error::Malformed));
    assert_eq!(parse(&v2(0x21, 0x21, &[0; 35])), Err(Error::Malformed));
    for command in [0x20, 0x21] {
        assert!(header(&v2(command, 0x11, &[0; 4_096])).is_ok());
        let long = v2(command, 0x11, &[0; 4_097]);
        assert_eq!(parse(&long[..16]), Err(Error::TooLong), "at its length");
    }
}

#[test]
fn what_is_behind_the_addresses_need_not_be_seen() {
    let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 1, 0xbb];
    let long = v2(0x21, 0x11, &[&addresses[..], &[0xff; 4_084]].concat());
    assert_eq!(long.len(), V2_MAX_BYTES);
    assert_eq!(header(&long), source("192.0.2.7:56324"));
    let proxied = source("192.0.2.7:56324").unwrap();
    for shown in [28, 29, 107, long.len() - 1] {
        let rest = Progress::Skip(proxied, long.len() - shown);
        assert_eq!(parse(&long[..shown]), Ok(rest));
    }
    assert_eq!(parse(&long[..27]), Ok(Progress::Need(1)));
}

#[test]
fn refused_at_the_first_byte_that_differs() {
    for signature in [V1_SIGNATURE, V2_SIGNATURE] {
        for n in 0..signature.len() {
            assert!(matches!(parse(&signature[..n]), Ok(Progress::Need(_))));
            let mut damaged = signature[..=n].to_vec();
            damaged[n] ^= 0x20;
            assert_eq!(parse(&damaged), Err(Error::Signature), "{n}");
        }
    }
    assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(Error::Signature));
    assert_eq!(parse(b"\x16\x03\x01"), Err(Error::Signature));
    let early = v2(0x21, 0x12, &[]);
    assert!(matches!(parse(&early[..13]), Ok(Progress::Need(3))));
    assert_eq!(parse(&early[..14]), Err(Error::Family));
}

#[test]
fn what_follows_the_header_is_left_alone() {
    let mut bytes = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n".to_vec();
    bytes.extend([b'\n'; 2_000]);
    assert_eq!(header(&bytes), source("192.0.2.7:56324"));
}
