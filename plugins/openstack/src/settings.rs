//! The configuration keys that the components share: who asks, where, and how patiently.

use std::time::Duration;

use rated_plugin::access::{Access, Secret, SecretSource, Server, basic_authorization};
use rated_plugin::{Error, Host, Result};
use serde::Deserialize;

use crate::exchange::Patience;
use crate::keystone::{Domain, Endpoint, Interface, Login, Name, Project, Session, User};

/// Attempts after the first that may be configured.
const RETRIES_MAX: u32 = 10;
/// Longest first delay that may be configured, milliseconds.
const RETRY_DELAY_MS_MAX: u64 = 60_000;

/// How Gnocchi and Keystone know who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AuthType {
    /// A user of Keystone with a password.
    #[default]
    Password,
    /// An application credential of Keystone.
    ApplicationCredential,
    /// Gnocchi's own: a user name, usually without a password.
    Basic,
    /// Nobody asks who asks.
    None,
}

/// The configuration keys of a component: those below and its own.
///
/// They are repeated for each component, because serde cannot both flatten one table into another
/// and refuse unknown keys.
macro_rules! settings {
    ($(#[$attribute:meta])* $name:ident {
        $($(#[$field_attribute:meta])* $field:ident: $type:ty,)*
    }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            #[serde(default)]
            auth_type: crate::settings::AuthType,
            auth_url: Option<String>,
            username: Option<String>,
            user_id: Option<String>,
            user_domain_name: Option<String>,
            user_domain_id: Option<String>,
            password: Option<rated_plugin::access::Secret>,
            password_file: Option<String>,
            project_name: Option<String>,
            project_id: Option<String>,
            project_domain_name: Option<String>,
            project_domain_id: Option<String>,
            system_scope: Option<String>,
            application_credential_id: Option<String>,
            application_credential_name: Option<String>,
            application_credential_secret: Option<rated_plugin::access::Secret>,
            application_credential_secret_file: Option<String>,
            ca_file: Option<String>,
            cert_file: Option<String>,
            key_file: Option<String>,
            timeout_secs: Option<u64>,
            body_size_max_mib: Option<u64>,
            retries_max: Option<u32>,
            retry_delay_ms: Option<u64>,
            $($(#[$field_attribute])* $field: $type,)*
        }

        impl $name {
            fn common(&self) -> crate::settings::Common<'_> {
                crate::settings::Common {
                    auth_type: self.auth_type,
                    auth_url: self.auth_url.as_deref(),
                    username: self.username.as_deref(),
                    user_id: self.user_id.as_deref(),
                    user_domain_name: self.user_domain_name.as_deref(),
                    user_domain_id: self.user_domain_id.as_deref(),
                    password: self.password.as_ref(),
                    password_file: self.password_file.as_deref(),
                    project_name: self.project_name.as_deref(),
                    project_id: self.project_id.as_deref(),
                    project_domain_name: self.project_domain_name.as_deref(),
                    project_domain_id: self.project_domain_id.as_deref(),
                    system_scope: self.system_scope.as_deref(),
                    application_credential_id: self.application_credential_id.as_deref(),
                    application_credential_name: self.application_credential_name.as_deref(),
                    application_credential_secret: self.application_credential_secret.as_ref(),
                    application_credential_secret_file: self
                        .application_credential_secret_file
                        .as_deref(),
                    ca_file: self.ca_file.as_deref(),
                    cert_file: self.cert_file.as_deref(),
                    key_file: self.key_file.as_deref(),
                    timeout_secs: self.timeout_secs,
                    body_size_max_mib: self.body_size_max_mib,
                    retries_max: self.retries_max,
                    retry_delay_ms: self.retry_delay_ms,
                }
            }
        }
    };
}
pub(crate) use settings;

/// The shared keys as they stand in the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Common<'a> {
    pub(crate) auth_type: AuthType,
    pub(crate) auth_url: Option<&'a str>,
    pub(crate) username: Option<&'a str>,
    pub(crate) user_id: Option<&'a str>,
    pub(crate) user_domain_name: Option<&'a str>,
    pub(crate) user_domain_id: Option<&'a str>,
    pub(crate) password: Option<&'a Secret>,
    pub(crate) password_file: Option<&'a str>,
    pub(crate) project_name: Option<&'a str>,
    pub(crate) project_id: Option<&'a str>,
    pub(crate) project_domain_name: Option<&'a str>,
    pub(crate) project_domain_id: Option<&'a str>,
    pub(crate) system_scope: Option<&'a str>,
    pub(crate) application_credential_id: Option<&'a str>,
    pub(crate) application_credential_name: Option<&'a str>,
    pub(crate) application_credential_secret: Option<&'a Secret>,
    pub(crate) application_credential_secret_file: Option<&'a str>,
    pub(crate) ca_file: Option<&'a str>,
    pub(crate) cert_file: Option<&'a str>,
    pub(crate) key_file: Option<&'a str>,
    pub(crate) timeout_secs: Option<u64>,
    pub(crate) body_size_max_mib: Option<u64>,
    pub(crate) retries_max: Option<u32>,
    pub(crate) retry_delay_ms: Option<u64>,
}

/// Where Gnocchi is, as far as the configuration says it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Where<'a> {
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) region_name: Option<&'a str>,
    pub(crate) interface: Interface,
}

