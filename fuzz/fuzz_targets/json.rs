//! The JSON check against a library, also with strings that are long enough for wide vectors.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/proto/tests/properties/oracle/json.rs"]
mod oracle;

fuzz_target!(|document: &[u8]| {
    oracle::compare(document);
    oracle::compare(&relay_fuzz::stretch(document));
});
