//! What scripts make of prices, and what becomes of those that do something else.

#![cfg(test)]

use chrono::{DateTime, Duration, Utc};
use rated_plugin::testing::{FakeHost, TestModule};
use rated_plugin::{
    AsOf, Decimal, Error, Purpose, RateRequest, RecordBatch, Request, Status, UsageBuilder,
    check_steps,
};
use rated_pyscripts::PyScripts;
use serde_json::{Value, json};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn request() -> RateRequest {
    RateRequest {
        purpose: Purpose::Period,
        metric: "cpu".to_owned(),
        begin: at("2026-01-01T00:00:00Z"),
        end: at("2026-01-01T01:00:00Z"),
    }
}

/// Scope, quantity, flavor.
fn batch(rows: &[(&str, &str, Option<&str>)]) -> RecordBatch {
    let mut builder = UsageBuilder::new(&["project_id"], &["flavor"]);
    for (scope, qty, flavor) in rows {
        builder.push(scope, qty.parse().unwrap(), &[Some(*scope), *flavor]).unwrap();
    }
    builder.finish().unwrap()
}

struct Module {
    host: FakeHost,
    module: TestModule,
}

impl Module {
    fn new(config: &str) -> Module {
        let host = FakeHost::new();
        let module = TestModule::new::<PyScripts>(&host, config).unwrap();
        Module { host, module }
    }

    fn delete(&self, id: &str) {
        let delete = Request::delete(&format!("/scripts/{id}"));
        assert_eq!(self.module.handle(&delete).unwrap().status, 204);
    }

    /// Stores a script that is in force from the host's start on; its id.
    fn add(&self, name: &str, data: &str) -> String {
        let body = json!({"name": name, "data": data, "start": "2026-01-01"});
        let mut post = Request::post("/scripts", body.to_string());
        post.query = "force=true".to_owned();
        let response = self.module.handle(&post).unwrap();
        let text = String::from_utf8(response.body).unwrap();
        assert_eq!(response.status, 201, "{text}");
        let made: Value = serde_json::from_str(&text).unwrap();
        made["script_id"].as_str().unwrap().to_owned()
    }

    fn rate(&self, rows: &[(&str, &str, Option<&str>)]) -> Result<Vec<String>, Error> {
        let rater = self.module.prepare_at(request().begin)?;
        let prices = rater.rate(&request(), &batch(rows))?;
        Ok(prices.iter().map(|price| price.normalize().to_string()).collect())
    }
}

/// The prices of two points, of 1.5 and 2, by these scripts.
fn prices(scripts: &[(&str, &str)]) -> Result<Vec<String>, Error> {
    let module = Module::new("");
    for (name, data) in scripts {
        module.add(name, data);
    }
    module.rate(&[("a", "1.5", Some("small")), ("a", "2", None)])
}

#[track_caller]
fn check(script: &str, expected: [&str; 2]) {
    let lines = format!("import decimal\nfor p in data['usage']['cpu']:\n    {script}\n");
    assert_eq!(prices(&[("s", &lines)]).unwrap(), expected, "{script}");
}

#[test]
fn prices_come_back_exactly() {
    check("p['rating']['price'] = p['vol']['qty'] * decimal.Decimal('0.1')", ["0.15", "0.2"]);
    check(
        "p['rating'] = {'price': decimal.Decimal(1) / 3}",
        ["0.3333333333333333333333333333", "0.3333333333333333333333333333"],
    );
    check(
        "p['rating']['price'] = decimal.Decimal('1e-28')",
        ["0.0000000000000000000000000001", "0.0000000000000000000000000001"],
    );
    check(
        "p['rating']['price'] = decimal.Decimal('-2.5e-28')",
        ["-0.0000000000000000000000000002", "-0.0000000000000000000000000002"],
    );
    check("p['rating']['price'] = 0.1", ["0.1", "0.1"]);
    check("p['rating']['price'] = '7'", ["7", "7"]);
    check("p['rating']['price'] = len(p['metadata'])", ["1", "0"]);
    check("p['rating']['price'] = data['period']['begin'].year", ["2026", "2026"]);
    check("p['rating']['price'] = int(p['groupby'] == {'project_id': 'a'})", ["1", "1"]);
    check("print(p)", ["0", "0"]);
}

