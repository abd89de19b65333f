//! A ledger in memory: rows as the tests put them, everything else as the API sets it. It fails
//! when told to.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use chrono::{DateTime, Utc};
use rated_plugin::{KvPairs, UsageBatch, UsageBuilder, decimal_column};
use rust_decimal::Decimal;

use crate::ledger::*;
use crate::usage::{MetricId, Period, ScopeId, Sum, calendar_attributes};

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) period: Period,
    pub(super) metric_type: &'static str,
    pub(super) unit: &'static str,
    pub(super) scope: ScopeId,
    pub(super) groupby: Vec<(&'static str, &'static str)>,
    pub(super) metadata: Vec<(&'static str, &'static str)>,
    pub(super) qty: Decimal,
    pub(super) price: Decimal,
}

#[derive(Debug, Default)]
pub(in crate::api) struct FakeLedger {
    pub(super) rows: Vec<Row>,
    pub(super) scopes: Vec<Scope>,
    pub(super) is_broken: bool,
    pub(super) modules: Mutex<BTreeMap<String, ModuleState>>,
    pub(super) collectors: Mutex<BTreeMap<String, bool>>,
    pub(super) mappings: Mutex<Vec<CollectorMapping>>,
    pub(super) version: AtomicU64,
}

impl FakeLedger {
    fn check(&self) -> Result<(), LedgerError> {
        if self.is_broken {
            return Err(LedgerError::Store("input/output error on /secret/path".into()));
        }
        Ok(())
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
    }
}

impl Row {
    /// The value of any attribute, `""` when it has none.
    fn attribute(&self, name: &str) -> String {
        let calendar = calendar_attributes(self.period.begin());
        let own = self.groupby.iter().chain(&self.metadata).find(|(known, _)| *known == name);
        let value = own.map(|(_, value)| (*value).to_owned());
        let derived = calendar.into_iter().find(|(known, _)| *known == name);
        value.or(derived.map(|(_, value)| value)).unwrap_or_default()
    }

    fn passes(&self, filters: &Filters) -> bool {
        filters.scopes.as_ref().is_none_or(|scopes| scopes.contains(&self.scope))
            && filters
                .types
                .as_ref()
                .is_none_or(|types| types.iter().any(|t| t == self.metric_type))
            && filters
                .attributes
                .iter()
                .all(|(name, values)| values.contains(&self.attribute(name)))
    }

    fn keys(&self, group_by: &[GroupKey]) -> (Vec<Arc<str>>, Option<Period>) {
        let keys = group_by.iter().filter_map(|key| match key {
            GroupKey::Time => None,
            GroupKey::Scope => Some(self.scope.as_str().into()),
            GroupKey::Type => Some(self.metric_type.into()),
            GroupKey::Attribute(name) => Some(self.attribute(name).into()),
        });
        (keys.collect(), group_by.contains(&GroupKey::Time).then_some(self.period))
    }

    pub(super) fn batch(&self) -> RecordBatch {
        let names =
            |of: &[(&'static str, &'static str)]| of.iter().map(|(name, _)| *name).collect();
        let (groupby, metadata): (Vec<_>, Vec<_>) = (names(&self.groupby), names(&self.metadata));
        let mut rows = UsageBuilder::new(&groupby, &metadata);
        let values: Vec<Option<&str>> =
            self.groupby.iter().chain(&self.metadata).map(|(_, value)| Some(*value)).collect();
        rows.push(self.scope.as_str(), self.qty, &values).unwrap();
        let rows = rows.finish().unwrap();
        let price = decimal_column(&[self.price]).unwrap();
        UsageBatch::new(&rows).unwrap().with_price(price).unwrap()
    }
}

impl Ledger for FakeLedger {
    fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    fn scopes(&self) -> Result<Vec<Scope>, LedgerError> {
        self.check()?;
        Ok(self.scopes.clone())
    }

    fn scopes_of(&self, ids: &[ScopeId]) -> Result<Vec<Scope>, LedgerError> {
        self.check()?;
        Ok(self.scopes.iter().filter(|scope| ids.contains(&scope.id)).cloned().collect())
    }

