//! A token and what Keystone said with it.

use chrono::{DateTime, TimeDelta, Utc};
use rated_plugin::access::{Secret, excerpt};
use rated_plugin::{Error, HttpResponse, Result};
use serde::Deserialize;

use super::catalogue::Catalogue;

/// A token is renewed this long before it expires, or a quarter of its life when that is shorter.
const MARGIN_SECS_MAX: i64 = 60;
/// Longest token that is sent on; a header has limits everywhere.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A token and what Keystone said with it.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) id: Secret,
    pub(crate) user_id: String,
    pub(crate) catalogue: Catalogue,
    /// By our clock.
    renew_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Answer {
    token: Body,
}

#[derive(Deserialize)]
struct Body {
    issued_at: String,
    expires_at: String,
    user: User,
    #[serde(default)]
    catalog: Catalogue,
}

#[derive(Deserialize)]
struct User {
    id: String,
}

impl Token {
    /// Reads a 201 of `POST /v3/auth/tokens`. `asked_at` is when it was asked for by our clock: how
    /// long it lives is counted from there, so that two clocks need not agree.
    pub(crate) fn read(response: &HttpResponse, asked_at: DateTime<Utc>) -> Result<Token> {
        let id = response
            .headers
            .get("x-subject-token")
            .filter(|id| !id.is_empty() && id.len() <= TOKEN_BYTES_MAX)
            .ok_or_else(|| Error::bad_data("the answer has no token"))?;
        // Its own words might repeat what is secret.
        let answer: Answer = serde_json::from_slice(&response.body).map_err(|error| {
            Error::unavailable(format!(
                "the answer with the token cannot be read at line {} column {}",
                error.line(),
                error.column()
            ))
        })?;
        let body = answer.token;
        let time = |text: &str| {
            DateTime::parse_from_rfc3339(text).map_err(|_| {
                Error::bad_data(format!("`{}` is not the time of a token", excerpt(text)))
            })
        };
        let life = time(&body.expires_at)? - time(&body.issued_at)?;
        let margin = (life / 4).min(TimeDelta::seconds(MARGIN_SECS_MAX));
        Ok(Token {
            id: Secret::new(id),
            user_id: body.user.id,
            catalogue: body.catalog,
            renew_at: asked_at + (life - margin).max(TimeDelta::zero()),
        })
    }

    pub(crate) fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        now < self.renew_at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn answer(issued_at: &str, expires_at: &str) -> HttpResponse {
        let body = serde_json::json!({"token": {
            "issued_at": issued_at, "expires_at": expires_at, "user": {"id": "u"},
        }});
        HttpResponse {
            status: 201,
            headers: BTreeMap::from([("x-subject-token".to_owned(), "t0ken".to_owned())]),
            body: body.to_string().into_bytes(),
        }
    }

    fn fresh_secs(issued_at: &str, expires_at: &str) -> i64 {
        // Our clock is years away from Keystone's.
        let asked_at = DateTime::from_timestamp(1_000_000_000, 0).unwrap();
        let token = Token::read(&answer(issued_at, expires_at), asked_at).unwrap();
        let is_fresh = |secs: i64| token.is_fresh(asked_at + TimeDelta::seconds(secs));
        (0..=3600).take_while(|secs| is_fresh(*secs)).count().try_into().unwrap()
    }

    #[test]
    fn a_token_is_renewed_before_it_expires_whatever_the_clocks_say() {
        let hour = ["2026-11-25T21:00:00.000000Z", "2026-11-25T22:00:00.000000Z"];
        assert_eq!(fresh_secs(hour[0], hour[1]), 3540);
        let minute = ["2026-11-25T21:00:00.000000Z", "2026-11-25T21:01:00.000000Z"];
        assert_eq!(fresh_secs(minute[0], minute[1]), 45);
        assert_eq!(fresh_secs(hour[1], hour[0]), 0);
    }

    #[test]
    fn an_answer_without_a_token_is_none() {
        let read = |response: &HttpResponse| {
            Token::read(response, DateTime::from_timestamp(0, 0).unwrap()).unwrap_err()
        };
        let whole = answer("2026-11-25T21:00:00Z", "2026-11-25T22:00:00Z");

        let mut bare = whole.clone();
        bare.headers.clear();
        assert_eq!(read(&bare).message, "the answer has no token");
        let mut half = whole.clone();
        half.body.truncate(40);
        assert!(read(&half).retryable);
        let shown =
            format!("{:?}", Token::read(&whole, DateTime::from_timestamp(0, 0).unwrap()).unwrap());
        assert!(!shown.contains("t0ken"), "{shown}");
    }
}
