//! What something would cost.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use serde_json::{Value, json};
use tracing::info;

use super::arguments::{Arguments, Body, invalid, wrong_type};
use crate::api::answer::Answer;
use crate::api::call::Call;
use crate::api::caller::Sight;
use crate::api::context::Context;
use crate::api::failure::Failure;
use crate::api::openapi::{Input, Kind, schemas};
use crate::api::policy;
use crate::api::python;
use crate::rating::{QuoteResource, RatingError};
use crate::report::text;
use crate::usage::ScopeId;

/// Most resources of one quote.
pub(crate) const RESOURCES_MAX: usize = 10_000;

/// Most attributes of one resource.
const ATTRIBUTES_MAX: usize = 64;

/// Most services of one quote: each is a call of every module.
const SERVICES_MAX: usize = 256;

/// Most values of the resources of one service, absent ones included: so many are rated at once.
const CELLS_MAX: usize = 1_000_000;

/// Most attributes that the resources of one service have together.
const NAMES_MAX: usize = 256;

/// Attributes of a quote.
const QUOTE: &[Input] =
    &[Input::new("resources", Kind::Schema(describe::resources), "What is to be priced.")
        .required()];
/// Attributes of a resource.
const RESOURCE: &[Input] = &[
    Input::text("service", "The type of a metric.").required(),
    Input::new("volume", Kind::Schema(schemas::decimal_input), "How much of it.").required(),
    Input::new("desc", Kind::Schema(describe::attributes), "Attributes, for the rules."),
    Input::new("rating", Kind::Schema(describe::ignored), "Not used."),
];

pub(crate) async fn quote(context: &Context, call: &Call) -> Result<Answer, Failure> {
    Arguments::outside_body(call, &[], &[])?;
    let body = Body::read(call, "res_data", QUOTE)?;
    let resources = match body.get("resources") {
        None | Some(Value::Null) => {
            return Err(invalid("resources", "None", "Mandatory field missing."));
        }
        Some(Value::Array(resources)) if resources.len() <= RESOURCES_MAX => resources,
        Some(Value::Array(resources)) => {
            let reason = format!("At most {RESOURCES_MAX} resources may be given at once.");
            return Err(invalid("resources", &resources.len().to_string(), &reason));
        }
        // An empty element in XML.
        Some(Value::String(text)) if text.is_empty() => &Vec::new(),
        Some(other) => return Err(wrong_type("resources", other, "<class 'list'>")),
    };
    let scope_key = &context.config.collect.scope_key;
    let resources: Result<Vec<QuoteResource>, Failure> =
        resources.iter().map(|resource| read_resource(resource, scope_key, &call.sight)).collect();
    let resources = resources?;
    if resources.is_empty() {
        return Ok(Answer::document(json!("0")));
    }
    check_size(&resources)?;
    let sum = context.rating.quote(context.clock.now(), resources).await;
    let sum = sum.map_err(|error| failure(error, &call.sight))?;
    Ok(Answer::document(json!(text::quoted(sum))))
}

/// A quote is free of charge, so what it may cost us is limited.
fn check_size(resources: &[QuoteResource]) -> Result<(), Failure> {
    let mut services: BTreeMap<&str, (usize, BTreeSet<&str>)> = BTreeMap::new();
    for resource in resources {
        let (rows, names) = services.entry(&resource.service).or_default();
        *rows += 1;
        names.extend(resource.attributes.keys().map(String::as_str));
        let count = resource.attributes.len();
        if count > ATTRIBUTES_MAX {
            let text = format!("A resource may have {ATTRIBUTES_MAX} attributes, got {count}.");
            return Err(Failure::bad_request(text));
        }
        if names.len() > NAMES_MAX || *rows * names.len() > CELLS_MAX {
            return Err(Failure::bad_request(format!(
                "The resources of one service may have {NAMES_MAX} different attributes, and \
                 {CELLS_MAX} values together."
            )));
        }
    }
    if services.len() > SERVICES_MAX {
        let text = format!("A quote may be for {SERVICES_MAX} services, got {}.", services.len());
        return Err(Failure::bad_request(text));
    }
    Ok(())
}

/// What a module says of its rules and scripts is for those who may see them.
fn failure(error: RatingError, sight: &Sight) -> Failure {
    let is_of_module = matches!(error, RatingError::Call { .. });
    match Failure::from(error) {
        Failure::Refused { status, text } if is_of_module && *sight != Sight::Everything => {
            info!(error = text, "A module refused a quote.");
            let text = "a module cannot price what was sent".to_owned();
            Failure::Refused { status, text }
        }
        failure => failure,
    }
}

