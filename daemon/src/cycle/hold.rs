use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::backoff::{BackOff, Jitter};

/// Attempts after which something that fails for no known reason is left alone until something
/// changes.
pub(super) const UNKNOWN_ATTEMPTS_MAX: u32 = 5;

/// Panics of one plugin instance are kept so far apart that one bad scope alone does not make the
/// three in ten minutes that disable the instance for everybody.
pub(super) const PANIC_DELAY: TimeDelta = TimeDelta::minutes(6);

/// Longest wait for the ledger: it says by itself, and without a source being asked, whether it
/// takes changes.
const LEDGER_DELAY_SECS_MAX: u32 = 10;

/// What can be held back by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// Everything: the ledger does not take commits.
    Ledger,
    /// Everything: the module chain cannot be made.
    Chain,
    /// A metric (by its index) as measured by one collector.
    Source {
        collector: String,
        metric: usize,
    },
    /// One scope (by its index) of one metric.
    Scope {
        metric: usize,
        scope: u32,
    },
    Fetcher(String),
    /// By its id.
    Reprocessing(u64),
}

/// What is done about a failure of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Try again, less and less often.
    Retry,
    /// Try again a few times, then only when something changes.
    RetryFew,
    /// Try again as seldom as it gets: somebody must act, perhaps outside of our sight.
    RetrySeldom,
    /// Try again when the panic is long enough ago.
    RetryAfterPanic,
    /// Try again when plugins, rules or states change.
    WaitForChange,
}

/// Why and how long a subject is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hold {
    /// Failures in a row.
    pub(super) attempts: u32,
    /// Of the first failure.
    pub(super) since: DateTime<Utc>,
    /// Of the newest failure.
    pub(super) failed_at: DateTime<Utc>,
    /// `None` = until something changes.
    pub(super) until: Option<DateTime<Utc>>,
    pub(super) reason: String,
}

impl Hold {
    pub(super) fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// A failure as the holds hear of it.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub(super) at: DateTime<Utc>,
    /// When the work that failed began: what began before the newest failure is the same failure
    /// once more.
    pub(super) began: DateTime<Utc>,
    pub(super) reaction: Reaction,
    pub(super) reason: String,
}

/// Everything that is held back at present.
#[derive(Debug)]
pub(super) struct Holds {
    back_off: BackOff,
    jitter: Jitter,
    by_subject: BTreeMap<Subject, Hold>,
}

impl Holds {
    pub(super) fn new(back_off: BackOff, jitter: Jitter) -> Holds {
        Holds { back_off, jitter, by_subject: BTreeMap::new() }
    }

    pub(super) fn get(&self, subject: &Subject) -> Option<&Hold> {
        self.by_subject.get(subject)
    }

    /// Is it not to be tried at this moment?
    pub(super) fn holds(&self, subject: &Subject, now: DateTime<Utc>) -> bool {
        self.get(subject).is_some_and(|hold| !hold.is_over(now))
    }

    pub(super) fn failed(&mut self, subject: Subject, failed: Failed) -> &Hold {
        let old = self.by_subject.remove(&subject);
        let repeated = old.as_ref().is_some_and(|old| failed.began < old.failed_at);
        let (mut attempts, since) =
            old.as_ref().map_or((0, failed.at), |old| (old.attempts, old.since));
        let mut until = old.and_then(|old| old.until);
        if !repeated {
            attempts = attempts.saturating_add(1);
            until = self.until(&subject, attempts, &failed);
        }
        let hold = Hold { attempts, since, failed_at: failed.at, until, reason: failed.reason };
        self.by_subject.entry(subject).or_insert(hold)
    }

    /// Scopes of one metric that failed together and shall come back together; the largest number
    /// of attempts.
    pub(super) fn failed_together(
        &mut self,
        metric: usize,
        scopes: &[u32],
        failed: &Failed,
    ) -> u32 {
        let subject = |scope: &u32| Subject::Scope { metric, scope: *scope };
        let Some(first) = scopes.first() else { return 0 };
        let until = self.failed(subject(first), failed.clone()).until;
        for scope in &scopes[1..] {
            self.failed(subject(scope), failed.clone());
            if let Some(hold) = self.by_subject.get_mut(&subject(scope)) {
                hold.until = until;
            }
        }
        let attempts = scopes.iter().filter_map(|scope| self.get(&subject(scope)));
        attempts.map(|hold| hold.attempts).max().unwrap_or(0)
    }

