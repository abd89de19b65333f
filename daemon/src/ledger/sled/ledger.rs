//! The contract, kept.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use super::aside::Changed;
use super::catalog::Catalog;
use super::compaction::Compactor;
use super::data::DataFiles;
use super::inner::Inner;
use super::marks::Marks;
use super::opening::{OpenError, SledOptions};
use super::pruning::Pruner;
use super::push::{self, Newcomers};
use super::queue::{Company, Queue, Stage};
use super::readers::Readers;
use super::reprocessing::Keeps;
use super::seal::Seals;
use super::space::{Share, Space};
use super::store::{Store, Table};
use super::texts::Texts;
use super::{
    COUNTERS_KEY, LEDGER_VERSION, commit, completeness, kv, load, lost, reprocessing, reset, rows,
    scopes, states, summary, summary_page, swap,
};
use crate::fault::{Step, passed};
use crate::ledger::{
    Ailment, BackupPlan, BackupRead, CollectorMapping, CommitOutcome, CompactionStep, Completeness,
    CompletenessQuery, Cursors, DifferencePage, DifferenceQuery, Enabled, Failure, Generation,
    KvEdit, Ledger, LedgerError, LedgerSize, ModuleState, NewReprocessing, NewScope,
    OpenReprocessings, PageOf, Push, PushOutcome, RatedSlice, Reprocessing, Reset, ResetOutcome,
    Retained, Retention, RowsGroup, RowsPage, RowsQuery, Scope, ScopeChange, SummaryGroup,
    SummaryPage, SummaryQuery, VerifyStep, Visited,
};
use crate::usage::{MetricId, ScopeId};
use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};

/// A [`Ledger`] in a folder.
#[derive(Debug)]
pub struct SledLedger {
    pub(super) inner: Arc<Inner>,
    pub(super) queue: Queue,
    pub(super) compactor: Mutex<Compactor>,
    pub(super) pruner: Mutex<Pruner>,
}

impl SledLedger {
    /// Opens the ledger in a folder, or begins one there.
    pub fn open(path: &Path, options: SledOptions) -> Result<SledLedger, OpenError> {
        SledLedger::over(Store::open(path, options)?, path, options)
    }

    /// Opens the ledger that is in a folder, for whoever only looks: none is begun there, and none
    /// of an older format is raised. What every start does is done all the same: leftovers are
    /// deleted, the header is written, and that all was found whole.
    pub fn open_as_it_is(path: &Path, options: SledOptions) -> Result<SledLedger, OpenError> {
        let store = Store::open_as_it_is(path, options)?;
        if !Seals::are_made(&store)? {
            // A start that was to raise it was killed.
            return Err(OpenError::Older { path: path.to_path_buf(), known: LEDGER_VERSION });
        }
        SledLedger::over(store, path, options)
    }

    pub(super) fn over(
        store: Store,
        path: &Path,
        options: SledOptions,
    ) -> Result<SledLedger, OpenError> {
        let folder_error = |source| OpenError::folder(path, source);
        let data = DataFiles::open(path).map_err(folder_error)?;
        let marks = Marks::open(path).map_err(folder_error)?;
        let (seals, troubles) = Inner::check(&store, &data, &marks)?;
        let (mut catalog, skipped) = load::load(&store, &data)?;
        seals.note_off(&store, Arc::make_mut(&mut catalog.holes))?;
        let texts = Texts::load(&store, &catalog.holes)?;
        let troubles: Vec<String> = troubles
            .into_iter()
            .chain(skipped)
            .chain(catalog.holes.errors().map(|error| error.to_string()))
            .collect();
        if troubles.is_empty() {
            data.remove_strays(&catalog.files).map_err(folder_error)?;
        }
        let catalog = Arc::new(catalog);
        passed(Step::StartLedgerLoaded);
        let inner = Arc::new(Inner {
            store,
            data,
            texts,
            current: ArcSwap::new(Arc::clone(&catalog)),
            catalog: RwLock::new(catalog),
            version: AtomicU64::new(0),
            readers: Readers::default(),
            space: Space::new(path, options.disk_reserve_mib),
            is_torn: AtomicBool::new(false),
            seals,
            marks,
            backups: Mutex::default(),
            changed: Changed::default(),
            keep_generations: options.keep_generations,
            troubles,
        });
        let queue = Queue::default();
        Ok(SledLedger { inner, queue, compactor: Mutex::default(), pruner: Mutex::default() })
    }

