//! Each check of the conformance test catches what it is for.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rated_plugin::raw::PluginDecl;
use rated_plugin::testing::{Outcome, check_plugin};
use rated_plugin::{
    AsOf, Batches, Call, CollectRequest, Collector, Component, Decimal, Error, Fetcher, Host,
    HttpRequest, PriceBatch, RateRequest, Rater, RatingModule, RecordBatch, Request, Response,
    Result, UsageBatch, UsageBuilder, declare,
};

/// A module that is wrong in one way.
struct Wrong<const HOW: u8> {
    calls: AtomicU32,
}

const ACCEPTS_ALL: u8 = 0;
const TOO_FEW: u8 = 1;
const FORGETS: u8 = 2;
const SERVES_ALL: u8 = 3;
const NEEDS_ATTRIBUTES: u8 = 4;
const CHECK_PANICS: u8 = 5;

struct WrongRater<const HOW: u8>(Arc<Wrong<HOW>>);

impl<const HOW: u8> Component for Wrong<HOW> {
    const NAME: &'static str = "wrong";
    const SUMMARY: &'static str = "Wrong in one way";
    const SAMPLE_CONFIG: &'static str = "";
    type Config = serde_json::Map<String, serde_json::Value>;

    fn create(config: Self::Config, _: Host) -> Result<Wrong<HOW>> {
        if HOW != ACCEPTS_ALL && !config.is_empty() {
            return Err(Error::invalid_config("no key is known"));
        }
        Ok(Wrong { calls: AtomicU32::new(0) })
    }

    fn check(&self, _: &Call) -> Result<()> {
        assert!(HOW != CHECK_PANICS, "checked");
        Ok(())
    }
}

impl<const HOW: u8> RatingModule for Wrong<HOW> {
    type Rater = WrongRater<HOW>;

    fn prepare(&self, _: &Call, _: AsOf) -> Result<WrongRater<HOW>> {
        Ok(WrongRater(Arc::new(Wrong { calls: AtomicU32::new(0) })))
    }

    fn handle(&self, _: &Call, _: &Request) -> Result<Response> {
        Ok(Response::empty(if HOW == SERVES_ALL { 200 } else { 404 }))
    }
}

impl<const HOW: u8> Rater for WrongRater<HOW> {
    fn rate(&self, _: &Call, _: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
        let usage = UsageBatch::new(usage)?;
        let call = self.0.calls.fetch_add(1, Ordering::SeqCst);
        let rows = match HOW {
            TOO_FEW => usage.rows().saturating_sub(1),
            _ => usage.rows(),
        };
        if HOW == NEEDS_ATTRIBUTES && usage.attribute("id").is_none() {
            return Err(Error::bad_data("no `id`"));
        }
        let price = if HOW == FORGETS { Decimal::from(call) } else { Decimal::ZERO };
        PriceBatch::from_prices(&vec![price; rows])
    }
}

/// A source that is wrong in one way.
struct Source<const HOW: u8>(Host);

const TAKES_FAILURE_FOR_NOTHING: u8 = 0;
const TAKES_GARBAGE_FOR_NOTHING: u8 = 1;
const LACKS_ATTRIBUTES: u8 = 2;
const MIXES_SCOPES: u8 = 3;
const IS_SILENT: u8 = 4;

impl<const HOW: u8> Component for Source<HOW> {
    const NAME: &'static str = "source";
    const SUMMARY: &'static str = "Wrong in one way";
    const SAMPLE_CONFIG: &'static str = "";
    type Config = serde_json::Map<String, serde_json::Value>;

    fn create(config: Self::Config, host: Host) -> Result<Source<HOW>> {
        if config.is_empty() {
            Ok(Source(host))
        } else {
            Err(Error::invalid_config("no key is known"))
        }
    }
}

