//! What passes between this module and its processes: JSON objects, decimals as texts.

use rated_plugin::serde_json::{self, Value};
use serde::{Deserialize, Serialize};

/// What a script did wrong, for people.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Wrong {
    /// `None` where the process cannot know which one it was.
    #[serde(default)]
    pub(crate) script: Option<String>,
    #[serde(default)]
    pub(crate) line: Option<u64>,
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) traceback: String,
}

impl Wrong {
    pub(crate) fn new(message: impl Into<String>) -> Wrong {
        let message = message.into();
        Wrong { script: None, line: None, message, traceback: String::new() }
    }
}

/// One script with its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NamedText {
    pub(crate) name: String,
    pub(crate) data: String,
}

/// What runs together, in the order of names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Scripts(pub(crate) Vec<NamedText>);

/// The points of one metric, scope and period, in the columns of a batch.
#[derive(Debug, Serialize)]
pub(crate) struct Points<'a> {
    pub(crate) metric: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) begin_secs: i64,
    pub(crate) end_secs: i64,
    pub(crate) groupby: &'a [&'a str],
    pub(crate) metadata: &'a [&'a str],
    #[serde(rename = "points")]
    pub(crate) rows: Vec<Point<'a>>,
}

/// Quantity, price so far, groupby values, metadata values.
pub(crate) type Point<'a> = (String, String, Vec<Option<Cell<'a>>>, Vec<Option<Cell<'a>>>);

/// An attribute of a point.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Cell<'a> {
    Text(&'a str),
    /// In brackets, so that it cannot be taken for a text or for nothing.
    Json([Value; 1]),
}

#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(super) enum Request<'a> {
    Check { name: &'a str, data: &'a str },
    Load { scripts: &'a [NamedText] },
    Run(&'a Points<'a>),
}

impl Request<'_> {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("all keys are texts")
    }
}

/// The limits, told to a process when it starts.
#[derive(Debug, Serialize)]
pub(super) struct Start<'a> {
    pub(super) memory_bytes: u64,
    pub(super) cpu_secs: u64,
    pub(super) wall_secs: u64,
    pub(super) answer_bytes: usize,
    pub(super) modules: &'a [String],
}

/// Whatever a process says; which part is there depends on what it was asked.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) error: Option<Wrong>,
    pub(super) prices: Option<Vec<String>>,
}
