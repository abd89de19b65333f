//! Tokens of `OpenStack`'s identity service.
//!
//! A token is shown to Keystone, and what Keystone says is believed for `cache_secs`, at most until
//! the token expires. A token that is revoked in between is therefore refused `cache_secs` later at
//! the latest, and at once when that is 0. "No such token" is believed for a shorter time.
//!
//! Keystone is asked once for a token, however many requests bring it at the same time, and at most
//! [`QUESTIONS_MAX`] questions are open. The daemon proves who it is with a token of its own, which
//! is renewed before it expires, and when Keystone does not know it any more.
//!
//! "No" is only what Keystone says in its own words. Everything else (no answer, no JSON, an error
//! of a server in between) is "cannot be checked at the moment".

mod answers;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod service;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;
use warp::http::HeaderValue;

use self::answers::{Answers, Believed};
use self::service::ServiceToken;
use self::wire::{Verdict, Wire};
use super::Refusal;
use crate::api::caller::Identity;
use crate::clock::Clock;
use crate::config::KeystoneConfig;

pub(super) use wire::SetupError;

/// Most questions to Keystone at once.
const QUESTIONS_MAX: usize = 32;
/// Most requests that wait for Keystone: the rest of the API has requests to answer, too.
const WAITING_MAX: usize = 256;
/// How long a request waits for its turn to ask.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// Stands for a token where tokens are remembered.
type Fingerprint = [u8; 32];

/// What came of a question; shared by all who wait for it.
type Outcome = Result<Option<Arc<Identity>>, Trouble>;
type Question = Shared<BoxFuture<'static, Outcome>>;

/// Why Keystone could not be asked.
#[derive(Debug, Clone)]
enum Trouble {
    Busy,
    /// For the log. No token and no password stands in it.
    Unavailable(Arc<str>),
}

#[derive(Clone)]
pub(super) struct Keystone(Arc<Inner>);

struct Inner {
    wire: Wire,
    service: ServiceToken,
    answers: Mutex<Answers>,
    cache: Duration,
    under_way: Mutex<HashMap<Fingerprint, WeakShared<BoxFuture<'static, Outcome>>>>,
    turns: Semaphore,
    waiting: Semaphore,
    clock: Arc<dyn Clock>,
    key: hmac::Key,
    challenge: String,
}

impl fmt::Debug for Keystone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keystone").finish_non_exhaustive()
    }
}

impl Keystone {
    /// Asks nobody: Keystone may come up later than we do.
    pub(super) fn new(
        config: &KeystoneConfig,
        clock: &Arc<dyn Clock>,
    ) -> Result<Keystone, SetupError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Keystone(Arc::new(Inner {
            wire: Wire::new(config)?,
            service: ServiceToken::new(config.login.clone(), Arc::clone(clock)),
            answers: Mutex::default(),
            cache: config.cache,
            under_way: Mutex::default(),
            turns: Semaphore::new(QUESTIONS_MAX),
            waiting: Semaphore::new(WAITING_MAX),
            clock: Arc::clone(clock),
            key: key.expect("the system has random bytes"),
            challenge: format!("Keystone uri=\"{}\"", config.www_authenticate_uri),
        })))
    }

    pub(super) fn challenge(&self) -> String {
        self.0.challenge.clone()
    }

    pub(super) async fn caller(&self, token: &[u8]) -> Result<Identity, Refusal> {
        let is_sound = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
        let token = HeaderValue::from_bytes(token).ok().filter(|_| is_sound);
        // Keystone makes no such tokens, so it need not be asked.
        let Some(mut token) = token else { return Err(Refusal::Wrong) };
        token.set_sensitive(true);
        let outcome = if self.0.cache.is_zero() {
            // Nobody is told what was asked for somebody who came before.
            let Ok(_waiting) = self.0.waiting.try_acquire() else { return Err(Refusal::Busy) };
            Arc::clone(&self.0).ask(token).await.map(|answer| answer.identity)
        } else {
            self.cached(token).await
        };
        match outcome {
            Ok(Some(identity)) => Ok((*identity).clone()),
            Ok(None) => Err(Refusal::Wrong),
            Err(Trouble::Busy) => Err(Refusal::Busy),
            Err(Trouble::Unavailable(log)) => Err(Refusal::Unavailable(log.to_string())),
        }
    }

    async fn cached(&self, token: HeaderValue) -> Outcome {
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(hmac::sign(&self.0.key, token.as_bytes()).as_ref());
        let known = self.0.known(&fingerprint);
        if let Some(believed) = known {
            return Ok(believed.identity);
        }
        let Ok(_waiting) = self.0.waiting.try_acquire() else { return Err(Trouble::Busy) };
        self.question(fingerprint, token).await
    }

    /// The one that is under way, or a new one.
    fn question(&self, fingerprint: Fingerprint, token: HeaderValue) -> Question {
        let mut under_way = self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(question) = under_way.get(&fingerprint).and_then(WeakShared::upgrade)
            && question.peek().is_none()
        {
            return question;
        }
        under_way.retain(|_, question| question.upgrade().is_some());
        let inner = Arc::clone(&self.0);
        let ask = async move {
            let answer = Arc::clone(&inner).ask(token).await?;
            let mut answers = inner.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.keep(fingerprint, answer.clone(), Instant::now());
            Ok(answer.identity)
        };
        let question = ask.boxed().shared();
        if let Some(weak) = question.downgrade() {
            under_way.insert(fingerprint, weak);
        }
        question
    }
}

impl Inner {
    fn known(&self, fingerprint: &Fingerprint) -> Option<Believed> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(fingerprint, Instant::now(), self.clock.now()).cloned()
    }

    /// Asks Keystone, once more when it does not know our own token.
    async fn ask(self: Arc<Self>, token: HeaderValue) -> Result<Believed, Trouble> {
        let turn = tokio::time::timeout(TURN_TIMEOUT, self.turns.acquire());
        let Ok(Ok(_turn)) = turn.await else { return Err(Trouble::Busy) };
        // What was true when we asked may be false when the answer is here.
        let asked = Instant::now();
        let mut refused = None;
        for _ in 0..2 {
            let own = self.service.get(&self.wire, refused.as_ref()).await?;
            match self.wire.validate(&own, &token).await? {
                Verdict::Valid(valid) if valid.expires <= self.clock.now() => {
                    return Ok(Believed::invalid(asked, self.cache));
                }
                Verdict::Valid(valid) => {
                    return Ok(Believed {
                        identity: Some(Arc::new(valid.identity)),
                        until: asked + self.cache,
                        expires: Some(valid.expires),
                    });
                }
                Verdict::Invalid => return Ok(Believed::invalid(asked, self.cache)),
                Verdict::OwnTokenRefused => refused = Some(own),
            }
        }
        let text = "Keystone refuses the new token of the service user of `api.keystone`";
        Err(Trouble::Unavailable(text.into()))
    }
}

#[cfg(test)]
mod tests;
