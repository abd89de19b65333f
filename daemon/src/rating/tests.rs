//! States, order and snapshots of the chain, with modules that add, multiply and fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rated_plugin::{AsOf, Edit, Error, PriceBatch, Purpose, RateRequest, UsageBatch, UsageBuilder};
use rust_decimal::Decimal;

use super::*;
use crate::ledger::sled::{SledLedger, SledOptions};
use crate::ledger::{KvEdit, Ledger, ModuleState};
use crate::usage::ScopeId;

/// price so far x `factor` + qty x `rate`; whoever it is made for, the text of the scope does not
/// matter.
#[derive(Debug, Clone)]
struct Linear {
    name: &'static str,
    factor: i64,
    rate: i64,
    is_always_on: bool,
    prepared: Arc<Mutex<Vec<AsOf>>>,
}

#[derive(Debug)]
struct Plugins(Vec<Linear>);

impl Modules for Plugins {
    fn modules(&self) -> ModuleSet {
        let module = |module: &Linear| -> Arc<dyn RatingModule> { Arc::new(module.clone()) };
        ModuleSet { generation: 1, modules: self.0.iter().map(module).collect() }
    }
}

impl RatingModule for Linear {
    fn name(&self) -> &str {
        self.name
    }

    fn summary(&self) -> &'static str {
        "A line"
    }

    fn is_hot_config(&self) -> bool {
        true
    }

    fn is_always_on(&self) -> bool {
        self.is_always_on
    }

    fn library_sha256(&self) -> &'static str {
        "ab"
    }

    fn config_sha256(&self) -> &'static str {
        "cd"
    }

    fn prepare(&self, as_of: AsOf) -> BoxFuture<'_, Result<Arc<dyn Rater>, CallFailure>> {
        self.prepared.lock().unwrap().push(as_of);
        let rater: Arc<dyn Rater> = Arc::new(self.clone());
        std::future::ready(Ok(rater)).boxed()
    }
}

impl Rater for Linear {
    fn rate(
        &self,
        _: RateRequest,
        usage: RecordBatch,
    ) -> BoxFuture<'_, Result<RecordBatch, CallFailure>> {
        let rows = UsageBatch::new(&usage).unwrap();
        let price = |row| {
            rows.price_at(row) * Decimal::from(self.factor)
                + rows.qty_at(row) * Decimal::from(self.rate)
        };
        let prices: Vec<Decimal> = (0..rows.rows()).map(price).collect();
        let result = if prices.contains(&Decimal::from(13)) {
            Err(Error::bad_data("thirteen").into())
        } else {
            Ok(PriceBatch::from_prices(&prices).unwrap())
        };
        std::future::ready(result).boxed()
    }
}

fn linear(name: &'static str, factor: i64, rate: i64) -> Linear {
    Linear { name, factor, rate, is_always_on: false, prepared: Arc::default() }
}

struct Fixture {
    ledger: Arc<SledLedger>,
    plugins: Arc<Plugins>,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new(modules: Vec<Linear>) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let ledger = SledLedger::open(dir.path(), SledOptions::default()).unwrap();
        Fixture { ledger: Arc::new(ledger), plugins: Arc::new(Plugins(modules)), _dir: dir }
    }

    fn rating(&self, defaults: &[(&str, bool, i64)]) -> Rating {
        let default = |(name, enabled, priority): &(&str, bool, i64)| {
            ((*name).to_owned(), ModuleState { enabled: *enabled, priority: *priority })
        };
        let defaults: BTreeMap<_, _> = defaults.iter().map(default).collect();
        Rating::new(self.ledger.clone(), self.plugins.clone(), defaults)
    }

    fn change_rules(&self, module: &str) {
        let instance = format!("rating/{module}");
        let revision = self.ledger.kv_revision(&instance).unwrap();
        let edits = vec![Edit { key: "k".to_owned(), value: Some(b"v".to_vec()) }];
        let edit = KvEdit { revision, edits, author: "somebody".to_owned(), at: at(0) };
        self.ledger.kv_apply(&instance, &edit).unwrap();
    }
}

fn at(secs: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + secs, 0).unwrap()
}

async fn prices(chain: &Chain, quantities: &[i64]) -> Result<Vec<Decimal>, RatingError> {
    let mut rows = UsageBuilder::new(&["flavor"], &[]);
    for qty in quantities {
        rows.push("s", Decimal::from(*qty), &[None]).unwrap();
    }
    let rows = rows.finish().unwrap();
    let (purpose, metric) = (Purpose::Period, "cpu".to_owned());
    let request = RateRequest { purpose, metric, begin: at(0), end: at(3600) };
    let prices = chain.rate(&request, Some("project_id"), &rows).await?;
    let scale = u32::try_from(prices.scale()).unwrap();
    Ok(prices.values().iter().map(|price| Decimal::from_i128_with_scale(*price, scale)).collect())
}

