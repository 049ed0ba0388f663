//! The routing envelope, spoken on the binary's leg only: one JSON object per message.
//!
//! Towards the binary it is spliced around the phone's own bytes; from the binary the span of
//! `frame` is found and those bytes are sent on. Neither way is a frame ever re-encoded.

mod parse;
mod wake;

pub use parse::{Directive, EnvelopeError, Malformed, parse};
pub use wake::{PushWake, Wake, WakeError};

use std::fmt::Write as _;

/// What follows a phone's frame on its way to the binary.
pub const SUFFIX: &[u8] = b"}";

/// What precedes a phone's frame on its way to the binary. Made once per phone.
///
/// ```
/// use relay_proto::envelope::{SUFFIX, prefix};
///
/// let message = [&*prefix("client-1"), br#"{"v":2}"#, SUFFIX].concat();
/// assert_eq!(message, br#"{"conn_id":"client-1","frame":{"v":2}}"#);
/// ```
pub fn prefix(conn_id: &str) -> Box<[u8]> {
    let mut json = with_conn_id(conn_id);
    json.push_str(r#","frame":"#);
    json.into_bytes().into()
}

/// Tells the binary that a phone is gone. There is no `frame` key in it.
///
/// ```
/// use relay_proto::envelope::close_notice;
///
/// assert_eq!(*close_notice("client-1", 1001), *br#"{"conn_id":"client-1","close_code":1001}"#);
/// ```
pub fn close_notice(conn_id: &str, code: u16) -> Box<[u8]> {
    let json = format!(r#"{},"close_code":{code}}}"#, with_conn_id(conn_id));
    json.into_bytes().into()
}

/// The beginning of an envelope.
fn with_conn_id(conn_id: &str) -> String {
    let mut json = String::with_capacity(conn_id.len() + 40);
    json.push_str(r#"{"conn_id":""#);
    for c in conn_id.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            // Writing to a String can't fail.
            '\0'..' ' => _ = write!(json, "\\u{:04x}", c as u32),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_conn_ids_are_escaped() {
        let json = prefix("a\"\\\n\u{1}\u{7f}é\u{2028}");
        let expected = "{\"conn_id\":\"a\\\"\\\\\\u000a\\u0001\u{7f}é\u{2028}\",\"frame\":";
        assert_eq!(std::str::from_utf8(&json).unwrap(), expected);
    }
}