/// How to ask Gnocchi.
#[derive(Debug)]
pub(crate) enum Way {
    /// With a token; the address from the service catalogue unless there is one here.
    Keystone { session: Box<Session>, endpoint: Endpoint, address: Option<Access> },
    /// With a fixed header, if any.
    Plain { address: Access, user: Option<BasicUser> },
}

/// Of Gnocchi's basic authentication.
#[derive(Debug)]
pub(crate) struct BasicUser {
    name: String,
    password: Option<SecretSource>,
}

impl BasicUser {
    /// The header's value; without a password as Gnocchi's own client sends it.
    pub(crate) fn authorization(&self) -> Result<String> {
        let password = match &self.password {
            Some(source) => source.read()?,
            None => Secret::new(""),
        };
        Ok(basic_authorization(&self.name, &password))
    }
}

impl Common<'_> {
    pub(crate) fn patience(&self) -> Result<Patience> {
        let retries = self.retries_max.unwrap_or(2);
        if retries > RETRIES_MAX {
            return Err(Error::invalid_config(format!(
                "`retries_max`: must be between 0 and {RETRIES_MAX}, got {retries}"
            )));
        }
        let delay_ms = self.retry_delay_ms.unwrap_or(100);
        if !(1..=RETRY_DELAY_MS_MAX).contains(&delay_ms) {
            return Err(Error::invalid_config(format!(
                "`retry_delay_ms`: must be between 1 and {RETRY_DELAY_MS_MAX}, got {delay_ms}"
            )));
        }
        Ok(Patience::new(retries, Duration::from_millis(delay_ms)))
    }

    fn server<'u>(&'u self, key: &'u str, url: &'u str) -> Result<Access> {
        Access::new(&Server {
            ca_file: self.ca_file,
            cert_file: self.cert_file,
            key_file: self.key_file,
            timeout_secs: self.timeout_secs,
            body_size_max_mib: self.body_size_max_mib,
            ..Server::at(key, url)
        })
    }

    /// How to ask Gnocchi.
    pub(crate) fn way(&self, host: Host, place: Where<'_>) -> Result<Way> {
        let address = place.endpoint.map(|url| self.server("endpoint", url)).transpose()?;
        match self.auth_type {
            AuthType::Password | AuthType::ApplicationCredential => Ok(Way::Keystone {
                session: Box::new(self.session(host)?),
                endpoint: Endpoint {
                    service_type: "metric",
                    region: place.region_name.map(str::to_owned),
                    interface: place.interface,
                },
                address,
            }),
            AuthType::Basic | AuthType::None => {
                self.refuse("auth_url", self.auth_url.is_some())?;
                self.refuse("region_name", place.region_name.is_some())?;
                let address = address.ok_or_else(|| {
                    Error::invalid_config("`endpoint`: is missing (hint: the address of Gnocchi)")
                })?;
                Ok(Way::Plain { address, user: self.basic_user()? })
            }
        }
    }

    fn basic_user(&self) -> Result<Option<BasicUser>> {
        self.refuse_keys_of_keystone()?;
        let password = SecretSource::of("password", self.password, self.password_file)?;
        password.as_ref().map_or(Ok(()), SecretSource::check)?;
        let name = self.username;
        if self.auth_type == AuthType::None {
            self.refuse("username", name.is_some())?;
            self.refuse("password", password.is_some())?;
            return Ok(None);
        }
        let name = name.ok_or_else(|| Error::invalid_config("`username`: is missing"))?;
        if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
            return Err(Error::invalid_config(
                "`username`: must not be empty, nor have a colon or control characters",
            ));
        }
        Ok(Some(BasicUser { name: name.to_owned(), password }))
    }

    /// How to ask Keystone.
    pub(crate) fn session(&self, host: Host) -> Result<Session> {
        let login = match self.auth_type {
            AuthType::Password => self.password_login()?,
            AuthType::ApplicationCredential => self.application_credential()?,
            AuthType::Basic | AuthType::None => {
                return Err(Error::invalid_config(
                    "`auth_type`: must be `password` or `application_credential` for Keystone",
                ));
            }
        };
        let url = self.auth_url.ok_or_else(|| {
            Error::invalid_config("`auth_url`: is missing (hint: the address of Keystone)")
        })?;
        let base = url.trim_end_matches('/');
        let base = base.strip_suffix("/v3").unwrap_or(base);
        let keystone = self.server("auth_url", base)?;
        Ok(Session::new(host, keystone, login, self.patience()?))
    }

    fn password_login(&self) -> Result<Login> {
        self.refuse("application_credential_id", self.application_credential_id.is_some())?;
        self.refuse("application_credential_name", self.application_credential_name.is_some())?;
        self.refuse(
            "application_credential_secret",
            self.application_credential_secret.is_some()
                || self.application_credential_secret_file.is_some(),
        )?;
        let password = SecretSource::of("password", self.password, self.password_file)?
            .ok_or_else(|| Error::invalid_config("`password` or `password_file`: is missing"))?;
        password.check()?;
        Ok(Login::Password { user: self.user()?, password, project: self.project()? })
    }

    fn application_credential(&self) -> Result<Login> {
        self.refuse("password", self.password.is_some() || self.password_file.is_some())?;
        for (key, is_set) in [
            ("project_name", self.project_name.is_some()),
            ("project_id", self.project_id.is_some()),
            ("system_scope", self.system_scope.is_some()),
        ] {
            // The credential belongs to one project.
            self.refuse(key, is_set)?;
        }
        let secret = SecretSource::of(
            "application_credential_secret",
            self.application_credential_secret,
            self.application_credential_secret_file,
        )?
        .ok_or_else(|| Error::invalid_config("`application_credential_secret`: is missing"))?;
        secret.check()?;
        let name = match (self.application_credential_id, self.application_credential_name) {
            (Some(id), None) => Name::Id(id.to_owned()),
            (None, Some(name)) => Name::Named { name: name.to_owned(), within: self.user()? },
            _ => {
                return Err(Error::invalid_config(
                    "one of `application_credential_id` and `application_credential_name`: \
                     must be set",
                ));
            }
        };
        Ok(Login::ApplicationCredential { name, secret })
    }

    fn user(&self) -> Result<User> {
        let domain = || domain("user", self.user_domain_name, self.user_domain_id);
        named("username", self.username, "user_id", self.user_id, domain)
    }

    fn project(&self) -> Result<Project> {
        if let Some(system) = self.system_scope {
            if system != "all" {
                return Err(Error::invalid_config("`system_scope`: must be `all`"));
            }
            self.refuse("project_name", self.project_name.is_some())?;
            self.refuse("project_id", self.project_id.is_some())?;
            return Ok(Project::System);
        }
        let domain = || domain("project", self.project_domain_name, self.project_domain_id);
        let project =
            named("project_name", self.project_name, "project_id", self.project_id, domain)?;
        Ok(Project::One(project))
    }

    fn refuse_keys_of_keystone(&self) -> Result<()> {
        for (key, is_set) in [
            ("user_id", self.user_id.is_some()),
            ("project_name", self.project_name.is_some()),
            ("project_id", self.project_id.is_some()),
            ("system_scope", self.system_scope.is_some()),
            ("application_credential_id", self.application_credential_id.is_some()),
            ("application_credential_name", self.application_credential_name.is_some()),
            (
                "application_credential_secret",
                self.application_credential_secret.is_some()
                    || self.application_credential_secret_file.is_some(),
            ),
        ] {
            self.refuse(key, is_set)?;
        }
        Ok(())
    }

    /// A key that does nothing is a mistake.
    fn refuse(&self, key: &str, is_set: bool) -> Result<()> {
        if !is_set {
            return Ok(());
        }
        let auth_type = match self.auth_type {
            AuthType::Password => "password",
            AuthType::ApplicationCredential => "application_credential",
            AuthType::Basic => "basic",
            AuthType::None => "none",
        };
        Err(Error::invalid_config(format!("`{key}`: has no use here with `{auth_type}`")))
    }
}

