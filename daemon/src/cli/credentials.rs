//! Who a subcommand says it is.
//!
//! Secrets come from the environment only: what is typed stands in the list of processes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::{Environment, UsageError};

/// A token that `rated token new` made.
const TOKEN: &str = "RATED_TOKEN";
const USERNAME: &str = "RATED_USERNAME";
const PASSWORD: &str = "RATED_PASSWORD";
/// A token of Keystone, where `OpenStack`'s own client looks for it.
const KEYSTONE_TOKEN: &str = "OS_TOKEN";

/// What to set, for those who were not let in.
pub(super) const HINT: &str = "RATED_TOKEN, RATED_USERNAME with RATED_PASSWORD, or OS_TOKEN (a \
                               token of Keystone) in the environment say who asks";

/// The headers that say who asks; none when nothing is set.
pub(super) fn headers(environment: &Environment) -> Result<HeaderMap, UsageError> {
    let variable = |wanted: &str| {
        let found = environment.iter().find(|(name, value)| name == wanted && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    };
    let basic = match (variable(USERNAME), variable(PASSWORD)) {
        (Some(name), _) if name.contains(':') => {
            return Err(UsageError(format!("{USERNAME} must not have a colon")));
        }
        (Some(name), Some(password)) => {
            Some(format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))))
        }
        (None, None) => None,
        _ => return Err(UsageError(format!("{USERNAME} and {PASSWORD} go together"))),
    };
    match (variable(TOKEN), basic, variable(KEYSTONE_TOKEN)) {
        (Some(_), Some(_), _) => {
            Err(UsageError(format!("both {TOKEN} and {USERNAME} are set: nobody can say who asks")))
        }
        (Some(token), None, _) => header(AUTHORIZATION, TOKEN, &format!("Bearer {token}")),
        (None, Some(basic), _) => header(AUTHORIZATION, PASSWORD, &basic),
        (None, None, Some(token)) => {
            header(HeaderName::from_static("x-auth-token"), KEYSTONE_TOKEN, token)
        }
        (None, None, None) => Ok(HeaderMap::new()),
    }
}

/// A header whose value is kept out of logs; `source` is where it comes from.
pub(super) fn header(name: HeaderName, source: &str, value: &str) -> Result<HeaderMap, UsageError> {
    let value = HeaderValue::from_str(value);
    let mut value =
        value.map_err(|_| UsageError(format!("the value of {source} is no text for a header")))?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(name, value)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(variables: &[(&str, &str)], expected: Result<(&str, &str), &str>) {
        let environment: Vec<(String, String)> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let found = headers(&environment);
        match (&found, expected) {
            (Ok(headers), Ok((name, value))) => assert_eq!(headers[name], value),
            (Err(error), Err(words)) => {
                assert!(error.to_string().contains(words), "{error}");
                assert!(!error.to_string().contains("s3cret"), "{error}");
            }
            _ => panic!("{found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn the_environment_says_who_asks() {
        assert!(headers(&[]).unwrap().is_empty());
        check(&[("RATED_TOKEN", "t")], Ok(("authorization", "Bearer t")));
        check(&[("OS_TOKEN", "t")], Ok(("x-auth-token", "t")));
        let both = [("OS_TOKEN", "k"), ("RATED_TOKEN", "t")];
        check(&both, Ok(("authorization", "Bearer t")));
        let user = [("RATED_USERNAME", "Aladdin"), ("RATED_PASSWORD", "open sesame")];
        check(&user, Ok(("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")));
        check(&[("RATED_PASSWORD", "s3cret")], Err("go together"));
        check(&[("RATED_USERNAME", "a"), ("RATED_TOKEN", "s3cret")], Err("go together"));
        check(&[&user[..], &[("RATED_TOKEN", "s3cret")]].concat(), Err("nobody can say"));
        check(&[("RATED_TOKEN", "s3cret\n")], Err("RATED_TOKEN is no text"));
        check(&[("RATED_TOKEN", ""), ("OS_TOKEN", "t")], Ok(("x-auth-token", "t")));
    }
}