    fn until(
        &mut self,
        subject: &Subject,
        attempts: u32,
        failed: &Failed,
    ) -> Option<DateTime<Utc>> {
        let delay = match failed.reaction {
            Reaction::Retry if *subject == Subject::Ledger => {
                self.back_off.up_to(LEDGER_DELAY_SECS_MAX).delay(attempts, &mut self.jitter)
            }
            Reaction::Retry => self.back_off.delay(attempts, &mut self.jitter),
            Reaction::RetryFew if attempts < UNKNOWN_ATTEMPTS_MAX => {
                self.back_off.delay(attempts, &mut self.jitter)
            }
            Reaction::RetrySeldom => self.back_off.longest(&mut self.jitter),
            Reaction::RetryAfterPanic => {
                PANIC_DELAY.max(self.back_off.delay(attempts, &mut self.jitter))
            }
            Reaction::RetryFew | Reaction::WaitForChange => return None,
        };
        Some(failed.at + delay)
    }

    /// The hold there was.
    pub(super) fn succeeded(&mut self, subject: &Subject) -> Option<Hold> {
        self.by_subject.remove(subject)
    }

    /// Plugins, rules or states are others now: everything may be tried at once. The ledger's own
    /// failure is not mended by that.
    pub(super) fn changed(&mut self, now: DateTime<Utc>) {
        for (subject, hold) in &mut self.by_subject {
            if *subject != Subject::Ledger {
                hold.until = Some(now);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Subject, &Hold)> {
        self.by_subject.iter()
    }

    /// When the next hold ends, of those that are not over yet.
    pub(super) fn next_end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.by_subject.values().filter_map(|hold| hold.until).filter(|until| *until > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RetryConfig;

    fn holds() -> Holds {
        let bounds = RetryConfig { delay_secs_min: 10, delay_secs_max: 1000 };
        Holds::new(BackOff::new(bounds), Jitter::new(7))
    }

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(secs, 0).unwrap()
    }

    fn failed(began: i64, at_secs: i64, reaction: Reaction) -> Failed {
        Failed { at: at(at_secs), began: at(began), reaction, reason: "down".to_owned() }
    }

    #[test]
    fn work_that_failed_together_counts_as_one_attempt() {
        let mut holds = holds();
        for _ in 0..8 {
            holds.failed(Subject::Ledger, failed(0, 60, Reaction::Retry));
        }
        assert_eq!(holds.get(&Subject::Ledger).unwrap().attempts, 1);

        holds.failed(Subject::Ledger, failed(100, 160, Reaction::Retry));

        let hold = holds.get(&Subject::Ledger).unwrap();
        assert_eq!((hold.attempts, hold.since, hold.failed_at), (2, at(60), at(160)));
        assert!(hold.until.unwrap() >= at(165) && hold.until.unwrap() <= at(170), "{hold:?}");
    }

    #[test]
    fn an_unknown_error_is_tried_a_few_times_and_then_only_after_a_change() {
        let mut holds = holds();
        let subject = Subject::Scope { metric: 0, scope: 1 };
        for attempt in 1..UNKNOWN_ATTEMPTS_MAX {
            let now = i64::from(attempt) * 2000;
            let hold = holds.failed(subject.clone(), failed(now, now, Reaction::RetryFew));
            assert!(hold.until.is_some(), "attempt {attempt}");
        }
        holds.failed(subject.clone(), failed(20_000, 20_000, Reaction::RetryFew));
        assert!(holds.holds(&subject, at(1_000_000)));
        assert_eq!(holds.next_end(at(20_000)), None);

        holds.changed(at(30_000));

        assert!(!holds.holds(&subject, at(30_000)));
        assert_eq!(holds.succeeded(&subject).unwrap().attempts, UNKNOWN_ATTEMPTS_MAX);
        assert_eq!(holds.get(&subject), None);
    }

    #[test]
    fn a_change_does_not_mend_the_ledger() {
        let mut holds = holds();
        holds.failed(Subject::Ledger, failed(0, 0, Reaction::RetrySeldom));

        holds.changed(at(1));

        assert!(holds.holds(&Subject::Ledger, at(400)));
    }

    #[test]
    fn panics_are_kept_apart() {
        let mut holds = holds();

        let hold = holds.failed(Subject::Chain, failed(0, 0, Reaction::RetryAfterPanic));

        assert!(hold.until.unwrap() >= at(360));
    }
}
