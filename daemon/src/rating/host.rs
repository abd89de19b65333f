//! The plugin host, as rating sees it.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rated_plugin::{AsOf, Explanation, RateRequest};

use super::{CallFailure, ModuleSet, Modules, Rater, RatingModule};
use crate::plugin;

impl Modules for plugin::PluginHost {
    fn modules(&self) -> ModuleSet {
        set_of(self, plugin::Module::clone)
    }

    fn modules_for_replay(&self) -> ModuleSet {
        set_of(self, plugin::Module::for_replay)
    }

    fn kept_module(&self, name: &str, library_sha256: &str) -> Option<Arc<dyn RatingModule>> {
        let module = self.kept_module(name, library_sha256)?;
        Some(Arc::new(module))
    }
}

fn set_of(host: &plugin::PluginHost, of: fn(&plugin::Module) -> plugin::Module) -> ModuleSet {
    let generation = host.generation();
    let module = |module: &plugin::Module| -> Arc<dyn RatingModule> { Arc::new(of(module)) };
    ModuleSet {
        generation: generation.number(),
        modules: generation.modules().map(module).collect(),
    }
}

impl RatingModule for plugin::Module {
    fn name(&self) -> &str {
        self.name()
    }

    fn summary(&self) -> &str {
        self.summary()
    }

    fn is_hot_config(&self) -> bool {
        self.is_hot_config()
    }

    fn is_always_on(&self) -> bool {
        self.is_always_on()
    }

    fn library_sha256(&self) -> &str {
        self.library_sha256()
    }

    fn config_sha256(&self) -> &str {
        self.config_sha256()
    }

    fn prepare(&self, as_of: AsOf) -> BoxFuture<'_, Result<Arc<dyn Rater>, CallFailure>> {
        let prepare = async move {
            let rater: Arc<dyn Rater> = Arc::new(self.prepare(as_of).await?);
            Ok(rater)
        };
        prepare.boxed()
    }
}

impl Rater for plugin::Rater {
    fn rate(
        &self,
        request: RateRequest,
        usage: RecordBatch,
    ) -> BoxFuture<'_, Result<RecordBatch, CallFailure>> {
        async move { Ok(self.rate(request, usage).await?) }.boxed()
    }

    fn explain(
        &self,
        request: RateRequest,
        usage: RecordBatch,
        rows: Range<usize>,
    ) -> BoxFuture<'_, Result<Option<Explanation>, CallFailure>> {
        async move { Ok(self.explain(request, usage, rows).await?) }.boxed()
    }
}

impl From<plugin::CallError> for CallFailure {
    fn from(failed: plugin::CallError) -> CallFailure {
        CallFailure { error: failed.error, stopped: failed.stopped }
    }
}
