//! The contract, kept.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use super::catalog::Catalog;
use super::compaction::Compactor;
use super::data::DataFiles;
use super::push::{self, Newcomers};
use super::query::Reading;
use super::queue::{Company, GroupError, Queue, Stage};
use super::readers::{Presence, Readers};
use super::slice::Slice;
use super::store::{Store, store_error};
use super::summary::Need;
use super::texts::Texts;
use super::{
    commit, completeness, data, kv, load, raise, reprocessing, reset, rows, scopes, states,
    summary, summary_page, swap,
};
use crate::fault::{Step, passed};
use crate::ledger::{
    CollectorMapping, CommitOutcome, CompactionStep, Completeness, CompletenessQuery, Cursors,
    Enabled, Failure, KvEdit, Ledger, LedgerError, LedgerSize, ModuleState, NewReprocessing,
    NewScope, PageOf, Push, PushOutcome, RatedSlice, Reprocessing, Reset, ResetOutcome, Retained,
    Retention, RowsGroup, RowsPage, RowsQuery, Scope, ScopeChange, SummaryGroup, SummaryPage,
    SummaryQuery,
};
use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};

use crate::usage::{MetricId, ScopeId};

/// How a ledger is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SledOptions {
    /// Memory for pages read or written lately.
    pub cache_size_mib: u32,
}

impl Default for SledOptions {
    fn default() -> SledOptions {
        SledOptions { cache_size_mib: 64 }
    }
}

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("state folder `{}` is used by another daemon", path.display())]
    InUse { path: PathBuf },
    #[error(
        "state folder `{}` is not writable\n(hint: it must belong to the user that runs \
         the daemon)",
        path.display()
    )]
    NotWritable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot open the ledger in `{}`", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the ledger in `{}` has format {found}, this daemon knows up to {known}\n(hint: it was \
         written by a newer version of rated; use that one)",
        path.display()
    )]
    Version { path: PathBuf, found: u16, known: u16 },
    #[error("the ledger in `{}` is damaged", path.display())]
    Sled {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the ledger in `{}` is damaged in a way that sled does not expect", path.display())]
    Panic { path: PathBuf },
    #[error("cannot read the ledger")]
    Read(#[from] LedgerError),
}

impl OpenError {
    pub(super) fn folder(path: &Path, source: io::Error) -> OpenError {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                OpenError::NotWritable { path, source }
            }
            _ => OpenError::Folder { path, source },
        }
    }
}

/// A [`Ledger`] in a folder.
#[derive(Debug)]
pub struct SledLedger {
    pub(super) inner: Arc<Inner>,
    pub(super) queue: Queue,
    pub(super) compactor: Mutex<Compactor>,
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
    version: AtomicU64,
    pub(super) readers: Readers,
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
        let store = Store::open(path, options)?;
        let data = DataFiles::open(path).map_err(|source| OpenError::folder(path, source))?;
        let removed = data.remove_strays(&data::load(&store)?);
        removed.map_err(|source| OpenError::folder(path, source))?;
        raise::raise(&store, &data)?;
        let catalog = Arc::new(load::load(&store)?);
        let texts = Texts::load(&store)?;
        passed(Step::StartLedgerLoaded);
        let inner = Arc::new(Inner {
            store,
            data,
            texts,
            current: ArcSwap::new(Arc::clone(&catalog)),
            catalog: RwLock::new(catalog),
            version: AtomicU64::new(0),
            readers: Readers::default(),
        });
        Ok(SledLedger { inner, queue: Queue::default(), compactor: Mutex::default() })
    }

    /// How many bytes the rows of a slice take in blocks, without storing it.
    pub fn encoded_size(&self, slice: &RatedSlice) -> Result<usize, LedgerError> {
        let catalog = self.inner.catalog();
        commit::encoded_size(self.inner.writing(), &catalog, slice)
    }

    fn change<T: Send + 'static>(
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
        self.queue.submit(company, change, |changes| {
            let before = self.inner.catalog();
            let mut stage = Stage { catalog: (*before).clone(), ..Stage::default() };
            let deliveries = changes.into_iter().map(|change| change(&mut stage)).collect();
            (deliveries, self.inner.write(stage, &before))
        })
    }
}

