//! What Gnocchi is asked about one metric, one period and many scopes: its dynamic aggregates.
//!
//! The question is `CloudKitty`'s, so that bills are the same, but for many scopes at once:
//!
//! ```text
//! POST /v1/aggregates?groupby=…&start=…&stop=…&use_history=true&granularity=3600
//! {"operations": ["aggregate", RE_AGGREGATION_METHOD, ["metric", NAME, AGGREGATION_METHOD]],
//!  "resource_type": TYPE,
//!  "search": {"and": [{"=": {"type": TYPE}}, {"in": {SCOPE_KEY: ["a", "b"]}}]}}
//! ```
//!
//! This module sends nothing.

use chrono::{SecondsFormat, TimeDelta};
use rated_plugin::access::form;
use rated_plugin::{CollectRequest, DateTime, Error, Result, Utc};
use serde_json::{Value, json};

use crate::arguments::Arguments;

/// Most attributes that a metric's definition may name.
const ATTRIBUTES_MAX: usize = 64;

/// A question to Gnocchi's dynamic aggregates, and how its answer is to be read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Query {
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) grouping: Grouping,
}

/// The attributes by which Gnocchi groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grouping {
    /// The scope key, then the metric's groupby, then what the collector needs itself.
    pub(crate) attributes: Vec<String>,
    /// How many of them are the metric's groupby.
    pub(crate) groupby_count: usize,
    /// Where the resource's key stands.
    pub(crate) key: usize,
    /// Where the resource's id and the begin of its revision stand, when revisions are joined.
    pub(crate) revision: Option<(usize, usize)>,
}

impl Query {
    pub(crate) fn new(request: &CollectRequest, arguments: &Arguments) -> Result<Query> {
        let grouping = Grouping::new(request, arguments)?;
        let earlier_secs = if arguments.is_rate() { arguments.force_granularity } else { 0 };
        let earlier = i64::try_from(earlier_secs).ok().and_then(TimeDelta::try_seconds);
        let start = earlier.and_then(|earlier| request.begin.checked_sub_signed(earlier));
        let start = start.ok_or_else(|| {
            Error::invalid_request(format!("{} is out of Gnocchi's reach", request.begin))
        })?;
        let (start, stop) = (timestamp(start), timestamp(request.end));
        let granularity = arguments.force_granularity.to_string();
        let mut fields: Vec<(&str, &str)> =
            grouping.attributes.iter().map(|name| ("groupby", name.as_str())).collect();
        fields.extend([("start", start.as_str()), ("stop", &stop), ("use_history", "true")]);
        if arguments.force_granularity > 0 {
            fields.push(("granularity", &granularity));
        }
        let path = format!("/v1/aggregates?{}", form(&fields));
        let body = json!({
            "operations": operations(&request.metric.name, arguments),
            "resource_type": arguments.resource_type,
            "search": search(request, arguments),
        });
        Ok(Query { path, body, grouping })
    }
}

/// A custom query is a text, in which names are replaced in `CloudKitty`'s order.
fn operations(metric: &str, arguments: &Arguments) -> Value {
    let Arguments { aggregation_method, re_aggregation_method, custom_query, .. } = arguments;
    if custom_query.is_empty() {
        return json!(["aggregate", re_aggregation_method, ["metric", metric, aggregation_method]]);
    }
    Value::String(
        custom_query
            .replace("RE_AGGREGATION_METHOD", re_aggregation_method)
            .replace("AGGREGATION_METHOD", aggregation_method)
            .replace("METRIC_NAME", metric),
    )
}

fn search(request: &CollectRequest, arguments: &Arguments) -> Value {
    let of_type = json!({"=": {"type": arguments.resource_type}});
    if request.scopes.is_empty() {
        return of_type;
    }
    json!({"and": [of_type, one_of(&request.scope_key, &request.scopes)]})
}