impl<const HOW: u8> Collector for Source<HOW> {
    fn collect(&self, call: &Call, request: &CollectRequest) -> Result<Batches> {
        let metric = &request.metric;
        let mut rows = match HOW {
            LACKS_ATTRIBUTES => UsageBuilder::new::<&str>(&[], &[]),
            _ => UsageBuilder::new(&metric.groupby, &metric.metadata),
        };
        match HOW {
            MIXES_SCOPES => rows.push("another", Decimal::ONE, &[None, None])?,
            IS_SILENT => return Err(Error::unavailable("")),
            TAKES_FAILURE_FOR_NOTHING => {
                let _ = self.0.http(call, &HttpRequest::get("http://source.test/"));
            }
            TAKES_GARBAGE_FOR_NOTHING => {
                self.0.http(call, &HttpRequest::get("http://source.test/"))?;
            }
            _ => {}
        }
        Ok(Batches::one(rows.finish()?))
    }
}

impl<const HOW: u8> Fetcher for Source<HOW> {
    fn scopes(&self, call: &Call) -> Result<Batches> {
        let answer = self.0.http(call, &HttpRequest::get("http://source.test/"));
        if HOW == TAKES_GARBAGE_FOR_NOTHING {
            answer?;
        }
        Ok(Batches::scopes::<&str>([]))
    }
}

/// The names of the checks that a plugin fails.
fn failed(plugin: &'static PluginDecl) -> Vec<&'static str> {
    check_plugin(plugin)
        .into_iter()
        .filter(|check| matches!(check.outcome, Outcome::Failed(_)))
        .map(|check| check.name)
        .collect()
}

#[test]
fn a_module_that_is_wrong_in_one_way_fails_for_it() {
    const ROWS: [&str; 3] = [
        "every row gets its price",
        "absent and unknown attributes are borne",
        "a slice of a batch is rated as its rows were",
    ];
    const EMPTY: &str = "a batch without rows is rated";
    let wrong = |plugin, names: &[&str]| assert_eq!(failed(plugin), names);

    wrong(declare! { rating_modules: [Wrong<ACCEPTS_ALL>] }, &["an unknown key is refused"]);
    wrong(declare! { rating_modules: [Wrong<CHECK_PANICS>] }, &["a failing check explains itself"]);
    wrong(declare! { rating_modules: [Wrong<SERVES_ALL>] }, &["an unknown path is not found"]);
    wrong(declare! { rating_modules: [Wrong<NEEDS_ATTRIBUTES>] }, &[EMPTY, ROWS[1]]);
    wrong(
        declare! { rating_modules: [Wrong<FORGETS>] },
        &[ROWS[2], "the same rows get the same prices, from any thread"],
    );
    let too_few = failed(declare! { rating_modules: [Wrong<TOO_FEW>] });
    assert!(ROWS.iter().all(|name| too_few.contains(name)), "{too_few:?}");
}

#[test]
fn a_source_that_is_wrong_in_one_way_fails_for_it() {
    const BROKEN: &str = "a broken source is never taken for no data";
    const FILTER: &str = "a filter that matches nothing is answered or explained";
    const CANCELLED: &str = "a cancelled call ends";
    const EVERY: &str = "every scope at once is answered or explained";
    let wrong = |plugin, names: &[&str]| assert_eq!(failed(plugin), names);

    wrong(declare! { collectors: [Source<TAKES_FAILURE_FOR_NOTHING>] }, &[BROKEN]);
    wrong(declare! { collectors: [Source<TAKES_GARBAGE_FOR_NOTHING>] }, &[BROKEN]);
    wrong(declare! { fetchers: [Source<TAKES_FAILURE_FOR_NOTHING>] }, &[BROKEN]);
    wrong(declare! { fetchers: [Source<TAKES_GARBAGE_FOR_NOTHING>] }, &[BROKEN]);
    wrong(declare! { collectors: [Source<MIXES_SCOPES>] }, &[FILTER]);
    wrong(declare! { collectors: [Source<LACKS_ATTRIBUTES>] }, &[FILTER, EVERY, CANCELLED]);
    let silent = failed(declare! { collectors: [Source<IS_SILENT>] });
    assert!(silent.contains(&FILTER), "{silent:?}");
}

#[test]
#[should_panic(expected = "FAIL  rating module wrong: an unknown key is refused")]
fn the_one_liner_lists_what_failed() {
    rated_plugin::testing::conformance(declare! { rating_modules: [Wrong<ACCEPTS_ALL>] });
}
