//! Columns that a caller makes up: `SUM(price) / SUM(qty) AS mean_price, COUNT(qty)`.
//!
//! ```text
//! fields  = field { "," field }
//! field   = sum [ "AS" name ]
//! sum     = product { ( "+" | "-" ) product }
//! product = factor { ( "*" | "/" ) factor }
//! factor  = "-" factor | "(" sum ")" | number | function "(" name ")"
//! ```
//!
//! Functions and `AS` are taken in any case. Nothing of the text ever becomes part of a query: the
//! columns are worked out from what a summary says of each group.

use std::collections::HashMap;

use super::text;
use crate::ledger::{Measures, SummaryGroup};
use crate::usage::Sum;

/// Longest text, bytes.
pub const FIELDS_SIZE_MAX: usize = 4096;

/// Most columns.
pub const FIELDS_MAX: usize = 32;

/// Most parentheses and signs within one another.
pub const FIELD_DEPTH_MAX: usize = 32;

/// The columns, ready to be worked out for any number of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    name: String,
    /// Operands before what is done with them.
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Number(FieldValue),
    /// `None` = of something that no row has.
    Measure(Function, Option<Column>),
    Negate,
    Apply(Operator),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Sum,
    Min,
    Max,
    Count,
    Mean,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Qty,
    Price,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// A number of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldValue {
    pub value: Sum,
    /// Counts, and what is made of counts and whole numbers without dividing.
    pub is_count: bool,
}

