//! What was consumed when: a bounded ring of intervals without gaps.
//!
//! The usage of a period is the sum over its intervals. An interval that straddles the begin or end
//! is split in proportion to time: the part before an instant is rounded down to the unit of the
//! counter, the part after it is the rest. So the parts of periods that follow each other sum to
//! the whole to the last unit, however they are cut.
//!
//! This module knows no clock and no machine.

use std::collections::{BTreeMap, VecDeque};

use crate::tally::{ByUser, Consumption};

/// Most rows (users of an interval) kept; more drop the oldest intervals.
const ENTRIES_MAX: usize = 1_000_000;

/// What a user consumed in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Total {
    pub(crate) cpu_ns: u128,
    pub(crate) io_bytes: u128,
    /// Memory times time: bytes x nanoseconds.
    pub(crate) memory_byte_ns: u128,
    /// Processes times time: nanoseconds.
    pub(crate) process_ns: u128,
}

/// Why a period's usage is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// It begins before everything known; it never will be.
    Before { since_ns: i64 },
    /// It ends after the last look.
    After { until_ns: i64 },
}

#[derive(Debug)]
struct Interval {
    begin_ns: i64,
    end_ns: i64,
    users: Vec<(u32, Consumption)>,
}

/// Intervals that touch each other, oldest first.
#[derive(Debug)]
pub(crate) struct History {
    since_ns: i64,
    until_ns: i64,
    intervals: VecDeque<Interval>,
    entry_count: usize,
    kept_ns: i64,
}

impl History {
    /// Knows nothing before `since_ns`, and keeps at least `kept_ns` (unless there are too many
    /// users).
    pub(crate) fn new(since_ns: i64, kept_ns: i64) -> History {
        History {
            since_ns,
            until_ns: since_ns,
            intervals: VecDeque::new(),
            entry_count: 0,
            kept_ns,
        }
    }

    pub(crate) fn until_ns(&self) -> i64 {
        self.until_ns
    }

    /// What was consumed from the end of the last interval to `end_ns`, which is later.
    pub(crate) fn push(&mut self, end_ns: i64, users: ByUser) {
        assert!(end_ns > self.until_ns, "intervals must have a length");
        self.entry_count += users.len();
        self.intervals.push_back(Interval {
            begin_ns: self.until_ns,
            end_ns,
            users: users.into_iter().collect(),
        });
        self.until_ns = end_ns;
        while let Some(oldest) = self.intervals.front() {
            let is_needed = oldest.end_ns > self.until_ns - self.kept_ns;
            let is_room = self.entry_count <= ENTRIES_MAX || self.intervals.len() == 1;
            if is_needed && is_room {
                break;
            }
            self.entry_count -= oldest.users.len();
            self.since_ns = oldest.end_ns;
            self.intervals.pop_front();
        }
    }

    /// By user, everybody who had a process in the period.
    pub(crate) fn usage(
        &self,
        begin_ns: i64,
        end_ns: i64,
    ) -> Result<BTreeMap<u32, Total>, Unknown> {
        if begin_ns < self.since_ns {
            return Err(Unknown::Before { since_ns: self.since_ns });
        }
        if end_ns > self.until_ns {
            return Err(Unknown::After { until_ns: self.until_ns });
        }
        let mut totals: BTreeMap<u32, Total> = BTreeMap::new();
        let first = self.intervals.partition_point(|interval| interval.end_ns <= begin_ns);
        for interval in self.intervals.range(first..) {
            if interval.begin_ns >= end_ns {
                break;
            }
            for (uid, consumption) in &interval.users {
                let total = totals.entry(*uid).or_default();
                let from = interval.part_until(consumption, begin_ns);
                let to = interval.part_until(consumption, end_ns);
                total.cpu_ns += to.cpu_ns - from.cpu_ns;
                total.io_bytes += to.io_bytes - from.io_bytes;
                total.memory_byte_ns += to.memory_byte_ns - from.memory_byte_ns;
                total.process_ns += to.process_ns - from.process_ns;
            }
        }
        Ok(totals)
    }
}