    /// What the start has found to be missing or damaged, for the log.
    pub fn troubles(&self) -> &[String] {
        &self.inner.troubles
    }

    /// How many bytes the rows of a slice take in blocks, without storing it.
    pub fn encoded_size(&self, slice: &RatedSlice) -> Result<usize, LedgerError> {
        let catalog = self.inner.catalog();
        commit::encoded_size(self.inner.writing(), &catalog, slice)
    }

    pub(super) fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Stage) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.change_with(Company::Welcome, change)
    }

    pub(super) fn change_with<T: Send + 'static>(
        &self,
        company: Company,
        change: impl FnOnce(&mut Stage) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        // What the last change was is not known.
        self.inner.catalog().holes.check(Table::Meta)?;
        self.queue.submit(company, change, |changes| {
            let before = self.inner.catalog();
            let mut stage = Stage { catalog: (*before).clone(), ..Stage::default() };
            let deliveries = changes.into_iter().map(|change| change(&mut stage)).collect();
            (deliveries, self.inner.write(stage, &before))
        })
    }
}

impl Ledger for SledLedger {
    fn version(&self) -> u64 {
        self.inner.version.load(Ordering::Acquire)
    }

    fn scopes(&self) -> Result<Vec<Scope>, LedgerError> {
        lost::check_lost_of(&self.inner.store, &[Table::Scopes])?;
        self.inner.current.load().list_scopes()
    }

    fn scopes_of(&self, ids: &[ScopeId]) -> Result<Vec<Scope>, LedgerError> {
        lost::check_lost_of(&self.inner.store, &[Table::Scopes])?;
        self.inner.current.load().list_scopes_of(ids)
    }

    fn add_scopes(&self, scopes: &[NewScope]) -> Result<usize, LedgerError> {
        let catalog = self.inner.catalog();
        let is_new = |scope: &&NewScope| catalog.listed_number(&scope.id).is_none();
        let new: Vec<NewScope> = scopes.iter().filter(is_new).cloned().collect();
        if new.is_empty() {
            return Ok(0);
        }
        self.change(move |stage| scopes::add(stage, &new))
    }

    fn change_scope(
        &self,
        id: &ScopeId,
        change: &ScopeChange,
    ) -> Result<Option<Scope>, LedgerError> {
        let (id, change) = (id.clone(), change.clone());
        self.change(move |stage| scopes::change(stage, &id, &change))
    }

    fn reset(&self, reset: &Reset) -> Result<ResetOutcome, LedgerError> {
        let (inner, reset) = (Arc::clone(&self.inner), reset.clone());
        let change = move |stage: &mut Stage| reset::reset(inner.writing(), stage, &reset);
        self.change_with(Company::Alone, change)
    }

    fn set_metrics(&self, metrics: &[MetricId]) -> Result<(), LedgerError> {
        if self.inner.catalog().holes.check(Table::Meta).is_err() {
            return Ok(());
        }
        let metrics = metrics.to_vec();
        self.change(move |stage| {
            scopes::set_metrics(stage, &metrics);
            Ok(())
        })
    }

    fn cursors(&self) -> Result<Cursors, LedgerError> {
        // By other rules, or for other scopes, nothing is to be rated.
        self.check_rules()?;
        lost::check_lost_of(&self.inner.store, &[Table::Scopes, Table::Metrics])?;
        scopes::cursors(&self.inner.catalog())
    }

