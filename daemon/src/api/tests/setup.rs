//! An API over fakes, and the data set of the contract's examples.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use rust_decimal::Decimal;
use tempfile::{NamedTempFile, TempDir};
#[cfg(test)]
use tokio::runtime::Handle;
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, Response};

use super::fake_ledger::{FakeLedger, Row};
use super::fake_plugins::{FakeCycle, FakePlugins};
use crate::api::answer::Content;
#[cfg(test)]
use crate::api::authentication::Fixed;
use crate::api::call::Call;
#[cfg(test)]
use crate::api::caller::Caller;
use crate::api::dates;
use crate::api::serve::{Load, answer};
use crate::api::{Authentication, Context, Parts, Plugins, Policy};
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::sled::{SledLedger, SledOptions};
use crate::ledger::{Fact, Ledger, NewScope, RatedSlice, Scope, SliceScope};
use crate::metrics::Metrics;
#[cfg(test)]
use crate::plugin::{HostServices, PluginConfig, PluginHost};
use crate::rating::Rating;
use crate::usage::{MetricId, Period, ScopeId};

const RATED: &str = r#"
[api.cors]
allowed_origins = ["http://valid.example.com"]
[collect]
scope_key = "project_id"
"#;

/// The metrics of the contract's examples.
const METRICS: &str = r#"
[[metric]]
name = "cpu"
alt_name = "instance"
unit = "instance"
groupby = ["id", "project_id"]
metadata = ["flavor", "flavor_id", "vcpus"]
mutate = "NUMBOOL"
extra_args = { aggregation_method = "max", resource_type = "instance" }
[[metric]]
name = "image.size"
unit = "MiB"
groupby = ["id", "project_id"]
metadata = ["container_format", "disk_format"]
factor = "1/1048576"
extra_args = { aggregation_method = "max", resource_type = "image" }
[[metric]]
name = "volume.size"
unit = "GiB"
groupby = ["id", "project_id"]
metadata = ["volume_type"]
extra_args = { aggregation_method = "max", resource_type = "volume" }
[[metric]]
name = "network.outgoing.bytes"
unit = "MB"
groupby = ["id", "project_id"]
metadata = ["instance_id"]
factor = "1/1000000"
extra_args = { aggregation_method = "max", resource_type = "instance_network_interface" }
[[metric]]
name = "network.incoming.bytes"
unit = "MB"
groupby = ["id", "project_id"]
metadata = ["instance_id"]
factor = "1/1000000"
extra_args = { aggregation_method = "max", resource_type = "instance_network_interface" }
[[metric]]
name = "ip.floating"
unit = "ip"
groupby = ["id", "project_id"]
metadata = ["state"]
mutate = "NUMBOOL"
extra_args = { aggregation_method = "max", resource_type = "network" }
[[metric]]
name = "radosgw.objects.size"
unit = "GiB"
groupby = ["id", "project_id"]
factor = "1/1073741824"
extra_args = { aggregation_method = "max", resource_type = "ceph_account" }
"#;

pub(super) const ONE: &str = "8f82cc70-e50c-466e-8624-24bdea811375";
pub(super) const TWO: &str = "7606a24a-b8ad-4ae0-be6c-3d7a41334a2e";

#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> DateTime<Utc> {
        date("2026-11-22T05:00:00")
    }
}

pub(in crate::api) struct Api {
    pub(super) context: Context,
    /// Used where no real modules are.
    pub(super) fake: Arc<FakePlugins>,
    pub(super) load: Load,
    /// Of a ledger on disk.
    folder: Option<Arc<TempDir>>,
}

/// Nothing in the ledger.
pub(super) fn empty() -> Api {
    over(Arc::new(FakeLedger::default()))
}

/// Nothing in a ledger kept by sled.
pub(super) fn empty_on_disk() -> Api {
    let folder = TempDir::new().unwrap();
    let ledger = SledLedger::open(folder.path(), SledOptions::default()).unwrap();
    Api { folder: Some(Arc::new(folder)), ..over(Arc::new(ledger)) }
}

/// Two tenants with two and four hours.
pub(super) fn with_rows() -> Api {
    over(Arc::new(FakeLedger { rows: rows(), ..FakeLedger::default() }))
}

