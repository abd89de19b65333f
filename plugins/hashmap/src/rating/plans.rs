//! The plans made so far: most batches bring the same combinations.

use std::sync::{Arc, PoisonError, RwLock};

use super::columns::{Class, Combination, Combinations};
use super::plan::Plan;
use super::price_list::ServicePrices;
use super::quick_hash::QuickHashMap;

/// Most plans, groups and lines of them kept for one metric type, about 100 bytes each. When
/// another one would be too many, all go.
const KEPT_MAX: usize = 1 << 14;

/// Shared by all batches that one price list rates; other rules are another list.
#[derive(Debug, Default)]
pub(super) struct Plans {
    kept: RwLock<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    plans: QuickHashMap<Box<[Class]>, Arc<Plan>>,
    /// How many plans and lines.
    count: usize,
}

impl Plans {
    /// The plan of each combination; `None` when a price would be too large.
    pub(super) fn of(
        &self,
        prices: &ServicePrices,
        combinations: &Combinations,
    ) -> Option<Vec<Arc<Plan>>> {
        // What a panic elsewhere left is whole: plans are put in one by one.
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Option<Arc<Plan>>> =
            combinations.distinct().map(|it| kept.plans.get(it.0).cloned()).collect();
        drop(kept);
        let mut made = Vec::new();
        for (place, combination) in found.iter_mut().zip(combinations.distinct()) {
            if place.is_none() {
                let plan = Arc::new(Plan::new(prices, combination)?);
                made.push((combination, Arc::clone(&plan)));
                *place = Some(plan);
            }
        }
        if !made.is_empty() {
            self.keep(&made);
        }
        found.into_iter().collect()
    }

    fn keep(&self, made: &[(Combination<'_>, Arc<Plan>)]) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        for (combination, plan) in made {
            let count = 1 + plan.size();
            if kept.count + count > KEPT_MAX {
                *kept = Kept::default();
            }
            if kept.plans.insert(combination.0.into(), Arc::clone(plan)).is_none() {
                kept.count += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Combinations of scopes with numbers from `first` on.
    fn combinations(first: u32, count: u32) -> Combinations {
        let class = |value| Class { value, number: 0 };
        let classes = (first..first + count).map(class).collect();
        Combinations { classes, width: 1, rows: (0..count).collect() }
    }

    #[test]
    fn a_plan_is_made_once() {
        let prices = ServicePrices::default();

        let first = prices.plans.of(&prices, &combinations(0, 3)).unwrap();
        let again = prices.plans.of(&prices, &combinations(2, 3)).unwrap();

        assert!(Arc::ptr_eq(&first[2], &again[0]));
        assert!(!Arc::ptr_eq(&first[2], &again[1]));
    }

    #[test]
    fn plans_that_are_too_many_go() {
        let prices = ServicePrices::default();
        let count = u32::try_from(KEPT_MAX).unwrap();

        for batch in 0..5 {
            let plans = prices.plans.of(&prices, &combinations(batch * count / 3, count)).unwrap();
            assert_eq!(plans.len(), KEPT_MAX);
            let kept = prices.plans.kept.read().unwrap();
            assert!(kept.count <= KEPT_MAX && kept.plans.len() <= kept.count);
        }
    }
}
