//! What a ledger is made of: what readers see of it, and how a group of changes is written.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use arc_swap::ArcSwap;
use tracing::error;

use super::aside::Changed;
use super::backup::Backups;
use super::catalog::Catalog;
use super::data::DataFiles;
use super::marks::Marks;
use super::query::Reading;
use super::queue::{GroupError, Stage, Written};
use super::readers::{Presence, Readers};
use super::seal::{News, Seals};
use super::slice::Slice;
use super::space::{Space, WRITTEN_PER_BYTE};
use super::store::{Store, Write, store_error};
use super::summary::Need;
use super::texts::Texts;
use super::{LEDGER_VERSION, commit, data, lost, raise, summary, verify};
use crate::fault::{Step, passed};
use crate::ledger::{LedgerError, SummaryQuery};

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) data: DataFiles,
    pub(super) texts: Texts,
    /// Held for writing while a group that is durable becomes visible.
    pub(super) catalog: RwLock<Arc<Catalog>>,
    /// The same for those who ask nothing else: they wait for no change.
    pub(super) current: ArcSwap<Catalog>,
    pub(super) version: AtomicU64,
    pub(super) readers: Readers,
    pub(super) space: Space,
    /// A group that is durable has only partly got to its places.
    pub(super) is_torn: AtomicBool,
    pub(super) seals: Seals,
    pub(super) marks: Marks,
    pub(super) backups: Mutex<Backups>,
    /// What changes while a backup begins.
    pub(super) changed: Changed,
    pub(super) keep_generations: u32,
    /// What was found at the start, for people.
    pub(super) troubles: Vec<String>,
}

/// What a reader sees until it ends.
pub(super) struct Snapshot<'a> {
    pub(super) catalog: Arc<Catalog>,
    pub(super) slices: Vec<Slice>,
    pub(super) _presence: Presence<'a>,
}

impl Inner {
    /// Looks for what is missing before anything is deleted or changed; raises older formats.
    pub(super) fn check(
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
    pub(super) fn snapshot_of(
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
    pub(super) fn is_whole(&self) -> Result<(), LedgerError> {
        if self.is_torn.load(Ordering::Acquire) { Err(LedgerError::Stopped) } else { Ok(()) }
    }

    /// What has to be read to answer a query.
    pub(super) fn snapshot_to_sum(
        &self,
        query: &SummaryQuery,
    ) -> Result<Snapshot<'_>, LedgerError> {
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
    pub(super) fn write(&self, mut stage: Stage, before: &Catalog) -> Result<Written, GroupError> {
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
