//! A ledger that keeps keys in memory, every revision of them, and nothing else.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};

use rated::ledger::{
    CollectorMapping, CommitOutcome, CompactionStep, Completeness, CompletenessQuery, Cursors,
    Enabled, Failure, KvEdit, Ledger, LedgerError, LedgerSize, ModuleState, NewReprocessing,
    NewScope, OpenReprocessings, Push, PushOutcome, RatedSlice, Reprocessing, Reset, ResetOutcome,
    RowsGroup, RowsPage, RowsQuery, Scope, ScopeChange, SummaryGroup, SummaryQuery,
};
use rated::usage::{MetricId, ScopeId};

type Keys = BTreeMap<String, Vec<u8>>;
type Result<T> = std::result::Result<T, LedgerError>;

#[derive(Debug, Default)]
pub(crate) struct KeysLedger {
    /// By instance; index = revision.
    revisions: Mutex<BTreeMap<String, Vec<Keys>>>,
    /// Who made each revision.
    authors: Mutex<Vec<String>>,
    /// No change finds room.
    pub(crate) is_full: AtomicBool,
    /// What is said to have rated something.
    pub(crate) libraries: Mutex<Vec<String>>,
}

impl KeysLedger {
    pub(crate) fn authors(&self) -> Vec<String> {
        self.authors.lock().unwrap().clone()
    }

    fn at(&self, instance: &str, revision: u64) -> (u64, Keys) {
        let revisions = self.revisions.lock().unwrap();
        let Some(known) = revisions.get(instance) else { return (0, Keys::new()) };
        let index = usize::try_from(revision).unwrap_or(usize::MAX).min(known.len() - 1);
        (index as u64, known[index].clone())
    }
}

impl Ledger for KeysLedger {
    fn version(&self) -> u64 {
        unreachable!()
    }

    fn libraries(&self) -> Result<Vec<String>> {
        Ok(self.libraries.lock().unwrap().clone())
    }

    fn kv_revision(&self, instance: &str) -> Result<u64> {
        Ok(self.at(instance, u64::MAX).0)
    }

