//! Three rating modules without a library: `hashmap` prices by two fixed rules and serves a few
//! paths.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::RecordBatch;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rated_plugin::{
    AsOf, Error, Method, PriceBatch, RateRequest, Request, Response, Status, UsageBatch, text_at,
};
use rust_decimal::Decimal;
use serde_json::json;

use crate::api::{CycleReport, CycleView, ModuleRoute, Plugins};
use crate::plugin::KeptLibrary;
use crate::rating::{CallFailure, ModuleSet, Modules, Rater, RatingModule};

#[derive(Debug, Default)]
pub(super) struct FakePlugins {
    pub(super) reload_fails: AtomicBool,
}

impl Plugins for FakePlugins {
    fn reload(&self) -> Result<(), String> {
        if self.reload_fails.load(Ordering::SeqCst) {
            return Err("plugin `acme.so`: needs interface 2.0, this daemon has 1.0".to_owned());
        }
        Ok(())
    }

    fn find_route(&self, module: &str, method: Method, path: &str) -> ModuleRoute {
        match (module, method, path) {
            ("noop", ..) => ModuleRoute::NotConfigurable,
            ("hashmap", Method::Get, "/types")
            | ("hashmap", _, "/echo" | "/moved" | "/fail" | "/panic") => ModuleRoute::Allowed,
            ("hashmap", _, "/types") => ModuleRoute::WrongMethod,
            ("hashmap" | "pyscripts", ..) => ModuleRoute::NoSuchPath,
            _ => ModuleRoute::NoSuchModule,
        }
    }

    fn library_sha256(&self, module: &str) -> Option<String> {
        (module == "hashmap").then(|| "00".to_owned())
    }

    fn handle(&self, _: &str, request: Request) -> BoxFuture<'_, Result<Response, CallFailure>> {
        let answer = match request.path.as_str() {
            "/types" => Ok(Response::json(200, &json!(["rate", "flat"]))),
            "/echo" => {
                let body = String::from_utf8_lossy(&request.body).into_owned();
                let echo = json!({"query": request.query, "body": body,
                    "user": request.principal.user_id});
                Ok(Response::json(201, &echo).with_location("/echo/1"))
            }
            "/moved" => Ok(Response::empty(302).with_location("/elsewhere")),
            "/fail" => match String::from_utf8_lossy(&request.body).as_ref() {
                "conflict" => Err(Error::conflict("there is one already")),
                "status" => Ok(Response::empty(7)),
                "json" => Ok(Response { body: b"{".to_vec(), ..Response::json(200, &json!({})) }),
                _ => Err(Error::new(Status::Internal, "secret detail")),
            },
            _ => panic!("a handler panics"),
        };
        async move { answer.map_err(CallFailure::from) }.boxed()
    }

    fn api_schemas(&self) -> Vec<(String, String)> {
        vec![("hashmap".to_owned(), r#"{"/types": {"get": {}}}"#.to_owned())]
    }

    fn has_collector(&self, name: &str) -> bool {
        name == "prometheus"
    }

    fn kept_libraries(&self, _: &[String]) -> Vec<KeptLibrary> {
        Vec::new()
    }

    fn read_kept_library(&self, _: &str, _: u64, _: usize) -> Option<std::io::Result<Vec<u8>>> {
        None
    }
}

impl Modules for FakePlugins {
    fn modules(&self) -> ModuleSet {
        let module =
            |name, summary| -> Arc<dyn RatingModule> { Arc::new(FakeModule { name, summary }) };
        let modules = vec![
            module("hashmap", "HashMap rating module."),
            module("noop", "Dummy test module."),
            module("pyscripts", "PyScripts rating module."),
        ];
        ModuleSet { generation: 1, modules }
    }
}

#[derive(Debug)]
struct FakeModule {
    name: &'static str,
    summary: &'static str,
}

impl RatingModule for FakeModule {
    fn name(&self) -> &str {
        self.name
    }

    fn summary(&self) -> &str {
        self.summary
    }

    fn is_hot_config(&self) -> bool {
        self.name != "noop"
    }

    fn is_always_on(&self) -> bool {
        self.name == "noop"
    }

    fn library_sha256(&self) -> &'static str {
        "00"
    }

    fn config_sha256(&self) -> &'static str {
        "cd"
    }

    fn prepare(&self, _: AsOf) -> BoxFuture<'_, Result<Arc<dyn Rater>, CallFailure>> {
        let rater: Arc<dyn Rater> = Arc::new(FakeRater { prices: self.name == "hashmap" });
        async move { Ok(rater) }.boxed()
    }
}

#[derive(Debug)]
struct FakeRater {
    prices: bool,
}

impl Rater for FakeRater {
    /// `compute` costs 0.25, and 4 when its flavor is `big`.
    fn rate(
        &self,
        request: RateRequest,
        usage: RecordBatch,
    ) -> BoxFuture<'_, Result<RecordBatch, CallFailure>> {
        let answer = || {
            let rows = UsageBatch::new(&usage)?;
            let price = |row| {
                if !self.prices || request.metric != "compute" {
                    return rows.price_at(row);
                }
                let flavor = rows.attribute("flavor").and_then(|column| text_at(column, row));
                let cost =
                    if flavor == Some("big") { Decimal::from(4) } else { Decimal::new(25, 2) };
                rows.price_at(row) + cost * rows.qty_at(row)
            };
            let prices: Vec<Decimal> = (0..rows.rows()).map(price).collect();
            PriceBatch::from_prices(&prices)
        };
        let answer = answer().map_err(CallFailure::from);
        async move { answer }.boxed()
    }
}

#[derive(Debug)]
pub(super) struct FakeCycle;

impl CycleView for FakeCycle {
    fn report(&self) -> CycleReport {
        let troubles = vec!["collector `prometheus` fails".to_owned()];
        CycleReport { troubles, ..CycleReport::default() }
    }

    fn wake(&self) {}
}
