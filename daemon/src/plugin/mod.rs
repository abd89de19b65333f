//! The host side of the plugin interface: find, check, load, call, poison, reload.
//!
//! Nothing that comes back is trusted; a library is never unloaded; a plugin's failure, slowness or
//! panic touches nothing but its own call.
//!
//! The road of a library: `find` lists files, `file` reads one and keeps a private copy, `elf`
//! looks at it, `load` maps it, `check` reads its tables, `generation` makes its instances, `host`
//! keeps the generation in use and `reload` changes it. The road of a call: `collector`, `fetcher`
//! and `module` say what is wanted, `slot` decides which instance gets it (`standing`) and what
//! follows (`health`), `pool` runs it and gives it up when it does not end, `engine` brings it to
//! where the code is: through its tables (`direct`), or to a process of its own (`process`).
//! `batches` and `validate` check what comes back, and `host_api` answers what the plugin asks
//! meanwhile. Who rates again what was rated does so on instances of its own (`kept`,
//! `slot::Duty`).
//!
//! This module does not know what is collected or how it is rated.
#![expect(
    unsafe_code,
    reason = "the interface is made of C tables; each use says who keeps which promise"
)]

mod backup;
mod batches;
mod call;
mod check;
mod collector;
mod config;
mod direct;
mod elf;
mod engine;
mod error;
mod fetcher;
mod ffi;
mod file;
mod find;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod generation;
mod health;
mod host;
mod host_api;
mod inspect;
mod instance;
mod kept;
mod library;
mod load;
mod module;
mod paths;
mod pool;
mod process;
mod reload;
mod slot;
mod standing;
mod turns;
mod validate;

pub use backup::KeptLibrary;
pub use check::ABI;
pub use collector::{COLLECT_ROWS_MAX, Collector};
pub use config::{HostServices, PluginConfig};
pub use error::{
    AbiVersion, CallError, CopyError, KeysError, LoadError, LoadErrorKind, PluginHostError,
    Refusal, RefusedSubject,
};
pub use fetcher::{Fetcher, SCOPES_MAX};
pub use generation::{Checked, Generation};
pub use host::{GENERATIONS_MAX, PluginHost};
pub use inspect::{Inspected, Inspection, inspect, inspect_file};
pub use library::{ComponentInfo, Kind, LibraryInfo};
pub use module::{Module, RESPONSE_SIZE_MAX, Rater};
pub use paths::PathMatch;
pub use process::{RUNNER_COMMAND, RunnerError, run as run_runner};
pub use reload::ReloadReport;

pub use crate::config::{InstanceConfig, Isolation, LibraryConfig};
