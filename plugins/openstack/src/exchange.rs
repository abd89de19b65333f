//! A request and its answer, tried again where that may help.
//!
//! All that is ever sent here reads (or asks for a token), so every request may be sent twice. It
//! is sent again when nobody answers and when the answer is 429, 500, 502 or 503: some times only,
//! after a delay that doubles, and never when the call would be over by then. A time-out is not
//! tried again, because the next attempt would take as long.
//!
//! What a server asks for with `Retry-After` holds for everything that is sent to it: a short time
//! is waited for within the call, a long one fails this call and all that come before its end.

use std::time::Duration;

use rated_plugin::access::Pause;
use rated_plugin::{Call, Error, Host, HttpRequest, HttpResponse, Result, Status};

/// How often and how soon a request to one server is sent again.
#[derive(Debug)]
pub(crate) struct Patience {
    retries: u32,
    /// Before the first attempt after the first; doubled each time.
    delay: Duration,
    pause: Pause,
}

impl Patience {
    pub(crate) fn new(retries: u32, delay: Duration) -> Patience {
        Patience { retries, delay, pause: Pause::new() }
    }

    /// Any status that is not worth another attempt is `Ok`, as is the last attempt's.
    pub(crate) fn send(
        &self,
        host: &Host,
        call: &Call,
        request: &HttpRequest,
    ) -> Result<HttpResponse> {
        self.pause.wait(host, call)?;
        let mut delay = self.delay;
        for _ in 0..self.retries {
            let outcome = once(host, call, request);
            if !is_worth_another(&outcome) {
                return outcome;
            }
            if self.heeds(host, &outcome) {
                match self.pause.wait(host, call) {
                    Err(error) if error.status == Status::Cancelled => return Err(error),
                    Err(_) => return outcome,
                    Ok(()) => continue,
                }
            }
            if call.time_left(host).is_some_and(|left| left <= delay) {
                return outcome;
            }
            call.sleep(delay)?;
            call.check_cancelled()?;
            delay = delay.saturating_mul(2);
        }
        let outcome = once(host, call, request);
        self.heeds(host, &outcome);
        outcome
    }

    /// Does the server say when it may be asked again?
    fn heeds(&self, host: &Host, outcome: &Result<HttpResponse>) -> bool {
        outcome.as_ref().is_ok_and(|response| self.pause.heed(host, response).is_some())
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

/// The error with the address in front.
pub(crate) fn placed(address: &str, mut error: Error) -> Error {
    error.message = format!("`{address}`: {}", error.message);
    error
}
