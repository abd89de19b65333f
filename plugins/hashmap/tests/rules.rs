//! How rules are made, changed and kept, where the recorded contract says nothing.

#![cfg(test)]

use chrono::Duration;
use proptest::prelude::*;
use rated_hashmap::Hashmap;
use rated_plugin::testing::{FakeHost, TestModule};
use rated_plugin::{
    AsOf, Method, Principal, Purpose, RateRequest, Request, Response, Status, UsageBuilder,
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

    fn call(&self, method: Method, target: &str, body: &str) -> Response {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            content_type: "application/json".to_owned(),
            body: body.as_bytes().to_vec(),
            principal: Principal { user_id: "ann".to_owned(), ..Principal::default() },
        };
        self.module.handle(&request).unwrap()
    }

    fn get(&self, target: &str) -> Value {
        let response = self.call(Method::Get, target, "");
        assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
        serde_json::from_slice(&response.body).unwrap()
    }

    /// Makes an object; the answer.
    fn make(&self, target: &str, body: &Value) -> Value {
        let response = self.call(Method::Post, target, &body.to_string());
        assert_eq!(response.status, 201, "{}", String::from_utf8_lossy(&response.body));
        serde_json::from_slice(&response.body).unwrap()
    }

    fn refused(&self, method: Method, target: &str, body: &Value, answer: (u16, &str)) {
        let response = self.call(method, target, &body.to_string());
        let (status, text) = answer;
        let found = String::from_utf8(response.body).unwrap();
        assert_eq!(response.status, status, "{found}");
        assert!(found.contains(text), "{found}");
    }

    fn put(&self, target: &str, body: &Value) {
        let response = self.call(Method::Put, target, &body.to_string());
        assert_eq!(response.status, 302, "{}", String::from_utf8_lossy(&response.body));
        assert_eq!(response.location.as_deref(), Some(target));
    }

    fn service(&self) -> Value {
        self.make("/services", &json!({"name": "s"}))["service_id"].clone()
    }

    fn day(&self, days: i64) -> String {
        (self.host.now() + Duration::days(days)).format("%Y-%m-%dT%H:%M:%S").to_string()
    }

    /// The price of one unit for `s`, in a period that begins so many days from now.
    fn price(&self, days: i64, revision: u64) -> Decimal {
        let at = self.host.now() + Duration::days(days);
        let rater = self.module.prepare(AsOf { at, revision }).unwrap();
        let request = RateRequest {
            purpose: Purpose::Period,
            metric: "s".to_owned(),
            begin: at,
            end: at + Duration::hours(1),
        };
        let mut usage = UsageBuilder::new::<&str>(&[], &[]);
        usage.push("scope", Decimal::ONE, &[]).unwrap();
        rater.rate(&request, &usage.finish().unwrap()).unwrap()[0]
    }
}

const NOW: u64 = u64::MAX;

#[test]
fn a_running_mapping_is_ended_by_the_client_that_sends_all_of_it_31_times() {
    let api = Api::new();
    let mut mapping =
        api.make("/mappings", &json!({"service_id": api.service(), "cost": 12.0, "value": null}));
    mapping["end"] = json!(api.day(3));
    let before = api.host.revision();

    for _ in 0..31 {
        api.host.advance(Duration::seconds(1));
        api.put("/mappings", &mapping);
    }

    assert_eq!(api.host.revision(), before + 1);
    let id = mapping["mapping_id"].as_str().unwrap();
    let found = api.get(&format!("/mappings/{id}"));
    assert_eq!(found["end"], mapping["end"]);
    assert_eq!(found["updated_by"], "ann");
    mapping["end"] = json!(api.day(4));
    let target = "/mappings";
    api.refused(Method::Put, target, &mapping, (400, "has a defined end date"));
}

#[test]
fn a_rule_counts_from_its_start_to_before_its_end() {
    let api = Api::new();
    let (start, end) = (api.day(1), api.day(2));
    let body = json!({"service_id": api.service(), "cost": "2", "start": start, "end": end});

    api.make("/mappings", &body);

    let prices = [0, 1, 1, 2, 0, 2, 1].map(|day| api.price(day, NOW));
    assert_eq!(prices, [0, 2, 2, 0, 0, 0, 2].map(Decimal::from));
}

#[test]
fn what_a_rule_was_can_be_read_again() {
    let api = Api::new();
    let service = api.service();
    let mapping = api.make("/mappings", &json!({"service_id": service, "cost": "2"}));
    let made = api.host.revision();

    let target = format!("/mappings/{}", mapping["mapping_id"].as_str().unwrap());
    assert_eq!(api.call(Method::Delete, &target, "").status, 204);

    assert_eq!(api.price(0, made), Decimal::TWO);
    assert_eq!(api.price(0, NOW), Decimal::ZERO);
    assert_eq!(api.price(0, made - 1), Decimal::ZERO);
    let target = format!("/services/{}", service.as_str().unwrap());
    assert_eq!(api.call(Method::Delete, &target, "").status, 204);
    assert_eq!(api.price(0, made), Decimal::TWO);
    assert!(api.host.keys().is_empty());
}

