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
    /// How many of them are from the query or a form; the others are from the body.
    query_count: usize,
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
        let pairs: Vec<_> = pairs.collect();
        Arguments { query_count: pairs.len(), pairs }
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
        self.index(name).map(|index| &self.pairs[index].1)
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.pairs.iter().rposition(|(found, _)| found == name)
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
    pub(super) fn flag(&self, name: &str) -> Result<bool, Fault> {
        let Some(index) = self.index(name) else { return Ok(false) };
        match &self.pairs[index].1 {
            Value::Null | Value::Bool(false) => Ok(false),
            Value::String(text) if text.is_empty() => Ok(false),
            Value::String(text) if index >= self.query_count => boolean_of(text).ok_or_else(|| {
                let reason = format!("Value not an unambiguous boolean: {text}");
                Fault::invalid(name, text, &reason)
            }),
            Value::Number(number) => Ok(number.as_i64() != Some(0)),
            _ => Ok(true),
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

/// What people write for yes and no.
fn boolean_of(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
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

#[cfg(test)]
mod tests {
    use rated_plugin::Method;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_flag_in_a_body_is_what_its_word_says() {
        let flag = |query: &str, body: Value| {
            let mut request = Request::new(Method::Get, "/scripts", body.to_string());
            query.clone_into(&mut request.query);
            Arguments::of_call(&request, &["no_data"]).and_then(|it| it.flag("no_data")).ok()
        };

        assert_eq!(flag("no_data=false", json!({})), Some(true));
        assert_eq!(flag("no_data=", json!({})), Some(false));
        assert_eq!(flag("", json!({"no_data": "false"})), Some(false));
        assert_eq!(flag("", json!({"no_data": "True"})), Some(true));
        assert_eq!(flag("", json!({"no_data": 0})), Some(false));
        assert_eq!(flag("", json!({"no_data": "perhaps"})), None);
    }
}
