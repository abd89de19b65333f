//! Thresholds of one parent and group, searched by what they are compared with.

use std::collections::HashMap;

use rust_decimal::Decimal;

use crate::record::{Id, Kind};

/// Stands for the scopes that have no rules of their own.
pub(crate) const ANY_SCOPE: u32 = 0;

/// One threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) id: Id,
    pub(crate) from: Decimal,
    pub(crate) kind: Kind,
    pub(crate) cost: Decimal,
}

#[derive(Debug, Default)]
pub(crate) struct Levels {
    /// For everybody; ascending, each level once.
    general: Vec<Level>,
    /// For one scope, by its number; the same.
    own: HashMap<u32, Vec<Level>>,
}

impl Levels {
    /// Levels of -1 and less never match: nothing is kept of them.
    pub(crate) fn push(&mut self, scope: u32, level: Level) {
        if level.from <= Decimal::NEGATIVE_ONE {
            return;
        }
        let levels = match scope {
            ANY_SCOPE => &mut self.general,
            scope => self.own.entry(scope).or_default(),
        };
        levels.push(level);
    }

    /// Call once, after the last [`Levels::push`].
    pub(crate) fn sort(&mut self) {
        for levels in self.own.values_mut().chain([&mut self.general]) {
            // Stable: of the same level the first pushed stays, the others can never win.
            levels.sort_by_key(|level| level.from);
            levels.dedup_by_key(|level| level.from);
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = Decimal> {
        self.own.values().chain([&self.general]).flatten().map(|level| level.from)
    }

    /// Scopes with levels of their own.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = u32> {
        self.own.keys().copied()
    }

    /// Those that a scope can reach.
    pub(crate) fn of_scope(&self, scope: u32) -> impl Iterator<Item = Decimal> {
        // Nothing is kept as `ANY_SCOPE`'s own.
        self.own.get(&scope).into_iter().chain([&self.general]).flatten().map(|level| level.from)
    }

    /// The highest level that `value` reaches; a scope's own replaces everybody's of the same
    /// level.
    pub(crate) fn reached(&self, scope: u32, value: Decimal) -> Option<&Level> {
        let general = highest(&self.general, value);
        if self.own.is_empty() || scope == ANY_SCOPE {
            return general;
        }
        let own = self.own.get(&scope).and_then(|levels| highest(levels, value));
        match (own, general) {
            (Some(own), Some(general)) if own.from < general.from => Some(general),
            (own, general) => own.or(general),
        }
    }
}

fn highest(levels: &[Level], value: Decimal) -> Option<&Level> {
    let count = levels.partition_point(|level| level.from <= value);
    levels[..count].last()
}
