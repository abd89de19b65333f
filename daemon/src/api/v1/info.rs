//! What is measured, from the configuration.

use std::iter;

use serde_json::{Map, Value, json};

use super::arguments::Arguments;
use crate::api::answer::Answer;
use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::failure::Failure;
use crate::api::negotiate::{Accepts, Format};
use crate::api::python;
use crate::usage::{Factor, Metric, Mutation};

pub(crate) async fn config(context: &Context, call: &Call) -> Result<Answer, Failure> {
    Arguments::all(call, &[], &[])?;
    let mut metrics: Map<String, Value> = Map::new();
    for metric in &context.config.collect.metrics {
        let definition = definition(metric, &context.config.collect.scope_key);
        // A source metric that is defined several times becomes a list, as in the file it came
        // from.
        match metrics.get_mut(&metric.id.name) {
            None => {
                metrics.insert(metric.id.name.clone(), definition);
            }
            Some(Value::Array(definitions)) => definitions.push(definition),
            Some(first) => *first = json!([first.take(), definition]),
        }
    }
    let metrics = Value::Object(metrics);
    // In XML the whole of it is one text, as Python writes a dictionary.
    if matches!(Accepts::of(call).format(), Some(Format::Xml(_))) {
        let item = json!({"key": "metrics", "value": python::repr(&metrics)});
        return Ok(Answer::document(json!([item])));
    }
    Ok(Answer::document(json!({"metrics": metrics})))
}

pub(crate) async fn metrics(context: &Context, call: &Call) -> Result<Answer, Failure> {
    Arguments::all(call, &[], &[])?;
    let metrics: Vec<Value> = context.config.collect.metrics.iter().map(summary).collect();
    Ok(Answer::document(json!({"metrics": metrics})))
}

/// By its type; the message for an unknown one is the name alone.
pub(crate) async fn metric(context: &Context, call: &Call) -> Result<Answer, Failure> {
    Arguments::all(call, &[], &[])?;
    let name = call.capture(0).unwrap_or_default();
    let metrics = &context.config.collect.metrics;
    match metrics.iter().find(|metric| metric.id.alt_name == name) {
        Some(metric) => Ok(Answer::document(summary(metric))),
        None => Err(Failure::not_found(name)),
    }
}

fn summary(metric: &Metric) -> Value {
    json!({"metric_id": metric.id.alt_name, "metadata": metric.metadata, "unit": metric.unit})
}

fn definition(metric: &Metric, scope_key: &str) -> Value {
    let mut members = Map::new();
    let mut set = |name: &str, value: Value| members.insert(name.to_owned(), value);
    set("unit", json!(metric.unit));
    if metric.id.alt_name != metric.id.name {
        set("alt_name", json!(metric.id.alt_name));
    }
    if let Some(description) = &metric.description {
        set("description", json!(description));
    }
    // As people write it: the configuration leaves the scope key out.
    let groupby: Vec<&str> =
        metric.groupby.iter().map(String::as_str).chain(iter::once(scope_key)).collect();
    set("groupby", json!(groupby));
    if !metric.metadata.is_empty() {
        set("metadata", json!(metric.metadata));
    }
    if let Some(factor) = factor(metric.factor) {
        set("factor", json!(factor));
    }
    if !metric.offset.is_zero() {
        set("offset", json!(metric.offset.to_string()));
    }
    let (mutate, map) = mutation(&metric.mutate);
    if let Some(mutate) = mutate {
        set("mutate", json!(mutate));
    }
    if let Some(map) = map {
        set("mutate_map", map);
    }
    if let Some(collector) = &metric.collector {
        set("collector", json!(collector));
    }
    if metric.skip_zero {
        set("skip_zero", json!(true));
    }
    if !metric.extra_args.is_empty() {
        set("extra_args", Value::Object(metric.extra_args.clone()));
    }
    Value::Object(members)
}

/// `None` when it changes nothing.
fn factor(factor: Factor) -> Option<String> {
    let (numerator, denominator) = (factor.numerator.normalize(), factor.denominator.normalize());
    match (numerator == denominator, denominator == rust_decimal::Decimal::ONE) {
        (true, _) => None,
        (false, true) => Some(numerator.to_string()),
        (false, false) => Some(format!("{numerator}/{denominator}")),
    }
}

fn mutation(mutation: &Mutation) -> (Option<&'static str>, Option<Value>) {
    match mutation {
        Mutation::None => (None, None),
        Mutation::NumBool => (Some("NUMBOOL"), None),
        Mutation::NotNumBool => (Some("NOTNUMBOOL"), None),
        Mutation::Floor => (Some("FLOOR"), None),
        Mutation::Ceil => (Some("CEIL"), None),
        Mutation::Map(map) => {
            let entries = map.iter().map(|(from, to)| (from.to_string(), json!(to.to_string())));
            (Some("MAP"), Some(Value::Object(entries.collect())))
        }
    }
}

/// What the documentation says of it.
pub(crate) mod describe {
    use serde_json::{Value, json};

    use crate::api::openapi::{Input, Operation, named, schemas};

    const ID: Input = Input::text("id", "The type of a metric: its `alt_name`, else its name.");

    fn metric_record() -> Value {
        let members = json!({
            "metric_id": {"type": "string"},
            "metadata": schemas::list(&schemas::text()),
            "unit": {"type": "string"},
        });
        named("V1Metric", &schemas::record(&members))
    }

    pub(crate) fn config() -> Operation {
        let definition = named("V1MetricDefinition", &definition());
        let one_or_more = json!({"anyOf": [definition, schemas::list(&definition)]});
        let metrics = json!({"type": "object", "additionalProperties": one_or_more});
        Operation::new("What is measured, as it is configured")
            .says("A source metric that is defined several times has a list of definitions.")
            .answers(
                200,
                "by the name in the source",
                schemas::record(&json!({"metrics": metrics})),
            )
    }

    fn definition() -> Value {
        json!({
            "type": "object",
            "properties": {
                "unit": {"type": "string"},
                "alt_name": {"type": "string"},
                "description": {"type": "string"},
                "groupby": schemas::list(&schemas::text()),
                "metadata": schemas::list(&schemas::text()),
                "factor": {"type": "string", "examples": ["1/1048576"]},
                "offset": {"type": "string"},
                "mutate": {"enum": ["NUMBOOL", "NOTNUMBOOL", "FLOOR", "CEIL", "MAP"]},
                "mutate_map": {"type": "object", "additionalProperties": {"type": "string"}},
                "collector": {"type": "string"},
                "skip_zero": {"const": true},
                "extra_args": {"type": "object"},
            },
            "required": ["unit", "groupby"],
            "additionalProperties": false,
        })
    }

    pub(crate) fn metrics() -> Operation {
        Operation::new("The metrics").answers(
            200,
            "as configured",
            schemas::list_as("metrics", &metric_record()),
        )
    }

    pub(crate) fn metric() -> Operation {
        Operation::new("A metric")
            .inputs(&[ID])
            .answers(200, "the metric", metric_record())
            .refuses(404, "no metric of that type")
    }
}
