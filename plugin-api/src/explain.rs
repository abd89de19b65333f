//! How a price came about, as steps that anybody can compute again.
//!
//! A step says which number it sets, by which operation, from which numbers, and what comes out.
//! Two numbers are there from the beginning, named as their columns are: [`QTY`], and [`PRICE`] so
//! far; after the last step `price` is the row's price. Whoever gets an [`Explanation`] need not
//! believe it: [`check_steps`] computes every step again, with the arithmetic of
//! [`crate::decimal`].

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::decimal::{add_half_even, multiply_half_even};
use crate::{Error, PRICE, QTY, Result};

/// Most steps of one row, and most numbers that one step takes.
pub const STEPS_MAX: usize = 4096;

/// How the prices of some rows came about: for each row, in their order, its steps.
///
/// As JSON: `{"rows": [[step, …], …]}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Explanation {
    /// No steps = the price stays as it is.
    pub rows: Vec<Vec<Step>>,
}

/// One step of a computation. [`Steps`] makes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The number that is set.
    pub sets: String,
    /// How.
    pub operation: Operation,
    /// From which numbers, in this order.
    pub operands: Vec<Operand>,
    /// What comes out.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub result: Decimal,
}

/// What is done with the numbers of a step, from left to right. Sums and products have at most 28
/// digits, rounded half to even.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// The only number, as it is.
    Take,
    /// Their sum.
    Add,
    /// Their product.
    Multiply,
    /// The largest of them.
    Max,
}

/// A number that goes into a step: of an earlier step, of a rule, or neither.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operand {
    /// The number of that name, as it is then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// The number.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub value: Decimal,
}

/// A rule that a price comes from, and why it holds for the row: whatever helps to find it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Such as `mapping`, `threshold`, `script`.
    pub kind: String,
    /// The module's own name of it.
    pub id: String,
    /// More about it, by name.
    #[serde(flatten)]
    pub details: BTreeMap<String, String>,
}

impl Rule {
    /// A rule without details.
    ///
    /// ```
    /// use rated_plugin::Rule;
    ///
    /// let rule = Rule::new("mapping", "7f3a").with("field", "flavor").with("value", "m1.tiny");
    ///
    /// assert_eq!(rule.details["value"], "m1.tiny");
    /// ```
    pub fn new(kind: impl Into<String>, id: impl Into<String>) -> Rule {
        Rule { kind: kind.into(), id: id.into(), details: BTreeMap::new() }
    }

    /// With one more detail. `kind` and `id` are no names for it: [`Steps::push`] refuses a rule
    /// that has such.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Rule {
        self.details.insert(name.into(), value.into());
        self
    }

    /// In JSON a name would stand there twice, and nobody could read any step of any row.
    fn check(&self) -> Result<()> {
        match ["kind", "id"].into_iter().find(|name| self.details.contains_key(*name)) {
            Some(name) => Err(Error::internal(format!("`{name}` is no name of a rule's detail"))),
            None => Ok(()),
        }
    }
}

/// What a step is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given<'a> {
    /// A number that is there already.
    Number(&'a str),
    /// What a rule says.
    Rule(Rule, Decimal),
    /// A number that nobody chose: where sums and products begin.
    Constant(Decimal),
}

/// The steps of one row, computed while they are written down.
///
/// ```
/// use rated_plugin::{Decimal, Given, Operation, Rule, Steps, check_steps};
///
/// let mut steps = Steps::new(Decimal::from(3), Decimal::ONE);
/// let price = Given::Rule(Rule::new("price", "price"), Decimal::new(5, 1));
/// steps.push("amount", Operation::Multiply, [Given::Number("qty"), price])?;
/// steps.push("price", Operation::Add, [Given::Number("price"), Given::Number("amount")])?;
///
/// let steps = steps.finish();
///
/// assert_eq!(check_steps(&steps, Decimal::from(3), Decimal::ONE).unwrap(), Decimal::new(25, 1));
/// # Ok::<(), rated_plugin::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Steps {
    numbers: BTreeMap<String, Decimal>,
    steps: Vec<Step>,
}

