//! What a host reference points to.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rated_plugin::raw::HostRef;
use rated_plugin::{Edit, Error, KvPairs, Level, Result, Status};

use super::http::Clients;
use super::room::{Room, Share};
use super::said::Said;
use super::{at_level, http, kv, level_of};
use crate::ledger::LedgerError;
use crate::plugin::call::CallState;
use crate::plugin::config::HostServices;
use crate::plugin::pool::Pool;

/// Target of everything that plugins log; the instance is a field.
const LOG_TARGET: &str = "rated::plugin::said";

/// What the daemon lends, and what the host needs itself; one for a plugin host.
pub(in crate::plugin) struct Services {
    pub(in crate::plugin) lent: HostServices,
    pub(in crate::plugin) pool: Pool,
    /// How long an instance that rates again is kept when nobody asks.
    pub(in crate::plugin) replay_idle: Duration,
    pub(super) clients: Clients,
    /// Why the last change of keys that found no room was refused.
    refused_for_room: Mutex<Option<LedgerError>>,
}

impl Services {
    pub(in crate::plugin) fn new(
        lent: HostServices,
        pool: Pool,
        replay_idle: Duration,
    ) -> Services {
        let (clients, refused_for_room) = (Clients::default(), Mutex::default());
        Services { lent, pool, replay_idle, clients, refused_for_room }
    }

    pub(super) fn note_refused_for_room(&self, error: LedgerError) {
        *self.lock_refused_for_room() = Some(error);
    }

    /// Whether a change of keys has found no room since this was asked last.
    pub(in crate::plugin) fn take_refused_for_room(&self) -> Option<LedgerError> {
        self.lock_refused_for_room().take()
    }

    fn lock_refused_for_room(&self) -> MutexGuard<'_, Option<LedgerError>> {
        self.refused_for_room.lock().unwrap_or_else(PoisonError::into_inner)
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
#[derive(Debug)]
pub(in crate::plugin) struct HttpAnswer {
    pub(in crate::plugin) status: u16,
    /// JSON.
    pub(in crate::plugin) headers: Vec<u8>,
    pub(in crate::plugin) body: Vec<u8>,
    /// What the body takes of what may be held.
    pub(in crate::plugin) _share: Option<Share>,
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

    /// Can log and nothing else.
    pub(in crate::plugin) fn for_library(name: &str) -> &'static Context {
        let (label, keys) = (name.into(), Keys::None);
        Context::new(Daemon::new(label, SERIES_OF_LIBRARIES.into(), keys, Weak::new()))
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

/// In metrics: libraries come and go, and their names are no closed set.
const SERIES_OF_LIBRARIES: &str = "library";

/// The daemon's own services, in the name of an instance.
///
/// It does not keep the services themselves alive, so the ledger is closed when the daemon is done
/// with it.
#[derive(Debug)]
pub(in crate::plugin) struct Daemon {
    /// In the log.
    label: Arc<str>,
    /// In metrics.
    series: Arc<str>,
    keys: Keys,
    /// Of a library: none.
    services: Weak<Services>,
    /// For the bodies of answers over HTTP until the plugin has them.
    fetched: Arc<Room>,
    said: Mutex<Said>,
}

/// Whose keys an instance sees.
#[derive(Debug)]
enum Keys {
    Own(Arc<str>),
    /// Those of the instance that rates.
    ReadOnly(Arc<str>),
    None,
}

impl Daemon {
    fn new(label: Arc<str>, series: Arc<str>, keys: Keys, services: Weak<Services>) -> Daemon {
        let (fetched, said) = (Room::new(u64::MAX), Mutex::default());
        Daemon { label, series, keys, services, fetched, said }
    }

    /// Of the name that its keys have.
    pub(in crate::plugin) fn for_instance(label: Arc<str>, services: &Arc<Services>) -> Daemon {
        let (series, keys) = (label.clone(), Keys::Own(label.clone()));
        Daemon::new(label, series, keys, Arc::downgrade(services))
    }

    /// For an instance that rates again what another one, whose keys these are, has rated.
    pub(in crate::plugin) fn for_replay(
        label: Arc<str>,
        keys: Arc<str>,
        services: &Arc<Services>,
    ) -> Daemon {
        Daemon::new(label.clone(), label, Keys::ReadOnly(keys), Arc::downgrade(services))
    }

    /// For a library that is only asked what it holds.
    pub(in crate::plugin) fn for_description(label: Arc<str>, services: &Arc<Services>) -> Daemon {
        let services = Arc::downgrade(services);
        Daemon::new(label, SERIES_OF_LIBRARIES.into(), Keys::None, services)
    }

    /// For a process that may take so many bytes: no more is held for it than it could take.
    pub(in crate::plugin) fn apart(self, memory_bytes: u64) -> Daemon {
        Daemon { fetched: Room::new(memory_bytes), ..self }
    }

    /// Its name in metrics.
    pub(in crate::plugin) fn series(&self) -> Arc<str> {
        self.series.clone()
    }

    fn readable_keys(&self) -> Result<&Arc<str>> {
        match &self.keys {
            Keys::Own(keys) | Keys::ReadOnly(keys) => Ok(keys),
            Keys::None => Err(Error::new(Status::Unsupported, "only an instance has keys")),
        }
    }

    fn own_keys(&self) -> Result<&Arc<str>> {
        match &self.keys {
            Keys::Own(keys) => Ok(keys),
            Keys::ReadOnly(_) => {
                let text = "an instance that rates again what was rated changes no keys";
                Err(Error::invalid_request(text))
            }
            Keys::None => self.readable_keys(),
        }
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
        if !self.is_logged(level) {
            return;
        }
        let instance = &*self.label;
        let mut so_far = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let (remark, is_logged) = so_far.more(Instant::now());
        drop(so_far);
        if let Some(remark) = remark {
            at_level!(Level::Warn as u32, event, LOG_TARGET, instance, place, "{remark}");
        }
        if is_logged {
            at_level!(level, event, LOG_TARGET, instance, place, "{said}");
        }
    }

    fn now_ns(&self) -> i64 {
        let now = self.services.upgrade().map(|services| services.lent.clock.now());
        now.and_then(|now| now.timestamp_nanos_opt()).unwrap_or_default()
    }

    fn kv_get(&self, revision: u64, key: &str) -> Result<Vec<u8>> {
        kv::get(self.services()?.as_ref(), self.readable_keys()?, revision, key)
    }

    fn kv_scan(&self, revision: u64, prefix: &str) -> Result<(u64, KvPairs)> {
        kv::scan(self.services()?.as_ref(), self.readable_keys()?, revision, prefix)
    }

    fn kv_apply(&self, revision: u64, edits: Vec<Edit>) -> Result<u64> {
        kv::apply(self.services()?.as_ref(), self.own_keys()?, revision, edits)
    }

    fn count(&self, metric: &str, by: u64) {
        if let Some(services) = self.services.upgrade() {
            services.lent.metrics.plugin_count(&self.series, metric, by);
        }
    }

    fn observe(&self, metric: &str, value: f64) {
        if let Some(services) = self.services.upgrade() {
            services.lent.metrics.plugin_observe(&self.series, metric, value);
        }
    }

    fn http(&self, call: Option<&CallState>, request: &HttpParts<'_>) -> Result<HttpAnswer> {
        let mut share = self.fetched.share();
        let outgoing = http::read(request)?;
        let answer = http::send(self.services()?.as_ref(), call, (outgoing, &mut share))?;
        let headers = serde_json::to_vec(&answer.headers).expect("texts are JSON");
        Ok(HttpAnswer { status: answer.status, headers, body: answer.body, _share: Some(share) })
    }
}
