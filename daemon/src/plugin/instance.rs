//! What a plugin made from a configuration, here or in a process of its own, and how it ends.

use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rated_plugin::raw::RawCall;

use super::call::CallState;
use super::engine::{Engine, RaterRef};
use super::host_api::Services;
use super::library::Library;

/// What a plugin made from a configuration. The last reference ends it, unless it was abandoned.
pub(super) struct Instance {
    pub(super) engine: Arc<Engine>,
    abandoned: AtomicBool,
    /// The death of its process was counted.
    mourned: AtomicBool,
    services: Arc<Services>,
    /// Instances end before what they were loaded from.
    _library: Arc<Library>,
}

/// A plugin's own pointer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handle(pub(super) *mut c_void);

// SAFETY: the interface says that instances and raters may be used from any thread; serial ones are
// guarded by a semaphore with one permit.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// What a call gets on its thread.
pub(super) struct Frame<'a> {
    pub(super) raw: &'a RawCall,
    pub(super) state: &'a Arc<CallState>,
}

/// An instance that a call is made on.
pub(super) struct Live<'a> {
    pub(super) instance: &'a Arc<Instance>,
}

impl Live<'_> {
    pub(super) fn engine(&self) -> &Engine {
        &self.instance.engine
    }
}

impl Instance {
    pub(super) fn new(
        engine: Engine,
        services: &Arc<Services>,
        library: &Arc<Library>,
    ) -> Arc<Instance> {
        Arc::new(Instance {
            engine: Arc::new(engine),
            abandoned: AtomicBool::new(false),
            mourned: AtomicBool::new(false),
            services: services.clone(),
            _library: library.clone(),
        })
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Has its process died?
    pub(super) fn is_dead(&self) -> bool {
        self.engine.is_dead()
    }

    /// It is used for nothing new: nobody knows in which state it is. Calls under way go on; a
    /// process of its own ends with the last of them.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.engine.retire();
    }

    /// Are the rules that were made on it not to be used any more?
    pub(super) fn is_lost(&self) -> bool {
        self.is_abandoned() || self.is_dead()
    }

    /// `false`: its death was counted before, or is none.
    pub(super) fn mourn(&self) -> bool {
        !self.mourned.swap(true, Ordering::Relaxed) && !self.is_abandoned()
    }

    /// Ends a rater, later, on a thread of the pool: a plugin's destructor may take its time.
    pub(super) fn release_later(self: Arc<Self>, rater: RaterRef) {
        if self.is_abandoned() {
            return;
        }
        // The instance's last reference may go with this one, so it is kept until the rater has
        // ended.
        let services = self.services.clone();
        let end = move |call: &Arc<CallState>| self.engine.release_rater(rater, call);
        services.pool.submit(None, Arc::new(CallState::new()), end, |_| {});
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.is_abandoned() {
            return;
        }
        let (engine, services) = (self.engine.clone(), self.services.clone());
        // It may ask for something until it has ended.
        let end = move |call: &Arc<CallState>| engine.end(services.pool.grace(), call);
        self.services.pool.submit(None, Arc::new(CallState::new()), end, |_| {});
    }
}
