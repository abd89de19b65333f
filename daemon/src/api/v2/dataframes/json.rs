//! JSON read piece by piece from a stream: what is there is looked at before it is kept.
//!
//! No more than a buffer of the stream is in memory, and of a text or a number no more than its
//! reader wants. Everything is checked, what is skipped too: it is JSON as `serde_json` has it, or
//! the stream is refused.
//!
//! Whoever reads an object or a list reads it to its end: `next_name` and `next_item` say when.

use std::io::{self, Read};

use serde_json::{Map, Number, Value};

use super::scan::{self, NumberPart};

/// Bytes read from the stream at once.
const READ_SIZE: usize = 64 << 10;

/// How deep lists and objects may stand in each other.
const DEPTH_MAX: usize = 127;

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub(super) enum JsonError {
    #[error("it is no JSON")]
    NoJson,
    #[error("the stream broke off")]
    BrokenOff(#[source] io::Error),
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    List,
    Text,
    Number,
    /// `true`, `false` or `null`.
    Word,
}

/// A text or a number as it was written, as long as nothing else is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'j> {
    /// UTF-8; `None` = more than was wanted.
    bytes: Option<&'j [u8]>,
    /// Bytes, also of what was not kept.
    pub(super) size: usize,
}

impl<'j> Text<'j> {
    /// `None` = it is longer than what was wanted.
    pub(super) fn bytes(self) -> Option<&'j [u8]> {
        self.bytes
    }

    pub(super) fn get(self) -> Option<&'j str> {
        self.bytes.map(|bytes| std::str::from_utf8(bytes).expect("checked when it was read"))
    }
}

/// JSON on its way in.
pub(super) struct Json<'s> {
    source: &'s mut dyn Read,
    /// What was read from the stream last; empty at its end.
    buffer: Vec<u8>,
    /// What comes next in the buffer.
    at: usize,
    /// Texts and numbers that do not stand in the buffer as they are shown.
    scratch: Vec<u8>,
    depth: usize,
    /// Nothing of the innermost object or list was read yet.
    is_first: bool,
    /// A name was read.
    wants_colon: bool,
}

impl<'s> Json<'s> {
    pub(super) fn new(source: &'s mut dyn Read) -> Json<'s> {
        Json {
            source,
            buffer: Vec::new(),
            at: 0,
            scratch: Vec::new(),
            depth: 0,
            is_first: false,
            wants_colon: false,
        }
    }

    pub(super) fn kind(&mut self) -> Result<Kind, JsonError> {
        Ok(match self.token()? {
            b'{' => Kind::Object,
            b'[' => Kind::List,
            b'"' => Kind::Text,
            b'-' | b'0'..=b'9' => Kind::Number,
            b't' | b'f' | b'n' => Kind::Word,
            _ => return Err(JsonError::NoJson),
        })
    }

    /// Begins an object. Anything else is skipped, and that is said.
    pub(super) fn object(&mut self) -> Result<bool, JsonError> {
        self.open(b'{')
    }

    /// Begins a list. Anything else is skipped, and that is said.
    pub(super) fn list(&mut self) -> Result<bool, JsonError> {
        self.open(b'[')
    }

    /// The name of the next member, its value is to be read; `None` = the object has ended.
    pub(super) fn next_name(&mut self, size_max: usize) -> Result<Option<Text<'_>>, JsonError> {
        if !self.has_next(b'}')? {
            return Ok(None);
        }
        // Read when the value is: the name may stand in the buffer.
        let name = self.raw_text(size_max, true)?;
        Ok(Some(name))
    }

    /// Whether there is another item to be read; else the list has ended.
    pub(super) fn next_item(&mut self) -> Result<bool, JsonError> {
        self.has_next(b']')
    }

