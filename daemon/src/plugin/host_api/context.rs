//! What a host reference points to.

use std::fmt;
use std::sync::{Arc, Weak};

use rated_plugin::raw::HostRef;
use rated_plugin::{Edit, Error, KvPairs, Result};

use super::http::Clients;
use super::{at_level, http, kv, level_of};
use crate::plugin::call::CallState;
use crate::plugin::config::HostServices;
use crate::plugin::pool::Pool;

/// Target of everything that plugins log; the instance is a field.
const LOG_TARGET: &str = "rated::plugin::said";

/// What the daemon lends, and what the host needs itself; one for a plugin host.
pub(in crate::plugin) struct Services {
    pub(in crate::plugin) lent: HostServices,
    pub(in crate::plugin) pool: Pool,
    pub(super) clients: Clients,
}

impl Services {
    pub(in crate::plugin) fn new(lent: HostServices, pool: Pool) -> Services {
        Services { lent, pool, clients: Clients::default() }
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

/// A request that a plugin wants to be sent, as it gave it.
#[derive(Debug, Clone, Copy)]
pub(in crate::plugin) struct HttpParts<'a> {
    pub(in crate::plugin) method: u32,
    pub(in crate::plugin) url: &'a str,
    /// JSON.
    pub(in crate::plugin) headers: &'a [u8],
    pub(in crate::plugin) body: &'a [u8],
    /// JSON.
    pub(in crate::plugin) options: &'a [u8],
}

/// The answer to it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::plugin) struct HttpAnswer {
    pub(in crate::plugin) status: u16,
    /// JSON.
    pub(in crate::plugin) headers: Vec<u8>,
    pub(in crate::plugin) body: Vec<u8>,
}

/// Who does what a plugin asks of its host: the daemon, or a process that passes it on to it.
///
/// Called from any thread at any time.
pub(in crate::plugin) trait Lender: fmt::Debug + Send + Sync {
    fn is_logged(&self, level: u32) -> bool;
    fn log(&self, level: u32, place: &str, said: &str);
    /// Nanoseconds since the epoch; 0 when nobody knows.
    fn now_ns(&self) -> i64;
    fn kv_get(&self, revision: u64, key: &str) -> Result<Vec<u8>>;
    fn kv_scan(&self, revision: u64, prefix: &str) -> Result<(u64, KvPairs)>;
    fn kv_apply(&self, revision: u64, edits: Vec<Edit>) -> Result<u64>;
    fn count(&self, metric: &str, by: u64);
    fn observe(&self, metric: &str, value: f64);
    fn http(&self, call: Option<&CallState>, request: &HttpParts<'_>) -> Result<HttpAnswer>;
}

/// Names an instance, or a library, to the services.
///
/// Never freed: a plugin's thread that should have ended with its instance may still use it.
#[derive(Debug)]
pub(in crate::plugin) struct Context(Box<dyn Lender>);

impl Context {
    pub(in crate::plugin) fn new(lender: impl Lender + 'static) -> &'static Context {
        Box::leak(Box::new(Context(Box::new(lender))))
    }

    pub(in crate::plugin) fn for_instance(
        label: Arc<str>,
        services: &Arc<Services>,
    ) -> &'static Context {
        Context::new(Daemon::for_instance(label, services))
    }

    /// Can log and nothing else.
    pub(in crate::plugin) fn for_library(name: &str) -> &'static Context {
        Context::new(Daemon { label: name.into(), services: Weak::new() })
    }

    pub(in crate::plugin) fn reference(&'static self) -> HostRef {
        std::ptr::from_ref(self).cast()
    }

    /// # Safety
    ///
    /// `reference` is null or from [`Context::reference`].
    pub(super) unsafe fn of<'a>(reference: HostRef) -> Option<&'a dyn Lender> {
        // SAFETY: the caller's promise; contexts live for ever.
        unsafe { reference.cast::<Context>().as_ref() }.map(|context| &*context.0)
    }
}

/// The daemon's own services, in the name of an instance.
///
/// It does not keep the services themselves alive, so the ledger is closed when the daemon is done
/// with it.
#[derive(Debug)]
pub(in crate::plugin) struct Daemon {
    label: Arc<str>,
    /// Of a library: none.
    services: Weak<Services>,
}

impl Daemon {
    pub(in crate::plugin) fn for_instance(label: Arc<str>, services: &Arc<Services>) -> Daemon {
        Daemon { label, services: Arc::downgrade(services) }
    }

    fn services(&self) -> Result<Arc<Services>> {
        self.services.upgrade().ok_or_else(|| {
            Error::unavailable("this service is for instances of a running daemon only")
        })
    }
}

impl Lender for Daemon {
    fn is_logged(&self, level: u32) -> bool {
        at_level!(level, enabled, LOG_TARGET,)
    }

    fn log(&self, level: u32, place: &str, said: &str) {
        let instance = &*self.label;
        at_level!(level, event, LOG_TARGET, instance, place, "{said}");
    }

    fn now_ns(&self) -> i64 {
        let now = self.services.upgrade().map(|services| services.lent.clock.now());
        now.and_then(|now| now.timestamp_nanos_opt()).unwrap_or_default()
    }

    fn kv_get(&self, revision: u64, key: &str) -> Result<Vec<u8>> {
        kv::get(self.services()?.as_ref(), &self.label, revision, key)
    }

    fn kv_scan(&self, revision: u64, prefix: &str) -> Result<(u64, KvPairs)> {
        kv::scan(self.services()?.as_ref(), &self.label, revision, prefix)
    }

    fn kv_apply(&self, revision: u64, edits: Vec<Edit>) -> Result<u64> {
        kv::apply(self.services()?.as_ref(), &self.label, revision, edits)
    }

    fn count(&self, metric: &str, by: u64) {
        if let Some(services) = self.services.upgrade() {
            services.lent.metrics.plugin_count(&self.label, metric, by);
        }
    }

    fn observe(&self, metric: &str, value: f64) {
        if let Some(services) = self.services.upgrade() {
            services.lent.metrics.plugin_observe(&self.label, metric, value);
        }
    }

    fn http(&self, call: Option<&CallState>, request: &HttpParts<'_>) -> Result<HttpAnswer> {
        let outgoing = http::read(request)?;
        let answer = http::send(self.services()?.as_ref(), call, outgoing)?;
        let headers = serde_json::to_vec(&answer.headers).expect("texts are JSON");
        Ok(HttpAnswer { status: answer.status, headers, body: answer.body })
    }
}
