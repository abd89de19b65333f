//! A running fetcher.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use rated_plugin::Result;
use tracing::warn;

use super::error::CallError;
use super::instance::{Frame, Live};
use super::slot::Slot;
use super::validate;
use crate::metrics::PluginCall;
use crate::usage::ScopeId;

/// Most scopes of one answer.
pub const SCOPES_MAX: usize = 5_000_000;

/// A running fetcher instance. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher {
    slot: Arc<Slot>,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fetcher").field(&self.name()).finish()
    }
}

impl Fetcher {
    pub(super) fn new(slot: Arc<Slot>) -> Fetcher {
        Fetcher { slot }
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

    /// Each once, sorted, each accepted by [`ScopeId::new`]; others are left out and logged.
    pub async fn scopes(&self) -> Result<Vec<String>, CallError> {
        let slot = self.slot.clone();
        self.slot
            .call_twice(PluginCall::Scopes, move |live, frame| scopes(&slot, live, frame))
            .await
    }
}

fn scopes(slot: &Slot, live: &Live<'_>, frame: &Frame<'_>) -> Result<Vec<String>> {
    let (schema, batches) = live.engine().scopes(frame)?;
    let (mut found, mut unsound) = (BTreeSet::new(), 0_usize);
    for id in validate::scopes(&schema, &batches)? {
        if let Err(reason) = ScopeId::new(&id) {
            // One line for all of them: a source may hold many.
            if unsound == 0 {
                let id: String = id.chars().take(64).collect();
                warn!(fetcher = slot.name(), id, %reason, "A scope's id cannot be used.");
            }
            unsound += 1;
        } else {
            found.insert(id);
        }
    }
    if unsound > 1 {
        warn!(fetcher = slot.name(), unsound, "Scopes were left out because of their ids.");
    }
    Ok(found.into_iter().collect())
}
