//! Is this one JSON value? A grammar check (RFC 8259) that builds nothing and allocates nothing.
//!
//! Accepted on purpose, since peers do: numbers of any size, duplicate keys, escapes of lone
//! surrogates, and (a codec's business) invalid UTF-8 inside strings. A byte order mark isn't.

mod nesting;
mod scanner;

pub(crate) use scanner::{Scanner, StringSpan};

/// How deep arrays and objects may be nested. Go's decoder, at the other end, has the same limit.
pub const MAX_DEPTH: usize = 10_000;

/// What is wrong, and where. Shows nothing of the document itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct JsonError {
    /// Where the document stopped making sense, in bytes from its start.
    pub offset: usize,
    /// What is wrong there.
    pub kind: JsonErrorKind,
}

/// What is wrong with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonErrorKind {
    /// It ends inside a value, or before one.
    #[error("unexpected end")]
    End,
    /// A byte that can't stand here.
    #[error("unexpected byte")]
    Byte,
    /// A control character inside a string.
    #[error("control character in a string")]
    Control,
    /// A backslash that starts no escape.
    #[error("unknown escape")]
    Escape,
    /// More than [`MAX_DEPTH`] levels.
    #[error("nested too deep")]
    Depth,
    /// Something other than whitespace after the value.
    #[error("data after the value")]
    Trailing,
}

/// Checks that `bytes` are exactly one JSON value, with whitespace around it or without.
///
/// Linear time, constant memory.
///
/// # Errors
/// The first thing that is wrong.
pub fn validate(bytes: &[u8]) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(bytes);
    scanner.value()?;
    scanner.end()
}
