//! What is wrong with a configuration, in words for the person who wrote it.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::usage::ScopeIdError;

/// Everything that is wrong; never empty.
#[derive(Debug)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// In the order of the files' lines; variables of the environment come last.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Problem {
    pub file: PathBuf,
    pub place: Place,
    /// The metric it is about, as the file calls it.
    pub metric: Option<String>,
    /// Empty for the file as a whole.
    pub field: String,
    pub kind: ProblemKind,
    pub hint: Option<String>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The file as a whole.
    File,
    /// Counted from 1.
    Line(usize),
    /// The name of a variable of the environment.
    Variable(String),
}

/// What is wrong, as the end of the sentence "this field …".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemKind {
    #[error("{0}")]
    Unreadable(#[source] io::Error),
    #[error("is a directory, not a file")]
    Directory,
    #[error("must be at most {size_max} bytes long")]
    TooLong { size_max: u64 },
    #[error("is not valid UTF-8")]
    NotUtf8,
    #[error("is not TOML: {reason}")]
    Syntax { reason: String },
    #[error("is set twice")]
    Duplicate,
    #[error("unknown field")]
    UnknownField,
    #[error("is missing")]
    Missing,
    #[error("must be {wanted}, got {got}")]
    WrongType { wanted: &'static str, got: &'static str },
    #[error("must be between {min} and {max}, got {got}")]
    OutOfBounds { min: i128, max: i128, got: String },
    #[error("must divide {whole}, got {got}")]
    NotDivisor { whole: u32, got: u32 },
    #[error("must be {wanted}, got `{got}`")]
    Malformed { wanted: &'static str, got: String },
    #[error("must be one of {}, got `{got}`", in_backticks(.choices))]
    NotOneOf { choices: &'static [&'static str], got: String },
    #[error("no {what} `{name}` is configured")]
    Unconfigured { what: &'static str, name: String },
    #[error("must not be empty")]
    Empty,
    #[error("must have at most {max} entries, got {got}")]
    TooMany { max: usize, got: usize },
    #[error("`{name}` stands there twice")]
    Repeated { name: String },
    #[error(transparent)]
    ScopeId(ScopeIdError),
    #[error("`{name}`: {reason}")]
    Attribute { name: String, reason: Refusal },
    #[error("{reason}")]
    RefusedByPlugin { reason: String },
    /// The reason says nothing of the secret.
    #[error("{reason}")]
    UnusableSecret { reason: String },
    /// Like [`ProblemKind::Malformed`], where the value may be a secret.
    #[error("must be {wanted}")]
    MalformedSecret { wanted: &'static str },
    #[error("{reason}")]
    Refused { reason: Refusal },
}

/// Values that are sound by themselves and refused for what else is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("everybody who reaches this address may change prices, because `api.auth` is `none`")]
    OpenToTheNetwork,
    #[error("does nothing, because `api.auth` does not name it")]
    MethodNotUsed,
    #[error("`none` lets everybody in, so it must stand alone")]
    NoneNotAlone,
    #[error("must be an address that begins with `http://` or `https://`, without a password")]
    NoAddress,
    #[error("must not be set, because `application_credential_id` is")]
    ApplicationCredentialAlone,
    #[error("name and id of the same thing must not both be set")]
    NameAndId,
    #[error("the same secret is given in two ways")]
    SecretTwice,
    #[error("must not be below `delay_secs_min`")]
    DelayBelowMinimum,
    #[error("needs `keep_months`, and no more months of it: rows go before their sums")]
    RowsKeptLonger,
    #[error("needs `compaction_percent` above 0, which gives back the room")]
    NothingGivesRoom,
    #[error("never happens")]
    NeverHappens,
    #[error("must be set, because `mutate` is `MAP`")]
    MapMissing,
    #[error("must not be set, because `mutate` is not `MAP`")]
    MapUnused,
    #[error("an attribute of `groupby` must not stand here too")]
    AttributeInBothLists,
    #[error("the daemon adds this attribute to `groupby` by itself")]
    AddedByItself,
    #[error("every row has this attribute already, computed from its period")]
    CalendarAttribute,
    #[error("another metric has the same `name` and `alt_name`")]
    SameMetric,
    #[error("other expressions than `qty == 0` are not supported yet")]
    SkipExpression,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Variable(name) => write!(f, "environment variable `{name}`: ")?,
            Place::File => write!(f, "cannot read `{}`: ", self.file.display())?,
            Place::Line(line) => write!(f, "cannot read `{}`: line {line}: ", self.file.display())?,
        }
        if let Some(metric) = &self.metric {
            write!(f, "metric `{metric}`: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "`{}`: ", self.field)?;
        }
        self.kind.fmt(f)?;
        match &self.hint {
            Some(hint) => write!(f, "\n(hint: {hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// Collects the problems of one file.
#[derive(Debug)]
pub(super) struct Problems {
    file: PathBuf,
    /// Goes with problems of the file as a whole.
    file_hint: Option<&'static str>,
    found: RefCell<Vec<Problem>>,
}

impl Problems {
    pub(super) fn new(file: &Path) -> Problems {
        Problems { file: file.to_owned(), file_hint: None, found: RefCell::default() }
    }

    pub(super) fn with_file_hint(self, hint: &'static str) -> Problems {
        Problems { file_hint: Some(hint), ..self }
    }

    pub(super) fn add(&self, place: Place, field: &str, kind: ProblemKind) {
        let (file, field) = (self.file.clone(), field.to_owned());
        let hint = self.file_hint.filter(|_| place == Place::File).map(str::to_owned);
        self.add_problem(Problem { file, place, metric: None, field, kind, hint });
    }

    pub(super) fn add_problem(&self, problem: Problem) {
        self.found.borrow_mut().push(problem);
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// Is there a problem with a field that `is_meant`?
    pub(super) fn names(&self, is_meant: impl Fn(&str) -> bool) -> bool {
        self.found.borrow().iter().any(|problem| is_meant(&problem.field))
    }

    /// Is a part of the file, or all of it, not known?
    pub(super) fn is_unreadable(&self) -> bool {
        let unread = |problem: &Problem| {
            matches!(
                problem.kind,
                ProblemKind::Unreadable(_)
                    | ProblemKind::Directory
                    | ProblemKind::TooLong { .. }
                    | ProblemKind::NotUtf8
                    | ProblemKind::Syntax { .. }
            )
        };
        self.found.borrow().iter().any(unread)
    }
}

/// The error of all files together; something is wrong in at least one of them.
pub(super) fn into_error(files: Vec<Problems>) -> ConfigError {
    let mut problems = Vec::new();
    for file in files {
        let mut found = file.found.into_inner();
        found.sort_by(|a, b| a.place.cmp(&b.place));
        problems.append(&mut found);
    }
    problems.sort_by_key(|problem| matches!(problem.place, Place::Variable(_)));
    assert!(!problems.is_empty(), "an error was made of files without a problem");
    ConfigError { problems }
}

/// What the writer may have meant, when it is near enough.
pub(crate) fn nearest<'a>(
    written: &str,
    choices: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    const SIMILARITY_MIN: f64 = 0.8;
    let lower = written.to_lowercase();
    let scored = choices
        .into_iter()
        .map(|choice| (strsim::jaro_winkler(&lower, &choice.to_lowercase()), choice))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN);
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, choice)| choice)
}

fn in_backticks(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