/// Two tenants with two and four hours, kept by sled.
pub(in crate::api) fn with_rows_on_disk() -> Api {
    let folder = TempDir::new().unwrap();
    let ledger = SledLedger::open(folder.path(), SledOptions::default()).unwrap();
    let new_scope = |id| NewScope {
        id: ScopeId::new(id).unwrap(),
        fetcher: "fet1".to_owned(),
        collector: "col1".to_owned(),
        scope_key: "project_id".to_owned(),
        first_period: date("2015-01-04T10:00"),
        last_processed: None,
        active: true,
        found_at: date("2015-01-04T10:00"),
    };
    ledger.set_metrics(&[metric("instance"), metric("storage.size")]).unwrap();
    ledger.add_scopes(&[new_scope(TWO), new_scope(ONE)]).unwrap();
    let mut slices: Vec<RatedSlice> = Vec::new();
    for row in rows() {
        let is_of = |slice: &RatedSlice| {
            (slice.period, slice.metric.alt_name.as_str()) == (row.period, row.metric_type)
        };
        let index = slices.iter().position(is_of).unwrap_or_else(|| {
            slices.push(slice_for(&row));
            slices.len() - 1
        });
        slices[index].rows.push(row.batch());
    }
    ledger.commit(slices).unwrap();
    Api { folder: Some(Arc::new(folder)), ..over(Arc::new(ledger)) }
}

fn metric(metric_type: &str) -> MetricId {
    MetricId { name: metric_type.to_owned(), alt_name: metric_type.to_owned() }
}

fn slice_for(row: &Row) -> RatedSlice {
    let scope = |id| SliceScope { id: ScopeId::new(id).unwrap(), fact: Fact::Collected };
    RatedSlice {
        metric: metric(row.metric_type),
        unit: row.unit.to_owned(),
        description: None,
        period: row.period,
        scopes: vec![scope(ONE), scope(TWO)],
        rows: Vec::new(),
        rated_by: Arc::new([]),
        rated_scope_key: None,
    }
}

/// More than what is sent at once: two tenants with 500 rows in each of three hours.
pub(super) fn with_many_rows() -> Api {
    let mut rows = Vec::new();
    for hour in 10..13 {
        let (begin, end) = (format!("2015-01-04T{hour}"), format!("2015-01-04T{}", hour + 1));
        for index in 0..1000 {
            rows.push(Row {
                period: Period::new(date(&begin), date(&end)).unwrap(),
                metric_type: "instance",
                unit: "instance",
                scope: ScopeId::new(if index % 2 == 0 { ONE } else { TWO }).unwrap(),
                groupby: vec![("id", "vm")],
                metadata: vec![("flavor", "small")],
                qty: Decimal::ONE,
                price: Decimal::new(index, 3),
            });
        }
    }
    over(Arc::new(FakeLedger { rows, ..FakeLedger::default() }))
}

pub(super) fn with_scopes() -> Api {
    over(Arc::new(FakeLedger { scopes: scopes(), ..FakeLedger::default() }))
}

/// A store that answers nothing but errors.
pub(super) fn broken() -> Api {
    over(Arc::new(FakeLedger { is_broken: true, ..FakeLedger::default() }))
}

/// The real modules, embedded, over an empty ledger on disk.
#[cfg(test)]
pub(super) async fn with_modules() -> Api {
    let folder = TempDir::new().unwrap();
    let ledger = SledLedger::open(folder.path(), SledOptions::default()).unwrap();
    let ledger: Arc<dyn Ledger> = Arc::new(ledger);
    let services = HostServices {
        ledger: ledger.clone(),
        clock: Arc::new(FixedClock),
        runtime: Handle::current(),
        metrics: Arc::new(Metrics::new()),
    };
    let config = PluginConfig::new(folder.path());
    let start = move || {
        let declarations = vec![rated_hashmap::plugin_decl(), super::quiet_module::declaration()];
        PluginHost::with_embedded(declarations, config, services).unwrap()
    };
    let host = Arc::new(tokio::task::spawn_blocking(start).await.unwrap());
    let rating = Rating::new(ledger.clone(), host.clone(), BTreeMap::new());
    Api { folder: Some(Arc::new(folder)), ..assemble(ledger, rating, host) }
}

fn over(ledger: Arc<dyn Ledger>) -> Api {
    let plugins = Arc::new(FakePlugins::default());
    let rating = Rating::new(ledger.clone(), plugins.clone(), BTreeMap::new());
    Api { fake: plugins.clone(), ..assemble(ledger, rating, plugins) }
}

fn assemble(ledger: Arc<dyn Ledger>, rating: Rating, plugins: Arc<dyn Plugins>) -> Api {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("rated.toml"), RATED).unwrap();
    fs::write(folder.path().join("metrics.toml"), METRICS).unwrap();
    let config = Config::load(&folder.path().join("rated.toml"), std::iter::empty()).unwrap();
    let (clock, metrics) = (Arc::new(FixedClock) as Arc<dyn Clock>, Arc::new(Metrics::new()));
    let authentication = Authentication::load(&config.api, &clock, &metrics).unwrap();
    let context = Context::new(Parts {
        ledger,
        rating,
        plugins,
        cycle: Arc::new(FakeCycle),
        config: Arc::new(config),
        metrics,
        clock,
        authentication,
        policy: Policy::load(None).unwrap(),
        tls: None,
    });
    Api { context, fake: Arc::default(), load: Load::Usual, folder: None }
}

