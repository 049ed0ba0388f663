//! What a binary asks for.

use super::PushWake;
use crate::json::{JsonError, Scanner, StringSpan};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// What a binary's message asks for.
#[derive(Clone, PartialEq, Eq)]
pub enum Directive<'a> {
    /// Send `frame`, byte for byte, to that phone.
    Frame {
        /// The phone.
        conn_id: Cow<'a, str>,
        /// One JSON value.
        frame: &'a [u8],
    },
    /// Send `frame` if there is one, then close that phone.
    Close {
        /// The phone.
        conn_id: Cow<'a, str>,
        /// One JSON value, not `null`.
        frame: Option<&'a [u8]>,
        /// The code to close with; not 0, and not necessarily one that can be sent.
        code: u16,
    },
    /// Wake a phone by push. Addressed to the relay itself.
    PushWake(PushWake<'a>),
}

impl fmt::Debug for Directive<'_> {
    /// Shows lengths in place of frames.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame { conn_id, frame } => {
                write!(f, "Frame({conn_id:?}, {} bytes)", frame.len())
            }
            Self::Close {
                conn_id,
                frame,
                code,
            } => {
                write!(
                    f,
                    "Close({conn_id:?}, {:?} bytes, {code})",
                    frame.map(<[u8]>::len)
                )
            }
            Self::PushWake(wake) => wake.fmt(f),
        }
    }
}

/// Why a binary's message was dropped. Shows nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It isn't an envelope at all.
    #[error("malformed envelope: {0}")]
    Malformed(#[from] Malformed),
    /// No phone is named, and no push is asked for.
    #[error("envelope without conn_id")]
    MissingConnId,
    /// There is neither a frame to send nor a code to close with.
    #[error("envelope without frame")]
    MissingFrame,
}

/// Why a message isn't an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It isn't JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// It is JSON, but not an object.
    #[error("not an object")]
    NotAnObject,
    /// The value of this member is of the wrong type, or out of range.
    #[error("bad {0}")]
    Member(&'static str),
}

/// Reads a binary's message.
///
/// Unknown keys are ignored; of a repeated key the last value counts; keys are case-sensitive.
/// `null` stands for absence everywhere. Borrows from the message, and allocates only for a conn_id
/// that has escapes in it or isn't UTF-8 (bad parts become U+FFFD).
///
/// ```
/// use relay_proto::envelope::{Directive, parse};
///
/// let asked = parse(br#"{"conn_id":"client-1","frame":{"v": 2}}"#)?;
/// assert_eq!(asked, Directive::Frame { conn_id: "client-1".into(), frame: br#"{"v": 2}"# });
/// # Ok::<(), relay_proto::envelope::EnvelopeError>(())
/// ```
///
/// # Errors
/// [`EnvelopeError`]. None of them is a reason to close the binary's connection.
pub fn parse(message: &[u8]) -> Result<Directive<'_>, EnvelopeError> {
    let fields = Fields::read(message)?;
    let Some(conn_id) = fields.conn_id.filter(|id| !id.is_empty()) else {
        let wake = fields.push_wake.ok_or(EnvelopeError::MissingConnId)?;
        return Ok(Directive::PushWake(PushWake::new(wake)));
    };
    match (fields.frame, fields.close_code) {
        (Some(frame), 0) => Ok(Directive::Frame { conn_id, frame }),
        (None, 0) => Err(EnvelopeError::MissingFrame),
        (frame, code) => Ok(Directive::Close {
            conn_id,
            frame,
            code,
        }),
    }
}

/// The members that count. `null` is `None`, or 0.
#[derive(Default)]
struct Fields<'a> {
    conn_id: Option<Cow<'a, str>>,
    frame: Option<&'a [u8]>,
    close_code: u16,
    push_wake: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        read_object(message, |name, raw| {
            let value = (raw != b"null").then_some(raw);
            match name {
                b"conn_id" => {
                    let bad = Malformed::Member("conn_id");
                    fields.conn_id = value.map(|raw| string(raw).ok_or(bad)).transpose()?;
                }
                b"close_code" => {
                    let bad = Malformed::Member("close_code");
                    fields.close_code = value.map_or(Some(0), code).ok_or(bad)?;
                }
                b"frame" => fields.frame = value,
                b"push_wake" => fields.push_wake = value,
                _ => {}
            }
            Ok(())
        })?;
        Ok(fields)
    }
}

/// Reads a document that is one object, handing each member's name (unescaped) and raw value to `member`.
///
/// The whole document is checked first to last; an error of `member` ends it early.
pub(super) fn read_object<'a>(
    document: &'a [u8],
    mut member: impl FnMut(&[u8], &'a [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut scanner = Scanner::new(document);
    if !scanner.take_if(b'{') {
        scanner.value()?;
        scanner.end()?;
        return Err(Malformed::NotAnObject);
    }
    if !scanner.take_if(b'}') {
        loop {
            let key = scanner.key()?;
            let value = scanner.member_value()?;
            let value = &document[value];
            if key.has_escapes {
                member(unescape(document, key).as_bytes(), value)?;
            } else {
                member(&document[key.content], value)?;
            }
            if !scanner.take_if(b',') {
                break;
            }
        }
        scanner.expect(b'}')?;
    }
    Ok(scanner.end()?)
}

/// The content of a raw value that is a string.
pub(super) fn string(raw: &[u8]) -> Option<Cow<'_, str>> {
    let span = Scanner::new(raw).string().ok()?;
    Some(unescape(raw, span))
}

/// A raw value that is an integer from 0 to 65535, written without fraction, exponent or sign.
fn code(raw: &[u8]) -> Option<u16> {
    // `parse` alone would take a plus sign, but JSON has none in front.
    std::str::from_utf8(raw).ok()?.parse().ok()
}

fn unescape(document: &[u8], span: StringSpan) -> Cow<'_, str> {
    let content = &document[Range::clone(&span.content)];
    // Checked first: the lossy conversion is slow, and hardly ever needed.
    let content = std::str::from_utf8(content)
        .map_or_else(|_| String::from_utf8_lossy(content), Cow::Borrowed);
    if span.has_escapes {
        Cow::Owned(resolve_escapes(&content))
    } else {
        content
    }
}

/// Resolves the escapes of a string that is known to be well-formed.
fn resolve_escapes(content: &str) -> String {
    let mut out = String::with_capacity(content.len());
    let mut rest = content;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(unit) = utf16_unit(rest) {
            rest = &rest[5..];
            let low = rest.strip_prefix('\\').and_then(utf16_unit);
            let pair = [unit, low.unwrap_or(0)];
            match char::decode_utf16(pair).next() {
                Some(Ok(c)) => {
                    out.push(c);
                    if c.len_utf16() == 2 {
                        rest = &rest[6..];
                    }
                }
                _ => out.push(char::REPLACEMENT_CHARACTER),
            }
            continue;
        }
        let mut chars = rest.chars();
        out.extend(chars.next().map(|c| match c {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            itself => itself,
        }));
        rest = chars.as_str();
    }
    out.push_str(rest);
    out
}

/// The unit of an escape `uXXXX` at the front.
fn utf16_unit(escape: &str) -> Option<u16> {
    let digits = escape.strip_prefix('u')?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
