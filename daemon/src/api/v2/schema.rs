//! How v2 checks what it is given. The texts are those that clients know.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use warp::http::StatusCode;

use crate::api::answer::JSON;
use crate::api::call::Call;
use crate::api::dates;
use crate::api::failure::Failure;
use crate::api::openapi::Input;
use crate::api::python;

/// The page size when nobody says.
pub(crate) const LIMIT_DEFAULT: usize = 100;

/// The parameters of a page: [`Parameters::page`] reads them.
pub(crate) const LIMIT: Input =
    Input::integer("limit", 1, "How many results at most.").default("100");
pub(crate) const OFFSET: Input =
    Input::integer("offset", 0, "How many results to leave out before.").default("0");

/// The parameters of a query, in the order in which they first stand there.
#[derive(Debug)]
pub(crate) struct Parameters {
    given: Vec<(String, Vec<String>)>,
}

impl Parameters {
    /// None but the known ones.
    pub(crate) fn read(call: &Call, known: &[Input]) -> Result<Parameters, Failure> {
        let mut given: Vec<(String, Vec<String>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (name, value) in call.query_pairs() {
            if let Some(place) = places.get(&name) {
                given[*place].1.push(value);
            } else {
                places.insert(name.clone(), given.len());
                given.push((name, vec![value]));
            }
        }
        let parameters = Parameters { given };
        let mut names = parameters.given.iter().map(|(name, _)| name);
        match names.find(|name| !is_known(name, known)) {
            Some(unknown) => Err(parameters.refuse(unknown, "extra keys not allowed")),
            None => Ok(parameters),
        }
    }

    pub(crate) fn single(&self, name: &str) -> Result<Option<&str>, Failure> {
        match self.values(name) {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            _ => Err(self.refuse(name, "length of value must be 1")),
        }
    }

    /// Values between commas and of repeated parameters alike; `None` when it is not given.
    pub(crate) fn multiple(&self, name: &str) -> Option<Vec<&str>> {
        let values = self.values(name);
        (!values.is_empty()).then(|| values.iter().flat_map(|value| value.split(',')).collect())
    }

    /// `name:value` pairs.
    pub(crate) fn pairs(&self, name: &str) -> Result<Vec<(&str, &str)>, Failure> {
        let mut pairs = Vec::new();
        for pair in self.multiple(name).unwrap_or_default() {
            match pair.split_once(':') {
                Some((key, value)) if !value.contains(':') => pairs.push((key, value)),
                _ => {
                    let reason = format!("invalid key:value association {pair}");
                    return Err(self.refuse(name, &reason));
                }
            }
        }
        Ok(pairs)
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.single(name)? else { return Ok(None) };
        let number = text.trim().parse().map_err(|_| self.refuse(name, "expected int"))?;
        Ok(Some(number))
    }

    pub(crate) fn date(&self, name: &str) -> Result<Option<DateTime<Utc>>, Failure> {
        let Some(text) = self.single(name)? else { return Ok(None) };
        let date = dates::parse(text).ok_or_else(|| self.refuse(name, "expected an ISO 8601 date"));
        date.map(Some)
    }

    /// `offset` and `limit`.
    pub(crate) fn page(&self) -> Result<(usize, usize), Failure> {
        self.page_or(LIMIT_DEFAULT)
    }

    /// The same with another size of the page when nobody says.
    pub(crate) fn page_or(&self, limit_default: usize) -> Result<(usize, usize), Failure> {
        let limit = self.at_least("limit", 1)?.unwrap_or(limit_default);
        let offset = self.at_least("offset", 0)?.unwrap_or(0);
        Ok((offset, limit))
    }

    fn at_least(&self, name: &str, min: i64) -> Result<Option<usize>, Failure> {
        let Some(number) = self.integer(name)? else { return Ok(None) };
        match usize::try_from(number) {
            Ok(size) if number >= min => Ok(Some(size)),
            _ => Err(self.refuse(name, &format!("value must be at least {min}"))),
        }
    }

    fn values(&self, name: &str) -> &[String] {
        let given = self.given.iter().find(|(known, _)| known == name);
        given.map(|(_, values)| values.as_slice()).unwrap_or_default()
    }

    pub(crate) fn refuse(&self, name: &str, reason: &str) -> Failure {
        let members = self.given.iter().map(|(name, values)| {
            let values = values.iter().cloned().map(Value::String).collect();
            (name.clone(), Value::Array(values))
        });
        invalid_data(&Value::Object(members.collect()), name, reason)
    }
}

/// A JSON body with none but the known members.
#[derive(Debug)]
pub(crate) struct Body {
    members: Map<String, Value>,
}

impl Body {
    pub(crate) fn read(call: &Call, known: &[Input]) -> Result<Body, Failure> {
        if call.body.is_empty() {
            return Err(Failure::bad_request(UNREADABLE));
        }
        if call.content_type() != JSON {
            return Err(no_json());
        }
        let body: Value =
            serde_json::from_slice(&call.body).map_err(|_| Failure::bad_request(UNREADABLE))?;
        let Value::Object(members) = body else {
            let text = format!("Invalid data '{}' : expected a dictionary", python::repr(&body));
            return Err(Failure::bad_request(text));
        };
        let body = Body { members };
        let unknown = body.members.keys().find(|name| !is_known(name, known));
        match unknown {
            Some(unknown) => Err(body.refuse(unknown, "extra keys not allowed")),
            None => Ok(body),
        }
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, Failure> {
        let Some(value) = self.members.get(name) else { return Ok(None) };
        let known = match value {
            Value::Bool(value) => Some(*value),
            Value::Number(number) => number.as_i64().map(|number| number != 0),
            Value::String(text) => boolean_of(&text.to_ascii_lowercase()),
            _ => None,
        };
        known.map(Some).ok_or_else(|| self.refuse(name, "expected boolean"))
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(value) = self.members.get(name) else { return Ok(None) };
        value.as_i64().map(Some).ok_or_else(|| self.refuse(name, "expected int"))
    }

    /// Says that a member must be there.
    pub(crate) fn require(&self, name: &str) -> Result<(), Failure> {
        if self.members.contains_key(name) {
            return Ok(());
        }
        Err(self.refuse(name, "required key not provided"))
    }

    /// A text, or a list of one text; a number is taken as its text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        let Some(value) = self.single(name)? else { return Ok(None) };
        self.text_of(name, value).map(Some)
    }