    fn commit(&self, slices: Vec<RatedSlice>) -> Result<Vec<CommitOutcome>, LedgerError> {
        if slices.is_empty() {
            return Ok(Vec::new());
        }
        let inner = Arc::clone(&self.inner);
        let catalog = Catalog::clone(&inner.catalog());
        let mut slices = commit::prepare(inner.writing(), catalog, slices)?;
        self.change(move |stage| commit::stage(inner.writing(), stage, &mut slices))
    }

    fn push(&self, push: Push) -> Result<PushOutcome, LedgerError> {
        let inner = Arc::clone(&self.inner);
        if let Some(key) = &push.key
            && let Some(outcome) = push::known(&inner.store, key)?
        {
            return Ok(outcome);
        }
        if let Some(newcomers) = Newcomers::of(&push, &inner.catalog())? {
            self.change(move |stage| newcomers.add(stage))?;
        }
        let prepared = push::prepare(inner.writing(), &inner.catalog(), push)?;
        self.change(move |stage| prepared.stage(&inner.store, stage))
    }

    fn note_failure(&self, failure: &Failure) -> Result<(), LedgerError> {
        let failure = failure.clone();
        self.change(move |stage| commit::note_failure(stage, &failure))
    }

    fn reprocessings(&self) -> Result<Vec<Reprocessing>, LedgerError> {
        reprocessing::list(&self.inner.catalog())
    }

    fn open_reprocessings(&self) -> Result<OpenReprocessings, LedgerError> {
        reprocessing::list_open(&self.inner.catalog())
    }

    fn add_reprocessing(&self, new: &NewReprocessing) -> Result<u64, LedgerError> {
        let new = new.clone();
        self.change(move |stage| reprocessing::add(stage, &new))
    }

    fn stage_reprocessed(&self, id: u64, slices: Vec<RatedSlice>) -> Result<(), LedgerError> {
        let inner = Arc::clone(&self.inner);
        let presence = self.inner.readers.enter();
        let prepared = reprocessing::prepare(inner.writing(), &inner.catalog(), id, slices)?;
        drop(presence);
        let keeps = if inner.keep_generations > 1 { Keeps::OldFigures } else { Keeps::Nothing };
        let change = move |stage: &mut Stage| {
            reprocessing::stage(inner.writing(), stage, (id, keeps), prepared)
        };
        self.change_with(Company::Alone, change)
    }

    fn advance_reprocessing(
        &self,
        id: u64,
        staged: DateTime<Utc>,
        put_off: &[ScopeId],
    ) -> Result<Option<u64>, LedgerError> {
        let put_off = put_off.to_vec();
        self.change(move |stage| reprocessing::advance(stage, id, staged, &put_off))
    }

    fn finish_reprocessing(&self, id: u64) -> Result<(), LedgerError> {
        let inner = Arc::clone(&self.inner);
        let change = move |stage: &mut Stage| swap::finish(inner.writing(), stage, id);
        self.change_with(Company::Alone, change)
    }

    fn generations(&self) -> Result<Vec<Generation>, LedgerError> {
        self.inner.generations()
    }

    fn differences(&self, query: &DifferenceQuery) -> Result<DifferencePage, LedgerError> {
        match query.reprocessing {
            Some(id) if !self.inner.has_generation(id)? => Err(LedgerError::NoGeneration(id)),
            _ => self.inner.differences(query),
        }
    }

    fn summarize(&self, query: &SummaryQuery) -> Result<Vec<SummaryGroup>, LedgerError> {
        let snapshot = self.inner.snapshot_to_sum(query)?;
        summary::summarize(self.inner.reading(&snapshot.catalog), query, &snapshot.slices)
    }

    fn summary_page(&self, query: &SummaryQuery, page: PageOf) -> Result<SummaryPage, LedgerError> {
        let snapshot = self.inner.snapshot_to_sum(query)?;
        summary_page::page(self.inner.reading(&snapshot.catalog), query, &snapshot.slices, page)
    }

