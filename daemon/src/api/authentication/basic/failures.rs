use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Fingerprint;

/// Most wrong passwords of one name within [`WINDOW`].
pub(super) const FAILURES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_mins(1);
/// Most names watched.
const NAMES_MAX: usize = 4096;

/// Wrong passwords, by a keyed hash of the name.
#[derive(Default)]
pub(super) struct Failures(HashMap<Fingerprint, Lately>);

struct Lately {
    count: u32,
    begin: Instant,
}

impl Lately {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.begin) >= WINDOW
    }
}

impl Failures {
    pub(super) fn are_too_many(&self, name: &Fingerprint, now: Instant) -> bool {
        let lately = self.0.get(name).filter(|lately| !lately.is_over(now));
        lately.is_some_and(|lately| lately.count >= FAILURES_MAX)
    }

    pub(super) fn add(&mut self, name: Fingerprint, now: Instant) {
        if self.0.len() >= NAMES_MAX && !self.0.contains_key(&name) {
            self.0.retain(|_, lately| !lately.is_over(now));
        }
        if self.0.len() >= NAMES_MAX {
            // So many names are no users; the places still bound what they cost.
            self.0.clear();
        }
        let lately = self.0.entry(name).or_insert(Lately { count: 0, begin: now });
        if lately.is_over(now) {
            *lately = Lately { count: 0, begin: now };
        }
        lately.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_waits_after_too_many_and_others_do_not() {
        let (mut failures, now) = (Failures::default(), Instant::now());

        for _ in 0..FAILURES_MAX {
            assert!(!failures.are_too_many(&[1; 32], now));
            failures.add([1; 32], now);
        }

        assert!(failures.are_too_many(&[1; 32], now));
        assert!(!failures.are_too_many(&[2; 32], now));
        assert!(!failures.are_too_many(&[1; 32], now + WINDOW));
        failures.add([1; 32], now + WINDOW);
        assert!(!failures.are_too_many(&[1; 32], now + WINDOW));
    }

    #[test]
    fn many_names_take_bounded_room() {
        let (mut failures, now) = (Failures::default(), Instant::now());

        for index in 0..2 * NAMES_MAX {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&index.to_be_bytes());
            failures.add(name, now);
        }

        assert!(failures.0.len() <= NAMES_MAX);
    }
}
