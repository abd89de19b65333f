//! Sorts rows by columns of codes, with a few instructions for each row and column.

use super::quick_hash::QuickHashMap;

/// The longest table that sorts are looked up in, entries. Few of them are ever touched.
const TABLE_MAX: usize = 1 << 16;
const UNKNOWN: u32 = u32::MAX;

/// A column of codes, each of which stands for a number from 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codes<'a> {
    pub(super) rows: &'a [i32],
    pub(super) numbers: &'a [u32],
    /// For rows without a value.
    pub(super) other: u32,
}

impl Codes<'_> {
    #[inline]
    pub(super) fn number(&self, code: i32) -> u32 {
        // Negative codes come out as huge ones.
        self.numbers.get(code.cast_unsigned() as usize).copied().unwrap_or(self.other)
    }
}

/// Rows sorted by the columns seen so far.
pub(super) struct Sorts<'a> {
    /// The sort of each row, without the columns below.
    rows: Vec<u32>,
    /// Columns still to be looked at, and what their codes add to the sort of a row.
    waiting: Vec<(&'a [i32], Vec<u32>, u32)>,
    /// Every sort is below.
    count: usize,
}

impl<'a> Sorts<'a> {
    pub(super) fn new(rows: usize) -> Sorts<'a> {
        Sorts { rows: vec![0; rows], waiting: Vec::new(), count: 1 }
    }

    /// Tells apart what a column tells apart whose numbers are below `count`.
    pub(super) fn refine(&mut self, codes: Codes<'a>, count: usize) {
        if self.count > 1 && self.count * count > TABLE_MAX {
            self.number();
        }
        if self.count * count > TABLE_MAX {
            self.refine_by_hash(codes);
            return;
        }
        let stride = below_2_32(self.count);
        let numbers = codes.numbers.iter().map(|number| number * stride).collect();
        self.waiting.push((codes.rows, numbers, codes.other * stride));
        self.count *= count;
    }

    /// The number of each row's sort, from 0, and a row of each sort.
    pub(super) fn numbered(mut self) -> (Vec<u32>, Vec<usize>) {
        let examples = self.number();
        (self.rows, examples)
    }

    fn look(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let columns =
            waiting.iter().map(|(rows, numbers, other)| Codes { rows, numbers, other: *other });
        let columns: Vec<Codes<'_>> = columns.collect();
        for columns in columns.chunks(2) {
            match *columns {
                [first, second, ..] => add_both(&mut self.rows, first, second),
                [codes] => add(&mut self.rows, codes),
                [] => {}
            }
        }
    }

    /// Numbers the sorts that occur.
    fn number(&mut self) -> Vec<usize> {
        self.look();
        let examples = number(&mut self.rows, &mut vec![UNKNOWN; self.count]);
        self.count = examples.len();
        examples
    }

    fn refine_by_hash(&mut self, codes: Codes<'_>) {
        let mut known: QuickHashMap<(u32, u32), u32> = QuickHashMap::default();
        for (sort, code) in self.rows.iter_mut().zip(codes.rows) {
            let next = below_2_32(known.len());
            *sort = *known.entry((*sort, codes.number(*code))).or_insert(next);
        }
        self.count = known.len();
    }
}

// The loops are functions by themselves: nothing they read is behind what they write, and the
// compiler keeps it in registers.

fn add(sorts: &mut [u32], codes: Codes<'_>) {
    for (sort, code) in sorts.iter_mut().zip(codes.rows) {
        *sort += codes.number(*code);
    }
}

/// Two columns at a time: half the reading and writing of sorts.
fn add_both(sorts: &mut [u32], first: Codes<'_>, second: Codes<'_>) {
    for (sort, codes) in sorts.iter_mut().zip(first.rows.iter().zip(second.rows)) {
        *sort += first.number(*codes.0) + second.number(*codes.1);
    }
}

fn number(sorts: &mut [u32], known: &mut [u32]) -> Vec<usize> {
    let mut examples = Vec::new();
    for (row, sort) in sorts.iter_mut().enumerate() {
        let known = &mut known[*sort as usize];
        if *known == UNKNOWN {
            *known = below_2_32(examples.len());
            examples.push(row);
        }
        *sort = *known;
    }
    examples
}

fn below_2_32(count: usize) -> u32 {
    u32::try_from(count).expect("a batch has fewer than 2^32 rows")
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The numbers of each code, one more for rows without a value, and the codes of the rows.
    fn column(rows: usize, numbers: u32) -> impl Strategy<Value = (Vec<u32>, Vec<i32>)> {
        let codes = vec(prop_oneof![4 => 0..40, 1 => Just(-1), 1 => Just(i32::MAX)], rows);
        (vec(0..numbers, 1..=40), codes)
    }

    /// How many numbers there may be, those of the codes and the codes of the rows.
    type Column = (u32, (Vec<u32>, Vec<i32>));

    fn columns() -> impl Strategy<Value = (usize, Vec<Column>)> {
        (0..60_usize).prop_flat_map(|rows| {
            // Some are too long for any table.
            let one = prop::sample::select(vec![1_u32, 2, 7, 300, 40_000, 100_000])
                .prop_flat_map(move |count| (Just(count), column(rows, count)));
            (Just(rows), vec(one, 0..5))
        })
    }

    proptest! {
        #[test]
        fn rows_are_of_one_sort_when_no_column_tells_them_apart((rows, columns) in columns()) {
            let mut sorts = Sorts::new(rows);
            let all = columns.iter().map(|(_, (numbers, rows))| Codes {
                rows,
                numbers,
                other: numbers[0],
            });
            let all: Vec<Codes<'_>> = all.collect();

            for (codes, (count, _)) in all.iter().zip(&columns) {
                sorts.refine(*codes, *count as usize);
            }
            let (found, examples) = sorts.numbered();

            let of_row = |row: usize| -> Vec<u32> {
                all.iter().map(|codes| codes.number(codes.rows[row])).collect()
            };
            let mut expected: Vec<Vec<u32>> = Vec::new();
            for row in 0..rows {
                if !expected.contains(&of_row(row)) {
                    expected.push(of_row(row));
                    prop_assert_eq!(examples[expected.len() - 1], row);
                }
                prop_assert_eq!(&expected[found[row] as usize], &of_row(row));
            }
            prop_assert_eq!(examples.len(), expected.len());
        }
    }
}
