//! A plugin of all three kinds in a crate that forbids `unsafe`, as authors write it.
#![forbid(unsafe_code)]

use arrow_array::RecordBatch;
use rated_plugin::testing::{FakeHost, TestCollector, TestFetcher, TestModule};
use rated_plugin::{
    AsOf, Batches, Call, CollectRequest, Collector, Component, Error, Fetcher, Host, HttpRequest,
    Level, MetricDefinition, PriceBatch, Purpose, RateRequest, Rater, RatingModule, Request,
    Response, Result, Status, UsageBatch, UsageBuilder,
};
use rust_decimal::Decimal;
use serde::Deserialize;

rated_plugin::export! {
    collectors: [Meter],
    fetchers: [Meter],
    rating_modules: [PerUnit],
    requires: [kv, http],
}

/// Reads lines `scope quantity` from an address.
struct Meter {
    url: String,
    host: Host,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    url: String,
}

impl Component for Meter {
    const NAME: &'static str = "meter";
    const SUMMARY: &'static str = "Lines of scope and quantity from an address";
    const SAMPLE_CONFIG: &'static str = "url = \"http://127.0.0.1:1\"\n";
    type Config = Address;

    fn create(config: Address, host: Host) -> Result<Meter> {
        Ok(Meter { url: config.url, host })
    }

    fn check(&self, call: &Call) -> Result<()> {
        self.lines(call).map(drop)
    }
}

impl Meter {
    fn lines(&self, call: &Call) -> Result<Vec<(String, Decimal)>> {
        call.check_cancelled()?;
        let answer = self.host.http(call, &HttpRequest::get(&self.url))?;
        if answer.status != 200 {
            return Err(Error::unavailable(format!("answered {}", answer.status)));
        }
        let text = std::str::from_utf8(&answer.body)
            .ok()
            .and_then(|text| text.strip_suffix("end\n"))
            .ok_or_else(|| Error::bad_data("half an answer"))?;
        text.lines()
            .map(|line| {
                let (scope, qty) = line.split_once(' ')?;
                Some((scope.to_owned(), qty.parse().ok()?))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| Error::bad_data("a line is not `scope quantity`"))
    }
}

impl Collector for Meter {
    fn collect(&self, call: &Call, request: &CollectRequest) -> Result<Batches> {
        let metric = &request.metric;
        let mut rows = UsageBuilder::new(&metric.groupby, &metric.metadata);
        let absent = vec![None; metric.groupby.len() + metric.metadata.len()];
        for (scope, qty) in self.lines(call)? {
            if request.scopes.is_empty() || request.scopes.contains(&scope) {
                rows.push(&scope, qty, &absent)?;
            }
        }
        Ok(Batches::one(rows.finish()?))
    }
}

impl Fetcher for Meter {
    fn scopes(&self, call: &Call) -> Result<Batches> {
        Ok(Batches::scopes(self.lines(call)?.into_iter().map(|(scope, _)| scope)))
    }
}

/// One price for each unit, kept in the host's store.
struct PerUnit {
    host: Host,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

struct Price(Decimal);

impl Component for PerUnit {
    const NAME: &'static str = "per-unit";
    const SUMMARY: &'static str = "One price for each unit";
    const SAMPLE_CONFIG: &'static str = "";
    type Config = Nothing;

    fn create(_: Nothing, host: Host) -> Result<PerUnit> {
        host.log(Level::Info, "made");
        Ok(PerUnit { host })
    }
}

impl RatingModule for PerUnit {
    type Rater = Price;
    const HOT_CONFIG: bool = true;
    const API_SCHEMA: &'static str = r#"{"/price": {"get": {}, "put": {}}}"#;

    fn prepare(&self, _: &Call, as_of: AsOf) -> Result<Price> {
        let text = self.host.kv_get(as_of.revision, "price")?.unwrap_or_else(|| b"0".to_vec());
        let text = String::from_utf8(text).map_err(|error| Error::internal(error.to_string()))?;
        text.parse().map(Price).map_err(|_| Error::internal("the price kept is no number"))
    }

