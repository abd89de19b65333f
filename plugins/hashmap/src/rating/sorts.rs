//! Sorts rows by columns of codes, with a few instructions for each row and column.

use std::collections::HashMap;

/// The longest table that sorts are looked up in, entries. Few of them are ever touched.
const TABLE_MAX: usize = 1 << 16;
const UNKNOWN: u32 = u32::MAX;

/// The class of each code of a column, as a number from 0.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) by_code: Vec<u32>,
    /// For rows without a value.
    pub(super) other: u32,
}

impl Lookup {
    #[inline]
    pub(super) fn of(&self, code: i32) -> u32 {
        // Negative codes come out as huge ones.
        self.by_code.get(code.cast_unsigned() as usize).copied().unwrap_or(self.other)
    }

    fn times(&self, factor: u32) -> Lookup {
        let by_code = self.by_code.iter().map(|class| class * factor).collect();
        Lookup { by_code, other: self.other * factor }
    }
}

/// Rows sorted by the columns seen so far.
pub(super) struct Sorts<'a> {
    /// The sort of each row, without the columns below.
    rows: Vec<u32>,
    /// Columns still to be looked at, and what each adds to the sort of a row.
    waiting: Vec<(&'a [i32], Lookup)>,
    /// Every sort is below.
    count: usize,
}

impl<'a> Sorts<'a> {
    pub(super) fn new(rows: usize) -> Sorts<'a> {
        Sorts { rows: vec![0; rows], waiting: Vec::new(), count: 1 }
    }

    /// Tells apart what a column of so many classes tells apart.
    pub(super) fn refine(&mut self, codes: &'a [i32], lookup: &Lookup, classes: usize) {
        if self.count > 1 && self.count * classes > TABLE_MAX {
            self.number();
        }
        if self.count * classes > TABLE_MAX {
            self.refine_by_hash(codes, lookup);
            return;
        }
        let stride = u32::try_from(self.count).expect("at most the longest table");
        self.waiting.push((codes, lookup.times(stride)));
        self.count *= classes;
    }

    /// The number of each row's sort, from 0, and a row of each sort.
    pub(super) fn numbered(mut self) -> (Vec<u32>, Vec<usize>) {
        let examples = self.number();
        (self.rows, examples)
    }

    /// Adds to each row what the columns say, two columns at a time.
    fn look(&mut self) {
        for columns in std::mem::take(&mut self.waiting).chunks(2) {
            match columns {
                [(first_codes, first), (second_codes, second), ..] => {
                    let codes = first_codes.iter().zip(*second_codes);
                    for (sort, (code, second_code)) in self.rows.iter_mut().zip(codes) {
                        *sort += first.of(*code) + second.of(*second_code);
                    }
                }
                [(codes, lookup)] => {
                    for (sort, code) in self.rows.iter_mut().zip(*codes) {
                        *sort += lookup.of(*code);
                    }
                }
                [] => {}
            }
        }
    }

    /// Numbers the sorts that occur.
    fn number(&mut self) -> Vec<usize> {
        self.look();
        let mut known = vec![UNKNOWN; self.count];
        let mut examples = Vec::new();
        for (row, sort) in self.rows.iter_mut().enumerate() {
            let known = &mut known[*sort as usize];
            if *known == UNKNOWN {
                *known = below_2_32(examples.len());
                examples.push(row);
            }
            *sort = *known;
        }
        self.count = examples.len();
        examples
    }

    fn refine_by_hash(&mut self, codes: &[i32], lookup: &Lookup) {
        let mut known: HashMap<(u32, u32), u32> = HashMap::new();
        for (sort, code) in self.rows.iter_mut().zip(codes) {
            let next = below_2_32(known.len());
            *sort = *known.entry((*sort, lookup.of(*code))).or_insert(next);
        }
        self.count = known.len();
    }
}

fn below_2_32(count: usize) -> u32 {
    u32::try_from(count).expect("a batch has fewer than 2^32 rows")
}