    fn kv_get(&self, instance: &str, revision: u64, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.at(instance, revision).1.get(key).cloned())
    }

    fn kv_scan(
        &self,
        instance: &str,
        revision: u64,
        prefix: &str,
    ) -> Result<(u64, Vec<(String, Vec<u8>)>)> {
        let (revision, keys) = self.at(instance, revision);
        Ok((revision, keys.into_iter().filter(|(key, _)| key.starts_with(prefix)).collect()))
    }

    fn kv_apply(&self, instance: &str, edit: &KvEdit) -> Result<u64> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(LedgerError::DiskFull { free_mib: 1, reserve_mib: 64 });
        }
        let (current, mut keys) = self.at(instance, u64::MAX);
        if current != edit.revision {
            return Err(LedgerError::Conflict { current });
        }
        for change in &edit.edits {
            match &change.value {
                Some(value) => drop(keys.insert(change.key.clone(), value.clone())),
                None => drop(keys.remove(&change.key)),
            }
        }
        let mut revisions = self.revisions.lock().unwrap();
        revisions.entry(instance.to_owned()).or_insert_with(|| vec![Keys::new()]).push(keys);
        self.authors.lock().unwrap().push(edit.author.clone());
        Ok(current + 1)
    }

    fn scopes(&self) -> Result<Vec<Scope>> {
        unreachable!("plugins reach keys only")
    }
    fn add_scopes(&self, _: &[NewScope]) -> Result<usize> {
        unreachable!("plugins reach keys only")
    }
    fn set_metrics(&self, _: &[MetricId]) -> Result<()> {
        unreachable!("plugins reach keys only")
    }
    fn cursors(&self) -> Result<Cursors> {
        unreachable!("plugins reach keys only")
    }
    fn commit(&self, _: Vec<RatedSlice>) -> Result<Vec<CommitOutcome>> {
        unreachable!("plugins reach keys only")
    }
    fn note_failure(&self, _: &Failure) -> Result<()> {
        unreachable!("plugins reach keys only")
    }
    fn summarize(&self, _: &SummaryQuery) -> Result<Vec<SummaryGroup>> {
        unreachable!("plugins reach keys only")
    }
    fn rows(&self, _: &RowsQuery) -> Result<RowsPage> {
        unreachable!("plugins reach keys only")
    }
    fn completeness(&self, _: &CompletenessQuery) -> Result<Vec<Completeness>> {
        unreachable!("plugins reach keys only")
    }
    fn module_states(&self) -> Result<BTreeMap<String, ModuleState>> {
        unreachable!("plugins reach keys only")
    }
    fn set_module_state(&self, _: &str, _: ModuleState) -> Result<()> {
        unreachable!("plugins reach keys only")
    }
    fn collector_states(&self) -> Result<BTreeMap<String, bool>> {
        unreachable!("plugins reach keys only")
    }
    fn set_collector_state(&self, _: &str, _: Enabled) -> Result<()> {
        unreachable!("plugins reach keys only")
    }
    fn collector_mappings(&self) -> Result<Vec<CollectorMapping>> {
        unreachable!("plugins reach keys only")
    }
    fn set_collector_mapping(&self, _: &CollectorMapping) -> Result<()> {
        unreachable!("plugins reach keys only")
    }
    fn remove_collector_mapping(&self, _: &str) -> Result<bool> {
        unreachable!("plugins reach keys only")
    }
    fn takes_changes(&self) -> Result<()> {
        unreachable!("plugins reach keys only")
    }

    fn compact(&self) -> Result<CompactionStep> {
        unreachable!("plugins reach keys only")
    }

    fn retain(
        &self,
        _: rated::ledger::Retention,
        _: DateTime<Utc>,
    ) -> Result<rated::ledger::Retained> {
        unreachable!("plugins reach keys only")
    }

    fn generations(&self) -> Result<Vec<rated::ledger::Generation>> {
        unreachable!("plugins reach keys only")
    }

    fn differences(
        &self,
        _: &rated::ledger::DifferenceQuery,
    ) -> Result<rated::ledger::DifferencePage> {
        unreachable!("plugins reach keys only")
    }

    fn verify(&self, _: Option<&str>) -> Result<rated::ledger::VerifyStep> {
        unreachable!("plugins reach keys only")
    }

    fn begin_backup(&self, _: DateTime<Utc>) -> Result<rated::ledger::BackupPlan> {
        unreachable!("plugins reach keys only")
    }

    fn read_backup(&self, _: &rated::ledger::BackupRead) -> Result<Vec<u8>> {
        unreachable!("plugins reach keys only")
    }

    fn backup_digest(&self, _: &rated::ledger::BackupRead) -> Result<[u8; 32]> {
        unreachable!("plugins reach keys only")
    }

    fn end_backup(&self, _: u64) -> Result<()> {
        unreachable!("plugins reach keys only")
    }

    fn end_idle_backup(&self, _: DateTime<Utc>) -> Result<()> {
        unreachable!("plugins reach keys only")
    }

    fn size(&self) -> Result<LedgerSize> {
        unreachable!("plugins reach keys only")
    }
    fn change_scope(&self, _: &ScopeId, _: &ScopeChange) -> Result<Option<Scope>> {
        unreachable!("plugins reach keys only")
    }
    fn reset(&self, _: &Reset) -> Result<ResetOutcome> {
        unreachable!("plugins reach keys only")
    }
    fn push(&self, _: Push) -> Result<PushOutcome> {
        unreachable!("plugins reach keys only")
    }
    fn reprocessings(&self) -> Result<Vec<Reprocessing>> {
        unreachable!("plugins reach keys only")
    }
    fn scopes_of(&self, _: &[ScopeId]) -> Result<Vec<Scope>> {
        unreachable!("plugins reach keys only")
    }
    fn add_reprocessing(&self, _: &NewReprocessing) -> Result<u64> {
        unreachable!("plugins reach keys only")
    }
    fn stage_reprocessed(&self, _: u64, _: Vec<RatedSlice>) -> Result<()> {
        unreachable!("plugins reach keys only")
    }
    fn open_reprocessings(&self) -> Result<OpenReprocessings> {
        unreachable!("plugins reach keys only")
    }
    fn advance_reprocessing(&self, _: u64, _: DateTime<Utc>, _: &[ScopeId]) -> Result<Option<u64>> {
        unreachable!("plugins reach keys only")
    }
    fn finish_reprocessing(&self, _: u64) -> Result<()> {
        unreachable!("plugins reach keys only")
    }
    fn visit_rows(
        &self,
        _: &RowsQuery,
        _: &mut dyn FnMut(RowsGroup) -> ControlFlow<()>,
    ) -> Result<()> {
        unreachable!("plugins reach keys only")
    }
}