    fn summarize(&self, query: &SummaryQuery) -> Result<Vec<SummaryGroup>, LedgerError> {
        self.check()?;
        let mut groups: BTreeMap<_, Vec<(Sum, Sum)>> = BTreeMap::new();
        let in_range = |row: &&Row| {
            (query.begin..query.end).contains(&row.period.begin()) && row.passes(&query.filters)
        };
        for row in self.rows.iter().filter(in_range) {
            let figures = (Sum::from_decimal(row.qty), Sum::from_decimal(row.price));
            groups.entry(row.keys(&query.group_by)).or_default().push(figures);
        }
        let group = |((keys, period), rows): (_, Vec<(Sum, Sum)>)| {
            let (qty, price): (Vec<Sum>, Vec<Sum>) = rows.into_iter().unzip();
            let extremes = Extremes {
                qty_min: *qty.iter().min().unwrap(),
                qty_max: *qty.iter().max().unwrap(),
                price_min: *price.iter().min().unwrap(),
                price_max: *price.iter().max().unwrap(),
            };
            let wanted = query.measures == Measures::SumsAndExtremes;
            SummaryGroup {
                keys,
                period,
                rows: qty.len() as u64,
                qty: qty.into_iter().sum(),
                price: price.into_iter().sum(),
                extremes: wanted.then_some(extremes),
            }
        };
        // Backwards: nobody may rely on an order.
        Ok(groups.into_iter().rev().map(group).collect())
    }

    fn rows(&self, query: &RowsQuery) -> Result<RowsPage, LedgerError> {
        self.check()?;
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.retain(|row| {
            (query.begin..query.end).contains(&row.period.begin()) && row.passes(&query.filters)
        });
        rows.sort_by_key(|row| (row.period, row.metric_type));
        let total = rows.len();
        let groups = rows.into_iter().skip(query.offset).take(query.limit).map(|row| RowsGroup {
            period: row.period,
            metric_type: row.metric_type.to_owned(),
            metric_name: row.metric_type.to_owned(),
            rated_by: Arc::new([]),
            rated_scope_key: None,
            unit: row.unit.to_owned(),
            description: None,
            origin: Origin::Collected,
            scope_key: "project_id".to_owned(),
            rows: row.batch(),
        });
        Ok(RowsPage { total, groups: groups.collect() })
    }

    fn module_states(&self) -> Result<BTreeMap<String, ModuleState>, LedgerError> {
        self.check()?;
        Ok(self.modules.lock().unwrap().clone())
    }

    fn set_module_state(&self, module: &str, state: ModuleState) -> Result<(), LedgerError> {
        self.check()?;
        self.modules.lock().unwrap().insert(module.to_owned(), state);
        self.changed();
        Ok(())
    }

    fn collector_states(&self) -> Result<BTreeMap<String, bool>, LedgerError> {
        self.check()?;
        Ok(self.collectors.lock().unwrap().clone())
    }

    fn set_collector_state(&self, collector: &str, enabled: Enabled) -> Result<(), LedgerError> {
        self.check()?;
        self.collectors.lock().unwrap().insert(collector.to_owned(), enabled == Enabled::Yes);
        self.changed();
        Ok(())
    }

    fn collector_mappings(&self) -> Result<Vec<CollectorMapping>, LedgerError> {
        self.check()?;
        Ok(self.mappings.lock().unwrap().clone())
    }

    fn set_collector_mapping(&self, mapping: &CollectorMapping) -> Result<(), LedgerError> {
        self.check()?;
        let mut mappings = self.mappings.lock().unwrap();
        match mappings.iter_mut().find(|known| known.service == mapping.service) {
            Some(known) => known.clone_from(mapping),
            None => mappings.push(mapping.clone()),
        }
        self.changed();
        Ok(())
    }

    fn remove_collector_mapping(&self, service: &str) -> Result<bool, LedgerError> {
        self.check()?;
        let mut mappings = self.mappings.lock().unwrap();
        let before = mappings.len();
        mappings.retain(|mapping| mapping.service != service);
        self.changed();
        Ok(mappings.len() < before)
    }