/// `{"service", "volume", "desc"}`; attributes stand flat in `desc` or under `metadata` and
/// `groupby`.
fn read_resource(
    resource: &Value,
    scope_key: &str,
    sight: &Sight,
) -> Result<QuoteResource, Failure> {
    let Value::Object(members) = resource else {
        return Err(wrong_type("resources", resource, "<class 'dict'>"));
    };
    let is_known = |name: &str| RESOURCE.iter().any(|known| known.name == name);
    if let Some(name) = members.keys().find(|name| !is_known(name)) {
        let text = format!("Unknown attribute for argument res_data.resources: {name}");
        return Err(Failure::bad_request(text));
    }
    let service = match members.get("service") {
        Some(Value::String(service)) => service.clone(),
        None | Some(Value::Null) => {
            return Err(invalid("service", "None", "Mandatory field missing."));
        }
        Some(other) => return Err(wrong_type("service", other, "<class 'str'>")),
    };
    let volume = read_volume(members.get("volume"))?;
    // What comes later wins: an attribute under `groupby` over the same one elsewhere.
    let mut attributes = BTreeMap::new();
    let mut nested = [None, None];
    match members.get("desc") {
        None | Some(Value::Null) => {}
        // An empty element in XML.
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::Object(desc)) => {
            for (name, value) in desc {
                match (name.as_str(), value) {
                    ("metadata", Value::Object(members)) => nested[0] = Some(members),
                    ("groupby", Value::Object(members)) => nested[1] = Some(members),
                    _ => add_attribute(&mut attributes, name, value)?,
                }
            }
        }
        Some(other) => return Err(wrong_type("desc", other, "<class 'dict'>")),
    }
    for (name, value) in nested.into_iter().flatten().flatten() {
        add_attribute(&mut attributes, name, value)?;
    }
    limit_scope(&mut attributes, scope_key, sight)?;
    // A text that cannot be a scope has no rules of its own.
    let scope = attributes.get(scope_key).and_then(|scope| ScopeId::new(scope).ok());
    Ok(QuoteResource { service, attributes, volume, scope })
}

/// What another scope would pay is its own affair. Who has a scope gets its prices without saying
/// so.
fn limit_scope(
    attributes: &mut BTreeMap<String, String>,
    scope_key: &str,
    sight: &Sight,
) -> Result<(), Failure> {
    match attributes.get(scope_key) {
        Some(scope) if !sight.covers(scope) => Err(Failure::Forbidden(&policy::QUOTE)),
        Some(_) => Ok(()),
        None => {
            if let Sight::Own(own) = sight {
                attributes.insert(scope_key.to_owned(), own.to_string());
            }
            Ok(())
        }
    }
}

fn read_volume(value: Option<&Value>) -> Result<Decimal, Failure> {
    let text = match value {
        None | Some(Value::Null) => {
            return Err(invalid("volume", "None", "Mandatory field missing."));
        }
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(other) => return Err(wrong_type("volume", other, "<class 'str'>")),
    };
    text::decimal(&text).map_err(|error| invalid("volume", &text, &error.to_string()))
}

/// Null is absent.
fn add_attribute(
    attributes: &mut BTreeMap<String, String>,
    name: &str,
    value: &Value,
) -> Result<(), Failure> {
    if value.is_array() || value.is_object() {
        return Err(wrong_type(name, value, "<class 'str'>"));
    }
    if !value.is_null() {
        attributes.insert(name.to_owned(), python::text(value));
    }
    Ok(())
}

/// What the documentation says of it.
pub(crate) mod describe {
    use serde_json::{Value, json};

    use super::{QUOTE, RESOURCE, RESOURCES_MAX};
    use crate::api::openapi::{Operation, named, object, schemas};

    pub(crate) fn quote() -> Operation {
        Operation::new("What something would cost")
            .says("By the rules that are in force now; the answer is one text.")
            .body(QUOTE)
            .answers(200, "the price of all resources together", schemas::decimal_text())
            .refuses(422, "a module cannot price what was sent")
    }

    pub(super) fn resources() -> Value {
        let resource = named("V1QuoteResource", &object(RESOURCE));
        json!({"type": "array", "items": resource, "maxItems": RESOURCES_MAX})
    }

    pub(super) fn attributes() -> Value {
        let scalar = json!({"type": ["string", "number", "boolean", "null"]});
        let flat = json!({"type": "object", "additionalProperties": scalar});
        let either = json!({"anyOf": [scalar, flat]});
        json!({
            "type": ["object", "null"],
            "description": "Attributes stand here, under `metadata` or under `groupby`.",
            "properties": {"metadata": either, "groupby": either},
            "additionalProperties": scalar,
        })
    }

    pub(super) fn ignored() -> Value {
        json!({})
    }
}
