//! Steps at which a test kills the daemon.
//!
//! A program that is built for development and finds `RATED_KILL_AT=NAME:COUNT` in its environment
//! sends itself a SIGKILL when `rated serve` or `rated ledger …` passes that step for the `COUNT`th
//! time. `rated kill-steps` prints every name, and with `RATED_LOG=rated::fault=trace` each step
//! that is passed is logged, so that a test knows what there is to be killed at and leaves none
//! out.
//!
//! A program built for release holds none of it: there, passing a step is nothing at all.
//!
//! A kill leaves to the disk whatever was written, synced or not: this is not a power cut. The
//! crate `fail` was looked at: it can panic, sleep and return at a step, but not kill, keeps its
//! names in as many places as there are steps, and would need a build of its own for the tests.

macro_rules! steps {
    ($($step:ident = $name:literal,)+) => {
        /// A moment after which a kill leaves something else on the disk, or something else undone.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Step {
            $($step,)+
        }

        #[cfg(debug_assertions)]
        const NAMES: &[(Step, &str)] = &[$((Step::$step, $name),)+];
    };
}

steps! {
    // The start: `store`, `data`, `ledger`.
    StartLocked = "start.locked",
    StartLeftoversRemoved = "start.leftovers_removed",
    StartSledOpened = "start.sled_opened",
    StartHeaderWritten = "start.header_written",
    StartTreesOpened = "start.trees_opened",
    StartFoldersSynced = "start.folders_synced",
    StartJournalRead = "start.journal_read",
    StartReplaying = "start.replaying",
    StartReplayed = "start.replayed",
    StartSynced = "start.synced",
    StartDataFolderMade = "start.data_folder_made",
    StartStrayRemoved = "start.stray_removed",
    StartLedgerLoaded = "start.ledger_loaded",
    StartPluginsLoaded = "start.plugins_loaded",
    StartMetricsSet = "start.metrics_set",
    StartServing = "start.serving",
    // An older format: `raise`.
    RaiseExtentsWritten = "raise.extents_written",
    RaiseJournaled = "raise.journaled",
    RaiseApplied = "raise.applied",
    RaiseCleared = "raise.cleared",
    // A group of changes becomes durable: `queue`, `data`, `store`, `ledger`.
    GroupFileMade = "group.file_made",
    GroupFileNamed = "group.file_named",
    GroupExtentWritten = "group.extent_written",
    GroupExtentsSynced = "group.extents_synced",
    GroupWritingEarly = "group.writing_early",
    GroupJournalWritten = "group.journal_written",
    GroupFlushed = "group.flushed",
    GroupDurable = "group.durable",
    GroupApplying = "group.applying",
    GroupApplied = "group.applied",
    GroupShown = "group.shown",
    GroupTold = "group.told",
    // What a group is made of: each kind of change, before anything of it is written.
    ChangeCommit = "change.commit",
    ChangePush = "change.push",
    ChangeNewcomers = "change.newcomers",
    ChangeReset = "change.reset",
    ChangeScopesAdded = "change.scopes_added",
    ChangeScope = "change.scope",
    ChangeMetrics = "change.metrics",
    ChangeFailureNoted = "change.failure_noted",
    ChangeReprocessingAdded = "change.reprocessing_added",
    ChangeReprocessedStaged = "change.reprocessed_staged",
    ChangeReprocessingAdvanced = "change.reprocessing_advanced",
    ChangeReprocessingPostponed = "change.reprocessing_postponed",
    ChangeSwapped = "change.swapped",
    ChangeModule = "change.module",
    ChangeCollector = "change.collector",
    ChangeMapping = "change.mapping",
    ChangeRules = "change.rules",
    ChangeMerged = "change.merged",
    ChangeMoved = "change.moved",
    ChangeFileForgotten = "change.file_forgotten",
    ChangeSummedUp = "change.summed_up",
    ChangeRowsForgotten = "change.rows_forgotten",
    ChangeSlicesForgotten = "change.slices_forgotten",
    ChangePushKeysForgotten = "change.push_keys_forgotten",
    ChangeReprocessingsForgotten = "change.reprocessings_forgotten",
    ChangeRulesForgotten = "change.rules_forgotten",
    ChangeGenerationsDropped = "change.generations_dropped",
    CompactionFileDeleted = "compaction.file_deleted",
    // A cycle: `cycle`.
    CycleBegun = "cycle.begun",
    CycleFetched = "cycle.fetched",
    CycleSynced = "cycle.synced",
    CycleCollected = "cycle.collected",
    CycleRated = "cycle.rated",
    CycleCommitting = "cycle.committing",
    CycleCommitted = "cycle.committed",
    CycleEnded = "cycle.ended",
    // A reprocessing, between its changes: `cycle::reprocess`, `cycle::staging`.
    ReprocessWorked = "reprocess.worked",
    ReprocessPeriodStaged = "reprocess.period_staged",
    ReprocessSwapped = "reprocess.swapped",
    // Plugins: `plugin`.
    PluginCopyWritten = "plugin.copy_written",
    PluginCopyNamed = "plugin.copy_named",
    PluginMapped = "plugin.mapped",
    PluginStarted = "plugin.started",
    PluginsMade = "plugin.instances_made",
    PluginsSwapped = "plugin.swapped",
    PluginCopyRemoved = "plugin.copy_removed",
    ReloadBegun = "reload.begun",
    ReloadChecked = "reload.checked",
    // Plugins in processes of their own: `plugin::process`.
    ProcessStarted = "process.started",
    ProcessAsked = "process.asked",
    ProcessAnswered = "process.answered",
    ProcessDied = "process.died",
    // A backup: in the daemon `ledger::sled::backup`, in the one who asks `cli::ledger`.
    BackupSpooled = "backup.spooled",
    BackupBegun = "backup.begun",
    BackupPieceWritten = "backup.piece_written",
    BackupPartSynced = "backup.part_synced",
    BackupCopied = "backup.copied",
    BackupManifestWritten = "backup.manifest_written",
    BackupManifestNamed = "backup.manifest_named",
    BackupOldRemoved = "backup.old_removed",
    RestoreChecked = "restore.checked",
    RestorePartCopied = "restore.part_copied",
    RestoreLibrariesCopied = "restore.libraries_copied",
    RestoreFilesCopied = "restore.files_copied",
    RestoreRecordsWritten = "restore.records_written",
    RestoreBuilt = "restore.built",
    RestoreNamed = "restore.named",
    // A request that changes something: `api`.
    PushRead = "push.read",
    // The stop: `cli::serve`.
    StopBegun = "stop.begun",
    StopCycleEnded = "stop.cycle_ended",
    StopApiEnded = "stop.api_ended",
    StopPluginsEnded = "stop.plugins_ended",
}

