//! Components that do what their configuration says: `does = "panic in rate"`.

#[path = "hostile_faults.rs"]
mod faults;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Array, Decimal128Array, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Schema};
use rated_plugin::raw::PluginDecl;
use rated_plugin::{
    AsOf, Batches, Call, CollectRequest, Collector, Component, Decimal, Edit, Error, Explanation,
    Fetcher, Host, HttpOptions, HttpRequest, Level, Method, PriceBatch, RateRequest, Rater,
    RatingModule, RecordBatch, Request, Response, Result, Status, UsageBatch, UsageBuilder,
    schema_metadata,
};
use serde::Deserialize;

pub(crate) fn declaration() -> &'static PluginDecl {
    rated_plugin::declare! {
        collectors: [Source],
        fetchers: [Finder],
        rating_modules: [Rates],
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    #[serde(default)]
    does: String,
}

macro_rules! component {
    ($type:ident) => {
        #[derive(Debug)]
        pub(crate) struct $type {
            does: String,
            host: Host,
        }

        impl Component for $type {
            const NAME: &'static str = "hostile";
            const SUMMARY: &'static str = "Does what it is told to.";
            const SAMPLE_CONFIG: &'static str = "does = \"nothing\"\n";
            type Config = Settings;

            fn create(config: Settings, host: Host) -> Result<$type> {
                match config.does.as_str() {
                    "refuse" => return Err(Error::invalid_config("`does`: refuses to be made")),
                    "panic in create" => panic!("create went wrong"),
                    "hang in create" => hang(),
                    _ => {}
                }
                Ok($type { does: config.does, host })
            }

            fn check(&self, call: &Call) -> Result<()> {
                self.host.log(Level::Debug, "asked for a check");
                match self.does.as_str() {
                    "panic in check" => panic!("check went wrong"),
                    "be away" => Err(Error::unavailable("nobody answers")),
                    "be misconfigured" => Err(Error::invalid_config("`does`: cannot work")),
                    _ => call.check_cancelled(),
                }
            }
        }
    };
}

component!(Source);
component!(Finder);
component!(Rates);

/// The end of the program is the end of it.
fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

fn hang_politely(call: &Call) -> Result<()> {
    loop {
        call.check_cancelled()?;
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Collector for Source {
    fn collect(&self, call: &Call, request: &CollectRequest) -> Result<Batches> {
        faults::harm(&self.does);
        match self.does.as_str() {
            "panic in collect" => panic!("collect went wrong"),
            "hang" => hang(),
            "hang politely" => hang_politely(call)?,
            "say much" => {
                for _ in 0..1000 {
                    self.host.log(Level::Warn, "what nobody wants to read");
                }
            }
            "panic in next" => {
                let schema = usage(request, &["a"])?.schema();
                return Ok(Batches::from_fn(schema, |_| panic!("next went wrong")));
            }
            "end half-way" => {
                let first = usage(request, &["a"])?;
                let batches = [Ok(first.clone()), Err(Error::unavailable("half an answer"))];
                return Ok(Batches::stream(first.schema(), batches.into_iter()));
            }
            "never end" => {
                let batch = usage(request, &["a"])?;
                return Ok(Batches::from_fn(batch.schema(), move |_| Some(Ok(batch.clone()))));
            }
            "bring another scope" => return Ok(Batches::one(usage(request, &["a", "stranger"])?)),
            "forget an attribute" => {
                let rows = UsageBuilder::new::<&str>(&[], &[]);
                return Ok(Batches::one(rows.finish()?));
            }
            "bring more" => {
                let mut groupby = request.metric.groupby.clone();
                groupby.insert(0, "more".to_owned());
                let mut rows = UsageBuilder::new(&groupby, &request.metric.metadata);
                let columns = groupby.len() + request.metric.metadata.len();
                rows.push("a", Decimal::TWO, &vec![Some("x"); columns])?;
                return Ok(Batches::one(rows.finish()?));
            }
            "count wrongly" => return Ok(Batches::one(wrong_qty(&usage(request, &["a"])?))),
            _ => {}
        }
        let scopes: Vec<&str> = request.scopes.iter().map(String::as_str).collect();
        Ok(Batches::one(usage(request, &scopes)?))
    }
}

fn usage(request: &CollectRequest, scopes: &[&str]) -> Result<RecordBatch> {
    let mut rows = UsageBuilder::new(&request.metric.groupby, &request.metric.metadata);
    let columns = request.metric.groupby.len() + request.metric.metadata.len();
    for scope in scopes {
        rows.push(scope, Decimal::TWO, &vec![Some("x"); columns])?;
    }
    rows.finish()
}

/// With floats, in which nobody may count.
fn wrong_qty(batch: &RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let index = schema.index_of("qty").unwrap();
    let mut fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields[index] = Field::new("qty", DataType::Float64, false);
    let mut columns = batch.columns().to_vec();
    columns[index] = Arc::new(arrow_array::Float64Array::from(vec![1.5; batch.num_rows()]));
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

impl Fetcher for Finder {
    fn scopes(&self, call: &Call) -> Result<Batches> {
        match self.does.as_str() {
            "panic in scopes" => panic!("scopes went wrong"),
            "hang politely" => hang_politely(call)?,
            "find nulls" => {
                let ids: StringArray = vec![Some("a"), None].into_iter().collect();
                let field = Field::new("scope_id", DataType::Utf8, true);
                let schema = Schema::new_with_metadata(vec![field], schema_metadata("scopes/1"));
                let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids)]);
                return Ok(Batches::one(batch.unwrap()));
            }
            _ => {}
        }
        if self.does == "find the cursed" {
            return Ok(Batches::scopes(["a", "b", "cursed"]));
        }
        Ok(Batches::scopes(["b", "a", "", "b", "bell\u{7}"]))
    }
}

