//! What Keystone is told for a token.

use rated_plugin::Result;
use rated_plugin::access::{Secret, SecretSource};
use serde_json::{Value, json};

/// A thing that has an id, and a name that is unique within another thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name<W> {
    Id(String),
    Named { name: String, within: W },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Domain {
    Id(String),
    Name(String),
}

pub(crate) type User = Name<Domain>;

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Project {
    One(Name<Domain>),
    /// The whole deployment.
    System,
}

/// How we prove who we are.
#[derive(Debug, Clone)]
pub(crate) enum Login {
    Password { user: User, password: SecretSource, project: Project },
    ApplicationCredential { name: Name<User>, secret: SecretSource },
}

impl Login {
    pub(crate) fn secret(&self) -> Result<Secret> {
        let (Login::Password { password: secret, .. }
        | Login::ApplicationCredential { secret, .. }) = self;
        secret.read()
    }

    /// The body of `POST /v3/auth/tokens`. Holds the secret.
    pub(crate) fn body(&self) -> Result<Value> {
        Ok(match self {
            Login::Password { user, password, project } => {
                let mut user = user.json();
                user["password"] = Value::from(password.read()?.expose());
                let identity = json!({"methods": ["password"], "password": {"user": user}});
                let scope = match project {
                    Project::One(project) => json!({"project": project.json()}),
                    Project::System => json!({"system": {"all": true}}),
                };
                json!({"auth": {"identity": identity, "scope": scope}})
            }
            Login::ApplicationCredential { name, secret } => {
                let mut credential = match name {
                    Name::Id(id) => json!({"id": id}),
                    Name::Named { name, within } => json!({"name": name, "user": within.json()}),
                };
                credential["secret"] = Value::from(secret.read()?.expose());
                json!({"auth": {"identity": {
                    "methods": ["application_credential"],
                    "application_credential": credential,
                }}})
            }
        })
    }
}

impl Name<Domain> {
    fn json(&self) -> Value {
        match self {
            Name::Id(id) => json!({"id": id}),
            Name::Named { name, within: Domain::Id(id) } => {
                json!({"name": name, "domain": {"id": id}})
            }
            Name::Named { name, within: Domain::Name(domain) } => {
                json!({"name": name, "domain": {"name": domain}})
            }
        }
    }
}