#[cfg(not(debug_assertions))]
#[inline]
pub(crate) const fn passed(_: Step) {}

#[cfg(debug_assertions)]
pub(crate) use armed::{VARIABLE, names, parse, passed, plan};

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use tracing::trace;

    use super::{NAMES, Step};

    /// The variable of the environment that says where.
    pub(crate) const VARIABLE: &str = "RATED_KILL_AT";

    static PLAN: OnceLock<Plan> = OnceLock::new();

    /// Where the process ends.
    pub(crate) struct Plan {
        step: Step,
        passes_left: AtomicU32,
    }

    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(_, name)| *name)
    }

    /// `None` = it names no step, or no count from 1 on.
    pub(crate) fn parse(text: &str) -> Option<Plan> {
        let (name, count) = text.split_once(':')?;
        let (step, _) = NAMES.iter().find(|(_, known)| *known == name)?;
        let count = count.parse::<u32>().ok().filter(|count| *count > 0)?;
        Some(Plan { step: *step, passes_left: AtomicU32::new(count) })
    }

    /// From now on; the first plan of a process holds.
    pub(crate) fn plan(plan: Plan) {
        let _ = PLAN.set(plan);
    }

    pub(crate) fn passed(step: Step) {
        let name = NAMES.iter().find(|(known, _)| *known == step).map_or("", |(_, name)| name);
        trace!(target: "rated::fault", step = name, "Passed a step.");
        let Some(plan) = PLAN.get().filter(|plan| plan.step == step) else { return };
        if plan.passes_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Nothing of this process runs after it, other threads included.
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }

    #[cfg(test)]
    mod tests {
        use std::collections::BTreeSet;

        use super::*;

        #[test]
        fn every_step_has_a_name_of_its_own() {
            assert_eq!(names().collect::<BTreeSet<_>>().len(), NAMES.len());
        }

        #[test]
        fn a_plan_is_a_name_and_a_count() {
            let plan = parse("group.durable:3").unwrap();

            assert!(plan.step == Step::GroupDurable);
            assert_eq!(plan.passes_left.load(Ordering::Relaxed), 3);
            for wrong in ["group.durable", "group.durable:0", "group.durable:x", "group:1", ""] {
                assert!(parse(wrong).is_none(), "{wrong}");
            }
        }
    }
}
