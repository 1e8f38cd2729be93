//! Reads Python strings.

use super::LiteralError;
use super::cursor::Cursor;

/// The letters before a quote, and what they mean.
#[derive(Clone, Copy)]
struct Prefix {
    letters: usize,
    is_bytes: bool,
    is_raw: bool,
}

impl Prefix {
    /// The prefix of the string that `text` starts with, if it does.
    fn of(text: &str) -> Option<Self> {
        let letters = text
            .bytes()
            .take(3)
            .position(|c| matches!(c, b'\'' | b'"'))?;
        let (is_bytes, is_raw) = match text[..letters].to_ascii_lowercase().as_str() {
            "" | "u" => (false, false),
            "r" => (false, true),
            "b" => (true, false),
            "br" | "rb" => (true, true),
            _ => return None,
        };
        Some(Self {
            letters,
            is_bytes,
            is_raw,
        })
    }
}

/// Whether `text` starts with a string, with or without a prefix.
pub(super) fn is_at_start(text: &str) -> bool {
    Prefix::of(text).is_some()
}

/// Reads a string, and the strings that follow it without a comma, which Python joins.
pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<String, LiteralError> {
    let start = cursor.offset();
    let mut content = StringContent::default();
    while let Some(prefix) = Prefix::of(cursor.rest()) {
        if prefix.is_bytes {
            return Err(cursor.error("expected a value that JSON can hold, found bytes"));
        }
        read_piece(cursor, prefix, &mut content)?;
        cursor.skip_blanks();
    }
    content
        .check_no_half()
        .map_err(|problem| cursor.error_at(start, problem))?;
    Ok(content.text)
}

/// The part of a string that has been read.
#[derive(Default)]
struct StringContent {
    text: String,
    /// The first half of a surrogate pair, if the second half may follow.
    half: Option<u32>,
}

impl StringContent {
    fn check_no_half(&self) -> Result<(), &'static str> {
        match self.half {
            Some(_) => Err("expected no lone surrogate, which JSON cannot hold"),
            None => Ok(()),
        }
    }

    fn push(&mut self, character: char) -> Result<(), &'static str> {
        self.check_no_half()?;
        self.text.push(character);
        Ok(())
    }

    /// Adds a character by its code, which may be half of a surrogate pair. Python keeps the two halves apart;
    /// reading back what `json.dumps` writes joins them.
    fn push_code(&mut self, code: u32) -> Result<(), &'static str> {
        let code = match (self.half.take(), code) {
            (None, 0xd800..=0xdbff) => {
                self.half = Some(code);
                return Ok(());
            }
            (Some(first), 0xdc00..=0xdfff) => 0x10000 + ((first - 0xd800) << 10) + (code - 0xdc00),
            (half, code) => {
                self.half = half;
                code
            }
        };
        match char::from_u32(code) {
            Some(character) => self.push(character),
            None if code < 0xe000 => Err("expected no lone surrogate, which JSON cannot hold"),
            None => Err("expected a character up to U+10FFFF"),
        }
    }
}

fn read_piece(
    cursor: &mut Cursor<'_>,
    prefix: Prefix,
    content: &mut StringContent,
) -> Result<(), LiteralError> {
    let start = cursor.offset();
    for _ in 0..prefix.letters {
        cursor.next();
    }
    let quotes = ["'''", "\"\"\"", "'", "\""];
    let quote = quotes
        .into_iter()
        .find(|quote| cursor.eat(quote))
        .unwrap_or_default();
    loop {
        if cursor.eat(quote) {
            return Ok(());
        }
        let at = cursor.offset();
        let pushed = match cursor.next() {
            Some('\n' | '\r') if quote.len() == 1 => {
                return Err(cursor.error_at(start, "expected a string that ends on its line"));
            }
            Some('\r') => {
                // Python reads every line ending as \n.
                cursor.eat("\n");
                content.push('\n')
            }
            Some('\\') if prefix.is_raw => raw_backslash(cursor, content),
            Some('\\') => escape(cursor, content),
            Some(character) => content.push(character),
            None => {
                return Err(
                    cursor.error_at(start, format!("expected a string that ends with {quote}"))
                );
            }
        };
        pushed.map_err(|problem| cursor.error_at(at, problem))?;
    }
}

