//! Stored rules and requests as a fuzzer has them: what is read comes back when it is written, and
//! a row's price is its own.

use chrono::TimeDelta;
use rated_plugin::testing::{FakeHost, TestModule};
use rated_plugin::{
    Decimal, Method, Principal, Purpose, RateRequest, RecordBatch, Request, Status, UsageBatch,
    UsageBuilder, check_steps,
};

use crate::Hashmap;
use crate::record::{self, Change};

/// Longest input that is looked at, bytes.
const INPUT_SIZE_MAX: usize = 16 << 10;

/// What callers ask.
const TARGETS: [(Method, &str); 32] = [
    (Method::Post, "/services"),
    (Method::Post, "/fields"),
    (Method::Post, "/groups"),
    (Method::Post, "/mappings"),
    (Method::Put, "/mappings/00000004-0000-4000-8000-000000000000"),
    (Method::Post, "/thresholds"),
    (Method::Put, "/thresholds/00000007-0000-4000-8000-000000000000"),
    (Method::Get, "/mappings"),
    (Method::Delete, "/services"),
    (Method::Get, "/types"),
    (Method::Get, "/prices"),
    (Method::Put, "/prices"),
    (Method::Get, "/services"),
    (Method::Get, "/services/00000001-0000-4000-8000-000000000000"),
    (Method::Delete, "/services/00000001-0000-4000-8000-000000000000"),
    (Method::Get, "/fields"),
    (Method::Get, "/fields/00000002-0000-4000-8000-000000000000"),
    (Method::Delete, "/fields/00000002-0000-4000-8000-000000000000"),
    (Method::Get, "/groups"),
    (Method::Get, "/groups/00000003-0000-4000-8000-000000000000"),
    (Method::Delete, "/groups"),
    (Method::Delete, "/groups/00000003-0000-4000-8000-000000000000"),
    (Method::Get, "/groups/mappings"),
    (Method::Get, "/groups/thresholds"),
    (Method::Get, "/mappings/00000004-0000-4000-8000-000000000000"),
    (Method::Delete, "/mappings/00000004-0000-4000-8000-000000000000"),
    (Method::Get, "/mappings/group"),
    (Method::Get, "/thresholds"),
    (Method::Get, "/thresholds/00000007-0000-4000-8000-000000000000"),
    (Method::Delete, "/thresholds/00000007-0000-4000-8000-000000000000"),
    (Method::Get, "/thresholds/group"),
    (Method::Post, "/types"),
];

/// The store: a line for each key, a tab between key and value.
pub fn stored(bytes: &[u8]) {
    if bytes.len() > INPUT_SIZE_MAX {
        return;
    }
    let host = FakeHost::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(tab) = line.iter().position(|byte| *byte == b'\t') else { continue };
        let (Ok(key), value) = (std::str::from_utf8(&line[..tab]), &line[tab + 1..]) else {
            continue;
        };
        if let Ok((id, record)) = record::read(key, value) {
            let edit = Change::put(id, record.clone()).to_edit();
            let written = edit.value.expect("it was put");
            assert_eq!(record::read(&edit.key, &written).ok(), Some((id, record)));
        }
        host.put(key, value);
    }
    let module = TestModule::new::<Hashmap>(&host, "").expect("a sound configuration");
    rate(&host, &module);
}

/// A panic within the module is an error for its caller, but not for us.
fn sound<T>(result: rated_plugin::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert_ne!(error.status, Status::Panic, "{error}");
            None
        }
    }
}

/// All rows at once have the prices that each has alone, and the steps lead to them.
fn rate(host: &FakeHost, module: &TestModule) {
    let Some(rater) = sound(module.prepare_at(host.now())) else { return };
    let (request, usage) = (request(host), usage());
    let whole = sound(rater.rate(&request, &usage));
    let alone = (0..usage.num_rows()).map(|row| rater.rate(&request, &usage.slice(row, 1)));
    let alone: Option<Vec<Decimal>> =
        alone.map(|prices| Some(sound(prices)?[0].normalize())).collect();
    let whole = whole.map(|prices| prices.iter().map(Decimal::normalize).collect::<Vec<_>>());
    // Rows may not fit one column together that do alone.
    if whole.is_some() || alone.is_none() {
        assert_eq!(whole, alone);
    }
    let told = sound(rater.explain(&request, &usage, 0..usage.num_rows()));
    let (Some(prices), Some(told)) = (whole, told) else { return };
    let view = UsageBatch::new(&usage).expect("it was made here");
    for (row, (price, steps)) in prices.iter().zip(&told.rows).enumerate() {
        let found = check_steps(steps, view.qty_at(row), view.price_at(row));
        assert_eq!(found.map(|price| price.normalize()), Ok(*price), "row {row}: {steps:?}");
    }
}

fn request(host: &FakeHost) -> RateRequest {
    RateRequest {
        purpose: Purpose::Period,
        metric: "s".to_owned(),
        begin: host.now(),
        end: host.now() + TimeDelta::hours(1),
    }
}

fn usage() -> RecordBatch {
    let mut rows = UsageBuilder::new(&["f"], &["g"]);
    for (scope, quantity, f, g) in [
        ("a", Decimal::ONE, Some("x"), Some("1")),
        ("a", Decimal::new(5, 1), Some("y"), None),
        ("b", Decimal::NEGATIVE_ONE, None, Some("20")),
        ("b", Decimal::new(123_456_789, 4), Some("x"), Some("x")),
    ] {
        rows.push(scope, quantity, &[f, g]).expect("two attributes");
    }
    rows.finish().expect("they fit one column")
}

/// What is asked, a query up to the first line break, then the body.
pub fn rest(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    if bytes.len() > INPUT_SIZE_MAX {
        return;
    }
    let (query, body) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (String::from_utf8_lossy(&bytes[..end]).into_owned(), &bytes[end + 1..]),
        None => (String::new(), bytes),
    };
    let host = FakeHost::new();
    let kept: serde_json::Value = serde_json::from_str(KEPT).expect("it is kept with the tests");
    for (key, record) in kept.as_object().into_iter().flatten() {
        host.put(key, record.to_string().as_bytes());
    }
    let module = TestModule::new::<Hashmap>(&host, "").expect("a sound configuration");
    let (method, path) = TARGETS[usize::from(*choice) % TARGETS.len()];
    let call = Request {
        method,
        path: path.to_owned(),
        query,
        content_type: "application/json".to_owned(),
        body: body.to_vec(),
        principal: Principal { user_id: "ann".to_owned(), ..Principal::default() },
    };

    let response = module.handle(&call).expect("a mistake of the caller's is an answer");

    assert!(response.status < 500, "{}", String::from_utf8_lossy(&response.body));
    assert!(module.prepare_at(host.now()).is_ok(), "what was stored cannot be read");
    rate(&host, &module);
}

/// An object of each kind, as format 1 keeps it: keys and their records.
const KEPT: &str = include_str!("../tests/data/store-v1.json");

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Most bytes of memory that an input may take.
    const MEMORY_SIZE_MAX: u64 = 16 << 20;

    fn check(name: &str, target: fn(&[u8])) {
        let corpus =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../daemon/fuzz/corpus").join(name);
        rated_plugin::testing::replay(&corpus, 1, 2_000, |bytes| {
            let used = allocation_counter::measure(|| target(bytes)).bytes_max;
            assert!(used <= MEMORY_SIZE_MAX, "{used} bytes of memory");
        });
    }

    #[test]
    fn any_stored_rules_are_read_or_refused() {
        check("hashmap_stored", super::stored);
    }

    #[test]
    fn any_request_is_answered() {
        check("hashmap_rest", super::rest);
    }
}
