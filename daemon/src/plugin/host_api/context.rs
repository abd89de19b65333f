//! What a host reference points to.

use std::fmt;
use std::sync::{Arc, Weak};

use chrono::{DateTime, Utc};
use rated_plugin::raw::HostRef;
use rated_plugin::{Error, Result};

use super::http::Clients;
use crate::plugin::config::HostServices;
use crate::plugin::pool::Pool;

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

/// Names an instance, or a library, to the services.
///
/// Never freed: a plugin's thread that should have ended with its instance may still use it. It
/// does not keep the services themselves alive, so the ledger is closed when the daemon is done
/// with it.
#[derive(Debug)]
pub(in crate::plugin) struct Context {
    label: Arc<str>,
    /// Of a library: none.
    services: Weak<Services>,
}

impl Context {
    pub(in crate::plugin) fn for_instance(
        label: Arc<str>,
        services: &Arc<Services>,
    ) -> &'static Context {
        Box::leak(Box::new(Context { label, services: Arc::downgrade(services) }))
    }

    /// Can log and nothing else.
    pub(in crate::plugin) fn for_library(name: &str) -> &'static Context {
        Box::leak(Box::new(Context { label: name.into(), services: Weak::new() }))
    }

    pub(in crate::plugin) fn reference(&'static self) -> HostRef {
        std::ptr::from_ref(self).cast()
    }

    /// # Safety
    ///
    /// `reference` is null or from [`Context::reference`].
    pub(super) unsafe fn of<'a>(reference: HostRef) -> Option<&'a Context> {
        // SAFETY: the caller's promise; contexts live for ever.
        unsafe { reference.cast::<Context>().as_ref() }
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn services(&self) -> Result<Arc<Services>> {
        self.services.upgrade().ok_or_else(|| {
            Error::unavailable("this service is for instances of a running daemon only")
        })
    }

    pub(super) fn now(&self) -> Option<DateTime<Utc>> {
        self.services.upgrade().map(|services| services.lent.clock.now())
    }

    pub(super) fn count(&self, metric: &str, by: u64) {
        if let Some(services) = self.services.upgrade() {
            services.lent.metrics.plugin_count(&self.label, metric, by);
        }
    }

    pub(super) fn observe(&self, metric: &str, value: f64) {
        if let Some(services) = self.services.upgrade() {
            services.lent.metrics.plugin_observe(&self.label, metric, value);
        }
    }
}
