//! The built daemon driven from outside, with real servers.
//!
//! A test starts what it needs on free ports of the loopback interface, in a folder of its own, and
//! everything ends with the test. The daemon is the binary of this build; nothing of its code is
//! linked in, so what a test expects it has worked out by itself.
#![forbid(unsafe_code)]

mod api_server;
mod bill;
mod clock;
mod daemon;
mod exact;
mod example;
mod fake_source;
mod gnocchi;
mod http;
mod keystone;
mod keystone_api;
mod postgres;
mod power;
mod process;
mod prometheus;
mod python;
mod spoiler;
mod steady;
mod template;
mod usage;

pub use api_server::*;
pub use bill::*;
pub use clock::*;
pub use daemon::*;
pub use exact::*;
pub use example::*;
pub use fake_source::*;
pub use gnocchi::*;
pub use http::*;
pub use keystone::*;
pub use keystone_api::*;
pub(crate) use postgres::{Postgres, let_everybody_through};
pub use power::*;
pub use process::*;
pub use prometheus::*;
pub use python::*;
pub use spoiler::*;
pub use steady::*;
pub(crate) use template::copy_template;
pub use usage::*;
