//! The price after each script: the scripts are run again, the first one alone, then the first two,
//! and so on.
//!
//! What a script does inside is not told; that it ends with this price, is.

use std::ops::Range;
use std::sync::Arc;

use rated_plugin::{
    Call, Error, Explanation, Given, Operation, PRICE, Result, Rule, Status, Steps, UsageBatch,
};

use crate::python::{NamedText, Points, Scripts, Wrong};
use crate::rating::ScriptsRater;

/// Most scripts that are told one by one: each of them makes the runs longer and more.
const SCRIPTS_MAX: usize = 16;

/// Why there are no reasons.
pub(crate) enum Untold {
    Call(Error),
    Script(Wrong),
}

impl From<Error> for Untold {
    fn from(error: Error) -> Untold {
        Untold::Call(error)
    }
}

/// The steps of the rows asked for, scope after scope.
pub(crate) struct Reasons<'a> {
    rater: &'a ScriptsRater,
    rows: Range<usize>,
    steps: Vec<Steps>,
}

impl<'a> Reasons<'a> {
    pub(crate) fn new(
        rater: &'a ScriptsRater,
        view: &UsageBatch<'_>,
        rows: Range<usize>,
    ) -> Reasons<'a> {
        let steps = |row| Steps::new(view.qty_at(row), view.price_at(row));
        let steps = rows.clone().map(steps).collect();
        Reasons { rater, rows, steps }
    }

    /// The rows of one scope, all of them: scripts see them together.
    pub(crate) fn tell(
        &mut self,
        call: &Call,
        of_scope: &[usize],
        points: &Points<'_>,
    ) -> Result<(), Untold> {
        let scripts = &self.rater.scripts.0;
        if scripts.len() > SCRIPTS_MAX {
            let text = format!("{} scripts: at most {SCRIPTS_MAX} are told apart", scripts.len());
            return Err(Error::new(Status::Unsupported, text).into());
        }
        for last in 0..scripts.len() {
            call.check_cancelled()?;
            let mut lease = self.rater.shared.python.lend(call)?;
            // The whole list is the one that a process may have loaded already.
            let first_ones = if last + 1 == scripts.len() {
                Arc::clone(&self.rater.scripts)
            } else {
                Arc::new(Scripts(scripts[..=last].to_vec()))
            };
            lease.load(call, &first_ones)?.map_err(Untold::Script)?;
            let prices = lease.run(call, points)?.map_err(Untold::Script)?;
            for (row, price) in of_scope.iter().zip(prices) {
                if self.rows.contains(row) {
                    let rule = Given::Rule(self.rule(last, &scripts[last]), price);
                    self.steps[row - self.rows.start].push(PRICE, Operation::Take, [rule])?;
                }
            }
        }
        Ok(())
    }

    fn rule(&self, index: usize, script: &NamedText) -> Rule {
        let (id, checksum) = &self.rater.ids[index];
        Rule::new("script", id.to_string())
            .with("name", &script.name)
            .with("sha512", checksum)
            .with("order", (index + 1).to_string())
    }

    pub(crate) fn finish(self) -> Explanation {
        Explanation { rows: self.steps.into_iter().map(Steps::finish).collect() }
    }
}