    fn kv_revision(&self, _: &str) -> Result<u64, LedgerError> {
        self.check()?;
        Ok(0)
    }

    fn takes_changes(&self) -> Result<(), LedgerError> {
        self.check()
    }

    fn size(&self) -> Result<LedgerSize, LedgerError> {
        self.check()?;
        let rows = self.rows.len() as u64;
        Ok(LedgerSize { bytes_on_disk: 4096, rows, bytes_free: None, is_witnessed: true })
    }

    // ---- what the API never asks ----

    fn libraries(&self) -> Result<Vec<String>, LedgerError> {
        unreachable!()
    }

    fn compact(&self) -> Result<crate::ledger::CompactionStep, LedgerError> {
        unimplemented!("the API never compacts")
    }

    fn retain(
        &self,
        _: crate::ledger::Retention,
        _: DateTime<Utc>,
    ) -> Result<crate::ledger::Retained, LedgerError> {
        unimplemented!("the API forgets nothing")
    }

    fn generations(&self) -> Result<Vec<Generation>, LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn differences(&self, _: &DifferenceQuery) -> Result<DifferencePage, LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn verify(&self, _: Option<&str>) -> Result<VerifyStep, LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn begin_backup(&self, _: DateTime<Utc>) -> Result<BackupPlan, LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn read_backup(&self, _: &BackupRead) -> Result<Vec<u8>, LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn backup_digest(&self, _: &BackupRead) -> Result<[u8; 32], LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn end_backup(&self, _: u64) -> Result<(), LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn end_idle_backup(&self, _: DateTime<Utc>) -> Result<(), LedgerError> {
        unreachable!("the API leaves backups alone")
    }

    fn add_scopes(&self, _: &[NewScope]) -> Result<usize, LedgerError> {
        unreachable!("the API adds no scopes")
    }

    fn set_metrics(&self, _: &[MetricId]) -> Result<(), LedgerError> {
        unreachable!("the API sets no metrics")
    }

    fn cursors(&self) -> Result<Cursors, LedgerError> {
        unreachable!("the API moves no cursors")
    }

    fn commit(&self, _: Vec<RatedSlice>) -> Result<Vec<CommitOutcome>, LedgerError> {
        unreachable!("the API commits nothing")
    }

    fn note_failure(&self, _: &Failure) -> Result<(), LedgerError> {
        unreachable!("the API notes no failures")
    }

    fn completeness(&self, _: &CompletenessQuery) -> Result<Vec<Completeness>, LedgerError> {
        unreachable!("the API does not show completeness")
    }

    fn kv_get(&self, _: &str, _: u64, _: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        unreachable!("rules are the modules' own")
    }

    fn kv_scan(&self, _: &str, _: u64, _: &str) -> Result<(u64, KvPairs), LedgerError> {
        unreachable!("rules are the modules' own")
    }

    fn kv_apply(&self, _: &str, _: &KvEdit) -> Result<u64, LedgerError> {
        unreachable!("rules are the modules' own")
    }

    fn change_scope(&self, _: &ScopeId, _: &ScopeChange) -> Result<Option<Scope>, LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn reset(&self, _: &Reset) -> Result<ResetOutcome, LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn push(&self, _: Push) -> Result<PushOutcome, LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn reprocessings(&self) -> Result<Vec<Reprocessing>, LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn add_reprocessing(&self, _: &NewReprocessing) -> Result<u64, LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn stage_reprocessed(&self, _: u64, _: Vec<RatedSlice>) -> Result<(), LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn open_reprocessings(&self) -> Result<OpenReprocessings, LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn advance_reprocessing(
        &self,
        _: u64,
        _: DateTime<Utc>,
        _: &[ScopeId],
    ) -> Result<Option<u64>, LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn finish_reprocessing(&self, _: u64) -> Result<(), LedgerError> {
        unreachable!("tests of this use the real ledger")
    }

    fn visit_rows(
        &self,
        query: &RowsQuery,
        visit: &mut dyn FnMut(RowsGroup) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        for group in self.rows(query)?.groups {
            if visit(group).is_break() {
                break;
            }
        }
        Ok(())
    }
}
