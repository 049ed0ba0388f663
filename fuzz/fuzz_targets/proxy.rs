//! The PROXY header against a library, however it is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/proto/tests/properties/oracle/proxy.rs"]
mod oracle;

fuzz_target!(|stream: &[u8]| oracle::compare(stream));
