//! What every answer of the Prometheus API is wrapped in, and what it means when it is none.
//!
//! The rule behind all of it: what cannot be read as a whole answer is an error, never "no data".
//!
//! | what came | error | next time |
//! |---|---|---|
//! | an answer cut short, or no JSON (a proxy's page) | `Unavailable` | may get through |
//! | a whole answer that says parts are missing | `Unavailable` | may be complete |
//! | 429, 5xx, `unavailable`, `internal`, `canceled` | `Unavailable` | may work |
//! | 408, 504, `timeout` | `Timeout` | may work |
//! | 401, 403 | `Unauthorized` | the same, until a password is changed |
//! | `bad_data`, `execution`, other 4xx | `BadData` | the same |
//! | 413, too many samples | `BadData`, split | may work for fewer scopes |
//!
//! This module does not know what the data of an answer are; its caller brings a reader for them.

use std::borrow::Cow;
use std::fmt;

use rated_plugin::access::excerpt;
use rated_plugin::{Error, HttpResponse, Result, Status};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

/// Most warnings that are looked at.
const WARNINGS_MAX: usize = 100;

/// A reader of `data` that keeps its own error, because JSON errors are only text.
pub(crate) trait DataReader<'de> {
    fn read<D: Deserializer<'de>>(&mut self, data: D) -> Result<(), D::Error>;
    /// What is wrong with the data themselves, if anything.
    fn take_error(&mut self) -> Option<Error>;
}

/// Hands `data` to `reader`; the warnings that are only for the log.
pub(crate) fn read<'de>(
    response: &'de HttpResponse,
    reader: &mut impl DataReader<'de>,
) -> Result<Vec<String>> {
    if response.status != 200 {
        return Err(refusal(response));
    }
    // Checked once: the parser would check each text by itself.
    let text = std::str::from_utf8(&response.body).map_err(|error| match error.error_len() {
        None => Error::unavailable(format!("the answer is cut short: {error}")),
        Some(_) => Error::unavailable(format!("the answer is not JSON: {error}")),
    })?;
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = EnvelopeSeed { reader }
        .deserialize(&mut json)
        .and_then(|envelope| json.end().map(|()| envelope));
    if let Some(error) = reader.take_error() {
        return Err(error);
    }
    let envelope = parsed.map_err(|error| unreadable(&error))?;
    match envelope.status.as_str() {
        "success" if envelope.has_data => envelope.complete(),
        "success" => Err(Error::bad_data("answer without data")),
        "error" => Err(error_answer(&envelope.error_type, &envelope.error)),
        other => Err(Error::bad_data(format!("answer with the status `{}`", excerpt(other)))),
    }
}

/// Cut short or garbage: perhaps better next time. A whole document of another shape: never.
fn unreadable(error: &serde_json::Error) -> Error {
    match error.classify() {
        serde_json::error::Category::Data => {
            Error::bad_data(format!("not an answer of the Prometheus API: {error}"))
        }
        serde_json::error::Category::Eof => {
            Error::unavailable(format!("the answer is cut short: {error}"))
        }
        _ => Error::unavailable(format!("the answer is not JSON: {error}")),
    }
}

/// An HTTP status other than 200.
fn refusal(response: &HttpResponse) -> Error {
    let mut nothing = Nothing;
    let mut json = serde_json::Deserializer::from_slice(&response.body);
    let envelope = EnvelopeSeed { reader: &mut nothing }.deserialize(&mut json).ok();
    let envelope = envelope.filter(|envelope| !envelope.error.is_empty());
    let text = envelope.as_ref().map_or_else(
        || String::from_utf8_lossy(&response.body).into_owned(),
        |envelope| envelope.error.clone(),
    );
    let code = response.status;
    let message = match excerpt(&text) {
        quote if quote.is_empty() => format!("HTTP status {code}"),
        quote => format!("HTTP status {code}: {quote}"),
    };
    match code {
        401 | 403 => Error::new(Status::Unauthorized, message),
        408 | 504 => Error::new(Status::Timeout, message),
        413 => Error::split(message),
        429 => Error::unavailable(message),
        500.. => envelope.map_or_else(
            || Error::unavailable(message.clone()),
            |envelope| Error::new(retryable_status(&envelope.error_type), message.clone()),
        ),
        _ => match envelope {
            Some(envelope) => error_answer(&envelope.error_type, &envelope.error),
            None => Error::bad_data(message),
        },
    }
}

