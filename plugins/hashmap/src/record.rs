//! What is kept in the daemon's key-value store, format version 1.
//!
//! One key for each object, `<kind>/<id>`, where `<kind>` is `service`, `field`, `group`, `mapping`
//! or `threshold` and `<id>` a UUID in canonical form. The value is a JSON object; unknown keys and
//! unknown versions are errors, so that an older module never prices by rules that it only half
//! understands:
//!
//! ```text
//! service   {"v": 1, "seq": n, "name": text}
//! field     {"v": 1, "seq": n, "service": id, "name": text}
//! group     {"v": 1, "seq": n, "name": text}
//! mapping   {"v": 1, "seq": n, "value": text or null, "rule": rule}
//! threshold {"v": 1, "seq": n, "level": decimal, "dated": bool, "rule": rule}
//! rule      {"parent": {"service": id} or {"field": id}, "type": "flat" or "rate",
//!            "cost": decimal, "group": id or null, "tenant": text or null,
//!            "start": date, "end": date or null, "name": text or null,
//!            "description": text or null, "created_at": date, "created_by": text,
//!            "updated_by": text or null, "deleted": date or null, "deleted_by": text or null}
//! ```
//!
//! Decimals are texts. Dates are naive, UTC, `YYYY-MM-DDTHH:MM:SS`. `seq` grows with every object
//! made; lists have its order. For example
//! `service/6a7b81e6-9d4f-4d55-8a9c-5b7e6a4b8a52`:
//!
//! ```text
//! {"v":1,"seq":3,"name":"instance"}
//! 7b2276223a312c22736571223a332c226e616d65223a22696e7374616e6365227d
//! ```

use std::fmt;

use chrono::NaiveDateTime;
use rated_plugin::{Edit, Error, Result};
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::moment;

/// The version written, and the only one read.
const VERSION: u32 = 1;

/// Names an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Id(Uuid);

impl Id {
    pub(crate) fn random() -> Id {
        Id(Uuid::new_v4())
    }

    /// In any of the forms a UUID is written in.
    pub(crate) fn parse(text: &str) -> Option<Id> {
        Uuid::try_parse(text).ok().map(Id)
    }
}

/// The name a rule gets when its maker gives none: 32 hex digits.
pub(crate) fn random_name() -> String {
    Uuid::new_v4().simple().to_string()
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for Id {
    type Error = String;

    fn try_from(text: String) -> Result<Id, String> {
        Id::parse(&text).ok_or_else(|| format!("no UUID: `{text}`"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    pub(crate) v: Version,
    pub(crate) seq: u64,
    /// The metric type it prices.
    pub(crate) name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Field {
    pub(crate) v: Version,
    pub(crate) seq: u64,
    pub(crate) service: Id,
    /// The attribute it looks at.
    pub(crate) name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    pub(crate) v: Version,
    pub(crate) seq: u64,
    pub(crate) name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mapping {
    pub(crate) v: Version,
    pub(crate) seq: u64,
    /// What the field's attribute must be; null or empty below a service.
    pub(crate) value: Option<String>,
    pub(crate) rule: Rule,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Threshold {
    pub(crate) v: Version,
    pub(crate) seq: u64,
    #[serde(with = "rust_decimal::serde::str")]
    pub(crate) level: Decimal,
    /// Its maker gave it a start, end, name or description: it is shown with them and protected
    /// once it runs.
    pub(crate) dated: bool,
    pub(crate) rule: Rule,
}

/// What mappings and thresholds have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) parent: Parent,
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    #[serde(with = "rust_decimal::serde::str")]
    pub(crate) cost: Decimal,
    pub(crate) group: Option<Id>,
    /// For the scope of that id alone.
    pub(crate) tenant: Option<String>,
    #[serde(with = "moment")]
    pub(crate) start: NaiveDateTime,
    /// Exclusive.
    #[serde(with = "moment::optional")]
    pub(crate) end: Option<NaiveDateTime>,
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    #[serde(with = "moment")]
    pub(crate) created_at: NaiveDateTime,
    pub(crate) created_by: String,
    pub(crate) updated_by: Option<String>,
    #[serde(with = "moment::optional")]
    pub(crate) deleted: Option<NaiveDateTime>,
    pub(crate) deleted_by: Option<String>,
}

impl Rule {
    /// Does it count for a period that begins then?
    pub(crate) fn is_active(&self, at: NaiveDateTime) -> bool {
        self.deleted.is_none() && self.start <= at && self.end.is_none_or(|end| at < end)
    }
}

/// What a rule hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Parent {
    Service(Id),
    Field(Id),
}

impl Parent {
    pub(crate) fn service(self) -> Option<Id> {
        match self {
            Parent::Service(id) => Some(id),
            Parent::Field(_) => None,
        }
    }

    pub(crate) fn field(self) -> Option<Id> {
        match self {
            Parent::Service(_) => None,
            Parent::Field(id) => Some(id),
        }
    }
}

/// What a rule's cost does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Flat,
    Rate,
}

impl Kind {
    pub(crate) const ALL: [Kind; 2] = [Kind::Flat, Kind::Rate];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Flat => "flat",
            Kind::Rate => "rate",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == text)
    }
}

/// The version of a record: [`VERSION`], else it does not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) struct Version;

impl From<Version> for u32 {
    fn from(_: Version) -> u32 {
        VERSION
    }
}

impl TryFrom<u32> for Version {
    type Error = String;

    fn try_from(version: u32) -> Result<Version, String> {
        if version == VERSION {
            return Ok(Version);
        }
        Err(format!("format version {version}, this module knows {VERSION}"))
    }
}

/// Any object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Service(Service),
    Field(Field),
    Group(Group),
    Mapping(Mapping),
    Threshold(Threshold),
}

/// Which of the tables an object is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Service,
    Field,
    Group,
    Mapping,
    Threshold,
}

