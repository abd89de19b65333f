//! Tests of a plugin without a daemon.
//!
//! [`FakeHost`] is a host in memory. [`TestCollector`], [`TestFetcher`] and [`TestModule`] make an
//! instance of a component and call it through its own table, as the daemon does: what a test sees
//! has been through the guard and through the Arrow C Data Interface, and was validated in full.

mod conformance;
mod drive;
mod fake_host;

pub use conformance::{Check, Outcome, check_plugin, conformance};
pub use drive::{TestCollector, TestFetcher, TestModule, TestRater, config_json};
pub(crate) use fake_host::{Cancellation, Shared};
pub use fake_host::{FakeHost, Logged};
