//! How v1 takes arguments: from the path, the query, a form, or as members of a JSON body.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use warp::http::StatusCode;

use crate::api::answer::JSON;
use crate::api::call::{Call, decode_pairs};
use crate::api::dates;
use crate::api::failure::Failure;
use crate::api::openapi::Input;
use crate::api::python;

const FORM: &str = "application/x-www-form-urlencoded";

/// Named texts. Those of the query win over those of the path.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    values: BTreeMap<String, Vec<String>>,
}

impl Arguments {
    /// From path, query and body, for a handler whose body holds nothing but arguments.
    pub(crate) fn all(
        call: &Call,
        names: &[Input],
        from_path: &[(&str, Option<&str>)],
    ) -> Result<Arguments, Failure> {
        let mut arguments = Arguments::outside_body(call, names, from_path)?;
        if call.body.is_empty() || call.content_type() == FORM {
            return Ok(arguments);
        }
        for (name, value) in body_members(call)? {
            check_known(&name, names)?;
            // What is false there is as good as not given; texts of a query are true, whatever they
            // say.
            if matches!(value, Value::Null | Value::Bool(false)) {
                continue;
            }
            arguments.values.insert(name, vec![python::text(&value)]);
        }
        Ok(arguments)
    }

    /// From path, query and form, for a handler whose body is an object of its own.
    pub(crate) fn outside_body(
        call: &Call,
        names: &[Input],
        from_path: &[(&str, Option<&str>)],
    ) -> Result<Arguments, Failure> {
        let mut arguments = Arguments::default();
        for (name, value) in from_path {
            if let Some(value) = value {
                arguments.values.insert((*name).to_owned(), vec![(*value).to_owned()]);
            }
        }
        let mut pairs = call.query_pairs();
        if call.content_type() == FORM {
            pairs.extend(decode_pairs(&String::from_utf8_lossy(&call.body)));
        }
        let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in pairs {
            check_known(&name, names)?;
            given.entry(name).or_default().push(value);
        }
        arguments.values.extend(given);
        Ok(arguments)
    }

    /// Of several values the last one; an empty one is as good as none.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let last = self.values.get(name)?.last()?;
        (!last.is_empty()).then_some(last.as_str())
    }

    /// All values, one after the other.
    pub(crate) fn joined(&self, name: &str) -> String {
        self.values.get(name).map(|values| values.join(",")).unwrap_or_default()
    }

    pub(crate) fn required(&self, name: &str) -> Result<&str, Failure> {
        self.text(name).ok_or_else(|| missing(name))
    }

    /// Any text means yes, even `false` and `0`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    pub(crate) fn date(&self, name: &str) -> Result<Option<DateTime<Utc>>, Failure> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let date = dates::parse(text).ok_or_else(|| {
            invalid(
                name,
                text,
                &format!("unable to convert to datetime. Error: Unknown string format: {text}"),
            )
        });
        date.map(Some)
    }
}

/// The one parameter that is never unknown: it would be a body in the query, of a type that nobody
/// can name.
pub(crate) fn check_reserved(call: &Call) -> Result<(), Failure> {
    let is_reserved = call.query_pairs().iter().any(|(name, _)| name == "__body__");
    if is_reserved { Err(unknown_type("")) } else { Ok(()) }
}

fn unknown_type(content_type: &str) -> Failure {
    Failure::Refused {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        text: format!("Unknown mimetype: {content_type}"),
    }
}

/// `Missing argument: "name"`.
pub(crate) fn missing(name: &str) -> Failure {
    Failure::bad_request(format!("Missing argument: \"{name}\""))
}

/// `Invalid input for field/attribute …`.
pub(crate) fn invalid(name: &str, value: &str, reason: &str) -> Failure {
    Failure::bad_request(format!(
        "Invalid input for field/attribute {name}. Value: '{value}'. {reason}"
    ))
}

