//! What must be in the ledger of one scope, and what was found in it.

use std::collections::BTreeMap;

use rated_tests::Exact;

use crate::site::{QUANTITY, days_due};

/// A push as a whole: what its rows add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pushed {
    pub(crate) day: u64,
    pub(crate) quantity: u64,
    /// Thousandths.
    pub(crate) price: u64,
}

/// All that clients know of a scope. Each rule costs a thousandth for each unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct State {
    pub(crate) rules: u64,
    /// Rules in force when a day was rated; a day after those was, or will be, by all rules.
    pub(crate) rated_by: Vec<u64>,
    /// Days that are known to be in the ledger.
    pub(crate) days_min: u64,
    /// The day that a reset has set the scope to, until that day is in the ledger again.
    pub(crate) reset_to: Option<u64>,
    pub(crate) reprocessings: usize,
    /// `rated_by` when the reprocessing is done that was asked for last.
    pub(crate) reprocessed: Option<Vec<u64>>,
    /// By key.
    pub(crate) pushes: BTreeMap<String, Pushed>,
}

/// What a daemon says of a scope.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    pub(crate) rules: u64,
    /// The day that the scope was processed last, as it said before and after the quantity.
    pub(crate) last_before: Option<u64>,
    pub(crate) last_after: Option<u64>,
    pub(crate) quantity: Exact,
    pub(crate) price: Exact,
    pub(crate) reprocessings: usize,
    /// Quantity and price of each push, and the same of all together.
    pub(crate) pushes: BTreeMap<String, (Exact, Exact)>,
    pub(crate) pushed: (Exact, Exact),
}

impl State {
    pub(crate) fn reset(&mut self, day: u64) {
        self.rated_by.truncate(usize::try_from(day).expect("few days"));
        self.days_min = self.days_min.min(day);
        self.reset_to = Some(day);
        self.pushes.retain(|_, push| push.day < day);
    }

    /// Whether every day that is due is in the ledger, and no reprocessing is under way.
    pub(crate) fn is_settled(&self) -> bool {
        self.days_min >= days_due() && self.reprocessed.is_none()
    }

    /// So many days have been rated by now; the newest by the rules there are.
    pub(crate) fn collected(&mut self, days: u64) {
        let days_rated = usize::try_from(days).expect("few days").max(self.rated_by.len());
        self.rated_by.resize(days_rated, self.rules);
        self.days_min = self.days_min.max(days);
        self.reset_to = self.reset_to.filter(|day| days <= *day);
    }

    /// How many days are in the ledger at least, when the last one is said to be this. The day that
    /// a reset has set the scope to may not be there; every other one is.
    fn days_up_to(&self, last: Option<u64>) -> u64 {
        match last {
            Some(last) if self.reset_to == Some(last) => last,
            Some(last) => last + 1,
            None => 0,
        }
    }

    /// What days cost, if they were rated by so many rules.
    pub(crate) fn price(&self, rated_by: &[u64], days: u64) -> Exact {
        let days = usize::try_from(days).expect("few days");
        let of_day = |day| rated_by.get(day).copied().unwrap_or(self.rules);
        thousandths((0..days).map(|day| QUANTITY * of_day(day)).sum())
    }

    /// This state with what it does not know yet, if that is what was found.
    pub(crate) fn matched(&self, found: &Found) -> Option<State> {
        let pushes = self.pushes.iter().map(|(key, push)| {
            (key.clone(), (Exact::parse(&push.quantity.to_string()), thousandths(push.price)))
        });
        let pushes: BTreeMap<String, (Exact, Exact)> = pushes.collect();
        let sum = pushes.values().fold((Exact::default(), Exact::default()), |all, push| {
            (all.0 + push.0, all.1 + push.1)
        });
        let is_same = self.rules == found.rules
            && self.reprocessings == found.reprocessings
            && pushes == found.pushes
            && sum == found.pushed;
        if !is_same {
            return None;
        }
        let days_max = found.last_after.map_or(0, |last| last + 1);
        let mut days = self.days_min.max(self.days_up_to(found.last_before))..=days_max;
        let days = days.find(|days| found.quantity == units(QUANTITY * days))?;
        let mut state = self.clone();
        if found.price != self.price(&self.rated_by, days) {
            let rated_by = state.reprocessed.take()?;
            if found.price != self.price(&rated_by, days) {
                return None;
            }
            state.rated_by = rated_by;
        }
        state.collected(days);
        Some(state)
    }
}

fn units(count: u64) -> Exact {
    Exact::parse(&count.to_string())
}

fn thousandths(count: u64) -> Exact {
    Exact::parse(&format!("{count}e-3"))
}
