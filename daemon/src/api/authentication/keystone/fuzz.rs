//! Keystone's answers as a fuzzer has them: who calls is exactly who the document says, or nobody.

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use serde_json::Value;

use super::wire::{Answer, Token};

/// The last byte of a status, then the body.
pub(crate) fn answer(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    let statuses = [StatusCode::OK, StatusCode::CREATED, StatusCode::NOT_FOUND];
    let status = statuses.get(usize::from(*choice)).copied().unwrap_or(StatusCode::UNAUTHORIZED);
    let answer = Answer { status, subject_token: None, body: body.to_vec() };

    // What nobody reads of a document need not be text.
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return };
    if answer.is_error_of_keystone() {
        assert_eq!(document["error"]["code"], status.as_u16());
    }
    let Some(valid) = answer.token().and_then(Token::valid) else { return };

    let token = &document["token"];
    assert_eq!(token["user"]["id"].as_str(), Some(valid.identity.user_id.as_str()));
    assert_eq!(token["project"]["id"].as_str(), valid.identity.project_id.as_deref());
    let is_of_domain = token.get("domain").is_some_and(|domain| !domain.is_null());
    let roles = token["roles"].as_array().filter(|_| !is_of_domain);
    let roles = roles.into_iter().flatten().map(|role| role["name"].as_str());
    assert!(roles.eq(valid.identity.roles.iter().map(|role| Some(role.as_str()))));
    let expires = token["expires_at"].as_str().expect("it was read");
    let expires = DateTime::parse_from_rfc3339(expires).map(|date| date.with_timezone(&Utc));
    assert_eq!(expires, Ok(valid.expires));
}
