//! Bytes and errors across the interface.

use std::ffi::c_void;

use crate::raw::{
    Buffer, Bytes, ERROR_RETRYABLE, ERROR_SPLIT, RatingVTable, RawBatches, RawError, RawStatus,
};
use crate::{Error, Result, Status};

impl Bytes {
    /// No bytes and no address: "absent" where that can be said.
    pub const NULL: Bytes = Bytes { ptr: std::ptr::null(), len: 0 };

    /// Bytes that live for ever, for declarations.
    pub const fn from_static(text: &'static str) -> Bytes {
        Bytes { ptr: text.as_ptr(), len: text.len() }
    }

    /// Lends `bytes`. Whoever passes this on keeps them alive until the call returns.
    pub const fn lend(bytes: &[u8]) -> Bytes {
        Bytes { ptr: bytes.as_ptr(), len: bytes.len() }
    }

    /// The bytes; none for a null pointer.
    ///
    /// # Safety
    ///
    /// Whoever made this promises `len` bytes at `ptr`, unchanged for as long as `'a`.
    pub unsafe fn as_slice<'a>(self) -> &'a [u8] {
        if self.ptr.is_null() || self.len == 0 {
            return &[];
        }
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }

    /// The bytes as text; `BadData` when they are not UTF-8.
    ///
    /// # Safety
    ///
    /// As for [`Bytes::as_slice`].
    pub unsafe fn as_text<'a>(self) -> Result<&'a str> {
        // SAFETY: the caller's promise.
        let bytes = unsafe { self.as_slice() };
        std::str::from_utf8(bytes).map_err(|_| Error::bad_data("a text is not UTF-8"))
    }
}

impl RatingVTable {
    /// A copy of a table that may be older: what it does not reach is not there.
    ///
    /// # Safety
    ///
    /// `table` points to a table that is as long as it says, at least [`RatingVTable::SIZE_MIN`],
    /// and has no null before `explain`.
    pub unsafe fn read(table: *const RatingVTable) -> RatingVTable {
        let mut copy = std::mem::MaybeUninit::<RatingVTable>::zeroed();
        // SAFETY: the caller's promise; a null `explain` is `None`, and all other fields are
        // written.
        unsafe {
            let size = table.cast::<usize>().read().min(size_of::<RatingVTable>());
            let size = if size < size_of::<RatingVTable>() { RatingVTable::SIZE_MIN } else { size };
            let bytes = copy.as_mut_ptr().cast::<u8>();
            std::ptr::copy_nonoverlapping(table.cast::<u8>(), bytes, size);
            copy.assume_init()
        }
    }
}

impl Buffer {
    /// Nothing given.
    pub const EMPTY: Buffer = Buffer {
        ptr: std::ptr::null_mut(),
        len: 0,
        release: None,
        private_data: std::ptr::null_mut(),
    };

    /// Gives `bytes` away.
    pub fn from_vec(bytes: Vec<u8>) -> Buffer {
        if bytes.is_empty() {
            return Buffer::EMPTY;
        }
        let mut bytes = Box::new(bytes);
        Buffer {
            ptr: bytes.as_mut_ptr(),
            len: bytes.len(),
            release: Some(release_vec),
            private_data: Box::into_raw(bytes).cast(),
        }
    }

    /// A copy of the bytes; the buffer is released and empty afterwards.
    ///
    /// # Safety
    ///
    /// The buffer is [`Buffer::EMPTY`], zeroed, or was filled by the other side as the interface
    /// says.
    pub unsafe fn take(&mut self) -> Vec<u8> {
        let copy = if self.ptr.is_null() || self.len == 0 {
            Vec::new()
        } else {
            // SAFETY: the maker's promise: `len` bytes at `ptr` until `release`.
            unsafe { std::slice::from_raw_parts(self.ptr, self.len) }.to_vec()
        };
        if let Some(release) = self.release.take() {
            // SAFETY: called once, as `release` was taken out; the callee needs the other fields
            // only.
            unsafe { release(self) };
        }
        *self = Buffer::EMPTY;
        copy
    }
}

unsafe extern "C" fn release_vec(buffer: *mut Buffer) {
    // SAFETY: the holder passes its own buffer, once.
    let Some(buffer) = (unsafe { buffer.as_mut() }) else { return };
    let data = std::mem::replace(&mut buffer.private_data, std::ptr::null_mut::<c_void>());
    buffer.ptr = std::ptr::null_mut();
    buffer.len = 0;
    buffer.release = None;
    if !data.is_null() {
        // SAFETY: made by `Buffer::from_vec`, and taken out above, so this happens once.
        drop(unsafe { Box::from_raw(data.cast::<Vec<u8>>()) });
    }
}

impl RawError {
    /// What a caller passes for the other side to fill.
    pub const EMPTY: RawError = RawError { status: 0, flags: 0, message: Buffer::EMPTY };

    /// Gives `error` away.
    pub fn from_error(error: Error) -> RawError {
        let flags = if error.retryable { ERROR_RETRYABLE } else { 0 }
            | if error.split { ERROR_SPLIT } else { 0 };
        RawError {
            status: error.status as RawStatus,
            flags,
            message: Buffer::from_vec(error.message.into_bytes()),
        }
    }

    /// The error of a call that returned `status`; what was filled in is released.
    ///
    /// The status returned counts, not the one filled in; text that is not UTF-8 is repaired.
    ///
    /// # Safety
    ///
    /// This is [`RawError::EMPTY`], zeroed, or was filled by the other side as the interface says.
    pub unsafe fn take(&mut self, status: RawStatus) -> Error {
        // SAFETY: the caller's promise.
        let message = unsafe { self.message.take() };
        let flags = std::mem::take(&mut self.flags);
        self.status = 0;
        let status = Status::from_raw(status);
        Error {
            status,
            message: String::from_utf8_lossy(&message).into_owned(),
            retryable: status.is_retryable() || flags & ERROR_RETRYABLE != 0,
            split: flags & ERROR_SPLIT != 0,
        }
    }
}

impl RawBatches {
    /// What a caller passes for the other side to fill.
    pub const EMPTY: RawBatches =
        RawBatches { schema: None, next: None, release: None, private_data: std::ptr::null_mut() };
}
