//! Tests of a plugin without a daemon.
//!
//! [`FakeHost`] is a host in memory. [`TestCollector`], [`TestFetcher`] and [`TestModule`] make an
//! instance of a component and call it through its own table, as the daemon does: what a test sees
//! has been through the guard and through the Arrow C Data Interface, and was validated in full.
//!
//! ```
//! use rated_plugin::testing::{FakeHost, TestCollector};
//! use rated_plugin::*;
//!
//! /// The body of an answer is the quantity.
//! struct Meter(Host);
//! # #[derive(serde::Deserialize)]
//! # #[serde(deny_unknown_fields)]
//! # struct Settings {}
//! # impl Component for Meter {
//! #     const NAME: &'static str = "meter";
//! #     const SUMMARY: &'static str = "Asks a meter";
//! #     const SAMPLE_CONFIG: &'static str = "";
//! #     type Config = Settings;
//! #     fn create(_: Settings, host: Host) -> Result<Meter> { Ok(Meter(host)) }
//! # }
//! impl Collector for Meter {
//!     fn collect(&self, call: &Call, _: &CollectRequest) -> Result<Batches> {
//!         let answer = self.0.http(call, &HttpRequest::get("http://meter.test/"))?;
//!         let text = String::from_utf8_lossy(&answer.body);
//!         let qty = text.parse().map_err(|_| Error::bad_data(format!("`{text}` is no number")))?;
//!         let mut rows = UsageBuilder::new::<&str>(&[], &[]);
//!         rows.push("alice", qty, &[])?;
//!         Ok(Batches::one(rows.finish()?))
//!     }
//! }
//!
//! let host = FakeHost::new();
//! let meter = TestCollector::new::<Meter>(&host, "")?;
//! let request = CollectRequest {
//!     metric: MetricDefinition::new("power"),
//!     scope_key: "owner".to_owned(),
//!     scopes: vec!["alice".to_owned()],
//!     begin: host.now(),
//!     end: host.now() + std::time::Duration::from_hours(1),
//! };
//!
//! host.answer_body(200, "12.5");
//! let batches = meter.collect(&request)?;
//! assert_eq!(UsageBatch::new(&batches[0])?.qty_at(0), Decimal::new(125, 1));
//!
//! host.answer_body(200, "<html>");
//! assert_eq!(meter.collect(&request).unwrap_err().status, Status::BadData);
//! # Ok::<(), rated_plugin::Error>(())
//! ```

mod conformance;
mod drive;
mod fake_host;
mod replay;

pub use conformance::{Check, Outcome, check_plugin, conformance};
pub use drive::{TestCollector, TestFetcher, TestModule, TestRater, config_json, round_trip};
pub(crate) use fake_host::{Cancellation, Shared};
pub use fake_host::{FakeHost, Logged};
pub use replay::replay;
