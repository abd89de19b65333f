//! A request and its answer, tried again where that may help.
//!
//! All that is ever sent here reads (or asks for a token), so every request may be sent twice. It
//! is sent again when nobody answers and when the answer is 429, 500, 502 or 503: some times only,
//! after a delay that doubles or that the server has asked for, and never when the call would be
//! over by then. A time-out is not tried again, because the next attempt would take as long.

use std::time::Duration;

use rated_plugin::{Call, Error, Host, HttpRequest, HttpResponse, Result, Status};

/// How long a thread sleeps before it looks whether the call is cancelled.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// How often and how soon a request is sent again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) retries: u32,
    /// Before the first attempt after the first; doubled each time.
    pub(crate) delay: Duration,
}

impl Patience {
    /// Any status that is not worth another attempt is `Ok`, as is the last attempt's.
    pub(crate) fn send(
        self,
        host: &Host,
        call: &Call,
        request: &HttpRequest,
    ) -> Result<HttpResponse> {
        let mut delay = self.delay;
        for _ in 0..self.retries {
            call.check_cancelled()?;
            let outcome = once(host, call, request);
            if !is_worth_another(&outcome) {
                return outcome;
            }
            let wanted = outcome.as_ref().ok().and_then(retry_after).unwrap_or(delay);
            if time_left(host, call).is_some_and(|left| left <= wanted) {
                return outcome;
            }
            sleep(call, wanted)?;
            delay = delay.saturating_mul(2);
        }
        call.check_cancelled()?;
        once(host, call, request)
    }
}

/// Servers put what they got into their error pages, and those are quoted in our messages.
fn once(host: &Host, call: &Call, request: &HttpRequest) -> Result<HttpResponse> {
    let mut response = host.http(call, request)?;
    if !(200..300).contains(&response.status) {
        for header in ["x-auth-token", "authorization"] {
            let value = request.headers.get(header).map_or("", String::as_str);
            hide(&mut response, value.rsplit(' ').next().unwrap_or_default());
        }
    }
    Ok(response)
}

/// Takes a secret out of the body.
pub(crate) fn hide(response: &mut HttpResponse, secret: &str) {
    if secret.is_empty() {
        return;
    }
    let body = String::from_utf8_lossy(&response.body);
    let escaped = serde_json::Value::from(secret).to_string();
    let escaped = &escaped[1..escaped.len() - 1];
    if body.contains(secret) || body.contains(escaped) {
        response.body = body.replace(secret, "(hidden)").replace(escaped, "(hidden)").into_bytes();
    }
}

fn is_worth_another(outcome: &Result<HttpResponse>) -> bool {
    match outcome {
        Ok(response) => matches!(response.status, 429 | 500 | 502 | 503),
        Err(error) => error.status == Status::Unavailable,
    }
}

/// What the server asks for, if it says so in seconds.
fn retry_after(response: &HttpResponse) -> Option<Duration> {
    let secs = response.headers.get("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(secs))
}

/// Until the answer of the call is due.
pub(crate) fn time_left(host: &Host, call: &Call) -> Option<Duration> {
    let left = call.deadline()? - host.now();
    Some(left.to_std().unwrap_or(Duration::ZERO))
}

fn sleep(call: &Call, mut left: Duration) -> Result<()> {
    while !left.is_zero() {
        call.check_cancelled()?;
        let step = left.min(SLEEP_MAX);
        std::thread::sleep(step);
        left -= step;
    }
    Ok(())
}

/// The error with the address in front.
pub(crate) fn placed(address: &str, mut error: Error) -> Error {
    error.message = format!("`{address}`: {}", error.message);
    error
}