    /// Texts of a list, or between commas, or both.
    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Failure> {
        let parts = |text: String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        match self.members.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(items)) => {
                let texts = items.iter().map(|item| self.text_of(name, item).map(parts));
                Ok(Some(texts.collect::<Result<Vec<_>, _>>()?.concat()))
            }
            Some(value) => self.text_of(name, value).map(|text| Some(parts(text))),
        }
    }

    /// What Python's `bool()` makes of it: whatever is not empty, zero or null is true.
    pub(crate) fn truth(&self, name: &str) -> Result<Option<bool>, Failure> {
        let Some(value) = self.members.get(name) else { return Ok(None) };
        let truth = match value {
            Value::Array(_) => return self.single(name).map(|value| value.map(is_true)),
            value => is_true(value),
        };
        Ok(Some(truth))
    }

    pub(crate) fn date(&self, name: &str) -> Result<Option<DateTime<Utc>>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let date =
            dates::parse(&text).ok_or_else(|| self.refuse(name, "expected an ISO 8601 date"));
        date.map(Some)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// `null` is as good as nothing.
    fn single(&self, name: &str) -> Result<Option<&Value>, Failure> {
        let value = match self.members.get(name) {
            Some(Value::Array(items)) => match items.as_slice() {
                [one] => Some(one),
                _ => return Err(self.refuse(name, "length of value must be 1")),
            },
            other => other,
        };
        Ok(value.filter(|value| !value.is_null()))
    }

    fn text_of(&self, name: &str, value: &Value) -> Result<String, Failure> {
        match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(self.refuse(name, "expected str")),
        }
    }

    pub(crate) fn refuse(&self, name: &str, reason: &str) -> Failure {
        invalid_data(&Value::Object(self.members.clone()), name, reason)
    }

    /// Two members of which at most one may be given.
    pub(crate) fn exclude(&self, group: &str, names: [&str; 2]) -> Result<(), Failure> {
        if !names.iter().all(|name| self.has(name)) {
            return Ok(());
        }
        let data = python::repr(&Value::Object(self.members.clone()));
        Err(Failure::bad_request(format!(
            "Invalid data '{data}' : two or more values in the same group of exclusion '{group}' \
             (path: '[<{group}>]')"
        )))
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64().is_none_or(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

fn is_known(name: &str, known: &[Input]) -> bool {
    known.iter().any(|input| input.name == name)
}

/// What is said of a body that is no JSON.
pub(crate) const UNREADABLE: &str =
    "The browser (or proxy) sent a request that this server could not understand.";

/// The body says that it is something else.
pub(crate) fn no_json() -> Failure {
    Failure::Refused {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        text: "Did not attempt to load JSON data because the request Content-Type was not \
               'application/json'."
            .to_owned(),
    }
}

fn boolean_of(text: &str) -> Option<bool> {
    match text {
        "1" | "true" | "yes" | "on" | "enable" => Some(true),
        "0" | "false" | "no" | "off" | "disable" => Some(false),
        _ => None,
    }
}

fn invalid_data(data: &Value, name: &str, reason: &str) -> Failure {
    let (data, name) = (python::repr(data), python::repr_text(name));
    Failure::bad_request(format!("Invalid data '{data}' : {reason} (path: '[{name}]')"))
}
