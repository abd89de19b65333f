//! The address of a server with everything needed to send a request there.

use std::collections::BTreeMap;

use super::secret::{Secret, SecretSource, basic_authorization};
use crate::{Error, HttpOptions, Result};

/// Longest wait for an answer that may be configured, seconds.
pub const TIMEOUT_SECS_MAX: u64 = 600;
/// Largest answer that may be configured, MiB.
pub const BODY_SIZE_MAX_MIB: u64 = 1024;

/// Wait for an answer when nothing is configured, seconds.
const TIMEOUT_SECS_DEFAULT: u64 = 60;
/// Largest answer when nothing is configured, MiB.
const BODY_SIZE_DEFAULT_MIB: u64 = 64;

/// The keys of a server as they stand in a configuration; see the [module](crate::access) for an
/// example.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    /// How the configuration calls the address, for errors.
    pub url_key: &'a str,
    /// `http://` or `https://`, host and port; a path may follow.
    pub url: &'a str,
    /// Who asks; goes together with a password.
    pub username: Option<&'a str>,
    /// The user's password.
    pub password: Option<&'a Secret>,
    /// A file that holds it instead.
    pub password_file: Option<&'a str>,
    /// A token to send, instead of a user and a password.
    pub bearer_token: Option<&'a Secret>,
    /// A file that holds it instead.
    pub bearer_token_file: Option<&'a str>,
    /// PEM file with the authorities to trust instead of the system's.
    pub ca_file: Option<&'a str>,
    /// PEM file of the client certificate; goes together with `key_file`.
    pub cert_file: Option<&'a str>,
    /// PEM file of the client certificate's key.
    pub key_file: Option<&'a str>,
    /// 1 to [`TIMEOUT_SECS_MAX`]; default 60.
    pub timeout_secs: Option<u64>,
    /// 1 to [`BODY_SIZE_MAX_MIB`]; default 64.
    pub body_size_max_mib: Option<u64>,
}

impl<'a> Server<'a> {
    /// An address alone. `url_key` is how the configuration calls it.
    pub fn at(url_key: &'a str, url: &'a str) -> Server<'a> {
        Server {
            url_key,
            url,
            username: None,
            password: None,
            password_file: None,
            bearer_token: None,
            bearer_token_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            timeout_secs: None,
            body_size_max_mib: None,
        }
    }
}