#[derive(Debug)]
pub(crate) struct Rules {
    does: String,
}

impl RatingModule for Rates {
    type Rater = Rules;
    const API_SCHEMA: &'static str = r#"{"/{what}": {"get": {}, "post": {}}}"#;

    fn prepare(&self, _: &Call, _: AsOf) -> Result<Rules> {
        assert!(self.does != "panic in prepare", "prepare went wrong");
        Ok(Rules { does: self.does.clone() })
    }

    fn handle(&self, call: &Call, request: &Request) -> Result<Response> {
        match request.path.as_str() {
            "/panic" => panic!("handle went wrong"),
            "/hang" => hang(),
            "/hang-politely" => hang_politely(call)?,
            "/keys" => return self.keys(request),
            "/keys-from-a-thread" => {
                let host = self.host;
                let thread = std::thread::spawn(move || host.kv_get(Host::NOW, "a"));
                let found = thread.join().unwrap()?.unwrap_or_default();
                return Ok(Response::json(200, &String::from_utf8(found).unwrap().into()));
            }
            "/send" => return self.send(call, request),
            "/send-at-once" => return Ok(self.send_at_once(call, request)),
            "/ask-at-once" => return Ok(self.ask_at_once()),
            "/now" => {
                self.host.log(Level::Info, "asked for the time");
                self.host.count("asked", 3);
                self.host.observe("value", 0.5);
                let now = self.host.now().to_rfc3339();
                let deadline = call.deadline().map(|at| at.to_rfc3339());
                let body = serde_json::json!({"now": now, "deadline": deadline});
                return Ok(Response::json(200, &body));
            }
            "/teapot" => return Ok(Response { status: 99, ..Response::empty(200) }),
            _ => {}
        }
        Ok(Response::json(200, &serde_json::json!({"path": request.path})))
    }
}

impl Rates {
    /// Body: `{"revision": 0, "set": {"key": "value"}}`; answers all keys.
    fn keys(&self, request: &Request) -> Result<Response> {
        let asked: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if let Some(set) = asked["set"].as_object() {
            let edits: Vec<Edit> = set
                .iter()
                .map(|(key, value)| Edit {
                    key: key.clone(),
                    value: value.as_str().map(|text| text.as_bytes().to_vec()),
                })
                .collect();
            self.host.kv_apply(asked["revision"].as_u64().unwrap_or_default(), &edits)?;
        }
        let at = asked["at"].as_u64().unwrap_or(Host::NOW);
        let (revision, pairs) = self.host.kv_scan(at, "")?;
        let keys: BTreeMap<String, String> = pairs
            .into_iter()
            .map(|(key, value)| (key, String::from_utf8_lossy(&value).into_owned()))
            .collect();
        let one = self.host.kv_get(at, "a")?.map(|value| String::from_utf8(value).unwrap());
        Ok(Response::json(200, &serde_json::json!({"revision": revision, "keys": keys, "a": one})))
    }