impl Steps {
    /// Of a row with this quantity and this price so far.
    pub fn new(qty: Decimal, price: Decimal) -> Steps {
        Steps { numbers: beginning(qty, price), steps: Vec::new() }
    }

    /// The number of that name, if there is one.
    pub fn number(&self, name: &str) -> Option<Decimal> {
        self.numbers.get(name).copied()
    }

    /// One more step; what comes out of it. An error says that a number is not there, that the
    /// result is too large, or that a rule's detail has a name that is taken.
    pub fn push<'a>(
        &mut self,
        sets: &str,
        operation: Operation,
        from: impl IntoIterator<Item = Given<'a>>,
    ) -> Result<Decimal> {
        let mut operands = Vec::new();
        for from in from {
            operands.push(match from {
                Given::Number(name) => {
                    let missing = || Error::internal(format!("no step sets `{name}`"));
                    let value = self.number(name).ok_or_else(missing)?;
                    Operand { name: Some(name.to_owned()), rule: None, value }
                }
                Given::Rule(rule, value) => {
                    rule.check()?;
                    Operand { name: None, rule: Some(rule), value }
                }
                Given::Constant(value) => Operand { name: None, rule: None, value },
            });
        }
        let result = operation
            .result(operands.iter().map(|operand| operand.value))
            .ok_or_else(|| Error::bad_data(format!("`{sets}` is no number of 28 digits")))?;
        if self.steps.len() == STEPS_MAX {
            return Err(Error::bad_data(format!("a row has more than {STEPS_MAX} steps")));
        }
        self.numbers.insert(sets.to_owned(), result);
        self.steps.push(Step { sets: sets.to_owned(), operation, operands, result });
        Ok(result)
    }

    /// All of them.
    pub fn finish(self) -> Vec<Step> {
        self.steps
    }
}

fn beginning(qty: Decimal, price: Decimal) -> BTreeMap<String, Decimal> {
    BTreeMap::from([(QTY.to_owned(), qty), (PRICE.to_owned(), price)])
}

impl Operation {
    /// `None` = too few numbers, too many, or a result that is too large.
    fn result(self, mut values: impl Iterator<Item = Decimal>) -> Option<Decimal> {
        let first = values.next()?;
        match self {
            Operation::Take => values.next().is_none().then_some(first),
            Operation::Add => values.try_fold(first, add_half_even),
            Operation::Multiply => values.try_fold(first, multiply_half_even),
            Operation::Max => Some(values.fold(first, Decimal::max)),
        }
    }
}

/// A step that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongStep {
    /// Its place among the steps; their number when there are too many.
    pub index: usize,
    /// What is wrong with it.
    pub kind: WrongStepKind,
}

/// Why a step does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongStepKind {
    /// It takes a number that no earlier step sets.
    Unset,
    /// It takes a number that is another one by then.
    Changed,
    /// Its result is not what comes out.
    Result,
    /// There are more than [`STEPS_MAX`] of them, or of the numbers of one.
    TooMany,
}

impl fmt::Display for WrongStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            WrongStepKind::Unset => "takes a number that no earlier step sets",
            WrongStepKind::Changed => "takes a number that is another one by then",
            WrongStepKind::Result => "has another result than what comes out",
            WrongStepKind::TooMany => "is one too many",
        };
        write!(f, "step {} {what}", self.index)
    }
}

impl std::error::Error for WrongStep {}

/// Computes steps again, from a row's quantity and its price so far: the price that they lead to,
/// or the first step that does not hold.
pub fn check_steps(steps: &[Step], qty: Decimal, price: Decimal) -> Result<Decimal, WrongStep> {
    if steps.len() > STEPS_MAX {
        return Err(WrongStep { index: steps.len(), kind: WrongStepKind::TooMany });
    }
    let mut numbers = beginning(qty, price);
    for (index, step) in steps.iter().enumerate() {
        let wrong = |kind| Err(WrongStep { index, kind });
        if step.operands.len() > STEPS_MAX {
            return wrong(WrongStepKind::TooMany);
        }
        for operand in &step.operands {
            match operand.name.as_ref().map(|name| numbers.get(name)) {
                Some(None) => return wrong(WrongStepKind::Unset),
                Some(Some(value)) if *value != operand.value => {
                    return wrong(WrongStepKind::Changed);
                }
                _ => {}
            }
        }
        let values = step.operands.iter().map(|operand| operand.value);
        if step.operation.result(values) != Some(step.result) {
            return wrong(WrongStepKind::Result);
        }
        numbers.insert(step.sets.clone(), step.result);
    }
    Ok(numbers[PRICE])
}