    pub(super) fn text(&mut self, size_max: usize) -> Result<Text<'_>, JsonError> {
        self.raw_text(size_max, false)
    }

    pub(super) fn number(&mut self, size_max: usize) -> Result<Text<'_>, JsonError> {
        self.token()?;
        let mut part = NumberPart::Begin;
        let mut size = part.take(&self.buffer[self.at..]);
        if self.at + size < self.buffer.len() {
            let begin = self.at;
            self.at += size;
            let bytes = &self.buffer[begin..self.at];
            return if part.is_whole() { Ok(kept(bytes, size, size_max)) } else { no_json() };
        }
        self.scratch.clear();
        let mut whole_size = 0;
        while size > 0 {
            whole_size += size;
            let room = size_max.saturating_sub(self.scratch.len());
            let taken = &self.buffer[self.at..self.at + size];
            self.scratch.extend_from_slice(&taken[..size.min(room)]);
            self.at += size;
            self.peek()?;
            size = part.take(&self.buffer[self.at..]);
        }
        if part.is_whole() { Ok(kept(&self.scratch, whole_size, size_max)) } else { no_json() }
    }

    /// `true`, `false` or `null`.
    pub(super) fn word(&mut self) -> Result<Option<bool>, JsonError> {
        let (text, value): (&[u8], _) = match self.token()? {
            b't' => (b"true", Some(true)),
            b'f' => (b"false", Some(false)),
            _ => (b"null", None),
        };
        for expected in text {
            if self.next_byte()? != *expected {
                return no_json();
            }
        }
        Ok(value)
    }

    pub(super) fn skip(&mut self) -> Result<(), JsonError> {
        match self.kind()? {
            Kind::Object => {
                self.object()?;
                while self.next_name(0)?.is_some() {
                    self.skip()?;
                }
            }
            Kind::List => {
                self.list()?;
                while self.next_item()? {
                    self.skip()?;
                }
            }
            Kind::Text => drop(self.text(0)?),
            Kind::Number => drop(self.number(0)?),
            Kind::Word => drop(self.word()?),
        }
        Ok(())
    }

    /// A value whose text has roughly `size_max` bytes at most; `None` = it is longer.
    pub(super) fn small(&mut self, size_max: usize) -> Result<Option<Value>, JsonError> {
        let mut left = size_max;
        self.small_part(&mut left)
    }

    fn small_part(&mut self, left: &mut usize) -> Result<Option<Value>, JsonError> {
        Ok(match self.kind()? {
            Kind::Word => Some(self.word()?.map_or(Value::Null, Value::Bool)),
            Kind::Text => {
                let text = self.text(*left)?.get();
                text.map(|text| {
                    *left -= text.len();
                    Value::from(text)
                })
            }
            Kind::Number => match self.number(*left)?.get() {
                Some(text) => {
                    *left -= text.len();
                    let number = text.parse::<Number>().map_err(|_| JsonError::NoJson)?;
                    Some(Value::Number(number))
                }
                None => None,
            },
            Kind::List => {
                self.list()?;
                let mut list = Some(Vec::new());
                while self.next_item()? {
                    list = match list {
                        Some(list) if take_one(left) => {
                            self.small_part(left)?.map(|item| with_item(list, item))
                        }
                        _ => {
                            self.skip()?;
                            None
                        }
                    };
                }
                list.map(Value::Array)
            }
            Kind::Object => self.small_object(left)?.map(Value::Object),
        })
    }

    fn small_object(&mut self, left: &mut usize) -> Result<Option<Map<String, Value>>, JsonError> {
        self.object()?;
        let mut object = Some(Map::new());
        while let Some(name) = self.next_name(*left)? {
            let name = name.get().map(str::to_owned);
            object = match (object, name) {
                (Some(mut object), Some(name)) if take_one(left) => {
                    *left = left.saturating_sub(name.len());
                    self.small_part(left)?.map(|value| {
                        object.insert(name, value);
                        object
                    })
                }
                _ => {
                    self.skip()?;
                    None
                }
            };
        }
        Ok(object)
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        while let Some(byte) = self.peek()? {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return no_json();
            }
            self.at += 1;
        }
        Ok(())
    }

    // ---- what it is made of ---------------------------------------------------------------------

    fn open(&mut self, bracket: u8) -> Result<bool, JsonError> {
        if self.token()? != bracket {
            self.skip()?;
            return Ok(false);
        }
        self.at += 1;
        self.depth += 1;
        self.is_first = true;
        if self.depth > DEPTH_MAX { no_json() } else { Ok(true) }
    }

    fn has_next(&mut self, closing: u8) -> Result<bool, JsonError> {
        let byte = self.token()?;
        let is_first = std::mem::replace(&mut self.is_first, false);
        if byte == closing {
            self.at += 1;
            self.depth -= 1;
            return Ok(false);
        }
        if !is_first {
            if byte != b',' {
                return no_json();
            }
            self.at += 1;
        }
        Ok(true)
    }

    fn raw_text(&mut self, size_max: usize, is_name: bool) -> Result<Text<'_>, JsonError> {
        if self.token()? != b'"' {
            return no_json();
        }
        self.at += 1;
        self.wants_colon = is_name;
        let rest = &self.buffer[self.at..];
        let (size, is_ascii) = scan::plain(rest);
        if rest.get(size) != Some(&b'"') {
            return self.broken_text(size_max);
        }
        let begin = self.at;
        self.at += size + 1;
        let bytes = &self.buffer[begin..begin + size];
        if !is_ascii && std::str::from_utf8(bytes).is_err() {
            return no_json();
        }
        Ok(kept(bytes, size, size_max))
    }

    /// A text with escapes, or of which the buffer has a part only.
    fn broken_text(&mut self, size_max: usize) -> Result<Text<'_>, JsonError> {
        self.scratch.clear();
        let mut forgotten_size = 0;
        loop {
            let rest = &self.buffer[self.at..];
            let (size, _) = scan::plain(rest);
            self.scratch.extend_from_slice(&rest[..size]);
            self.at += size;
            if forgotten_size + self.scratch.len() > size_max {
                forgotten_size += scan::forget_text(&mut self.scratch).ok_or(JsonError::NoJson)?;
            }
            match self.peek()? {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(b' '..) => {}
                Some(_) | None => return no_json(),
            }
        }
        self.at += 1;
        if std::str::from_utf8(&self.scratch).is_err() {
            return no_json();
        }
        let size = forgotten_size + self.scratch.len();
        Ok(kept(&self.scratch, size, size_max))
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        let byte = match self.next_byte()? {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let unit = self.hex_unit()?;
                let mut units = [unit, 0];
                let is_pair = (0xd800..0xdc00).contains(&unit);
                if is_pair {
                    if self.next_byte()? != b'\\' || self.next_byte()? != b'u' {
                        return no_json();
                    }
                    units[1] = self.hex_unit()?;
                }
                let units = &units[..if is_pair { 2 } else { 1 }];
                for character in char::decode_utf16(units.iter().copied()) {
                    let character = character.map_err(|_| JsonError::NoJson)?;
                    let mut utf8 = [0; 4];
                    self.scratch.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
                }
                return Ok(());
            }
            _ => return no_json(),
        };
        self.scratch.push(byte);
        Ok(())
    }

    fn hex_unit(&mut self) -> Result<u16, JsonError> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = char::from(self.next_byte()?).to_digit(16).ok_or(JsonError::NoJson)?;
            unit = unit << 4 | u16::try_from(digit).expect("a digit is less than 16");
        }
        Ok(unit)
    }

    /// The first byte of what comes next; it stays.
    fn token(&mut self) -> Result<u8, JsonError> {
        loop {
            match self.buffer.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(b':') if self.wants_colon => {
                    self.wants_colon = false;
                    self.at += 1;
                }
                Some(byte) if !self.wants_colon => return Ok(*byte),
                Some(_) => return no_json(),
                None => self.fill()?,
            }
            if self.buffer.is_empty() {
                return no_json();
            }
        }
    }

    fn next_byte(&mut self) -> Result<u8, JsonError> {
        let byte = self.peek()?.ok_or(JsonError::NoJson)?;
        self.at += 1;
        Ok(byte)
    }

    /// `None` = the stream has ended.
    fn peek(&mut self) -> Result<Option<u8>, JsonError> {
        if self.at == self.buffer.len() {
            self.fill()?;
        }
        Ok(self.buffer.get(self.at).copied())
    }

    #[cold]
    fn fill(&mut self) -> Result<(), JsonError> {
        self.at = 0;
        self.buffer.resize(READ_SIZE, 0);
        let size = loop {
            match self.source.read(&mut self.buffer) {
                Ok(size) => break size,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(JsonError::BrokenOff(error)),
            }
        };
        self.buffer.truncate(size);
        Ok(())
    }
}

fn no_json<T>() -> Result<T, JsonError> {
    Err(JsonError::NoJson)
}

fn kept(bytes: &[u8], size: usize, size_max: usize) -> Text<'_> {
    Text { bytes: (size <= size_max).then_some(bytes), size }
}

fn take_one(left: &mut usize) -> bool {
    let is_left = *left > 0;
    *left = left.saturating_sub(1);
    is_left
}

fn with_item(mut list: Vec<Value>, item: Value) -> Vec<Value> {
    list.push(item);
    list
}

#[cfg(test)]
mod tests;
