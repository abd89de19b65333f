//! A host in memory.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Duration, Utc};

use crate::host::KvPairs;
use crate::{Edit, Error, HttpRequest, HttpResponse, Level, Result, Status};

/// A host in memory: a key-value store with revisions, a clock to set, scripted HTTP answers; it
/// keeps what was logged, counted and sent. Clones are the same host. Every instance of a test gets
/// its own host, as its own keys.
///
/// ```
/// use rated_plugin::testing::FakeHost;
///
/// let host = FakeHost::new();
/// host.put("rules/1", b"half price");
/// assert_eq!(host.revision(), 1);
/// assert_eq!(host.keys().len(), 1);
/// ```
#[derive(Clone)]
pub struct FakeHost {
    shared: Arc<Shared>,
}

/// A message that an instance logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// How much it matters.
    pub level: Level,
    /// The component's name.
    pub target: String,
    /// The text.
    pub message: String,
}

/// What the table's functions get at through the reference.
pub(crate) struct Shared {
    now_ns: AtomicI64,
    state: Mutex<State>,
    pub(crate) cancellation: Cancellation,
}

/// What `RawCall::cancel` points at.
#[derive(Default)]
pub(crate) struct Cancellation {
    cancelled: AtomicBool,
    /// Questions left until the answer becomes yes, plus one; 0 = never.
    countdown: AtomicU64,
    asked: AtomicU64,
}

type Answer = Box<dyn FnMut(&HttpRequest) -> Result<HttpResponse> + Send>;

#[derive(Default)]
struct State {
    logged: Vec<Logged>,
    /// Each edit with the revision that made it, oldest first.
    edits: Vec<(u64, Edit)>,
    revision: u64,
    counters: BTreeMap<String, u64>,
    observed: BTreeMap<String, Vec<f64>>,
    requests: Vec<HttpRequest>,
    answers: VecDeque<Result<HttpResponse>>,
    answer: Option<Answer>,
}

/// 2026-01-01T00:00:00Z.
const START_NS: i64 = 1_767_225_600 * 1_000_000_000;

impl FakeHost {
    /// At 2026-01-01T00:00:00Z, without keys; every HTTP request is answered by `Unavailable`.
    pub fn new() -> FakeHost {
        FakeHost {
            shared: Arc::new(Shared {
                now_ns: AtomicI64::new(START_NS),
                state: Mutex::default(),
                cancellation: Cancellation::default(),
            }),
        }
    }

    /// Sets the clock.
    pub fn set_now(&self, now: DateTime<Utc>) {
        let ns = now.timestamp_nanos_opt().expect("a time between 1677 and 2262");
        self.shared.now_ns.store(ns, Ordering::SeqCst);
    }

    /// Moves the clock.
    pub fn advance(&self, by: Duration) {
        self.set_now(self.now() + by);
    }

