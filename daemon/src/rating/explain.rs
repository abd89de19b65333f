use std::ops::Range;

use arrow_array::{Decimal128Array, RecordBatch};
use rated_plugin::{RateRequest, Step, check_steps, decimal_at};
use rust_decimal::Decimal;

use super::{CallFailure, Chain, RatingError, columns};
use crate::usage::with_decimals;

/// What one module did to the price of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleReasons {
    /// The price so far.
    pub before: Decimal,
    pub after: Decimal,
    pub told: Told,
}

/// What a module says of a price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Computed again: they lead from the price before to the price after.
    Steps(Vec<Step>),
    /// The module gives no reasons.
    Nothing,
    /// It gives some, which do not lead to its price; why not.
    Wrong(String),
}

impl Chain {
    /// How the prices of some rows come about: for each row one entry for each module of the chain.
    /// `usage` is the whole batch that the chain rates: a module may look at other rows too.
    pub async fn explain(
        &self,
        request: &RateRequest,
        scope_key: Option<&str>,
        usage: &RecordBatch,
        rows: Range<usize>,
    ) -> Result<Vec<Vec<ModuleReasons>>, RatingError> {
        let mut reasons: Vec<Vec<ModuleReasons>> = vec![Vec::new(); rows.len()];
        let mut prices = columns::zero_prices(usage.num_rows());
        let visible =
            columns::with_derived(usage, scope_key, request.begin).map_err(RatingError::Rows)?;
        let qty = columns::quantities(usage).map_err(RatingError::Rows)?;
        for (name, rater) in &self.raters {
            let call = |failure| RatingError::Call { module: name.clone(), failure };
            let before = prices.clone();
            let batch = with_decimals(&visible, "price", prices).map_err(RatingError::Rows)?;
            let answer = rater.rate(request.clone(), batch.clone()).await.map_err(call)?;
            prices = columns::prices(&answer, usage.num_rows())
                .map_err(|error| call(CallFailure::from(error)))?;
            // The price is known; a module that cannot say why is no reason not to tell it.
            let told = match rater.explain(request.clone(), batch, rows.clone()).await {
                Ok(Some(explanation)) => explanation.rows.into_iter().map(Ok).collect(),
                Ok(None) => vec![Err(Told::Nothing); rows.len()],
                Err(failure) => vec![Err(Told::Wrong(failure.to_string())); rows.len()],
            };
            for ((row, told), reasons) in rows.clone().zip(told).zip(&mut reasons) {
                let number =
                    |column: &Decimal128Array| decimal_at(column, row).map_err(RatingError::Rows);
                let (qty, before, after) = (number(&qty)?, number(&before)?, number(&prices)?);
                let told =
                    told.map_or_else(|told| told, |steps| checked(steps, qty, before, after));
                reasons.push(ModuleReasons { before, after, told });
            }
        }
        Ok(reasons)
    }
}

/// Steps are believed when they lead to the price.
fn checked(steps: Vec<Step>, qty: Decimal, before: Decimal, after: Decimal) -> Told {
    match check_steps(&steps, qty, before) {
        Ok(price) if price == after => Told::Steps(steps),
        Ok(price) => Told::Wrong(format!("the steps lead to {}", price.normalize())),
        Err(wrong) => Told::Wrong(wrong.to_string()),
    }
}
