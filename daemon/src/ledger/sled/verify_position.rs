//! How far a verification has come.
//!
//! A position is `STAGE.KEY.DONE`: a stage's name, a key in hex, bytes of data done.

use crate::ledger::hex;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Seals,
    Records,
    Files,
    Slices,
    Sums,
    Staged,
    Generations,
}

const STAGES: [(Stage, &str); 7] = [
    (Stage::Seals, "seals"),
    (Stage::Records, "records"),
    (Stage::Files, "files"),
    (Stage::Slices, "slices"),
    (Stage::Sums, "sums"),
    (Stage::Staged, "staged"),
    (Stage::Generations, "generations"),
];

/// No ledger has so many bytes.
const DONE_END: u64 = 1 << 62;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) stage: Stage,
    pub(super) key: Vec<u8>,
    pub(super) done: u64,
}

impl Position {
    pub(super) fn of(stage: Stage, done: u64) -> Position {
        Position { stage, key: Vec::new(), done }
    }

    pub(super) fn read(text: &str) -> Option<Position> {
        let mut words = text.splitn(3, '.');
        let name = words.next()?;
        let stage = STAGES.iter().find(|(_, known)| *known == name)?.0;
        let (key, done) = (from_hex(words.next()?)?, words.next()?.parse().ok()?);
        (done < DONE_END).then_some(Position { stage, key, done })
    }

    pub(super) fn text(&self) -> String {
        let name = STAGES[self.stage as usize].1;
        format!("{name}.{}.{}", hex(&self.key), self.done)
    }

    /// Behind this stage.
    pub(super) fn next_stage(&self) -> Option<Position> {
        let stage = STAGES.get(self.stage as usize + 1)?.0;
        Some(Position::of(stage, self.done))
    }

    pub(super) fn at(&self, key: Vec<u8>) -> Position {
        Position { key, ..self.clone() }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back() {
        let position = Position { stage: Stage::Files, key: vec![0, 255, 7], done: 77 };

        assert_eq!(position.text(), "files.00ff07.77");
        assert_eq!(Position::read(&position.text()), Some(position));
        for wrong in ["", "files", "files.0.7", "files.zz.7", "files.00.x", "else.00.7"] {
            assert_eq!(Position::read(wrong), None, "{wrong}");
        }
    }
}
