//! The quantities at which prices take another course: the levels of a service's thresholds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rated_plugin::decimal::power_of_ten;
use rust_decimal::Decimal;

use super::levels::{ANY_SCOPE, Levels};

/// Most breaks of one scope. Rows of a scope with more of them are rated one by one.
const BREAKS_MAX: usize = 128;

/// The breaks of each scope, ascending; `None` where they are too many.
#[derive(Debug, Default)]
pub(super) struct Breaks {
    general: Option<Arc<[Decimal]>>,
    /// Of scopes with levels of their own.
    own: HashMap<u32, Option<Arc<[Decimal]>>>,
}

impl Breaks {
    /// Of the service's thresholds by group.
    pub(super) fn of(thresholds: &BTreeMap<u32, Levels>) -> Breaks {
        let of_scope = |scope| {
            let mut breaks: BTreeSet<Decimal> = BTreeSet::new();
            for level in thresholds.values().flat_map(|levels| levels.of_scope(scope)) {
                breaks.insert(level);
                if breaks.len() > BREAKS_MAX {
                    return None;
                }
            }
            Some(breaks.into_iter().collect())
        };
        let scopes: BTreeSet<u32> = thresholds.values().flat_map(Levels::scopes).collect();
        let own = scopes.into_iter().map(|scope| (scope, of_scope(scope))).collect();
        Breaks { general: of_scope(ANY_SCOPE), own }
    }

    pub(super) fn of_scope(&self, scope: u32) -> Option<&Arc<[Decimal]>> {
        self.own.get(&scope).unwrap_or(&self.general).as_ref()
    }
}

/// The smallest whole number that, with `scale` fractional digits, reaches `level`.
pub(super) fn units(level: Decimal, scale: u32) -> i128 {
    let Some(digits) = scale.checked_sub(level.scale()) else {
        let power = power_of_ten(level.scale() - scale).expect("a level has at most 28 decimals");
        return -(-level.mantissa()).div_euclid(power);
    };
    // No quantity is as large as what doesn't fit.
    let units = power_of_ten(digits).and_then(|power| level.mantissa().checked_mul(power));
    units.unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_reached_by_the_next_whole_number() {
        let units = |level: &str, scale| units(level.parse().unwrap(), scale);

        assert_eq!(units("2.5", 1), 25);
        assert_eq!(units("2.5", 3), 2500);
        assert_eq!(units("2.5", 0), 3);
        assert_eq!(units("2.00", 0), 2);
        assert_eq!(units("-0.5", 0), 0);
        assert_eq!(units("-0.51", 1), -5);
        assert_eq!(units("0.00000001", 2), 1);
        assert_eq!(units("99999999999", 28), i128::MAX);
    }
}
