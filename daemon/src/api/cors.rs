//! Which pages of other origins may use the API from a browser: those of the configuration, nobody
//! else.

use warp::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::answer::Answer;
use super::call::Call;
use crate::config::ApiConfig;

const MAX_AGE_SECS: &str = "3600";
const EXPOSED: &str = "X-Auth-Token,X-Subject-Token,X-Service-Token,X-OpenStack-Request-ID";
/// A page needs the tag of what it wants to change.
const EXPOSED_WITH_TAG: &str =
    "X-Auth-Token,X-Subject-Token,X-Service-Token,X-OpenStack-Request-ID,ETag";
const METHODS: [&str; 6] = ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD"];

/// Headers of a browser's question whether it may send a request.
pub(crate) fn preflight(config: &ApiConfig, call: &Call, answer: Answer) -> Answer {
    let wanted = call.header(header::ACCESS_CONTROL_REQUEST_METHOD);
    let method = METHODS.into_iter().find(|method| Some(*method) == wanted);
    let (Some(method), Some(_)) = (method, allowed_origin(config, call)) else { return answer };
    let answer = answer
        .header(header::ACCESS_CONTROL_ALLOW_METHODS, method)
        .header(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECS);
    match call.header(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        Some(names) => answer.header(header::ACCESS_CONTROL_ALLOW_HEADERS, names),
        None => answer,
    }
}

/// Headers that every answer to an allowed page carries.
pub(crate) fn allow_origin(config: &ApiConfig, call: &Call, headers: &mut HeaderMap) {
    if config.cors_allowed_origins.is_empty() {
        return;
    }
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = allowed_origin(config, call) else { return };
    let Ok(origin) = HeaderValue::from_str(origin) else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let exposed = if headers.contains_key(header::ETAG) { EXPOSED_WITH_TAG } else { EXPOSED };
    let mut set = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    if call.method != warp::http::Method::OPTIONS {
        set(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

fn allowed_origin<'a>(config: &ApiConfig, call: &'a Call) -> Option<&'a str> {
    let origin = call.header(header::ORIGIN)?;
    config.cors_allowed_origins.iter().any(|allowed| allowed == origin).then_some(origin)
}
