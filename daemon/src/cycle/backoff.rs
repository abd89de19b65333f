use chrono::TimeDelta;

use crate::config::RetryConfig;

/// How long to wait after the nth failure in a row: doubling, capped, and spread so that what
/// failed together does not come back together.
#[derive(Debug, Clone, Copy)]
pub(super) struct BackOff {
    min_ms: u64,
    max_ms: u64,
}

impl BackOff {
    pub(super) fn new(bounds: RetryConfig) -> BackOff {
        let min_ms = u64::from(bounds.delay_secs_min.max(1)) * 1000;
        BackOff { min_ms, max_ms: min_ms.max(u64::from(bounds.delay_secs_max) * 1000) }
    }

    /// The same, for something that may be asked again sooner.
    pub(super) fn up_to(self, secs_max: u32) -> BackOff {
        let max_ms = self.max_ms.min(u64::from(secs_max) * 1000);
        BackOff { min_ms: self.min_ms.min(max_ms), max_ms }
    }

    /// Between half of `min x 2^(attempts - 1)` and all of it, where that is not above the cap.
    pub(super) fn delay(&self, attempts: u32, jitter: &mut Jitter) -> TimeDelta {
        let doublings = attempts.saturating_sub(1).min(63);
        let full_ms = self.min_ms.saturating_mul(1 << doublings).min(self.max_ms);
        spread(full_ms, jitter)
    }

    /// The longest delay: for what will hardly mend itself.
    pub(super) fn longest(&self, jitter: &mut Jitter) -> TimeDelta {
        spread(self.max_ms, jitter)
    }
}

fn spread(full_ms: u64, jitter: &mut Jitter) -> TimeDelta {
    let half_ms = full_ms / 2;
    let delay_ms = half_ms + jitter.below(full_ms - half_ms + 1);
    TimeDelta::milliseconds(i64::try_from(delay_ms).expect("at most 2^32 seconds"))
}

/// Numbers without a pattern, the same for the same seed (`SplitMix64`). Not for secrets.
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    /// From 0 to `bound` - 1; `bound` must not be 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: RetryConfig = RetryConfig { delay_secs_min: 5, delay_secs_max: 600 };

    proptest! {
        #[test]
        fn a_delay_doubles_up_to_its_cap_and_is_never_less_than_half(
            attempts in 1_u32..100, seed: u64,
        ) {
            let delay = BackOff::new(BOUNDS).delay(attempts, &mut Jitter::new(seed));

            let full = 5000 * (1_i64 << (attempts - 1).min(30));
            let full = full.min(600_000);
            prop_assert!(delay.num_milliseconds() >= full / 2, "{delay}");
            prop_assert!(delay.num_milliseconds() <= full, "{delay}");
        }
    }

    #[test]
    fn what_failed_together_does_not_come_back_together() {
        let mut jitter = Jitter::new(1);
        let back_off = BackOff::new(BOUNDS);

        let mut delays: Vec<_> = (0..100).map(|_| back_off.delay(8, &mut jitter)).collect();
        delays.sort();
        delays.dedup();

        assert!(delays.len() > 90, "{} different delays of 100", delays.len());
    }
}
