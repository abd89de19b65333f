use std::hash::{BuildHasher as _, RandomState};

use super::json::Text;

/// Each text once, named by codes from 0 on. Two allocations hold all of them: there may be
/// millions.
#[derive(Debug, Default)]
pub(super) struct Texts {
    joined: String,
    /// Where each text ends in `joined`.
    ends: Vec<usize>,
    /// Codes by hash, at the first free place from there on.
    table: Vec<u32>,
    hasher: RandomState,
}

const FREE: u32 = u32::MAX;

impl Texts {
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn text(&self, code: u32) -> &str {
        let index = code as usize;
        let begin = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.joined[begin..self.ends[index]]
    }

    pub(super) fn code(&mut self, text: &str) -> u32 {
        if self.table.len() <= self.ends.len() * 2 {
            self.grow();
        }
        let place = self.place(text);
        if self.table[place] == FREE {
            let code = u32::try_from(self.ends.len()).expect("far fewer texts are let in");
            self.joined.push_str(text);
            self.ends.push(self.joined.len());
            self.table[place] = code;
        }
        self.table[place]
    }

    /// The same for a text just read, which may be that of `guess`; `None` = it was not kept.
    pub(super) fn code_of(&mut self, text: Text<'_>, guess: Option<u32>) -> Option<u32> {
        let bytes = text.bytes()?;
        match guess {
            Some(code) if self.text(code).as_bytes() == bytes => guess,
            _ => Some(self.code(text.get()?)),
        }
    }

    /// Where the text's code is, or belongs.
    fn place(&self, text: &str) -> usize {
        let mask = self.table.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
        let mut place = self.hasher.hash_one(text) as usize & mask;
        while self.table[place] != FREE && self.text(self.table[place]) != text {
            place = (place + 1) & mask;
        }
        place
    }

    fn grow(&mut self) {
        self.table = vec![FREE; (self.table.len() * 2).max(64)];
        for code in 0.. {
            if code as usize == self.ends.len() {
                return;
            }
            let place = self.place(self.text(code));
            self.table[place] = code;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_one_code() {
        let mut texts = Texts::default();
        let codes: Vec<u32> = (0..1000).map(|n| texts.code(&(n % 300).to_string())).collect();

        assert_eq!(texts.count(), 300);
        assert_eq!(codes[299], codes[599]);
        for (n, code) in codes.iter().enumerate() {
            assert_eq!(texts.text(*code), (n % 300).to_string());
        }
        let empty = texts.code("");
        assert_eq!((texts.code(""), texts.text(empty)), (empty, ""));
    }
}