#[test]
fn a_threshold_can_have_a_validity() {
    let api = Api::new();
    let service = api.service();
    api.make("/mappings", &json!({"service_id": service, "cost": "1"}));
    let (start, end) = (api.day(1), api.day(2));
    let body = json!({
        "service_id": service, "level": 0, "cost": 5, "start": start, "end": end, "name": "n",
    });

    let made = api.make("/thresholds", &body);

    assert_eq!(made["start"], json!(start));
    assert_eq!(made["created_by"], "ann");
    assert_eq!([0, 1, 2].map(|day| api.price(day, NOW)), [1, 6, 1].map(Decimal::from));
    let again = json!({"service_id": service, "level": 9, "cost": 5, "name": "n", "start": end});
    api.refused(Method::Post, "/thresholds", &again, (409, "Threshold '9' already exists"));
    let target = format!("/thresholds/{}", made["threshold_id"].as_str().unwrap());
    api.put(&target, &json!({"level": 0, "cost": 7, "end": end}));
    assert_eq!(api.price(1, NOW), Decimal::from(8));

    api.host.advance(Duration::days(1));
    let sooner = json!({"level": 0, "cost": 8});
    api.refused(Method::Put, &target, &sooner, (400, "has a defined end date"));
}

#[test]
fn a_running_threshold_can_be_ended() {
    let api = Api::new();
    let service = api.service();
    let mut made = api.make("/thresholds", &json!({"service_id": service, "level": 0, "cost": 5}));
    assert!(made.get("end").is_none());
    made["end"] = json!(api.day(2));

    api.put("/thresholds", &made);
    api.put("/thresholds", &made);

    assert_eq!([1, 2].map(|day| api.price(day, NOW)), [5, 0].map(Decimal::from));
    let list = api.get(&format!("/thresholds?service_id={}", service.as_str().unwrap()));
    assert_eq!(list["thresholds"][0]["end"], made["end"]);
    assert_eq!(list["thresholds"][0]["updated_by"], "ann");
}

#[test]
fn a_deleted_threshold_is_kept_and_marked() {
    let api = Api::new();
    let service = api.service();
    let made = api.make("/thresholds", &json!({"service_id": service, "level": 0, "cost": 5}));
    let target = format!("/thresholds/{}", made["threshold_id"].as_str().unwrap());

    assert_eq!(api.call(Method::Delete, &target, "").status, 204);

    let list = format!("/thresholds?service_id={}", service.as_str().unwrap());
    assert_eq!(api.get(&list)["thresholds"], json!([]));
    let marked = &api.get(&format!("{list}&deleted=true"))["thresholds"][0];
    assert_eq!(marked["deleted_by"], "ann");
    assert_eq!(marked["deleted"], json!(api.day(0)));
}

#[test]
fn lists_have_the_order_of_creation() {
    let api = Api::new();
    let names: Vec<String> = (0..20).map(|index| format!("service-{}", index * 7 % 20)).collect();
    for name in &names {
        api.make("/services", &json!({"name": name}));
    }

    // Another instance reads the store afresh.
    let module = TestModule::new::<Hashmap>(&api.host, "").unwrap();
    let api = Api { host: api.host, module };

    let list = api.get("/services");
    let found: Vec<&str> = list["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(found, names);
}

#[test]
fn callers_at_the_same_time_lose_nothing() {
    let host = FakeHost::new();
    let instances = [(); 2].map(|()| {
        let module = TestModule::new::<Hashmap>(&host, "").unwrap();
        Api { host: host.clone(), module }
    });
    let mut made: Vec<String> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let api = &instances[caller % 2];
                scope.spawn(move || {
                    let mut made = Vec::new();
                    for index in 0..20 {
                        let name = format!("{}", (caller + index) % 25);
                        let body = json!({"name": name}).to_string();
                        let response = api.call(Method::Post, "/services", &body);
                        assert!([201, 409].contains(&response.status));
                        made.extend((response.status == 201).then_some(name));
                    }
                    made
                })
            })
            .collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });

    let list = instances[1].get("/services");
    let mut kept: Vec<&str> = list["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    kept.sort_unstable();
    made.sort_unstable();
    assert_eq!(kept, made);
    assert_eq!(kept.len(), 25);
}

