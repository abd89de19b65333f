//! Batches given to the host, pulled by it one at a time.

use std::ffi::c_void;

use super::arrow::{export_rows, export_schema};
use super::component::{OK, call, null};
use super::guard::{guard, guard_quietly};
use super::host_calls::HostHandle;
use crate::raw::{FFI_ArrowArray, FFI_ArrowSchema, RawBatches, RawCall, RawError, RawStatus};
use crate::{Batches, Error, Result, Status};

/// What the private data points at.
struct Given {
    state: State,
    host: HostHandle,
}

enum State {
    Open(Batches),
    Ended,
    /// It failed or panicked: never called again, and never "that was all".
    Failed,
}

pub(super) fn give_batches(batches: Batches, host: HostHandle) -> RawBatches {
    let given = Box::new(Given { state: State::Open(batches), host });
    RawBatches {
        schema: Some(schema),
        next: Some(next),
        release: Some(release),
        private_data: Box::into_raw(given).cast(),
    }
}

/// # Safety
///
/// `raw` is null or was made by [`give_batches`] and not released, and nobody else uses it during
/// `'a`.
unsafe fn given<'a>(raw: *mut RawBatches) -> Result<&'a mut Given> {
    // SAFETY: the caller's promise.
    unsafe { raw.as_mut().and_then(|raw| raw.private_data.cast::<Given>().as_mut()) }
        .ok_or_else(|| null("batch source"))
}

unsafe extern "C" fn schema(
    raw: *mut RawBatches,
    out: *mut FFI_ArrowSchema,
    error: *mut RawError,
) -> RawStatus {
    guard(error, || {
        // SAFETY: the host uses the batches it was given from one thread at a time.
        let given = unsafe { given(raw) }?;
        let State::Open(batches) = &given.state else {
            return Err(Error::internal("the schema was asked of batches that have ended"));
        };
        let schema = export_schema(batches.schema())?;
        // SAFETY: the host passes a place for the schema.
        unsafe { out.write(schema) };
        Ok(OK)
    })
}

unsafe extern "C" fn next(
    raw: *mut RawBatches,
    raw_call: *const RawCall,
    out: *mut FFI_ArrowArray,
    error: *mut RawError,
) -> RawStatus {
    guard(error, || {
        // SAFETY: as in `schema`; the call outlives this one.
        let (given, call) = unsafe {
            let given = given(raw)?;
            let call = call(raw_call, &given.host);
            (given, call)
        };
        // Out of its place for the call, so that a panic drops it.
        match std::mem::replace(&mut given.state, State::Failed) {
            State::Failed => Err(Error::internal("the batches have failed before")),
            State::Ended => {
                given.state = State::Ended;
                Ok(Status::End as RawStatus)
            }
            State::Open(mut batches) => {
                let Some(batch) = batches.next(&call) else {
                    drop(batches);
                    given.state = State::Ended;
                    return Ok(Status::End as RawStatus);
                };
                let rows = export_rows(batch?);
                given.state = State::Open(batches);
                // SAFETY: the host passes a place for the array.
                unsafe { out.write(rows) };
                Ok(OK)
            }
        }
    })
}

unsafe extern "C" fn release(raw: *mut RawBatches) {
    guard_quietly(|| {
        // SAFETY: the host releases what it was given once, when nobody uses it.
        let Some(raw) = (unsafe { raw.as_mut() }) else { return };
        let data = std::mem::replace(&mut raw.private_data, std::ptr::null_mut::<c_void>());
        raw.schema = None;
        raw.next = None;
        raw.release = None;
        if !data.is_null() {
            // SAFETY: made by `give_batches`, and taken out above, so this happens once.
            drop(unsafe { Box::from_raw(data.cast::<Given>()) });
        }
    });
}
