//! What is said to whoever runs a subcommand, and asked.

use std::io::{self, BufRead as _, ErrorKind, IsTerminal as _, Write as _};

use super::Environment;
use super::table::Style;

/// Colours on a terminal, unless `NO_COLOR` says otherwise.
pub(super) fn style(environment: &Environment) -> Style {
    let is_declined =
        environment.iter().any(|(name, value)| name == "NO_COLOR" && !value.is_empty());
    if io::stdout().is_terminal() && !is_declined { Style::Coloured } else { Style::Plain }
}

/// Writes to the standard output; a reader who has enough is no error.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// May what was said be done?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consent {
    /// `--yes`
    Given,
    Ask,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ConsentError {
    #[error("nobody is there to agree\n(hint: `--yes` does it without asking)")]
    NoTerminal,
    #[error("nothing was changed")]
    Refused,
    #[error("cannot ask")]
    Terminal(#[source] io::Error),
}

impl Consent {
    pub(super) fn of(yes: bool) -> Consent {
        if yes { Consent::Given } else { Consent::Ask }
    }

    /// Asks on the terminal; where there is none, nothing is done without `--yes`.
    pub(super) fn obtain(self, question: &str) -> Result<(), ConsentError> {
        if self == Consent::Given {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(ConsentError::NoTerminal);
        }
        eprint!("{question} [y/N] ");
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map_err(ConsentError::Terminal)?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(ConsentError::Refused),
        }
    }
}
