//! The object in the body of a POST or PUT, attribute by attribute.

use rated_plugin::Request;
use rust_decimal::Decimal;
use serde_json::{Map, Value};

use super::TEXT_CHARACTERS_MAX;
use super::arguments::{self, Arguments, FORM, media_type, parse_json, unknown_type};
use super::fault::Fault;
use super::python;
use crate::amount::{self, AmountError};
use crate::moment::{self, Sent};
use crate::record::{Id, Kind};

/// What a body may hold.
pub(super) struct Shape {
    /// `service_data`
    pub(super) argument: &'static str,
    /// `Service`
    pub(super) class: &'static str,
    pub(super) attributes: &'static [&'static str],
    /// Arguments of the call, from query or body.
    pub(super) arguments: &'static [&'static str],
}

/// An object as it was sent, and the arguments beside it.
#[derive(Debug)]
pub(super) struct Body {
    map: Map<String, Value>,
    pub(super) arguments: Arguments,
}

/// An attribute that is not sent, sent as null, or has a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given<T> {
    Absent,
    Null,
    Value(T),
}

impl<T> Given<T> {
    pub(super) fn value(self) -> Option<T> {
        match self {
            Given::Value(value) => Some(value),
            Given::Absent | Given::Null => None,
        }
    }
}

impl Body {
    pub(super) fn read(request: &Request, shape: &Shape) -> Result<Body, Fault> {
        let mut arguments = Arguments::beside_body(request, shape.arguments)?;
        let media_type = media_type(request);
        let is_empty = request.body.iter().all(u8::is_ascii_whitespace);
        if is_empty || media_type == FORM {
            return Err(Fault::bad(format!("Missing argument: \"{}\"", shape.argument)));
        }
        if media_type != "application/json" {
            return Err(unknown_type(&media_type));
        }
        let Value::Object(map) = parse_json(request)? else {
            return Err(arguments::not_an_object());
        };
        if let Some(wrapped) = map.get(shape.argument) {
            let reason = format!(
                "unable to convert to {}. Error: Base.__init__() takes 1 positional argument but 2 \
                 were given",
                shape.class
            );
            return Err(Fault::invalid(shape.argument, &python::str(wrapped), &reason));
        }
        for (name, value) in &map {
            if shape.arguments.contains(&name.as_str()) {
                arguments.push(name, value.clone());
            } else if !shape.attributes.contains(&name.as_str()) {
                return Err(Fault::bad(format!(
                    "Unknown attribute for argument {}: {name}",
                    shape.argument
                )));
            }
        }
        Ok(Body { map, arguments })
    }

    /// The whole object as texts of errors quote it.
    pub(super) fn quoted(&self) -> String {
        python::repr(&Value::Object(self.map.clone()))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    pub(super) fn text(&self, name: &str) -> Result<Given<String>, Fault> {
        match self.map.get(name) {
            None => Ok(Given::Absent),
            Some(Value::Null) => Ok(Given::Null),
            Some(Value::String(text)) => {
                if text.chars().count() > TEXT_CHARACTERS_MAX {
                    let reason = format!("More than {TEXT_CHARACTERS_MAX} characters");
                    return Err(Fault::invalid(name, text, &reason));
                }
                Ok(Given::Value(text.clone()))
            }
            Some(other) => Err(wrong_type(name, "str", other)),
        }
    }

    pub(super) fn mandatory_text(&self, name: &str) -> Result<String, Fault> {
        self.text(name)?.value().ok_or_else(|| Fault::missing(name))
    }

    pub(super) fn id(&self, name: &str) -> Result<Option<Id>, Fault> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let text = python::str(value);
                let reason = || format!("Invalid UUID, got '{text}'");
                Id::parse(&text).map(Some).ok_or_else(|| Fault::invalid(name, &text, &reason()))
            }
        }
    }

    pub(super) fn mandatory_id(&self, name: &str) -> Result<Id, Fault> {
        self.id(name)?.ok_or_else(|| Fault::missing(name))
    }

    /// `flat` when not given.
    pub(super) fn kind(&self) -> Result<Kind, Fault> {
        let Some(text) = self.text("type")?.value() else { return Ok(Kind::Flat) };
        Kind::parse(&text)
            .ok_or_else(|| Fault::invalid("type", &text, "Value should be one of: flat, rate"))
    }

    pub(super) fn cost(&self) -> Result<Decimal, Fault> {
        self.number("cost", amount::parse_cost)
    }

    pub(super) fn level(&self) -> Result<Decimal, Fault> {
        self.number("level", amount::parse_level)
    }

    /// A number as it was sent.
    pub(super) fn number_text(&self, name: &str) -> String {
        self.map.get(name).map(python::str).unwrap_or_default()
    }

    fn number(
        &self,
        name: &str,
        parse: fn(&str) -> Result<Decimal, AmountError>,
    ) -> Result<Decimal, Fault> {
        let text = match self.map.get(name) {
            None | Some(Value::Null) => return Err(Fault::missing(name)),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(other) => return Err(wrong_type(name, "decimal.Decimal", other)),
        };
        parse(&text).map_err(|error| {
            let is_nan = text.trim().eq_ignore_ascii_case("nan");
            if error == AmountError::NotFinite && is_nan && name == "cost" {
                // What clients are told there; it says nothing, but it is the contract.
                return Fault::bad("No mapping type: flat");
            }
            Fault::invalid(name, &text, &error.to_string())
        })
    }

    /// A start: a date without time is midnight.
    pub(super) fn start(&self, argument: &str) -> Result<Given<Sent>, Fault> {
        let unknown =
            |_: &str| Fault::invalid(argument, &self.quoted(), "Unknown string format: %s");
        self.moment("start", unknown)
    }

    /// An end: a date without time is the last second of that day.
    pub(super) fn end(&self) -> Result<Given<Sent>, Fault> {
        let unknown = |text: &str| {
            Fault::invalid("end", text, &format!("Invalid isoformat string: '{text}'"))
        };
        let end = self.moment("end", unknown)?;
        Ok(match end {
            Given::Value(sent) => Given::Value(Sent { at: sent.as_end(), ..sent }),
            other => other,
        })
    }

    fn moment(&self, name: &str, unknown: impl Fn(&str) -> Fault) -> Result<Given<Sent>, Fault> {
        let text = match self.map.get(name) {
            None => return Ok(Given::Absent),
            Some(Value::Null) => return Ok(Given::Null),
            Some(Value::String(text)) => text,
            Some(other) => return Err(wrong_type(name, "datetime.datetime", other)),
        };
        let sent = moment::parse(text).ok_or_else(|| unknown(text))?;
        if sent.has_zone {
            let reason = "A date has no time zone here, it is UTC";
            return Err(Fault::invalid(name, text, reason));
        }
        Ok(Given::Value(sent))
    }
}

fn wrong_type(name: &str, expected: &str, value: &Value) -> Fault {
    let reason = format!(
        "Wrong type. Expected '<class '{expected}'>', got '<class '{}'>'",
        python::type_name(value)
    );
    Fault::invalid(name, &python::str(value), &reason)
}