    /// What the clock says.
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_nanos(self.shared.now_ns())
    }

    /// From now on every call is cancelled.
    pub fn cancel(&self) {
        self.shared.cancellation.cancelled.store(true, Ordering::SeqCst);
    }

    /// Calls are cancelled once an instance has asked `times` times and heard no: 0 = at the first
    /// question.
    pub fn cancel_after(&self, times: u64) {
        self.shared.cancellation.countdown.store(times + 1, Ordering::SeqCst);
    }

    /// How often instances have asked whether they are cancelled.
    pub fn cancellation_questions(&self) -> u64 {
        self.shared.cancellation.asked.load(Ordering::SeqCst)
    }

    /// What was logged so far, oldest first.
    pub fn logged(&self) -> Vec<Logged> {
        self.shared.state().logged.clone()
    }

    /// Answers the next HTTP request; several are used in order.
    pub fn answer(&self, answer: Result<HttpResponse>) {
        self.shared.state().answers.push_back(answer);
    }

    /// Answers the next HTTP request with a status and a body.
    pub fn answer_body(&self, status: u16, body: impl Into<Vec<u8>>) {
        self.answer(Ok(HttpResponse { status, headers: BTreeMap::new(), body: body.into() }));
    }

    /// Answers every HTTP request for which no answer is queued.
    pub fn answer_with(
        &self,
        answer: impl FnMut(&HttpRequest) -> Result<HttpResponse> + Send + 'static,
    ) {
        self.shared.state().answer = Some(Box::new(answer));
    }

    /// The HTTP requests so far, oldest first.
    pub fn requests(&self) -> Vec<HttpRequest> {
        self.shared.state().requests.clone()
    }

    /// What a counter stands at.
    pub fn counter(&self, metric: &str) -> u64 {
        self.shared.state().counters.get(metric).copied().unwrap_or(0)
    }

    /// The values added to a histogram, oldest first.
    pub fn observations(&self, metric: &str) -> Vec<f64> {
        self.shared.state().observed.get(metric).cloned().unwrap_or_default()
    }

    /// Sets a key, as the revision after the newest.
    pub fn put(&self, key: &str, value: &[u8]) {
        let edit = Edit { key: key.to_owned(), value: Some(value.to_vec()) };
        let revision = self.revision();
        self.shared.kv_apply(revision, vec![edit]).expect("at the newest revision");
    }

    /// The newest revision of the keys; 0 = nothing was ever written.
    pub fn revision(&self) -> u64 {
        self.shared.state().revision
    }

    /// All keys, as they are now.
    pub fn keys(&self) -> BTreeMap<String, Vec<u8>> {
        self.shared.kv_scan(u64::MAX, "").1.into_iter().collect()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Default for FakeHost {
    fn default() -> FakeHost {
        FakeHost::new()
    }
}

impl fmt::Debug for FakeHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeHost")
            .field("now", &self.now())
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

impl Cancellation {
    pub(crate) fn ask(&self) -> bool {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let left = self.countdown.load(Ordering::SeqCst);
        if left == 1 {
            self.cancelled.store(true, Ordering::SeqCst);
        } else if left > 1 {
            self.countdown.store(left - 1, Ordering::SeqCst);
        }
        self.is_cancelled()
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

/// What the host's table does.
impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now_ns(&self) -> i64 {
        self.now_ns.load(Ordering::SeqCst)
    }

    pub(crate) fn log(&self, level: Level, target: &str, message: &str) {
        let (target, message) = (target.to_owned(), message.to_owned());
        self.state().logged.push(Logged { level, target, message });
    }

    pub(crate) fn kv_get(&self, revision: u64, key: &str) -> Result<Vec<u8>> {
        let state = self.state();
        let newest = state.edits.iter().rfind(|(made, edit)| *made <= revision && edit.key == key);
        newest
            .and_then(|(_, edit)| edit.value.clone())
            .ok_or_else(|| Error::not_found(format!("no key `{key}`")))
    }

    pub(crate) fn kv_scan(&self, revision: u64, prefix: &str) -> (u64, KvPairs) {
        let state = self.state();
        let mut found = BTreeMap::new();
        let old = state.edits.iter().filter(|(made, _)| *made <= revision);
        for (_, edit) in old.filter(|(_, edit)| edit.key.starts_with(prefix)) {
            match &edit.value {
                Some(value) => found.insert(edit.key.clone(), value.clone()),
                None => found.remove(&edit.key),
            };
        }
        (state.revision.min(revision), found.into_iter().collect())
    }

    pub(crate) fn kv_apply(&self, revision: u64, edits: Vec<Edit>) -> Result<u64> {
        let mut state = self.state();
        if revision != state.revision {
            return Err(Error::conflict(format!(
                "the keys are at revision {}, not {revision}",
                state.revision
            )));
        }
        state.revision += 1;
        let made = state.revision;
        state.edits.extend(edits.into_iter().map(|edit| (made, edit)));
        Ok(made)
    }

    pub(crate) fn count(&self, metric: &str, by: u64) {
        *self.state().counters.entry(metric.to_owned()).or_default() += by;
    }

    pub(crate) fn observe(&self, metric: &str, value: f64) {
        self.state().observed.entry(metric.to_owned()).or_default().push(value);
    }

    pub(crate) fn http(&self, request: &HttpRequest) -> Result<HttpResponse> {
        let mut state = self.state();
        state.requests.push(request.clone());
        if self.cancellation.is_cancelled() {
            return Err(Error::new(Status::Cancelled, "cancelled"));
        }
        if let Some(answer) = state.answers.pop_front() {
            return answer;
        }
        // Out of its place, so that the answer may look at the host.
        let Some(mut answer) = state.answer.take() else {
            return Err(Error::unavailable(format!("nobody answers at `{}`", request.url)));
        };
        drop(state);
        let answered = answer(request);
        self.state().answer.get_or_insert(answer);
        answered
    }
}
