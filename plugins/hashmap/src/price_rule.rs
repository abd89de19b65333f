//! A rule as people write it, in the configuration and in price lists: by names, without ids.

use std::fmt;

use chrono::NaiveDateTime;
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::record::Kind;
use crate::rest::TEXT_CHARACTERS_MAX;
use crate::{amount, moment};

/// A mapping, or a threshold when it has a level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceRule {
    /// The metric type.
    pub service: String,
    /// The attribute; without it the rule is for all of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What the attribute must be, for a mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The scope that the rule is for; without it, everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// `flat` or `rate`.
    #[serde(rename = "type", default = "flat")]
    pub kind: String,
    /// From how much on a threshold counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Amount>,
    pub cost: Amount,
    /// It counts for periods that begin then or later, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// It counts for periods that begin before then; a date without time is the end of that day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

fn flat() -> String {
    Kind::Flat.name().to_owned()
}

/// A number, or a text that is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amount(String);

impl Amount {
    /// Without needless zeros.
    pub(crate) fn of(number: Decimal) -> Amount {
        Amount(number.normalize().to_string())
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Amount(text)),
            serde_json::Value::Number(number) => Ok(Amount(number.to_string())),
            _ => Err(serde::de::Error::custom("must be a number, or a text like \"0.05\"")),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a rule says, once that is known to make sense by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) kind: Kind,
    pub(crate) cost: Decimal,
    pub(crate) what: What,
    pub(crate) start: Option<NaiveDateTime>,
    /// Exclusive; only with a start.
    pub(crate) end: Option<NaiveDateTime>,
}

/// What it is a price of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum What {
    /// A mapping; of a service the value is empty.
    Value(String),
    /// A threshold.
    Level(Decimal),
}

impl PriceRule {
    /// What can be said of a rule by itself.
    pub(crate) fn check(&self) -> Result<Checked, String> {
        self.check_texts()?;
        let kind = Kind::parse(&self.kind)
            .ok_or_else(|| format!("`type`: must be `flat` or `rate`, got `{}`", self.kind))?;
        let cost = amount::parse_cost(&self.cost.0)
            .map_err(|error| describe("cost", &self.cost, error))?;
        let what = self.check_what()?;
        let start = self.start.as_deref().map(|text| read_moment("start", text)).transpose()?;
        let end = self.end.as_deref().map(|text| read_moment("end", text)).transpose()?;
        let (start, end) = (start.map(|sent| sent.at), end.map(moment::Sent::as_end));
        match (start, end) {
            (None, Some(_)) => Err("`end`: needs a `start`".to_owned()),
            (Some(start), Some(end)) if start > end => Err("`end`: is before `start`".to_owned()),
            _ => Ok(Checked { kind, cost, what, start, end }),
        }
    }

    fn check_what(&self) -> Result<What, String> {
        let level = self.level.as_ref().map(|level| {
            amount::parse_level(&level.0).map_err(|error| describe("level", level, error))
        });
        match (&self.field, &self.value, level.transpose()?) {
            (Some(_), None, None) => {
                Err("`value`: missing (a mapping of a field needs one)".to_owned())
            }
            (None, Some(_), _) => Err("`value`: needs a `field` that has it".to_owned()),
            (Some(_), Some(_), Some(_)) => {
                Err("`level`: a rule has a `value` or a `level`, not both".to_owned())
            }
            (_, _, Some(level)) => Ok(What::Level(level.normalize())),
            (_, value, None) => Ok(What::Value(value.clone().unwrap_or_default())),
        }
    }

    fn check_texts(&self) -> Result<(), String> {
        let texts = [
            ("service", Some(&self.service)),
            ("field", self.field.as_ref()),
            ("value", self.value.as_ref()),
            ("group", self.group.as_ref()),
            // The API takes an empty one; nobody has it.
            ("tenant", self.tenant.as_ref().filter(|tenant| !tenant.is_empty())),
            ("name", self.name.as_ref()),
            ("description", self.description.as_ref()),
        ];
        texts.into_iter().try_for_each(|(key, text)| check_text(key, text.map(String::as_str)))
    }
}

/// A name must be one.
pub(crate) fn check_text(key: &str, text: Option<&str>) -> Result<(), String> {
    let Some(text) = text else { return Ok(()) };
    let count = text.chars().count();
    if count == 0 || count > TEXT_CHARACTERS_MAX {
        return Err(format!(
            "`{key}`: must have 1 to {TEXT_CHARACTERS_MAX} characters, got {count}"
        ));
    }
    Ok(())
}

fn describe(key: &str, given: &Amount, error: amount::AmountError) -> String {
    let reason = error.to_string();
    format!("`{key}`: `{given}`: {}", reason[..1].to_lowercase() + &reason[1..])
}

fn read_moment(key: &str, text: &str) -> Result<moment::Sent, String> {
    let sent = moment::parse(text).ok_or_else(|| {
        format!("`{key}`: `{text}`: must be a date such as 2026-11-24 or 2026-11-24T10:00:00")
    })?;
    if sent.has_zone {
        return Err(format!("`{key}`: `{text}`: a date has no time zone here, it is UTC"));
    }
    Ok(sent)
}
