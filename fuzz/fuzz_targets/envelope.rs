//! The routing envelope against a model, and there and back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_proto::envelope::{Directive, SUFFIX, parse, prefix};
use relay_proto::json::validate;

#[path = "../../crates/proto/tests/properties/oracle/envelope.rs"]
mod oracle;

fuzz_target!(|message: &[u8]| {
    check(message);
    check(&relay_fuzz::stretch(message));
});

fn check(message: &[u8]) {
    oracle::compare(message);

    // What is taken out of an envelope is a document, and so is what is put into one. Of some
    // depth or more it isn't any longer, once the envelope is counted.
    let Ok(Directive::Frame { conn_id, frame }) = parse(message) else {
        return;
    };
    assert_eq!(validate(frame), Ok(()));
    let wrapped = [&prefix(&conn_id)[..], frame, SUFFIX].concat();
    assert_eq!(parse(&wrapped), Ok(Directive::Frame { conn_id, frame }));
}
