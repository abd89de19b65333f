//! Rows as points of lines, computed in whole numbers.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_array::Decimal128Array;
use rated_plugin::decimal::{power_of_ten, unscaled_column};
use rated_plugin::{Call, Error, Result, UsageBatch};
use rust_decimal::Decimal;

use super::ladder::Ladder;
use super::line::{Line, Span, low};
use super::plan::{Course, Plan};
use super::quick_hash::QuickHashMap;
use super::rows::ROWS_PER_LOOK;

/// What is left to do for each row.
pub(super) struct Points<'a> {
    /// Slope and base of each line, in the scale of the prices.
    lines: Vec<(i128, i128)>,
    /// The line of each row.
    rows: Cow<'a, [u32]>,
    qty: &'a [i128],
    /// The prices so far, if any, and what brings them to the scale of the prices.
    so_far: Option<(&'a [i128], i128)>,
    scale: u32,
    /// Slopes and quantities have 64 bits.
    is_narrow: bool,
}

impl<'a> Points<'a> {
    /// `rows` has the plan of each row. `None` when a plan has no lines or a price may have to be
    /// rounded.
    pub(super) fn of(
        plans: &[Arc<Plan>],
        rows: &'a [u32],
        usage: &UsageBatch<'a>,
    ) -> Result<Option<Points<'a>>> {
        let qty = span(usage.qty(), usage.qty_range())?;
        let so_far = usage.price().map(|price| (price, usage.price_range()));
        // Zeros fit any scale.
        let so_far = so_far.filter(|(_, range)| *range != (0..=0));
        let so_far = so_far.map(|(price, range)| span(price, range).map(|span| (price, span)));
        let so_far = so_far.transpose()?;
        let Some(courses) = plans.iter().map(|plan| plan.course()).collect::<Option<Vec<_>>>()
        else {
            return Ok(None);
        };
        let found = LinesOfRows::of(&courses, rows, usage.qty().values(), qty);
        let so_far_span = so_far.as_ref().map_or(Span::NOTHING, |(_, span)| *span);
        let Some((lines, scale)) = in_units(&found, qty, so_far_span) else { return Ok(None) };
        let fits = |slope: i128| i64::try_from(slope).is_ok();
        let factor = power_of_ten(scale - so_far_span.scale)
            .ok_or_else(|| Error::internal("the scale of a price was found to fit"))?;
        Ok(Some(Points {
            is_narrow: qty.is_narrow() && lines.iter().all(|(slope, _)| fits(*slope)),
            lines,
            rows: found.rows,
            qty: usage.qty().values(),
            so_far: so_far.map(|(price, _)| (&price.values()[..], factor)),
            scale,
        }))
    }

    pub(super) fn prices(&self, call: &Call) -> Result<Decimal128Array> {
        let product = |slope: i128, qty: i128| slope * qty;
        let narrow_product = |slope, qty| i128::from(low(slope)) * i128::from(low(qty));
        let prices = if self.is_narrow {
            self.each_price(call, narrow_product)?
        } else {
            self.each_price(call, product)?
        };
        unscaled_column(prices, self.scale)
    }

    fn each_price(
        &self,
        call: &Call,
        product: impl Fn(i128, i128) -> i128 + Copy,
    ) -> Result<Vec<i128>> {
        let mut prices: Vec<i128> = Vec::with_capacity(self.rows.len());
        for begin in (0..self.rows.len()).step_by(ROWS_PER_LOOK) {
            call.check_cancelled()?;
            let part = begin..self.rows.len().min(begin + ROWS_PER_LOOK);
            let rows = self.rows[part.clone()].iter().zip(&self.qty[part.clone()]);
            let point = |(line, qty): (&u32, &i128)| {
                let (slope, base) = self.lines[*line as usize];
                product(slope, *qty) + base
            };
            match self.so_far {
                None => prices.extend(rows.map(point)),
                Some((so_far, factor)) => {
                    let so_far = so_far[part].iter().map(|price| price * factor);
                    prices.extend(rows.map(point).zip(so_far).map(|(point, price)| point + price));
                }
            }
        }
        Ok(prices)
    }
}

