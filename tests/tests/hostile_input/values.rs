//! Dates and numbers that are none.

use serde_json::json;

use crate::site::{HASHMAP, Site, refused, shortened};

const BAD_DATES: &[&str] = &[
    "0000-01-01",
    "99999-01-01",
    "-2015-01-01",
    "2015-02-30",
    "2015-13-01",
    "2015-01-01T24:60:00",
    "2015-01-01T25:00:00",
    "2015-01-01T00:00:60.5",
    "2015-01-01T00:00:00+99:99",
    "2015-01-01T00:00:00+24:00",
    "2015-01-01T00:00:00+",
    "2015-01-01T00:00:00.",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    "１２３４-01-01",
    "2015-01-01T１２:00",
    "1e400",
    "NaN",
    "soon",
    "\u{0}",
    "é",
    "2015-01-01T00:00:00;DROP",
];

#[test]
fn absurd_dates_are_refused_wherever_a_date_is_taken() {
    let site = Site::start("");
    let service = site.service();
    let long = "1".repeat(20_000);
    let mut in_queries: Vec<&str> = BAD_DATES.to_vec();
    in_queries.push(&long);
    for date in in_queries {
        // The lists of rules drop an offset, so that it leads to no other year there.
        let is_near_the_end = date.ends_with("23:59");
        let date: Vec<String> = date.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let date = date.concat();
        let mut targets = vec![
            "/v1/report/total?begin=",
            "/v1/report/total?end=",
            "/v1/report/summary?begin=",
            "/v1/report/tenants?begin=",
            "/v1/storage/dataframes?begin=",
            "/v2/summary?begin=",
            "/v2/summary?end=",
        ];
        if !is_near_the_end {
            targets.push("/v1/rating/module_config/hashmap/mappings?all=1&start=");
        }
        for target in targets {
            let what = format!("{target} {}", shortened(&date));
            refused(site.get(&format!("{target}{date}")), &what);
        }
    }
    let very_long = "1".repeat(1_000_000);
    let mut in_bodies: Vec<&str> = BAD_DATES.to_vec();
    in_bodies.push(&very_long);
    let mappings = format!("{HASHMAP}/mappings?force=true");
    for date in in_bodies {
        for rule in [
            json!({"service_id": service, "cost": "1", "start": date}),
            json!({"service_id": service, "cost": "1", "start": "2099-01-01", "end": date}),
        ] {
            let body = rule.to_string();
            let answer = site.send("POST", &mappings, "application/json", body.as_bytes());
            refused(answer, &format!("mapping {}", shortened(date)));
        }
        for (method, target, body) in [
            ("PUT", "/v2/scope", json!({"all_scopes": true, "last_processed_timestamp": date})),
            ("POST", "/v2/scope", json!({"scope_id": "a", "last_processed_timestamp": date})),
            (
                "POST",
                "/v2/task/reprocesses",
                json!({"scope_ids": ["a"], "start_reprocess_time": date,
                    "end_reprocess_time": date, "reason": "r"}),
            ),
            (
                "POST",
                "/v2/dataframes",
                json!({"dataframes": [{"period": {"begin": date, "end": date}, "usage": {}}]}),
            ),
        ] {
            let body = body.to_string();
            let answer = site.send(method, target, "application/json", body.as_bytes());
            refused(answer, &format!("{method} {target} {}", shortened(date)));
        }
    }
    site.is_well();
}

/// Numbers that are refused whatever they stand for.
const BAD_NUMBERS: &[&str] = &[
    "1e400",
    "1e999999999999999999",
    "1e-400",
    "1234567890123456789012345678901234567890",
    "0.1234567890123456789012345678901234567890",
    "NaN",
    "sNaN",
    "Infinity",
    "-Infinity",
    "１２",
    "١٢",
    "",
    " ",
    "x",
    "0x10",
    "1,5",
    "--1",
    "1e",
    ".",
    "1.2.3",
    "\u{0}",
];

#[test]
fn absurd_numbers_are_refused_wherever_a_number_is_taken() {
    let site = Site::start("");
    let service = site.service();
    let (mappings, thresholds) = (format!("{HASHMAP}/mappings"), format!("{HASHMAP}/thresholds"));
    let very_long = "1".repeat(1_000_000);
    let mut numbers: Vec<&str> = BAD_NUMBERS.to_vec();
    numbers.push(&very_long);
    for number in numbers {
        let as_text = json!(number).to_string();
        // Where the text is no JSON number, the body is no JSON, which is refused as well.
        for value in [as_text.as_str(), number] {
            for (target, body) in [
                (
                    mappings.as_str(),
                    format!("{{\"service_id\": \"{service}\", \"cost\": {value}}}"),
                ),
                (
                    thresholds.as_str(),
                    format!(
                        "{{\"service_id\": \"{service}\", \"cost\": \"1\", \"level\": {value}}}"
                    ),
                ),
                (
                    "/v1/rating/quote",
                    format!(
                        "{{\"resources\": [{{\"service\": \"a\", \"volume\": {value}, \
                         \"desc\": {{}}}}]}}"
                    ),
                ),
                ("/v2/dataframes", frame(&format!("{{\"unit\": \"s\", \"qty\": {value}}}"), "1")),
                ("/v2/dataframes", frame("{\"unit\": \"s\", \"qty\": 1}", value)),
            ] {
                let answer = site.send("POST", target, "application/json", body.as_bytes());
                refused(answer, &format!("{target} {}", shortened(value)));
            }
        }
    }
    for integer in ["1e400", "\"1e5\"", "99999999999999999999", "-99999999999999999999", "[1]"] {
        let body = format!("{{\"module_id\": \"hashmap\", \"priority\": {integer}}}");
        let target = "/v1/rating/modules/hashmap";
        refused(site.send("PUT", target, "application/json", body.as_bytes()), integer);
        let (target, body) = ("/v2/rating/modules/hashmap", format!("{{\"priority\": {integer}}}"));
        refused(site.send("PUT", target, "application/json", body.as_bytes()), integer);
    }
    for (name, value) in [("limit", "1e3"), ("limit", "-1"), ("offset", "99999999999999999999")] {
        refused(site.get(&format!("/v2/summary?{name}={value}")), value);
    }
    site.is_well();
}

fn frame(vol: &str, price: &str) -> String {
    format!(
        "{{\"dataframes\": [{{\"period\": {{\"begin\": \"2023-11-14T00:00:00\", \
         \"end\": \"2023-11-14T01:00:00\"}}, \"usage\": {{\"cpu\": [{{\"vol\": {vol}, \
         \"rating\": {{\"price\": {price}}}, \"groupby\": {{\"project_id\": \"p\"}}, \
         \"metadata\": {{}}}}]}}}}]}}"
    )
}
