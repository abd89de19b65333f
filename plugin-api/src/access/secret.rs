//! Passwords and tokens.

use std::fmt;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::{Error, Result};

/// Largest file with a password or token, bytes.
const SECRET_FILE_SIZE_MAX: u64 = 64 * 1024;

/// A text that `Debug` does not show.
///
/// ```
/// use rated_plugin::access::Secret;
///
/// let password: Secret = rated_plugin::serde_json::from_str("\"open sesame\"").unwrap();
/// assert_eq!(format!("{password:?}"), "(hidden)");
/// assert_eq!(password.expose(), "open sesame");
/// ```
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, to be sent where it belongs; never put it into a message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Where a secret comes from: the configuration, or a file that it names.
///
/// ```
/// use rated_plugin::access::{Secret, SecretSource};
///
/// let password = Secret::new("open sesame");
/// let source = SecretSource::of("password", Some(&password), None)?.expect("a password is set");
/// assert_eq!(source.read()?.expose(), "open sesame");
/// assert!(SecretSource::of("password", Some(&password), Some("/run/password")).is_err());
/// # Ok::<(), rated_plugin::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSource(Source);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Text(Secret),
    File(String),
}

impl SecretSource {
    /// From the two keys `KEY` and `KEY_file` of a configuration; `None` when neither is set.
    ///
    /// `InvalidConfig` when both are.
    pub fn of(
        key: &str,
        text: Option<&Secret>,
        file: Option<&str>,
    ) -> Result<Option<SecretSource>> {
        match (text, file) {
            (None, None) => Ok(None),
            (Some(secret), None) => Ok(Some(SecretSource(Source::Text(secret.clone())))),
            (None, Some(path)) => Ok(Some(SecretSource(Source::File(path.to_owned())))),
            (Some(_), Some(_)) => {
                Err(Error::invalid_config(format!("`{key}` and `{key}_file` exclude each other")))
            }
        }
    }

    /// The secret as it is now; of a file without white space around it, 64 KiB at most.
    ///
    /// `Unavailable` when the file cannot be read, and when the secret is empty or has control
    /// characters; the message says which file, never what is in it.
    pub fn read(&self) -> Result<Secret> {
        let secret = match &self.0 {
            Source::Text(secret) => secret.clone(),
            Source::File(path) => read_file(path)?,
        };
        if secret.0.is_empty() || secret.0.chars().any(char::is_control) {
            return Err(Error::unavailable(match &self.0 {
                Source::Text(_) => {
                    "the password or token is empty or has control characters".into()
                }
                Source::File(path) => format!("`{path}`: empty, or has control characters"),
            }));
        }
        Ok(secret)
    }

    /// Can it be read? For [`Component::create`](crate::Component::create): what cannot is
    /// `InvalidConfig`.
    pub fn check(&self) -> Result<()> {
        self.read().map(drop).map_err(|error| Error::invalid_config(error.message))
    }
}

fn read_file(path: &str) -> Result<Secret> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(SECRET_FILE_SIZE_MAX).read_to_string(&mut text))
        .map_err(|error| Error::unavailable(format!("cannot read `{path}`: {error}")))?;
    Ok(Secret::new(text.trim()))
}

/// The value of an `Authorization` header for a name and a password.
///
/// ```
/// use rated_plugin::access::{Secret, basic_authorization};
///
/// let value = basic_authorization("Aladdin", &Secret::new("open sesame"));
/// assert_eq!(value, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
/// ```
pub fn basic_authorization(username: &str, password: &Secret) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.expose())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_file_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let source = SecretSource::of("token", None, Some(&path)).unwrap().unwrap();
        std::fs::write(file.path(), "first\n").unwrap();
        assert_eq!(source.read().unwrap().expose(), "first");

        std::fs::write(file.path(), "second").unwrap();
        assert_eq!(source.read().unwrap().expose(), "second");

        std::fs::write(file.path(), "").unwrap();
        assert!(source.read().unwrap_err().message.contains("empty"));
        drop(file);
        let error = source.read().unwrap_err();
        assert!(error.retryable && error.message.starts_with("cannot read `"), "{error}");
    }

    #[test]
    fn what_no_header_can_hold_is_refused_unseen() {
        for text in ["", "hunter2\n", "hunter2\0"] {
            let secret = Secret::new(text);
            let source = SecretSource::of("token", Some(&secret), None).unwrap().unwrap();

            let error = source.check().unwrap_err();

            assert_eq!(error.status, crate::Status::InvalidConfig);
            assert!(!error.message.contains("hunter2"), "{error}");
            assert!(!format!("{source:?}").contains("hunter2"));
        }
    }
}
