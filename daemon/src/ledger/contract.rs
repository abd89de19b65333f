//! What a ledger promises.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::RecordBatch;
use chrono::{DateTime, Utc};

use super::care::{BackupPlan, BackupRead, VerifyStep};
use super::changes::{
    NewReprocessing, OpenReprocessings, Push, PushOutcome, Reprocessing, Reset, ResetOutcome,
    ScopeChange,
};
use super::differences::{DifferencePage, DifferenceQuery, Generation};
use super::error::LedgerError;
use super::pages::{PageOf, SummaryPage};
use super::queries::{
    Completeness, CompletenessQuery, RowsGroup, RowsPage, RowsQuery, SummaryGroup, SummaryQuery,
    Visited,
};
use crate::usage::{MetricId, Period, ScopeId};

/// The store behind `cycle`, `rating`, `report` and `api`.
///
/// Called from any number of threads at once; every call blocks (call it off the async threads),
/// but for those that say that they answer from memory. A call that changes something returns after
/// the change is durable, and the change is atomic: after a crash it is there wholly or not at all.
/// Readers see a state between two changes, never half of one.
pub trait Ledger: Send + Sync + 'static {
    /// Another number after every change that readers see, from memory: what was read after it was
    /// asked is true as long as it stays the same.
    fn version(&self) -> u64;

    // ---- scopes and cursors ---------------------------------------------------------------------

    /// In order of creation. Scopes that are only known from pushed rows are not among them. From
    /// memory.
    fn scopes(&self) -> Result<Vec<Scope>, LedgerError>;

    /// Those of these ids, in the same order. Damage of the record of another scope does not
    /// matter here; an id that is not known may be that of a damaged one.
    fn scopes_of(&self, ids: &[ScopeId]) -> Result<Vec<Scope>, LedgerError>;

    /// Adds the scopes that are not there yet; the others stay as they are. How many were added.
    fn add_scopes(&self, scopes: &[NewScope]) -> Result<usize, LedgerError>;

    /// The scope as it is afterwards; `None` = there is no such scope.
    fn change_scope(
        &self,
        id: &ScopeId,
        change: &ScopeChange,
    ) -> Result<Option<Scope>, LedgerError>;

    /// Removes every row of the scopes, pushed ones too, in periods that begin at or after
    /// [`Reset::from`], forgets what was known of these periods and what reprocessings have staged
    /// of them so far, and sets the scopes' cursors to the first period that does not begin before
    /// it. One change. Scopes that are not there are left out.
    fn reset(&self, reset: &Reset) -> Result<ResetOutcome, LedgerError>;

    /// Says which metrics the configuration has now. A metric that was not there before starts, for
    /// every scope that is there already, where the scope stands; metrics no longer named keep
    /// their rows and no longer hold a scope back. Beside damage of what it would have to know
    /// everything stays as it was.
    fn set_metrics(&self, metrics: &[MetricId]) -> Result<(), LedgerError>;

    /// For each metric of [`Ledger::set_metrics`] and each scope (in the order of
    /// [`Ledger::scopes`]): the begin of the first period that is not in the ledger. Those of which
    /// that is not known, because records are damaged, are not among them, and not to be rated.
    fn cursors(&self) -> Result<Cursors, LedgerError>;

    // ---- the road into the ledger ---------------------------------------------------------------

    /// Stores rated slices, each atomically; slices given together, or by several threads at once,
    /// share one sync.
    ///
    /// For each slice only the scopes whose cursor stands at the slice's period are stored (rows,
    /// cursor, completeness); the others are in the ledger already and are left out, so storing the
    /// same slice twice changes nothing. The outcomes are in the order of the slices.
    fn commit(&self, slices: Vec<RatedSlice>) -> Result<Vec<CommitOutcome>, LedgerError>;

    /// Stores rows that somebody else has measured and rated, all or none, whatever the cursors
    /// say. Neither the metrics nor the scopes need to be known. With a key that was stored before,
    /// nothing is stored again.
    fn push(&self, push: Push) -> Result<PushOutcome, LedgerError>;

    /// Notes that a metric of a period could not be had for these scopes; a later commit of them
    /// removes the note. The newest note of a (metric, scope) replaces the older one.
    fn note_failure(&self, failure: &Failure) -> Result<(), LedgerError>;

    // ---- reprocessing ---------------------------------------------------------------------------

    /// In order of creation, the finished ones too.
    fn reprocessings(&self) -> Result<Vec<Reprocessing>, LedgerError>;

    /// Those that are not finished.
    fn open_reprocessings(&self) -> Result<OpenReprocessings, LedgerError>;

    /// Its id. [`LedgerError::Overlaps`] when one that is not finished covers a period of one of
    /// the scopes.
    fn add_reprocessing(&self, new: &NewReprocessing) -> Result<u64, LedgerError>;

    /// Keeps newly rated slices of a reprocessing; no reader sees them before it is finished. What
    /// is staged already of a metric, period and scope is left out, so staging the same slice twice
    /// changes nothing.
    fn stage_reprocessed(&self, id: u64, slices: Vec<RatedSlice>) -> Result<(), LedgerError>;

    /// Says that the period that begins then, and all before it, are staged, but for the scopes
    /// that are put off: in the same change they are taken out of the reprocessing into one of
    /// their own, with the same range, that has not begun. Its id; `None` = the reprocessing has
    /// none of them (any more).
    fn advance_reprocessing(
        &self,
        id: u64,
        staged: DateTime<Utc>,
        put_off: &[ScopeId],
    ) -> Result<Option<u64>, LedgerError>;

    /// Swaps: in one change the staged rows take the place of what was collected of the same
    /// metric, scope and period, and the reprocessing is finished. Pushed rows stay, and so does
    /// what was collected where the new slice says [`Fact::Lost`]. Staged rows of periods that a
    /// scope's cursor has not passed (any more) are dropped: the cycle collects those. The rows
    /// that were replaced are kept out of every reader's sight.
    fn finish_reprocessing(&self, id: u64) -> Result<(), LedgerError>;

    /// Finished reprocessings of which old figures are kept, in order of creation.
    fn generations(&self) -> Result<Vec<Generation>, LedgerError>;

    /// What figures were before they were rated again, and what they are since: by period, metric
    /// and scope, each period as of one moment. [`LedgerError::NoGeneration`] = nothing is kept
    /// from before that reprocessing.
    fn differences(&self, query: &DifferenceQuery) -> Result<DifferencePage, LedgerError>;

    // ---- reading --------------------------------------------------------------------------------

    /// Sums of quantity and price by group. Groups without a row are not there. No particular
    /// order.
    fn summarize(&self, query: &SummaryQuery) -> Result<Vec<SummaryGroup>, LedgerError>;

    /// One page of the groups of [`Ledger::summarize`].
    fn summary_page(&self, query: &SummaryQuery, page: PageOf) -> Result<SummaryPage, LedgerError> {
        Ok(SummaryPage::of(self.summarize(query)?, query, page))
    }

    /// Rows in order of period, metric type and commit, one page of them.
    fn rows(&self, query: &RowsQuery) -> Result<RowsPage, LedgerError>;

    /// Every row that [`Ledger::rows`] would page through, in the same order and of one moment,
    /// some thousand at a time, until `visit` breaks. Offset and limit count as there.
    fn visit_rows(
        &self,
        query: &RowsQuery,
        visit: &mut dyn FnMut(RowsGroup) -> ControlFlow<()>,
    ) -> Result<(), LedgerError>;

    /// The same past damage: what cannot be read is shown in the place of its rows. Offset and
    /// limit do not count.
    fn visit_rows_past_damage(
        &self,
        query: &RowsQuery,
        visit: &mut dyn FnMut(Visited) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        self.visit_rows(query, &mut |group| visit(Visited::Rows(group)))
    }

    /// Per scope, metric and period of a time range what is known: collected, zero, no data,
    /// failed.
    fn completeness(&self, query: &CompletenessQuery) -> Result<Vec<Completeness>, LedgerError>;

    /// Checksums of the libraries that rated what is or was in the ledger, the newest first. From
    /// memory.
    fn libraries(&self) -> Result<Vec<String>, LedgerError>;

    // ---- states that operators set --------------------------------------------------------------

    /// By module name. From memory.
    fn module_states(&self) -> Result<BTreeMap<String, ModuleState>, LedgerError>;
    fn set_module_state(&self, module: &str, state: ModuleState) -> Result<(), LedgerError>;

    /// By collector name; absent = nobody has said anything.
    fn collector_states(&self) -> Result<BTreeMap<String, bool>, LedgerError>;
    fn set_collector_state(&self, collector: &str, enabled: Enabled) -> Result<(), LedgerError>;

    /// Which collector measures a metric type, in order of creation.
    fn collector_mappings(&self) -> Result<Vec<CollectorMapping>, LedgerError>;
    /// Adds or replaces.
    fn set_collector_mapping(&self, mapping: &CollectorMapping) -> Result<(), LedgerError>;
    /// Whether there was one.
    fn remove_collector_mapping(&self, service: &str) -> Result<bool, LedgerError>;

    // ---- keys of plugin instances: a log of revisions ------------------------------------------

    /// The newest revision of an instance's keys; 0 = never written. One that [`Ledger::retain`]
    /// has forgotten cannot be read: [`LedgerError::RevisionGone`].
    fn kv_revision(&self, instance: &str) -> Result<u64, LedgerError>;
    /// As of a revision (`u64::MAX` = now).
    fn kv_get(
        &self,
        instance: &str,
        revision: u64,
        key: &str,
    ) -> Result<Option<Vec<u8>>, LedgerError>;
    /// All keys with a prefix in key order as of a revision (`u64::MAX` = now), and the revision
    /// read.
    fn kv_scan(
        &self,
        instance: &str,
        revision: u64,
        prefix: &str,
    ) -> Result<(u64, rated_plugin::KvPairs), LedgerError>;
    /// All edits as one new revision if the instance is at `edit.revision`, else
    /// [`LedgerError::Conflict`].
    fn kv_apply(&self, instance: &str, edit: &KvEdit) -> Result<u64, LedgerError>;

    // ---- housekeeping ---------------------------------------------------------------------------

    /// Whether nothing is known to be lost of what prices depend on: by older rules, or in another
    /// state of the modules, nothing is to be rated nor quoted. From memory.
    fn check_rules(&self) -> Result<(), LedgerError> {
        Ok(())
    }

    /// Whether changes are taken at all: [`LedgerError::Stopped`] after a write has failed,
    /// [`LedgerError::DiskFull`] when there is no room for any.
    fn takes_changes(&self) -> Result<(), LedgerError>;
    /// What only opening the ledger again can mend. `None` = nothing. From memory, or nearly.
    fn ailment(&self) -> Option<Ailment> {
        let is_stopped = matches!(self.takes_changes(), Err(LedgerError::Stopped));
        is_stopped.then_some(Ailment::WriteFailed)
    }

    fn size(&self) -> Result<LedgerSize, LedgerError>;

    /// One step of making the ledger smaller, short enough not to hold up changes: rows that no
    /// reader sees any more are deleted, and what came in many little slices is put together. No
    /// answer changes by it, neither its rows nor their order nor a digit of a sum; which rules by
    /// which libraries rated a row stays known. A step is a change like any other; one that was
    /// broken off by a kill is taken up again. [`LedgerError::Damaged`] = something is left as it
    /// is, and the next step goes on with what follows.
    fn compact(&self) -> Result<CompactionStep, LedgerError>;

    /// One step of forgetting what is older than somebody wants to keep, short enough not to hold
    /// up changes, until [`Retained::has_more`] is false. After it rows of those months are gone:
    /// who asks for them gets [`LedgerError::RowsGone`], and sums stay as they were; or their sums
    /// are gone too, as if nothing had been there. Rules by which a row was rated that is there are
    /// never forgotten. [`Ledger::compact`] gives back the room.
    fn retain(&self, retention: Retention, now: DateTime<Utc>) -> Result<Retained, LedgerError>;

    // ---- damage and loss ------------------------------------------------------------------------

    /// One step of looking whether everything that was written is there and can be read: some MiB,
    /// from [`VerifyStep::next`] of the step before on (`None` = from the begin). Damage is a
    /// finding and no error. Changes go on meanwhile.
    fn verify(&self, from: Option<&str>) -> Result<VerifyStep, LedgerError>;

    /// Begins a copy of the ledger as it is at this moment. What it consists of is kept until
    /// [`Ledger::end_backup`], or until another one begins, or until nobody has read of it for some
    /// time. Changes wait a moment, or, if very many came meanwhile, while all records are written
    /// aside.
    fn begin_backup(&self, now: DateTime<Utc>) -> Result<BackupPlan, LedgerError>;

    /// A piece of a backup. [`LedgerError::NoBackup`] = it has ended.
    fn read_backup(&self, read: &BackupRead) -> Result<Vec<u8>, LedgerError>;

    /// The SHA-256 of what a backup's part begins with.
    fn backup_digest(&self, read: &BackupRead) -> Result<[u8; 32], LedgerError>;

    fn end_backup(&self, id: u64) -> Result<(), LedgerError>;

    /// Ends a backup that nobody has read of for some time.
    fn end_idle_backup(&self, now: DateTime<Utc>) -> Result<(), LedgerError>;
}

