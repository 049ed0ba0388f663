//! Headers and the opening handshake, from a request's lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_proto::handshake::{Request, check};
use relay_proto::headers::{binary_hello, phone_hello};
use tungstenite::handshake::derive_accept_key;

fuzz_target!(|data: &[u8]| {
    // One line each: `name:value`, after the method.
    let mut lines = data.split(|&b| b == b'\n');
    let method = std::str::from_utf8(lines.next().unwrap_or_default()).unwrap_or("GET");
    let fields: Vec<(&[u8], &[u8])> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|&b| b == b':')?;
            Some((&line[..colon], &line[colon + 1..]))
        })
        .collect();
    let all = |name: &str| -> Vec<&[u8]> {
        let named = fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
        named.map(|(_, value)| *value).collect()
    };
    let first = |name: &str| all(name).first().copied();

    if let Ok(hello) = binary_hello(first) {
        assert!(!hello.server_id.is_empty() && !hello.version.is_empty());
        assert_eq!(
            phone_hello(first).map(|phone| phone.server_id),
            Ok(hello.server_id.clone())
        );
        let sent = first("x-pyrycode-server").unwrap_or_default();
        let id = hello.server_id.as_bytes();
        assert!(sent.windows(id.len()).any(|part| part == id));
    }
    let request = Request {
        http_1_1: true,
        method,
        connection: all("connection"),
        upgrade: all("upgrade"),
        version: all("sec-websocket-version"),
        key: all("sec-websocket-key"),
        origin: first("origin"),
        has_body: false,
    };
    if let Ok(accept) = check(&request) {
        assert_eq!((method, request.key.len()), ("GET", 1));
        assert_eq!(request.version[0].trim_ascii(), b"13");
        let key = request.key[0].trim_ascii();
        // 16 bytes are five times four characters, two, and padding.
        assert!(key.len() == 24 && key.ends_with(b"==") && key[21] != b'=');
        assert_eq!(accept.as_str(), derive_accept_key(key));
    }
});
