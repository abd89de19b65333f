//! What collectors, fetchers and rating modules have in common, and the calls of the first two.

use std::ffi::c_void;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;

use super::batches::give_batches;
use super::guard::guard;
use super::host_calls::{CallHandle, HostHandle};
use crate::raw::{Bytes, HostApi, HostRef, RawBatches, RawCall, RawCollect, RawError, RawStatus};
use crate::{Call, CollectRequest, Collector, Component, Error, Fetcher, Host, Result, Status};

pub(super) const OK: RawStatus = Status::Ok as RawStatus;

/// What an instance pointer points at.
pub(super) struct Instance<C> {
    pub(super) component: C,
    pub(super) host: HostHandle,
}

/// # Safety
///
/// `instance` came from [`create`] for the same `C` and is not destroyed for as long as `'a`.
pub(super) unsafe fn instance<'a, C>(instance: *const c_void) -> Result<&'a Instance<C>> {
    // SAFETY: the caller's promise.
    unsafe { instance.cast::<Instance<C>>().as_ref() }.ok_or_else(|| null("instance"))
}

pub(super) fn null(what: &str) -> Error {
    Error::internal(format!("the host passed a null {what}"))
}

/// # Safety
///
/// `raw` is null, or valid for as long as the `Call` is used.
pub(super) unsafe fn call(raw: *const RawCall, host: &HostHandle) -> Call {
    // SAFETY: the caller's promise.
    Call { handle: unsafe { CallHandle::new(raw, host) } }
}

pub(super) unsafe extern "C" fn create<C: Component>(
    api: *const HostApi,
    reference: HostRef,
    config: Bytes,
    out: *mut *mut c_void,
    error: *mut RawError,
) -> RawStatus {
    guard(error, || {
        // SAFETY: the host keeps table and reference usable until it has destroyed the instance.
        let host = unsafe { HostHandle::new(api, reference, C::NAME) }?;
        // SAFETY: lent for this call.
        let config = parse_config(unsafe { config.as_slice() })?;
        let component = C::create(config, Host::new(host))?;
        let instance = Box::into_raw(Box::new(Instance { component, host }));
        // SAFETY: the host passes a place for the pointer.
        unsafe { *out = instance.cast() };
        Ok(OK)
    })
}

fn parse_config<T: DeserializeOwned>(json: &[u8]) -> Result<T> {
    let json = if json.is_empty() { b"{}" } else { json };
    // By way of a value, so that the message has no line and column of a text that nobody wrote.
    let value: serde_json::Value = serde_json::from_slice(json)
        .map_err(|error| Error::invalid_config(format!("configuration is no JSON: {error}")))?;
    T::deserialize(value).map_err(|error| Error::invalid_config(error.to_string()))
}

pub(super) unsafe extern "C" fn check<C: Component>(
    this: *const c_void,
    raw_call: *const RawCall,
    error: *mut RawError,
) -> RawStatus {
    guard(error, || {
        // SAFETY: the host passes an instance of this table, and a call that outlives this one.
        let (this, call) = unsafe {
            let this = instance::<C>(this)?;
            (this, call(raw_call, &this.host))
        };
        this.component.check(&call)?;
        Ok(OK)
    })
}

pub(super) unsafe extern "C" fn collect<C: Collector>(
    this: *const c_void,
    raw_call: *const RawCall,
    request: *const RawCollect,
    out: *mut RawBatches,
    error: *mut RawError,
) -> RawStatus {
    guard(error, || {
        // SAFETY: the host passes an instance of this table; the rest is lent for this call.
        let (this, call, request) = unsafe {
            let this = instance::<C>(this)?;
            let request = request.as_ref().ok_or_else(|| null("request"))?;
            (this, call(raw_call, &this.host), collect_request(request)?)
        };
        let batches = this.component.collect(&call, &request)?;
        // SAFETY: the host passes a place for the batches.
        unsafe { out.write(give_batches(batches, this.host)) };
        Ok(OK)
    })
}

/// # Safety
///
/// Everything `raw` points at is valid during this call.
unsafe fn collect_request(raw: &RawCollect) -> Result<CollectRequest> {
    // SAFETY: the caller's promise, here and below.
    let metric = serde_json::from_slice(unsafe { raw.metric.as_slice() })
        .map_err(|error| Error::invalid_request(format!("metric definition: {error}")))?;
    let scopes: &[Bytes] = if raw.scopes_len == 0 || raw.scopes.is_null() {
        &[]
    } else {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(raw.scopes, raw.scopes_len) }
    };
    Ok(CollectRequest {
        metric,
        // SAFETY: as above.
        scope_key: unsafe { raw.scope_key.as_text() }?.to_owned(),
        scopes: scopes
            .iter()
            // SAFETY: as above.
            .map(|scope| unsafe { scope.as_text() }.map(str::to_owned))
            .collect::<Result<_>>()?,
        begin: instant(raw.begin_ns),
        end: instant(raw.end_ns),
    })
}

pub(super) fn instant(ns: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(ns)
}

pub(super) unsafe extern "C" fn scopes<C: Fetcher>(
    this: *const c_void,
    raw_call: *const RawCall,
    out: *mut RawBatches,
    error: *mut RawError,
) -> RawStatus {
    guard(error, || {
        // SAFETY: the host passes an instance of this table, and a call that outlives this one.
        let (this, call) = unsafe {
            let this = instance::<C>(this)?;
            (this, call(raw_call, &this.host))
        };
        let batches = this.component.scopes(&call)?;
        // SAFETY: the host passes a place for the batches.
        unsafe { out.write(give_batches(batches, this.host)) };
        Ok(OK)
    })
}
