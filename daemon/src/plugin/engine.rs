//! Where an instance's code runs: here, or in a process of its own. Both give the same answers.
//!
//! What comes back has a sound form; whether it is what was asked for is checked by whoever asked.

use std::ops::Range;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use rated_plugin::{AsOf, CollectRequest, Error, RateRequest, Request, Response, Result};

use super::call::CallState;
use super::direct::Direct;
use super::health::Blame;
use super::instance::{Frame, Handle};
use super::process::Process;

#[derive(Debug)]
pub(super) enum Engine {
    Thread(Direct),
    Process(Process),
}

/// A rater of an engine.
#[derive(Debug, Clone, Copy)]
pub(super) enum RaterRef {
    Thread(Handle),
    /// As it is called in the process.
    Process(u64),
}

impl Engine {
    pub(super) fn check(&self, frame: &Frame<'_>) -> Result<()> {
        match self {
            Engine::Thread(direct) => direct.check(frame),
            Engine::Process(process) => process.check(frame),
        }
    }

    pub(super) fn collect(
        &self,
        frame: &Frame<'_>,
        request: &CollectRequest,
    ) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        match self {
            Engine::Thread(direct) => direct.collect(frame, request),
            Engine::Process(process) => process.collect(frame, request),
        }
    }

    pub(super) fn scopes(&self, frame: &Frame<'_>) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        match self {
            Engine::Thread(direct) => direct.scopes(frame),
            Engine::Process(process) => process.scopes(frame),
        }
    }

    pub(super) fn prepare(&self, frame: &Frame<'_>, as_of: AsOf) -> Result<RaterRef> {
        match self {
            Engine::Thread(direct) => direct.prepare(frame, as_of).map(RaterRef::Thread),
            Engine::Process(process) => process.prepare(frame, as_of).map(RaterRef::Process),
        }
    }

    pub(super) fn rate(
        &self,
        rater: RaterRef,
        frame: &Frame<'_>,
        request: &RateRequest,
        usage: RecordBatch,
    ) -> Result<RecordBatch> {
        match (self, rater) {
            (Engine::Thread(direct), RaterRef::Thread(rater)) => {
                direct.rate(rater, frame, request, usage)
            }
            (Engine::Process(process), RaterRef::Process(rater)) => {
                process.rate(rater, frame, request, &usage)
            }
            _ => Err(Error::internal("a rater of another kind of instance")),
        }
    }

    /// JSON, of any form; `None` = it gives no reasons.
    pub(super) fn explain(
        &self,
        rater: RaterRef,
        frame: &Frame<'_>,
        request: &RateRequest,
        of: (RecordBatch, Range<usize>),
    ) -> Result<Option<Vec<u8>>> {
        match (self, rater) {
            (Engine::Thread(direct), RaterRef::Thread(rater)) => {
                direct.explain(rater, frame, request, of)
            }
            (Engine::Process(process), RaterRef::Process(rater)) => {
                process.explain(rater, frame, request, &of)
            }
            _ => Err(Error::internal("a rater of another kind of instance")),
        }
    }

    pub(super) fn handle(&self, frame: &Frame<'_>, request: &Request) -> Result<Response> {
        match self {
            Engine::Thread(direct) => direct.handle(frame, request),
            Engine::Process(process) => process.handle(frame, request),
        }
    }

    /// Ends a rater, once.
    pub(super) fn release_rater(&self, rater: RaterRef, call: &CallState) {
        match (self, rater) {
            (Engine::Thread(direct), RaterRef::Thread(rater)) => direct.release_rater(rater),
            (Engine::Process(process), RaterRef::Process(rater)) => {
                process.release_rater(rater, call);
            }
            _ => {}
        }
    }

    /// Has its process ended by itself, or was it killed?
    pub(super) fn is_dead(&self) -> bool {
        match self {
            Engine::Thread(_) => false,
            Engine::Process(process) => process.is_dead(),
        }
    }

    /// Why.
    pub(super) fn death(&self) -> String {
        match self {
            Engine::Thread(_) => String::new(),
            Engine::Process(process) => process.death(),
        }
    }

    /// Is it known which call its process died of?
    pub(super) fn blame(&self) -> Blame {
        match self {
            Engine::Thread(_) => Blame::Certain,
            Engine::Process(process) => process.blame(),
        }
    }

    /// Ends the instance, once, when no call on it is under way and its raters have ended; waits.
    pub(super) fn end(&self, grace: Duration, call: &CallState) {
        match self {
            Engine::Thread(direct) => direct.destroy(),
            Engine::Process(process) => process.end(grace, call),
        }
    }

    /// After a panic: code in here stays as it is, a process is killed as soon as no call is under
    /// way in it.
    pub(super) fn retire(&self) {
        match self {
            Engine::Thread(_) => {}
            Engine::Process(process) => process.retire(),
        }
    }
}