fn as_text<S: Serializer>(value: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&value.normalize())
}

/// Exact: a text of more digits than a decimal has is refused.
fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    let text = String::deserialize(deserializer)?;
    Decimal::from_str_exact(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> Vec<Step> {
        let mut steps = Steps::new(Decimal::TWO, Decimal::ONE);
        let rule = Rule::new("mapping", "m").with("value", "big");
        steps
            .push("flat", Operation::Max, [constant("0"), Given::Rule(rule, decimal("0.5"))])
            .unwrap();
        let product = [Given::Number("flat"), Given::Number(QTY)];
        steps.push("amount", Operation::Multiply, product).unwrap();
        steps.push(PRICE, Operation::Add, [Given::Number(PRICE), Given::Number("amount")]).unwrap();
        steps.finish()
    }

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn constant(text: &str) -> Given<'static> {
        Given::Constant(decimal(text))
    }

    #[test]
    fn steps_lead_to_the_price_and_survive_json() {
        let explanation = Explanation { rows: vec![steps(), Vec::new()] };

        let json = serde_json::to_string(&explanation).unwrap();
        let read: Explanation = serde_json::from_str(&json).unwrap();

        assert_eq!(read, explanation);
        assert!(
            json.contains(r#"{"rule":{"kind":"mapping","id":"m","value":"big"},"value":"0.5"}"#)
        );
        assert_eq!(check_steps(&read.rows[0], Decimal::TWO, Decimal::ONE), Ok(Decimal::TWO));
        assert_eq!(check_steps(&read.rows[1], Decimal::TWO, Decimal::ONE), Ok(Decimal::ONE));
    }

    #[test]
    fn steps_that_do_not_hold_are_found() {
        let check = |change: &dyn Fn(&mut Vec<Step>), index, kind| {
            let mut steps = steps();
            change(&mut steps);
            let found = check_steps(&steps, Decimal::TWO, Decimal::ONE);
            assert_eq!(found, Err(WrongStep { index, kind }));
        };

        check(&|steps| steps[0].result = Decimal::ONE, 0, WrongStepKind::Result);
        check(&|steps| drop(steps.remove(0)), 0, WrongStepKind::Unset);
        check(&|steps| steps[1].operands[0].value = Decimal::ONE, 1, WrongStepKind::Changed);
        check(&|steps| steps[1].operation = Operation::Take, 1, WrongStepKind::Result);
        check(&|steps| steps[2].operands.clear(), 2, WrongStepKind::Result);
        check(&|steps| steps.resize(5000, steps[0].clone()), 5000, WrongStepKind::TooMany);
    }

    #[test]
    fn a_detail_that_would_hide_what_the_rule_is_is_an_error() {
        for name in ["kind", "id"] {
            let mut steps = Steps::new(Decimal::ONE, Decimal::ZERO);
            let rule = Given::Rule(Rule::new("mapping", "m").with(name, "x"), Decimal::ONE);

            let refused = steps.push(PRICE, Operation::Take, [rule]).unwrap_err();

            assert_eq!(refused.message, format!("`{name}` is no name of a rule's detail"));
        }
    }

    #[test]
    fn a_number_that_is_too_large_or_missing_is_an_error() {
        let mut steps = Steps::new(Decimal::MAX, Decimal::ZERO);

        let too_large = steps.push("x", Operation::Multiply, [Given::Number(QTY), constant("10")]);
        let missing = steps.push("x", Operation::Take, [Given::Number("y")]);

        assert_eq!(too_large.unwrap_err().message, "`x` is no number of 28 digits");
        assert_eq!(missing.unwrap_err().message, "no step sets `y`");
        assert!(steps.finish().is_empty());
    }
}