#[test]
fn scripts_run_in_the_order_of_their_names_on_what_is_left() {
    let add = "for p in data['usage']['cpu']: p['rating']['price'] += 1";
    let double = "for p in data['usage']['cpu']: p['rating']['price'] *= 2";

    assert_eq!(prices(&[("b", double), ("a", add)]).unwrap(), ["2", "2"]);
    assert_eq!(prices(&[("b", add), ("a", double)]).unwrap(), ["1", "1"]);
}

#[test]
fn the_price_after_each_script_is_told() {
    let module = Module::new("");
    let add = "for p in data['usage']['cpu']: p['rating']['price'] += p['vol']['qty']";
    let double = "for p in data['usage']['cpu']: p['rating']['price'] *= 2";
    let (first, second) = (module.add("1", add), module.add("2", double));
    let usage = batch(&[("a", "1", None), ("b", "2", None), ("a", "3", None)]);
    let rater = module.module.prepare_at(request().begin).unwrap();

    let explanation = rater.explain(&request(), &usage, 1..3).unwrap();

    let prices = rater.rate(&request(), &usage).unwrap();
    assert_eq!(explanation.rows.len(), 2);
    for (row, steps) in (1..).zip(&explanation.rows) {
        let qty = Decimal::from([1, 2, 3][row]);
        assert_eq!(check_steps(steps, qty, Decimal::ZERO), Ok(prices[row]), "{steps:?}");
        let told = steps.iter().map(|step| step.operands[0].rule.as_ref().unwrap());
        let ids: Vec<&str> = told.clone().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids, [first.as_str(), second.as_str()]);
        assert!(told.clone().all(|rule| rule.details["sha512"].len() == 128));
        let after: Vec<Decimal> = steps.iter().map(|step| step.result).collect();
        assert_eq!(after, [qty, qty * Decimal::TWO]);
    }
}

#[test]
fn only_scripts_in_force_at_the_periods_begin_run() {
    let module = Module::new("");
    let id = module.add("s", "for p in data['usage']['cpu']: p['rating']['price'] = 1");
    let price = |begin: &str, revision: u64| {
        let rater = module.module.prepare(AsOf { at: at(begin), revision }).unwrap();
        rater.rate(&request(), &batch(&[("a", "1", None)])).unwrap()[0].to_string()
    };
    let before = module.host.revision();

    let end = json!({"name": "s", "end": "2026-02-01T00:00:00"}).to_string();
    let put = Request::put(&format!("/scripts/{id}"), end);
    module.host.advance(Duration::seconds(1));
    assert_eq!(module.module.handle(&put).unwrap().status, 201);

    assert_eq!(price("2025-12-31T23:00:00Z", u64::MAX), "0");
    assert_eq!(price("2026-01-01T00:00:00Z", u64::MAX), "1");
    assert_eq!(price("2026-01-31T23:59:59Z", u64::MAX), "1");
    assert_eq!(price("2026-02-01T00:00:00Z", u64::MAX), "0");
    assert_eq!(price("2026-02-01T00:00:00Z", before), "1");
    module.delete(&id);
    assert_eq!(price("2026-01-01T00:00:00Z", u64::MAX), "0");
}

#[test]
fn a_scope_sees_its_own_points_only() {
    let script = "points = data['usage']['cpu']\n\
                  for p in points: p['rating']['price'] = len(points)";
    let module = Module::new("");
    module.add("s", script);
    let rows = [("a", "1", None), ("b", "1", None), ("a", "1", None), ("a", "1", None)];

    assert_eq!(module.rate(&rows).unwrap(), ["3", "1", "3", "3"]);
}