impl Interval {
    /// The share of the interval's begin to `instant_ns`, rounded down; grows with the instant.
    fn part_until(&self, consumption: &Consumption, instant_ns: i64) -> Total {
        let span = |from: i64, to: i64| u128::from(to.saturating_sub(from).max(0).unsigned_abs());
        let length = span(self.begin_ns, self.end_ns);
        let elapsed = span(self.begin_ns, instant_ns.min(self.end_ns));
        let share = |whole: u64| u128::from(whole) * elapsed / length;
        // The mean of both looks, held for the time elapsed.
        let held = |twice: u64| u128::from(twice) * elapsed / 2;
        Total {
            cpu_ns: share(consumption.cpu_ns),
            io_bytes: share(consumption.io_bytes),
            memory_byte_ns: held(consumption.memory_bytes_twice),
            process_ns: held(consumption.processes_twice),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(cpu_ns: u64) -> Consumption {
        Consumption { cpu_ns, io_bytes: 7, memory_bytes_twice: 3, processes_twice: 2 }
    }

    fn history() -> History {
        let mut history = History::new(1000, 100);
        history.push(1010, ByUser::from([(0, user(100))]));
        history.push(1030, ByUser::from([(0, user(200)), (5, user(1))]));
        history
    }

    #[test]
    fn a_period_that_straddles_intervals_gets_its_share() {
        let usage = history().usage(1005, 1015).unwrap();

        let expected =
            Total { cpu_ns: 50 + 50, io_bytes: 4 + 1, memory_byte_ns: 8 + 7, process_ns: 10 };
        assert_eq!(usage[&0], expected);
        assert_eq!(usage[&5].cpu_ns, 0, "a quarter of a nanosecond is rounded down");
        assert_eq!(history().usage(1010, 1030).unwrap()[&5].cpu_ns, 1);
    }

    #[test]
    fn what_is_not_covered_is_an_error_that_says_what_is() {
        let history = history();

        assert_eq!(history.usage(999, 1010), Err(Unknown::Before { since_ns: 1000 }));
        assert_eq!(history.usage(1000, 1031), Err(Unknown::After { until_ns: 1030 }));
        assert!(history.usage(1000, 1030).is_ok());
        assert_eq!(History::new(5, 1).usage(5, 6), Err(Unknown::After { until_ns: 5 }));
    }

    #[test]
    fn only_the_kept_time_is_kept() {
        let mut history = history();

        for end_ns in (1040..=1200).step_by(10) {
            history.push(end_ns, ByUser::from([(0, user(1))]));
        }

        assert_eq!(history.usage(1099, 1200), Err(Unknown::Before { since_ns: 1100 }));
        assert!(history.usage(1100, 1200).is_ok());
        assert_eq!(history.entry_count, 10);
    }

    #[test]
    fn too_many_users_drop_the_oldest_intervals() {
        let mut history = History::new(0, i64::MAX);
        let crowd = || (0..400_000).map(|uid| (uid, user(1))).collect::<ByUser>();

        for end_ns in 1..=3 {
            history.push(end_ns, crowd());
        }

        assert_eq!(history.usage(0, 1), Err(Unknown::Before { since_ns: 1 }));
        assert_eq!(history.usage(1, 3).unwrap().len(), 400_000);
    }

    proptest! {
        #[test]
        fn adjacent_periods_sum_to_the_whole(
            intervals in prop::collection::vec(
                (1_i64..5_000_000_000, 0..u64::from(u32::MAX), 0..1_u64 << 50),
                1..20,
            ),
            cuts in prop::collection::vec(0..1000_i64, 0..10),
        ) {
            let mut history = History::new(17, i64::MAX);
            for (length, cpu_ns, other) in &intervals {
                let consumption = Consumption {
                    cpu_ns: *cpu_ns,
                    io_bytes: *other,
                    memory_bytes_twice: other / 3,
                    processes_twice: other % 1000,
                };
                history.push(history.until_ns() + length, ByUser::from([(1, consumption)]));
            }
            let until = history.until_ns();
            let mut instants: Vec<i64> =
                cuts.iter().map(|cut| 17 + (until - 17) * cut / 1000).collect();
            instants.extend([17, until]);
            instants.sort_unstable();
            instants.dedup();

            let mut sum = Total::default();
            for pair in instants.windows(2) {
                let part = history.usage(pair[0], pair[1]).unwrap()[&1];
                sum.cpu_ns += part.cpu_ns;
                sum.io_bytes += part.io_bytes;
                sum.memory_byte_ns += part.memory_byte_ns;
                sum.process_ns += part.process_ns;
            }

            prop_assert_eq!(sum, history.usage(17, until).unwrap()[&1]);
            let cpu_ns: u64 = intervals.iter().map(|(_, cpu_ns, _)| cpu_ns).sum();
            prop_assert_eq!(sum.cpu_ns, u128::from(cpu_ns));
        }
    }
}