/// By id, or by name and what the name stands in.
fn named<W>(
    name_key: &str,
    name: Option<&str>,
    id_key: &str,
    id: Option<&str>,
    within: impl FnOnce() -> Result<W>,
) -> Result<Name<W>> {
    match (name, id) {
        (None, Some(id)) => Ok(Name::Id(id.to_owned())),
        (Some(name), None) => Ok(Name::Named { name: name.to_owned(), within: within()? }),
        (None, None) => {
            Err(Error::invalid_config(format!("one of `{name_key}` and `{id_key}`: must be set")))
        }
        (Some(_), Some(_)) => {
            Err(Error::invalid_config(format!("`{name_key}` and `{id_key}` exclude each other")))
        }
    }
}

/// Keystone's own default domain when nothing is set.
fn domain(of: &str, name: Option<&str>, id: Option<&str>) -> Result<Domain> {
    match (name, id) {
        (None, None) => Ok(Domain::Id("default".to_owned())),
        (None, Some(id)) => Ok(Domain::Id(id.to_owned())),
        (Some(name), None) => Ok(Domain::Name(name.to_owned())),
        (Some(_), Some(_)) => Err(Error::invalid_config(format!(
            "`{of}_domain_name` and `{of}_domain_id` exclude each other"
        ))),
    }
}
