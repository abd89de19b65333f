use std::fmt;

use arrow_array::RecordBatch;
use futures_util::future::BoxFuture;
use rated_plugin::CollectRequest;

use crate::rating::CallFailure;

/// What the cycle asks of collectors and fetchers. The plugin host answers it; tests answer it
/// themselves.
///
/// Called from any number of tasks at once. A call whose future is dropped is cancelled.
pub trait Sources: fmt::Debug + Send + Sync + 'static {
    /// Another number = other libraries or other instances.
    fn generation(&self) -> u64;

    /// Names of the collectors there are.
    fn collectors(&self) -> Vec<String>;

    /// Batches of schema `usage/1`, checked.
    fn collect(
        &self,
        collector: &str,
        request: CollectRequest,
    ) -> BoxFuture<'static, Result<Vec<RecordBatch>, CallFailure>>;

    /// The scopes a fetcher finds, as it spells them.
    fn scopes(&self, fetcher: &str) -> BoxFuture<'static, Result<Vec<String>, CallFailure>>;
}
