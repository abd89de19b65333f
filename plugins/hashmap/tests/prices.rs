//! The whole price list as a document: what it shows, and what applying one does and never does.

#![cfg(test)]

use chrono::Duration;
use rated_hashmap::Hashmap;
use rated_plugin::testing::{FakeHost, TestModule};
use rated_plugin::{
    AsOf, Method, Principal, Purpose, RateRequest, Request, Response, UsageBuilder,
};
use rust_decimal::Decimal;
use serde_json::{Value, json};

struct Api {
    host: FakeHost,
    module: TestModule,
}

impl Api {
    fn new() -> Api {
        let host = FakeHost::new();
        let module = TestModule::new::<Hashmap>(&host, "").unwrap();
        Api { host, module }
    }

    /// With the price list of the sample, some rules made over the API beside it, an hour ago.
    fn with_rules() -> Api {
        let api = Api::new();
        let sample: toml::Value = toml::from_str(include_str!("../sample.toml")).unwrap();
        api.apply("?force=1", &serde_json::to_value(sample).unwrap());
        let service = api.call(Method::Post, "/services", &json!({"name": "s"}));
        let service = body(&service)["service_id"].clone();
        let rules = [
            ("/mappings", json!({"cost": "2", "name": "basic", "description": "for all"})),
            ("/mappings", json!({"cost": "3", "start": api.day(2), "tenant_id": "big"})),
            ("/thresholds", json!({"cost": "5", "level": 10})),
            ("/thresholds", json!({"cost": "6", "level": 20, "start": api.day(1)})),
        ];
        for (path, mut rule) in rules {
            rule["service_id"] = service.clone();
            let made = api.call(Method::Post, path, &rule);
            assert_eq!(made.status, 201, "{}", body(&made));
        }
        api.host.advance(Duration::hours(1));
        api
    }

    fn call(&self, method: Method, target: &str, body: &Value) -> Response {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            content_type: "application/json".to_owned(),
            body: if body.is_null() { Vec::new() } else { body.to_string().into_bytes() },
            principal: Principal { user_id: "ann".to_owned(), ..Principal::default() },
        };
        self.module.handle(&request).unwrap()
    }

    fn get(&self, target: &str) -> Value {
        let response = self.call(Method::Get, target, &Value::Null);
        assert_eq!(response.status, 200, "{}", body(&response));
        body(&response)
    }

    /// The kinds of changes that a list makes.
    fn apply(&self, query: &str, list: &Value) -> Vec<String> {
        let response = self.call(Method::Put, &format!("/prices{query}"), list);
        assert_eq!(response.status, 200, "{}", body(&response));
        let answer = body(&response);
        let steps = answer["changes"].as_array().unwrap().iter();
        steps.map(|step| step["change"].as_str().unwrap().to_owned()).collect()
    }

    fn refused(&self, list: &Value, answer: (u16, &str)) {
        let before = self.host.revision();
        let response = self.call(Method::Put, "/prices", list);
        let text = String::from_utf8(response.body).unwrap();
        assert_eq!(response.status, answer.0, "{text}");
        assert!(text.contains(answer.1), "{text}");
        assert_eq!(self.host.revision(), before);
    }

    fn day(&self, days: i64) -> String {
        (self.host.now() + Duration::days(days)).format("%Y-%m-%dT%H:%M:%S").to_string()
    }

    /// The price of a quantity of `s` in a period that begins so many hours from now.
    fn price(&self, hours: i64, qty: i64) -> Decimal {
        let at = self.host.now() + Duration::hours(hours);
        let rater = self.module.prepare(AsOf { at, revision: u64::MAX }).unwrap();
        let request = RateRequest {
            purpose: Purpose::Period,
            metric: "s".to_owned(),
            begin: at,
            end: at + Duration::hours(1),
        };
        let mut usage = UsageBuilder::new::<&str>(&[], &[]);
        usage.push("scope", Decimal::from(qty), &[]).unwrap();
        rater.rate(&request, &usage.finish().unwrap()).unwrap()[0]
    }

    fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.host.keys().into_keys().collect();
        ids.sort();
        ids
    }
}

fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

/// The rule of `s` that has this cost.
fn rule<'a>(list: &'a mut Value, cost: &str) -> &'a mut Value {
    let mut rules = list["rules"].as_array_mut().unwrap().iter_mut();
    rules.find(|rule| rule["service"] == "s" && rule["cost"] == cost).unwrap()
}

