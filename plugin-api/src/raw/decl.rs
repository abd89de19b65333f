//! What a library declares.

#![expect(unsafe_code, reason = "declarations may be shared between threads")]

use std::ffi::c_void;

use super::{Bytes, HostApi, HostRef, RawStatus};

/// What `rated_plugin_entry` returns; a static.
#[repr(C)]
#[derive(Debug)]
pub struct PluginDecl {
    /// `MAGIC`.
    pub magic: u64,
    /// `size_of` of this struct as its maker knows it; fields beyond are not read.
    pub struct_size: u32,
    /// `ABI_MAJOR`.
    pub abi_major: u16,
    /// The interface's minor version that the plugin was built for.
    pub abi_minor: u16,
    /// Services without which the plugin cannot work: `FEATURE_KV`, `FEATURE_HTTP`.
    pub features_required: u64,
    /// `FLAG_UNWINDS`.
    pub flags: u64,
    /// For people.
    pub name: Bytes,
    /// For people.
    pub version: Bytes,
    /// Compiler and interface crate, for people: `rustc 1.95.0, rated-plugin 0.1.0`.
    pub built_with: Bytes,
    /// Pointers, so that [`ComponentDecl`] may grow.
    pub components: *const *const ComponentDecl,
    /// How many components.
    pub components_len: usize,
    /// Connects the plugin's log and panic hook to the host; called once for each loaded copy.
    pub start: unsafe extern "C" fn(api: *const HostApi, host: HostRef) -> RawStatus,
}

// SAFETY: a PluginDecl is read-only, and everything it points at is static and read-only too;
// whoever makes one promises that (the export macro does; a C plugin's declarations are `const`).
unsafe impl Sync for PluginDecl {}
// SAFETY: as above.
unsafe impl Sync for ComponentDecl {}

/// One collector, fetcher or rating module of a plugin; a static.
#[repr(C)]
#[derive(Debug)]
pub struct ComponentDecl {
    /// `size_of` of this struct as its maker knows it; fields beyond are not read.
    pub struct_size: usize,
    /// `KIND_COLLECTOR`, `KIND_FETCHER` or `KIND_RATING`.
    pub kind: u32,
    /// `COMPONENT_SERIAL`, `COMPONENT_HOT_CONFIG`, `COMPONENT_ALWAYS_ON`.
    pub flags: u32,
    /// `[a-z][a-z0-9-]{0,31}`, unique in the daemon for each kind.
    pub name: Bytes,
    /// One sentence for people; the `description` of the API.
    pub summary: Bytes,
    /// TOML: the keys of the component's configuration table.
    pub sample_config: Bytes,
    /// JSON Schema of the configuration; may be empty.
    pub config_schema: Bytes,
    /// `OpenAPI` `paths` object (JSON) that `handle` serves, relative to the module, with
    /// `components` beside the paths or without; empty = serves nothing.
    pub api_schema: Bytes,
    /// The table of the kind; a static.
    pub vtable: *const c_void,
}

/// The type of the exported symbol: returns a static and does nothing else.
pub type EntryFn = unsafe extern "C" fn() -> *const PluginDecl;
