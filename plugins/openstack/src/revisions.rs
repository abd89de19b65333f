//! The revisions of a resource joined into one row, when `use_all_resource_revisions` is false.
//!
//! As `CloudKitty` does it: the attributes are those of the latest revision in the period, the
//! quantity is the sum over the revisions. Only revisions with exactly one value take part in the
//! sum; of a latest one with several, the first value is added.

use rated_plugin::decimal::add_half_even;
use rated_plugin::{Decimal, Error, Result};

use crate::measures::Measured;
use crate::query::Grouping;

/// One group for each resource of each scope, ordered by scope and resource; all groups as they are
/// when revisions are not to be joined.
pub(crate) fn join(mut measured: Vec<Measured>, grouping: &Grouping) -> Result<Vec<Measured>> {
    let Some((id, begin)) = grouping.revision else { return Ok(measured) };
    let resource = |one: &Measured| [one.group[0].clone(), one.group[id].clone()];
    // Times of Gnocchi are of one form, so their order is that of the texts.
    measured.sort_by_cached_key(|one| (resource(one), one.group[begin].clone()));
    measured
        .chunk_by(|a, b| a.group[0] == b.group[0] && a.group[id] == b.group[id])
        .map(|revisions| {
            let latest = revisions.last().expect("chunks are not empty");
            let alone = revisions.iter().filter(|one| one.count == 1).map(|one| one.first);
            let several = (latest.count > 1).then_some(latest.first);
            let sum = alone.chain(several).try_fold(Decimal::ZERO, add_half_even);
            let first = sum.ok_or_else(|| {
                Error::bad_data(format!(
                    "resource `{}`: the sum of its revisions has more digits than a quantity",
                    latest.group[id]
                ))
            })?;
            Ok(Measured { first, ..latest.clone() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(scope: &str, id: &str, begin: &str, first: &str, count: usize) -> Measured {
        let group = [scope, id, begin].map(Box::from).to_vec();
        Measured { group, first: first.parse().unwrap(), count }
    }

    fn check(revision: Option<(usize, usize)>, measured: Vec<Measured>, expected: &[&str]) {
        let grouping = Grouping { attributes: Vec::new(), groupby_count: 0, key: 1, revision };
        let joined = join(measured, &grouping).unwrap();
        let shown: Vec<String> = joined
            .iter()
            .map(|one| format!("{} = {}", one.group.join(" "), one.first.normalize()))
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn quantities_are_added_and_attributes_are_the_latest() {
        check(
            Some((1, 2)),
            vec![
                measured("a", "1", "2026-01-01T00:30:00+00:00", "0.25", 1),
                measured("a", "2", "2026-01-01T00:00:00+00:00", "7", 1),
                measured("a", "1", "2025-12-31T00:00:00+00:00", "0.5", 1),
                measured("b", "1", "2026-01-01T00:45:00+00:00", "0.25", 1),
            ],
            &[
                "a 1 2026-01-01T00:30:00+00:00 = 0.75",
                "a 2 2026-01-01T00:00:00+00:00 = 7",
                "b 1 2026-01-01T00:45:00+00:00 = 0.25",
            ],
        );
    }

    #[test]
    fn of_several_values_the_first_of_the_latest_revision_counts() {
        check(
            Some((1, 2)),
            vec![
                measured("a", "1", "1", "100", 6),
                measured("a", "1", "2", "1", 1),
                measured("a", "1", "3", "10", 6),
            ],
            &["a 1 3 = 11"],
        );
    }

    #[test]
    fn nothing_is_joined_without_being_asked_for() {
        check(
            None,
            vec![measured("a", "1", "2", "1", 1), measured("a", "1", "1", "2", 1)],
            &["a 1 2 = 1", "a 1 1 = 2"],
        );
    }
}
