//! The traits a plugin author implements.

use std::ops::Range;

use arrow_array::RecordBatch;
use serde::de::DeserializeOwned;

use crate::{
    AsOf, Batches, Call, CollectRequest, Error, Explanation, Host, RateRequest, Request, Response,
    Result, Status,
};

/// What every collector, fetcher and rating module has: a name, a configuration, a way to make it.
///
/// The host makes one instance for each configuration and may call it from several threads at once.
/// It is dropped when the daemon stops or loads the plugin anew, after its raters and batches; by
/// then the threads it started, if any, must have ended. After a panic it is not dropped at all.
///
/// ```
/// use rated_plugin::{Call, Component, Error, Host, HttpRequest, Result};
///
/// struct Meter {
///     url: String,
///     host: Host,
/// }
///
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Settings {
///     url: String,
/// }
///
/// impl Component for Meter {
///     const NAME: &'static str = "meter";
///     const SUMMARY: &'static str = "Asks the meter";
///     const SAMPLE_CONFIG: &'static str = "url = \"http://127.0.0.1:4711/\"  # of the meter";
///     type Config = Settings;
///
///     fn create(config: Settings, host: Host) -> Result<Meter> {
///         if !config.url.starts_with("http") {
///             return Err(Error::invalid_config(format!("`url`: `{}` is no address", config.url)));
///         }
///         Ok(Meter { url: config.url, host })
///     }
///
///     fn check(&self, call: &Call) -> Result<()> {
///         match self.host.http(call, &HttpRequest::get(&self.url))?.status {
///             200 => Ok(()),
///             status => Err(Error::unavailable(format!("the meter answered {status}"))),
///         }
///     }
/// }
/// ```
pub trait Component: Sized + Send + Sync + 'static {
    /// `[a-z][a-z0-9-]{0,31}`, unique in a daemon for each kind.
    const NAME: &'static str;
    /// One sentence, shown by the API and by `rated plugin list`.
    const SUMMARY: &'static str;
    /// TOML: every key of the configuration with a working value and a comment, without the table's
    /// own header. `rated plugin sample` prints it, the conformance test makes an instance of it.
    const SAMPLE_CONFIG: &'static str;
    /// JSON Schema of the configuration, for editors and web forms; empty = none.
    const CONFIG_SCHEMA: &'static str = "";
    /// The configuration table; use `#[serde(deny_unknown_fields)]`, so that a misspelt key is an
    /// error. A table that does not fit is `InvalidConfig`.
    type Config: DeserializeOwned;

    /// Checks the configuration and makes the instance. Opens no connection: that is for
    /// [`Component::check`].
    fn create(config: Self::Config, host: Host) -> Result<Self>;

    /// Does the outside world answer? The error says who does not, and what to do. Called after
    /// `create` at start and at reload. A start waits for it only briefly; an error that comes
    /// later is logged, and the instance is used all the same.
    fn check(&self, call: &Call) -> Result<()> {
        let _ = call;
        Ok(())
    }
}

/// Measures what scopes used.
///
/// ```
/// use rated_plugin::*;
/// # struct Clock;
/// # #[derive(serde::Deserialize)]
/// # #[serde(deny_unknown_fields)]
/// # struct Settings {}
/// # impl Component for Clock {
/// #     const NAME: &'static str = "clock";
/// #     const SUMMARY: &'static str = "Everybody used the whole period";
/// #     const SAMPLE_CONFIG: &'static str = "";
/// #     type Config = Settings;
/// #     fn create(_: Settings, _: Host) -> Result<Clock> { Ok(Clock) }
/// # }
///
/// impl Collector for Clock {
///     fn collect(&self, call: &Call, request: &CollectRequest) -> Result<Batches> {
///         let metric = &request.metric;
///         let mut rows = UsageBuilder::new(&metric.groupby, &metric.metadata);
///         let absent = vec![None; metric.groupby.len() + metric.metadata.len()];
///         let seconds = Decimal::from((request.end - request.begin).num_seconds());
///         for scope in &request.scopes {
///             call.check_cancelled()?;
///             rows.push(scope, seconds, &absent)?;
///         }
///         Ok(Batches::one(rows.finish()?))
///     }
/// }
/// # rated_plugin::testing::conformance(rated_plugin::declare! { collectors: [Clock] });
/// ```
pub trait Collector: Component {
    /// One metric of one period for many scopes, as batches of schema `usage/1` (see
    /// [`crate::UsageBuilder`]).
    ///
    /// No row for a scope means "no data": only say so when the source said so. A partial answer is
    /// an error. [`crate::Status::NotFound`] means that this time is lost for ever; the daemon
    /// records the period as failed and goes on. Every other error stops or delays the metric.
    fn collect(&self, call: &Call, request: &CollectRequest) -> Result<Batches>;
}

