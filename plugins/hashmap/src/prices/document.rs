//! The document: what it looks like, read and written.

use chrono::NaiveDateTime;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::moment;
use crate::price_rule::{Amount, Checked, PriceRule, check_text};
use crate::record::{Id, Parent, Rule};
use crate::snapshot::Snapshot;

/// Most rules in a document: as many as one change of the store takes when all of them change.
pub(crate) const RULES_MAX: usize = 40_000;
/// Most services, most fields of one, most groups.
const NAMES_MAX: usize = 1_000;

/// A price list as it was sent, checked as far as it can be by itself.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// The revision of the list that this one was made from.
    pub(crate) revision: Option<u64>,
    pub(crate) services: Vec<Service>,
    pub(crate) groups: Vec<String>,
    pub(crate) rules: Vec<(PriceRule, Checked)>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) fields: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    revision: Option<u64>,
    #[serde(default)]
    services: Vec<Service>,
    #[serde(default)]
    groups: Vec<String>,
    /// The configuration's name for them is fine as well.
    #[serde(alias = "initial_rules", default)]
    rules: Vec<Value>,
}

impl Document {
    /// What is wrong is said with its place.
    pub(crate) fn read(value: Value) -> Result<Document, String> {
        let sent: Sent = from_object(value)?;
        check_count("rules", sent.rules.len(), RULES_MAX)?;
        check_count("services", sent.services.len(), NAMES_MAX)?;
        check_count("groups", sent.groups.len(), NAMES_MAX)?;
        for (index, service) in sent.services.iter().enumerate() {
            let place = |detail| format!("`services[{index}]`: {detail}");
            check_text("name", Some(&service.name)).map_err(place)?;
            check_count("fields", service.fields.len(), NAMES_MAX).map_err(place)?;
            let mut fields = service.fields.iter();
            fields.try_for_each(|it| check_text("fields", Some(it)).map_err(place))?;
        }
        sent.groups.iter().try_for_each(|name| check_text("groups", Some(name)))?;
        let mut document =
            Document { revision: sent.revision, services: sent.services, ..Document::default() };
        document.groups = sent.groups;
        for (index, rule) in sent.rules.into_iter().enumerate() {
            let place = |detail: String| format!("`rules[{index}]`: {detail}");
            let rule: PriceRule = from_object(rule).map_err(place)?;
            let checked = rule.check().map_err(place)?;
            document.rules.push((rule, checked));
        }
        Ok(document)
    }
}

/// A list in the order of the members is none.
fn from_object<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    if !value.is_object() {
        return Err("must be an object".to_owned());
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn check_count(key: &str, count: usize, max: usize) -> Result<(), String> {
    if count > max {
        return Err(format!("`{key}`: has {count} entries, at most {max} are allowed"));
    }
    Ok(())
}

/// The list of the store: what counts now or later.
pub(crate) fn show(snapshot: &Snapshot, revision: u64, now: NaiveDateTime) -> Value {
    let services = snapshot.services.iter().map(|(id, service)| {
        let fields = snapshot.fields.iter().filter(|(_, field)| field.service == id);
        let fields: Vec<&str> = fields.map(|(_, field)| field.name.as_str()).collect();
        json!({"name": service.name, "fields": fields})
    });
    let groups = snapshot.groups.iter().map(|(_, group)| group.name.as_str());
    let names = Names::of(snapshot);
    let counts = |rule: &Rule| rule.deleted.is_none() && rule.end.is_none_or(|end| end > now);
    let mappings = snapshot.mappings.iter().filter(|(_, it)| counts(&it.rule)).filter_map(|it| {
        let value = it.1.value.clone().filter(|value| !value.is_empty());
        Some(PriceRule { value, ..names.rule(&it.1.rule, true)? })
    });
    let thresholds = snapshot.thresholds.iter().filter(|(_, it)| counts(&it.rule));
    let thresholds = thresholds.filter_map(|(_, it)| {
        Some(PriceRule { level: Some(Amount::of(it.level)), ..names.rule(&it.rule, it.dated)? })
    });
    let mut rules: Vec<PriceRule> = mappings.chain(thresholds).collect();
    // Rules of a service stand together, whenever they were made.
    let service_index = |rule: &PriceRule| {
        snapshot.services.iter().position(|(_, service)| service.name == rule.service)
    };
    rules.sort_by_cached_key(|rule| (service_index(rule), rule.field.clone()));
    json!({
        "revision": revision,
        "services": services.collect::<Vec<_>>(),
        "groups": groups.collect::<Vec<_>>(),
        "rules": rules,
    })
}

/// What ids stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a>(&'a Snapshot);

impl<'a> Names<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Names<'a> {
        Names(snapshot)
    }

    /// Service and field.
    pub(super) fn parent(self, parent: Parent) -> Option<(&'a str, Option<&'a str>)> {
        let service = |id| Some(self.0.services.get(id)?.name.as_str());
        match parent {
            Parent::Service(id) => Some((service(id)?, None)),
            Parent::Field(id) => {
                let field = self.0.fields.get(id)?;
                Some((service(field.service)?, Some(&field.name)))
            }
        }
    }

    pub(super) fn group(self, group: Option<Id>) -> Option<&'a str> {
        Some(self.0.groups.get(group?)?.name.as_str())
    }

    /// A rule without its value or level; `None` when it hangs on nothing.
    fn rule(self, rule: &Rule, dated: bool) -> Option<PriceRule> {
        let (service, field) = self.parent(rule.parent)?;
        let group = self.group(rule.group).map(str::to_owned);
        let (service, field) = (service.to_owned(), field.map(str::to_owned));
        Some(PriceRule { service, field, group, ..texts(rule, dated) })
    }
}

/// What a rule says, without what it is for.
pub(super) fn texts(rule: &Rule, dated: bool) -> PriceRule {
    PriceRule {
        service: String::new(),
        field: None,
        value: None,
        group: None,
        tenant: rule.tenant.clone(),
        kind: rule.kind.name().to_owned(),
        level: None,
        cost: Amount::of(rule.cost),
        start: dated.then(|| moment::show(rule.start)),
        end: rule.end.map(moment::show),
        name: rule.name.clone().filter(|name| !name.is_empty() && !is_generated(name)),
        description: rule.description.clone().filter(|text| !text.is_empty()),
    }
}

/// Names that nobody gave are not shown: a rule gets a new one wherever it is made.
fn is_generated(name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.len() == 32 && name.bytes().all(is_digit)
}
