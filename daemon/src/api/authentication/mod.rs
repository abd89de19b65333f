//! Who calls: what came with a request becomes a [`Caller`], or a refusal.
//!
//! Which method is asked follows from what was sent: `X-Auth-Token` goes to Keystone (to the static
//! tokens where there is no Keystone), `Authorization: Bearer` to the static tokens,
//! `Authorization: Basic` to the users with passwords. What no configured method reads says
//! nothing. Two credentials at once are refused: nobody could say which of them counts.
//!
//! A secret that was sent is compared in constant time or as a hash, and stands in no log, no error
//! and no `Debug` output. A method that cannot say who calls never lets anybody in: wrong is 401,
//! "cannot be checked now" is 503.
//!
//! This module does not decide what a caller may do: that is the policy.

mod basic;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod keystone;
mod said;
mod token;

use std::sync::Arc;

use tracing::debug;
use warp::http::{HeaderMap, StatusCode};

use self::basic::Basic;
use self::keystone::{Keystone, SetupError};
use self::said::{Said, said};
use self::token::Tokens;
use super::caller::{Caller, Identity};
use super::failure::Failure;
use super::kept::FileError;
use super::openapi::Scheme;
use crate::clock::Clock;
use crate::config::{ApiConfig, Auth, AuthMethods};
use crate::metrics::{AuthenticationMethod, AuthenticationOutcome, Metrics};

/// Knows who calls.
#[derive(Debug)]
pub struct Authentication {
    /// `None`: nobody is asked.
    methods: Option<Methods>,
    metrics: Arc<Metrics>,
    /// Whoever a test says.
    #[cfg(test)]
    pub(crate) fixed: Option<Fixed>,
}

/// Whoever every request comes from; `None`: nobody says.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Fixed(pub(crate) Option<Caller>);

#[derive(Debug)]
struct Methods {
    basic: Option<Basic>,
    token: Option<Tokens>,
    keystone: Option<Keystone>,
}