fn span(column: &Decimal128Array, range: RangeInclusive<i128>) -> Result<Span> {
    let scale =
        u32::try_from(column.scale()).map_err(|error| Error::internal(error.to_string()))?;
    Ok(Span::new(scale, range))
}

/// Slopes and bases of the lines, and the scale they are in.
fn in_units(
    found: &LinesOfRows<'_, '_>,
    qty: Span,
    so_far: Span,
) -> Option<(Vec<(i128, i128)>, u32)> {
    let used = || found.lines.iter().zip(&found.is_used).filter(|(_, is_used)| **is_used);
    let mut scale = so_far.scale;
    for (line, _) in used() {
        scale = scale.max(line.as_ref()?.scale(qty.scale));
    }
    if !so_far.fits(scale) {
        return None;
    }
    let mut lines = vec![(0, 0); found.lines.len()];
    for (units, (line, is_used)) in lines.iter_mut().zip(found.lines.iter().zip(&found.is_used)) {
        if *is_used {
            *units = line.as_ref()?.at(scale, qty)?;
        }
    }
    Some((lines, scale))
}

fn line_number(index: usize) -> u32 {
    u32::try_from(index).expect("a batch has fewer than 2^32 lines")
}

/// The lines that quantities of a batch may reach, and the one that each row does.
struct LinesOfRows<'p, 'a> {
    lines: Vec<&'p Option<Line>>,
    is_used: Vec<bool>,
    rows: Cow<'a, [u32]>,
}

impl<'p, 'a> LinesOfRows<'p, 'a> {
    fn of(
        courses: &[&'p Course],
        rows: &'a [u32],
        values: &[i128],
        qty: Span,
    ) -> LinesOfRows<'p, 'a> {
        let mut lines = Vec::with_capacity(courses.len());
        // Most plans share their breaks.
        let mut numbers: QuickHashMap<*const Decimal, usize> = QuickHashMap::default();
        let mut ladders: Vec<Ladder> = Vec::new();
        // The number of a plan's first line, and its ladder.
        let mut plans = Vec::with_capacity(courses.len());
        for course in courses {
            let number = *numbers.entry(course.breaks.as_ptr()).or_insert_with(|| {
                ladders.push(Ladder::new(&course.breaks, qty));
                ladders.len() - 1
            });
            plans.push((line_number(lines.len()), number));
            lines.extend(&course.lines[ladders[number].lines()]);
        }
        if lines.len() == plans.len() {
            let is_used = vec![true; lines.len()];
            return LinesOfRows { lines, is_used, rows: Cow::Borrowed(rows) };
        }
        let mut is_used = vec![false; lines.len()];
        let mut found = rows.to_vec();
        match &*ladders {
            [ladder] => climb_one(&mut found, values, &plans, ladder),
            ladders => climb(&mut found, values, &plans, ladders),
        }
        for line in &found {
            is_used[*line as usize] = true;
        }
        LinesOfRows { lines, is_used, rows: Cow::Owned(found) }
    }
}

/// Brings each row from its plan to its line, where all plans share their breaks: mostly no scope
/// has thresholds of its own.
fn climb_one(rows: &mut [u32], quantities: &[i128], plans: &[(u32, usize)], ladder: &Ladder) {
    for (row, qty) in rows.iter_mut().zip(quantities) {
        let (first, _) = plans[*row as usize];
        *row = first + ladder.reached(*qty);
    }
}

fn climb(rows: &mut [u32], quantities: &[i128], plans: &[(u32, usize)], ladders: &[Ladder]) {
    for (row, qty) in rows.iter_mut().zip(quantities) {
        let (first, ladder) = plans[*row as usize];
        *row = first + ladders[ladder].reached(*qty);
    }
}
