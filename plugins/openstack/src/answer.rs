//! What Gnocchi and Keystone say when they do not answer.
//!
//! The rule behind all of it: what cannot be read as a whole answer is an error, never "no data".
//!
//! | what came | error | next time |
//! |---|---|---|
//! | an answer cut short, or no JSON (a proxy's page) | `Unavailable` | may get through |
//! | 429, 5xx | `Unavailable` | may work |
//! | 408, 504 | `Timeout` | may work |
//! | 401, 403 | `Unauthorized` | the same, until a right is given |
//! | 413, 414 | `BadData`, split | may work for fewer scopes |
//! | anything else | `BadData`, tried again | the same, until something is mended |

use rated_plugin::access::excerpt;
use rated_plugin::{Error, HttpResponse, Result, Status};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An answer that is none, in its own words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The kind, where Gnocchi names one.
    pub(crate) cause: String,
    /// One line; may be empty.
    pub(crate) text: String,
    /// It is of the service itself, not of something in front of it.
    pub(crate) is_genuine: bool,
}

impl Problem {
    pub(crate) fn of(response: &HttpResponse) -> Problem {
        let json: Option<Value> = serde_json::from_slice(&response.body).ok();
        let description = json.as_ref().and_then(|json| json.get("description"));
        let error = json.as_ref().and_then(|json| json.get("error"));
        match (description, error) {
            (Some(Value::String(text)), _) => Problem::genuine(String::new(), text),
            (Some(Value::Object(parts)), _) => {
                let part = |name: &str| match parts.get(name) {
                    None | Some(Value::Null) => String::new(),
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                };
                let parts = [part("cause"), part("reason"), part("detail")];
                let text: Vec<&str> =
                    parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
                Problem::genuine(excerpt(&parts[0]), &text.join(": "))
            }
            (_, Some(Value::Object(error))) => {
                let message = error.get("message").and_then(Value::as_str);
                Problem::genuine(String::new(), message.unwrap_or_default())
            }
            _ => {
                let text = excerpt(&String::from_utf8_lossy(&response.body));
                Problem { text, ..Problem::default() }
            }
        }
    }

    fn genuine(cause: String, text: &str) -> Problem {
        Problem { cause, text: excerpt(text), is_genuine: true }
    }

    /// With the status in front.
    pub(crate) fn message(&self, status: u16) -> String {
        match self.text.as_str() {
            "" => format!("HTTP status {status}"),
            text => format!("HTTP status {status}: {text}"),
        }
    }
}

/// The error for a status that the caller cannot use.
pub(crate) fn refusal(response: &HttpResponse) -> Error {
    let message = Problem::of(response).message(response.status);
    match response.status {
        401 | 403 => Error::new(Status::Unauthorized, message),
        408 | 504 => Error::new(Status::Timeout, message),
        413 | 414 => Error::split(message),
        429 | 500.. => Error::unavailable(message),
        _ => Error { retryable: true, ..Error::bad_data(message) },
    }
}

/// The whole body as JSON.
pub(crate) fn json<T: DeserializeOwned>(response: &HttpResponse) -> Result<T> {
    if response.status != 200 {
        return Err(refusal(response));
    }
    serde_json::from_str(text(response)?).map_err(|error| unreadable(&error))
}

/// The body as a text. What nobody reads of it must be one, too: the parser skips it unseen.
pub(crate) fn text(response: &HttpResponse) -> Result<&str> {
    std::str::from_utf8(&response.body).map_err(|error| match error.error_len() {
        None => Error::unavailable(format!("the answer is cut short: {error}")),
        Some(_) => Error::unavailable(format!("the answer is not JSON: {error}")),
    })
}

/// Cut short or garbage: perhaps better next time. A whole document of another shape: never.
pub(crate) fn unreadable(error: &serde_json::Error) -> Error {
    match error.classify() {
        serde_json::error::Category::Data => {
            let message = format!("the answer has another form than expected: {error}");
            Error { retryable: true, ..Error::bad_data(message) }
        }
        serde_json::error::Category::Eof => {
            Error::unavailable(format!("the answer is cut short: {error}"))
        }
        _ => Error::unavailable(format!("the answer is not JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> HttpResponse {
        let headers = std::collections::BTreeMap::new();
        HttpResponse { status, headers, body: body.as_bytes().to_vec() }
    }

    fn check(status: u16, body: &str, expected: Status, message: &str) {
        let error = refusal(&response(status, body));
        assert_eq!((error.status, error.message.as_str()), (expected, message));
    }

    #[test]
    fn errors_keep_the_words_of_the_service() {
        check(
            403,
            r#"{"error": {"code": 403, "message": "You are not\nallowed", "title": "Forbidden"}}"#,
            Status::Unauthorized,
            "HTTP status 403: You are not allowed",
        );
        check(
            400,
            r#"{"code": 400, "description": {"cause": "Argument value error", "detail": "start",
               "reason": "Must be a datetime"}, "title": "Bad Request"}"#,
            Status::BadData,
            "HTTP status 400: Argument value error: Must be a datetime: start",
        );
        check(
            502,
            "<h1>Bad\n\tGateway</h1>",
            Status::Unavailable,
            "HTTP status 502: <h1>Bad Gateway</h1>",
        );
        check(429, "", Status::Unavailable, "HTTP status 429");
        check(504, "", Status::Timeout, "HTTP status 504");
        check(302, "", Status::BadData, "HTTP status 302");
        assert!(refusal(&response(413, "")).split);
    }

    #[test]
    fn what_nobody_can_mend_by_splitting_is_asked_again_as_it_is() {
        for status in [302, 400, 404, 405] {
            let error = refusal(&response(status, "?"));
            assert!(error.retryable && !error.split, "{status}: {error}");
        }
    }
}
