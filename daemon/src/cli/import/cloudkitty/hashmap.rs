//! The price list: services, fields, groups, mappings and thresholds, as one change.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;

use serde_json::{Map, Value, json};

use super::{Copying, Kind, Mode, Report, SourceError, is_nowhere};
use crate::cli::{prices, text};

const HASHMAP: [&str; 4] = ["v1", "rating", "module_config", "hashmap"];

/// The begin of what never began.
const ALWAYS: &str = "1970-01-01T00:00:00";

/// A price list by names, as `prices` has it.
#[derive(Debug, Default)]
struct Theirs {
    services: Vec<Value>,
    groups: Vec<Value>,
    rules: Vec<Value>,
}

impl Copying<'_> {
    pub(super) fn hashmap(&self) -> Result<Report, Box<dyn Error + Send + Sync>> {
        let mut report = Report::default();
        let theirs = match self.their_list() {
            Err(error) if is_nowhere(&error.error) => return Ok(report),
            theirs => theirs?,
        };
        let mut list = match prices::read(&self.target) {
            Err(error) if is_nowhere(&error) => {
                report.leave("the price list", "the module `hashmap` is not loaded here");
                return Ok(report);
            }
            list => list?,
        };
        for name in ["services", "groups", "rules"] {
            self.target.list(&list, name)?;
        }
        add(&mut list, "services", theirs.services, &["name"]);
        add(&mut list, "groups", theirs.groups, &[]);
        let rules = self.rules_to_add(&list, theirs.rules, &mut report);
        if let Some(known) = list["rules"].as_array_mut() {
            known.extend(rules);
        }
        let mut query = vec![("force", "true".to_owned())];
        if self.mode == Mode::Look {
            query.push(("dry_run", "true".to_owned()));
        }
        let answer = prices::put(&self.target, &list, &query)?;
        if self.mode == Mode::Look {
            report.lines = prices::describe(&answer, self.style);
        }
        for change in answer["changes"].as_array().into_iter().flatten() {
            let kind = text(&change["change"]);
            report.copy(kind.strip_prefix("add_").unwrap_or(&kind));
        }
        Ok(report)
    }

    /// Rules of theirs that have no counterpart here. Of rules for the same, ours stay.
    fn rules_to_add(&self, list: &Value, theirs: Vec<Value>, report: &mut Report) -> Vec<Value> {
        let ours = list["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut known: HashMap<String, Vec<&Value>> = HashMap::new();
        for rule in ours {
            known.entry(subject(rule)).or_default().push(rule);
        }
        let mut added = Vec::new();
        for rule in theirs {
            let has_ended = rule["end"].as_str().is_some_and(|end| end <= self.now.as_str());
            let same = known.get(&subject(&rule)).filter(|_| !has_ended);
            match same {
                // What has ended is not in our list; the daemon knows whether it has it.
                None => added.push(rule),
                Some(same) if same.iter().any(|it| says_the_same(it, &rule)) => report.known += 1,
                Some(_) => {
                    report.leave(&format!("rule {}", subject(&rule)), "there is another one here");
                }
            }
        }
        added
    }

    fn their_list(&self) -> Result<Theirs, SourceError> {
        let below = |name: &'static str| [&HASHMAP[..], &[name]].concat();
        let read = |name: &'static str, query: &[(&str, String)]| {
            self.read(Kind::Hashmap, &below(name), query, name)
        };
        let groups = self.named(&read("groups", &[])?, "group_id", &mut HashSet::new())?;
        let group_names: BTreeMap<String, Value> = groups.iter().cloned().collect();
        let (mut service_ids, mut field_ids) = (HashSet::new(), HashSet::new());
        let mut theirs = Theirs::default();
        let services = self.named(&read("services", &[])?, "service_id", &mut service_ids)?;
        for (service_id, service) in services {
            let of_service = [("service_id", service_id)];
            let mut parents = vec![(of_service.clone(), json!({"service": service}))];
            let mut fields = Vec::new();
            let list = read("fields", &of_service)?;
            for (field_id, field) in self.named(&list, "field_id", &mut field_ids)? {
                parents
                    .push(([("field_id", field_id)], json!({"service": service, "field": field})));
                fields.push(field);
            }
            for (query, names) in parents {
                let mut rules = read("mappings", &query)?;
                rules.extend(read("thresholds", &query)?);
                let [(parent, id)] = &query;
                for rule in &rules {
                    let is_of_parent = rule[*parent].as_str() == Some(id);
                    let named = by_names(rule, &names, &group_names).filter(|_| is_of_parent);
                    theirs.rules.push(named.ok_or_else(|| self.strange(rule))?);
                }
            }
            theirs.services.push(json!({"name": service, "fields": fields}));
        }
        theirs.groups = groups.into_iter().map(|(_, name)| name).collect();
        Ok(theirs)
    }

    /// The ids of entries and their names. What has none, or that of another, says nothing of what
    /// a rule is for.
    fn named(
        &self,
        list: &[Value],
        id_name: &str,
        seen: &mut HashSet<String>,
    ) -> Result<Vec<(String, Value)>, SourceError> {
        let mut named = |entry: &Value| {
            let id = entry[id_name].as_str().filter(|id| !id.is_empty())?;
            seen.insert(id.to_owned()).then(|| (id.to_owned(), entry["name"].clone()))
        };
        list.iter().map(|entry| named(entry).ok_or_else(|| self.strange(entry))).collect()
    }

    fn strange(&self, entry: &Value) -> SourceError {
        let error = self.source.strange(&entry.to_string());
        SourceError { kind: Kind::Hashmap.name(), error }
    }
}

