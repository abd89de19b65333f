//! The REST API: `CloudKitty`'s v1 and v2, and the daemon's own health.
//!
//! Every request goes one way: [`serve`] reads it within limits, the router finds its handler in
//! one table, the handler answers a document or a failure, and one place turns that into the bytes
//! that the API version and the caller's `Accept` ask for. A failure has two texts: a true and
//! harmless one for the caller, a complete one for the log.
//!
//! A store that fails is a 503, never a zero. A panic ends one request and nothing else.
//!
//! This module does not add figures up (that is `report`) and does not know how rules look (that is
//! the modules).

mod answer;
mod authentication;
mod backend;
mod body;
mod call;
mod caller;
mod connections;
mod context;
mod cors;
mod csv;
mod dates;
mod docs;
mod etag;
mod failure;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod host;
mod kept;
mod negotiate;
mod openapi;
mod outgoing;
mod policy;
mod python;
mod remembered;
mod root;
mod router;
mod routes;
mod serve;
#[cfg(any(test, fuzzing))]
mod tests;
mod tls;
mod turns;
mod v1;
mod v2;
mod xml;

pub use authentication::{Authentication, AuthenticationError};
pub use backend::*;
pub use context::{BLOCKING_CALLS_MAX, Context, LONG_CALLS_MAX, Parts};
pub use kept::FileError;
pub use policy::Policy;
pub use serve::{REQUESTS_IN_FLIGHT_MAX, STOP_TIMEOUT, serve};
pub use tls::Tls;
pub(crate) use v2::ledger::show_finding;