/// Finds who is to be billed.
///
/// ```
/// use rated_plugin::*;
/// # struct Fixed;
/// # #[derive(serde::Deserialize)]
/// # #[serde(deny_unknown_fields)]
/// # struct Settings {}
/// # impl Component for Fixed {
/// #     const NAME: &'static str = "fixed";
/// #     const SUMMARY: &'static str = "Always the same scopes";
/// #     const SAMPLE_CONFIG: &'static str = "";
/// #     type Config = Settings;
/// #     fn create(_: Settings, _: Host) -> Result<Fixed> { Ok(Fixed) }
/// # }
///
/// impl Fetcher for Fixed {
///     fn scopes(&self, _: &Call) -> Result<Batches> {
///         Ok(Batches::scopes(["alice", "bob"]))
///     }
/// }
/// # rated_plugin::testing::conformance(rated_plugin::declare! { fetchers: [Fixed] });
/// ```
pub trait Fetcher: Component {
    /// All scopes there are now, as batches of schema `scopes/1` (see [`Batches::scopes`]).
    fn scopes(&self, call: &Call) -> Result<Batches>;
}

/// Turns usage into prices.
///
/// The module owns the rules, a [`Rater`] is what they were at one instant: a change of rules while
/// a period is rated touches the next period only. Rules that can be changed over REST are kept in
/// the host's store ([`Host::kv_apply`]), where every revision is kept by which something was rated
/// that is kept, so that an old period can be rated again with the rules of its time.
///
/// ```
/// use rated_plugin::decimal::{add_half_even, multiply_half_even};
/// use rated_plugin::*;
///
/// /// One price for each unit, set with `PUT /price`.
/// struct PerUnit {
///     host: Host,
/// }
/// # #[derive(serde::Deserialize)]
/// # #[serde(deny_unknown_fields)]
/// # struct Settings {}
/// # impl Component for PerUnit {
/// #     const NAME: &'static str = "per-unit";
/// #     const SUMMARY: &'static str = "One price for each unit";
/// #     const SAMPLE_CONFIG: &'static str = "";
/// #     type Config = Settings;
/// #     fn create(_: Settings, host: Host) -> Result<PerUnit> { Ok(PerUnit { host }) }
/// # }
///
/// struct Price(Decimal);
///
/// impl RatingModule for PerUnit {
///     type Rater = Price;
///     const HOT_CONFIG: bool = true;
///     const API_SCHEMA: &'static str = r#"{"/price": {"put": {}}}"#;
///
///     fn prepare(&self, _: &Call, as_of: AsOf) -> Result<Price> {
///         let kept = self.host.kv_get(as_of.revision, "price")?;
///         let text = kept.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
///         text.unwrap_or_else(|| "0".to_owned())
///             .parse()
///             .map(Price)
///             .map_err(|_| Error::internal("the price kept is no number"))
///     }
///
///     fn handle(&self, _: &Call, request: &Request) -> Result<Response> {
///         if (request.method, request.path.as_str()) != (Method::Put, "/price") {
///             return Ok(Response::not_found());
///         }
///         let text = std::str::from_utf8(&request.body).unwrap_or_default();
///         if text.parse::<Decimal>().is_err() {
///             return Err(Error::invalid_request(format!("`{text}` is no price")));
///         }
///         let (revision, _) = self.host.kv_scan(Host::NOW, "")?;
///         self.host.kv_apply(revision, &[Edit::put("price", text)])?;
///         Ok(Response::empty(204))
///     }
/// }
///
/// impl Rater for Price {
///     fn rate(&self, _: &Call, _: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
///         let usage = UsageBatch::new(usage)?;
///         let price = |row| {
///             let price = multiply_half_even(usage.qty_at(row), self.0)?;
///             add_half_even(usage.price_at(row), price)
///         };
///         let prices: Option<Vec<Decimal>> = (0..usage.rows()).map(price).collect();
///         PriceBatch::from_prices(&prices.ok_or_else(|| Error::bad_data("too large a price"))?)
///     }
/// }
///
/// # rated_plugin::testing::conformance(rated_plugin::declare! { rating_modules: [PerUnit] });
/// # let host = testing::FakeHost::new();
/// # let module = testing::TestModule::new::<PerUnit>(&host, "").unwrap();
/// # assert_eq!(module.handle(&Request::put("/price", "0.5")).unwrap().status, 204);
/// # assert!(module.handle(&Request::put("/price", "x")).is_err());
/// # module.prepare_at(host.now()).unwrap();
/// ```
pub trait RatingModule: Component {
    /// Rules in force at one instant; immutable.
    type Rater: Rater;
    /// Its rules can be changed while it runs.
    const HOT_CONFIG: bool = false;
    /// Always enabled; the API cannot change that.
    const ALWAYS_ON: bool = false;
    /// The `paths` object (`OpenAPI` 3.1, JSON) that [`RatingModule::handle`] serves; empty =
    /// serves nothing. Beside the paths `components` may hold `schemas` for references of the form
    /// `#/components/schemas/<name>`. The daemon shows all of it in its own document, with the
    /// module's name before the names of schemas; what every path may answer (400, 406, 413, 415,
    /// 500, 503, and tags with 304 and 412) it adds itself.
    const API_SCHEMA: &'static str = "";

