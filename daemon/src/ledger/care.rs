//! What operators ask of a ledger besides figures: is it whole, and a copy of it.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use crate::usage::Period;

/// What is damaged, and what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// As errors name it.
    pub place: String,
    pub detail: String,
    /// Below the ledger's folder.
    pub file: Option<String>,
    pub period: Option<Period>,
    pub metric: Option<String>,
    /// The first and the last of those it may be about.
    pub scopes: Option<(String, String)>,
    pub remedy: Remedy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// A backup from before is the only other place where it stands.
    Restore,
    /// The sums are whole and the rows are not: they can be collected and rated again.
    Reprocess,
    /// It went wrong in the past and can only be known of.
    Accept,
    /// It says nothing that does not stand elsewhere, and is made anew once somebody accepts that.
    Rebuild,
}

impl Remedy {
    pub fn text(self) -> &'static str {
        match self {
            Remedy::Restore => "restore a backup",
            Remedy::Reprocess => "reprocess the period",
            Remedy::Accept => "make up for it, then accept it",
            Remedy::Rebuild => "accept it, it is made anew",
        }
    }
}

/// What a step of [`Ledger::verify`](super::Ledger::verify) has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyStep {
    pub findings: Vec<Finding>,
    /// Where the next step begins; `None` = everything was looked at.
    pub next: Option<String>,
    /// Of the data, up to here.
    pub bytes_done: u64,
    pub bytes_total: u64,
}

/// What is to be copied to have the ledger as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupPlan {
    /// Names this backup in what follows.
    pub id: u64,
    /// How many changes the ledger had seen.
    pub change: u64,
    /// The version of the stored format.
    pub format: u16,
    /// Bytes of [`BackupPart::Records`].
    pub records_size: u64,
    /// Names and bytes of [`BackupPart::File`].
    pub files: Vec<(String, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupPart {
    /// All that stands in sled.
    Records,
    /// A data file.
    File(String),
}

/// A piece of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupRead {
    pub id: u64,
    pub part: BackupPart,
    pub offset: u64,
    /// At most [`BACKUP_PIECE_SIZE_MAX`].
    pub size: u64,
    /// An unfinished backup is given up some time after the last read.
    pub now: DateTime<Utc>,
}

/// Two digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

/// Most bytes that are read at once.
pub const BACKUP_PIECE_SIZE_MAX: u64 = 4 << 20;
