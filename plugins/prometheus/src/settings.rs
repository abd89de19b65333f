//! How to reach a Prometheus server: what the configuration says, checked once.
//!
//! A password or token is never shown: not in `Debug`, not in an error. Files that hold one are
//! read again for each request, because tokens are renewed under way.

use std::collections::BTreeMap;
use std::fmt;

use rated_plugin::{Error, HttpOptions, Result};
use serde::Deserialize;

/// Longest wait for an answer that may be configured, seconds.
const TIMEOUT_SECS_MAX: u64 = 600;
/// Largest answer that may be configured, MiB.
const BODY_SIZE_MAX_MIB: u64 = 1024;
/// Largest file with a password or token, bytes.
const SECRET_FILE_SIZE_MAX: u64 = 64 * 1024;

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// The configuration keys of a server, and of what is asked there.
///
/// The keys of the server are repeated for each component, because serde cannot both flatten one
/// table into another and refuse unknown keys.
macro_rules! settings {
    ($(#[$attribute:meta])* $name:ident {
        $($(#[$field_attribute:meta])* $field:ident: $type:ty,)*
    }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            url: String,
            username: Option<String>,
            password: Option<crate::settings::Secret>,
            password_file: Option<String>,
            bearer_token: Option<crate::settings::Secret>,
            bearer_token_file: Option<String>,
            ca_file: Option<String>,
            cert_file: Option<String>,
            key_file: Option<String>,
            timeout_secs: Option<u64>,
            body_size_max_mib: Option<u64>,
            $($(#[$field_attribute])* $field: $type,)*
        }

        impl $name {
            fn access(&self) -> rated_plugin::Result<crate::settings::Access> {
                crate::settings::Access::new(crate::settings::Server {
                    url: &self.url,
                    username: self.username.as_deref(),
                    password: self.password.as_ref(),
                    password_file: self.password_file.as_deref(),
                    bearer_token: self.bearer_token.as_ref(),
                    bearer_token_file: self.bearer_token_file.as_deref(),
                    ca_file: self.ca_file.as_deref(),
                    cert_file: self.cert_file.as_deref(),
                    key_file: self.key_file.as_deref(),
                    timeout_secs: self.timeout_secs.unwrap_or(60),
                    body_size_max_mib: self.body_size_max_mib.unwrap_or(64),
                })
            }
        }
    };
}
pub(crate) use settings;

/// The keys of a server as they stand in the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server<'a> {
    pub(crate) url: &'a str,
    pub(crate) username: Option<&'a str>,
    pub(crate) password: Option<&'a Secret>,
    pub(crate) password_file: Option<&'a str>,
    pub(crate) bearer_token: Option<&'a Secret>,
    pub(crate) bearer_token_file: Option<&'a str>,
    pub(crate) ca_file: Option<&'a str>,
    pub(crate) cert_file: Option<&'a str>,
    pub(crate) key_file: Option<&'a str>,
    pub(crate) timeout_secs: u64,
    pub(crate) body_size_max_mib: u64,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Text(Secret),
    File(String),
}

impl Source {
    fn read(&self) -> Result<String> {
        let text = match self {
            Source::Text(secret) => secret.0.clone(),
            Source::File(path) => read_secret_file(path)?,
        };
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(Error::unavailable(match self {
                Source::Text(_) => {
                    "the password or token is empty or has control characters".into()
                }
                Source::File(path) => format!("`{path}`: empty, or has control characters"),
            }));
        }
        Ok(text)
    }
}

fn read_secret_file(path: &str) -> Result<String> {
    use std::io::Read as _;

    let unreadable =
        |error: std::io::Error| Error::unavailable(format!("cannot read `{path}`: {error}"));
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(SECRET_FILE_SIZE_MAX).read_to_string(&mut text))
        .map_err(unreadable)?;
    Ok(text.trim().to_owned())
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Credentials {
    None,
    Basic { username: String, password: Source },
    Bearer(Source),
}

/// A checked address with everything needed to send a request there.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    /// Without a slash at the end.
    base: String,
    credentials: Credentials,
    pub(crate) options: HttpOptions,
    pub(crate) timeout_secs: u64,
}

