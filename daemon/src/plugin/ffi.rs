//! Bytes, buffers and errors across the interface.

use std::ffi::c_void;

use rated_plugin::raw::{self, Buffer, Bytes, RawError, RawStatus};
use rated_plugin::{Error, Status};

/// Longest message taken over from a plugin, bytes.
const MESSAGE_SIZE_MAX: usize = 16 * 1024;

pub(super) const fn lend(bytes: &[u8]) -> Bytes {
    Bytes { ptr: bytes.as_ptr(), len: bytes.len() }
}

/// What the other side lent; empty when it lent nothing.
///
/// # Safety
///
/// `bytes` holds `len` readable bytes, or a null pointer, for the lifetime that the caller chooses.
pub(super) unsafe fn borrow<'a>(bytes: Bytes) -> &'a [u8] {
    // No slice is longer than that, so a length beyond it is nonsense.
    let is_nonsense = isize::try_from(bytes.len).is_err();
    if bytes.ptr.is_null() || bytes.len == 0 || is_nonsense {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(bytes.ptr, bytes.len) }
}

pub(super) const fn empty_buffer() -> Buffer {
    Buffer { ptr: std::ptr::null_mut(), len: 0, release: None, private_data: std::ptr::null_mut() }
}

/// Gives bytes away: the receiver calls `release` once.
pub(super) fn give(bytes: Vec<u8>) -> Buffer {
    let boxed = Box::new(bytes);
    let (ptr, len) = (boxed.as_ptr().cast_mut(), boxed.len());
    let private_data = Box::into_raw(boxed).cast::<c_void>();
    Buffer { ptr, len, release: Some(release_given), private_data }
}

unsafe extern "C" fn release_given(buffer: *mut Buffer) {
    // SAFETY: the receiver passes, once, a buffer that `give` made; afterwards its release is None.
    unsafe {
        let Some(buffer) = buffer.as_mut() else { return };
        if buffer.private_data.is_null() {
            return;
        }
        drop(Box::from_raw(buffer.private_data.cast::<Vec<u8>>()));
        *buffer = empty_buffer();
    }
}

/// Copies what a plugin gave, and releases it.
///
/// # Safety
///
/// `buffer` was filled by a plugin as the interface says, or is zeroed, and nobody else releases
/// it.
pub(super) unsafe fn take(mut buffer: Buffer, size_max: usize) -> Result<Vec<u8>, Error> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { borrow(Bytes { ptr: buffer.ptr, len: buffer.len }) };
    let taken = if bytes.len() > size_max {
        Err(Error::bad_data(format!(
            "the plugin answered {} bytes, at most {size_max} are accepted",
            bytes.len()
        )))
    } else {
        Ok(bytes.to_vec())
    };
    if let Some(release) = buffer.release {
        // SAFETY: released once; `buffer` is ours.
        unsafe { release(&raw mut buffer) };
    }
    taken
}

/// Where a plugin writes what went wrong.
pub(super) struct ErrorSlot(RawError);

impl ErrorSlot {
    pub(super) fn new() -> ErrorSlot {
        ErrorSlot(RawError { status: 0, flags: 0, message: empty_buffer() })
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut RawError {
        &raw mut self.0
    }

    /// The outcome that a plugin's status and this slot say together.
    pub(super) fn outcome(self, status: RawStatus) -> Result<(), Error> {
        let RawError { flags, message, .. } = self.0;
        let length = message.len.min(MESSAGE_SIZE_MAX);
        // SAFETY: the slot was zeroed before the call, and a plugin fills it as the interface says.
        let text = unsafe {
            let bytes = borrow(Bytes { ptr: message.ptr, len: length });
            let text = String::from_utf8_lossy(bytes).into_owned();
            let _ = take(message, 0);
            text
        };
        let status = match Status::from_raw(status) {
            Status::Ok => return Ok(()),
            // Only a source of batches may say so, and it is asked in its own way.
            Status::End => Status::Internal,
            status => status,
        };
        let message = if text.is_empty() { "the plugin gave no reason".to_owned() } else { text };
        let error = Error::new(status, message);
        let retryable = error.retryable || flags & raw::ERROR_RETRYABLE != 0;
        Err(Error { retryable, split: flags & raw::ERROR_SPLIT != 0, ..error })
    }
}

/// Tells a plugin what went wrong in a service.
///
/// # Safety
///
/// `slot` is null, or a zeroed error of the caller that nobody else uses during the call.
pub(super) unsafe fn fail(slot: *mut RawError, error: Error) -> RawStatus {
    let status = match error.status {
        Status::Ok | Status::End => Status::Internal,
        status => status,
    } as RawStatus;
    let flags = if error.retryable { raw::ERROR_RETRYABLE } else { 0 }
        | if error.split { raw::ERROR_SPLIT } else { 0 };
    // SAFETY: the caller's promise.
    if let Some(slot) = unsafe { slot.as_mut() } {
        *slot = RawError { status, flags, message: give(error.message.into_bytes()) };
    }
    status
}
