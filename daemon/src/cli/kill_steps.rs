//! The steps at which a test kills the daemon: which there are, and which one it is.

use super::{Environment, Outcome, UsageError, terminal};
use crate::fault;

/// Prints the name of every step.
pub(super) fn run() -> Outcome {
    for name in fault::names() {
        terminal::print(&format!("{name}\n"))?;
    }
    Ok(())
}

/// Takes up what the environment asks for.
pub(super) fn arm(environment: &Environment) -> Outcome {
    let asked = environment.iter().find(|(name, _)| name == fault::VARIABLE);
    let Some((name, value)) = asked else { return Ok(()) };
    let plan = fault::parse(value).ok_or_else(|| {
        let hint = "`rated kill-steps` prints the names; counts begin at 1";
        UsageError(format!("`{name}`: expected NAME:COUNT, got `{value}`\n(hint: {hint})"))
    })?;
    fault::plan(plan);
    Ok(())
}
