//! The contract, kept.

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use super::aside::Changed;
use super::backup::Backups;
use super::catalog::Catalog;
use super::compaction::Compactor;
use super::data::DataFiles;
use super::marks::Marks;
use super::opening::{OpenError, SledOptions};
use super::pruning::Pruner;
use super::push::{self, Newcomers};
use super::query::Reading;
use super::queue::{Company, GroupError, Queue, Stage, Written};
use super::readers::{Presence, Readers};
use super::reprocessing::Keeps;
use super::seal::{News, Seals};
use super::slice::Slice;
use super::space::{Share, Space, WRITTEN_PER_BYTE};
use super::store::{Store, Table, Write, store_error};
use super::summary::Need;
use super::texts::Texts;
use super::{
    COUNTERS_KEY, LEDGER_VERSION, commit, completeness, data, kv, load, lost, raise, reprocessing,
    reset, rows, scopes, states, summary, summary_page, swap, verify,
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
use tracing::error;

/// A [`Ledger`] in a folder.
#[derive(Debug)]
pub struct SledLedger {
    pub(super) inner: Arc<Inner>,
    pub(super) queue: Queue,
    pub(super) compactor: Mutex<Compactor>,
    pub(super) pruner: Mutex<Pruner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) data: DataFiles,
    texts: Texts,
    /// Held for writing while a group that is durable becomes visible.
    catalog: RwLock<Arc<Catalog>>,
    /// The same for those who ask nothing else: they wait for no change.
    current: ArcSwap<Catalog>,
    pub(super) version: AtomicU64,
    pub(super) readers: Readers,
    pub(super) space: Space,
    /// A group that is durable has only partly got to its places.
    is_torn: AtomicBool,
    pub(super) seals: Seals,
    marks: Marks,
    pub(super) backups: Mutex<Backups>,
    /// What changes while a backup begins.
    pub(super) changed: Changed,
    pub(super) keep_generations: u32,
    /// What was found at the start, for people.
    troubles: Vec<String>,
}

/// What a reader sees until it ends.
struct Snapshot<'a> {
    catalog: Arc<Catalog>,
    slices: Vec<Slice>,
    _presence: Presence<'a>,
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

impl Inner {
    /// Looks for what is missing before anything is deleted or changed; raises older formats.
    fn check(
        store: &Store,
        data: &DataFiles,
        marks: &Marks,
    ) -> Result<(Seals, Vec<String>), LedgerError> {
        let mut troubles = Vec::new();
        let mut seals = None;
        if store.version_found == Some(LEDGER_VERSION)
            && let Some((found, broken)) = Seals::load(store, marks)?
        {
            // The others are told where they are read.
            let others = broken.iter().filter(|group| !group.is_always_read());
            troubles.extend(others.map(|group| group.damage().to_string()));
            let is_whole = broken.is_empty();
            store.set_broken(broken);
            if is_whole {
                found.note_checked(store)?;
            }
            found.note_lost(store, marks)?;
            seals = Some(found);
        }
        if seals.is_none() {
            if let Some(damage) = store.unreplayed() {
                return Err(damage);
            }
            raise::raise(store, data)?;
        }
        let seals = if let Some(seals) = seals {
            seals
        } else {
            let seals = Seals::make(store, 1)?;
            // None in a ledger of an older format.
            seals.note_lost(store, marks)?;
            seals
        };
        let lost = lost::list_lost(store)?;
        troubles.extend(lost.iter().map(verify::text_of_lost));
        store.set_lost(lost);
        Ok((seals, troubles))
    }

    /// Whether nothing at all is damaged or missing, as far as is known: else nothing is deleted,
    /// as somebody may want to look for what is missing.
    pub(super) fn is_all_whole(&self) -> bool {
        let catalog = self.catalog();
        self.store.is_whole() && catalog.holes.is_empty() && !catalog.sums_are_off
    }

