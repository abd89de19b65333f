//! Calls on threads, the instance they are made on, and its raters.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use rated_plugin::raw::RawCall;
use rated_plugin::{Error, Result};

use super::borrowed::{Borrowed, Link, in_call};
use crate::config::LibraryConfig;
use crate::plugin::batches::Trust;
use crate::plugin::call::CallState;
use crate::plugin::collector::COLLECT_ROWS_MAX;
use crate::plugin::direct::Direct;
use crate::plugin::host_api::Context;
use crate::plugin::instance::{Frame, Handle};
use crate::plugin::library::{Kind, Library};
use crate::plugin::load;
use crate::plugin::process::message::{self, Call, Head, Load};
use crate::plugin::process::report::Report;
use crate::plugin::process::wire::{Reader, Writer};
use crate::plugin::process::{columns, describe};

type Batches = (arrow_schema::SchemaRef, Vec<arrow_array::RecordBatch>);

pub(super) struct Work(Arc<Shared>);

struct Shared {
    link: Arc<Link>,
    load: Load,
    state: Mutex<State>,
    /// A job came.
    came: Condvar,
    /// A job ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    busy: usize,
    calls: BTreeMap<u64, Arc<CallState>>,
    instance: Option<Direct>,
    raters: BTreeMap<u64, Arc<HeldRater>>,
}

enum Job {
    Call(Head, Box<Call>),
    /// Ending a rater may take its time.
    End(Arc<HeldRater>),
}

/// Ended with the last call on it.
struct HeldRater {
    instance: Direct,
    handle: Handle,
}

impl Drop for HeldRater {
    fn drop(&mut self) {
        self.instance.release_rater(self.handle);
    }
}

impl Work {
    pub(super) fn new(link: Arc<Link>, load: Load) -> Work {
        let state = Mutex::default();
        let (came, ended) = (Condvar::new(), Condvar::new());
        Work(Arc::new(Shared { link, load, state, came, ended }))
    }

    pub(super) fn begin(&self, head: Head, call: Box<Call>) {
        let state = Arc::new(CallState::numbered(head.number));
        self.0.lock().calls.insert(head.number, state);
        self.add(Job::Call(head, call));
    }

    pub(super) fn cancel(&self, call: u64) {
        let state = self.0.lock().calls.get(&call).cloned();
        if let Some(state) = state {
            state.cancel();
        }
    }

    pub(super) fn release(&self, rater: u64) {
        let held = self.0.lock().raters.remove(&rater);
        if let Some(held) = held {
            self.add(Job::End(held));
        }
    }