impl Inner {
    /// As long as it is held, no group gets to its place.
    pub(super) fn lock(&self) -> RwLockReadGuard<'_, Arc<Catalog>> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
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
        Ok(Snapshot { catalog: Arc::clone(&catalog), slices, _presence: presence })
    }

    /// What has to be read to answer a query.
    fn snapshot_to_sum(&self, query: &SummaryQuery) -> Result<Snapshot<'_>, LedgerError> {
        self.snapshot_of(|reading| match summary::need(reading, query) {
            Need::Rows => reading.slices_with_rows(query.begin, query.end, &query.filters),
            Need::Slices => reading.slices(query.begin, query.end),
            Need::Sums(level) => reading.sources(query.begin, query.end, level),
        })
    }

    fn writing(&self) -> commit::Writing<'_> {
        commit::Writing { store: &self.store, data: &self.data, texts: &self.texts }
    }

    /// Makes a group durable, then visible.
    fn write(&self, mut stage: Stage, before: &Catalog) -> Result<(), GroupError> {
        commit::write_counters(&mut stage, before);
        if let Some(write) = stage.journaled.iter().find(|write| !write.fits()) {
            let text = format!("a record of {} bytes is too long to be stored", write.value_size());
            return Err(GroupError::Undone(LedgerError::Store(text.into())));
        }
        // Nothing names these places before the journal does.
        let written = self.data.append(&stage.extents);
        written.map_err(|error| GroupError::Undone(store_error(error)))?;
        let new_texts = self.texts.take_new();
        stage.journaled.extend(new_texts.journaled);
        if stage.journaled.is_empty() && new_texts.early.is_empty() {
            return Ok(());
        }
        self.store.write_early(&new_texts.early)?;
        self.store.journal(&stage.journaled)?;
        self.texts.settle();
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        self.store.apply(&stage.journaled)?;
        passed(Step::GroupApplied);
        *catalog = Arc::new(stage.catalog);
        self.current.store(Arc::clone(&catalog));
        self.version.fetch_add(1, Ordering::Release);
        passed(Step::GroupShown);
        Ok(())
    }
}

impl Ledger for SledLedger {
    fn version(&self) -> u64 {
        self.inner.version.load(Ordering::Acquire)
    }

    fn scopes(&self) -> Result<Vec<Scope>, LedgerError> {
        Ok(self.inner.current.load().list_scopes())
    }

    fn add_scopes(&self, scopes: &[NewScope]) -> Result<usize, LedgerError> {
        let catalog = self.inner.catalog();
        let is_new = |scope: &&NewScope| catalog.listed_number(&scope.id).is_none();
        let new: Vec<NewScope> = scopes.iter().filter(is_new).cloned().collect();
        if new.is_empty() {
            return Ok(0);
        }
        self.change(move |stage| Ok(scopes::add(stage, &new)))
    }

    fn change_scope(
        &self,
        id: &ScopeId,
        change: &ScopeChange,
    ) -> Result<Option<Scope>, LedgerError> {
        let (id, change) = (id.clone(), change.clone());
        self.change(move |stage| Ok(scopes::change(stage, &id, &change)))
    }

    fn reset(&self, reset: &Reset) -> Result<ResetOutcome, LedgerError> {
        let (inner, reset) = (Arc::clone(&self.inner), reset.clone());
        let change = move |stage: &mut Stage| reset::reset(inner.writing(), stage, &reset);
        self.change_with(Company::Alone, change)
    }

    fn set_metrics(&self, metrics: &[MetricId]) -> Result<(), LedgerError> {
        let metrics = metrics.to_vec();
        self.change(move |stage| {
            scopes::set_metrics(stage, &metrics);
            Ok(())
        })
    }

    fn cursors(&self) -> Result<Cursors, LedgerError> {
        Ok(scopes::cursors(&self.inner.catalog()))
    }

    fn commit(&self, slices: Vec<RatedSlice>) -> Result<Vec<CommitOutcome>, LedgerError> {
        if slices.is_empty() {
            return Ok(Vec::new());
        }
        let inner = Arc::clone(&self.inner);
        let catalog = Catalog::clone(&inner.catalog());
        let mut slices = commit::prepare(inner.writing(), catalog, slices)?;
        self.change(move |stage| {
            let stage = |slice| commit::stage(inner.writing(), stage, slice);
            slices.iter_mut().map(stage).collect()
        })
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
        Ok(reprocessing::list(&self.inner.catalog()))
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
        let change =
            move |stage: &mut Stage| reprocessing::stage(inner.writing(), stage, id, prepared);
        self.change_with(Company::Alone, change)
    }