/// A search for one of several values of an attribute.
///
/// In history, Gnocchi (4.7) takes `in` for attributes of every resource only; those of one type
/// must be compared one by one.
pub(crate) fn one_of<S: AsRef<str>>(attribute: &str, values: &[S]) -> Value {
    const OF_EVERY_RESOURCE: [&str; 4] = ["id", "original_resource_id", "project_id", "user_id"];
    let values = values.iter().map(AsRef::as_ref);
    if OF_EVERY_RESOURCE.contains(&attribute) {
        return json!({"in": {attribute: values.collect::<Vec<&str>>()}});
    }
    json!({"or": values.map(|value| json!({"=": {attribute: value}})).collect::<Vec<Value>>()})
}

impl Grouping {
    fn new(request: &CollectRequest, arguments: &Arguments) -> Result<Grouping> {
        let metric = &request.metric;
        let wrong = |message: String| {
            Error::invalid_request(format!("metric `{}`: {message}", metric.name))
        };
        let mut attributes = vec![request.scope_key.clone()];
        for attribute in metric.groupby.iter().chain(&metric.metadata) {
            if attributes.contains(attribute) {
                return Err(wrong(format!("attribute `{attribute}` is named twice")));
            }
            attributes.push(attribute.clone());
        }
        if attributes.len() > ATTRIBUTES_MAX {
            let count = attributes.len();
            return Err(wrong(format!(
                "must have at most {ATTRIBUTES_MAX} attributes, got {count}"
            )));
        }
        if request.scopes.iter().any(String::is_empty) {
            return Err(wrong("a scope without a name cannot be asked for".to_owned()));
        }
        attributes.truncate(1 + metric.groupby.len());
        let key = position(&mut attributes, &arguments.resource_key);
        let id = attributes.iter().position(|attribute| attribute == "id");
        let revision = match (arguments.use_all_resource_revisions, id) {
            (false, Some(id)) => Some((id, position(&mut attributes, "revision_start"))),
            // Without an id CloudKitty joins nothing either.
            _ => None,
        };
        Ok(Grouping { attributes, groupby_count: metric.groupby.len(), key, revision })
    }
}

/// Where an attribute stands; added if it does not.
fn position(attributes: &mut Vec<String>, name: &str) -> usize {
    let found = attributes.iter().position(|attribute| attribute == name);
    found.unwrap_or_else(|| {
        attributes.push(name.to_owned());
        attributes.len() - 1
    })
}

fn timestamp(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::AutoSi, false)
}

#[cfg(test)]
mod tests {
    use rated_plugin::MetricDefinition;

    use super::*;

    fn request(extra_args: &Value, scopes: &[&str]) -> CollectRequest {
        CollectRequest {
            metric: MetricDefinition {
                groupby: vec!["user_id".to_owned()],
                metadata: vec!["flavor_id".to_owned()],
                extra_args: extra_args.as_object().unwrap().clone(),
                ..MetricDefinition::new("cpu")
            },
            scope_key: "project_id".to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            begin: DateTime::from_timestamp(1_767_225_600, 0).unwrap(),
            end: DateTime::from_timestamp(1_767_229_200, 0).unwrap(),
        }
    }

    fn query(extra_args: &Value, scopes: &[&str]) -> Query {
        let request = request(extra_args, scopes);
        Query::new(&request, &Arguments::of(&request.metric).unwrap()).unwrap()
    }

    #[test]
    fn one_question_asks_for_many_scopes() {
        let query = query(&json!({"resource_type": "instance"}), &["a", "b"]);

        assert_eq!(
            query.path,
            "/v1/aggregates?groupby=project_id&groupby=user_id&groupby=id\
             &start=2026-01-01T00%3A00%3A00%2B00%3A00&stop=2026-01-01T01%3A00%3A00%2B00%3A00\
             &use_history=true&granularity=3600"
        );
        assert_eq!(
            query.body,
            json!({
                "operations": ["aggregate", "max", ["metric", "cpu", "max"]],
                "resource_type": "instance",
                "search": {"and": [
                    {"=": {"type": "instance"}}, {"in": {"project_id": ["a", "b"]}},
                ]},
            })
        );
    }

