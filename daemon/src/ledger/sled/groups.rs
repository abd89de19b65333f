//! Groups of a summary while they are added up.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::catalog::ScopeNumber;
use super::gather::ScopeSums;
use super::hash::NumberMap;
use super::rollup::{RollupColumns, Sums};
use crate::ledger::{Extremes, LedgerError};
use crate::usage::{SUM_SCALE, Sum};

/// Instead of a scope in groups of all scopes.
pub(super) const ALL_SCOPES: ScopeNumber = ScopeNumber::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GroupId {
    pub(super) slice_group: u32,
    pub(super) scope: ScopeNumber,
    /// A chain of texts, see [`Chains`].
    pub(super) texts: u32,
}

/// Lists of attributes' texts, each one a shorter list and one text more.
#[derive(Debug)]
pub(super) struct Chains {
    text_numbers: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    numbers: NumberMap<(u32, u32), u32>,
    /// The list before, and the text.
    links: Vec<(u32, u32)>,
}

/// The list without a text.
pub(super) const NO_TEXTS: u32 = 0;

impl Chains {
    pub(super) fn new() -> Chains {
        Chains {
            text_numbers: HashMap::new(),
            texts: Vec::new(),
            numbers: NumberMap::default(),
            links: vec![(NO_TEXTS, 0)],
        }
    }

    pub(super) fn text_number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.text_numbers.get(text) {
            return *number;
        }
        let number = number_of(self.texts.len());
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.text_numbers.insert(text, number);
        number
    }

    pub(super) fn longer(&mut self, chain: u32, text: u32) -> u32 {
        let links = &mut self.links;
        *self.numbers.entry((chain, text)).or_insert_with(|| {
            links.push((chain, text));
            number_of(links.len() - 1)
        })
    }

    /// The texts of a list of so many.
    pub(super) fn texts_of(&self, chain: u32, count: usize) -> Vec<Arc<str>> {
        let mut texts = vec![Arc::default(); count];
        let mut chain = chain;
        for text in texts.iter_mut().rev() {
            let (before, number) = self.links[chain as usize];
            *text = Arc::clone(&self.texts[number as usize]);
            chain = before;
        }
        texts
    }

    /// Takes over all of another's; by the other's number ours.
    fn merge(&mut self, other: &Chains) -> Vec<u32> {
        let texts: Vec<u32> = other.texts.iter().map(|text| self.text_number(text)).collect();
        let mut chains = vec![NO_TEXTS];
        for (before, text) in &other.links[1..] {
            // A list is made after the shorter one that it begins with.
            let chain = self.longer(chains[*before as usize], texts[*text as usize]);
            chains.push(chain);
        }
        chains
    }
}

fn number_of(index: usize) -> u32 {
    u32::try_from(index).expect("groups fit into memory")
}