/// Where a text stops being columns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "at character {place}: {kind}; allowed are sum, min, max, count, mean and avg of qty or price, \
     numbers, + - * / and parentheses, each column with AS and a name or without"
)]
pub struct FieldsError {
    /// Counted from 1.
    place: usize,
    #[source]
    kind: FieldsErrorKind,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum FieldsErrorKind {
    #[error("expected {wanted}, got `{found}`")]
    Unexpected { wanted: &'static str, found: char },
    #[error("expected {wanted}, but the text ends")]
    Ended { wanted: &'static str },
    #[error("`{0}` is not a function")]
    Function(String),
    #[error("`{0}` is not a number of at most {max} digits", max = text::SIGNIFICANT_DIGITS_MAX)]
    Number(String),
    #[error("a column without a function")]
    Constant,
    #[error("two columns have the name `{0}`")]
    Name(String),
    #[error("must be at most {FIELDS_SIZE_MAX} bytes long")]
    Size,
    #[error("must be at most {FIELDS_MAX} columns")]
    Count,
    #[error("must be at most {FIELD_DEPTH_MAX} parentheses deep")]
    Depth,
}

/// The value of a column does not fit our numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the value of column `{column}` is out of range")]
pub struct FieldRangeError {
    column: String,
}

impl Fields {
    pub fn parse(text: &str) -> Result<Fields, FieldsError> {
        if text.len() > FIELDS_SIZE_MAX {
            return Err(FieldsError { place: 1, kind: FieldsErrorKind::Size });
        }
        let mut parser = Parser { text, at: 0, steps: Vec::new(), functions: Vec::new() };
        let mut parsed = Vec::new();
        loop {
            if parsed.len() == FIELDS_MAX {
                return Err(parser.error(FieldsErrorKind::Count));
            }
            parsed.push(parser.field()?);
            if !parser.take(',') {
                break;
            }
        }
        if !parser.rest().is_empty() {
            return Err(parser.unexpected("`,` or the end"));
        }
        Ok(Fields { fields: named(parsed)? })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// Is every column about something that no row has?
    pub fn is_about_nothing(&self) -> bool {
        let steps = self.fields.iter().flat_map(|field| &field.steps);
        !steps.into_iter().any(|step| matches!(step, Step::Measure(_, Some(_))))
    }

    /// What a summary must say of its groups.
    pub fn measures(&self) -> Measures {
        let mut steps = self.fields.iter().flat_map(|field| &field.steps);
        let is_extreme =
            |step: &Step| matches!(step, Step::Measure(Function::Min | Function::Max, Some(_)));
        if steps.any(is_extreme) { Measures::SumsAndExtremes } else { Measures::Sums }
    }

    /// The value of each column; `None` = there is none, as something was divided by zero or is
    /// about what no row has.
    pub fn values(&self, group: &SummaryGroup) -> Result<Vec<Option<FieldValue>>, FieldRangeError> {
        let value = |field: &Field| {
            let worked_out = evaluate(&field.steps, group);
            worked_out.map_err(|OutOfRange| FieldRangeError { column: field.name.clone() })
        };
        self.fields.iter().map(value).collect()
    }
}

struct OutOfRange;

fn evaluate(steps: &[Step], group: &SummaryGroup) -> Result<Option<FieldValue>, OutOfRange> {
    let mut stack: Vec<Option<FieldValue>> = Vec::new();
    for step in steps {
        let result = match *step {
            Step::Number(number) => Some(number),
            Step::Measure(_, None) => None,
            Step::Measure(function, Some(column)) => measure(function, column, group),
            Step::Negate => {
                let operand = stack.pop().flatten();
                operand.map(|operand| FieldValue { value: -operand.value, ..operand })
            }
            Step::Apply(operator) => {
                let (right, left) = (stack.pop().flatten(), stack.pop().flatten());
                match left.zip(right) {
                    Some((left, right)) => apply(operator, left, right)?,
                    None => None,
                }
            }
        };
        stack.push(result);
    }
    Ok(stack.pop().flatten())
}

fn measure(function: Function, column: Column, group: &SummaryGroup) -> Option<FieldValue> {
    let sum = match column {
        Column::Qty => group.qty,
        Column::Price => group.price,
    };
    let count = Sum::from_scaled(group.rows.into(), 0);
    let value = match (function, column) {
        (Function::Sum, _) => sum,
        (Function::Count, _) => count,
        (Function::Mean, _) => sum.divide_half_even(count)?,
        (Function::Min, Column::Qty) => group.extremes?.qty_min,
        (Function::Max, Column::Qty) => group.extremes?.qty_max,
        (Function::Min, Column::Price) => group.extremes?.price_min,
        (Function::Max, Column::Price) => group.extremes?.price_max,
    };
    Some(FieldValue { value, is_count: function == Function::Count })
}

fn apply(
    operator: Operator,
    left: FieldValue,
    right: FieldValue,
) -> Result<Option<FieldValue>, OutOfRange> {
    let (a, b) = (left.value, right.value);
    let is_count = left.is_count && right.is_count && operator != Operator::Divide;
    let value = match operator {
        Operator::Divide if b.is_zero() => return Ok(None),
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_add(-b),
        Operator::Multiply => a.multiply_half_even(b),
        Operator::Divide => a.divide_half_even(b),
    };
    value.map(|value| Some(FieldValue { value, is_count })).ok_or(OutOfRange)
}

// ---- reading ------------------------------------------------------------------------------------

/// A column as it is written.
struct Parsed {
    steps: Vec<Step>,
    alias: Option<String>,
    /// The name it has without an alias.
    default_name: String,
    place: usize,
}

struct Parser<'a> {
    text: &'a str,
    /// Byte that comes next.
    at: usize,
    /// Of the column that is being read.
    steps: Vec<Step>,
    functions: Vec<String>,
}

impl<'a> Parser<'a> {
    fn field(&mut self) -> Result<Parsed, FieldsError> {
        self.skip_blanks();
        let place = self.place();
        self.sum(0)?;
        let mut alias = None;
        if self.peek().is_some_and(is_name_start) {
            if !self.word().eq_ignore_ascii_case("as") {
                return Err(self.unexpected("an operator, AS, `,` or the end"));
            }
            self.next_word();
            if !self.peek().is_some_and(is_name_start) {
                return Err(self.unexpected("a name"));
            }
            alias = Some(self.next_word().to_owned());
        }
        let (steps, functions) =
            (std::mem::take(&mut self.steps), std::mem::take(&mut self.functions));
        if functions.is_empty() {
            return Err(FieldsError { place, kind: FieldsErrorKind::Constant });
        }
        Ok(Parsed { steps, alias, default_name: functions.join("_"), place })
    }

    fn sum(&mut self, depth: usize) -> Result<(), FieldsError> {
        self.product(depth)?;
        loop {
            let operator = match self.peek() {
                Some('+') => Operator::Add,
                Some('-') => Operator::Subtract,
                _ => return Ok(()),
            };
            self.at += 1;
            self.product(depth)?;
            self.steps.push(Step::Apply(operator));
        }
    }

    fn product(&mut self, depth: usize) -> Result<(), FieldsError> {
        self.factor(depth)?;
        loop {
            let operator = match self.peek() {
                Some('*') => Operator::Multiply,
                Some('/') => Operator::Divide,
                _ => return Ok(()),
            };
            self.at += 1;
            self.factor(depth)?;
            self.steps.push(Step::Apply(operator));
        }
    }

    fn factor(&mut self, depth: usize) -> Result<(), FieldsError> {
        if depth > FIELD_DEPTH_MAX {
            return Err(self.error(FieldsErrorKind::Depth));
        }
        match self.peek() {
            Some('-') => {
                self.at += 1;
                self.factor(depth + 1)?;
                self.steps.push(Step::Negate);
                Ok(())
            }
            Some('(') => {
                self.at += 1;
                self.sum(depth + 1)?;
                self.expect(')', "an operator or `)`")
            }
            Some(first) if first.is_ascii_digit() || first == '.' => self.number(),
            Some(first) if is_name_start(first) => self.call(),
            _ => Err(self.unexpected("a function, a number or `(`")),
        }
    }

    fn number(&mut self) -> Result<(), FieldsError> {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let digits = &rest[..end];
        let value = text::decimal(digits)
            .map_err(|_| self.error(FieldsErrorKind::Number(digits.to_owned())))?;
        self.at += end;
        let is_count = !digits.contains('.');
        self.steps.push(Step::Number(FieldValue { value: Sum::from_decimal(value), is_count }));
        Ok(())
    }

    fn call(&mut self) -> Result<(), FieldsError> {
        let name = self.word().to_ascii_lowercase();
        let function = match name.as_str() {
            "sum" => Function::Sum,
            "min" => Function::Min,
            "max" => Function::Max,
            "count" => Function::Count,
            "mean" | "avg" => Function::Mean,
            _ => return Err(self.error(FieldsErrorKind::Function(self.word().to_owned()))),
        };
        self.next_word();
        self.expect('(', "`(`")?;
        if !self.peek().is_some_and(is_name_start) {
            return Err(self.unexpected("qty or price"));
        }
        let column = match self.next_word() {
            "qty" => Some(Column::Qty),
            "price" => Some(Column::Price),
            _ => None,
        };
        self.expect(')', "`)`")?;
        self.steps.push(Step::Measure(function, column));
        self.functions.push(name);
        Ok(())
    }

    // ---- characters ----

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// The next character that is not blank.
    fn peek(&mut self) -> Option<char> {
        self.skip_blanks();
        self.rest().chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let is_there = self.peek() == Some(wanted);
        self.at += if is_there { wanted.len_utf8() } else { 0 };
        is_there
    }

    fn expect(&mut self, wanted: char, words: &'static str) -> Result<(), FieldsError> {
        if self.take(wanted) { Ok(()) } else { Err(self.unexpected(words)) }
    }

    /// The word that begins here.
    fn word(&self) -> &'a str {
        let rest = self.rest();
        &rest[..rest.find(|c: char| !is_name_start(c) && !c.is_ascii_digit()).unwrap_or(rest.len())]
    }

    fn next_word(&mut self) -> &'a str {
        self.skip_blanks();
        let word = self.word();
        self.at += word.len();
        self.skip_blanks();
        word
    }

    fn place(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }

    fn error(&self, kind: FieldsErrorKind) -> FieldsError {
        FieldsError { place: self.place(), kind }
    }

    fn unexpected(&mut self, wanted: &'static str) -> FieldsError {
        let kind = match self.peek() {
            Some(found) => FieldsErrorKind::Unexpected { wanted, found },
            None => FieldsErrorKind::Ended { wanted },
        };
        self.error(kind)
    }
}

fn is_name_start(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_'
}

/// Gives each column a name of its own: aliases first, then the functions' names, numbered where
/// they repeat: `sum`, `sum_1`.
fn named(parsed: Vec<Parsed>) -> Result<Vec<Field>, FieldsError> {
    let mut taken: HashMap<String, usize> = HashMap::new();
    for field in &parsed {
        if let Some(alias) = &field.alias
            && taken.insert(alias.clone(), 1).is_some()
        {
            let kind = FieldsErrorKind::Name(alias.clone());
            return Err(FieldsError { place: field.place, kind });
        }
    }
    let mut fields = Vec::with_capacity(parsed.len());
    for Parsed { steps, alias, default_name, .. } in parsed {
        let name = alias.unwrap_or_else(|| {
            let mut count = taken.get(&default_name).copied().unwrap_or(0);
            let mut name = default_name.clone();
            while taken.contains_key(&name) {
                name = format!("{default_name}_{count}");
                count += 1;
            }
            taken.insert(default_name, count.max(1));
            taken.entry(name.clone()).or_insert(1);
            name
        });
        fields.push(Field { name, steps });
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::Extremes;

    fn sum(text: &str) -> Sum {
        Sum::from_decimal(text.parse().unwrap())
    }

    fn group() -> SummaryGroup {
        SummaryGroup {
            keys: Vec::new(),
            period: None,
            qty: sum("69"),
            price: sum("1.05"),
            rows: 12,
            extremes: Some(Extremes {
                qty_min: sum("1"),
                qty_max: sum("10"),
                price_min: sum("0.025"),
                price_max: sum("0.25"),
            }),
        }
    }

    /// Names and values.
    fn shown(text: &str) -> String {
        let fields = match Fields::parse(text) {
            Ok(fields) => fields,
            Err(error) => return error.to_string().split("; allowed").next().unwrap().to_owned(),
        };
        let values = match fields.values(&group()) {
            Ok(values) => values,
            Err(error) => return error.to_string(),
        };
        let shown = fields.names().zip(values).map(|(name, value)| match value {
            None => format!("{name}=null"),
            Some(FieldValue { value, is_count }) => {
                format!("{name}={}", value.to_text(usize::from(!is_count)))
            }
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn columns_have_values_and_names() {
        for (text, expected) in [
            ("SUM(price) AS rate", "rate=1.05"),
            ("SUM(price),MAX(qty),COUNT(qty)", "sum=1.05 max=10.0 count=12"),
            ("sum( price ) , Sum(qty), sum(price) as Other", "sum=1.05 sum_1=69.0 Other=1.05"),
            ("SUM(price) AS sum, SUM(qty)", "sum=1.05 sum_1=69.0"),
            ("SUM(qty), SUM(price) AS sum_1, SUM(qty)", "sum=69.0 sum_1=1.05 sum_2=69.0"),
            ("SUM(price)/SUM(qty)", "sum_sum=0.0152173913043478260869565217"),
            ("AVG(qty), MEAN(qty)", "avg=5.75 mean=5.75"),
            ("MIN(price) + MIN(qty) * 2", "min_min=2.025"),
            ("(MIN(price) + MIN(qty)) * 2", "min_min=2.05"),
            ("-SUM(price) - -1.5", "sum=0.45"),
            ("COUNT(qty) * 2 - 1", "count=23"),
            ("COUNT(qty) / 5", "count=2.4"),
            ("SUM(price) / (COUNT(qty) - 12) AS x", "x=null"),
            ("SUM(price), SUM(nope)", "sum=1.05 sum_1=null"),
            ("SUM(qty) - 10 - 9", "sum=50.0"),
            ("SUM(qty) / 3 / 2", "sum=11.5"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn anything_else_is_told_with_its_place() {
        for (text, expected) in [
            ("", "at character 1: expected a function, a number or `(`, but the text ends"),
            (";;", "at character 1: expected a function, a number or `(`, got `;`"),
            ("select", "at character 1: `select` is not a function"),
            ("SUM(price);", "at character 11: expected `,` or the end, got `;`"),
            (
                "SUM(price) FROM x",
                "at character 12: expected an operator, AS, `,` or the end, got `F`",
            ),
            ("SUM price", "at character 5: expected `(`, got `p`"),
            ("SUM(*)", "at character 5: expected qty or price, got `*`"),
            ("SUM(qty*2)", "at character 8: expected `)`, got `*`"),
            ("SUM(qty) AS", "at character 12: expected a name, but the text ends"),
            ("SUM(qty) AS 'x'", "at character 13: expected a name, got `'`"),
            (
                "SUM(qty),",
                "at character 10: expected a function, a number or `(`, but the text ends",
            ),
            ("1 + 1", "at character 1: a column without a function"),
            ("SUM(qty) * 1.2.3", "at character 12: `1.2.3` is not a number of at most 28 digits"),
            ("SUM(qty) AS a, SUM(price) AS a", "at character 16: two columns have the name `a`"),
            ("SUM(ünits)", "at character 5: expected qty or price, got `ü`"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        let deep = format!("{}SUM(qty){}", "(".repeat(100), ")".repeat(100));
        assert_eq!(shown(&deep), "at character 34: must be at most 32 parentheses deep");
        let many = vec!["SUM(qty)"; 33].join(",");
        assert_eq!(shown(&many), "at character 289: must be at most 32 columns");
        assert_eq!(shown(&" ".repeat(5000)), "at character 1: must be at most 4096 bytes long");
    }

    #[test]
    fn only_extremes_need_the_rows() {
        let measures = |text| Fields::parse(text).unwrap().measures();
        assert_eq!(measures("SUM(price),MEAN(qty),COUNT(qty)"), Measures::Sums);
        assert_eq!(measures("SUM(price) - MIN(qty)"), Measures::SumsAndExtremes);
        assert!(Fields::parse("SUM(nope) / MAX(no)").unwrap().is_about_nothing());
        assert!(!Fields::parse("SUM(nope), MAX(qty)").unwrap().is_about_nothing());
    }

    #[test]
    fn a_value_that_does_not_fit_is_said() {
        let huge = "9".repeat(28);
        let text = format!("SUM(qty) * {huge} * {huge} * {huge} AS x");
        assert_eq!(shown(&text), "the value of column `x` is out of range");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-zA-Z0-9(),.*/+ -]{0,40}|\\PC{0,20}") {
            if let Ok(fields) = Fields::parse(&text) {
                let values = fields.values(&group());
                prop_assert!(values.is_ok() || values.is_err());
            }
        }
    }
}
