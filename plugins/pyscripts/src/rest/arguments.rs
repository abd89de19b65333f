//! The arguments of a call: from its query, a form, or the top-level keys of a JSON body.

use chrono::NaiveDateTime;
use rated_plugin::Request;
use serde_json::Value;

use super::fault::Fault;
use super::python;
use crate::moment;

/// Arguments by name; of one given twice the last holds, the body after the query.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pairs: Vec<(String, Value)>,
}

impl Arguments {
    /// For a call without an object of its own in the body: keys of a JSON body are arguments as
    /// well.
    pub(super) fn of_call(request: &Request, known: &[&str]) -> Result<Arguments, Fault> {
        let mut arguments = Arguments::of_query(request);
        if !request.body.iter().all(u8::is_ascii_whitespace) {
            match media_type(request).as_str() {
                "application/json" => match parse_json(request)? {
                    Value::Object(map) => arguments.pairs.extend(map),
                    Value::Null => {}
                    _ => return Err(not_an_object()),
                },
                FORM => {}
                other => return Err(unknown_type(other)),
            }
        }
        arguments.check(known)?;
        Ok(arguments)
    }

    /// For a call whose body is an object: the arguments beside it.
    pub(super) fn beside_body(request: &Request, known: &[&str]) -> Result<Arguments, Fault> {
        let arguments = Arguments::of_query(request);
        arguments.check(known)?;
        Ok(arguments)
    }

    fn of_query(request: &Request) -> Arguments {
        let mut pairs = request.query_pairs();
        if media_type(request) == FORM {
            let query = String::from_utf8_lossy(&request.body).into_owned();
            pairs.extend(Request { query, ..Request::get("") }.query_pairs());
        }
        let pairs = pairs.into_iter().map(|(name, value)| (name, Value::String(value)));
        Arguments { pairs: pairs.collect() }
    }

    fn check(&self, known: &[&str]) -> Result<(), Fault> {
        let unknown = self.pairs.iter().find(|(name, _)| !known.contains(&name.as_str()));
        match unknown {
            None => Ok(()),
            Some((name, _)) => Err(Fault::bad(format!("Unknown argument: \"{name}\""))),
        }
    }

    pub(super) fn push(&mut self, name: &str, value: Value) {
        self.pairs.push((name.to_owned(), value));
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.pairs.iter().rev().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// An argument that is there and not empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.get(name)? {
            Value::Null => None,
            value => Some(python::str(value)).filter(|text| !text.is_empty()),
        }
    }

    pub(super) fn required(&self, name: &str) -> Result<String, Fault> {
        self.text(name).ok_or_else(|| Fault::bad(format!("Missing argument: \"{name}\"")))
    }

    /// In a query every text but the empty one is true, also `false`; in a body the word counts.
    pub(super) fn flag(&self, name: &str) -> bool {
        match self.get(name) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        }
    }

    /// A date; an offset is dropped.
    pub(super) fn moment(&self, name: &str) -> Result<Option<NaiveDateTime>, Fault> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match moment::parse(&text) {
            Some(sent) => Ok(Some(sent.at)),
            None => Err(Fault::invalid(
                name,
                &text,
                &format!("unable to convert to datetime. Error: Unknown string format: {text}"),
            )),
        }
    }
}

pub(super) const FORM: &str = "application/x-www-form-urlencoded";

/// The content type without its parameters.
pub(super) fn media_type(request: &Request) -> String {
    let media_type = request.content_type.split(';').next().unwrap_or_default();
    media_type.trim().to_ascii_lowercase()
}

pub(super) fn parse_json(request: &Request) -> Result<Value, Fault> {
    serde_json::from_slice(&request.body)
        .map_err(|_| Fault::bad("Request is not in valid JSON format"))
}

pub(super) fn unknown_type(media_type: &str) -> Fault {
    Fault::new(415, format!("Unknown mimetype: {media_type}"))
}

pub(super) fn not_an_object() -> Fault {
    Fault::bad("Request body is not a JSON object")
}