    /// Ends what was made, after the calls under way: they are cancelled.
    pub(super) fn end(&self) {
        let mut state = self.0.lock();
        state.calls.values().for_each(|call| call.cancel());
        while state.busy > 0 || !state.jobs.is_empty() {
            state = self.0.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let raters = std::mem::take(&mut state.raters);
        let instance = state.instance.take();
        drop(state);
        drop(raters);
        if let Some(instance) = instance {
            instance.destroy();
        }
    }

    /// A thread that has nothing to do takes it, or a new one: the daemon bounds the calls.
    fn add(&self, job: Job) {
        let mut state = self.0.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            self.0.came.notify_one();
            return;
        }
        drop(state);
        let shared = self.0.clone();
        let thread = std::thread::Builder::new().name("call".to_owned());
        // Without another thread the job waits for one of those there are.
        let _ = thread.spawn(move || shared.work());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of the code in here is a mistake of ours, and leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            while let Some(job) = state.jobs.pop_front() {
                state.busy += 1;
                drop(state);
                match job {
                    Job::Call(head, call) => self.call(&head, *call),
                    Job::End(rater) => {
                        // As above; there is nobody to be told.
                        let _ = catch_unwind(AssertUnwindSafe(|| drop(rater)));
                    }
                }
                state = self.lock();
                state.busy -= 1;
                self.ended.notify_all();
            }
            state.idle += 1;
            state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn call(&self, head: &Head, call: Call) {
        let call_state = self.lock().calls.get(&head.number).cloned();
        let Some(call_state) = call_state else { return };
        let raw = RawCall {
            struct_size: size_of::<RawCall>(),
            deadline_ns: head.deadline_ns,
            trace_id: head.trace_id,
            span_id: head.span_id,
            cancel: call_state.as_raw(),
        };
        let frame = Frame { raw: &raw, state: &call_state };
        // The plugin's own panics do not get here; one of ours must not leave the daemon waiting.
        let serve = AssertUnwindSafe(|| self.serve(head.number, &frame, call));
        let report = in_call(head.number, || catch_unwind(serve)).unwrap_or_else(|_| {
            Err(Error::internal("the process of the plugin panicked itself; its output says where"))
        });
        self.lock().calls.remove(&head.number);
        match report.or_else(|error| Report::outcome(head.number, &Err(error), |_| {})) {
            Ok(report) => self.link.send(&report),
            // An error is a short text.
            Err(_) => std::process::abort(),
        }
    }

    /// Does it and says how it ended.
    fn serve(&self, number: u64, frame: &Frame<'_>, call: Call) -> Result<Vec<u8>> {
        let done = |_: &mut Writer| {};
        match call {
            Call::Describe => {
                let library = self.library()?;
                Report::outcome(number, &Ok(()), |writer| describe::put(writer, &library.info))
            }
            Call::Create { kind, name, config_json } => {
                self.create(kind, &name, &config_json)?;
                Report::outcome(number, &Ok(()), done)
            }
            Call::Check => {
                self.instance()?.check(frame)?;
                Report::outcome(number, &Ok(()), done)
            }
            Call::Collect(request) => {
                self.send_batches(number, self.instance()?.collect(frame, &request)?)?;
                Report::outcome(number, &Ok(()), done)
            }
            Call::Scopes => {
                self.send_batches(number, self.instance()?.scopes(frame)?)?;
                Report::outcome(number, &Ok(()), done)
            }
            Call::Prepare { rater, as_of } => {
                let instance = self.instance()?;
                let handle = instance.prepare(frame, as_of)?;
                let held = Arc::new(HeldRater { instance, handle });
                self.lock().raters.insert(rater, held);
                Report::outcome(number, &Ok(()), done)
            }
            Call::Rate { rater, request, usage } => {
                let (held, usage) = (self.rater(rater)?, rows_of(usage)?);
                let prices = held.instance.rate(held.handle, frame, &request, usage)?;
                self.send_batches(number, (prices.schema(), vec![prices]))?;
                Report::outcome(number, &Ok(()), done)
            }
            Call::Explain { rater, request, first_row, rows, usage } => {
                let (held, usage) = (self.rater(rater)?, rows_of(usage)?);
                let rows = range(first_row, rows, usage.num_rows())?;
                let json = held.instance.explain(held.handle, frame, &request, (usage, rows))?;
                let put = |writer: &mut Writer| message::put_reasons(writer, json.as_deref());
                Report::outcome(number, &Ok(()), put)
            }
            Call::Handle(request) => {
                let response = self.instance()?.handle(frame, &request)?;
                Report::outcome(number, &Ok(()), |writer| message::put_response(writer, &response))
            }
        }
    }

    fn rater(&self, number: u64) -> Result<Arc<HeldRater>> {
        let held = self.lock().raters.get(&number).cloned();
        held.ok_or_else(|| Error::internal("there is no such rater"))
    }

    fn send_batches(&self, number: u64, (schema, batches): Batches) -> Result<()> {
        let put = |batch| {
            let put = |writer: &mut Writer| columns::put(writer, &schema, batch);
            Report::columns(number, put).map(|report| self.link.send(&report))
        };
        if batches.is_empty() {
            return put(None);
        }
        batches.iter().try_for_each(|batch| put(Some(batch)))
    }

    fn library(&self) -> Result<Library> {
        let config = LibraryConfig { trusted: self.load.trusted, ..LibraryConfig::default() };
        load::open_copy(Path::new(&self.load.library), &config)
            .map_err(|reason| Error::invalid_config(reason.to_string()))
    }

    fn create(&self, kind: Kind, name: &str, config_json: &[u8]) -> Result<()> {
        let library = self.library()?;
        let wanted = library
            .components
            .iter()
            .find(|component| component.info.kind == kind && component.info.name == name);
        let vtable = wanted.and_then(|component| component.vtable);
        let vtable = vtable.ok_or_else(|| {
            Error::internal(format!("the library has no {kind} `{name}` any more"))
        })?;
        let context = Context::new(Borrowed(self.link.clone()));
        load::start_in(&library, context)
            .map_err(|error| Error::invalid_config(error.reason.to_string()))?;
        let trust = if self.load.trusted { Trust::Values } else { Trust::None };
        let instance = Direct::create(vtable, trust, context, config_json)?;
        self.lock().instance = Some(instance);
        Ok(())
    }

    fn instance(&self) -> Result<Direct> {
        self.lock().instance.ok_or_else(|| Error::internal("there is no instance"))
    }
}

fn rows_of(usage: Reader) -> Result<RecordBatch> {
    let (_, usage) = columns::take(usage, COLLECT_ROWS_MAX)?;
    usage.ok_or_else(|| Error::internal("there is nothing to rate"))
}

fn range(first: u64, count: u64, rows: usize) -> Result<Range<usize>> {
    let first = usize::try_from(first).ok().filter(|first| *first <= rows);
    let range = first.and_then(|first| {
        let end = first.checked_add(usize::try_from(count).ok()?).filter(|end| *end <= rows)?;
        Some(first..end)
    });
    range.ok_or_else(|| Error::internal("there are no such rows"))
}