async fn shown(rating: &Rating) -> String {
    let modules = rating.modules().await.unwrap();
    let form = |module: &ModuleView| {
        format!("{} {} {}", module.name, if module.enabled { "on" } else { "off" }, module.priority)
    };
    modules.iter().map(form).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn the_configuration_speaks_once_then_the_ledgers_word_holds() {
    let fixture = Fixture::new(vec![linear("a", 1, 1), linear("b", 1, 1)]);
    let rating = fixture.rating(&[("a", true, 5)]);
    assert_eq!(shown(&rating).await, "a on 5, b off 1");

    rating.set_module("a", Some(false), None).await.unwrap();
    rating.set_module("b", Some(true), Some(-3)).await.unwrap();
    let restarted = fixture.rating(&[("a", true, 9), ("b", false, 9)]);

    assert_eq!(shown(&restarted).await, "a off 5, b on -3");
    let unknown = restarted.set_module("c", Some(true), None).await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no rating module `c`");
}

#[tokio::test]
async fn a_module_that_is_always_on_keeps_its_state() {
    let module = Linear { is_always_on: true, ..linear("noop", 1, 0) };
    let rating = Fixture::new(vec![module]);
    let rating = rating.rating(&[("noop", false, 9)]);

    rating.set_module("noop", Some(false), Some(7)).await.unwrap();

    assert_eq!(shown(&rating).await, "noop on 1");
}

#[tokio::test]
async fn the_highest_priority_rates_first_and_names_break_ties() {
    let modules = vec![linear("a", 10, 0), linear("b", 1, 1), linear("c", 3, 5), linear("d", 0, 0)];
    let fixture = Fixture::new(modules);
    let rating = fixture.rating(&[("a", true, 2), ("b", true, 9), ("c", true, 2)]);

    let chain = rating.chain(at(0)).await.unwrap();

    let order: Vec<&str> = chain.rated_by().iter().map(|by| by.module.as_str()).collect();
    assert_eq!(order, ["b", "a", "c"]);
    // ((0 x 1 + 2 x 1) x 10) x 3 + 2 x 5
    assert_eq!(prices(&chain, &[2, 0]).await.unwrap(), [Decimal::from(70), Decimal::ZERO]);
}

#[tokio::test]
async fn a_chain_is_made_once_for_each_instant_and_state_of_the_world() {
    let module = linear("a", 1, 1);
    let prepared = Arc::clone(&module.prepared);
    let fixture = Fixture::new(vec![module, linear("b", 1, 1)]);
    let rating = fixture.rating(&[("a", true, 1)]);
    let first = rating.chain(at(0)).await.unwrap();
    rating.chain(at(0)).await.unwrap();
    rating.chain(at(3600)).await.unwrap();
    assert_eq!(prepared.lock().unwrap().len(), 2);

    fixture.change_rules("b");
    rating.chain(at(0)).await.unwrap();
    assert_eq!(prepared.lock().unwrap().len(), 2, "the rules of a module that is off");
    fixture.change_rules("a");
    let second = rating.chain(at(0)).await.unwrap();

    let revision = |chain: &Chain| chain.rated_by()[0].revision;
    assert_eq!((revision(&first), revision(&second)), (0, 1));
    assert_eq!(prepared.lock().unwrap().last(), Some(&AsOf { at: at(0), revision: 1 }));
    rating.set_module("b", Some(true), None).await.unwrap();
    assert_eq!(rating.chain(at(0)).await.unwrap().rated_by().len(), 2);
    assert_eq!(first.rated_by().len(), 1, "what is under way keeps its chain");
}

#[tokio::test]
async fn without_modules_everything_is_free() {
    let rating = Fixture::new(Vec::new());
    let rating = rating.rating(&[]);

    let chain = rating.chain(at(0)).await.unwrap();

    assert_eq!(prices(&chain, &[1, 2]).await.unwrap(), [Decimal::ZERO; 2]);
    assert!(chain.rated_by().is_empty());
}

/// A price list that is not loaded must not make everything free.
#[tokio::test]
async fn nothing_is_rated_while_an_enabled_module_is_not_there() {
    let fixture = Fixture::new(vec![linear("a", 1, 1)]);
    let rating = fixture.rating(&[("a", true, 1), ("gone", true, 1), ("off", false, 1)]);

    let error = rating.chain(at(0)).await.unwrap_err();
    assert!(matches!(error, RatingError::NotThere(name) if name == "gone"));
    let unknown = rating.set_module("never seen", Some(false), None).await.unwrap_err();
    assert!(matches!(unknown, RatingError::NoModule(_)));

    rating.set_module("gone", Some(false), None).await.unwrap();
    assert_eq!(rating.chain(at(0)).await.unwrap().rated_by().len(), 1);
}

#[tokio::test]
async fn a_modules_failure_names_the_module() {
    let fixture = Fixture::new(vec![linear("a", 1, 1)]);
    let rating = fixture.rating(&[("a", true, 1)]);
    let chain = rating.chain(at(0)).await.unwrap();

    let error = prices(&chain, &[1, 13]).await.unwrap_err();

    assert_eq!(error.to_string(), "rating module `a` failed");
    assert!(matches!(error, RatingError::Call { failure, .. } if !failure.stopped));
}

#[tokio::test]
async fn a_quote_is_the_exact_sum_over_all_services() {
    let fixture = Fixture::new(vec![linear("a", 1, 3)]);
    let rating = fixture.rating(&[("a", true, 1)]);
    let resource = |service: &str, volume: &str, scope: Option<&str>| QuoteResource {
        service: service.to_owned(),
        attributes: [("flavor".to_owned(), "big".to_owned())].into(),
        volume: volume.parse().unwrap(),
        scope: scope.map(|scope| ScopeId::new(scope).unwrap()),
    };

    let resources = vec![
        resource("cpu", "0.1", None),
        resource("ram", "0.2", Some("s")),
        resource("cpu", "1000000000000", None),
    ];
    let total = rating.quote(at(0), resources).await.unwrap();

    assert_eq!(total.to_string(), "3000000000000.9");
    assert_eq!(rating.quote(at(0), Vec::new()).await.unwrap().to_string(), "0");
}
