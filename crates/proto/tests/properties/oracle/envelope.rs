//! The envelope's rules once more, written against `serde_json` in place of our scanner.

use relay_proto::envelope::{Directive, EnvelopeError, parse};
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// An object's members: decoded name and raw value, in order.
pub(crate) struct Members<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// What a message asks for, with everything owned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Frame(String, Vec<u8>),
    Close(String, Option<Vec<u8>>, u16),
    PushWake,
    Malformed,
    MissingConnId,
    MissingFrame,
}

fn ours(message: &[u8]) -> Asked {
    match parse(message) {
        Ok(Directive::Frame { conn_id, frame }) => Asked::Frame(conn_id.into(), frame.into()),
        Ok(Directive::Close {
            conn_id,
            frame,
            code,
        }) => Asked::Close(conn_id.into(), frame.map(<[u8]>::to_vec), code),
        Ok(Directive::PushWake(wake)) => {
            let _ = wake.parse(); // must not panic
            Asked::PushWake
        }
        Err(EnvelopeError::Malformed(_)) => Asked::Malformed,
        Err(EnvelopeError::MissingConnId) => Asked::MissingConnId,
        Err(EnvelopeError::MissingFrame) => Asked::MissingFrame,
    }
}

fn theirs(message: &str) -> Asked {
    let Ok(Members(members)) = serde_json::from_str(message) else {
        return Asked::Malformed;
    };
    let (mut conn_id, mut frame, mut close_code, mut push_wake) = (None, None, None, None);
    for (name, raw) in members {
        match name.as_str() {
            "conn_id" => match serde_json::from_str::<Option<String>>(raw.get()) {
                Ok(id) => conn_id = id,
                Err(_) => return Asked::Malformed,
            },
            "close_code" => match serde_json::from_str::<Option<u16>>(raw.get()) {
                // The library reads -0 as a float, and so refuses it as we do.
                Ok(code) => close_code = code,
                Err(_) => return Asked::Malformed,
            },
            "frame" => frame = Some(raw.get()).filter(|raw| *raw != "null"),
            "push_wake" => push_wake = Some(raw.get()).filter(|raw| *raw != "null"),
            _ => {}
        }
    }
    let frame = frame.map(|raw| raw.as_bytes().to_vec());
    match (
        conn_id.filter(|id| !id.is_empty()),
        frame,
        close_code.unwrap_or(0),
    ) {
        (None, ..) if push_wake.is_some() => Asked::PushWake,
        (None, ..) => Asked::MissingConnId,
        (Some(_), None, 0) => Asked::MissingFrame,
        (Some(id), Some(frame), 0) => Asked::Frame(id, frame),
        (Some(id), frame, code) => Asked::Close(id, frame, code),
    }
}

/// Panics unless both read the message in the same way. Not compared: what the library can't read
/// (other than UTF-8, names and conn_ids with lone surrogates) or doesn't limit (depth).
pub(crate) fn compare(message: &[u8]) {
    let ours = ours(message);
    let Ok(text) = std::str::from_utf8(message) else {
        return;
    };
    let lone_surrogate_possible = text.to_ascii_lowercase().contains("\\ud");
    let too_deep = text.bytes().filter(|b| matches!(b, b'[' | b'{')).count() > 10_000;
    let theirs = theirs(text);
    let unreadable = lone_surrogate_possible && theirs == Asked::Malformed;
    if !unreadable && !too_deep {
        assert_eq!(ours, theirs, "{text}");
    }
}
