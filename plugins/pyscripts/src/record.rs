//! What is kept in the daemon's key-value store, format version 1.
//!
//! Two keys for each script, `script/<id>` and `data/<id>`, where `<id>` is a UUID in canonical
//! form. `data/<id>` is the script's text, UTF-8. `script/<id>` is a JSON object; unknown keys and
//! unknown versions are errors, so that an older module never prices by what it only half
//! understands:
//!
//! ```text
//! {"v": 1, "seq": n, "name": text, "size": bytes of the text, "checksum": its SHA-512, hex,
//!  "start": date, "end": date or null, "description": text or null, "created_at": date,
//!  "created_by": text, "updated_by": text or null, "deleted": date or null,
//!  "deleted_by": text or null}
//! ```
//!
//! Dates are naive, UTC, `YYYY-MM-DDTHH:MM:SS`. `seq` grows with every script made; lists have its
//! order. A deleted script is kept and marked. For example `{"v":1,"seq":3,"name":"volumes"…` is
//!
//! ```text
//! 7b2276223a312c22736571223a332c226e616d65223a22766f6c756d657322…
//! ```

use std::fmt;

use chrono::NaiveDateTime;
use rated_plugin::{Edit, Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};
use uuid::Uuid;

use crate::moment;

/// The version written, and the only one read.
const VERSION: u32 = 1;
pub(crate) const SCRIPT_PREFIX: &str = "script/";
const DATA_PREFIX: &str = "data/";

/// Names a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id(Uuid);

impl Id {
    pub(crate) fn random() -> Id {
        Id(Uuid::new_v4())
    }

    /// In any of the forms a UUID is written in.
    pub(crate) fn parse(text: &str) -> Option<Id> {
        Uuid::try_parse(text).ok().map(Id)
    }

    fn script_key(self) -> String {
        format!("{SCRIPT_PREFIX}{self}")
    }

    pub(crate) fn data_key(self) -> String {
        format!("{DATA_PREFIX}{self}")
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// A script but for its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script {
    pub(crate) v: Version,
    pub(crate) seq: u64,
    pub(crate) name: String,
    /// Bytes of the text.
    pub(crate) size: usize,
    pub(crate) checksum: String,
    #[serde(with = "moment")]
    pub(crate) start: NaiveDateTime,
    /// Exclusive.
    #[serde(with = "moment::optional")]
    pub(crate) end: Option<NaiveDateTime>,
    pub(crate) description: Option<String>,
    #[serde(with = "moment")]
    pub(crate) created_at: NaiveDateTime,
    pub(crate) created_by: String,
    pub(crate) updated_by: Option<String>,
    #[serde(with = "moment::optional")]
    pub(crate) deleted: Option<NaiveDateTime>,
    pub(crate) deleted_by: Option<String>,
}

impl Script {
    /// Does it count for a period that begins then?
    pub(crate) fn is_active(&self, at: NaiveDateTime) -> bool {
        self.deleted.is_none() && self.start <= at && self.end.is_none_or(|end| at < end)
    }

    pub(crate) fn set_data(&mut self, data: &str) {
        self.size = data.len();
        self.checksum = checksum(data);
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

/// SHA-512 of a text, in hex.
pub(crate) fn checksum(data: &str) -> String {
    use fmt::Write;
    let mut hex = String::new();
    for byte in Sha512::digest(data.as_bytes()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// Writes a script down, its text only where it is new.
pub(crate) fn edits(id: Id, script: &Script, data: Option<&str>) -> Vec<Edit> {
    let record = serde_json::to_vec(script).expect("records have text keys only");
    let mut edits = vec![Edit::put(id.script_key(), record)];
    edits.extend(data.map(|data| Edit::put(id.data_key(), data)));
    edits
}

/// Reads one pair of the store.
pub(crate) fn read(key: &str, value: &[u8]) -> Result<(Id, Script)> {
    let damaged = |detail: String| Error::internal(format!("stored key `{key}`: {detail}"));
    let id = key
        .strip_prefix(SCRIPT_PREFIX)
        .and_then(Id::parse)
        .ok_or_else(|| damaged("its name is no UUID".to_owned()))?;
    let script = serde_json::from_slice(value).map_err(|error| damaged(error.to_string()))?;
    Ok((id, script))
}
