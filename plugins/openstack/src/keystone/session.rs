//! The token that all threads of an instance share.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rated_plugin::access::Access;
use rated_plugin::{Call, Error, Host, HttpRequest, HttpResponse, Method, Result, Status};

use super::login::Login;
use super::token::Token;
use crate::answer;
use crate::exchange::{Patience, hide, placed};

/// How long Keystone is left alone after it has refused our user: it may lock the account of a user
/// who comes too often with a wrong password.
const REFUSED_SECS: i64 = 60;
/// How long a thread waits for another's token before it looks whether its call is cancelled.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// A way to Keystone with the token in use.
#[derive(Debug)]
pub(crate) struct Session {
    host: Host,
    keystone: Access,
    login: Login,
    patience: Patience,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Arc<Token>>,
    /// A thread is asking for a token.
    is_asked: bool,
    /// Counts the times that a token was asked for and the answer is there.
    round: u64,
    /// Of the last round.
    failure: Option<Error>,
    /// Until then the failure stands.
    refused_until: Option<DateTime<Utc>>,
}

impl Session {
    pub(crate) fn new(host: Host, keystone: Access, login: Login, patience: Patience) -> Session {
        Session {
            host,
            keystone,
            login,
            patience,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// A token that is still good for a while.
    pub(crate) fn token(&self, call: &Call) -> Result<Arc<Token>> {
        self.other_than(call, None)
    }

    /// A token in place of one that a server has refused. Whoever comes second gets what the first
    /// one got.
    pub(crate) fn renewed(&self, call: &Call, refused: &Arc<Token>) -> Result<Arc<Token>> {
        self.other_than(call, Some(refused))
    }

    fn other_than(&self, call: &Call, refused: Option<&Arc<Token>>) -> Result<Arc<Token>> {
        let mut state = self.lock();
        let mut awaited = None;
        loop {
            let is_good = |token: &&Arc<Token>| {
                refused.is_none_or(|refused| !Arc::ptr_eq(token, refused))
                    && token.is_fresh(self.host.now())
            };
            if let Some(token) = state.token.as_ref().filter(is_good) {
                return Ok(token.clone());
            }
            let is_ours = awaited.is_some_and(|round| state.round > round)
                || state.refused_until.is_some_and(|until| self.host.now() < until);
            if let Some(failure) = state.failure.as_ref().filter(|_| is_ours) {
                return Err(failure.clone());
            }
            if !state.is_asked {
                break;
            }
            awaited.get_or_insert(state.round);
            let waited = self.changed.wait_timeout(state, WAIT_MAX);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            call.check_cancelled()?;
        }
        state.is_asked = true;
        drop(state);
        // Also when asking panics.
        let mut asking = Asking { session: self, outcome: None };
        let outcome = self.ask(call);
        asking.outcome = Some(outcome.clone());
        outcome
    }

    fn ask(&self, call: &Call) -> Result<Arc<Token>> {
        let asked_at = self.host.now();
        let mut request = self.request(Method::Post, "/v3/auth/tokens")?;
        request.headers.insert("content-type".to_owned(), "application/json".to_owned());
        request.body = self.login.body()?.to_string().into_bytes();
        let mut response = self.send(call, &request)?;
        if response.status != 201 {
            hide(&mut response, self.login.secret()?.expose());
        }
        let token = match response.status {
            201 => Token::read(&response, asked_at),
            _ => Err(answer::refusal(&response)),
        };
        token.map(Arc::new).map_err(|error| self.placed(error))
    }

    /// A request to Keystone with a token; renewed once if Keystone does not take it.
    pub(crate) fn get(&self, call: &Call, path: &str) -> Result<HttpResponse> {
        let token = self.token(call)?;
        let response = self.get_with(call, path, &token)?;
        if response.status != 401 {
            return Ok(response);
        }
        let token = self.renewed(call, &token)?;
        self.get_with(call, path, &token)
    }

    fn get_with(&self, call: &Call, path: &str, token: &Token) -> Result<HttpResponse> {
        let mut request = self.request(Method::Get, path)?;
        request.headers.insert("x-auth-token".to_owned(), token.id.expose().to_owned());
        self.send(call, &request)
    }

    fn request(&self, method: Method, path: &str) -> Result<HttpRequest> {
        Ok(HttpRequest {
            method,
            url: self.keystone.url(path),
            headers: self.keystone.headers()?,
            body: Vec::new(),
            options: self.keystone.options().clone(),
        })
    }

    fn send(&self, call: &Call, request: &HttpRequest) -> Result<HttpResponse> {
        self.patience.send(&self.host, call, request).map_err(|error| self.placed(error))
    }

    /// The way to a service that Keystone knows.
    pub(crate) fn way_to(&self, token: &Token, wanted: &super::Endpoint) -> Result<Access> {
        let located = |error| self.placed(error);
        let url = token.catalogue.address(wanted).map_err(located)?;
        let url_key = format!("endpoint of `{}` in the service catalogue", wanted.service_type);
        self.keystone.elsewhere(&url_key, url).map_err(located)
    }

    /// The error with Keystone's address in front.
    pub(crate) fn placed(&self, error: Error) -> Error {
        if error.status == Status::Cancelled {
            return error;
        }
        placed(&self.keystone.url(""), error)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread asks for a token; the others are told when it is done.
struct Asking<'s> {
    session: &'s Session,
    outcome: Option<Result<Arc<Token>>>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut state = self.session.lock();
        state.is_asked = false;
        match self.outcome.take() {
            Some(Ok(token)) => {
                state.round += 1;
                state.token = Some(token);
                state.failure = None;
                state.refused_until = None;
            }
            // Its own call was cancelled, which says nothing to the others: the next one asks.
            Some(Err(error)) if error.status == Status::Cancelled => {}
            Some(Err(error)) => {
                state.round += 1;
                state.refused_until = (error.status == Status::Unauthorized)
                    .then(|| self.session.host.now() + TimeDelta::seconds(REFUSED_SECS));
                state.failure = Some(error);
            }
            None => {}
        }
        drop(state);
        self.session.changed.notify_all();
    }
}