/// Reads what follows a backslash in a raw string: the backslash stays, and a quote after it does not end the
/// string.
fn raw_backslash(cursor: &mut Cursor<'_>, content: &mut StringContent) -> Result<(), &'static str> {
    content.push('\\')?;
    match cursor.peek() {
        Some(next @ ('\'' | '"' | '\\')) => {
            cursor.next();
            content.push(next)
        }
        _ => Ok(()),
    }
}

/// Reads what follows a backslash.
fn escape(cursor: &mut Cursor<'_>, content: &mut StringContent) -> Result<(), &'static str> {
    if let Some(code) = octal(cursor) {
        return content.push_code(code);
    }
    let Some(kind) = cursor.next() else {
        return content.push('\\');
    };
    match kind {
        '\n' => Ok(()),
        '\r' => {
            cursor.eat("\n");
            Ok(())
        }
        '\\' | '\'' | '"' => content.push(kind),
        'a' => content.push('\x07'),
        'b' => content.push('\x08'),
        'f' => content.push('\x0c'),
        'n' => content.push('\n'),
        'r' => content.push('\r'),
        't' => content.push('\t'),
        'v' => content.push('\x0b'),
        'x' => content.push_code(hex(cursor, 2)?),
        'u' => content.push_code(hex(cursor, 4)?),
        'U' => content.push_code(hex(cursor, 8)?),
        'N' => Err("expected a character by number, not by name"),
        // Python keeps an unknown escape, with a warning.
        other => content.push('\\').and_then(|()| content.push(other)),
    }
}

fn octal(cursor: &mut Cursor<'_>) -> Option<u32> {
    let mut code = None;
    for _ in 0..3 {
        let Some(digit) = cursor.peek().and_then(|c| c.to_digit(8)) else {
            break;
        };
        cursor.next();
        code = Some(code.unwrap_or(0) * 8 + digit);
    }
    code
}

fn hex(cursor: &mut Cursor<'_>, digits: usize) -> Result<u32, &'static str> {
    let mut code = 0;
    for _ in 0..digits {
        let digit = cursor
            .next()
            .and_then(|c| c.to_digit(16))
            .ok_or("expected more hex digits in this escape")?;
        code = code << 4 | digit;
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::super::parse_list;
    use crate::message::Literal;

    fn reads(text: &str, string: &str) {
        assert_eq!(
            parse_list(text),
            Ok(vec![Literal::Text(string.to_owned())]),
            "{text}"
        );
    }

    fn refused(text: &str) -> String {
        parse_list(text).expect_err(text).to_string()
    }

    #[test]
    fn every_kind_of_quote_is_read() {
        reads("''", "");
        reads("\"it's\"", "it's");
        reads(r"'it\'s'", "it's");
        reads("'''a'b''c\nd\r\ne'''", "a'b''c\nd\ne");
        reads("\"\"\"\"a\"\"\"", "\"a");
        reads("'a' \"b\"\n'''c'''", "abc");
        reads("'a' u'b' r'\\c'", "ab\\c");
    }

    #[test]
    fn every_escape_is_read() {
        reads(
            r"'\a\b\f\n\r\t\v\\\'\x41\101\0\18'",
            "\x07\x08\x0c\n\r\t\x0b\\'AA\0\u{1}8",
        );
        reads(r"'é\xe9\u00e9\U0001f600\777'", "ééé😀\u{1ff}");
        reads("'a\\\nb\\\r\nc'", "abc");
        reads(r"'\q\8\é'", r"\q\8\é");
        reads(r"'\ud83d\ude00' '\ud83d' '\ude00'", "😀😀");
        reads(r#"r'\n\'\"\\'"#, r#"\n\'\"\\"#);
    }

    #[test]
    fn bytes_are_refused() {
        for text in [r"b'a\xff'", "Rb'x'", "bR''", "b'unclosed"] {
            assert_eq!(
                refused(text),
                "at character 1: expected a value that JSON can hold, found bytes"
            );
        }
        assert!(refused("'a' b'b'").starts_with("at character 5: "));
    }

    #[test]
    fn a_broken_string_is_refused_where_it_breaks() {
        for (text, told) in [
            (
                "1, 'a",
                "at character 4: expected a string that ends with '",
            ),
            (
                "'''a''",
                "at character 1: expected a string that ends with '''",
            ),
            (
                "'a\nb'",
                "at character 1: expected a string that ends on its line",
            ),
            (r"'a\", "at character 1: expected a string that ends with '"),
            (
                r"'ab\x4'",
                "at character 4: expected more hex digits in this escape",
            ),
            (
                r"'\U00110000'",
                "at character 2: expected a character up to U+10FFFF",
            ),
            (
                r"'\N{DASH}'",
                "at character 2: expected a character by number, not by name",
            ),
            (
                r"'\ud83d'",
                "at character 1: expected no lone surrogate, which JSON cannot hold",
            ),
            (
                r"'\ud83dx'",
                "at character 8: expected no lone surrogate, which JSON cannot hold",
            ),
            (
                r"'\ude00'",
                "at character 2: expected no lone surrogate, which JSON cannot hold",
            ),
            (
                "f'a'",
                "at character 1: expected a value, found the name f; a text needs quotes",
            ),
        ] {
            assert_eq!(refused(text), told);
        }
    }
}
