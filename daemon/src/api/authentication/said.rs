use warp::http::{HeaderMap, HeaderName, header};

use super::Methods;

/// Where `OpenStack`'s clients put their token.
pub(super) const AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// Longest credential, bytes. Keystone's tokens have some hundred.
const CREDENTIAL_SIZE_MAX: usize = 8 * 1024;

/// What a request says of who calls, as far as a configured method reads it.
pub(super) enum Said<'h> {
    Nothing,
    AuthToken(&'h [u8]),
    Bearer(&'h [u8]),
    /// Still encoded.
    Basic(&'h [u8]),
    /// More than one credential, or one that is too long.
    Unclear,
}

pub(super) fn said<'h>(headers: &'h HeaderMap, methods: &Methods) -> Said<'h> {
    let reads_auth_token = methods.keystone.is_some() || methods.token.is_some();
    let auth_tokens = headers.get_all(AUTH_TOKEN).iter().filter(|_| reads_auth_token);
    let authorizations = headers.get_all(header::AUTHORIZATION).iter();
    let authorizations = authorizations.filter_map(|value| {
        let value = value.as_bytes();
        let scheme_end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
        let (scheme, rest) = value.split_at(scheme_end);
        let rest = rest.trim_ascii();
        if methods.basic.is_some() && scheme.eq_ignore_ascii_case(b"Basic") {
            Some(Said::Basic(rest))
        } else if methods.token.is_some() && scheme.eq_ignore_ascii_case(b"Bearer") {
            Some(Said::Bearer(rest))
        } else {
            None
        }
    });
    let auth_tokens = auth_tokens.map(|value| Said::AuthToken(value.as_bytes()));
    let mut all = auth_tokens.chain(authorizations);
    let Some(first) = all.next() else { return Said::Nothing };
    let is_long = match &first {
        Said::AuthToken(value) | Said::Bearer(value) | Said::Basic(value) => {
            value.len() > CREDENTIAL_SIZE_MAX
        }
        Said::Nothing | Said::Unclear => false,
    };
    if is_long || all.next().is_some() { Said::Unclear } else { first }
}