/// The same, asked by somebody.
#[cfg(test)]
pub(super) fn with_caller(api: &Api, caller: impl Into<Option<Caller>>) -> Api {
    let context = &api.context;
    let authentication =
        Authentication::load(&context.config.api, &context.clock, &context.metrics);
    let mut authentication = authentication.unwrap();
    authentication.fixed = Some(Fixed(caller.into()));
    let mut context = api.context.clone();
    context.authentication = Arc::new(authentication);
    Api { context, fake: Arc::clone(&api.fake), load: api.load, folder: api.folder.clone() }
}

impl Api {
    /// With rules in place of default ones.
    pub(super) fn with_rules(mut self, rules: &str) -> Api {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), rules).unwrap();
        self.context.policy = Arc::new(Policy::load(Some(file.path())).unwrap());
        self
    }

    /// The answer to a request; `target` is path and query.
    pub(super) async fn ask(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Bytes> {
        let parts: Vec<Result<Bytes, &str>> = vec![Ok(Bytes::copy_from_slice(body.as_bytes()))];
        self.ask_in_parts(method, target, headers, parts).await
    }

    /// The answer to a request whose body comes, or breaks off, in parts.
    pub(in crate::api) async fn ask_in_parts(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Vec<Result<Bytes, &'static str>>,
    ) -> Response<Bytes> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut map = HeaderMap::new();
        map.insert("host", HeaderValue::from_static("HOST"));
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            map.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let call = Call::new(method, path.to_owned(), query.to_owned(), map);
        let response = answer(&self.context, self.load, call, stream::iter(body)).await;
        let (head, content) = response.into_parts();
        Response::from_parts(head, collect(content).await)
    }

    /// Status and JSON text of a GET.
    pub(super) async fn get(&self, target: &str) -> (u16, String) {
        let response = self.ask("GET", target, &[("accept", "application/json")], "").await;
        (response.status().as_u16(), text(&response))
    }
}

/// All of it; the test fails when it breaks off.
async fn collect(content: Content) -> Bytes {
    match content {
        Content::Whole(bytes) => bytes,
        Content::Chunks(chunks) => {
            let chunks: Vec<_> = chunks.into_stream().collect().await;
            chunks.into_iter().flat_map(Result::unwrap).collect()
        }
    }
}

pub(super) fn text(response: &Response<Bytes>) -> String {
    String::from_utf8(response.body().to_vec()).unwrap()
}

fn date(text: &str) -> DateTime<Utc> {
    dates::parse(text).unwrap()
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for hour in 10..14 {
        let (begin, end) = (format!("2015-01-04T{hour}"), format!("2015-01-04T{}", hour + 1));
        let period = Period::new(date(&begin), date(&end)).unwrap();
        let row = |metric_type, unit, scope, id, metadata, qty: i64, price: i64| Row {
            period,
            metric_type,
            unit,
            scope: ScopeId::new(scope).unwrap(),
            groupby: vec![("id", id)],
            metadata: vec![metadata],
            qty: Decimal::new(qty, 1),
            price: Decimal::new(price, 3),
        };
        let ssd = ("volume_type", "ssd");
        rows.push(row("instance", "instance", ONE, "vm-8f82", ("flavor", "small"), 10, 100));
        rows.push(row("storage.size", "GiB", ONE, "vol-8f82", ssd, 100, 25));
        if hour < 12 {
            rows.push(row("instance", "instance", TWO, "vm-7606", ("flavor", "large"), 25, 250));
            rows.push(row("storage.size", "GiB", TWO, "vol-7606", ssd, 100, 25));
        }
    }
    rows
}

fn scopes() -> Vec<Scope> {
    let scope = |id: &str, key: &str, fetcher: &str, collector: &str, last: &str| Scope {
        id: ScopeId::new(id).unwrap(),
        fetcher: fetcher.to_owned(),
        collector: collector.to_owned(),
        scope_key: key.to_owned(),
        active: true,
        activation_toggled: date("2026-11-22T04:00:00"),
        first_period: date("2019-01-01"),
        last_processed: Some(date(last)),
    };
    vec![
        scope("aaaa", "key1", "fet1", "col1", "2019-01-01"),
        scope("bbbb", "key2", "fet1", "col1", "2019-02-02"),
        scope("cccc", "key1", "fet1", "col2", "2019-03-03"),
        scope("dddd", "key2", "fet1", "col2", "2019-04-04"),
        scope("eeee", "key1", "fet2", "col1", "2019-05-05"),
        scope("ffff", "key2", "fet2", "col1", "2019-06-06"),
        scope("gggg", "key1", "fet2", "col2", "2019-06-06"),
        scope("hhhh", "key2", "fet2", "col2", "2019-06-06"),
    ]
}
