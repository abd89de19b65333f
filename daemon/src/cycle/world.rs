//! What the ledger says: scopes, cursors, who measures what.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::failure::text_of;
use super::plan::World;
use super::sources::Sources;
use crate::config::CollectConfig;
use crate::ledger::{Cursors, Held, Ledger, LedgerError};
use crate::rating::{ChainKey, Rating};
use crate::usage::{Metric, MetricId};

/// The world as the ledger has it.
#[derive(Debug)]
pub(super) struct Synced {
    pub(super) world: World,
    /// Another stamp = plugins, rules or states are others now.
    pub(super) stamp: (ChainKey, u64),
    pub(super) bytes_on_disk: u64,
    pub(super) rows: u64,
    /// Damaged records, and what they are about is not in the world.
    pub(super) held: Vec<Held>,
}

pub(super) async fn read_world(
    ledger: Arc<dyn Ledger>,
    rating: Rating,
    collect: Arc<CollectConfig>,
    sources: Arc<dyn Sources>,
) -> Result<Synced, String> {
    let generation = sources.generation();
    let key = rating.key_now().await.map_err(|error| text_of(&error))?;
    let read = move || {
        // What could not be stored is not collected either.
        ledger.takes_changes().map_err(|error| text_of(&error))?;
        // Changes nothing but after a start that found no room for it.
        ledger.set_metrics(&metric_ids(&collect)).map_err(|error| text_of(&error))?;
        let (bytes_on_disk, rows) = match ledger.size() {
            Ok(size) => (size.bytes_on_disk, size.rows),
            Err(_) => (0, 0),
        };
        let (world, held) = world(&*ledger, &collect).map_err(|error| text_of(&error))?;
        Ok(Synced { world, stamp: (key, generation), bytes_on_disk, rows, held })
    };
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|_| Err("the thread that reads the ledger ended early".to_owned()))
}

/// What the ledger is to keep.
pub(super) fn metric_ids(collect: &CollectConfig) -> Vec<MetricId> {
    collect.metrics.iter().map(|metric| metric.id.clone()).collect()
}

/// Who measures what.
#[derive(Debug, Clone, Default)]
pub(super) struct Routes {
    /// By metric index.
    pub(super) collectors: Vec<Arc<str>>,
    /// Collectors that somebody has disabled.
    pub(super) disabled: BTreeSet<String>,
}

/// A mapping wins over the metric's own collector, that over the daemon's.
pub(super) fn routes(ledger: &dyn Ledger, collect: &CollectConfig) -> Result<Routes, LedgerError> {
    let mappings: HashMap<String, String> = ledger
        .collector_mappings()?
        .into_iter()
        .map(|mapping| (mapping.service, mapping.collector))
        .collect();
    let disabled = ledger.collector_states()?.into_iter().filter(|(_, enabled)| !enabled);
    let collector_of = |metric: &Metric| {
        let mapped = mappings.get(&metric.id.alt_name).or(metric.collector.as_ref());
        Arc::from(mapped.unwrap_or(&collect.collector).as_str())
    };
    Ok(Routes {
        collectors: collect.metrics.iter().map(collector_of).collect(),
        disabled: disabled.map(|(name, _)| name).collect(),
    })
}

fn world(ledger: &dyn Ledger, collect: &CollectConfig) -> Result<(World, Vec<Held>), LedgerError> {
    let cursors = ledger.cursors()?;
    let Routes { collectors, disabled } = routes(ledger, collect)?;
    let next_begin =
        |metric: &Metric| cursors.next_begin_secs.get(&metric.id).cloned().unwrap_or_default();
    let next_begin = collect.metrics.iter().map(next_begin).collect();
    let Cursors { scopes, active, mut held_scopes, held, .. } = cursors;
    held_scopes.extend(held);
    Ok((World { scopes, active, next_begin, collectors, disabled }, held_scopes))
}
