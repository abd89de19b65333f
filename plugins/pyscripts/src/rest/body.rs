//! The object in the body of a POST or PUT, attribute by attribute.

use rated_plugin::Request;
use serde_json::{Map, Value};

use super::TEXT_CHARACTERS_MAX;
use super::arguments::{self, Arguments, FORM, media_type, parse_json, unknown_type};
use super::fault::Fault;
use super::python;
use crate::moment::{self, Sent};
use crate::record::Id;

/// The body's name in texts.
const ARGUMENT: &str = "script_data";
/// What it is made into, in texts.
const CLASS: &str = "Script";
const ATTRIBUTES: &[&str] = &[
    "script_id",
    "name",
    "data",
    "checksum",
    "created_at",
    "start",
    "end",
    "description",
    "deleted",
    "created_by",
    "updated_by",
    "deleted_by",
];

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
    /// `argument` may stand in the query or in the body.
    pub(super) fn read(request: &Request, argument: &str) -> Result<Body, Fault> {
        let mut arguments = Arguments::beside_body(request, &[argument])?;
        let media_type = media_type(request);
        let is_empty = request.body.iter().all(u8::is_ascii_whitespace);
        if is_empty || media_type == FORM {
            return Err(Fault::bad(format!("Missing argument: \"{ARGUMENT}\"")));
        }
        if media_type != "application/json" {
            return Err(unknown_type(&media_type));
        }
        let Value::Object(map) = parse_json(request)? else {
            return Err(arguments::not_an_object());
        };
        if let Some(wrapped) = map.get(ARGUMENT) {
            let reason = format!(
                "unable to convert to {CLASS}. Error: Base.__init__() takes 1 positional argument \
                 but 2 were given"
            );
            return Err(Fault::invalid(ARGUMENT, &python::str(wrapped), &reason));
        }
        for (name, value) in &map {
            if name == argument {
                arguments.push(name, value.clone());
            } else if !ATTRIBUTES.contains(&name.as_str()) {
                let text = format!("Unknown attribute for argument {ARGUMENT}: {name}");
                return Err(Fault::bad(text));
            }
        }
        if let Some(checksum) = map.get("checksum") {
            let reason = "Cannot set read only field.";
            return Err(Fault::invalid("checksum", &python::str(checksum), reason));
        }
        let body = Body { map, arguments };
        body.check_id("script_id")?;
        Ok(body)
    }

    pub(super) fn text(&self, name: &str) -> Result<Given<String>, Fault> {
        let given = self.long_text(name)?;
        if let Given::Value(text) = &given
            && text.chars().count() > TEXT_CHARACTERS_MAX
        {
            let reason = format!("More than {TEXT_CHARACTERS_MAX} characters");
            return Err(Fault::invalid(name, text, &reason));
        }
        Ok(given)
    }

    /// A text of any length: the body's own limit holds.
    pub(super) fn long_text(&self, name: &str) -> Result<Given<String>, Fault> {
        match self.map.get(name) {
            None => Ok(Given::Absent),
            Some(Value::Null) => Ok(Given::Null),
            Some(Value::String(text)) => Ok(Given::Value(text.clone())),
            Some(other) => Err(wrong_type(name, "str", other)),
        }
    }

    pub(super) fn mandatory_text(&self, name: &str) -> Result<String, Fault> {
        self.text(name)?.value().ok_or_else(|| Fault::missing(name))
    }

    fn check_id(&self, name: &str) -> Result<(), Fault> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(()),
            Some(value) => {
                let text = python::str(value);
                let reason = || format!("Invalid UUID, got '{text}'");
                Id::parse(&text).map(|_| ()).ok_or_else(|| Fault::invalid(name, &text, &reason()))
            }
        }
    }

    /// A start: a date without time is midnight.
    pub(super) fn start(&self) -> Result<Given<Sent>, Fault> {
        let unknown =
            |text: &str| Fault::invalid("start", text, &format!("Unknown string format: {text}"));
        self.moment("start", unknown)
    }

    /// An end: a date without time is the last second of that day.
    pub(super) fn end(&self) -> Result<Given<Sent>, Fault> {
        let unknown = |text: &str| {
            Fault::invalid("end", text, &format!("Invalid isoformat string: '{text}'"))
        };
        let end = self.moment("end", unknown)?;
        Ok(match end {
            Given::Value(sent) if sent.is_date => {
                let last = sent.at.date().and_hms_opt(23, 59, 59).expect("a time of day");
                Given::Value(Sent { at: last, ..sent })
            }
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
