//! What passes between this module and its processes: JSON objects, decimals as texts.

use rated_plugin::serde_json::{self, Value};
use serde::{Deserialize, Serialize};

use crate::settings::{Containment, Wall};

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

/// Most characters of a message, and of a traceback, its end.
const MESSAGE_CHARACTERS_MAX: usize = 1024;
const TRACEBACK_CHARACTERS_MAX: usize = 8192;

impl Wrong {
    /// The same fit to be shown: a script can write the whole answer itself, so it may be long,
    /// name what is not there, and have in it what moves a terminal's cursor or ends a line.
    pub(super) fn tamed(self, scripts: &[NamedText]) -> Wrong {
        let is_known = |name: &String| scripts.iter().any(|script| script.name == *name);
        let skipped = self.traceback.chars().count().saturating_sub(TRACEBACK_CHARACTERS_MAX);
        let traceback: String = self.traceback.chars().skip(skipped).collect();
        Wrong {
            script: self.script.filter(is_known),
            line: self.line,
            message: one_line(self.message.chars().take(MESSAGE_CHARACTERS_MAX)),
            traceback: traceback.lines().map(|line| one_line(line.chars()) + "\n").collect(),
        }
    }

    pub(crate) fn new(message: impl Into<String>) -> Wrong {
        let message = message.into();
        Wrong { script: None, line: None, message, traceback: String::new() }
    }
}

fn one_line(text: impl Iterator<Item = char>) -> String {
    text.map(|character| if character.is_control() { ' ' } else { character }).collect()
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
    /// May an attribute be something else than a text?
    pub(crate) has_json: bool,
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

/// Largest message from a process, bytes.
pub(super) const ANSWER_SIZE_MAX: usize = 16 << 20;
/// Bytes that an error takes, with its traceback, where each character needs an escape.
const ERROR_SIZE_MAX: usize = 64 << 10;
/// Bytes that a price takes: 31 characters at most, in quotes.
const PRICE_SIZE_MAX: usize = 36;

/// What a process is asked.
#[derive(Debug)]
pub(super) enum Request<'a> {
    Check(&'a NamedText),
    Load(&'a [NamedText]),
    Run(&'a Points<'a>),
}

impl Request<'_> {
    /// The letter that the process tells its work by, without a look at the rest.
    pub(super) fn letter(&self) -> u8 {
        match self {
            Request::Check(_) => b'C',
            Request::Load(_) => b'L',
            Request::Run(_) => b'R',
        }
    }

    /// Bytes that an honest answer has at most.
    pub(super) fn answer_size_max(&self) -> usize {
        let points = if let Request::Run(points) = self { points.rows.len() } else { 0 };
        (ERROR_SIZE_MAX + points * PRICE_SIZE_MAX).min(ANSWER_SIZE_MAX)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let bytes = match self {
            Request::Check(script) => serde_json::to_vec(script),
            Request::Load(scripts) => serde_json::to_vec(scripts),
            Request::Run(points) => serde_json::to_vec(points),
        };
        bytes.expect("all keys are texts")
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
    /// Instructions: code, two jumps, operand.
    pub(super) filter: Vec<(u16, u8, u8, u32)>,
    /// Walls that are not to be built, with the reason.
    pub(super) missing: Missing,
}

/// Of each wall that does not stand, the reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Missing {
    pub(super) namespaces: Option<String>,
    pub(super) filter: Option<String>,
}

impl Missing {
    /// The first wall that should be there and is not, with the reason.
    pub(super) fn against(&self, containment: Containment) -> Option<(Wall, &str)> {
        let namespaces = self.namespaces.as_deref().map(|reason| (Wall::Namespaces, reason));
        let filter = self.filter.as_deref().map(|reason| (Wall::Filter, reason));
        match containment {
            Containment::Limits => None,
            Containment::Filter => filter,
            Containment::Full => filter.or(namespaces),
        }
    }

    /// One sentence for the log.
    pub(super) fn described(&self) -> String {
        let walls = [("namespaces", &self.namespaces), ("a filter of system calls", &self.filter)];
        let mut standing = vec!["limits"];
        let mut missing = Vec::new();
        for (name, reason) in walls {
            match reason {
                None => standing.push(name),
                Some(reason) => missing.push(format!("; without {name}: {reason}")),
            }
        }
        format!("Scripts are contained by {}{}.", standing.join(" and "), missing.concat())
    }
}

/// Whatever a process says; which part is there depends on what it was asked.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) error: Option<Wrong>,
    pub(super) prices: Option<Vec<String>>,
    pub(super) missing: Option<Missing>,
}
