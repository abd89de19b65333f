//! New scopes: found by fetchers, added to the ledger with the period they begin with.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Datelike, TimeZone, Utc};
use tracing::warn;

use super::failure::{self, Verdict};
use super::hold::Reaction;
use super::sources::Sources;
use crate::clock::Clock;
use crate::config::{CollectConfig, STATIC_FETCHER, Start};
use crate::ledger::{Ledger, LedgerError, NewScope};
use crate::usage::{Period, ScopeId, ScopeIdError};

/// Asks fetchers; shared by all that are asked at once.
pub(super) struct Discover {
    pub(super) sources: Arc<dyn Sources>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) collect: Arc<CollectConfig>,
    pub(super) static_scopes: Vec<ScopeId>,
}

/// What a fetcher brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) scopes_added: usize,
    pub(super) ids_refused: usize,
}

#[derive(Debug)]
pub(super) struct FetchFailure {
    pub(super) reaction: Reaction,
    pub(super) reason: String,
}

impl FetchFailure {
    pub(super) fn of_our_panic() -> FetchFailure {
        let reason = failure::of_our_panic().to_string();
        FetchFailure { reaction: Reaction::RetryFew, reason }
    }
}

impl Discover {
    /// Adds what the fetcher finds and the ledger does not have yet.
    pub(super) async fn fetch(self: Arc<Discover>, fetcher: String) -> Result<Found, FetchFailure> {
        let ids = if fetcher == STATIC_FETCHER {
            self.static_scopes.clone()
        } else {
            let ids = self.sources.scopes(&fetcher).await.map_err(|failure| FetchFailure {
                reaction: reaction(failure::of_collect(&failure)),
                reason: failure.error.message,
            })?;
            return self.add(fetcher, ids).await;
        };
        self.add_valid(fetcher, ids, 0).await
    }

    async fn add(
        self: Arc<Discover>,
        fetcher: String,
        ids: Vec<String>,
    ) -> Result<Found, FetchFailure> {
        let (valid, refused) = check(&ids);
        if let Some((id, error)) = refused.first() {
            let (id, count) = (id.escape_debug().take(80).collect::<String>(), refused.len());
            warn!(fetcher, count, first = id, %error, "Scope ids of a fetcher were skipped.");
        }
        self.add_valid(fetcher, valid, refused.len()).await
    }

    async fn add_valid(
        self: Arc<Discover>,
        fetcher: String,
        ids: Vec<ScopeId>,
        ids_refused: usize,
    ) -> Result<Found, FetchFailure> {
        let ended = tokio::task::spawn_blocking(move || self.store(&fetcher, ids)).await;
        let reason = match ended {
            Ok(Ok(scopes_added)) => return Ok(Found { scopes_added, ids_refused }),
            Ok(Err(error)) => failure::text_of(&error),
            Err(_) => "the thread that adds scopes to the ledger ended early".to_owned(),
        };
        Err(FetchFailure { reaction: Reaction::Retry, reason })
    }

    fn store(&self, fetcher: &str, ids: Vec<ScopeId>) -> Result<usize, LedgerError> {
        let known: HashSet<ScopeId> = self.ledger.cursors()?.scopes.into_iter().collect();
        let found_at = self.clock.now();
        let first_period = first_period(self.collect.start, found_at, self.collect.period_secs);
        let new: Vec<NewScope> = ids
            .into_iter()
            .filter(|id| !known.contains(id))
            .map(|id| NewScope {
                id,
                fetcher: fetcher.to_owned(),
                collector: self.collect.collector.clone(),
                scope_key: self.collect.scope_key.clone(),
                first_period,
                last_processed: None,
                active: true,
                found_at,
            })
            .collect();
        if new.is_empty() { Ok(0) } else { self.ledger.add_scopes(&new) }
    }
}

impl fmt::Debug for Discover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discover").field("sources", &self.sources).finish_non_exhaustive()
    }
}

fn check(ids: &[String]) -> (Vec<ScopeId>, Vec<(&str, ScopeIdError)>) {
    let (mut valid, mut refused) = (Vec::with_capacity(ids.len()), Vec::new());
    let mut seen = HashSet::new();
    for id in ids {
        match ScopeId::new(id) {
            Ok(valid_id) if seen.insert(id) => valid.push(valid_id),
            Ok(_) => {}
            Err(error) => refused.push((id.as_str(), error)),
        }
    }
    (valid, refused)
}

fn reaction(verdict: Verdict) -> Reaction {
    match verdict {
        Verdict::Source(reaction) | Verdict::Scope(reaction) | Verdict::Chain(reaction) => reaction,
        Verdict::Halve => Reaction::RetryAfterPanic,
        Verdict::Lost | Verdict::Cancelled => Reaction::Retry,
    }
}

/// Begin of the first period of a scope that is found at that time, aligned.
pub(super) fn first_period(
    start: Start,
    found_at: DateTime<Utc>,
    period_secs: u32,
) -> DateTime<Utc> {
    let first = match start {
        Start::Now => found_at,
        Start::At(first) => first,
        Start::Month => Utc
            .with_ymd_and_hms(found_at.year(), found_at.month(), 1, 0, 0, 0)
            .single()
            .unwrap_or(found_at),
    };
    Period::containing(first, period_secs).map_or(first, Period::begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_scope_begins_where_the_configuration_says() {
        let found_at = Utc.with_ymd_and_hms(2026, 11, 22, 4, 38, 11).unwrap();
        let early = Utc.with_ymd_and_hms(2026, 10, 3, 0, 59, 59).unwrap();
        let check = |start, expected: &str| {
            let first = first_period(start, found_at, 3600);
            assert_eq!(first.to_rfc3339(), expected, "{start:?}");
        };
        check(Start::Now, "2026-11-22T04:00:00+00:00");
        check(Start::Month, "2026-11-01T00:00:00+00:00");
        check(Start::At(early), "2026-10-03T00:00:00+00:00");
    }

    #[test]
    fn bad_ids_are_told_apart_and_doubled_ones_counted_once() {
        let ids = ["a", "", "b", "a", "c\n"].map(str::to_owned);

        let (valid, refused) = check(&ids);

        assert_eq!(valid.iter().map(ScopeId::as_str).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(refused.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["", "c\n"]);
    }
}