/// Not a `bool`: reads at the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enabled {
    Yes,
    No,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub id: ScopeId,
    pub fetcher: String,
    pub collector: String,
    pub scope_key: String,
    pub active: bool,
    /// When `active` was last changed; at first, when the scope was found.
    pub activation_toggled: DateTime<Utc>,
    /// Begin of the scope's first period.
    pub first_period: DateTime<Utc>,
    /// Begin of the last period that is in the ledger for every metric of the configuration; after
    /// a reset, and for a scope that somebody created, the moment they gave, until the next period
    /// is in; `None` = none yet.
    pub last_processed: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewScope {
    pub id: ScopeId,
    pub fetcher: String,
    pub collector: String,
    pub scope_key: String,
    /// Begin of its first period, aligned.
    pub first_period: DateTime<Utc>,
    /// When somebody else says up to when it was processed; not necessarily aligned.
    pub last_processed: Option<DateTime<Utc>>,
    pub active: bool,
    pub found_at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursors {
    pub scopes: Vec<ScopeId>,
    /// For each scope.
    pub active: Vec<bool>,
    /// For each metric one entry for each scope, seconds since the epoch; [`NEVER_SECS`] where it
    /// is not known.
    pub next_begin_secs: BTreeMap<MetricId, Vec<i64>>,
    /// Scopes that are not among these because their records are damaged.
    pub held_scopes: Vec<Held>,
    /// What else keeps metrics from being among these.
    pub held: Vec<Held>,
}

/// Begin of a period that never comes.
pub const NEVER_SECS: i64 = i64::MAX / 2;

/// As [`LedgerError::Damaged`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub place: String,
    pub detail: String,
}

