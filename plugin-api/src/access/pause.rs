//! Servers that ask to be left alone for a while.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use crate::{Call, Error, Host, HttpResponse, Result};

/// Longest time that a server is left alone because it asks for it: as long as the daemon's own
/// back-off grows, so that a server that asks for years delays nothing more than one that is down.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);
/// Longest time that is waited within a call: its thread could work for others.
pub const WAIT_MAX: Duration = Duration::from_secs(10);

/// What one server has asked for with `Retry-After`, for all threads that ask it.
///
/// It holds for whatever the instance asks that server: after a 429 to the question of one metric
/// all its metrics wait, because the limit is mostly the server's and not the question's. Another
/// instance has a pause of its own.
///
/// ```
/// use rated_plugin::access::Pause;
/// use rated_plugin::{Call, Host, HttpRequest, HttpResponse, Result};
///
/// /// Asks once more when the server says when.
/// fn ask(host: &Host, call: &Call, pause: &Pause, request: &HttpRequest) -> Result<HttpResponse> {
///     pause.wait(host, call)?;
///     let response = host.http(call, request)?;
///     if pause.heed(host, &response).is_none() || pause.wait(host, call).is_err() {
///         return Ok(response);
///     }
///     let response = host.http(call, request)?;
///     pause.heed(host, &response);
///     Ok(response)
/// }
/// ```
#[derive(Debug, Default)]
pub struct Pause {
    until: Mutex<Option<DateTime<Utc>>>,
}

impl Pause {
    /// A server that has asked for nothing.
    pub const fn new() -> Pause {
        Pause { until: Mutex::new(None) }
    }

    /// How long an answer of 429 or 503 asks to be left alone, at most [`RETRY_AFTER_MAX`]. From
    /// now on [`Pause::wait`] keeps to it.
    pub fn heed(&self, host: &Host, response: &HttpResponse) -> Option<Duration> {
        if !matches!(response.status, 429 | 503) {
            return None;
        }
        let now = host.now();
        let wanted = delay(response.headers.get("retry-after")?, now)?.min(RETRY_AFTER_MAX);
        let until = now + TimeDelta::from_std(wanted).ok()?;
        let mut latest = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = latest.filter(|known| !is_too_far(*known, now)).max(Some(until));
        Some(wanted)
    }

    /// Waits until the server may be asked, which mostly is now.
    ///
    /// `Unavailable`, at once, when that takes longer than [`WAIT_MAX`] or than the call has time;
    /// `Cancelled` when the call is.
    pub fn wait(&self, host: &Host, call: &Call) -> Result<()> {
        call.check_cancelled()?;
        let Some((until, left)) = self.left(host) else { return Ok(()) };
        if left > WAIT_MAX || call.time_left(host).is_some_and(|time| time <= left) {
            return Err(Error::unavailable(format!(
                "the server has asked to be left alone until {}",
                until.format("%FT%TZ")
            )));
        }
        call.sleep(left)
    }

    /// Until when, and how long that is from now.
    fn left(&self, host: &Host) -> Option<(DateTime<Utc>, Duration)> {
        let mut latest = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, now) = ((*latest)?, host.now());
        if is_too_far(until, now) {
            *latest = None;
            return None;
        }
        Some((until, (until - now).to_std().ok()?))
    }
}

/// A clock that was set back makes no pause longer; nor does it begin again when the hour comes.
fn is_too_far(until: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (until - now).to_std().is_ok_and(|left| left > RETRY_AFTER_MAX)
}

