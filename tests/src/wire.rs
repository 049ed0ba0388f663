//! What peers put on the wire: headers, frames, envelopes.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

/// Headers of a request, in order.
pub type Headers<'a> = &'a [(&'a str, &'a str)];

const PHONE_TOKEN: &str = "phone-token-6f1c02";
const FRAME_MARK: &str = "opaque-";
/// Part of every device token.
pub(crate) const PUSH_TOKEN: &str = "push-token-93b1aa";
const INSTANCE_MARK: &str = "instance-of-";
/// Part of every access token of [`crate::Google`].
pub(crate) const ACCESS_TOKEN: &str = "access-token-c02d4e";
/// The account that asks for them.
pub(crate) const CLIENT_EMAIL: &str = "sender@canary-project.test";
/// What [`crate::Google`]'s answers say in their own words.
pub(crate) const FREE_TEXT: &str = "free text 5f0d";

/// What tests choose as the token of the admin page.
pub const ADMIN_TOKEN: &str = "admin-token-5b7a0e41";

/// Text that must never reach a log line: each is part of a value some test sends as a secret.
/// [`crate::Relay`] looks for them in everything the program printed, after every test.
pub const SECRETS: [&str; 8] = [
    PHONE_TOKEN,
    FRAME_MARK,
    PUSH_TOKEN,
    INSTANCE_MARK,
    ACCESS_TOKEN,
    CLIENT_EMAIL,
    FREE_TEXT,
    ADMIN_TOKEN,
];

/// What a daemon sends beside the server-id.
pub const DAEMON_HEADERS: Headers<'static> = &[
    ("x-pyrycode-version", "9.9.9-test"),
    ("user-agent", "pyry/9.9.9-test"),
];

/// What a phone sends beside the server-id.
pub const PHONE_HEADERS: Headers<'static> = &[
    ("x-pyrycode-token", PHONE_TOKEN),
    ("user-agent", "pyry-test/1"),
    ("x-pyrycode-device-name", "test phone"),
];

/// The `n`th frame of a test, shaped as the real ones are.
pub fn frame(n: usize) -> String {
    format!(r#"{{"v":2,"type":"noise_msg","data":"{FRAME_MARK}{n}"}}"#)
}

/// A JSON string of exactly `bytes` bytes, quotes included.
pub fn json_of(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

/// The data envelope for `conn_id`, with `frame`'s text as it stands.
pub fn data_envelope(conn_id: &str, frame: &str) -> String {
    format!(r#"{{"conn_id":{},"frame":{frame}}}"#, Value::from(conn_id))
}

/// The close directive for `conn_id`, as the daemon's encoder writes it: without a frame the key
/// is there, and `null`.
pub fn directive(conn_id: &str, frame: Option<&str>, code: u32) -> String {
    let frame = frame.unwrap_or("null");
    format!(
        r#"{{"conn_id":{},"frame":{frame},"close_code":{code}}}"#,
        Value::from(conn_id)
    )
}

/// A message the relay sent to a daemon.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The phone it is about.
    pub conn_id: String,
    /// The frame, its text exactly as received.
    pub frame: Option<String>,
    /// The code of a close notice.
    pub close_code: Option<u64>,
}

impl Envelope {
    /// Reads `text`, which must be one of the two messages a relay sends to a daemon: exactly
    /// `conn_id` and `frame`, or exactly `conn_id` and `close_code`.
    ///
    /// # Panics
    /// On anything else.
    pub fn parse(text: &str) -> Self {
        let read: Result<BTreeMap<String, Box<RawValue>>, _> = serde_json::from_str(text);
        let object = read.unwrap_or_else(|e| panic!("no JSON object ({e}): {text:.200}"));
        let keys: Vec<&str> = object.keys().map(String::as_str).collect();
        let conn_id = serde_json::from_str(object["conn_id"].get()).expect("conn_id is a string");
        let (frame, close_code) = match keys[..] {
            ["conn_id", "frame"] => (Some(object["frame"].get().to_owned()), None),
            ["close_code", "conn_id"] => {
                let code = object["close_code"].get().parse();
                (None, Some(code.expect("close_code is an integer")))
            }
            _ => panic!("an envelope with the keys {keys:?}: {text:.200}"),
        };
        Self {
            conn_id,
            frame,
            close_code,
        }
    }
}