impl Table {
    const ALL: [Table; 5] =
        [Table::Service, Table::Field, Table::Group, Table::Mapping, Table::Threshold];

    fn prefix(self) -> &'static str {
        match self {
            Table::Service => "service/",
            Table::Field => "field/",
            Table::Group => "group/",
            Table::Mapping => "mapping/",
            Table::Threshold => "threshold/",
        }
    }
}

/// One change to what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Id, Box<Record>),
    /// Removed for good; the store's older revisions still have it.
    Remove(Id, Table),
}

impl Change {
    pub(crate) fn put(id: Id, record: Record) -> Change {
        Change::Put(id, Box::new(record))
    }

    pub(crate) fn to_edit(&self) -> Edit {
        match self {
            Change::Remove(id, table) => {
                Edit { key: format!("{}{id}", table.prefix()), value: None }
            }
            Change::Put(id, record) => {
                let (table, value) = match record.as_ref() {
                    Record::Service(record) => (Table::Service, serde_json::to_vec(record)),
                    Record::Field(record) => (Table::Field, serde_json::to_vec(record)),
                    Record::Group(record) => (Table::Group, serde_json::to_vec(record)),
                    Record::Mapping(record) => (Table::Mapping, serde_json::to_vec(record)),
                    Record::Threshold(record) => (Table::Threshold, serde_json::to_vec(record)),
                };
                let value = value.expect("records have text keys only");
                Edit { key: format!("{}{id}", table.prefix()), value: Some(value) }
            }
        }
    }
}

/// Reads one pair of the store.
pub(crate) fn read(key: &str, value: &[u8]) -> Result<(Id, Record)> {
    let damaged = |detail: String| Error::internal(format!("stored key `{key}`: {detail}"));
    let table = Table::ALL.into_iter().find(|table| key.starts_with(table.prefix()));
    let table = table.ok_or_else(|| damaged("unknown kind of object".to_owned()))?;
    let id = Id::parse(&key[table.prefix().len()..])
        .ok_or_else(|| damaged("its name is no UUID".to_owned()))?;
    let record = match table {
        Table::Service => parse(value).map(Record::Service),
        Table::Field => parse(value).map(Record::Field),
        Table::Group => parse(value).map(Record::Group),
        Table::Mapping => parse(value).map(Record::Mapping),
        Table::Threshold => parse(value).map(Record::Threshold),
    };
    Ok((id, record.map_err(|error| damaged(error.to_string()))?))
}

fn parse<T: DeserializeOwned>(value: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(value)
}