fn check_known(name: &str, names: &[Input]) -> Result<(), Failure> {
    if names.iter().any(|known| known.name == name) {
        return Ok(());
    }
    Err(Failure::bad_request(format!("Unknown argument: \"{name}\"")))
}

/// A JSON body that is an object of its own: the argument `argument` of the handler.
#[derive(Debug)]
pub(crate) struct Body {
    argument: &'static str,
    members: Map<String, Value>,
}

impl Body {
    /// An object with none but these attributes.
    pub(crate) fn read(
        call: &Call,
        argument: &'static str,
        attributes: &[Input],
    ) -> Result<Body, Failure> {
        if call.body.is_empty() || call.content_type() == FORM {
            return Err(missing(argument));
        }
        let members = body_members(call)?;
        let is_known = |name: &str| attributes.iter().any(|known| known.name == name);
        if let Some(name) = members.keys().find(|name| !is_known(name)) {
            return Err(Failure::bad_request(format!(
                "Unknown attribute for argument {argument}: {name}"
            )));
        }
        Ok(Body { argument, members })
    }

    pub(crate) fn get(&self, attribute: &str) -> Option<&Value> {
        self.members.get(attribute)
    }

    /// A mandatory text.
    pub(crate) fn text(&self, attribute: &str) -> Result<&str, Failure> {
        match self.get(attribute) {
            None | Some(Value::Null) => Err(invalid(attribute, "None", "Mandatory field missing.")),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(wrong_type(attribute, other, "<class 'str'>")),
        }
    }

    /// True, false, or a text that says one of them.
    pub(crate) fn boolean(&self, attribute: &str) -> Result<Option<bool>, Failure> {
        let Some(value) = self.get(attribute) else { return Ok(None) };
        match value {
            Value::Null => Ok(None),
            Value::Bool(value) => Ok(Some(*value)),
            Value::Number(number) if number.is_i64() => Ok(Some(number.as_i64() != Some(0))),
            other => match boolean_of(&python::text(other)) {
                Some(value) => Ok(Some(value)),
                None => Err(self
                    .refuse(&format!("Value not an unambiguous boolean: {}", python::text(other)))),
            },
        }
    }

    /// A whole number, also as text; a fraction is cut off.
    pub(crate) fn integer(&self, attribute: &str) -> Result<Option<i64>, Failure> {
        let Some(value) = self.get(attribute) else { return Ok(None) };
        let text = match value {
            Value::Number(number) => {
                let text = number.to_string();
                let whole = text.split('.').next().unwrap_or_default().to_owned();
                if text.contains(['e', 'E']) { text } else { whole }
            }
            Value::String(text) => text.trim().to_owned(),
            Value::Bool(value) => i64::from(*value).to_string(),
            other => {
                return Err(wrong_type(attribute, other, "<class 'int'>"));
            }
        };
        match text.parse::<i64>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(self.refuse(&format!(
                "invalid literal for int() with base 10: {}",
                python::repr_text(&python::text(value))
            ))),
        }
    }

    /// Says what is wrong with the whole body.
    pub(crate) fn refuse(&self, reason: &str) -> Failure {
        let whole = python::repr(&Value::Object(self.members.clone()));
        invalid(self.argument, &whole, reason)
    }
}

pub(crate) fn wrong_type(attribute: &str, value: &Value, expected: &str) -> Failure {
    let reason = format!("Wrong type. Expected '{expected}', got '{}'", python::class(value));
    invalid(attribute, &python::text(value), &reason)
}

/// What people write for yes and no.
pub(crate) fn boolean_of(text: &str) -> Option<bool> {
    match text {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// The members of a JSON body.
fn body_members(call: &Call) -> Result<Map<String, Value>, Failure> {
    let content_type = call.content_type();
    if content_type != JSON {
        return Err(unknown_type(&content_type));
    }
    match serde_json::from_slice(&call.body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Failure::bad_request("Request body must be a JSON object")),
        Err(_) => Err(Failure::bad_request("Request is not in valid JSON format")),
    }
}
