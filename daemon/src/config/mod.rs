//! `rated.toml` and `metrics.toml`: read, checked, explained.
//!
//! [`Config::load`] gives a configuration in which every value is within its bounds, or every problem of both files at
//! once, each with its file, line and field. No value of a plugin's section stands in an error or in a `Debug` output:
//! it may be a password.
//!
//! This module does not know what a plugin accepts; `rated check` asks the plugins themselves.

mod settings;

pub use settings::*;
