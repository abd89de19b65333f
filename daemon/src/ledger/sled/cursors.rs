//! Where each scope stands in a metric, as one small record for each metric.
//!
//! ```text
//! cursors = frame('C', 2) packed({ run })
//! run     = count:uint next:int last:int
//! ```
//!
//! A run is `count` scopes, in order of their numbers, with the same cursor. `next` (begin of the
//! first period that is not in the ledger) is the difference to the run before; `last` is how far
//! before `next` the last period began, 0 = there was none, -1 = the scope has no cursor here, -2 =
//! none since somebody said where the scope stands (its record says what). Version 1 has no -2.

use super::codec::{Damage, Kind, Packed, Reader, Writer, pack};

/// Begin of the first period that is not in the ledger, and of the last one that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cursor {
    next_secs: i64,
    /// Length of the last period, or `NONE`, `UNSET`, `SAID`.
    last_size_secs: i64,
}

const NONE: i64 = 0;
const UNSET: i64 = -1;
/// The least: of cursors with the same next period it is the one that is behind.
const SAID: i64 = -2;

impl Cursor {
    pub(super) const UNSET: Cursor = Cursor { next_secs: 0, last_size_secs: UNSET };

    /// No period yet.
    pub(super) fn at(next_secs: i64) -> Cursor {
        Cursor { next_secs, last_size_secs: NONE }
    }

    /// No period since somebody said where the scope stands.
    pub(super) fn said(next_secs: i64) -> Cursor {
        Cursor { next_secs, last_size_secs: SAID }
    }

    pub(super) fn after(begin_secs: i64, end_secs: i64) -> Cursor {
        Cursor { next_secs: end_secs, last_size_secs: end_secs - begin_secs }
    }

    pub(super) fn is_set(self) -> bool {
        self.last_size_secs != UNSET
    }

    pub(super) fn is_said(self) -> bool {
        self.last_size_secs == SAID
    }

    pub(super) fn next_secs(self) -> i64 {
        self.next_secs
    }

    pub(super) fn last_begin_secs(self) -> Option<i64> {
        (self.last_size_secs > NONE).then(|| self.next_secs - self.last_size_secs)
    }
}

const KIND: Kind = Kind(b'C', 2);

/// Most scopes of a ledger: bounds what damage can make us allocate.
pub(super) const SCOPES_MAX: usize = 1 << 24;

pub(super) fn encode(cursors: &[Cursor]) -> Vec<u8> {
    let mut runs = Writer::new();
    let mut before_secs = 0_i64;
    for run in cursors.chunk_by(|left, right| left == right) {
        let cursor = run[0];
        runs.count(run.len());
        runs.int(cursor.next_secs.wrapping_sub(before_secs));
        runs.int(cursor.last_size_secs);
        before_secs = cursor.next_secs;
    }
    let mut record = Writer::framed(KIND);
    pack(&mut record, &runs.into_bytes());
    record.seal()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Cursor>, Damage> {
    decode_of(bytes, SCOPES_MAX)
}

/// Of so many scopes at most: a few bytes may stand for many.
pub(super) fn decode_of(bytes: &[u8], scopes_max: usize) -> Result<Vec<Cursor>, Damage> {
    let (version, mut record) = Reader::versioned(KIND, bytes)?;
    let lowest = if version == 1 { UNSET } else { SAID };
    let runs = Packed::read(&mut record)?.unpack()?;
    record.end()?;
    let mut runs = Reader::new(&runs);
    let mut cursors = Vec::new();
    let mut next_secs = 0_i64;
    while !runs.is_empty() {
        let count = runs.count(scopes_max - cursors.len())?;
        next_secs = next_secs.wrapping_add(runs.int()?);
        let last_size_secs = runs.int()?;
        if last_size_secs < lowest {
            return Err(Damage("a period has a negative length"));
        }
        if next_secs.checked_sub(last_size_secs).is_none() {
            return Err(Damage("a period begins before all time"));
        }
        let cursor = Cursor { next_secs, last_size_secs };
        cursors.resize(cursors.len() + count, cursor);
    }
    Ok(cursors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ten_thousand_scopes_in_step_take_a_few_bytes() {
        let cursors = vec![Cursor::after(1_700_000_000, 1_700_003_600); 10_000];

        assert!(encode(&cursors).len() < 24);
    }

    proptest! {
        #[test]
        fn cursors_come_back(entries in prop::collection::vec((0..5_i64, -2..3_i64), 0..200)) {
            let cursors: Vec<_> = entries
                .into_iter()
                .map(|(next_secs, last_size_secs)| Cursor { next_secs, last_size_secs })
                .collect();

            prop_assert_eq!(decode(&encode(&cursors)), Ok(cursors));
        }
    }
}
