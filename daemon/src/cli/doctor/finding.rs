//! What was found: as lines for a person, or as JSON for a program.

use std::io::IsTerminal as _;

use serde_json::{Value, json};

use super::Form;
use crate::cli::table::Style;

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
        Note { level: Level::Ok, text, hint: String::new() }
    }

    pub(super) fn warn(text: String, hint: &str) -> Note {
        Note { level: Level::Warn, text, hint: hint.to_owned() }
    }

    pub(super) fn fail(text: String, hint: &str) -> Note {
        Note { level: Level::Fail, text, hint: hint.to_owned() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Findings(Vec<(String, Note)>);

impl Findings {
    pub(super) fn add(&mut self, name: &str, note: Note) {
        self.0.push((name.to_owned(), note));
    }

    pub(super) fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|(_, note)| note.level == level).count()
    }

    pub(super) fn print(&self, form: Form) {
        match form {
            Form::Json => println!("{:#}", self.document()),
            Form::Text => {
                let is_terminal = std::io::stdout().is_terminal();
                let style = if is_terminal { Style::Coloured } else { Style::Plain };
                self.lines(style).iter().for_each(|line| println!("{line}"));
            }
        }
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
            // A problem of the configuration may bring its own hint, on a line of its own.
            lines.push(format!("{word}  {name}: {}", note.text.replace('\n', "\n      ")));
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
