//! A running collector.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use rated_plugin::CollectRequest;

use super::error::CallError;
use super::slot::Slot;
use super::validate;
use crate::metrics::PluginCall;

/// Most rows of one answer: of one metric, period and slice.
pub const COLLECT_ROWS_MAX: usize = 20_000_000;

/// A running collector instance. Cheap to clone.
#[derive(Clone)]
pub struct Collector {
    slot: Arc<Slot>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Collector").field(&self.name()).finish()
    }
}

impl Collector {
    pub(super) fn new(slot: Arc<Slot>) -> Collector {
        Collector { slot }
    }

    pub fn name(&self) -> &str {
        self.slot.name()
    }

    /// One sentence of the component.
    pub fn summary(&self) -> &str {
        &self.slot.component().info.summary
    }

    /// Why it takes no calls any more, if so.
    pub fn disabled(&self) -> Option<String> {
        self.slot.disabled()
    }

    /// Batches checked against `usage/1`, the metric's attributes and the scopes asked for: the
    /// columns `scope_id`, `qty`, then the metric's groupby and metadata attributes in its order.
    /// None of them is empty.
    pub async fn collect(&self, request: CollectRequest) -> Result<Vec<RecordBatch>, CallError> {
        self.slot
            .call_twice(PluginCall::Collect, move |live, frame| {
                let (schema, batches) = live.engine().collect(frame, &request)?;
                validate::usage(&schema, &batches, &request)
            })
            .await
    }
}
