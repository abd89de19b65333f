//! The cron expression, with an explanation of the part that is wrong.

use std::str::FromStr;

use chrono::DateTime;
use cron::Schedule;

use super::problem::{ProblemKind, Refusal};

const PARTS: [&str; 6] = ["second", "minute", "hour", "day of month", "month", "day of week"];

pub(super) const EXAMPLE: &str = "0 */5 * * * *";

pub(super) fn parse(text: &str) -> Result<Schedule, (ProblemKind, String)> {
    let malformed = |hint: String| {
        let wanted = "a cron expression of six fields";
        (ProblemKind::Malformed { wanted, got: text.to_owned() }, hint)
    };
    let schedule = Schedule::from_str(text).map_err(|_| malformed(explain(text)))?;
    // A fixed instant: whether a schedule ever fires is not a question of today.
    if schedule.after(&DateTime::UNIX_EPOCH).next().is_none() {
        let kind = ProblemKind::Refused { reason: Refusal::NeverHappens };
        return Err((kind, "no date fits all of its fields".to_owned()));
    }
    Ok(schedule)
}

fn explain(text: &str) -> String {
    let form = format!("seconds come first: `{EXAMPLE}` is every five minutes");
    let parts: Vec<&str> = text.split_whitespace().collect();
    if parts.len() != PARTS.len() {
        return format!("it has {} fields; {form}", parts.len());
    }
    let culprit = (0..PARTS.len()).find(|index| {
        let mut mended = parts.clone();
        mended[*index] = "*";
        Schedule::from_str(&mended.join(" ")).is_ok()
    });
    match culprit {
        Some(index) => {
            format!("`{}` is not a {}; {form}", parts[index], PARTS[index])
        }
        None => form,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(text: &str) -> String {
        parse(text).unwrap_err().1
    }

    #[test]
    fn the_wrong_part_is_named() {
        assert!(parse(EXAMPLE).is_ok());
        assert!(hint("*/5 * * * *").starts_with("it has 5 fields; seconds come first"));
        assert!(hint("0 61 * * * *").starts_with("`61` is not a minute"));
        assert!(hint("0 0 0 * Foo *").starts_with("`Foo` is not a month"));
        assert!(hint("0 0 0 30 2 *").starts_with("no date fits"));
    }
}
