//! UTF-8 validation of a text that arrives in pieces. Fails at the first byte that can't be part of
//! any valid text, not at the end of the piece's character.

use super::Error;

/// Between pieces: a character's first bytes, if the last piece ended inside one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validator {
    bytes: [u8; 3],
    len: u8,
}

impl Validator {
    pub(super) const START: Self = Self {
        bytes: [0; 3],
        len: 0,
    };

    /// Takes the next piece.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<(), Error> {
        let piece = self.finish_character(piece)?;
        let (whole, tail) = piece.split_at(piece.len() - unfinished(piece));
        check(whole)?;
        if !tail.is_empty() {
            could_become_valid(tail)?;
            self.bytes[..tail.len()].copy_from_slice(tail);
            self.len = tail.len() as u8;
        }
        Ok(())
    }

    /// Ends the text: it must not end inside a character.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        match std::mem::take(&mut self.len) {
            0 => Ok(()),
            _ => Err(Error::InvalidUtf8),
        }
    }

    /// Feeds the character that the last piece left unfinished, and returns the rest of `piece`.
    fn finish_character<'a>(&mut self, mut piece: &'a [u8]) -> Result<&'a [u8], Error> {
        while self.len > 0
            && let [next, rest @ ..] = piece
        {
            let had = usize::from(self.len);
            let mut character = [0; 4];
            character[..had].copy_from_slice(&self.bytes[..had]);
            character[had] = *next;
            piece = rest;
            self.len = match could_become_valid(&character[..=had])? {
                true => 0,
                // Only characters of up to 4 bytes are unfinished, so at most 3 are kept.
                false => {
                    self.bytes[had] = *next;
                    self.len + 1
                }
            };
        }
        Ok(piece)
    }
}

/// Checks a text that is there as a whole.
pub(super) fn check(text: &[u8]) -> Result<(), Error> {
    simdutf8::basic::from_utf8(text)
        .map(|_| ())
        .map_err(|_| Error::InvalidUtf8)
}

/// Whether the text is valid already (true), or may become so with more bytes (false).
fn could_become_valid(text: &[u8]) -> Result<bool, Error> {
    match std::str::from_utf8(text) {
        Ok(_) => Ok(true),
        Err(e) if e.error_len().is_none() => Ok(false),
        Err(_) => Err(Error::InvalidUtf8),
    }
}

/// How many bytes at the end of `piece` look like the beginning of a longer character.
fn unfinished(piece: &[u8]) -> usize {
    for (back, byte) in piece.iter().rev().take(3).enumerate() {
        let length = match byte {
            0x80..0xc0 => continue,
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0.. => 4,
            _ => 1,
        };
        return if length > back + 1 { back + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where feeding `text` byte by byte fails: an index, or its length for an unfinished end.
    fn fails_at(text: &[u8]) -> Option<usize> {
        let mut validator = Validator::START;
        for (i, byte) in text.iter().enumerate() {
            if validator.feed(&[*byte]).is_err() {
                return Some(i);
            }
        }
        validator.finish().err().map(|_| text.len())
    }

    #[test]
    fn fails_at_the_first_impossible_byte() {
        assert_eq!(fails_at("κόσμε \u{10ffff}".as_bytes()), None);
        assert_eq!(fails_at(b"ab\xf4\x90\x80\x80"), Some(3)); // above U+10FFFF
        assert_eq!(fails_at(b"\xed\xa0\x80"), Some(1)); // surrogate
        assert_eq!(fails_at(b"\xc0\xaf"), Some(0)); // overlong
        assert_eq!(fails_at(b"\xe0\x80\xaf"), Some(1)); // overlong
        assert_eq!(fails_at(b"a\x80"), Some(1)); // stray continuation
        assert_eq!(fails_at(b"\xc3a"), Some(1)); // missing continuation
        assert_eq!(fails_at(b"ab\xf0\x9f\x92"), Some(5)); // cut off
        assert_eq!(fails_at(b"\xff"), Some(0));
    }

    #[test]
    fn the_verdict_does_not_depend_on_the_pieces() {
        let texts: [&[u8]; 5] = [
            "aé漢\u{1f600}z\u{1f600}".as_bytes(),
            b"abc\xf0\x9f\x98\x80\xf0\x9f\x98",
            b"\xed\x9f\xbf\xed\xa0\x80",
            b"\xf4\x8f\xbf\xbf\xf4\x90\x80\x80",
            b"aaaaaaaa\x80\x80\x80\x80",
        ];
        for text in texts {
            let valid = std::str::from_utf8(text).is_ok();
            for a in 0..=text.len() {
                for b in a..=text.len() {
                    let mut validator = Validator::START;
                    let verdict = [&text[..a], &text[a..b], &text[b..]]
                        .iter()
                        .try_for_each(|piece| validator.feed(piece))
                        .and_then(|()| validator.finish());
                    assert_eq!(
                        verdict.is_ok(),
                        valid,
                        "{} at {a}, {b}",
                        text.escape_ascii()
                    );
                }
            }
        }
    }
}