/// `Retry-After`: seconds, or a date in one of the three forms that HTTP knows.
fn delay(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has are a long time, too.
        return Some(value.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let date = ["%a, %d %b %Y %T GMT", "%A, %d-%b-%y %T GMT", "%a %b %e %T %Y"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(value, form).ok())?;
    Some((date.and_utc() - now).to_std().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::{FakeHost, TestFetcher};
    use crate::{Batches, Component, Fetcher, HttpOptions, HttpRequest, Method, Status};

    /// 2026-01-01T00:00:00Z, where the clock of a test begins.
    fn check(value: &str, expected: Option<u64>) {
        let now = FakeHost::new().now();
        assert_eq!(delay(value, now), expected.map(Duration::from_secs), "{value}");
    }

    #[test]
    fn seconds_and_all_dates_of_http_are_understood() {
        check("0", Some(0));
        check(" 120 ", Some(120));
        check("Thu, 01 Jan 2026 00:02:00 GMT", Some(120));
        check("Thursday, 01-Jan-26 00:02:00 GMT", Some(120));
        check("Thu Jan  1 00:02:00 2026", Some(120));
        check("Wed, 31 Dec 2025 23:59:59 GMT", Some(0));
    }

    #[test]
    fn a_server_that_asks_for_ages_is_asked_within_the_hour() {
        for value in ["99999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "3601"] {
            let host = FakeHost::new();
            host.answer(busy(429, value));
            let asker = asker(&host);

            assert_eq!(asker.scopes().unwrap(), ["429"]);
            host.advance(TimeDelta::seconds(3589));
            let error = asker.scopes().unwrap_err();
            assert!(error.message.ends_with("left alone until 2026-01-01T01:00:00Z"), "{error}");
            assert_eq!(host.requests().len(), 1, "{value}");
            host.advance(TimeDelta::seconds(11));
            host.answer_body(200, "");

            assert_eq!(asker.scopes().unwrap(), ["200"]);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_ends_a_pause_for_good() {
        let host = FakeHost::new();
        host.answer(busy(503, "600"));
        let asker = asker(&host);
        assert_eq!(asker.scopes().unwrap(), ["503"]);

        host.advance(TimeDelta::hours(-2));
        host.answer_body(200, "");
        assert_eq!(asker.scopes().unwrap(), ["200"]);
        host.advance(TimeDelta::minutes(75));

        host.answer_body(200, "");
        assert_eq!(asker.scopes().unwrap(), ["200"]);
    }

    #[test]
    fn only_who_is_busy_is_left_alone() {
        for status in [200, 301, 404, 500, 502] {
            let host = FakeHost::new();
            host.answer(busy(status, "600"));
            host.answer_body(200, "");
            let asker = asker(&host);

            assert_eq!(asker.scopes().unwrap(), [status.to_string()]);
            assert_eq!(asker.scopes().unwrap(), ["200"]);
        }
    }

    #[test]
    fn a_short_time_is_waited_for_within_the_call() {
        let host = FakeHost::new();
        host.answer(busy(503, "1"));
        host.answer_body(200, "");
        let asker = asker(&host);

        assert_eq!(asker.scopes().unwrap(), ["503"]);
        let begin = std::time::Instant::now();
        assert_eq!(asker.scopes().unwrap(), ["200"]);

        assert!(begin.elapsed() >= Duration::from_secs(1));
    }

    #[test]
    fn a_wait_ends_when_the_call_is_cancelled() {
        let host = FakeHost::new();
        host.answer(busy(503, "10"));
        let asker = asker(&host);
        assert_eq!(asker.scopes().unwrap(), ["503"]);
        host.cancel_after(3);

        assert_eq!(asker.scopes().unwrap_err().status, Status::Cancelled);

        assert_eq!(host.requests().len(), 1);
    }

    #[expect(clippy::unnecessary_wraps, reason = "a host's answer may also be an error")]
    fn busy(status: u16, after: &str) -> Result<HttpResponse> {
        let headers = BTreeMap::from([("retry-after".to_owned(), after.to_owned())]);
        Ok(HttpResponse { status, headers, body: Vec::new() })
    }

    fn asker(host: &FakeHost) -> TestFetcher {
        TestFetcher::new::<Asker>(host, "").expect("it needs no configuration")
    }

    /// Its scope is the status of an answer.
    struct Asker {
        host: Host,
        pause: Pause,
    }

    #[derive(serde::Deserialize)]
    struct Nothing {}

    impl Component for Asker {
        const NAME: &'static str = "asker";
        const SUMMARY: &'static str = "Asks";
        const SAMPLE_CONFIG: &'static str = "";
        type Config = Nothing;

        fn create(_: Nothing, host: Host) -> Result<Asker> {
            Ok(Asker { host, pause: Pause::new() })
        }
    }

    impl Fetcher for Asker {
        fn scopes(&self, call: &Call) -> Result<Batches> {
            self.pause.wait(&self.host, call)?;
            let request = HttpRequest {
                method: Method::Get,
                url: "http://busy.test".to_owned(),
                headers: BTreeMap::new(),
                body: Vec::new(),
                options: HttpOptions::default(),
            };
            let response = self.host.http(call, &request)?;
            self.pause.heed(&self.host, &response);
            Ok(Batches::scopes([response.status.to_string()]))
        }
    }

    #[test]
    fn what_is_no_time_asks_for_nothing() {
        for value in ["", "soon", "-1", "1.5", "1e3", "+5", "Fri, 01 Jan 2026 00:02:00 GMT"] {
            check(value, None);
        }
    }
}