    fn advance_reprocessing(&self, id: u64, staged: DateTime<Utc>) -> Result<(), LedgerError> {
        self.change(move |stage| reprocessing::advance(stage, id, staged))
    }

    fn postpone_reprocessing(&self, id: u64, scopes: &[ScopeId]) -> Result<u64, LedgerError> {
        let scopes = scopes.to_vec();
        self.change(move |stage| reprocessing::postpone(stage, id, &scopes))
    }

    fn finish_reprocessing(&self, id: u64) -> Result<(), LedgerError> {
        let inner = Arc::clone(&self.inner);
        let change = move |stage: &mut Stage| swap::finish(inner.writing(), stage, id);
        self.change_with(Company::Alone, change)
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

    fn completeness(&self, query: &CompletenessQuery) -> Result<Vec<Completeness>, LedgerError> {
        let snapshot = self.inner.snapshot_of(|reading| reading.slices(query.begin, query.end))?;
        completeness::list(self.inner.reading(&snapshot.catalog), query, &snapshot.slices)
    }

    fn module_states(&self) -> Result<BTreeMap<String, ModuleState>, LedgerError> {
        Ok(BTreeMap::clone(&self.inner.current.load().modules))
    }

    fn set_module_state(&self, module: &str, state: ModuleState) -> Result<(), LedgerError> {
        let module = module.to_owned();
        self.change(move |stage| {
            states::set_module(stage, module, state);
            Ok(())
        })
    }

    fn collector_states(&self) -> Result<BTreeMap<String, bool>, LedgerError> {
        Ok(BTreeMap::clone(&self.inner.catalog().collectors))
    }

    fn set_collector_state(&self, collector: &str, enabled: Enabled) -> Result<(), LedgerError> {
        let collector = collector.to_owned();
        self.change(move |stage| {
            states::set_collector(stage, collector, enabled);
            Ok(())
        })
    }

    fn collector_mappings(&self) -> Result<Vec<CollectorMapping>, LedgerError> {
        Ok(self.inner.catalog().mappings.values().cloned().collect())
    }

    fn set_collector_mapping(&self, mapping: &CollectorMapping) -> Result<(), LedgerError> {
        let mapping = mapping.clone();
        self.change(move |stage| {
            states::set_mapping(stage, mapping);
            Ok(())
        })
    }

    fn remove_collector_mapping(&self, service: &str) -> Result<bool, LedgerError> {
        let service = service.to_owned();
        self.change(move |stage| Ok(states::remove_mapping(stage, &service)))
    }

    fn kv_revision(&self, instance: &str) -> Result<u64, LedgerError> {
        Ok(self.inner.catalog().kv_revisions.get(instance).copied().unwrap_or(0))
    }

    fn kv_get(
        &self,
        instance: &str,
        revision: u64,
        key: &str,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        let catalog = self.inner.lock();
        let newest = catalog.kv_revisions.get(instance).copied().unwrap_or(0);
        kv::get(&self.inner.store, instance, revision.min(newest), key)
    }

    fn kv_scan(
        &self,
        instance: &str,
        revision: u64,
        prefix: &str,
    ) -> Result<(u64, rated_plugin::KvPairs), LedgerError> {
        let catalog = self.inner.lock();
        kv::scan(&self.inner.store, &catalog, instance, revision, prefix)
    }

    fn kv_apply(&self, instance: &str, edit: &KvEdit) -> Result<u64, LedgerError> {
        kv::check(instance, edit)?;
        let (instance, edit) = (instance.to_owned(), edit.clone());
        self.change(move |stage| kv::apply(stage, &instance, &edit))
    }

    fn takes_changes(&self) -> Result<(), LedgerError> {
        if self.queue.is_stopped() { Err(LedgerError::Stopped) } else { Ok(()) }
    }

    fn compact(&self) -> Result<CompactionStep, LedgerError> {
        self.compact_step()
    }

    fn retain(&self, retention: Retention, now: DateTime<Utc>) -> Result<Retained, LedgerError> {
        self.retain_step(retention, now)
    }

    fn size(&self) -> Result<LedgerSize, LedgerError> {
        let data_size: u64 = self.inner.catalog().files.values().map(|file| file.size).sum();
        Ok(LedgerSize {
            bytes_on_disk: self.inner.store.size_on_disk()? + data_size,
            rows: self.inner.catalog().counters.rows,
        })
    }
}