    /// Body: `{"url": …, "options": …}`; answers what came back.
    fn send(&self, call: &Call, request: &Request) -> Result<Response> {
        let asked: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let options: HttpOptions =
            serde_json::from_value(asked["options"].clone()).unwrap_or_default();
        let headers = [("authorization".to_owned(), "Bearer secret".to_owned())];
        let sent = HttpRequest {
            method: Method::Post,
            url: asked["url"].as_str().unwrap().to_owned(),
            headers: BTreeMap::from(headers),
            body: b"ping".to_vec(),
            options,
        };
        let answer = self.host.http(call, &sent)?;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        let headers = answer.headers;
        let answer = serde_json::json!({"status": answer.status, "body": body, "headers": headers});
        Ok(Response::json(200, &answer))
    }
}

/// Threads that ask for the time and for a key at once.
const ASKING_THREADS: usize = 100;

impl Rates {
    /// Body: `{"url": …, "count": …}`; so many requests from threads of its own, and what became of
    /// them.
    fn send_at_once(&self, call: &Call, request: &Request) -> Response {
        let asked: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let sent = HttpRequest {
            method: Method::Post,
            url: asked["url"].as_str().unwrap().to_owned(),
            headers: BTreeMap::new(),
            body: b"ping".to_vec(),
            options: HttpOptions::default(),
        };
        let outcomes: Vec<String> = std::thread::scope(|scope| {
            let ask = || match self.host.http(call, &sent) {
                Ok(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
                Err(error) => format!("{:?}", error.status),
            };
            let count = 0..asked["count"].as_u64().unwrap();
            let threads: Vec<_> = count.map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        Response::json(200, &serde_json::json!(outcomes))
    }

    /// How many of them got both.
    fn ask_at_once(&self) -> Response {
        let answered = std::thread::scope(|scope| {
            let ask = || {
                let is_now = self.host.now().timestamp() > 1_000_000_000;
                is_now && self.host.kv_get(Host::NOW, "a").is_ok()
            };
            let threads: Vec<_> = (0..ASKING_THREADS).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|all| *all).count()
        });
        Response::json(200, &serde_json::json!([ASKING_THREADS, answered]))
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        // Within another panic it would abort: that is not what is tried here.
        let is_told = self.does == "panic in drop" && !std::thread::panicking();
        assert!(!is_told, "drop went wrong");
    }
}

impl Rater for Rules {
    fn explain(
        &self,
        _: &Call,
        _: &RateRequest,
        _: &RecordBatch,
        _: std::ops::Range<usize>,
    ) -> Result<Explanation> {
        assert!(self.does != "panic in explain", "explain went wrong");
        Err(Error::new(Status::Unsupported, "no reasons"))
    }

    fn rate(&self, call: &Call, _: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
        let rows = usage.num_rows();
        let one = |name: &str, column: Arc<dyn Array>| {
            let field = Field::new("price", column.data_type().clone(), true);
            let schema = Schema::new_with_metadata(vec![field], schema_metadata(name));
            Ok(RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap())
        };
        let decimals = |values: Vec<Option<i128>>, precision, scale| {
            let array = Decimal128Array::from(values).with_precision_and_scale(precision, scale);
            Arc::new(array.unwrap())
        };
        match self.does.as_str() {
            "panic in rate" => panic!("rate went wrong"),
            "hang in rate" => hang(),
            "lose a row of the cursed" => {
                let usage = UsageBatch::new(usage)?;
                let is_cursed = (0..rows).any(|row| usage.scope_at(row) == "cursed");
                PriceBatch::from_prices(&vec![Decimal::ONE; rows - usize::from(is_cursed)])
            }
            "lose a row" => PriceBatch::from_prices(&vec![Decimal::ONE; rows - 1]),
            "add a row" => PriceBatch::from_prices(&vec![Decimal::ONE; rows + 1]),
            "price in integers" => one("price/1", Arc::new(Int64Array::from(vec![1; rows]))),
            "price nothing" => one("price/1", decimals(vec![None; rows], 38, 2)),
            "price in another precision" => one("price/1", decimals(vec![Some(1); rows], 20, 2)),
            "price in a negative scale" => one("price/1", decimals(vec![Some(1); rows], 38, -2)),
            "price too much" => one("price/1", decimals(vec![Some(i128::MAX); rows], 38, 2)),
            "name another schema" => one("price/2", decimals(vec![Some(1); rows], 38, 2)),
            "ask for a split" => Err(Error::split("too wide together")),
            _ => {
                call.check_cancelled()?;
                PriceBatch::unchanged(&UsageBatch::new(usage)?)
            }
        }
    }
}
