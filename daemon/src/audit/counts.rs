//! What an audit has found so far, in numbers.

use super::verdict::Verdict;

/// How many rows were looked at, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditCounts {
    pub rows: u64,
    /// The same price, by the very libraries that made it.
    pub equal: u64,
    pub different: u64,
    /// The same price, by another library: that of today.
    pub equal_by_other_library: u64,
    pub different_by_other_library: u64,
    /// Rated elsewhere.
    pub pushed: u64,
    /// Nothing can be said of them: they, a module, or its rules, cannot be had.
    pub not_compared: u64,
    /// Damaged places.
    pub damages: u64,
    /// Days whose rows are not kept any more.
    pub days_without_rows: u64,
}

/// What an audit comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    /// There are rows, and all that were rated here have the price that their rules lead to.
    Proved,
    /// Prices were found that their rules do not lead to, or records that cannot be read.
    Wrong,
    /// Nothing wrong was found, but not all was proved; or there was nothing to prove.
    Incomplete,
}

impl AuditOutcome {
    pub fn name(self) -> &'static str {
        match self {
            AuditOutcome::Proved => "proved",
            AuditOutcome::Wrong => "wrong",
            AuditOutcome::Incomplete => "incomplete",
        }
    }
}

impl AuditCounts {
    pub(super) fn count(&mut self, verdict: Verdict, rows: usize) {
        let counter = match verdict {
            Verdict::Equal => &mut self.equal,
            Verdict::EqualByOtherLibrary => &mut self.equal_by_other_library,
            Verdict::Different => &mut self.different,
            Verdict::DifferentByOtherLibrary => &mut self.different_by_other_library,
            Verdict::NotComputed => &mut self.not_compared,
            Verdict::Pushed => &mut self.pushed,
        };
        *counter += rows as u64;
    }

    pub fn outcome(&self) -> AuditOutcome {
        let wrong = self.different + self.different_by_other_library + self.damages;
        let unproved = self.not_compared + self.equal_by_other_library + self.days_without_rows;
        if wrong > 0 {
            AuditOutcome::Wrong
        } else if self.equal == 0 || unproved > 0 {
            AuditOutcome::Incomplete
        } else {
            AuditOutcome::Proved
        }
    }
}
