//! A running collector.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use chrono::{DateTime, Utc};
use rated_plugin::raw::{Bytes, RawCollect};
use rated_plugin::{CollectRequest, Error, Result};

use super::batches::Source;
use super::error::CallError;
use super::ffi::{ErrorSlot, lend};
use super::instance::{Frame, Live, On, Slot};
use super::library::VTable;
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
        let slot = self.slot.clone();
        self.slot
            .call(PluginCall::Collect, On::Current, move |live, frame| {
                collect(&slot, live, frame, &request)
            })
            .await
    }
}

fn collect(
    slot: &Slot,
    live: &Live<'_>,
    frame: &Frame<'_>,
    request: &CollectRequest,
) -> Result<Vec<RecordBatch>> {
    let VTable::Collector(table) = slot.component().vtable else {
        return Err(Error::internal("not a collector"));
    };
    let metric =
        serde_json::to_vec(&request.metric).map_err(|error| Error::internal(error.to_string()))?;
    let scopes: Vec<Bytes> = request.scopes.iter().map(|id| lend(id.as_bytes())).collect();
    let raw = RawCollect {
        struct_size: size_of::<RawCollect>(),
        metric: lend(&metric),
        scope_key: lend(request.scope_key.as_bytes()),
        scopes: scopes.as_ptr(),
        scopes_len: scopes.len(),
        begin_ns: nanoseconds(request.begin)?,
        end_ns: nanoseconds(request.end)?,
    };
    let (mut source, mut error) = (Source::empty(), ErrorSlot::new());
    let handle = live.instance.handle.0.cast_const();
    // SAFETY: a checked table's function on its own instance; all pointers outlive the call.
    let status = unsafe {
        (table.collect)(handle, frame.raw, &raw const raw, source.as_mut_ptr(), error.as_mut_ptr())
    };
    error.outcome(status)?;
    // SAFETY: the plugin said OK, so it filled the source.
    let (schema, batches) = unsafe { source.pull(frame, COLLECT_ROWS_MAX, slot.trust())? };
    validate::usage(&schema, &batches, request)
}

pub(super) fn nanoseconds(instant: DateTime<Utc>) -> Result<i64> {
    instant
        .timestamp_nanos_opt()
        .ok_or_else(|| Error::invalid_request(format!("{instant} is out of a plugin's reach")))
}
