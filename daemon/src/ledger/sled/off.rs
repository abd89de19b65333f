//! By how much a group of records is known to be off, so that a later loss is noticed beside it.
//!
//! The difference is what a seal says less what the records that are there add up to. No change of
//! a record, damaged or not, changes it. So if a later start finds another difference, something
//! else has changed than was written. One more record that is damaged explains it, as it did the
//! first time; otherwise more is missing than what is damaged, and the hole becomes as wide as the
//! table (`holes`).
//!
//! It is forgotten when the group is whole, as it is when states are said anew. What somebody
//! accepts has no difference, and still as many damaged records.

/// By how much a group is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Off {
    pub(super) difference: u128,
    /// So many records explain it; 0 = none does.
    pub(super) damaged: u64,
}

impl Off {
    /// What is known with what a start finds now.
    pub(super) fn with(known: Option<Off>, found: Off) -> Off {
        let Some(known) = known else { return found };
        let is_explained = known.damaged > 0 && known.damaged < found.damaged;
        let damaged = if known.difference == found.difference {
            known.damaged.min(found.damaged)
        } else if is_explained {
            found.damaged
        } else {
            0
        };
        Off { damaged, ..found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_difference_is_explained_by_one_more_damaged_record_only() {
        let off = |difference, damaged| Off { difference, damaged };
        for (known, found, damaged) in [
            (None, off(3, 1), 1),
            (None, off(3, 0), 0),
            (Some(off(3, 1)), off(3, 1), 1),
            (Some(off(3, 1)), off(4, 1), 0),
            (Some(off(3, 1)), off(4, 2), 2),
            // One of two was said anew, and then one more is damaged, or missing.
            (Some(off(3, 2)), off(3, 1), 1),
            (Some(off(3, 1)), off(5, 2), 2),
            (Some(off(3, 2)), off(5, 1), 0),
            // It was accepted as it is.
            (Some(off(0, 1)), off(0, 1), 1),
            (Some(off(0, 1)), off(4, 1), 0),
            // What nobody can tell nobody can tell later.
            (Some(off(3, 0)), off(3, 1), 0),
            (Some(off(3, 0)), off(4, 1), 0),
        ] {
            let expected = off(found.difference, damaged);
            assert_eq!(Off::with(known, found), expected, "{known:?} {found:?}");
        }
    }
}
