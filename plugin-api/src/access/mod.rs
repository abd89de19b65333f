//! How a plugin reaches a server: what its configuration says, checked once, and secrets that are
//! never shown.
//!
//! A component takes the keys it needs into its own configuration, under the names that every
//! plugin of `rated` uses, and makes an [`Access`] of them in
//! [`Component::create`](crate::Component::create). Whatever it sends then has the right address,
//! certificates, limits and credentials:
//!
//! ```
//! use rated_plugin::access::{Access, Secret, Server};
//! use rated_plugin::{Call, Host, HttpRequest, Method, Result};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Settings {
//!     url: String,
//!     bearer_token: Option<Secret>,
//!     bearer_token_file: Option<String>,
//!     ca_file: Option<String>,
//!     timeout_secs: Option<u64>,
//! }
//!
//! fn access(settings: &Settings) -> Result<Access> {
//!     Access::new(&Server {
//!         bearer_token: settings.bearer_token.as_ref(),
//!         bearer_token_file: settings.bearer_token_file.as_deref(),
//!         ca_file: settings.ca_file.as_deref(),
//!         timeout_secs: settings.timeout_secs,
//!         ..Server::at("url", &settings.url)
//!     })
//! }
//!
//! fn ask(host: &Host, call: &Call, access: &Access) -> Result<Vec<u8>> {
//!     let request = HttpRequest {
//!         method: Method::Get,
//!         url: access.url("/usage?of=everybody"),
//!         headers: access.headers()?,
//!         body: Vec::new(),
//!         options: access.options().clone(),
//!     };
//!     Ok(host.http(call, &request)?.body)
//! }
//! ```
//!
//! A password or token is never shown: not in `Debug`, not in an error. Files that hold one are
//! read again each time it is needed, because tokens are renewed under way.
//!
//! A server that says how long it wants to be left alone is left alone: see [`Pause`].
//!
//! This module sends nothing and keeps no connections: that is for
//! [`Host::http`](crate::Host::http).

mod pause;
mod secret;
mod server;
mod text;

pub use pause::{Pause, RETRY_AFTER_MAX, WAIT_MAX};
pub use secret::{Secret, SecretSource, basic_authorization};
pub use server::{Access, BODY_SIZE_MAX_MIB, Server, TIMEOUT_SECS_MAX};
pub use text::{excerpt, form};
