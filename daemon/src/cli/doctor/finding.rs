//! What was found: as lines for a person, or as JSON for a program.

use std::io;

use serde_json::{Value, json};

use super::Form;
use crate::cli::table::Style;
use crate::cli::terminal;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Ok,
    /// Works, and somebody should have a look.
    Warn,
    /// Does not work, or will not for long.
    Fail,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}

/// What is said of one thing.
#[derive(Debug)]
pub(super) struct Note {
    level: Level,
    text: String,
    /// What to do; empty = nothing.
    hint: String,
}

impl Note {
    pub(super) fn ok(text: String) -> Note {
        Note::new(Level::Ok, text, "")
    }

    pub(super) fn warn(text: String, hint: &str) -> Note {
        Note::new(Level::Warn, text, hint)
    }

    pub(super) fn fail(text: String, hint: &str) -> Note {
        Note::new(Level::Fail, text, hint)
    }

    /// An error brings its own hints, each on a line; they hold where nothing better is known.
    fn new(level: Level, text: String, hint: &str) -> Note {
        let (text, own) = match text.split_once("\n(hint: ") {
            Some((text, hints)) => (text.to_owned(), hints.replace(")\n(hint: ", "; ")),
            None => (text, String::new()),
        };
        let own = own.strip_suffix(')').unwrap_or(&own);
        let hint = if hint.is_empty() { own } else { hint }.to_owned();
        Note { level, text, hint }
    }
}

#[derive(Debug, Default)]
pub(super) struct Findings(Vec<(String, Note)>);

impl Findings {
    pub(super) fn add(&mut self, name: &str, note: Note) {
        self.0.push((name.to_owned(), note));
    }

    /// What may be nothing to speak of.
    pub(super) fn extend(&mut self, name: &str, note: Option<Note>) {
        self.0.extend(note.map(|note| (name.to_owned(), note)));
    }

    pub(super) fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|(_, note)| note.level == level).count()
    }

    pub(super) fn print(&self, form: Form, style: Style) -> io::Result<()> {
        let text = match form {
            Form::Json => format!("{:#}", self.document()),
            Form::Text => self.lines(style).join("\n"),
        };
        terminal::print(&(text + "\n"))
    }

    fn document(&self) -> Value {
        let one = |(name, note): &(String, Note)| {
            json!({
                "name": name,
                "level": note.level.word(),
                "text": note.text,
                "hint": (!note.hint.is_empty()).then_some(&note.hint),
            })
        };
        let worst = self.0.iter().map(|(_, note)| note.level).max().unwrap_or(Level::Ok);
        let findings: Vec<Value> = self.0.iter().map(one).collect();
        json!({"worst": worst.word(), "findings": findings})
    }

    fn lines(&self, style: Style) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, note) in &self.0 {
            let word = format!("{:4}", note.level.word());
            let word = match note.level {
                Level::Ok => style.green(&word),
                Level::Warn => style.bold(&word),
                Level::Fail => style.red(&word),
            };
            lines.push(format!("{word}  {name}: {}", note.text));
            if !note.hint.is_empty() {
                lines.push(format!("      (hint: {})", note.hint));
            }
        }
        let count = |level| self.count(level);
        lines.push(format!(
            "{} fine, {} to look at, {} failed",
            count(Level::Ok),
            count(Level::Warn),
            count(Level::Fail)
        ));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hints_of_an_error_hold_where_nothing_better_is_known() {
        let text = "nobody answers\n(hint: does it run?)\n(hint: where?)";

        let own = Note::fail(text.to_owned(), "");
        let better = Note::fail(text.to_owned(), "start it");

        assert_eq!(
            (own.text.as_str(), own.hint.as_str()),
            ("nobody answers", "does it run?; where?")
        );
        assert_eq!((better.text.as_str(), better.hint.as_str()), ("nobody answers", "start it"));
    }

    #[test]
    fn findings_say_what_to_do_in_both_forms() {
        let mut findings = Findings::default();
        findings.add("clock", Note::ok("synchronised".to_owned()));
        findings.add("space", Note::warn("3 MiB free".to_owned(), "make room"));

        let expected = [
            "ok    clock: synchronised",
            "warn  space: 3 MiB free",
            "      (hint: make room)",
            "1 fine, 1 to look at, 0 failed",
        ];
        assert_eq!(findings.lines(Style::Plain), expected);
        let document = findings.document();
        assert_eq!(document["worst"], "warn");
        assert_eq!(document["findings"][0]["hint"], Value::Null);
        assert_eq!(document["findings"][1]["hint"], "make room");
    }
}
