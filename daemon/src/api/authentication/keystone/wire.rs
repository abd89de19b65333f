use std::error::Error as StdError;
use std::fs;
use std::io;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use reqwest::{Certificate, Client, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use warp::http::{HeaderName, HeaderValue, header};

use super::Trouble;
use crate::api::authentication::said::AUTH_TOKEN;
use crate::api::caller::Identity;
use crate::config::KeystoneConfig;

/// Where Keystone takes the token that it is asked about, and gives one that it makes.
const SUBJECT_TOKEN: HeaderName = HeaderName::from_static("x-subject-token");

/// Largest answer that is read, bytes. Without a catalogue a token takes one or two KiB.
const ANSWER_SIZE_MAX: usize = 1024 * 1024;

/// The questions as they are sent.
pub(super) struct Wire {
    client: Client,
    tokens_url: String,
    /// Scheme, host and port, for the log.
    server: String,
}

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("cannot read `{}`\n(hint: `api.keystone.ca_file` names it)", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("`{}` holds no certificates\n(hint: `api.keystone.ca_file` names it)", path.display())]
    NoCertificates { path: PathBuf },
    #[error("cannot set up TLS")]
    Client(#[source] reqwest::Error),
}

/// What Keystone says of a token.
#[derive(Debug)]
pub(super) enum Verdict {
    Valid(Valid),
    Invalid,
    /// Keystone does not know who asks.
    OwnTokenRefused,
}

#[derive(Debug)]
pub(super) struct Valid {
    pub(super) identity: Identity,
    pub(super) expires: DateTime<Utc>,
}

/// A token of our own.
pub(super) struct Issued {
    pub(super) token: HeaderValue,
    pub(super) expires: DateTime<Utc>,
}

impl Wire {
    pub(super) fn new(config: &KeystoneConfig) -> Result<Wire, SetupError> {
        // An error says that the program has installed one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(config.timeout)
            .timeout(config.timeout)
            .user_agent(concat!("rated/", env!("CARGO_PKG_VERSION")));
        let builder = match &config.ca_file {
            _ if config.url.starts_with("http:") => builder.tls_certs_only([]),
            None => builder,
            Some(path) => {
                let path = || path.clone();
                let pem = fs::read(path())
                    .map_err(|error| SetupError::Unreadable { path: path(), error })?;
                let certificates = Certificate::from_pem_bundle(&pem)
                    .ok()
                    .filter(|certificates| !certificates.is_empty())
                    .ok_or_else(|| SetupError::NoCertificates { path: path() })?;
                builder.tls_certs_only(certificates)
            }
        };
        Ok(Wire {
            client: builder.build().map_err(SetupError::Client)?,
            tokens_url: format!("{}/v3/auth/tokens", config.url),
            server: config.url.clone(),
        })
    }

    pub(super) async fn validate(
        &self,
        own: &HeaderValue,
        token: &HeaderValue,
    ) -> Result<Verdict, Trouble> {
        let request = self.client.get(format!("{}?nocatalog", self.tokens_url));
        let request = request.header(AUTH_TOKEN, own).header(SUBJECT_TOKEN, token);
        let answer = self.send(request).await?;
        match answer.status {
            StatusCode::OK => {
                let valid = answer.token().and_then(Token::valid);
                valid.map(Verdict::Valid).ok_or_else(|| self.nonsense(&answer))
            }
            StatusCode::NOT_FOUND if answer.is_error_of_keystone() => Ok(Verdict::Invalid),
            StatusCode::UNAUTHORIZED if answer.is_error_of_keystone() => {
                Ok(Verdict::OwnTokenRefused)
            }
            StatusCode::FORBIDDEN => Err(self.trouble(
                "Keystone does not let the service user of `api.keystone` ask about tokens; it \
                 needs the role `admin` or `service`",
            )),
            _ => Err(self.nonsense(&answer)),
        }
    }

    pub(super) async fn log_in(&self, body: &Value) -> Result<Issued, Trouble> {
        let request = self.client.post(format!("{}?nocatalog", self.tokens_url));
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let answer = self.send(request.body(body.to_string())).await?;
        match answer.status {
            StatusCode::CREATED | StatusCode::OK => {
                let expires = answer.token().and_then(|token| token.expires());
                let issued = answer.subject_token.clone().zip(expires);
                let (mut token, expires) = issued.ok_or_else(|| self.nonsense(&answer))?;
                token.set_sensitive(true);
                Ok(Issued { token, expires })
            }
            StatusCode::UNAUTHORIZED => Err(self.trouble(
                "Keystone refuses the service user: user, password, project or domain of \
                 `api.keystone` is wrong",
            )),
            _ => Err(self.nonsense(&answer)),
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, Trouble> {
        let request = request.header(header::ACCEPT, "application/json");
        let failed = |error: reqwest::Error| self.trouble(&innermost(&error));
        let mut response = request.send().await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > ANSWER_SIZE_MAX {
                let text = format!("its answer is longer than {ANSWER_SIZE_MAX} bytes");
                return Err(self.trouble(&text));
            }
            body.extend_from_slice(&chunk);
        }
        let subject_token = response.headers().get(SUBJECT_TOKEN).cloned();
        Ok(Answer { status: response.status(), subject_token, body })
    }

    fn nonsense(&self, answer: &Answer) -> Trouble {
        let status = answer.status.as_u16();
        self.trouble(&format!("its answer {status} is not what Keystone says (is the URL right?)"))
    }

    fn trouble(&self, text: &str) -> Trouble {
        Trouble::Unavailable(format!("Keystone at `{}`: {text}", self.server).into())
    }
}

/// The last cause says most: `Connection refused`.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut innermost: &dyn StdError = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) subject_token: Option<HeaderValue>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn token(&self) -> Option<Token> {
        let whole: TokenDocument = serde_json::from_slice(&self.body).ok()?;
        Some(whole.token)
    }

    /// A server in between, or a wrong address, has other words.
    pub(super) fn is_error_of_keystone(&self) -> bool {
        let document: Option<ErrorDocument> = serde_json::from_slice(&self.body).ok();
        document.is_some_and(|document| document.error.code == self.status.as_u16())
    }
}

#[derive(Deserialize)]
struct ErrorDocument {
    error: ErrorText,
}

#[derive(Deserialize)]
struct ErrorText {
    code: u16,
}

#[derive(Deserialize)]
struct TokenDocument {
    token: Token,
}

/// Of a token what we need. It speaks for a project, for a domain, for the system or for nobody.
#[derive(Deserialize)]
pub(super) struct Token {
    user: Option<Named>,
    project: Option<Named>,
    domain: Option<IgnoredAny>,
    #[serde(default)]
    roles: Vec<Role>,
    expires_at: String,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize)]
struct Role {
    name: String,
}

impl Token {
    fn expires(&self) -> Option<DateTime<Utc>> {
        let expires = DateTime::parse_from_rfc3339(&self.expires_at).ok()?;
        Some(expires.with_timezone(&Utc))
    }

    pub(super) fn valid(self) -> Option<Valid> {
        let expires = self.expires()?;
        // An administrator of a domain is none of everything there is.
        let roles = if self.domain.is_none() { self.roles } else { Vec::new() };
        let identity = Identity {
            user_id: self.user?.id,
            project_id: self.project.map(|project| project.id),
            roles: roles.into_iter().map(|role| role.name).collect(),
        };
        Some(Valid { identity, expires })
    }
}
