//! A cursor in a text that is read from left to right.

use super::LiteralError;

/// A text, and the offset up to which it has been read.
pub(super) struct Cursor<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, offset: 0 }
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.offset..]
    }

    /// The next character, without passing over it.
    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Passes over the next character and returns it.
    pub(super) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.offset += next.len_utf8();
        Some(next)
    }

    /// Passes over `expected` if it comes next. Returns whether it did.
    pub(super) fn eat(&mut self, expected: &str) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.offset += expected.len();
        }
        found
    }

    /// Passes over the next characters while they are `wanted`, and returns them.
    pub(super) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.offset += end;
        &rest[..end]
    }

    /// Passes over the characters that Python treats as blank inside brackets.
    pub(super) fn skip_blanks(&mut self) {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c'));
    }

    /// The current offset, for [`error_at`](Self::error_at).
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// An error at the next character.
    pub(super) fn error(&self, problem: impl Into<String>) -> LiteralError {
        self.error_at(self.offset, problem)
    }

    /// An error at an earlier [`offset`](Self::offset).
    pub(super) fn error_at(&self, offset: usize, problem: impl Into<String>) -> LiteralError {
        LiteralError {
            position: self.text[..offset].chars().count() + 1,
            problem: problem.into(),
        }
    }
}

/// Whether a Python name may begin with this character.
pub(super) fn is_name_start(character: char) -> bool {
    character == '_' || character.is_alphabetic()
}
