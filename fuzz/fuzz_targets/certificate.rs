//! A certificate and its key: usable and shown, or an error that shows nothing of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyrycode_relay::fuzzing::{certificate_in_der, certificate_in_pem};

/// Of the certificates in the corpus. Made for this, and for nothing else.
const KEY: &[u8] = include_bytes!("certificate.key");

fuzz_target!(|input: &[u8]| {
    let said = match input {
        [b'-', ..] => certificate_in_pem(input, "relay.example"),
        // Its own bytes: a fuzzer gets nowhere through base64.
        _ => certificate_in_der(input, KEY, "relay.example"),
    };
    match said {
        Ok((said, _)) => assert!(relay_fuzz::is_one_line(&said)),
        Err(error) => {
            assert!(relay_fuzz::is_one_line(&error), "{error:?}");
            assert!(error.len() < 400, "{error:?}");
        }
    }
});