#[test]
fn numbers_and_names_have_limits() {
    let api = Api::new();
    let service = api.service();
    let cost = |text: &str| json!({"service_id": service, "cost": text});
    let level = |text: &str| json!({"service_id": service, "cost": 1, "level": text});

    let digits = "1234567890.1234567890123456789";
    let limit = "More than 28 significant digits";
    api.refused(Method::Post, "/mappings", &cost(digits), (400, limit));
    api.refused(Method::Post, "/thresholds", &level(digits), (400, limit));
    let limit = "More than 12 digits before the point";
    api.refused(Method::Post, "/mappings", &cost("1e12"), (400, limit));
    api.refused(Method::Post, "/mappings", &cost("cheap"), (400, "Not a decimal number"));
    let name = json!({"name": "n".repeat(256)});
    api.refused(Method::Post, "/services", &name, (400, "More than 255 characters"));
    let nested = "[".repeat(100_000);
    assert_eq!(api.call(Method::Post, "/services", &nested).status, 400);
}

#[test]
fn a_store_of_format_1_is_read() {
    let api = Api::new();
    let kept: Value = serde_json::from_str(include_str!("data/store-v1.json")).unwrap();
    for (key, record) in kept.as_object().unwrap() {
        api.host.put(key, record.to_string().as_bytes());
    }

    assert_eq!(api.get("/groups")["groups"][0]["name"], "uptime");
    let mappings = api.get("/mappings?deleted=1");
    assert_eq!(mappings["mappings"].as_array().unwrap().len(), 3);
    assert_eq!(api.price(0, NOW), Decimal::new(25, 2));
}

#[test]
fn a_store_that_it_does_not_understand_stops_it() {
    let records = [
        ("service/x", json!({"v": 1, "seq": 1, "name": "s"}), "no UUID"),
        ("rule/1", json!({}), "unknown kind"),
        (
            "service/00000000-0000-4000-8000-000000000000",
            json!({"v": 2, "seq": 1, "name": "s"}),
            "format version 2",
        ),
        (
            "service/00000000-0000-4000-8000-000000000000",
            json!({"v": 1, "seq": 1, "name": "s", "half": "price"}),
            "unknown field `half`",
        ),
    ];
    for (key, record, message) in records {
        let api = Api::new();
        api.host.put(key, record.to_string().as_bytes());

        let error = api.module.prepare_at(api.host.now()).err().unwrap();

        assert_eq!(error.status, Status::Internal);
        assert!(error.message.contains(message), "{}", error.message);
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|it| json!(it)),
        any::<i64>().prop_map(|it| json!(it)),
        "[0-9.eE+-]{0,40}".prop_map(|it| json!(it)),
        "\\PC{0,300}".prop_map(|it| json!(it)),
        "[0-9]{1,5}-[0-9]{1,2}-[0-9]{1,2}([T ][0-9:.+Z-]{0,20})?".prop_map(|it| json!(it)),
        Just(json!("rate")),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|it| json!(it)),
            prop::collection::hash_map("[a-z_]{0,8}", inner, 0..4).prop_map(|it| json!(it)),
        ]
    })
}

const METHODS: [Method; 5] =
    [Method::Get, Method::Post, Method::Put, Method::Delete, Method::Patch];
const COLLECTIONS: [&str; 5] = ["services", "fields", "mappings", "thresholds", "groups"];
const BELOW: [&str; 7] = ["", "/x", "/group", "/mappings", "/thresholds", "/x/y/z", "/é"];
const ATTRIBUTES: [&str; 9] =
    ["name", "cost", "level", "type", "value", "start", "end", "group_id", "tenant_id"];

fn config() -> ProptestConfig {
    ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_is_sent_is_answered(
        method in prop::sample::select(&METHODS[..]),
        collection in prop::sample::select(&COLLECTIONS[..]),
        rest in prop::sample::select(&BELOW[..]),
        query in "[a-z_]{0,12}(=[0-9A-Za-z%+:é-]{0,12})?(&all=|&start=[0-9:T-]{0,12})?",
        attributes in prop::collection::hash_map(
            prop::sample::select(&ATTRIBUTES[..]),
            any_value(),
            0..6,
        ),
        parent in prop::option::of(any_value()),
        whole in prop::option::weighted(0.1, any_value()),
    ) {
        let api = Api::new();
        let mut body = json!(attributes);
        body["service_id"] = parent.unwrap_or_else(|| api.service());

        let body = whole.unwrap_or(body).to_string();
        let response = api.call(method, &format!("/{collection}{rest}?{query}"), &body);

        prop_assert!(response.status < 500);
        if response.status >= 400 {
            prop_assert!(serde_json::from_slice::<Value>(&response.body).unwrap().is_object());
        }
        // What was stored can be read, and rated by.
        api.module.prepare_at(api.host.now()).unwrap();
        prop_assert_eq!(api.call(Method::Get, "/mappings", "").status, 200);
    }
}