    /// As long as it is held, no group gets to its place.
    pub(super) fn lock(&self) -> RwLockReadGuard<'_, Arc<Catalog>> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, if what stands in sled is of one moment.
    pub(super) fn lock_whole(&self) -> Result<RwLockReadGuard<'_, Arc<Catalog>>, LedgerError> {
        let catalog = self.lock();
        self.is_whole()?;
        Ok(catalog)
    }

    pub(super) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.lock())
    }

    pub(super) fn reading<'a>(&'a self, catalog: &'a Catalog) -> Reading<'a> {
        self.writing().reading(catalog)
    }

    /// What readers see now of the slices that `list` picks.
    fn snapshot_of(
        &self,
        list: impl FnOnce(Reading<'_>) -> Result<Vec<Slice>, LedgerError>,
    ) -> Result<Snapshot<'_>, LedgerError> {
        let presence = self.readers.enter();
        let catalog = self.lock();
        let slices = list(self.reading(&catalog))?;
        self.is_whole()?;
        Ok(Snapshot { catalog: Arc::clone(&catalog), slices, _presence: presence })
    }

    /// Whether what was read under the lock is of one moment.
    fn is_whole(&self) -> Result<(), LedgerError> {
        if self.is_torn.load(Ordering::Acquire) { Err(LedgerError::Stopped) } else { Ok(()) }
    }

    /// What has to be read to answer a query.
    fn snapshot_to_sum(&self, query: &SummaryQuery) -> Result<Snapshot<'_>, LedgerError> {
        self.snapshot_of(|reading| match summary::need(reading, query) {
            Need::Rows => reading.slices_with_rows(query.begin, query.end, &query.filters),
            Need::Slices => reading.slices(query.begin, query.end),
            Need::Sums(level) => reading.sources(query.begin, query.end, level),
        })
    }

    pub(super) fn writing(&self) -> commit::Writing<'_> {
        commit::Writing { store: &self.store, data: &self.data, texts: &self.texts }
    }

    /// Makes a group durable, then visible.
    fn write(&self, mut stage: Stage, before: &Catalog) -> Result<Written, GroupError> {
        commit::write_counters(&mut stage, before);
        if let Some(write) = stage.journaled.iter().find(|write| !write.fits()) {
            let text = format!("a record of {} bytes is too long to be stored", write.value_size());
            return Err(GroupError::Undone(LedgerError::Store(text.into())));
        }
        // What changes nothing needs no room: a start on a full disk, for example.
        if !stage.journaled.is_empty() || !stage.extents.is_empty() {
            self.check_space(&stage).map_err(GroupError::Undone)?;
        }
        // Nothing names these places before the journal does.
        let written = self.data.append(&stage.extents);
        written.map_err(|error| GroupError::Undone(store_error(error)))?;
        let new_texts = self.texts.take_new();
        stage.journaled.extend(new_texts.journaled.iter().cloned());
        if stage.journaled.is_empty() && new_texts.early.is_empty() && stage.suspects.is_empty() {
            return Ok(Written::InItsPlaces);
        }
        let writes = &mut stage.journaled;
        let news = News {
            texts: &new_texts.counts,
            states_are_mended: stage.states_are_mended,
            suspects: &stage.suspects,
        };
        let pending = match self.seals.extend(&self.store, writes, news) {
            Ok(pending) => pending,
            // What was to be replaced cannot be read: nothing was written yet.
            Err(error) => {
                self.texts.put_back(new_texts);
                return Err(GroupError::Undone(error));
            }
        };
        self.store.write_early(&new_texts.early)?;
        self.store.journal(&stage.journaled)?;
        self.texts.settle();
        self.marks.put(pending.mark);
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        self.seals.settle(pending);
        self.is_torn.store(true, Ordering::Release);
        self.changed.note(stage.journaled.iter().chain(&new_texts.early));
        let written = self.put_in_places(&stage.journaled);
        self.is_torn.store(written == Written::InTheJournal, Ordering::Release);
        // What stands in memory is the new state wholly, and all that is read until the ledger is
        // open again if sled's is not.
        *catalog = Arc::new(stage.catalog);
        self.current.store(Arc::clone(&catalog));
        self.version.fetch_add(1, Ordering::Release);
        passed(Step::GroupShown);
        Ok(written)
    }

    /// Of a group that is durable: sled may fail, or panic, and it is in the ledger all the same.
    fn put_in_places(&self, journaled: &[Write]) -> Written {
        let applied = catch_unwind(AssertUnwindSafe(|| self.store.apply(journaled)));
        let error: Box<dyn Error + Send + Sync> = match applied {
            Ok(Ok(())) => {
                passed(Step::GroupApplied);
                return Written::InItsPlaces;
            }
            Ok(Err(error)) => error.into(),
            Err(_) => "sled has panicked".into(),
        };
        let error: &(dyn Error + 'static) = &*error;
        error!(error, "A change is durable, but not in its place; the ledger is opened again.");
        Written::InTheJournal
    }
}

impl Inner {
    /// Texts that are new are not counted: they are part of what makes the reserve.
    fn check_space(&self, stage: &Stage) -> Result<(), LedgerError> {
        let rows: u64 = stage.extents.iter().map(data::Extent::size).sum();
        let journaled: u64 = stage.journaled.iter().map(|write| write.size() as u64).sum();
        self.space.check(rows + WRITTEN_PER_BYTE * journaled, stage.share)
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