    fn rows(&self, query: &RowsQuery) -> Result<RowsPage, LedgerError> {
        let snapshot = self.inner.snapshot_of(|reading| {
            reading.slices_with_rows(query.begin, query.end, &query.filters)
        })?;
        rows::page(self.inner.reading(&snapshot.catalog), query, &snapshot.slices)
    }

    fn visit_rows(
        &self,
        query: &RowsQuery,
        visit: &mut dyn FnMut(RowsGroup) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let snapshot = self.inner.snapshot_of(|reading| {
            reading.slices_with_rows(query.begin, query.end, &query.filters)
        })?;
        rows::visit(self.inner.reading(&snapshot.catalog), query, &snapshot.slices, visit)
    }

    fn visit_rows_past_damage(
        &self,
        query: &RowsQuery,
        visit: &mut dyn FnMut(Visited) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let mut damaged = Vec::new();
        let range = (query.begin, query.end);
        let snapshot = self
            .inner
            .snapshot_of(|reading| reading.slices_past_damage(range, &query.filters, &mut damaged));
        // Beside rows that are gone there may be some that are damaged.
        for damaged in damaged {
            if visit(Visited::Damaged(damaged)).is_break() {
                return Ok(());
            }
        }
        let snapshot = snapshot?;
        let reading = self.inner.reading(&snapshot.catalog);
        rows::visit_past_damage(reading, query, &snapshot.slices, visit)
    }

    fn completeness(&self, query: &CompletenessQuery) -> Result<Vec<Completeness>, LedgerError> {
        let snapshot = self.inner.snapshot_of(|reading| reading.slices(query.begin, query.end))?;
        completeness::list(self.inner.reading(&snapshot.catalog), query, &snapshot.slices)
    }

    fn libraries(&self) -> Result<Vec<String>, LedgerError> {
        let catalog = self.inner.catalog();
        catalog.holes.check(Table::Chains)?;
        let mut found: Vec<String> = Vec::new();
        for by in catalog.chains.iter().rev().flat_map(|chain| chain.rated_by.iter()) {
            if !found.contains(&by.library) {
                found.push(by.library.clone());
            }
        }
        Ok(found)
    }

    fn module_states(&self) -> Result<BTreeMap<String, ModuleState>, LedgerError> {
        let catalog = self.inner.current.load();
        catalog.holes.check_below(Table::States, states::MODULE_PREFIX)?;
        Ok(BTreeMap::clone(&catalog.modules))
    }

    fn set_module_state(&self, module: &str, state: ModuleState) -> Result<(), LedgerError> {
        let module = module.to_owned();
        self.change(move |stage| {
            states::set_module(stage, module, state);
            Ok(())
        })
    }

    fn collector_states(&self) -> Result<BTreeMap<String, bool>, LedgerError> {
        let catalog = self.inner.catalog();
        catalog.holes.check_below(Table::States, states::COLLECTOR_PREFIX)?;
        Ok(BTreeMap::clone(&catalog.collectors))
    }

    fn set_collector_state(&self, collector: &str, enabled: Enabled) -> Result<(), LedgerError> {
        let collector = collector.to_owned();
        self.change(move |stage| {
            states::set_collector(stage, collector, enabled);
            Ok(())
        })
    }

    fn collector_mappings(&self) -> Result<Vec<CollectorMapping>, LedgerError> {
        let catalog = self.inner.catalog();
        catalog.holes.check_below(Table::States, states::MAPPING_PREFIX)?;
        Ok(catalog.mappings.values().cloned().collect())
    }

    fn set_collector_mapping(&self, mapping: &CollectorMapping) -> Result<(), LedgerError> {
        let mapping = mapping.clone();
        self.change(move |stage| states::set_mapping(stage, mapping))
    }

    fn remove_collector_mapping(&self, service: &str) -> Result<bool, LedgerError> {
        let service = service.to_owned();
        self.change(move |stage| states::remove_mapping(stage, &service))
    }

