//! The plugin host, as the cycle sees it.

use arrow_array::RecordBatch;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rated_plugin::{CollectRequest, Error, Status};

use super::sources::Sources;
use crate::plugin::PluginHost;
use crate::rating::CallFailure;

impl Sources for PluginHost {
    fn generation(&self) -> u64 {
        PluginHost::generation(self).number()
    }

    fn collectors(&self) -> Vec<String> {
        let generation = PluginHost::generation(self);
        generation.collectors().map(|collector| collector.name().to_owned()).collect()
    }

    fn collect(
        &self,
        collector: &str,
        request: CollectRequest,
    ) -> BoxFuture<'static, Result<Vec<RecordBatch>, CallFailure>> {
        match PluginHost::generation(self).collector(collector).cloned() {
            None => missing("collector", collector),
            Some(collector) => async move { Ok(collector.collect(request).await?) }.boxed(),
        }
    }

    fn scopes(&self, fetcher: &str) -> BoxFuture<'static, Result<Vec<String>, CallFailure>> {
        match PluginHost::generation(self).fetcher(fetcher).cloned() {
            None => missing("fetcher", fetcher),
            Some(fetcher) => async move { Ok(fetcher.scopes().await?) }.boxed(),
        }
    }
}

/// It may have been refused at the start, or vanished in a reload.
fn missing<T: Send + 'static>(
    kind: &str,
    name: &str,
) -> BoxFuture<'static, Result<T, CallFailure>> {
    let message = format!("there is no {kind} `{name}`");
    let error = Error::new(Status::Unsupported, message);
    std::future::ready(Err(CallFailure { error, stopped: true })).boxed()
}
