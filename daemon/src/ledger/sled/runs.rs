//! Sets of scopes as runs of numbers.
//!
//! ```text
//! runs = packed({ gap:uint more:uint })
//! ```
//!
//! Each run is `more` + 1 numbers long and begins `gap` after the end of the run before.

use super::catalog::ScopeNumber;
use super::codec::{Damage, Packed, Reader, Writer, pack};

/// A set of scopes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ScopeRuns {
    /// First and last number of each run, ascending; runs do not touch.
    runs: Vec<(ScopeNumber, ScopeNumber)>,
}

impl ScopeRuns {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn contains(&self, scope: ScopeNumber) -> bool {
        self.meets(scope, scope)
    }

    /// Whether any number from `first` to `last` is in the set.
    pub(super) fn meets(&self, first: ScopeNumber, last: ScopeNumber) -> bool {
        self.run_ending_from(first).is_some_and(|run| run.0 <= last)
    }

    /// Whether all numbers from `first` to `last` are in the set.
    pub(super) fn covers(&self, first: ScopeNumber, last: ScopeNumber) -> bool {
        self.run_ending_from(first).is_some_and(|run| run.0 <= first && last <= run.1)
    }

    fn run_ending_from(&self, scope: ScopeNumber) -> Option<(ScopeNumber, ScopeNumber)> {
        let at = self.runs.partition_point(|run| run.1 < scope);
        self.runs.get(at).copied()
    }

    pub(super) fn add(&mut self, scopes: impl IntoIterator<Item = ScopeNumber>) {
        self.runs.extend(scopes.into_iter().map(|scope| (scope, scope)));
        self.runs.sort_unstable();
        self.runs.dedup_by(|next, run| {
            let touches = next.0 <= run.1.saturating_add(1);
            if touches {
                run.1 = run.1.max(next.1);
            }
            touches
        });
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        let mut runs = Writer::new();
        let mut end = 0;
        for (first, last) in &self.runs {
            runs.uint(u64::from(first - end));
            runs.uint(u64::from(last - first));
            end = last.saturating_add(1);
        }
        pack(writer, &runs.into_bytes());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<ScopeRuns, Damage> {
        let too_big = Damage("a scope number is too big");
        let bytes = Packed::read(reader)?.unpack()?;
        let mut reader = Reader::new(&bytes);
        let mut runs = Vec::new();
        let mut end = 0_u32;
        while !reader.is_empty() {
            let first = end.checked_add(reader.u32()?).ok_or(too_big)?;
            let last = first.checked_add(reader.u32()?).ok_or(too_big)?;
            runs.push((first, last));
            end = last.saturating_add(1);
        }
        Ok(ScopeRuns { runs })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_agree_with_a_set(
            parts in prop::collection::vec(prop::collection::vec(0_u32..40, 0..12), 0..5),
            (first, last) in (0_u32..42, 0_u32..42),
        ) {
            let set: BTreeSet<u32> = parts.iter().flatten().copied().collect();
            let mut runs = ScopeRuns::default();
            for part in parts {
                runs.add(part);
            }
            let mut writer = Writer::new();
            runs.write(&mut writer);
            let bytes = writer.into_bytes();
            let read = ScopeRuns::read(&mut Reader::new(&bytes)).unwrap();

            prop_assert_eq!(&read, &runs);
            prop_assert!(runs.runs.is_sorted_by(|left, right| left.1 + 1 < right.0));
            for scope in 0..42 {
                prop_assert_eq!(runs.contains(scope), set.contains(&scope));
            }
            if first <= last {
                let wanted: Vec<bool> = (first..=last).map(|scope| set.contains(&scope)).collect();
                prop_assert_eq!(runs.meets(first, last), wanted.contains(&true));
                prop_assert_eq!(runs.covers(first, last), !wanted.contains(&false));
            }
        }
    }
}