#[test]
fn a_point_has_its_unit() {
    let module = Module::new("");
    module.add("s", "for p in data['usage']['cpu']: p['rating']['price'] = len(p['vol']['unit'])");
    let plain = batch(&[("a", "1", None)]);
    let mut metadata = plain.schema().metadata().clone();
    metadata.insert(rated_plugin::UNIT_KEY.to_owned(), "GiB".to_owned());
    let schema = plain.schema().as_ref().clone().with_metadata(metadata);
    let usage = plain.clone().with_schema(schema.into()).unwrap();
    let rater = module.module.prepare_at(request().begin).unwrap();

    let prices = [&usage, &plain].map(|usage| rater.rate(&request(), usage).unwrap()[0]);

    assert_eq!(prices.map(|price| price.to_string()), ["3", "0"]);
}

#[test]
fn nothing_of_a_run_is_left_for_the_next() {
    let script = "import decimal\n\
                  seen = getattr(decimal, 'seen', 0)\n\
                  decimal.seen = seen + 1\n\
                  for p in data['usage']['cpu']: p['rating']['price'] = seen";
    let module = Module::new("processes = 1");
    module.add("s", script);

    for _ in 0..3 {
        assert_eq!(module.rate(&[("a", "1", None), ("b", "1", None)]).unwrap(), ["0", "0"]);
    }
}

#[test]
fn a_script_that_changes_more_than_prices_fails_and_says_so() {
    let module = Module::new("");
    let refused = |script: &str, message: &str| {
        let id = module.add("s", script);
        let error = module.rate(&[("a", "1.5", Some("small")), ("a", "2", None)]).unwrap_err();
        module.delete(&id);
        assert_eq!(error.status, Status::BadData, "{error}");
        let expected = format!("scope `a`: script `s`: {message}");
        assert!(error.message.starts_with(&expected), "{error}");
    };

    refused("data['usage']['cpu'].pop()", "left 1 points of `cpu` where there were 2");
    refused("data['usage']['cpu'].append({})", "left 3 points of `cpu` where there were 2");
    refused("data['usage']['cpu'].reverse()", "changed `vol` of point 0 of `cpu`, or the order");
    refused("data['usage']['cpu'][1]['vol']['qty'] += 1", "changed `vol` of point 1");
    refused("data['usage']['cpu'][1]['groupby'] = {}", "changed `groupby` of point 1");
    refused("data['usage']['cpu'][0]['metadata']['x'] = 1", "changed `metadata` of point 0");
    refused("data['usage']['cpu'][0]['x'] = 1", "added or dropped a part of point 0");
    refused("data['usage']['other'] = []", "added or dropped a metric");
    refused("del data['period']", "changed `data` beside `usage`");
    refused("data = None", "left no dictionary");
    refused("data['usage']['cpu'][0]['rating'] = {}", "left no price in `rating` of point 0");
    let price = "data['usage']['cpu'][0]['rating']['price'] = ";
    refused(&format!("{price}True"), "made the price of point 0 of `cpu` True, which is no number");
    refused(&format!("{price}'x'"), "made the price of point 0 of `cpu` 'x'");
    refused(&format!("{price}float('nan')"), "made the price of point 0 of `cpu` NaN");
    refused(&format!("{price}10 ** 40"), "made the price of point 0 of `cpu` too large");
    refused(&format!("{price}10 ** 28 + 10 ** 28 * 7"), "made the price of point 0 of `cpu` 80");
}

