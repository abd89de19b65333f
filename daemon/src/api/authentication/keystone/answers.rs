use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::Fingerprint;
use crate::api::caller::Identity;

/// Most answers kept of each kind.
const ANSWERS_MAX: usize = 10_000;

/// How long "no such token" is believed at most.
const INVALID_TIME_MAX: Duration = Duration::from_secs(10);

/// What Keystone said of a token.
#[derive(Debug, Clone)]
pub(super) struct Believed {
    /// `None`: there is no such token.
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) until: Instant,
    /// The token's own end.
    pub(super) expires: Option<DateTime<Utc>>,
}

impl Believed {
    pub(super) fn invalid(asked: Instant, cache: Duration) -> Believed {
        Believed { identity: None, until: asked + cache.min(INVALID_TIME_MAX), expires: None }
    }

    fn holds(&self, now: Instant, today: DateTime<Utc>) -> bool {
        now < self.until && self.expires.is_none_or(|expires| today < expires)
    }
}

/// Answers by token. Invalid tokens, of which anybody can send any number, have a place of their
/// own.
#[derive(Debug, Default)]
pub(super) struct Answers {
    valid: HashMap<Fingerprint, Believed>,
    invalid: HashMap<Fingerprint, Believed>,
}

impl Answers {
    pub(super) fn get(
        &self,
        token: &Fingerprint,
        now: Instant,
        today: DateTime<Utc>,
    ) -> Option<&Believed> {
        let known = self.valid.get(token).or_else(|| self.invalid.get(token));
        known.filter(|believed| believed.holds(now, today))
    }

    pub(super) fn keep(&mut self, token: Fingerprint, answer: Believed, now: Instant) {
        self.valid.remove(&token);
        self.invalid.remove(&token);
        let kept = if answer.identity.is_some() { &mut self.valid } else { &mut self.invalid };
        if kept.len() >= ANSWERS_MAX {
            kept.retain(|_, believed| now < believed.until);
        }
        if kept.len() >= ANSWERS_MAX {
            // Half of them, those that end first.
            let mut ends: Vec<Instant> = kept.values().map(|believed| believed.until).collect();
            let (_, middle, _) = ends.select_nth_unstable(ANSWERS_MAX / 2);
            let middle = *middle;
            kept.retain(|_, believed| believed.until > middle);
        }
        kept.insert(token, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn an_answer_ends_with_its_time_or_with_the_token() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        let (begin, end) = (date("2026-01-01T00:00:00Z"), date("2026-01-01T00:01:00Z"));
        let until = now + Duration::from_mins(5);
        let identity = Some(Arc::new(Identity::default()));

        answers.keep([1; 32], Believed { identity, until, expires: Some(end) }, now);

        assert!(answers.get(&[1; 32], now, begin).is_some());
        assert!(answers.get(&[1; 32], until, begin).is_none());
        assert!(answers.get(&[1; 32], now, end).is_none());
        assert!(answers.get(&[2; 32], now, begin).is_none());
    }

    #[test]
    fn a_no_is_believed_for_a_short_time_and_ends_a_yes() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        let today = date("2026-01-01T00:00:00Z");
        let identity = Some(Arc::new(Identity::default()));
        let yes = Believed { identity, until: now + Duration::from_mins(5), expires: None };

        answers.keep([1; 32], yes, now);
        answers.keep([1; 32], Believed::invalid(now, Duration::from_mins(5)), now);

        assert!(answers.get(&[1; 32], now, today).unwrap().identity.is_none());
        assert!(answers.get(&[1; 32], now + INVALID_TIME_MAX, today).is_none());
        let shorter = Believed::invalid(now, Duration::from_secs(1));
        assert_eq!(shorter.until, now + Duration::from_secs(1));
    }

    #[test]
    fn a_flood_of_wrong_tokens_takes_bounded_room_and_drives_no_right_one_out() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        let today = date("2026-01-01T00:00:00Z");
        let identity = Some(Arc::new(Identity::default()));
        let yes = Believed { identity, until: now + Duration::from_mins(5), expires: None };
        answers.keep([0xff; 32], yes, now);

        for index in 0..3 * ANSWERS_MAX as u64 {
            let mut token = [0; 32];
            token[..8].copy_from_slice(&index.to_be_bytes());
            let asked = now + Duration::from_nanos(index);
            answers.keep(token, Believed::invalid(asked, Duration::from_mins(5)), now);
        }

        assert!(answers.invalid.len() <= ANSWERS_MAX);
        assert!(answers.get(&[0xff; 32], now, today).is_some());
    }
}