    #[test]
    fn attributes_of_one_type_are_compared_one_by_one() {
        let mut request = request(&json!({"resource_type": "instance"}), &["a", "b"]);
        request.scope_key = "customer".to_owned();

        let query = Query::new(&request, &Arguments::of(&request.metric).unwrap()).unwrap();

        assert_eq!(
            query.body["search"]["and"][1],
            json!({"or": [{"=": {"customer": "a"}}, {"=": {"customer": "b"}}]})
        );
    }

    #[test]
    fn every_scope_is_asked_for_without_naming_one() {
        let query = query(&json!({"resource_type": "instance"}), &[]);

        assert_eq!(query.body["search"], json!({"=": {"type": "instance"}}));
    }

    #[test]
    fn a_rate_begins_one_value_earlier() {
        let arguments = |more: &Value| {
            let mut all = json!({"resource_type": "instance", "aggregation_method": "max",
                "re_aggregation_method": "rate:max"});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            query(&all, &["a"]).path
        };

        assert!(arguments(&json!({})).contains("start=2025-12-31T23%3A00%3A00%2B00%3A00&"));
        let finer = arguments(&json!({"force_granularity": 300}));
        assert!(finer.contains("start=2025-12-31T23%3A55%3A00%2B00%3A00&"));
        assert!(finer.ends_with("&granularity=300"));
        let any = arguments(&json!({"force_granularity": 0}));
        assert!(any.contains("start=2026-01-01T00%3A00%3A00%2B00%3A00&"));
        assert!(!any.contains("granularity"));
        // Of a rate that the archive policy has made, one value is enough.
        let stored = json!({"resource_type": "x", "aggregation_method": "rate:mean",
            "re_aggregation_method": "mean"});
        assert!(query(&stored, &["a"]).path.contains("start=2026-01-01T00"));
    }

    #[test]
    fn placeholders_of_a_custom_query_are_replaced() {
        let custom = json!({
            "resource_type": "ceph", "aggregation_method": "mean", "re_aggregation_method": "sum",
            "custom_query": "(* -1 (aggregate RE_AGGREGATION_METHOD \
                             (metric METRIC_NAME AGGREGATION_METHOD)))",
        });

        let operations = &query(&custom, &["a"]).body["operations"];

        assert_eq!(operations, "(* -1 (aggregate sum (metric cpu mean)))");
    }

    #[test]
    fn what_the_collector_needs_itself_is_grouped_by_and_stands_last() {
        let grouping = |extra_args: &Value| query(extra_args, &["a"]).grouping;

        let plain = grouping(&json!({"resource_type": "x"}));
        assert_eq!(plain.attributes, ["project_id", "user_id", "id"]);
        assert_eq!((plain.key, plain.revision, plain.groupby_count), (2, None, 1));
        let joined = grouping(&json!({"resource_type": "x", "use_all_resource_revisions": false}));
        assert_eq!(joined.attributes, ["project_id", "user_id", "id", "revision_start"]);
        assert_eq!(joined.revision, Some((2, 3)));
        let other = grouping(&json!({"resource_type": "x", "resource_key": "user_id",
            "use_all_resource_revisions": false}));
        assert_eq!(other.attributes, ["project_id", "user_id"]);
        assert_eq!((other.key, other.revision), (1, None));
    }

    #[test]
    fn a_definition_that_cannot_work_is_refused() {
        let refused = |change: fn(&mut CollectRequest)| {
            let mut request = request(&json!({"resource_type": "x"}), &["a"]);
            change(&mut request);
            Query::new(&request, &Arguments::of(&request.metric).unwrap()).unwrap_err().message
        };

        let twice = refused(|request| request.metric.metadata = vec!["user_id".to_owned()]);
        assert_eq!(twice, "metric `cpu`: attribute `user_id` is named twice");
        let key = refused(|request| request.metric.groupby = vec!["project_id".to_owned()]);
        assert_eq!(key, "metric `cpu`: attribute `project_id` is named twice");
        assert!(refused(|request| request.scopes.push(String::new())).contains("without a name"));
        let many = refused(|request| {
            request.metric.groupby = (0..64).map(|number| format!("a{number}")).collect();
        });
        assert!(many.contains("at most 64 attributes, got 66"), "{many}");
    }
}
