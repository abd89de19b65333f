use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use warp::http::HeaderValue;

use super::Trouble;
use super::wire::{Issued, Wire};
use crate::clock::Clock;
use crate::config::{KeystoneDomain, KeystoneLogin, KeystoneName};

/// How long before its end a token is renewed, if it lives long enough.
const RENEWAL_SECS: i64 = 60;
/// How long nobody tries again after a login that failed.
const PAUSE: Duration = Duration::from_secs(2);

/// The daemon's own token, with which it may ask about others.
pub(super) struct ServiceToken {
    login: KeystoneLogin,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Held>,
    /// The last login that failed.
    failed: Option<(Instant, Trouble)>,
}

struct Held {
    token: HeaderValue,
    renew: DateTime<Utc>,
}

impl ServiceToken {
    pub(super) fn new(login: KeystoneLogin, clock: Arc<dyn Clock>) -> ServiceToken {
        ServiceToken { login, clock, state: Mutex::default() }
    }

    /// One that Keystone has not `refused`. Who comes while it is renewed waits for it.
    pub(super) async fn get(
        &self,
        wire: &Wire,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Trouble> {
        let mut state = self.state.lock().await;
        if let Some(held) = &state.token
            && refused != Some(&held.token)
            && self.clock.now() < held.renew
        {
            return Ok(held.token.clone());
        }
        state.token = None;
        if let Some((at, trouble)) = &state.failed
            && at.elapsed() < PAUSE
        {
            return Err(trouble.clone());
        }
        let issued = match self.body() {
            Ok(body) => wire.log_in(&body).await,
            Err(trouble) => Err(trouble),
        };
        match issued {
            Ok(issued) => {
                let renew = renewal(&issued, self.clock.now());
                let token = issued.token;
                state.failed = None;
                state.token = Some(Held { token: token.clone(), renew });
                Ok(token)
            }
            Err(trouble) => {
                state.failed = Some((Instant::now(), trouble.clone()));
                Err(trouble)
            }
        }
    }

    /// What is sent to log in; it holds the password.
    fn body(&self) -> Result<Value, Trouble> {
        let unreadable = |error: rated_plugin::Error| {
            let log = format!("the secret of `api.keystone` cannot be read: {}", error.message);
            Trouble::Unavailable(log.into())
        };
        match &self.login {
            KeystoneLogin::Password { user, project, password } => {
                let mut user = name_json(user);
                user["password"] = Value::from(password.read().map_err(unreadable)?.expose());
                let identity = json!({"methods": ["password"], "password": {"user": user}});
                let scope = json!({"project": name_json(project)});
                Ok(json!({"auth": {"identity": identity, "scope": scope}}))
            }
            KeystoneLogin::ApplicationCredential { id, secret } => {
                let secret = secret.read().map_err(unreadable)?;
                let credential = json!({"id": id, "secret": secret.expose()});
                let identity = json!({
                    "methods": ["application_credential"],
                    "application_credential": credential,
                });
                Ok(json!({"auth": {"identity": identity}}))
            }
        }
    }
}

fn name_json(name: &KeystoneName) -> Value {
    match name {
        KeystoneName::Id(id) => json!({"id": id}),
        KeystoneName::Name { name, domain: KeystoneDomain::Id(domain) } => {
            json!({"name": name, "domain": {"id": domain}})
        }
        KeystoneName::Name { name, domain: KeystoneDomain::Name(domain) } => {
            json!({"name": name, "domain": {"name": domain}})
        }
    }
}

/// A minute before the end, or at half of a short life.
fn renewal(issued: &Issued, now: DateTime<Utc>) -> DateTime<Utc> {
    let life = issued.expires - now;
    issued.expires - TimeDelta::seconds(RENEWAL_SECS).min(life / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_before_they_end() {
        let now: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let renewed_after = |life: i64| {
            let expires = now + TimeDelta::seconds(life);
            let issued = Issued { token: HeaderValue::from_static("t"), expires };
            (renewal(&issued, now) - now).num_seconds()
        };

        assert_eq!(renewed_after(3600), 3540);
        assert_eq!(renewed_after(60), 30);
        assert_eq!(renewed_after(0), 0);
    }
}
