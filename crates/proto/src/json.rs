//! Is this one JSON value? A grammar check (RFC 8259) that builds nothing and allocates nothing.
//!
//! Accepted on purpose, since peers do: numbers of any size, duplicate keys, escapes of lone
//! surrogates, and (a codec's business) invalid UTF-8 inside strings. A byte order mark isn't.

mod nesting;
mod plain;
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

/// As [`validate`], for what becomes a member of an object, as a frame does of its envelope: that object counts as a
/// level, or whoever reads it would find it nested too deep.
///
/// # Errors
/// The first thing that is wrong.
pub fn validate_member(bytes: &[u8]) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(bytes);
    scanner.member_value()?;
    scanner.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use JsonErrorKind::{Byte, Control, Depth, End, Escape, Trailing};

    #[test]
    fn accepts_what_the_grammar_has() {
        let documents: [&[u8]; 22] = [
            b"null",
            b" true ",
            b"\t\r\n false\n",
            b"0",
            b"-0",
            b"1e999999",
            b"-12.50E+007",
            b"123456789012345678901234567890",
            b"\"\"",
            b"\"a\\\"b\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
            b"\"\\ud800\"",
            b"\"\\udc00\\ud800x\"",
            b"\"\xff\xc0\x80\"",
            b"\"\x7f\"",
            b"[]",
            b"[ ]",
            b"{}",
            b"{ }",
            b"[1, [2, {\"a\" : [ ] , \"a\":null}] ]",
            b"{\"\":{\"\":{}}}",
            b"[[],{},[],{}]",
            b"{\"v\":2,\"data\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
        ];
        for document in documents {
            assert_eq!(validate(document), Ok(()), "{}", document.escape_ascii());
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let documents: [(&[u8], usize, JsonErrorKind); 45] = [
            (b"", 0, End),
            (b"  ", 2, End),
            (b"\xef\xbb\xbf{}", 0, Byte),
            (b"{} {}", 3, Trailing),
            (b"1 2", 2, Trailing),
            (b"nul", 3, End),
            (b"nulL", 3, Byte),
            (b"truefalse", 4, Trailing),
            (b"True", 0, Byte),
            (b"NaN", 0, Byte),
            (b"+1", 0, Byte),
            (b"01", 1, Trailing),
            (b"-", 1, End),
            (b"-a", 1, Byte),
            (b".5", 0, Byte),
            (b"1.", 2, End),
            (b"1.e5", 2, Byte),
            (b"1e", 2, End),
            (b"1e+", 3, End),
            (b"0x10", 1, Trailing),
            (b"\"", 1, End),
            (b"\"abc", 4, End),
            (b"'a'", 0, Byte),
            (b"\"a\nb\"", 2, Control),
            (b"\"\0\"", 1, Control),
            (b"\"\\x\"", 2, Escape),
            (b"\"\\u12g4\"", 5, Escape),
            (b"\"\\u123\"", 6, Escape),
            (b"\"\\u12\"", 5, Escape),
            (b"\"\\u1", 4, End),
            (b"\"\\", 2, End),
            (b"\"\\\"", 3, End),
            (b"[", 1, End),
            (b"[1", 2, End),
            (b"[1,", 3, End),
            (b"[1,]", 3, Byte),
            (b"[,1]", 1, Byte),
            (b"[1 2]", 3, Byte),
            (b"[1}", 2, Byte),
            (b"{\"a\":1]", 6, Byte),
            (b"{\"a\" 1}", 5, Byte),
            (b"{\"a\":}", 5, Byte),
            (b"{\"a\":1,}", 7, Byte),
            (b"{a:1}", 1, Byte),
            (b"]", 0, Byte),
        ];
        for (document, offset, kind) in documents {
            let verdict = validate(document);
            assert_eq!(
                verdict,
                Err(JsonError { offset, kind }),
                "{}",
                document.escape_ascii()
            );
        }
    }

    #[test]
    fn depth_ends_at_the_limit() {
        let nested = |open: &str, close: &str, depth: usize| {
            validate(
                [open.repeat(depth), close.repeat(depth)]
                    .concat()
                    .as_bytes(),
            )
        };
        assert_eq!(nested("[", "]", MAX_DEPTH), Ok(()));
        let too_deep = Err(JsonError {
            offset: MAX_DEPTH,
            kind: Depth,
        });
        assert_eq!(nested("[", "]", MAX_DEPTH + 1), too_deep);
        let mixed = |depth: usize| nested("{\"a\":[", "]}", depth / 2);
        assert_eq!(mixed(MAX_DEPTH), Ok(()));
        assert_eq!(mixed(MAX_DEPTH + 2).unwrap_err().kind, Depth);
        assert_eq!(nested("[{\"a\":[", "]]}", 1000).unwrap_err().kind, Byte);
        // What overflows the stack of validators that recurse.
        assert_eq!(validate(&b"[".repeat(1 << 18)).unwrap_err().kind, Depth);
    }

    #[test]
    fn the_object_around_a_member_counts_as_a_level() {
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert_eq!(validate_member(nested(MAX_DEPTH - 1).as_bytes()), Ok(()));
        let too_deep = validate_member(nested(MAX_DEPTH).as_bytes());
        assert_eq!(too_deep.unwrap_err().kind, Depth);
        assert_eq!(validate_member(b"1 2").unwrap_err().kind, Trailing);
    }

    #[test]
    fn errors_show_nothing_of_the_document() {
        let error = validate(b"{\"secret\":s3cret}").unwrap_err();
        assert_eq!(error.to_string(), "unexpected byte at byte 10");
    }
}