/// A mapping or threshold of the API as a rule of a price list; `None` = its group is not among
/// them: without it the rule would make another price.
fn by_names(rule: &Value, parent: &Value, groups: &BTreeMap<String, Value>) -> Option<Value> {
    let mut named = parent.as_object().cloned().unwrap_or_default();
    let mut put = |name: &str, value: &Value| {
        if !value.is_null() && value.as_str() != Some("") {
            named.insert(name.to_owned(), value.clone());
        }
    };
    for name in ["value", "type", "level", "cost", "start", "end", "description"] {
        put(name, &rule[name]);
    }
    put("tenant", &rule["tenant_id"]);
    if rule["level"].is_null() && rule["start"].is_null() {
        // Older ones know no times: such a mapping has always been.
        put("start", &json!(ALWAYS));
    }
    let group_id = text(&rule["group_id"]);
    if !group_id.is_empty() {
        put("group", groups.get(&group_id)?);
    }
    // A name that nobody gave is none.
    let is_given = |name: &&str| name.len() != 32 || !name.bytes().all(|it| it.is_ascii_hexdigit());
    if let Some(name) = rule["name"].as_str().filter(is_given) {
        put("name", &json!(name));
    }
    Some(Value::Object(named))
}

/// Adds what is not there; `key` is what tells one from another, nothing the whole.
fn add(list: &mut Value, name: &str, theirs: Vec<Value>, key: &[&str]) {
    let Some(ours) = list[name].as_array_mut() else { return };
    for value in theirs {
        let is_same = |it: &Value| key.first().map_or(*it == value, |key| it[*key] == value[*key]);
        let Some(known) = ours.iter_mut().find(|it| is_same(it)) else {
            ours.push(value);
            continue;
        };
        let (Some(known), Some(fields)) =
            (known.get_mut("fields").and_then(Value::as_array_mut), value["fields"].as_array())
        else {
            continue;
        };
        for field in fields {
            if !known.contains(field) {
                known.push(field.clone());
            }
        }
    }
}

/// What a rule is for.
fn subject(rule: &Value) -> String {
    let mut members = Map::new();
    for name in ["service", "field", "value", "group", "tenant"] {
        members.insert(name.to_owned(), rule[name].clone());
    }
    members.insert("level".to_owned(), json!(plain(&rule["level"])));
    members.retain(|_, value| !value.is_null());
    Value::Object(members).to_string()
}

/// Same type, cost and end.
fn says_the_same(a: &Value, b: &Value) -> bool {
    a["type"] == b["type"] && a["end"] == b["end"] && plain(&a["cost"]) == plain(&b["cost"])
}

/// A number without needless zeros: `0E-28` and `0.00` are `0`.
fn plain(number: &Value) -> Option<String> {
    let text = Some(text(number)).filter(|text| !text.is_empty())?;
    let (digits, _) = text.split_once(['e', 'E']).unwrap_or((&text, ""));
    let is_zero = |byte| matches!(byte, b'0' | b'.' | b'-' | b'+');
    if digits.contains('0') && digits.bytes().all(is_zero) {
        return Some("0".to_owned());
    }
    if !text.contains('.') || text.contains(['e', 'E']) {
        return Some(text);
    }
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_named_as_in_a_price_list() {
        let groups = BTreeMap::from([("g1".to_owned(), json!("group"))]);
        let mapping = json!({
            "mapping_id": "m", "value": "m1", "type": "flat", "cost": "0.10", "service_id": null,
            "field_id": "f1", "group_id": "g1", "tenant_id": null, "start": "2026-01-01T00:00:00",
            "end": null, "name": "0123456789abcdef0123456789abcdef", "description": "",
            "deleted": null, "created_by": "x",
        });

        let rule = by_names(&mapping, &json!({"service": "s", "field": "f"}), &groups);

        let expected = json!({"service": "s", "field": "f", "value": "m1", "type": "flat",
            "cost": "0.10", "start": "2026-01-01T00:00:00", "group": "group"});
        assert_eq!(rule, Some(expected));
    }

    #[test]
    fn a_rule_is_never_taken_out_of_its_group() {
        let mapping = json!({"type": "rate", "cost": "1", "group_id": "g2"});

        let parent = json!({"service": "s"});
        let groups = BTreeMap::from([("g1".to_owned(), json!("group"))]);
        assert_eq!(by_names(&mapping, &parent, &groups), None);
    }

    #[test]
    fn numbers_are_compared_as_such() {
        let check = |text: &str, expected: &str| {
            assert_eq!(plain(&json!(text)).as_deref(), Some(expected));
        };
        check("0E-28", "0");
        check("0.00", "0");
        check("0.3000", "0.3");
        check("50.00000000", "50");
        check("100", "100");
        check("-", "-");
        assert_eq!(plain(&Value::Null), None);
    }

    #[test]
    fn fields_are_added_to_a_service_that_is_there() {
        let mut list = json!({"services": [{"name": "s", "fields": ["a"]}], "groups": ["g"]});

        let theirs =
            vec![json!({"name": "s", "fields": ["a", "b"]}), json!({"name": "t", "fields": []})];
        add(&mut list, "services", theirs, &["name"]);
        add(&mut list, "groups", vec![json!("g"), json!("h")], &[]);

        let expected = json!({
            "services": [{"name": "s", "fields": ["a", "b"]}, {"name": "t", "fields": []}],
            "groups": ["g", "h"],
        });
        assert_eq!(list, expected);
    }
}