    fn handle(&self, _: &Call, request: &Request) -> Result<Response> {
        if request.path != "/price" {
            return Ok(Response::not_found());
        }
        let (revision, _) = self.host.kv_scan(Host::NOW, "")?;
        let edit =
            rated_plugin::Edit { key: "price".to_owned(), value: Some(request.body.clone()) };
        self.host.kv_apply(revision, &[edit])?;
        Ok(Response::json(200, &serde_json::json!({ "price": "set" })).with_location("/price"))
    }
}

impl Rater for Price {
    fn rate(&self, _: &Call, _: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
        let usage = UsageBatch::new(usage)?;
        let prices: Vec<Decimal> =
            (0..usage.rows()).map(|row| usage.price_at(row) + usage.qty_at(row) * self.0).collect();
        PriceBatch::from_prices(&prices)
    }
}

const CONFIG: &str = "url = \"http://meter.test/\"";

fn request(scopes: &[&str]) -> CollectRequest {
    CollectRequest {
        metric: MetricDefinition::new("cpu").with_groupby(["id"]),
        scope_key: "project_id".to_owned(),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        begin: FakeHost::new().now() - chrono::Duration::hours(1),
        end: FakeHost::new().now(),
    }
}

fn rate_request() -> RateRequest {
    let collected = request(&[]);
    RateRequest {
        purpose: Purpose::Period,
        metric: "cpu".to_owned(),
        begin: collected.begin,
        end: collected.end,
    }
}

#[test]
fn the_declaration_names_what_the_macro_was_given() {
    let declaration = plugin_decl();

    assert_eq!(declaration.magic.to_le_bytes(), *b"RATEDPLG");
    assert_eq!(declaration.components_len, 3);
    assert_eq!(declaration.features_required, 3);
    assert_eq!(declaration.flags, rated_plugin::raw::FLAG_UNWINDS);
    assert!(std::ptr::eq(rated_plugin_entry(), declaration));
}

#[test]
fn the_plugin_conforms() {
    rated_plugin::testing::conformance(plugin_decl());
}

#[test]
fn usage_comes_through_the_table_without_losing_a_digit() {
    let host = FakeHost::new();
    host.answer_body(200, "a 1.5\nb 0.000000000001\nc 3\nend\n");
    let meter = TestCollector::new::<Meter>(&host, CONFIG).unwrap();

    let batches = meter.collect(&request(&["a", "b"])).unwrap();

    let usage = UsageBatch::new(&batches[0]).unwrap();
    assert_eq!((batches.len(), usage.rows()), (1, 2));
    assert_eq!((usage.scope_at(0), usage.qty_at(0).to_string().as_str()), ("a", "1.500000000000"));
    assert_eq!((usage.scope_at(1), usage.qty_at(1)), ("b", Decimal::new(1, 12)));
    assert_eq!(host.requests()[0].url, "http://meter.test/");
}

#[test]
fn errors_keep_status_message_and_hints() {
    let meter = TestCollector::new::<Meter>(&FakeHost::new(), CONFIG).unwrap();

    let error = meter.collect(&request(&[])).unwrap_err();

    assert_eq!(error.status, Status::Unavailable);
    assert!(error.retryable && !error.split, "{error:?}");
    assert_eq!(error.message, "nobody answers at `http://meter.test/`");
}

#[test]
fn scopes_come_through_the_table() {
    let host = FakeHost::new();
    host.answer_body(200, "a 1\nb 2\nend\n");

    let scopes = TestFetcher::new::<Meter>(&host, CONFIG).unwrap().scopes();

    assert_eq!(scopes, Ok(vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn a_price_set_over_rest_rates_from_its_revision_on() {
    let host = FakeHost::new();
    let module = TestModule::new::<PerUnit>(&host, "").unwrap();
    let mut usage = UsageBuilder::new::<&str>(&[], &[]);
    usage.push("a", Decimal::new(25, 1), &[]).unwrap();
    let usage = usage.finish().unwrap();

    let response = module.handle(&Request::put("/price", "0.2")).unwrap();

    assert_eq!((response.status, response.location.as_deref()), (200, Some("/price")));
    let rate = |revision| {
        let rater = module.prepare(AsOf { at: host.now(), revision }).unwrap();
        rater.rate(&rate_request(), &usage).unwrap()
    };
    assert_eq!(rate(Host::NOW), [Decimal::new(5, 1)]);
    assert_eq!(rate(0), [Decimal::ZERO]);
    assert_eq!(host.logged()[0].target, "per-unit");
}
