//! The bill as a table for the terminal.

use std::collections::BTreeMap;

use arrow_buffer::i256;
use chrono::{DateTime, Utc};

use crate::ledger::{Filters, GroupKey, Ledger, LedgerError, Measures, SummaryGroup, SummaryQuery};
use crate::usage::{Metric, SUM_SCALE, Sum};

/// Fractional digits shown; the API has all of them.
const DIGITS_MAX: u8 = 6;

/// Lines of one table; more are counted, not shown.
const LINES_MAX: usize = 60;

/// One line of the bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    scope: String,
    metric_type: String,
    qty: Sum,
    unit: String,
    price: Sum,
}

/// What every scope used of everything and what it costs, since the begin of the ledger, by scope
/// and type. Blocks.
pub(super) fn read(ledger: &dyn Ledger, metrics: &[Metric]) -> Result<Vec<Line>, LedgerError> {
    let units: BTreeMap<&str, &str> =
        metrics.iter().map(|metric| (metric.id.alt_name.as_str(), metric.unit.as_str())).collect();
    let groups = ledger.summarize(&SummaryQuery {
        begin: DateTime::<Utc>::UNIX_EPOCH,
        end: DateTime::from_timestamp(i64::from(u32::MAX), 0).expect("a date in the year 2106"),
        filters: Filters::default(),
        group_by: vec![GroupKey::Scope, GroupKey::Type],
        measures: Measures::Sums,
    })?;
    let line = |group: SummaryGroup| {
        let mut keys = group.keys.into_iter().map(|key| key.as_ref().to_owned());
        let (scope, metric_type) = (keys.next()?, keys.next()?);
        let unit = units.get(metric_type.as_str()).map(|unit| (*unit).to_owned());
        let unit = unit.unwrap_or_default();
        Some(Line { scope, metric_type, qty: group.qty, unit, price: group.price })
    };
    let mut lines: Vec<Line> = groups.into_iter().filter_map(line).collect();
    lines.sort_by(|a, b| (&a.scope, &a.metric_type).cmp(&(&b.scope, &b.metric_type)));
    Ok(lines)
}

/// Aligned, with a total below.
pub(super) fn table(lines: &[Line]) -> String {
    let header = ["SCOPE", "TYPE", "QUANTITY", "UNIT", "PRICE"].map(str::to_owned);
    let mut rows = vec![header];
    for line in lines.iter().take(LINES_MAX) {
        rows.push([
            line.scope.clone(),
            line.metric_type.clone(),
            text(line.qty),
            line.unit.clone(),
            text(line.price),
        ]);
    }
    if lines.len() > LINES_MAX {
        let more = format!("… {} more", lines.len() - LINES_MAX);
        rows.push([more, String::new(), String::new(), String::new(), String::new()]);
    }
    let total: Sum = lines.iter().fold(Sum::ZERO, |sum, line| sum + line.price);
    rows.push(["TOTAL".to_owned(), String::new(), String::new(), String::new(), text(total)]);
    let widths: [usize; 5] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
    });
    let rule: String = "-".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1));
    let mut table = String::new();
    for (index, row) in rows.iter().enumerate() {
        let is_total = index + 1 == rows.len();
        if index == 1 || is_total {
            table.push_str(&rule);
            table.push('\n');
        }
        table.push_str(&aligned(row, &widths));
        table.push('\n');
    }
    table
}

/// Numbers to the right, the rest to the left.
fn aligned(row: &[String; 5], widths: &[usize; 5]) -> String {
    let mut text = String::new();
    for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
        if column > 0 {
            text.push_str("  ");
        }
        let padding = " ".repeat(width - cell.chars().count());
        let is_number = matches!(column, 2 | 4);
        let (before, after) = if is_number { (padding.as_str(), "") } else { ("", &*padding) };
        text.extend([before, cell, after]);
    }
    text.trim_end().to_owned()
}

/// For the eye: rounded half even, always with the same number of fractional digits so that the
/// points align.
fn text(sum: Sum) -> String {
    Sum(round_half_even(sum.0)).to_text(usize::from(DIGITS_MAX))
}

fn round_half_even(value: i256) -> i256 {
    let step = i256::from_i128(10_i128.pow(u32::from(SUM_SCALE - DIGITS_MAX)));
    let two = i256::from_i128(2);
    let (whole, rest) = (value.wrapping_div(step), value.wrapping_rem(step));
    let is_odd = whole.wrapping_rem(two) != i256::ZERO;
    let doubled = rest.wrapping_abs().wrapping_mul(two);
    let away = doubled > step || (doubled == step && is_odd);
    let sign = if value.is_negative() { i256::MINUS_ONE } else { i256::ONE };
    let whole = if away { whole.wrapping_add(sign) } else { whole };
    whole.wrapping_mul(step)
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::*;

    fn sum(text: &str) -> Sum {
        Sum::from_decimal(text.parse::<Decimal>().unwrap())
    }

    fn line(scope: &str, metric_type: &str, qty: &str, unit: &str, price: &str) -> Line {
        let (scope, metric_type) = (scope.to_owned(), metric_type.to_owned());
        Line { scope, metric_type, qty: sum(qty), unit: unit.to_owned(), price: sum(price) }
    }

    #[test]
    fn the_table_is_aligned_and_ends_with_the_total() {
        let lines = [
            line("root", "cpu", "12.5", "s", "0.000125"),
            line("www-data", "memory", "1048576.1234567", "MiB*s", "2.5"),
        ];

        let expected = "\
SCOPE     TYPE          QUANTITY  UNIT      PRICE
-------------------------------------------------
root      cpu          12.500000  s      0.000125
www-data  memory  1048576.123457  MiB*s  2.500000
-------------------------------------------------
TOTAL                                    2.500125
";
        assert_eq!(table(&lines), expected);
    }

    #[test]
    fn figures_are_rounded_half_even_for_the_eye() {
        let check = |exact: &str, shown: &str| assert_eq!(text(sum(exact)), shown, "{exact}");
        check("0.0000005", "0.000000");
        check("0.0000015", "0.000002");
        check("-0.0000015", "-0.000002");
        check("0.00000150000000000001", "0.000002");
        check("0.0000024999", "0.000002");
        check("7", "7.000000");
    }

    #[test]
    fn a_long_bill_is_cut() {
        let one = line("s", "cpu", "1", "s", "1");
        let lines = vec![one; LINES_MAX + 5];

        let table = table(&lines);

        assert!(table.contains("… 5 more"));
        assert!(table.trim_end().ends_with("65.000000"));
    }
}
