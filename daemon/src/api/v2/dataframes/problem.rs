use std::fmt::Write as _;

use serde_json::Value;

use crate::api::failure::Failure;
use crate::api::python;

/// A body that is longer is not shown in the text of an error.
pub(super) const BODY_SHOWN_SIZE_MAX: usize = 16 << 10;

/// What the contract says of most mistakes inside a frame.
pub(super) const NOT_VALID: &str = "not a valid value";

/// What is wrong with a body, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) reason: String,
    pub(super) path: Vec<Step>,
}

/// A step of a path into JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Member(String),
    Index(usize),
}

impl Problem {
    /// `body` is all of it, or nothing when it is too long to be shown.
    pub(super) fn into_failure(self, body: Option<&[u8]>) -> Failure {
        let data = body.and_then(|body| serde_json::from_slice::<Value>(body).ok());
        let data = data.map_or_else(|| "[...]".to_owned(), |data| python::repr(&data));
        let mut path = String::new();
        for (index, step) in self.path.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let step = match step {
                Step::Member(name) => python::repr_text(name),
                Step::Index(index) => index.to_string(),
            };
            write!(path, "{comma}{step}").expect("writing to a string does not fail");
        }
        let reason = self.reason;
        Failure::bad_request(format!("Invalid data '{data}' : {reason} (path: '[{path}]')"))
    }
}

impl From<&str> for Step {
    fn from(name: &str) -> Step {
        Step::Member(name.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Step {
        Step::Index(index)
    }
}