#[test]
fn a_list_that_was_read_changes_nothing() {
    let api = Api::with_rules();
    let (list, ids) = (api.get("/prices"), api.ids());
    let before = api.host.revision();

    assert_eq!(api.apply("", &list), Vec::<String>::new());
    api.host.advance(Duration::days(3));
    assert_eq!(api.apply("", &list), Vec::<String>::new());

    assert_eq!(api.host.revision(), before);
    assert_eq!(api.ids(), ids);
    assert_eq!(list["rules"].as_array().unwrap().len(), 11);
}

#[test]
fn a_list_taken_to_another_store_is_the_same_there() {
    let mut list = Api::with_rules().get("/prices");
    list.as_object_mut().unwrap().remove("revision");
    let other = Api::new();
    other.host.advance(Duration::hours(1));

    other.refused(&list, (400, "with `force`"));
    assert_eq!(other.call(Method::Put, "/prices?force=false", &list).status, 400);
    assert_eq!(other.call(Method::Put, "/prices?force=perhaps", &list).status, 400);
    assert!(!other.apply("?force=1", &list).is_empty());
    let mut copy = other.get("/prices");
    copy.as_object_mut().unwrap().remove("revision");

    assert_eq!(copy, list);
    assert_eq!(other.host.revision(), 1);
    assert_eq!(other.apply("?force=1", &list), Vec::<String>::new());
}

#[test]
fn another_price_counts_from_now_on_and_the_old_one_until_now() {
    let api = Api::with_rules();
    let before = [-1, 0].map(|hours| api.price(hours, 1));
    let mut list = api.get("/prices");
    rule(&mut list, "2")["cost"] = json!("2.5");

    assert_eq!(api.apply("?dry_run=1", &list), ["replace_rule"]);
    assert_eq!(api.price(0, 1), before[1]);
    assert_eq!(api.apply("", &list), ["replace_rule"]);

    assert_eq!(before, [2, 2].map(Decimal::from));
    assert_eq!(
        [-1, 0, 1].map(|hours| api.price(hours, 1)),
        [20, 25, 25].map(|n| Decimal::new(n, 1))
    );
    // The list says when the old one began; what it says holds already.
    list.as_object_mut().unwrap().remove("revision");
    assert_eq!(api.apply("", &list), Vec::<String>::new());
    let found = api.get("/mappings?is_active=1");
    let old = api.get("/mappings");
    assert!(found["mappings"].as_array().unwrap().iter().all(|it| it["cost"] != "2"));
    let old = old["mappings"].as_array().unwrap().iter();
    let ended = old.filter(|it| it["name"] == "basic" && it["end"] == json!(api.day(0))).count();
    assert_eq!(ended, 1);
}

#[test]
fn a_threshold_without_dates_gets_them_when_it_is_replaced() {
    let api = Api::with_rules();
    let mut list = api.get("/prices");
    rule(&mut list, "5")["cost"] = json!("7");

    assert_eq!(api.apply("", &list), ["replace_rule"]);

    assert_eq!([-1, 0].map(|hours| api.price(hours, 10)), [25, 27].map(Decimal::from));
}

#[test]
fn a_rule_that_is_left_out_ends_and_one_that_has_not_begun_is_deleted() {
    let api = Api::with_rules();
    let mut list = api.get("/prices");
    let rules = list["rules"].as_array_mut().unwrap();
    rules.retain(|rule| rule["cost"] != "2" && rule["cost"] != "6");

    assert_eq!(api.apply("", &list), ["end_rule", "delete_rule"]);

    assert_eq!([-1, 0].map(|hours| api.price(hours, 1)), [2, 0].map(Decimal::from));
    assert_eq!(api.price(-1, 1), Decimal::TWO);
    let list = api.get("/prices");
    assert!(list["services"].as_array().unwrap().iter().any(|it| it["name"] == "s"));
}

#[test]
fn what_has_not_begun_is_changed_in_place() {
    let api = Api::with_rules();
    let (mut list, ids) = (api.get("/prices"), api.ids());
    let (start, end) = (api.day(3), api.day(4));
    let later = rule(&mut list, "6");
    later["cost"] = json!("8");
    later["start"] = json!(start);
    rule(&mut list, "2")["end"] = json!(end);

    assert_eq!(api.apply("", &list), ["update_rule", "update_rule"]);

    assert_eq!(api.ids(), ids);
    let list = api.get("/prices");
    let rules = list["rules"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["cost"] == "8" && rule["start"] == start.as_str()));
    assert!(rules.iter().any(|rule| rule["name"] == "basic" && rule["end"] == end.as_str()));
}