/// Why the methods of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    #[error("cannot use the passwords\n(hint: `api.basic.htpasswd_file` names the file)")]
    Basic(#[source] FileError),
    #[error("cannot use the tokens\n(hint: `api.token.file` names the file)")]
    Token(#[source] FileError),
    #[error("cannot ask Keystone")]
    Keystone(#[source] SetupError),
}

/// Why a caller is not known.
#[derive(Debug)]
enum Refusal {
    /// What was sent is wrong.
    Wrong,
    /// Too many wrong ones came before.
    TooMany,
    /// There is more to check than there is room for.
    Busy,
    /// It cannot be checked at the moment; for the log.
    Unavailable(String),
}

impl Authentication {
    /// Reads what the configuration names. No server is asked.
    pub fn load(
        config: &ApiConfig,
        clock: &Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
    ) -> Result<Authentication, AuthenticationError> {
        let methods = match &config.auth {
            Auth::None => None,
            Auth::Methods(methods) => Some(Methods::load(methods, clock)?),
        };
        let metrics = Arc::clone(metrics);
        Ok(Authentication {
            methods,
            metrics,
            #[cfg(test)]
            fixed: None,
        })
    }
    /// `Ok(None)`: the request says nothing of who calls. An error when what it says is wrong, or
    /// when it cannot be checked at the moment.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Result<Option<Caller>, Failure> {
        #[cfg(test)]
        if let Some(Fixed(caller)) = &self.fixed {
            return Ok(caller.clone());
        }
        let Some(methods) = &self.methods else { return Ok(Some(Caller::Everybody)) };
        let (method, answer) = methods.ask(headers).await;
        let outcome = match &answer {
            Ok(Some(_)) => AuthenticationOutcome::Known,
            Ok(None) => AuthenticationOutcome::Missing,
            Err(Refusal::Wrong | Refusal::TooMany) => AuthenticationOutcome::Refused,
            Err(Refusal::Busy | Refusal::Unavailable(_)) => AuthenticationOutcome::Unavailable,
        };
        self.metrics.authentication_ended(method, outcome);
        match answer {
            Ok(identity) => Ok(identity.map(Caller::Known)),
            Err(refusal) => {
                debug!(method = method.label(), ?refusal, "A caller is not let in.");
                Err(self.failure(refusal))
            }
        }
    }

    fn failure(&self, refusal: Refusal) -> Failure {
        match refusal {
            Refusal::Wrong => Failure::Unauthenticated { challenges: self.challenges() },
            Refusal::TooMany => Failure::Refused {
                status: StatusCode::TOO_MANY_REQUESTS,
                text: "too many wrong passwords, please try again in a minute".to_owned(),
            },
            Refusal::Busy => Failure::busy(),
            Refusal::Unavailable(log) => Failure::Broken {
                status: StatusCode::SERVICE_UNAVAILABLE,
                text: "who calls cannot be checked at the moment",
                log,
            },
        }
    }

    /// Values of `WWW-Authenticate`: how callers can say who they are.
    pub(crate) fn challenges(&self) -> Vec<String> {
        let Some(methods) = &self.methods else { return Vec::new() };
        let mut challenges = Vec::new();
        if let Some(keystone) = &methods.keystone {
            challenges.push(keystone.challenge());
        }
        if methods.token.is_some() {
            challenges.push("Bearer realm=\"rated\"".to_owned());
        }
        if methods.basic.is_some() {
            challenges.push("Basic realm=\"rated\", charset=\"UTF-8\"".to_owned());
        }
        challenges
    }

    /// The same for the documentation.
    pub(crate) fn schemes(&self) -> Vec<Scheme> {
        let Some(methods) = &self.methods else { return Vec::new() };
        let taken = [
            // Without Keystone its header takes static tokens.
            (methods.keystone.is_some() || methods.token.is_some(), Scheme::Keystone),
            (methods.token.is_some(), Scheme::Token),
            (methods.basic.is_some(), Scheme::Password),
        ];
        taken.into_iter().filter(|(is_taken, _)| *is_taken).map(|(_, scheme)| scheme).collect()
    }

    /// Looks for changed files; blocks.
    pub(crate) fn reread(&self) {
        let Some(methods) = &self.methods else { return };
        if let Some(basic) = &methods.basic {
            basic.reread();
        }
        if let Some(token) = &methods.token {
            token.reread();
        }
    }
}

type Answer = (AuthenticationMethod, Result<Option<Identity>, Refusal>);

impl Methods {
    fn load(config: &AuthMethods, clock: &Arc<dyn Clock>) -> Result<Methods, AuthenticationError> {
        let basic = config.basic.as_ref().map(Basic::load).transpose();
        let token = config.token.as_ref().map(|token| Tokens::load(token, clock)).transpose();
        let keystone = config.keystone.as_ref().map(|config| Keystone::new(config, clock));
        Ok(Methods {
            basic: basic.map_err(AuthenticationError::Basic)?,
            token: token.map_err(AuthenticationError::Token)?,
            keystone: keystone.transpose().map_err(AuthenticationError::Keystone)?,
        })
    }

    async fn ask(&self, headers: &HeaderMap) -> Answer {
        use AuthenticationMethod as Method;
        match (said(headers, self), self) {
            (Said::Nothing, _) => (Method::None, Ok(None)),
            (Said::Basic(value), Methods { basic: Some(basic), .. }) => {
                (Method::Basic, basic.caller(value).await.map(Some))
            }
            (Said::AuthToken(value), Methods { keystone: Some(keystone), .. }) => {
                (Method::Keystone, keystone.caller(value).await.map(Some))
            }
            (Said::Bearer(value) | Said::AuthToken(value), Methods { token: Some(tokens), .. }) => {
                (Method::Token, tokens.caller(value).map(Some))
            }
            // Two at once, or what `said` never says without the method.
            _ => (Method::None, Err(Refusal::Wrong)),
        }
    }
}