impl Held {
    pub fn error(self) -> LedgerError {
        LedgerError::Damaged { place: self.place, detail: self.detail }
    }
}

/// One metric of one period for many scopes, rated.
#[derive(Debug, Clone)]
pub struct RatedSlice {
    pub metric: MetricId,
    /// Kept with the rows.
    pub unit: String,
    pub description: Option<String>,
    pub period: Period,
    /// Everybody the source was asked about, with or without rows.
    pub scopes: Vec<SliceScope>,
    /// Schema `usage/1` with `price`, only the columns to keep; any number of batches, rows of the
    /// scopes above only.
    pub rows: Vec<RecordBatch>,
    /// What rated it, in the order of the chain.
    pub rated_by: Arc<[RatedBy]>,
    /// The attribute as which those modules saw the scope; `None` = nobody rated it here.
    pub rated_scope_key: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceScope {
    pub id: ScopeId,
    pub fact: Fact,
}

/// What is known of a metric, scope and period that is in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fact {
    /// The source had rows, at least one with a quantity.
    Collected,
    /// The source had rows, all of quantity zero.
    Zero,
    /// The source answered and had nothing.
    NoData,
    /// The source can never tell any more.
    Lost,
}

/// A module with the revision of its rules, the library it came from and its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RatedBy {
    pub module: String,
    pub revision: u64,
    /// SHA-256 of the library, hex.
    pub library: String,
    /// SHA-256 of what `rated.toml` says to the module, hex; empty = not kept (up to 0.1.0).
    pub config: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitOutcome {
    /// Scopes of the slice that were stored now; the others were there already.
    pub scopes_stored: usize,
    pub rows_stored: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub metric: MetricId,
    pub period: Period,
    pub scopes: Vec<ScopeId>,
    /// Consecutive attempts that failed, this one included.
    pub attempts: u32,
    pub at: DateTime<Utc>,
    /// For people; no secrets.
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModuleState {
    pub enabled: bool,
    pub priority: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorMapping {
    /// A metric type.
    pub service: String,
    pub collector: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEdit {
    /// The revision the caller has read.
    pub revision: u64,
    pub edits: Vec<rated_plugin::Edit>,
    /// Who, as the API knows them.
    pub author: String,
    pub at: DateTime<Utc>,
}

/// See [`Ledger::ailment`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ailment {
    /// No change is taken.
    WriteFailed,
    /// Everything is answered and taken, but no room is given back any more.
    GivesNoRoom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerSize {
    pub bytes_on_disk: u64,
    pub rows: u64,
    /// What is left of its disk; `None` = the system does not say.
    pub bytes_free: Option<u64>,
    /// Whether a loss of its last changes would be noticed: what notes them can be written.
    pub is_witnessed: bool,
}

/// What a step of [`Ledger::compact`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompactionStep {
    pub progress: Compacted,
    /// Put together, or written anew without dead rows.
    pub slices_merged: u64,
    /// Rows nobody sees any more, left out of what was written anew.
    pub rows_dropped: u64,
    /// Days and months whose sums were made.
    pub periods_summed: u64,
    /// Given another place, so that a file can be deleted.
    pub bytes_moved: u64,
    /// Given back to the system.
    pub bytes_deleted: u64,
    /// In files, and nobody sees them any more.
    pub bytes_dead: u64,
}

/// How far [`Ledger::compact`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compacted {
    /// There may be more to do.
    #[default]
    Some,
    /// Nothing can be deleted before those who read now have ended.
    Waits,
    /// Everything was looked at; the next step begins from the start.
    All,
}

/// How much is kept; `None` = all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Whole months before the current one (UTC).
    pub rows_months: Option<u32>,
    /// Sums by metric, scope and period; no fewer months than rows.
    pub sums_months: Option<u32>,
    /// Keys of pushes, from the push on.
    pub push_keys_days: Option<u32>,
    /// Finished reprocessings of which no figures from before are kept.
    pub reprocessings: Option<u32>,
    /// Revisions of the keys of plugins by which no row was rated that is there, from when they
    /// were replaced on.
    pub rules_days: Option<u32>,
}

/// What a step of [`Ledger::retain`] forgot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retained {
    /// Old figures of reprocessings counted, too.
    pub slices: u64,
    pub rows: u64,
    pub push_keys: u64,
    pub reprocessings: u64,
    /// Of the keys of plugins.
    pub revisions: u64,
    /// The next step may forget something, too.
    pub has_more: bool,
}