    fn kv_revision(&self, instance: &str) -> Result<u64, LedgerError> {
        let catalog = self.inner.catalog();
        states::check_kv(&catalog.holes, instance)?;
        Ok(catalog.kv_revisions.get(instance).copied().unwrap_or(0))
    }

    fn kv_get(
        &self,
        instance: &str,
        revision: u64,
        key: &str,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        let catalog = self.inner.lock();
        states::check_kv(&catalog.holes, instance)?;
        let newest = catalog.kv_revisions.get(instance).copied().unwrap_or(0);
        kv::check_kept(&self.inner.store, instance, revision, newest)?;
        let value = kv::get(&self.inner.store, instance, revision.min(newest), key)?;
        self.inner.is_whole()?;
        Ok(value)
    }

    fn kv_scan(
        &self,
        instance: &str,
        revision: u64,
        prefix: &str,
    ) -> Result<(u64, rated_plugin::KvPairs), LedgerError> {
        let catalog = self.inner.lock();
        let newest = catalog.kv_revisions.get(instance).copied().unwrap_or(0);
        kv::check_kept(&self.inner.store, instance, revision, newest)?;
        let pairs = kv::scan(&self.inner.store, &catalog, instance, revision, prefix)?;
        self.inner.is_whole()?;
        Ok(pairs)
    }

    fn kv_apply(&self, instance: &str, edit: &KvEdit) -> Result<u64, LedgerError> {
        kv::check(instance, edit)?;
        let (instance, edit) = (instance.to_owned(), edit.clone());
        self.change(move |stage| kv::apply(stage, &instance, &edit))
    }

    fn check_rules(&self) -> Result<(), LedgerError> {
        lost::check_lost_of(&self.inner.store, &[Table::Kv, Table::States])
    }

    fn takes_changes(&self) -> Result<(), LedgerError> {
        if self.queue.is_stopped() {
            return Err(LedgerError::Stopped);
        }
        self.inner.catalog().holes.check(Table::Meta)?;
        self.inner.space.check(0, Share::All)
    }

    fn ailment(&self) -> Option<Ailment> {
        if self.queue.is_stopped() {
            return Some(Ailment::WriteFailed);
        }
        (!self.inner.store.cleaner.is_alive()).then_some(Ailment::GivesNoRoom)
    }

    fn compact(&self) -> Result<CompactionStep, LedgerError> {
        self.compact_step()
    }

    fn retain(&self, retention: Retention, now: DateTime<Utc>) -> Result<Retained, LedgerError> {
        self.retain_step(retention, now)
    }

    fn verify(&self, from: Option<&str>) -> Result<VerifyStep, LedgerError> {
        self.verify_step(from)
    }

    fn begin_backup(&self, now: DateTime<Utc>) -> Result<BackupPlan, LedgerError> {
        self.inner.begin_backup(now)
    }

    fn read_backup(&self, read: &BackupRead) -> Result<Vec<u8>, LedgerError> {
        self.inner.read_backup(read)
    }

    fn backup_digest(&self, read: &BackupRead) -> Result<[u8; 32], LedgerError> {
        self.inner.backup_digest(read)
    }

    fn end_backup(&self, id: u64) -> Result<(), LedgerError> {
        self.inner.end_backup(id)
    }

    fn end_idle_backup(&self, now: DateTime<Utc>) -> Result<(), LedgerError> {
        self.inner.end_idle_backup(now);
        Ok(())
    }

    fn size(&self) -> Result<LedgerSize, LedgerError> {
        let catalog = self.inner.catalog();
        catalog.holes.check_at(Table::Meta, COUNTERS_KEY)?;
        let data_size: u64 = catalog.files.values().map(|file| file.size).sum();
        Ok(LedgerSize {
            bytes_on_disk: self.inner.store.size_on_disk()? + data_size,
            rows: catalog.counters.rows,
            bytes_free: self.inner.space.free(),
            is_witnessed: self.inner.marks.are_written(),
        })
    }
}
