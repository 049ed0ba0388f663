//! A cursor that steps over JSON and says where things are.

use super::nesting::Nesting;
use super::{JsonError, JsonErrorKind as Wrong, plain};
use std::ops::Range;

/// A position in a document. After an error, it is where the error is.
#[derive(Clone, Debug)]
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A string, as it stands in the document.
#[derive(Clone, Debug)]
pub(crate) struct StringSpan {
    /// What is between the quotes.
    pub(crate) content: Range<usize>,
    /// Whether there is a backslash in it.
    pub(crate) has_escapes: bool,
}

/// Inside, an error is only what is wrong, which fits a register; where is added on the way out.
type Scan<T> = Result<T, Wrong>;

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Steps over one value, and says where it is (without the whitespace before it).
    pub(crate) fn value(&mut self) -> Result<Range<usize>, JsonError> {
        let value = self.value_within(&mut Nesting::new());
        self.located(value)
    }

    /// As [`Scanner::value`], for a member of one object whose braces the caller takes: that
    /// object counts as a level.
    pub(crate) fn member_value(&mut self) -> Result<Range<usize>, JsonError> {
        let mut nesting = Nesting::new();
        nesting.open(true);
        let value = self.value_within(&mut nesting);
        self.located(value)
    }

    /// Takes a key and its colon.
    pub(crate) fn key(&mut self) -> Result<StringSpan, JsonError> {
        self.whitespace();
        let key = self.string()?;
        self.expect(b':')?;
        Ok(key)
    }

    /// Takes a string, which must be next.
    pub(crate) fn string(&mut self) -> Result<StringSpan, JsonError> {
        let start = self.at + 1;
        let has_escapes = self.skip_string();
        let has_escapes = self.located(has_escapes)?;
        Ok(StringSpan {
            content: start..self.at - 1,
            has_escapes,
        })
    }

    /// Takes `byte`, which must be next after whitespace.
    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        let taken = self.skip(byte);
        self.located(taken)
    }

    /// Takes `byte`, if it is next after whitespace.
    #[inline]
    pub(crate) fn take_if(&mut self, byte: u8) -> bool {
        self.whitespace();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Nothing but whitespace may follow.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        self.whitespace();
        let at_end = self.peek().map_or(Ok(()), |_| Err(Wrong::Trailing));
        self.located(at_end)
    }

    fn located<T>(&self, outcome: Scan<T>) -> Result<T, JsonError> {
        outcome.map_err(|kind| JsonError {
            offset: self.at,
            kind,
        })
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn skip(&mut self, byte: u8) -> Scan<()> {
        if self.take_if(byte) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    /// What it is that can't stand here.
    #[cold]
    fn unexpected(&self) -> Wrong {
        self.peek().map_or(Wrong::End, |_| Wrong::Byte)
    }

    fn value_within(&mut self, nesting: &mut Nesting) -> Scan<Range<usize>> {
        self.whitespace();
        let start = self.at;
        let outer = nesting.depth();
        loop {
            let opened = self.scalar_or_open(nesting)?;
            if opened && self.first_member(nesting)? {
                continue;
            }
            // A value has ended. So may the containers around it.
            loop {
                if nesting.depth() == outer {
                    return Ok(start..self.at);
                }
                if self.next_member(nesting)? {
                    break;
                }
            }
        }
    }

    /// Takes a scalar (false) or an opening bracket (true).
    #[inline]
    fn scalar_or_open(&mut self, nesting: &mut Nesting) -> Scan<bool> {
        self.whitespace();
        match self.peek() {
            Some(b'"') => self.skip_string().map(|_| false),
            Some(open @ (b'{' | b'[')) => {
                if !nesting.open(open == b'{') {
                    return Err(Wrong::Depth);
                }
                self.at += 1;
                Ok(true)
            }
            Some(b'-' | b'0'..=b'9') => self.skip_number().map(|()| false),
            Some(b't') => self.skip_literal(b"true").map(|()| false),
            Some(b'f') => self.skip_literal(b"false").map(|()| false),
            Some(b'n') => self.skip_literal(b"null").map(|()| false),
            _ => Err(self.unexpected()),
        }
    }

    /// After an opening bracket: goes to the first value inside (true), or closes (false).
    #[inline]
    fn first_member(&mut self, nesting: &mut Nesting) -> Scan<bool> {
        let in_object = nesting.in_object();
        if self.take_if(if in_object { b'}' } else { b']' }) {
            nesting.close();
            return Ok(false);
        }
        if in_object {
            self.skip_key()?;
        }
        Ok(true)
    }

    /// After a value inside a container: goes to the next value (true), or closes (false).
    #[inline]
    fn next_member(&mut self, nesting: &mut Nesting) -> Scan<bool> {
        self.whitespace();
        let in_object = nesting.in_object();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                if in_object {
                    self.skip_key()?;
                }
                Ok(true)
            }
            Some(close) if close == if in_object { b'}' } else { b']' } => {
                self.at += 1;
                nesting.close();
                Ok(false)
            }
            _ => Err(self.unexpected()),
        }
    }

    #[inline]
    fn skip_key(&mut self) -> Scan<()> {
        self.whitespace();
        self.skip_string()?;
        self.skip(b':')
    }

    /// Says whether there were escapes in it.
    #[inline]
    fn skip_string(&mut self) -> Scan<bool> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected());
        }
        self.at += 1;
        let mut has_escapes = false;
        loop {
            self.at += plain::prefix(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    self.skip_escape()?;
                }
                Some(_) => return Err(Wrong::Control),
                None => return Err(Wrong::End),
            }
        }
        self.at += 1;
        Ok(has_escapes)
    }

    fn skip_escape(&mut self) -> Scan<()> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    match self.peek() {
                        Some(digit) if digit.is_ascii_hexdigit() => self.at += 1,
                        Some(_) => return Err(Wrong::Escape),
                        None => return Err(Wrong::End),
                    }
                }
            }
            Some(_) => return Err(Wrong::Escape),
            None => return Err(Wrong::End),
        }
        Ok(())
    }

    #[inline]
    fn skip_number(&mut self) -> Scan<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.skip_digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.skip_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.skip_digits()?;
        }
        Ok(())
    }

    /// Takes digits, at least one.
    #[inline]
    fn skip_digits(&mut self) -> Scan<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            Err(self.unexpected())
        } else {
            Ok(())
        }
    }

    #[inline]
    fn skip_literal<const N: usize>(&mut self, word: &[u8; N]) -> Scan<()> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += N;
            return Ok(());
        }
        let same = self.bytes[self.at..]
            .iter()
            .zip(word)
            .take_while(|(a, b)| a == b);
        self.at += same.count();
        Err(self.unexpected())
    }
}
