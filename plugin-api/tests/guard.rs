//! No panic crosses the interface, and what is left of it is told apart from an answer.
#![forbid(unsafe_code)]

use std::sync::Arc;

use arrow_schema::Schema;
use rated_plugin::testing::{FakeHost, TestCollector, TestModule};
use rated_plugin::{
    AsOf, Batches, Call, CollectRequest, Collector, Component, Decimal, Error, Host,
    MetricDefinition, PriceBatch, Purpose, RateRequest, Rater, RatingModule, RecordBatch, Request,
    Response, Result, Status, UsageBatch, UsageBuilder,
};
use serde::Deserialize;

/// Panics where its configuration says.
struct Fragile {
    at: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Where {
    panic_in: String,
}

impl Fragile {
    fn reach(&self, place: &str) {
        assert!(self.at != place, "out of paper in {place}");
    }
}

impl Component for Fragile {
    const NAME: &'static str = "fragile";
    const SUMMARY: &'static str = "Panics where it is told to";
    const SAMPLE_CONFIG: &'static str = "panic_in = \"nowhere\"";
    type Config = Where;

    fn create(config: Where, _: Host) -> Result<Fragile> {
        let fragile = Fragile { at: config.panic_in };
        fragile.reach("create");
        Ok(fragile)
    }

    fn check(&self, _: &Call) -> Result<()> {
        self.reach("check");
        if self.at == "payload" {
            std::panic::panic_any(PanicsAgain);
        }
        Ok(())
    }
}

/// A payload whose destructor panics with another of its kind.
struct PanicsAgain;

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            std::panic::panic_any(PanicsAgain);
        }
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.reach("drop");
        }
    }
}

impl Collector for Fragile {
    fn collect(&self, _: &Call, _: &CollectRequest) -> Result<Batches> {
        self.reach("collect");
        let at = self.at.clone();
        let mut count = 0;
        Ok(Batches::stream(
            rows(1).schema(),
            std::iter::from_fn(move || {
                count += 1;
                assert!(at != "next" || count < 2, "out of paper in next");
                match at.as_str() {
                    "error" if count == 2 => Some(Err(Error::unavailable("the line is cut"))),
                    "end" if count == 2 => Some(Err(Error::new(Status::End, "not an end"))),
                    "schema" if count == 2 => Some(Ok(strange_rows())),
                    _ => (count < 4).then(|| Ok(rows(1))),
                }
            }),
        ))
    }
}

impl RatingModule for Fragile {
    type Rater = FragileRater;

    fn prepare(&self, _: &Call, _: AsOf) -> Result<FragileRater> {
        self.reach("prepare");
        Ok(FragileRater { fragile: Fragile { at: self.at.replace("drop", "nowhere") } })
    }

    fn handle(&self, _: &Call, _: &Request) -> Result<Response> {
        self.reach("handle");
        Ok(Response::not_found())
    }
}

struct FragileRater {
    fragile: Fragile,
}

impl Rater for FragileRater {
    fn rate(&self, _: &Call, _: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
        self.fragile.reach("rate");
        PriceBatch::unchanged(&UsageBatch::new(usage)?)
    }
}

impl Drop for FragileRater {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.fragile.reach("rater drop");
        }
    }
}

fn rows(count: usize) -> RecordBatch {
    let mut rows = UsageBuilder::new::<&str>(&[], &[]);
    for _ in 0..count {
        rows.push("scope", Decimal::ONE, &[]).expect("fits");
    }
    rows.finish().expect("fits")
}

fn strange_rows() -> RecordBatch {
    RecordBatch::new_empty(Arc::new(Schema::empty()))
}

fn config(place: &str) -> String {
    format!("panic_in = \"{place}\"")
}

fn collect(place: &str) -> Result<Vec<RecordBatch>> {
    let host = FakeHost::new();
    let request = CollectRequest {
        metric: MetricDefinition::new("cpu"),
        scope_key: "project_id".to_owned(),
        scopes: Vec::new(),
        begin: host.now(),
        end: host.now() + chrono::Duration::hours(1),
    };
    TestCollector::new::<Fragile>(&host, &config(place))?.collect(&request)
}

fn rate(place: &str) -> Result<Vec<Decimal>> {
    let host = FakeHost::new();
    let request = RateRequest {
        purpose: Purpose::Period,
        metric: "cpu".to_owned(),
        begin: host.now(),
        end: host.now() + chrono::Duration::hours(1),
    };
    let module = TestModule::new::<Fragile>(&host, &config(place))?;
    module.check()?;
    module.handle(&Request::get("/"))?;
    module.prepare_at(host.now())?.rate(&request, &rows(3))
}

#[track_caller]
fn panicked<T: std::fmt::Debug>(outcome: Result<T>, place: &str) {
    let error = outcome.expect_err("a panic is an error");
    assert_eq!(error.status, Status::Panic);
    assert!(error.message.contains(&format!("out of paper in {place}")), "{}", error.message);
}

#[test]
fn a_panic_in_any_call_is_an_error_that_says_so() {
    assert_eq!(rate("nowhere"), Ok(vec![Decimal::ZERO; 3]));
    for place in ["create", "check", "handle", "prepare", "rate"] {
        panicked(rate(place), place);
    }
    for place in ["collect", "next"] {
        panicked(collect(place), place);
    }
}

#[test]
fn a_panic_says_where_once_the_plugin_is_started() {
    let plugin = rated_plugin::declare! { rating_modules: [Fragile] };
    let module =
        TestModule::from_plugin(plugin, "fragile", &FakeHost::new(), &config("check")).unwrap();

    let error = module.check().unwrap_err();

    let file = error.message.strip_prefix("panicked at ").unwrap_or_default();
    assert!(file.starts_with("plugin-api/tests/guard.rs:"), "{}", error.message);
    assert!(file.ends_with(": out of paper in check"), "{}", error.message);
}

#[test]
fn a_panicking_destructor_ends_at_the_interface() {
    assert!(rate("drop").is_ok());
    assert!(rate("rater drop").is_ok());
}

#[test]
fn a_payload_whose_destructor_panics_ends_at_the_interface() {
    let error = rate("payload").unwrap_err();

    assert_eq!(error.status, Status::Panic);
    assert!(error.message.ends_with("a panic without a text"), "{}", error.message);
}

#[test]
fn an_error_between_batches_is_not_an_end() {
    let error = collect("error").unwrap_err();
    assert_eq!((error.status, error.retryable), (Status::Unavailable, true));

    let error = collect("end").unwrap_err();
    assert_eq!((error.status, error.message.as_str()), (Status::Internal, "not an end"));
}

#[test]
fn a_batch_of_another_schema_never_leaves_the_plugin() {
    let error = collect("schema").unwrap_err();

    assert_eq!(error.status, Status::Internal);
    assert_eq!(error.message, "a batch has other columns than its stream's schema");
}