/// A checked address with everything needed to send a request there; see the
/// [module](crate::access) for an example.
#[derive(Debug, Clone)]
pub struct Access {
    /// Without a slash at the end.
    base: String,
    credentials: Credentials,
    options: HttpOptions,
    timeout_secs: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Credentials {
    None,
    Basic { username: String, password: SecretSource },
    Bearer(SecretSource),
}

impl Access {
    /// `InvalidConfig`, with the key's name, for everything that cannot work: an address that is
    /// none or holds a password, limits out of bounds, half of a pair, a secret that is empty or
    /// cannot be read.
    pub fn new(server: &Server<'_>) -> Result<Access> {
        let limit = |key: &str, value: u64, max: u64| {
            if (1..=max).contains(&value) {
                return Ok(value);
            }
            Err(Error::invalid_config(format!("`{key}`: must be between 1 and {max}, got {value}")))
        };
        let timeout_secs = server.timeout_secs.unwrap_or(TIMEOUT_SECS_DEFAULT);
        let timeout_secs = limit("timeout_secs", timeout_secs, TIMEOUT_SECS_MAX)?;
        let body_size_mib = server.body_size_max_mib.unwrap_or(BODY_SIZE_DEFAULT_MIB);
        let body_size_mib = limit("body_size_max_mib", body_size_mib, BODY_SIZE_MAX_MIB)?;
        if server.cert_file.is_some() != server.key_file.is_some() {
            return Err(Error::invalid_config("`cert_file` and `key_file` go together"));
        }
        let credentials = credentials(server)?;
        if let Credentials::Basic { password: source, .. } | Credentials::Bearer(source) =
            &credentials
        {
            source.check()?;
        }
        Ok(Access {
            base: base(server.url_key, server.url)?,
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

    /// The same way to another address, without the credentials: a server that the first one named.
    ///
    /// ```
    /// use rated_plugin::access::{Access, Server};
    ///
    /// let directory = Access::new(&Server::at("url", "https://directory.example"))?;
    /// let named = directory.elsewhere("the directory's `metering`", "https://meter.example/v1/")?;
    /// assert_eq!(named.url("/usage"), "https://meter.example/v1/usage");
    /// # Ok::<(), rated_plugin::Error>(())
    /// ```
    pub fn elsewhere(&self, url_key: &str, url: &str) -> Result<Access> {
        Ok(Access {
            base: base(url_key, url)?,
            credentials: Credentials::None,
            options: self.options.clone(),
            timeout_secs: self.timeout_secs,
        })
    }

    /// The address with `path` behind it, which begins with a slash or is empty.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The headers that every request needs: `Accept` for JSON, and `Authorization` if there are
    /// credentials.
    ///
    /// `Unavailable` when a file with a secret cannot be read now.
    pub fn headers(&self) -> Result<BTreeMap<String, String>> {
        let mut headers = BTreeMap::from([("accept".to_owned(), "application/json".to_owned())]);
        let authorization = match &self.credentials {
            Credentials::None => return Ok(headers),
            Credentials::Basic { username, password } => {
                basic_authorization(username, &password.read()?)
            }
            Credentials::Bearer(token) => format!("Bearer {}", token.read()?.expose()),
        };
        headers.insert("authorization".to_owned(), authorization);
        Ok(headers)
    }

    /// Limits and certificates.
    pub fn options(&self) -> &HttpOptions {
        &self.options
    }

    /// How long an answer may take.
    pub fn timeout_secs(&self) -> u64 {
        self.timeout_secs
    }
}

fn credentials(server: &Server<'_>) -> Result<Credentials> {
    let password = SecretSource::of("password", server.password, server.password_file)?;
    let token = SecretSource::of("bearer_token", server.bearer_token, server.bearer_token_file)?;
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
fn base(key: &str, url: &str) -> Result<String> {
    let invalid = |what: &str| Err(Error::invalid_config(format!("`{key}`: {what}")));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    fn server(url: &str) -> Server<'_> {
        Server::at("url", url)
    }

    fn refused(server: Server<'_>) -> String {
        let error = Access::new(&server).unwrap_err();
        assert_eq!(error.status, crate::Status::InvalidConfig);
        error.message
    }

    #[test]
    fn credentials_become_a_header() {
        let password = secret("open sesame");
        let basic = Server {
            username: Some("Aladdin"),
            password: Some(&password),
            ..server("http://127.0.0.1:9090/prometheus/")
        };
        let access = Access::new(&basic).unwrap();
        assert_eq!(
            access.headers().unwrap()["authorization"],
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(access.url("/api/v1/query"), "http://127.0.0.1:9090/prometheus/api/v1/query");

        let token = secret("t0ken");
        let bearer = Server { bearer_token: Some(&token), ..server("https://[::1]:9090") };
        let access = Access::new(&bearer).unwrap();
        assert_eq!(access.headers().unwrap()["authorization"], "Bearer t0ken");

        let access = Access::new(&server("http://prometheus")).unwrap();
        assert_eq!(access.headers().unwrap().get("authorization"), None);
    }

    #[test]
    fn credentials_stay_where_they_belong() {
        let token = secret("t0ken");
        let first =
            Server { bearer_token: Some(&token), ca_file: Some("ca"), ..server("http://a") };

        let other = Access::new(&first).unwrap().elsewhere("b", "http://b/").unwrap();

        assert_eq!(other.headers().unwrap().get("authorization"), None);
        assert_eq!(other.options().ca_file.as_deref(), Some("ca"));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let password = secret("hunter2");
        let config = Server {
            username: Some("u"),
            password: Some(&password),
            ..server("http://prometheus")
        };

        let shown = format!("{config:?} {:?}", Access::new(&config).unwrap());

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
        let short = Server { timeout_secs: Some(0), ..plain };
        assert!(refused(short).contains("between 1 and 600, got 0"));
        assert!(refused(Server { body_size_max_mib: Some(1025), ..plain }).contains("1 and 1024"));
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