/// By exponent: to compute them each time takes as long as what is done with them.
const POWERS_OF_TEN: [i128; SUM_SCALE as usize + 1] = {
    let mut powers = [1; SUM_SCALE as usize + 1];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// An exact sum; numbers are added in 128 bits, of the largest scale so far, as long as they fit.
#[derive(Debug, Clone, Copy, Default)]
struct LazySum {
    sum: Sum,
    /// Not in `sum` yet.
    pending: i128,
    scale: u8,
}

impl LazySum {
    fn add(&mut self, value: i128, scale: u8) {
        if let Some(pending) = self.added(value, scale) {
            self.pending = pending;
            self.scale = self.scale.max(scale);
        } else {
            self.sum = self.sum();
            (self.pending, self.scale) = (value, scale);
        }
    }

    fn add_of(&mut self, sums: &Sums, index: usize) {
        match sums {
            Sums::Scaled { scale, values } => self.add(values[index], *scale),
            Sums::Wide(sums) => self.sum += sums[index],
        }
    }

    fn added(&self, value: i128, scale: u8) -> Option<i128> {
        let times = |value: i128, digits: u8| value.checked_mul(POWERS_OF_TEN[usize::from(digits)]);
        match self.scale.cmp(&scale) {
            Ordering::Equal => self.pending.checked_add(value),
            Ordering::Less => times(self.pending, scale - self.scale)?.checked_add(value),
            Ordering::Greater => self.pending.checked_add(times(value, self.scale - scale)?),
        }
    }

    fn sum(self) -> Sum {
        self.sum + Sum::from_scaled(self.pending, self.scale)
    }
}

#[derive(Debug)]
struct Group {
    id: GroupId,
    rows: u64,
    qty: LazySum,
    price: LazySum,
}

/// What the groups have come to.
#[derive(Debug, Default)]
pub(super) struct Groups {
    places: NumberMap<GroupId, u32>,
    list: Vec<Group>,
    /// By group; only filled by those who want them.
    extremes: NumberMap<GroupId, Extremes>,
}

/// Most groups of a summary: some hundred MiB.
const GROUPS_MAX: usize = 4 << 20;

impl Groups {
    /// Whether there are too many of them.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        if self.list.len() > GROUPS_MAX {
            return Err(LedgerError::TooManyGroups { max: GROUPS_MAX });
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Sums of the scopes of a rollup; `group_scope` says to whose groups each belongs, if to any.
    pub(super) fn add_rollup(
        &mut self,
        slice_group: u32,
        rollup: &RollupColumns,
        group_scope: impl Fn(ScopeNumber) -> Option<ScopeNumber>,
    ) {
        // The next scope's group mostly stands behind the one before.
        let mut next = usize::MAX;
        for (index, (scope, rows)) in rollup.scopes.iter().zip(&rollup.rows).enumerate() {
            let Some(scope) = group_scope(*scope).filter(|_| *rows > 0) else { continue };
            let id = GroupId { slice_group, scope, texts: NO_TEXTS };
            if self.list.get(next).is_none_or(|group| group.id != id) {
                next = self.place(id);
            }
            let group = &mut self.list[next];
            group.rows += rows;
            group.qty.add_of(&rollup.qty, index);
            group.price.add_of(&rollup.price, index);
            next += 1;
        }
    }

    fn group(&mut self, id: GroupId) -> &mut Group {
        let place = self.place(id);
        &mut self.list[place]
    }

    fn place(&mut self, id: GroupId) -> usize {
        let list = &mut self.list;
        let place = *self.places.entry(id).or_insert_with(|| {
            let (qty, price) = (LazySum::default(), LazySum::default());
            list.push(Group { id, rows: 0, qty, price });
            number_of(list.len() - 1)
        });
        place as usize
    }

    /// Rows of one scale whose sums are small.
    pub(super) fn add_scaled(&mut self, id: GroupId, rows: u64, qty: Scaled, price: Scaled) {
        let group = self.group(id);
        group.rows += rows;
        group.qty.add(qty.value, qty.scale);
        group.price.add(price.value, price.scale);
    }

    pub(super) fn add(&mut self, id: GroupId, sums: ScopeSums) {
        if sums.rows == 0 {
            return;
        }
        let group = self.group(id);
        group.rows += sums.rows;
        group.qty.sum += sums.qty;
        group.price.sum += sums.price;
    }

    pub(super) fn widen(&mut self, id: GroupId, extremes: Extremes) {
        let widen = |all: &mut Extremes| {
            all.qty_min = all.qty_min.min(extremes.qty_min);
            all.qty_max = all.qty_max.max(extremes.qty_max);
            all.price_min = all.price_min.min(extremes.price_min);
            all.price_max = all.price_max.max(extremes.price_max);
        };
        self.extremes.entry(id).and_modify(widen).or_insert(extremes);
    }

    /// Adds what another thread has found.
    pub(super) fn merge(&mut self, chains: &mut Chains, other: (Groups, &Chains)) {
        let (other, other_chains) = other;
        let ours = chains.merge(other_chains);
        let our_id = |id: GroupId| GroupId { texts: ours[id.texts as usize], ..id };
        for group in &other.list {
            let (qty, price) = (group.qty.sum(), group.price.sum());
            self.add(our_id(group.id), ScopeSums { rows: group.rows, qty, price });
        }
        for (id, extremes) in other.extremes {
            self.widen(our_id(id), extremes);
        }
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (GroupId, ScopeSums, Option<Extremes>)> {
        self.list.iter().map(|group| {
            let (qty, price) = (group.qty.sum(), group.price.sum());
            let sums = ScopeSums { rows: group.rows, qty, price };
            (group.id, sums, self.extremes.get(&group.id).copied())
        })
    }
}

/// A number and its scale.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scaled {
    pub(super) value: i128,
    pub(super) scale: u8,
}
