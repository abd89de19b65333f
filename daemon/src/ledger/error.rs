//! Why a ledger does not do what it is asked.

use chrono::{DateTime, Utc};

use crate::usage::{MetricId, ScopeId};

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("more than {max} groups: ask for a shorter time or fewer keys")]
    TooManyGroups { max: usize },
    #[error(
        "rows of periods up to {} are not kept any more, only their sums are",
        last.format("%FT%TZ")
    )]
    RowsGone { last: DateTime<Utc> },
    #[error(
        "revision {revision} of the keys of `{instance}` is not kept any more\n(hint: \
         `ledger.keep_rules_days` says how long those are kept that rated no row)"
    )]
    RevisionGone { instance: String, revision: u64 },
    #[error("the data has been changed in between (revision {current})")]
    Conflict { current: u64 },
    /// The world's fault; what was asked for has not been done, or is not known to be durable. What
    /// is durable is never told as this.
    #[error("the store failed")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// After a failed write nobody knows what is on disk until the ledger is opened again.
    #[error("the store takes no changes after a failed write, until it has been opened again")]
    Stopped,
    /// After [`LedgerError::Stopped`], for as long as the opening takes: reads fail, too.
    #[error("the ledger is being opened again after a failed write")]
    Closed,
    /// Nothing has been changed; there may be room again.
    #[error(
        "the disk has {free_mib} MiB left, of which {reserve_mib} MiB are kept free\n(hint: \
         `ledger.disk_reserve_mib` says how much)"
    )]
    DiskFull { free_mib: u64, reserve_mib: u64 },
    #[error(
        "the disk has {free_mib} MiB left, opening the ledger may take {needed_mib}\n(hint: delete \
         something, or give it more room)"
    )]
    NoRoomToOpen { free_mib: u64, needed_mib: u64 },
    #[error(
        "damage in {place}: {detail}\n(hint: `rated ledger verify` lists all damage, \
         `rated ledger restore` makes the ledger from a backup)"
    )]
    Damaged { place: String, detail: String },
    #[error("the batch of metric `{metric}` does not have the shape that the ledger keeps")]
    Shape {
        metric: MetricId,
        #[source]
        kind: ShapeErrorKind,
    },
    #[error("scope `{scope}` is being reprocessed from {start} to {end} already")]
    Overlaps { scope: ScopeId, start: DateTime<Utc>, end: DateTime<Utc> },
    #[error(
        "no figures are kept from before reprocessing {0}\n(hint: `ledger.keep_generations` says \
         how many are)"
    )]
    NoGeneration(u64),
    #[error(
        "there is no backup {0} any more: another one was begun, or nobody has read of it for a \
         quarter of an hour\n(hint: begin it anew; what is copied stays)"
    )]
    NoBackup(u64),
    #[error("`{0}` is no position of a verification")]
    NoPosition(String),
    #[error("{max} reprocessings are not finished yet, no more are taken")]
    TooManyReprocessings { max: usize },
    #[error("there is no unfinished reprocessing {0}")]
    UnknownReprocessing(u64),
    #[error("scope `{0}` is not in the ledger")]
    UnknownScope(ScopeId),
    #[error("metric `{0}` has not been announced to the ledger")]
    UnknownMetric(MetricId),
    #[error("key of {size} bytes in `{instance}`: must be between 1 and {size_max}, without a NUL")]
    KvKey { instance: String, size: usize, size_max: usize },
    #[error("value of key `{key}` in `{instance}` has {size} bytes: must be at most {size_max}")]
    KvValue { instance: String, key: String, size: usize, size_max: usize },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeErrorKind {
    #[error("column `{column}` is missing")]
    ColumnMissing { column: &'static str },
    #[error("column `{column}` is {found}, not {wanted}")]
    ColumnType { column: String, found: String, wanted: &'static str },
    #[error("column `{column}` has no value in row {row_index}")]
    Null { column: String, row_index: usize },
    #[error("a row is of scope `{scope}`, which the slice does not list")]
    ForeignScope { scope: String },
    #[error("scope `{scope}` is listed twice")]
    ScopeTwice { scope: ScopeId },
    #[error("column `{column}` has {found} fractional digits: must be between 0 and {max}")]
    Scale { column: String, found: i8, max: u8 },
    #[error("{found} {what}: must be at most {max}")]
    TooMuch { what: &'static str, found: usize, max: usize },
}