fn retryable_status(error_type: &str) -> Status {
    if error_type == "timeout" { Status::Timeout } else { Status::Unavailable }
}

/// `status: error`, with Prometheus' own words.
fn error_answer(error_type: &str, error: &str) -> Error {
    let message = format!("`{}`: {}", excerpt(error_type), excerpt(error));
    match error_type {
        "timeout" => Error::new(Status::Timeout, message),
        "unavailable" | "internal" | "canceled" | "too_many_requests" => {
            Error::unavailable(message)
        }
        "execution" if error.contains("too many samples") => Error::split(message),
        _ => Error::bad_data(message),
    }
}

#[derive(Debug, Default)]
struct Envelope {
    status: String,
    error_type: String,
    error: String,
    warnings: Vec<String>,
    is_partial: bool,
    has_data: bool,
}

impl Envelope {
    /// Warnings about the expression are for the log; every other one says that a part is missing.
    fn complete(self) -> Result<Vec<String>> {
        if self.is_partial {
            return Err(Error::unavailable("the answer says that it is partial"));
        }
        for warning in &self.warnings {
            if warning.contains("mix of histograms and floats") {
                return Err(Error::bad_data(format!("series are left out: {}", excerpt(warning))));
            }
            if !warning.starts_with("PromQL ") {
                return Err(Error::unavailable(format!(
                    "the answer is partial: {}",
                    excerpt(warning)
                )));
            }
        }
        Ok(self.warnings.iter().map(|warning| excerpt(warning)).collect())
    }
}

struct EnvelopeSeed<'r, R> {
    reader: &'r mut R,
}

impl<'de, R: DataReader<'de>> DeserializeSeed<'de> for EnvelopeSeed<'_, R> {
    type Value = Envelope;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Envelope, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, R: DataReader<'de>> Visitor<'de> for EnvelopeSeed<'_, R> {
    type Value = Envelope;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `status` and `data`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "status" if !envelope.status.is_empty() => {
                    return Err(A::Error::duplicate_field("status"));
                }
                "data" if envelope.has_data => return Err(A::Error::duplicate_field("data")),
                "status" => envelope.status = map.next_value()?,
                "errorType" => envelope.error_type = map.next_value()?,
                "error" => envelope.error = map.next_value()?,
                // Said once is enough.
                "isPartial" => envelope.is_partial |= map.next_value::<bool>()?,
                "warnings" => {
                    let warnings: Option<Vec<String>> = map.next_value()?;
                    envelope.warnings.extend(warnings.unwrap_or_default());
                    if envelope.warnings.len() > WARNINGS_MAX {
                        return Err(A::Error::custom("too many warnings"));
                    }
                }
                "data" => {
                    map.next_value_seed(DataSeed { reader: self.reader })?;
                    envelope.has_data = true;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(envelope)
    }
}

struct DataSeed<'r, R> {
    reader: &'r mut R,
}

impl<'de, R: DataReader<'de>> DeserializeSeed<'de> for DataSeed<'_, R> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.reader.read(deserializer)
    }
}

/// Reads past the data.
struct Nothing;

