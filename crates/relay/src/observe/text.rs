//! The two forms of a log record: `time=… level=… msg=… key=value`, as Go's `slog` writes it, and a JSON object.

use std::fmt::{Display, Write};

/// Room for a line about a connection.
const LINE_BYTES: usize = 256;

/// Characters of a value; what is longer is cut, and ends with an ellipsis. Peers choose some of the values: a long one
/// must fill neither the queue nor the disk.
const LONGEST_VALUE: usize = 256;

/// One record in the making: a line of pairs.
pub(super) struct Record {
    line: String,
    json: bool,
}

impl Record {
    pub(super) fn text() -> Self {
        Self {
            line: String::with_capacity(LINE_BYTES),
            json: false,
        }
    }

    pub(super) fn json() -> Self {
        Self {
            line: String::with_capacity(LINE_BYTES),
            json: true,
        }
    }

    /// Adds a pair. Keys are ours and need no quoting, and neither does a value that is a number.
    pub(super) fn push(&mut self, key: &str, value: &dyn Display, is_number: bool) {
        let line = &mut self.line;
        if self.json {
            line.push(if line.is_empty() { '{' } else { ',' });
            line.extend(["\"", key, "\":"]);
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.extend([key, "="]);
        }
        let start = line.len();
        // An error says that it was cut.
        let _ = write!(Cut::of(line), "{value}");
        if self.json && !is_number {
            let value = serde_json::Value::from(line.split_off(start));
            let _ = write!(line, "{value}");
        } else if !self.json && needs_quotes(&line[start..]) {
            let value = line.split_off(start);
            push_quoted(line, &value);
        }
    }

    /// The line, with its end.
    pub(super) fn finish(mut self) -> String {
        self.line.push_str(if self.json { "}\n" } else { "\n" });
        self.line
    }
}

/// Writes a value as far as it may go, so that a long one never takes memory.
struct Cut<'a> {
    line: &'a mut String,
    left: usize,
}

impl<'a> Cut<'a> {
    fn of(line: &'a mut String) -> Self {
        let left = LONGEST_VALUE;
        Self { line, left }
    }
}

impl Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        // No character is less than a byte.
        if text.len() > self.left
            && let Some((end, _)) = text.char_indices().nth(self.left)
        {
            self.line.extend([&text[..end], "…"]);
            self.left = 0;
            return Err(std::fmt::Error);
        }
        self.left -= text.chars().count();
        self.line.push_str(text);
        Ok(())
    }
}

/// Whether a value is to be quoted, in the manner of Go string literals: when it is empty or holds anything that
/// could be read as structure: spaces, quotes, `=`, or characters that do not print.
fn needs_quotes(value: &str) -> bool {
    // Most values are plain; all their bytes are looked at, because that takes no branches.
    let is_plain = |b: u8| matches!(b, 0x21..=0x7e) & (b != b'"') & (b != b'=');
    if !value.is_empty() && value.bytes().fold(true, |all, b| all & is_plain(b)) {
        return false;
    }
    value.is_empty()
        || value
            .chars()
            .any(|c| matches!(c, ' ' | '"' | '=') || !prints(c))
}

/// Printable, as far as a log line is concerned: no control, separator, format or private character.
fn prints(c: char) -> bool {
    match u32::from(c) {
        0x20..=0x7e => true,
        0..=0xa0 | 0xad => false,
        0x200b..=0x200f | 0x2028..=0x202f | 0x205f..=0x206f | 0xfeff | 0x3000 => false,
        0xe000..=0xf8ff | 0xfff0..=0xffff | 0xe0000.. => false,
        _ => !c.is_control() && !c.is_whitespace(),
    }
}

/// Appends `value` in quotes.
pub(super) fn push_quoted(line: &mut String, value: &str) {
    line.push('"');
    for c in value.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if prints(c) => line.push(c),
            // Writing to a String cannot fail.
            c if u32::from(c) < 0x80 => drop(write!(line, "\\x{:02x}", u32::from(c))),
            c if u32::from(c) < 0x1_0000 => drop(write!(line, "\\u{:04x}", u32::from(c))),
            c => drop(write!(line, "\\U{:08x}", u32::from(c))),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        let mut record = Record::text();
        record.push("k", &value, false);
        record.finish().trim_end()["k=".len()..].to_owned()
    }

    #[test]
    fn plain_values_stay_bare() {
        assert_eq!(shown("client-8f7e-1a2b"), "client-8f7e-1a2b");
        assert_eq!(shown("[::1]"), "[::1]");
        assert_eq!(shown("Jörg"), "Jörg");
    }

    #[test]
    fn nothing_a_peer_sends_can_forge_a_line_or_a_key() {
        assert_eq!(shown(""), "\"\"");
        assert_eq!(shown("a b"), "\"a b\"");
        assert_eq!(shown("a=b"), "\"a=b\"");
        assert_eq!(shown("x\nlevel=ERROR"), "\"x\\nlevel=ERROR\"");
        assert_eq!(shown("x\r\ty"), "\"x\\r\\ty\"");
        assert_eq!(shown("\"\\"), "\"\\\"\\\\\"");
        assert_eq!(shown("\u{1b}[31m"), "\"\\x1b[31m\"");
        assert_eq!(shown("a\u{2028}b"), "\"a\\u2028b\"");
        assert_eq!(shown("\u{e0001}"), "\"\\U000e0001\"");
    }
}