#[test]
fn a_list_of_names_makes_what_it_needs_and_removes_what_nothing_hangs_on() {
    let api = Api::new();
    let list = json!({
        "services": [{"name": "empty", "fields": ["unused"]}],
        "groups": ["nobody"],
        "rules": [{"service": "s", "field": "f", "value": "v", "group": "g", "cost": 1}],
    });

    let made = api.apply("", &list);
    let removed = api.apply("", &json!({"rules": list["rules"]}));

    let expected = [
        "add_service",
        "add_service",
        "add_field",
        "add_field",
        "add_group",
        "add_group",
        "add_rule",
    ];
    assert_eq!(made, expected);
    assert_eq!(removed, ["remove_field", "remove_service", "remove_group"]);
    // What a rule hung on stays: prices of the past are made of it.
    assert_eq!(api.apply("", &json!({})), ["end_rule"]);
    assert_eq!(api.get("/prices")["groups"], json!(["g"]));
    assert_eq!(api.apply("", &json!({})), Vec::<String>::new());
}

#[test]
fn a_list_made_from_an_older_one_is_refused() {
    let api = Api::with_rules();
    let mut list = api.get("/prices");
    assert_eq!(api.call(Method::Post, "/groups", &json!({"name": "new"})).status, 201);
    rule(&mut list, "2")["cost"] = json!("9");

    api.refused(&list, (409, "read it again"));

    list["revision"] = api.get("/prices")["revision"].clone();
    assert_eq!(api.apply("", &list), ["replace_rule", "remove_group"]);
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_nothing_is_stored() {
    let api = Api::with_rules();
    let with = |rule: Value| json!({"rules": [{"service": "a", "cost": 1}, rule]});
    let check = |rule: Value, text: &str| api.refused(&with(rule), (400, text));

    check(json!({"service": "b", "cost": "cheap"}), "`rules[1]`: `cost`: `cheap`: not a decimal");
    check(json!({"service": "b"}), "`rules[1]`: missing field `cost`");
    check(json!({"service": "b", "cost": 1, "colour": 1}), "`rules[1]`: unknown field `colour`");
    check(json!({"service": "b", "cost": 1, "start": "soon"}), "`rules[1]`: `start`: `soon`");
    check(json!({"service": "b", "cost": 1, "start": "2020-01-01Z"}), "`rules[1]`: `start`");
    check(json!({"service": "b", "cost": 1, "end": api.day(1)}), "`end`: needs a `start`");
    check(json!({"service": "a", "cost": 2}), "a rule for the same at that time, number 1");
    let past = json!({"service": "b", "cost": 1, "start": "2020-01-01"});
    check(past, "`start`: 2020-01-01T00:00:00 is past");
    api.refused(&json!([]), (400, "must be an object"));
    api.refused(&json!({"rules": [[]]}), (400, "`rules[0]`: must be an object"));
    api.refused(&json!({"colour": 1}), (400, "unknown field `colour`"));
    let named = |service: &str| json!({"service": service, "cost": 1, "name": "n"});
    let list = json!({"rules": [named("a"), named("b")]});
    api.refused(&list, (400, "`rules[1]`: there is a rule of that name at that time"));
    let many = json!({"rules": vec![json!(null); 40_001]});
    api.refused(&many, (400, "has 40001 entries, at most 40000"));
}

#[test]
fn one_price_after_another_is_fine() {
    let api = Api::new();
    let rule = |start: i64, end: i64, cost: i64| {
        let (start, end) = (api.day(start), api.day(end));
        json!({"service": "s", "cost": cost, "start": start, "end": end})
    };

    api.apply("", &json!({"rules": [rule(1, 2, 1), rule(2, 3, 2)]}));
    let overlapping = json!({"rules": [rule(1, 3, 1), rule(2, 3, 2)]});

    assert_eq!([24, 48, 72].map(|hours| api.price(hours, 1)), [1, 2, 0].map(Decimal::from));
    api.refused(&overlapping, (400, "at that time"));
}
