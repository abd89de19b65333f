//! What changes a price list, a line each.

use serde_json::Value;

use crate::cli::table::{Style, printable};
use crate::cli::text;

/// `+` what is new, `-` what ends, `~` what is another.
pub(super) fn line(change: &Value, style: Style) -> String {
    let name = || text(&change["name"]);
    let (was, rule) = (&change["was"], &change["rule"]);
    let kind = change["change"].as_str().unwrap_or_default();
    let line = match kind {
        "add_service" => format!("+ service {}", name()),
        "add_field" => format!("+ field {} of {}", name(), text(&change["service"])),
        "add_group" => format!("+ group {}", name()),
        "remove_service" => format!("- service {}", name()),
        "remove_field" => format!("- field {} of {}", name(), text(&change["service"])),
        "remove_group" => format!("- group {}", name()),
        "add_rule" => format!("+ {}: {}", subject(rule), price(rule)),
        "end_rule" => format!("- {}: {}, ends now", subject(was), price(was)),
        "delete_rule" => format!("- {}: {}, has not begun", subject(was), price(was)),
        "replace_rule" => {
            format!("~ {}: {} -> {}, from now on", subject(rule), price(was), price(rule))
        }
        "update_rule" => format!("~ {}: {} -> {}", subject(rule), price(was), price(rule)),
        _ => format!("? {change}"),
    };
    let line = printable(&line);
    match line.as_bytes().first() {
        Some(b'+') => style.green(&line),
        Some(b'-') => style.red(&line),
        _ => style.bold(&line),
    }
}

/// What a rule is for: `instance flavor_id=m1.large from 50 group=g tenant=t`
fn subject(rule: &Value) -> String {
    let mut subject = text(&rule["service"]);
    if let Some(field) = rule["field"].as_str() {
        subject.extend([" ", field]);
    }
    if let Some(value) = rule["value"].as_str() {
        subject.extend(["=", value]);
    }
    if let Some(level) = rule["level"].as_str() {
        subject.extend([" from ", level, " on"]);
    }
    for name in ["group", "tenant"] {
        if let Some(value) = rule[name].as_str() {
            subject.extend([" ", name, "=", value]);
        }
    }
    subject
}

/// What a rule says: `flat 0.08 from 2026-01-01T00:00:00 (name)`
fn price(rule: &Value) -> String {
    let mut price = format!("{} {}", text(&rule["type"]), text(&rule["cost"]));
    for (name, word) in [("start", "since"), ("end", "until")] {
        if let Some(moment) = rule[name].as_str() {
            price.extend([" ", word, " ", moment]);
        }
    }
    for name in ["name", "description"] {
        if let Some(value) = rule[name].as_str() {
            price.extend([" (", value, ")"]);
        }
    }
    price
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(change: &Value, expected: &str) {
        assert_eq!(line(change, Style::Plain), expected);
    }

    #[test]
    fn changes_are_lines() {
        let was = json!({"service": "instance", "field": "flavor", "value": "a", "group": "g",
            "type": "flat", "cost": "0.1", "start": "2026-01-01T00:00:00"});
        let mut rule = was.clone();
        rule["cost"] = json!("0.2");
        let level = json!({"service": "disk", "level": "50", "type": "rate", "cost": "0.9",
            "name": "bulk"});

        check(
            &json!({"change": "replace_rule", "was": was, "rule": rule}),
            "~ instance flavor=a group=g: flat 0.1 since 2026-01-01T00:00:00 -> \
             flat 0.2 since 2026-01-01T00:00:00, from now on",
        );
        check(&json!({"change": "add_rule", "rule": level}), "+ disk from 50 on: rate 0.9 (bulk)");
        check(
            &json!({"change": "end_rule", "was": level}),
            "- disk from 50 on: rate 0.9 (bulk), ends now",
        );
        check(&json!({"change": "add_field", "service": "s", "name": "f"}), "+ field f of s");
    }

    #[test]
    fn colours_tell_what_comes_from_what_goes() {
        let added = json!({"change": "add_group", "name": "g"});

        assert_eq!(line(&added, Style::Coloured), "\x1b[32m+ group g\x1b[0m");
    }
}
