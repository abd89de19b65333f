//! Answers of both daemons as a fuzzer has them: what is there already stays as it is, and of what
//! the source has every piece is copied as it is there, known, or left and said.

use std::rc::Rc;

use reqwest::Method;
use serde_json::Value;

use super::{Copying, Kind, Mode, Report};
use crate::cli::client::Client;
use crate::cli::fuzz::{Asked, Recorded, check_line};
use crate::cli::table::Style;

const SOURCE: &str = "source.test";
const HASHMAP: &str = "/v1/rating/module_config/hashmap";

/// What is copied, then the answers in the order in which they are asked for.
pub(crate) fn answers(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let recorded = Rc::new(Recorded::of(bytes));
    let kind = Kind::ALL[usize::from(*choice) % Kind::ALL.len()];
    let copying = Copying {
        source: Client::of_recorded(&format!("http://{SOURCE}"), &recorded),
        target: Client::of_recorded("http://target.test", &recorded),
        mode: if choice & 4 == 0 { Mode::Copy } else { Mode::Look },
        now: "2026-01-01T00:00:00".to_owned(),
        style: Style::Plain,
        kinds: &[],
    };

    let copied = copying.copy(kind);

    let asked = recorded.asked();
    for asked in &asked {
        check_request(asked, kind, copying.mode);
    }
    match copied {
        Ok(report) => check_report(&report, kind, &asked),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Nothing is asked of anybody but what this copies, and nothing is changed by looking.
fn check_request(asked: &Asked, kind: Kind, mode: Mode) {
    let Asked { method, url, .. } = asked;
    if *method == Method::GET {
        return;
    }
    assert_ne!(url.host_str(), Some(SOURCE), "the source is changed");
    let path = url.path();
    let is_expected = match kind {
        Kind::Hashmap => *method == Method::PUT && path == [HASHMAP, "/prices"].concat(),
        Kind::Pyscripts => *method == Method::POST && path.ends_with("/pyscripts/scripts"),
        Kind::Modules => *method == Method::PUT && path.starts_with("/v2/rating/modules/"),
        Kind::Scopes => *method == Method::POST && path == "/v2/scope",
    };
    assert!(is_expected, "{method} {url}");
    let is_dry = url.query_pairs().any(|(name, value)| name == "dry_run" && value == "true");
    assert!(mode == Mode::Copy || is_dry, "{method} {url}");
}

fn check_report(report: &Report, kind: Kind, asked: &[Asked]) {
    report.text(kind.name(), "copied").lines().for_each(check_line);
    let copied: usize = report.copied.iter().map(|(_, count)| count).sum();
    let said = copied + report.known + report.left.len();
    let list = |name: &str| {
        let answers = asked.iter().filter(|asked| asked.url.host_str() == Some(SOURCE));
        answers.map(|asked| asked.answer[name].as_array().map_or(0, Vec::len)).sum::<usize>()
    };
    match kind {
        Kind::Hashmap => check_prices(report, asked),
        Kind::Pyscripts => assert_eq!(said, list("scripts")),
        Kind::Modules => assert_eq!(said, list("modules")),
        Kind::Scopes => assert_eq!(said, list("results")),
    }
}

/// What is sent is our list with more behind it, and that is theirs.
fn check_prices(report: &Report, asked: &[Asked]) {
    let Some(put) = asked.iter().find(|asked| asked.method == Method::PUT) else { return };
    let is_own = |asked: &&Asked| asked.url.path() == [HASHMAP, "/prices"].concat();
    let ours = &asked.iter().find(is_own).expect("it was read first").answer;
    let list = &put.body;
    let members = |list: &Value, name: &str| list[name].as_array().cloned().expect("a list");
    for (name, value) in ours.as_object().expect("a price list") {
        if !["services", "groups", "rules"].contains(&name.as_str()) {
            assert_eq!(list[name], *value, "{name}");
        }
    }
    for name in ["groups", "rules"] {
        assert!(members(list, name).starts_with(&members(ours, name)), "{name}");
    }
    for (now, before) in members(list, "services").iter().zip(members(ours, "services")) {
        assert_eq!(now["name"], before["name"]);
        let fields = |service: &Value| service["fields"].as_array().cloned().unwrap_or_default();
        assert!(fields(now).starts_with(&fields(&before)), "{now}");
    }
    assert!(members(list, "services").len() >= members(ours, "services").len());

    let mut theirs = modelled(asked);
    let rules = members(list, "rules").split_off(members(ours, "rules").len());
    assert_eq!(rules.len() + report.known + report.left.len(), theirs.len());
    for rule in rules {
        let price = price(&rule, ["service", "field", "group", "tenant"].map(|of| &rule[of]));
        let found = theirs.iter().position(|theirs| *theirs == price);
        theirs.swap_remove(found.unwrap_or_else(|| panic!("{price} is not theirs")));
    }
}

/// What makes a price: for whom, when, how much.
fn price(rule: &Value, names: [&Value; 4]) -> String {
    let members = ["value", "type", "level", "cost", "start", "end"].map(|name| &rule[name]);
    let all = names.into_iter().chain(members);
    let texts = all.map(|it| if it.as_str() == Some("") { Value::Null } else { it.clone() });
    texts.map(|it| it.to_string()).collect::<Vec<_>>().join(" ")
}

/// Every rule of the source, by the names of what it is for.
fn modelled(asked: &[Asked]) -> Vec<String> {
    let mut prices = Vec::new();
    for (parent, rule) in theirs(asked, "mappings").into_iter().chain(theirs(asked, "thresholds")) {
        let (kind, id) = parent.expect("rules are asked for by what they are for");
        let (mut field, mut group) = (&Value::Null, &Value::Null);
        let mut service_id = id.clone();
        if kind == "field_id" {
            let (of_service, found) = only(asked, "fields", "field_id", &id);
            field = &found["name"];
            service_id = of_service.expect("fields are asked for by their service").1;
        }
        assert_eq!(rule[kind].as_str(), Some(&*id), "a rule for something else");
        let service = &only(asked, "services", "service_id", &service_id).1["name"];
        if let Some(id) = rule["group_id"].as_str().filter(|id| !id.is_empty()) {
            group = &only(asked, "groups", "group_id", id).1["name"];
        } else {
            assert!(rule["group_id"].is_null() || rule["group_id"] == "");
        }
        let mut rule = rule.clone();
        if rule["level"].is_null() && rule["start"].is_null() {
            rule["start"] = "1970-01-01T00:00:00".into();
        }
        prices.push(price(&rule, [service, field, group, &rule["tenant_id"]]));
    }
    prices
}

/// By what a list was asked for.
type Parent = Option<(String, String)>;

/// All of a kind that the source has.
fn theirs<'a>(asked: &'a [Asked], name: &str) -> Vec<(Parent, &'a Value)> {
    let path = [HASHMAP, "/", name].concat();
    let mut found = Vec::new();
    for asked in asked {
        if asked.url.host_str() != Some(SOURCE) || asked.url.path() != path {
            continue;
        }
        let parent = asked.url.query_pairs().next();
        let parent = parent.map(|(name, id)| (name.into_owned(), id.into_owned()));
        let list = asked.answer[name].as_array().into_iter().flatten();
        found.extend(list.map(|it| (parent.clone(), it)));
    }
    found
}

/// The one that has that id.
fn only<'a>(asked: &'a [Asked], name: &str, id_name: &str, id: &str) -> (Parent, &'a Value) {
    let mut found = theirs(asked, name);
    found.retain(|(_, it)| it[id_name].as_str() == Some(id));
    assert_eq!(found.len(), 1, "{id_name} `{id}`");
    found.remove(0)
}