#[test]
fn a_failure_names_scope_script_and_line_and_logs_the_traceback() {
    let module = Module::new("");
    module.add("s", "def price(p):\n    return 1 / 0\n\nprice(data)");

    let error = module.rate(&[("a", "1", None)]).unwrap_err();

    let expected = "scope `a`: script `s`, line 2: ZeroDivisionError: division by zero";
    assert_eq!((error.status, error.message.as_str()), (Status::BadData, expected));
    let logged = module.host.logged().pop().unwrap().message;
    assert!(logged.contains("scope `a`, metric `cpu`, period 2026-01-01T00:00:00Z"), "{logged}");
    assert!(logged.contains("line 4, in <module>"), "{logged}");
    assert!(logged.contains("return 1 / 0"), "{logged}");
}

#[test]
fn a_failure_is_remembered_for_a_minute() {
    let module = Module::new("");
    module.add(
        "s",
        "import time\n\
         for p in data['usage']['cpu']: p['rating']['price'] = 1\n\
         if p['groupby']['project_id'] == 'bad': raise Exception(time.time_ns())",
    );
    let rater = module.module.prepare_at(request().begin).unwrap();
    let bad = batch(&[("good", "1", None), ("bad", "1", None)]);
    let fail = |usage: &RecordBatch| rater.rate(&request(), usage).unwrap_err().message;

    let first = fail(&bad);

    assert!(first.starts_with("scope `bad`: script `s`, line 3: Exception: "), "{first}");
    assert_eq!(fail(&bad), first);
    assert_eq!(fail(&batch(&[("bad", "1", None)])), first, "found by asking for fewer");
    assert_eq!(module.host.logged().last().unwrap().message.matches("raise Exc").count(), 1);
    assert_ne!(fail(&batch(&[("bad", "2", None)])), first, "other points are another run");
    let good = rater.rate(&request(), &batch(&[("good", "1", None)])).unwrap();
    assert_eq!(good[0].to_string(), "1");
    module.host.advance(Duration::seconds(61));
    assert_ne!(fail(&bad), first, "tried again");
}

#[test]
fn a_text_that_is_no_python_is_not_stored() {
    let module = Module::new("");
    let post = |data: &str| {
        let body = json!({"name": "s", "data": data}).to_string();
        let response = module.module.handle(&Request::post("/scripts", body)).unwrap();
        (response.status, String::from_utf8(response.body).unwrap())
    };

    let (status, text) = post("x = 1\nif x:\nx = 2");
    assert_eq!(status, 400);
    assert!(text.contains("Invalid input for field/attribute data. Line 3: "), "{text}");
    assert_eq!(post("\0").0, 400);
    assert_eq!(post(&"(".repeat(100_000)).0, 400);
    assert_eq!(post(&format!("x = {}1", "-".repeat(100_000))).0, 400);
    assert_eq!(module.host.revision(), 0);
    assert_eq!(post("import os\nos._exit(1)").0, 201, "compiled, not run");
}

#[test]
fn a_python_that_is_none_is_a_matter_of_configuration() {
    let check = |config: &str| {
        let module = Module::new(config);
        module.module.check()
    };

    let missing = check("python = '/nowhere/python3'").unwrap_err();
    assert_eq!(missing.status, Status::InvalidConfig);
    assert!(missing.message.contains("`/nowhere/python3` will not do"), "{missing}");
    assert!(missing.message.contains("(hint: scripts need CPython 3.9"), "{missing}");
    assert!(check("python = 'true'").unwrap_err().message.contains("does not answer as Python"));
    assert!(check("python = 'false'").unwrap_err().message.contains("it ends with"));
    let module = check("modules = ['no_such_module']").unwrap_err();
    assert!(module.message.contains("cannot import `no_such_module` of `modules`"), "{module}");
    assert_eq!(check(""), Ok(()));
}

#[test]
fn a_cancelled_call_ends_the_run() {
    let module = Module::new("processes = 1");
    let id = module.add("s", "import time\ntime.sleep(8)");
    module.host.cancel_after(2);

    let error = module.rate(&[("a", "1", None)]).unwrap_err();

    assert_eq!(error.status, Status::Cancelled);
    assert!(!id.is_empty());
}
