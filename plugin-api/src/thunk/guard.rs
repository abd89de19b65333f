//! The one place where panics end.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Once, OnceLock};

use super::host_calls::HostHandle;
use crate::raw::{HostApi, HostRef, RawError, RawStatus};
use crate::{Error, Level, Result, Status};

thread_local! {
    /// How many guards are on this thread's stack.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// What the last panic inside a guard said, and where.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();
/// Where panics are logged: each library has its own copy of this.
static LOG: OnceLock<HostHandle> = OnceLock::new();

/// Runs the body of an `extern "C"` function: an error or a panic becomes a status and fills `out`.
pub(super) fn guard(out: *mut RawError, body: impl FnOnce() -> Result<RawStatus>) -> RawStatus {
    let error = match caught(body) {
        Ok(Ok(status)) => return status,
        Ok(Err(error)) => error,
        Err(text) => Error::new(Status::Panic, text),
    };
    // An author's error that says "fine" would be taken for an answer that is not there.
    let error = match error.status {
        Status::Ok | Status::End => Error { status: Status::Internal, ..error },
        _ => error,
    };
    let status = error.status as RawStatus;
    // SAFETY: the caller passes null or a RawError of its own, zeroed, that nobody else uses during
    // the call.
    if let Some(out) = unsafe { out.as_mut() } {
        *out = RawError::from_error(error);
    }
    status
}

/// Runs a destructor: a panic is logged by the hook and ends here.
pub(super) fn guard_quietly(body: impl FnOnce()) {
    let _ = caught(body);
}

fn caught<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    let deeper = |by: fn(u32) -> u32| {
        let _ = DEPTH.try_with(|depth| depth.set(by(depth.get())));
    };
    deeper(|depth| depth + 1);
    // Whatever the panic left half done is abandoned: the host never calls a poisoned instance
    // again.
    let outcome = catch_unwind(AssertUnwindSafe(body));
    deeper(|depth| depth - 1);
    outcome.map_err(|payload| {
        let text = PANIC
            .try_with(|text| text.borrow_mut().take())
            .ok()
            .flatten()
            .unwrap_or_else(|| format!("panicked: {}", payload_text(payload.as_ref())));
        // A payload's own destructor may panic too, and that one's payload again: that one is
        // leaked.
        if let Err(again) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
            std::mem::forget(again);
        }
        text
    })
}

/// `PluginDecl::start`: from now on panics inside a guard go to the host's log instead of standard
/// error.
pub(super) unsafe extern "C" fn start(api: *const HostApi, reference: HostRef) -> RawStatus {
    guard(std::ptr::null_mut(), || {
        // SAFETY: the host's promise: null, or a table and a reference that live as long as the
        // process.
        let handle = unsafe { HostHandle::new(api, reference, "plugin") }?;
        let _ = LOG.set(handle);
        HOOK.call_once(|| {
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 {
                    return previous(info);
                }
                remember(info);
            }));
        });
        Ok(Status::Ok as RawStatus)
    })
}

fn remember(info: &PanicHookInfo<'_>) {
    let place = info
        .location()
        .map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
    let text = format!("panicked{place}: {}", payload_text(info.payload()));
    if let Some(handle) = LOG.get() {
        handle.log(Level::Error as u32, &text);
    }
    let _ = PANIC.try_with(|last| {
        // Never a second panic here: it would abort.
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = Some(text);
        }
    });
}

fn payload_text(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "a panic without a text"
    }
}

/// The destructor of what a thunk gave away as a boxed `T`.
pub(super) unsafe extern "C" fn drop_box<T>(pointer: *mut c_void) {
    if pointer.is_null() {
        return;
    }
    guard_quietly(|| {
        // SAFETY: the host gives back, once, what `Box::<T>::into_raw` gave it, and no call on it
        // is under way.
        drop(unsafe { Box::from_raw(pointer.cast::<T>()) });
    });
}