impl Access {
    pub(crate) fn new(server: Server<'_>) -> Result<Access> {
        let limit = |key: &str, value: u64, max: u64| {
            if (1..=max).contains(&value) {
                return Ok(value);
            }
            Err(Error::invalid_config(format!("`{key}`: must be between 1 and {max}, got {value}")))
        };
        let timeout_secs = limit("timeout_secs", server.timeout_secs, TIMEOUT_SECS_MAX)?;
        let body_size_mib =
            limit("body_size_max_mib", server.body_size_max_mib, BODY_SIZE_MAX_MIB)?;
        if server.cert_file.is_some() != server.key_file.is_some() {
            return Err(Error::invalid_config("`cert_file` and `key_file` go together"));
        }
        let credentials = credentials(&server)?;
        if let Credentials::Basic { password: source, .. } | Credentials::Bearer(source) =
            &credentials
        {
            source.read().map_err(|error| Error::invalid_config(error.message))?;
        }
        Ok(Access {
            base: base(server.url)?,
            credentials,
            options: HttpOptions {
                timeout_ms: Some(timeout_secs * 1000),
                body_size_max: Some(body_size_mib * 1024 * 1024),
                ca_file: server.ca_file.map(str::to_owned),
                cert_file: server.cert_file.map(str::to_owned),
                key_file: server.key_file.map(str::to_owned),
            },
            timeout_secs,
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn headers(&self) -> Result<BTreeMap<String, String>> {
        let mut headers = BTreeMap::from([("accept".to_owned(), "application/json".to_owned())]);
        let authorization = match &self.credentials {
            Credentials::None => return Ok(headers),
            Credentials::Basic { username, password } => {
                format!("Basic {}", base64(format!("{username}:{}", password.read()?).as_bytes()))
            }
            Credentials::Bearer(token) => format!("Bearer {}", token.read()?),
        };
        headers.insert("authorization".to_owned(), authorization);
        Ok(headers)
    }
}

fn credentials(server: &Server<'_>) -> Result<Credentials> {
    let source = |key: &str, text: Option<&Secret>, file: Option<&str>| match (text, file) {
        (None, None) => Ok(None),
        (Some(secret), None) => Ok(Some(Source::Text(secret.clone()))),
        (None, Some(path)) => Ok(Some(Source::File(path.to_owned()))),
        (Some(_), Some(_)) => {
            Err(Error::invalid_config(format!("`{key}` and `{key}_file` exclude each other")))
        }
    };
    let password = source("password", server.password, server.password_file)?;
    let token = source("bearer_token", server.bearer_token, server.bearer_token_file)?;
    match (server.username, password, token) {
        (None, None, None) => Ok(Credentials::None),
        (None, None, Some(token)) => Ok(Credentials::Bearer(token)),
        (Some(username), Some(password), None) => {
            if username.contains(':') || username.chars().any(char::is_control) {
                return Err(Error::invalid_config(
                    "`username`: must have neither a colon nor control characters",
                ));
            }
            Ok(Credentials::Basic { username: username.to_owned(), password })
        }
        (_, _, Some(_)) => {
            Err(Error::invalid_config("a bearer token and a user name exclude each other"))
        }
        _ => Err(Error::invalid_config("`username` and `password` go together")),
    }
}

/// The address without a slash at the end.
fn base(url: &str) -> Result<String> {
    let invalid = |what: &str| Err(Error::invalid_config(format!("`url`: {what}")));
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
        return invalid("must begin with `http://` or `https://`");
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        // Its text would be in every error.
        return invalid("must hold no password (hint: use `username` and `password`)");
    }
    if authority.is_empty() {
        return invalid("names no host");
    }
    if url.chars().any(|character| character.is_whitespace() || "?#\"<>\\^`{|}".contains(character))
    {
        return invalid("must be an address and a path, without query");
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for position in 0..4 {
            if position > chunk.len() {
                text.push('=');
            } else {
                let index = (bits >> (18 - 6 * position)) & 63;
                text.push(char::from(ALPHABET[index as usize]));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret(text.to_owned())
    }

    fn server(url: &str) -> Server<'_> {
        Server {
            url,
            username: None,
            password: None,
            password_file: None,
            bearer_token: None,
            bearer_token_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            timeout_secs: 60,
            body_size_max_mib: 64,
        }
    }

    fn refused(server: Server<'_>) -> String {
        let error = Access::new(server).unwrap_err();
        assert_eq!(error.status, rated_plugin::Status::InvalidConfig);
        error.message
    }

    #[test]
    fn base64_is_the_standard_one() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn credentials_become_a_header() {
        let password = secret("open sesame");
        let basic = Server {
            username: Some("Aladdin"),
            password: Some(&password),
            ..server("http://127.0.0.1:9090/prometheus/")
        };
        let access = Access::new(basic).unwrap();
        assert_eq!(
            access.headers().unwrap()["authorization"],
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(access.url("/api/v1/query"), "http://127.0.0.1:9090/prometheus/api/v1/query");

        let token = secret("t0ken");
        let bearer = Server { bearer_token: Some(&token), ..server("https://[::1]:9090") };
        let access = Access::new(bearer).unwrap();
        assert_eq!(access.headers().unwrap()["authorization"], "Bearer t0ken");

        let access = Access::new(server("http://prometheus")).unwrap();
        assert_eq!(access.headers().unwrap().get("authorization"), None);
    }

    #[test]
    fn a_renewed_token_file_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "first\n").unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let config = Server { bearer_token_file: Some(&path), ..server("http://prometheus") };
        let access = Access::new(config).unwrap();
        assert_eq!(access.headers().unwrap()["authorization"], "Bearer first");

        std::fs::write(file.path(), "second").unwrap();
        assert_eq!(access.headers().unwrap()["authorization"], "Bearer second");

        std::fs::write(file.path(), "").unwrap();
        assert!(access.headers().unwrap_err().message.contains("empty"));
        drop(file);
        let error = access.headers().unwrap_err();
        assert!(error.retryable && error.message.starts_with("cannot read `"), "{error}");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let password = secret("hunter2");
        let config = Server {
            username: Some("u"),
            password: Some(&password),
            ..server("http://prometheus")
        };

        let shown = format!("{config:?} {:?}", Access::new(config).unwrap());

        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("(hidden)"));
        let message = refused(server("http://u:hunter2@prometheus"));
        assert!(!message.contains("hunter2"), "{message}");
        let broken = secret("hunter2\n");
        let message = refused(Server { bearer_token: Some(&broken), ..server("http://x") });
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn what_cannot_work_is_refused_at_once() {
        let word = secret("x");
        let plain = server("http://prometheus");

        assert!(refused(server("prometheus:9090")).contains("must begin with `http://`"));
        assert!(refused(server("http:///x")).contains("names no host"));
        assert!(refused(server("http://x/?a=b")).contains("without query"));
        assert!(refused(Server { timeout_secs: 0, ..plain }).contains("between 1 and 600, got 0"));
        assert!(refused(Server { body_size_max_mib: 1025, ..plain }).contains("1 and 1024"));
        assert!(refused(Server { username: Some("u"), ..plain }).contains("go together"));
        assert!(refused(Server { password: Some(&word), ..plain }).contains("go together"));
        assert!(refused(Server { cert_file: Some("c"), ..plain }).contains("go together"));
        let both = Server { bearer_token: Some(&word), bearer_token_file: Some("f"), ..plain };
        assert!(refused(both).contains("exclude each other"));
        let both = Server {
            username: Some("u"),
            password: Some(&word),
            bearer_token: Some(&word),
            ..plain
        };
        assert!(refused(both).contains("exclude each other"));
        let missing = Server { bearer_token_file: Some("/nonexistent/token"), ..plain };
        assert!(refused(missing).starts_with("cannot read `/nonexistent/token`: "));
    }
}
