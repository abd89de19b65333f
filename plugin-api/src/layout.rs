//! Locks: a struct of the interface that changes size, or whose last field moves, does not compile.
//!
//! The offsets of all fields are compared with a committed table by `tests/abi`.
#![cfg(target_pointer_width = "64")]

use std::mem::offset_of;

use crate::raw::{
    Buffer, Bytes, CollectorVTable, ComponentDecl, FetcherVTable, HostApi, PluginDecl,
    RatingVTable, RawBatches, RawCall, RawCollect, RawEdit, RawError, RawHttpRequest,
    RawHttpResponse, RawRate, RawRequest, RawResponse,
};

macro_rules! locked {
    ($($name:ident: $size:literal, $last:ident at $offset:literal;)*) => {
        $(
            const _: () = assert!(size_of::<$name>() == $size);
            const _: () = assert!(offset_of!($name, $last) == $offset);
        )*
    };
}

locked! {
    Bytes: 16, len at 8;
    Buffer: 32, private_data at 24;
    RawError: 40, message at 8;
    RawCall: 48, cancel at 40;
    PluginDecl: 104, start at 96;
    ComponentDecl: 104, vtable at 96;
    CollectorVTable: 40, collect at 32;
    FetcherVTable: 40, scopes at 32;
    RatingVTable: 72, explain at 64;
    RawBatches: 32, private_data at 24;
    RawCollect: 72, end_ns at 64;
    RawRate: 48, end_ns at 40;
    RawRequest: 96, principal at 80;
    RawResponse: 112, body at 80;
    RawHttpRequest: 80, options at 64;
    RawHttpResponse: 80, body at 48;
    RawEdit: 32, value at 16;
    HostApi: 104, http_send at 96;
}