    /// A snapshot of the rules that are in force at `as_of.at`, as they were known at
    /// `as_of.revision`.
    fn prepare(&self, call: &Call, as_of: AsOf) -> Result<Self::Rater>;

    /// A REST call below `/v1/rating/module_config/<NAME>`, for a path and method of
    /// [`RatingModule::API_SCHEMA`]. An error is answered with its status's code and its message.
    fn handle(&self, call: &Call, request: &Request) -> Result<Response> {
        let _ = (call, request);
        Ok(Response::not_found())
    }
}

/// Rates batches, from any number of threads at once; immutable, so the same usage always gets the
/// same prices. See [`RatingModule`] for one.
pub trait Rater: Send + Sync + 'static {
    /// One price for each row of `usage` (schema `usage/1` with the column `price`, the price so
    /// far), in the same order, as a batch of schema `price/1` (see [`crate::PriceBatch`]).
    fn rate(&self, call: &Call, request: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch>;

    /// How [`Rater::rate`] comes to the prices of some rows of the same batch, as steps. The daemon
    /// asks when somebody wants to know why a price is what it is; it computes the steps again, and
    /// tells nobody a reason that does not lead to the price.
    ///
    /// [`crate::Status::Unsupported`], which is the default, means that the module gives no
    /// reasons: then the daemon tells its name, the revision of its rules, and the price before and
    /// after it.
    ///
    /// ```
    /// use std::ops::Range;
    ///
    /// use rated_plugin::decimal::{add_half_even, multiply_half_even};
    /// use rated_plugin::*;
    ///
    /// struct Price(Decimal);
    ///
    /// impl Rater for Price {
    ///     fn rate(&self, _: &Call, _: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
    ///         let usage = UsageBatch::new(usage)?;
    ///         let price = |row| {
    ///             let amount = multiply_half_even(usage.qty_at(row), self.0)?;
    ///             add_half_even(usage.price_at(row), amount)
    ///         };
    ///         let prices: Option<Vec<Decimal>> = (0..usage.rows()).map(price).collect();
    ///         PriceBatch::from_prices(&prices.ok_or_else(|| Error::bad_data("too large"))?)
    ///     }
    ///
    ///     fn explain(
    ///         &self,
    ///         _: &Call,
    ///         _: &RateRequest,
    ///         usage: &RecordBatch,
    ///         rows: Range<usize>,
    ///     ) -> Result<Explanation> {
    ///         let usage = UsageBatch::new(usage)?;
    ///         let steps = |row| {
    ///             let mut steps = Steps::new(usage.qty_at(row), usage.price_at(row));
    ///             let unit = Given::Rule(Rule::new("price", "price"), self.0);
    ///             steps.push("amount", Operation::Multiply, [Given::Number(QTY), unit])?;
    ///             let sum = [Given::Number(PRICE), Given::Number("amount")];
    ///             steps.push(PRICE, Operation::Add, sum)?;
    ///             Ok(steps.finish())
    ///         };
    ///         Ok(Explanation { rows: rows.map(steps).collect::<Result<_>>()? })
    ///     }
    /// }
    /// # struct Module;
    /// # #[derive(serde::Deserialize)]
    /// # #[serde(deny_unknown_fields)]
    /// # struct Settings {}
    /// # impl Component for Module {
    /// #     const NAME: &'static str = "priced";
    /// #     const SUMMARY: &'static str = "One price";
    /// #     const SAMPLE_CONFIG: &'static str = "";
    /// #     type Config = Settings;
    /// #     fn create(_: Settings, _: Host) -> Result<Module> { Ok(Module) }
    /// # }
    /// # impl RatingModule for Module {
    /// #     type Rater = Price;
    /// #     fn prepare(&self, _: &Call, _: AsOf) -> Result<Price> { Ok(Price(Decimal::TEN)) }
    /// # }
    /// # rated_plugin::testing::conformance(rated_plugin::declare! { rating_modules: [Module] });
    /// ```
    fn explain(
        &self,
        call: &Call,
        request: &RateRequest,
        usage: &RecordBatch,
        rows: Range<usize>,
    ) -> Result<Explanation> {
        let _ = (call, request, usage, rows);
        Err(Error::new(Status::Unsupported, "this module gives no reasons"))
    }
}
