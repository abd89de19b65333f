//! Requests to Gnocchi, by whatever way the configuration names.

use std::collections::BTreeMap;
use std::time::Duration;

use rated_plugin::access::Access;
use rated_plugin::{Call, Error, Host, HttpRequest, HttpResponse, Method, Result, Status};
use serde_json::Value;

use crate::answer;
use crate::exchange::{Patience, placed};
use crate::keystone::{Session, Token};
use crate::settings::Way;

/// What is left of a call's time when a long question is given up, so that something can be done
/// about it: a quarter, at most this.
const RESERVE_MAX: Duration = Duration::from_secs(10);

/// Gnocchi and the way there.
#[derive(Debug)]
pub(crate) struct Gnocchi {
    host: Host,
    way: Way,
    patience: Patience,
}

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// As configured, but not until the very end of the call.
    Long,
    /// At most so long.
    AtMost(Duration),
}

impl Gnocchi {
    pub(crate) fn new(host: Host, way: Way, patience: Patience) -> Gnocchi {
        Gnocchi { host, way, patience }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn get(&self, call: &Call, path: &str, wait: Wait) -> Result<HttpResponse> {
        self.ask(call, &Question { method: Method::Get, path, body: Vec::new(), wait })
    }

    pub(crate) fn post(&self, call: &Call, path: &str, body: &Value) -> Result<HttpResponse> {
        let body = body.to_string().into_bytes();
        self.ask(call, &Question { method: Method::Post, path, body, wait: Wait::Long })
    }

    /// Does it answer, and may we ask? What Gnocchi can do is little to ask for, and everybody who
    /// is known may.
    pub(crate) fn check(&self, call: &Call) -> Result<()> {
        self.answers(call, Wait::Long)
    }

    pub(crate) fn answers(&self, call: &Call, wait: Wait) -> Result<()> {
        #[derive(serde::Deserialize)]
        struct Capabilities {
            #[expect(dead_code, reason = "that it is there shows that Gnocchi answers")]
            aggregation_methods: Vec<String>,
        }
        let response = self.get(call, "/v1/capabilities/", wait)?;
        answer::json::<Capabilities>(&response).map(drop).map_err(|error| self.placed(error))
    }

    fn ask(&self, call: &Call, question: &Question<'_>) -> Result<HttpResponse> {
        let session = match &self.way {
            Way::Plain { address, user } => {
                let mut headers = address.headers()?;
                if let Some(user) = user {
                    headers.insert("authorization".to_owned(), user.authorization()?);
                }
                return self.send(call, address, headers, question);
            }
            Way::Keystone { session, .. } => session,
        };
        let token = session.token(call)?;
        let response = self.ask_as(call, session, &token, question)?;
        if response.status != 401 {
            return Ok(response);
        }
        // It may have been revoked.
        let token = session.renewed(call, &token)?;
        self.ask_as(call, session, &token, question)
    }

    fn ask_as(
        &self,
        call: &Call,
        session: &Session,
        token: &Token,
        question: &Question<'_>,
    ) -> Result<HttpResponse> {
        let address = match &self.way {
            Way::Plain { address, .. } | Way::Keystone { address: Some(address), .. } => {
                address.clone()
            }
            Way::Keystone { endpoint, address: None, .. } => session.way_to(token, endpoint)?,
        };
        let mut headers = address.headers()?;
        headers.insert("x-auth-token".to_owned(), token.id.expose().to_owned());
        self.send(call, &address, headers, question)
    }

    fn send(
        &self,
        call: &Call,
        address: &Access,
        mut headers: BTreeMap<String, String>,
        question: &Question<'_>,
    ) -> Result<HttpResponse> {
        if !question.body.is_empty() {
            headers.insert("content-type".to_owned(), "application/json".to_owned());
        }
        let mut options = address.options().clone();
        options.timeout_ms = Some(self.timeout_ms(call, address, question.wait));
        let request = HttpRequest {
            method: question.method,
            // Catalogues name it with and without its version.
            url: format!("{}{}", root(address), question.path),
            headers,
            body: question.body.clone(),
            options,
        };
        self.patience.send(&self.host, call, &request).map_err(|error| {
            // An answer that is too long may fit when fewer scopes are asked for.
            let split = error.split || error.status == Status::BadData;
            self.placed(Error { split, ..error })
        })
    }

    fn timeout_ms(&self, call: &Call, address: &Access, wait: Wait) -> u64 {
        let configured = Duration::from_secs(address.timeout_secs());
        let timeout = match (wait, call.time_left(&self.host)) {
            (Wait::AtMost(most), _) => configured.min(most),
            (Wait::Long, None) => configured,
            (Wait::Long, Some(left)) => {
                configured.min(left.saturating_sub((left / 4).min(RESERVE_MAX)))
            }
        };
        u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// The error with the address in front, as far as it is known.
    pub(crate) fn placed(&self, error: Error) -> Error {
        if error.status == Status::Cancelled {
            return error;
        }
        match &self.way {
            Way::Plain { address, .. } | Way::Keystone { address: Some(address), .. } => {
                placed(&root(address), error)
            }
            Way::Keystone { .. } => {
                Error { message: format!("Gnocchi: {}", error.message), ..error }
            }
        }
    }
}

struct Question<'q> {
    method: Method,
    path: &'q str,
    body: Vec<u8>,
    wait: Wait,
}

fn root(address: &Access) -> String {
    let url = address.url("");
    url.strip_suffix("/v1").map_or(url.clone(), str::to_owned)
}