impl<'de> DataReader<'de> for Nothing {
    fn read<D: Deserializer<'de>>(&mut self, data: D) -> Result<(), D::Error> {
        data.deserialize_ignored_any(IgnoredAny).map(|_| ())
    }

    fn take_error(&mut self) -> Option<Error> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, body: &str) -> Result<Vec<String>> {
        let response = HttpResponse {
            status,
            headers: std::collections::BTreeMap::new(),
            body: body.as_bytes().to_vec(),
        };
        read(&response, &mut Nothing)
    }

    fn check(status: u16, body: &str, expected: Status, message: &str) {
        let error = outcome(status, body).unwrap_err();
        assert_eq!((error.status, error.message.as_str()), (expected, message));
        assert_eq!(error.retryable, expected.is_retryable());
    }

    #[test]
    fn a_whole_answer_is_taken() {
        assert_eq!(outcome(200, r#"{"status":"success","data":{"a":[1]}}"#), Ok(Vec::new()));
        assert_eq!(
            outcome(200, r#"{"data":[],"warnings":null,"status":"success"}"#),
            Ok(Vec::new())
        );
    }

    #[test]
    fn half_an_answer_is_never_no_data() {
        let whole = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;

        for length in 0..whole.len() {
            let error = outcome(200, &whole[..length]).unwrap_err();
            assert_eq!(error.status, Status::Unavailable, "{}", &whole[..length]);
        }
    }

    #[test]
    fn garbage_is_asked_for_again_and_another_shape_is_not() {
        let page = "<html><body>Please log in</body></html>";
        let error = outcome(200, page).unwrap_err();
        assert_eq!(error.status, Status::Unavailable);
        assert!(error.message.starts_with("the answer is not JSON: "), "{}", error.message);
        let error = outcome(200, r#"{"status":"success","data":[]} and more"#).unwrap_err();
        assert_eq!(error.status, Status::Unavailable);
        let error = outcome(200, "[]").unwrap_err();
        assert_eq!(error.status, Status::BadData);
        check(200, r#"{"status":"success"}"#, Status::BadData, "answer without data");
        check(200, r#"{"status":"odd"}"#, Status::BadData, "answer with the status `odd`");
    }

    #[test]
    fn errors_keep_the_words_of_prometheus() {
        let answer = |kind: &str, text: &str| {
            format!(r#"{{"status":"error","errorType":"{kind}","error":"{text}"}}"#)
        };
        let bad = answer("bad_data", "parse error");
        check(400, &bad, Status::BadData, "`bad_data`: parse error");
        check(200, &bad, Status::BadData, "`bad_data`: parse error");
        let slow = answer("timeout", "query timed out");
        check(503, &slow, Status::Timeout, "HTTP status 503: query timed out");
        check(422, &slow, Status::Timeout, "`timeout`: query timed out");
        let down = answer("unavailable", "starting");
        check(503, &down, Status::Unavailable, "HTTP status 503: starting");
        check(500, "", Status::Unavailable, "HTTP status 500");
        check(
            502,
            "<h1>Bad\n\tGateway</h1>",
            Status::Unavailable,
            "HTTP status 502: <h1>Bad Gateway</h1>",
        );
        check(429, "slow down", Status::Unavailable, "HTTP status 429: slow down");
        check(504, "", Status::Timeout, "HTTP status 504");
        check(401, "who?", Status::Unauthorized, "HTTP status 401: who?");
        check(403, "", Status::Unauthorized, "HTTP status 403");
        check(404, "404 page not found", Status::BadData, "HTTP status 404: 404 page not found");
        check(302, "", Status::BadData, "HTTP status 302");
    }

    #[test]
    fn too_much_at_once_is_split() {
        let text = "query processing would load too many samples into memory in query execution";
        let body = format!(r#"{{"status":"error","errorType":"execution","error":"{text}"}}"#);

        assert!(outcome(422, &body).unwrap_err().split);
        assert!(outcome(413, "").unwrap_err().split);
        assert!(!outcome(400, "").unwrap_err().split);
    }

    #[test]
    fn a_warning_that_something_is_missing_fails_the_answer() {
        let answer =
            |more: &str| outcome(200, &format!(r#"{{"status":"success","data":[],{more}}}"#));

        let info = "PromQL info: metric might not be a counter";
        assert_eq!(answer(&format!(r#""warnings":["{info}"]"#)), Ok(vec![info.to_owned()]));
        assert_eq!(answer(r#""infos":["anything"]"#), Ok(Vec::new()));
        let remote = answer(r#""warnings":["remote_read: connection refused"]"#).unwrap_err();
        assert_eq!(remote.status, Status::Unavailable);
        assert_eq!(remote.message, "the answer is partial: remote_read: connection refused");
        let partial = answer(r#""isPartial":true"#).unwrap_err();
        assert_eq!(partial.status, Status::Unavailable);
        let mix =
            answer(r#""warnings":["PromQL warning: encountered a mix of histograms and floats"]"#);
        assert_eq!(mix.unwrap_err().status, Status::BadData);
    }
}
