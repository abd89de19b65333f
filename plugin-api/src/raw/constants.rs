//! The numbers of the interface.

/// The bytes `RATEDPLG` read as a little-endian integer.
pub const MAGIC: u64 = 0x474c_5044_4554_4152;
/// Must be equal on both sides.
pub const ABI_MAJOR: u16 = 1;
/// How many appended fields the plugin may use; a daemon loads every plugin whose minor is not
/// above its own.
pub const ABI_MINOR: u16 = 1;

/// `PluginDecl::flags`: built so that a panic unwinds (required; the guard cannot work without
/// it).
pub const FLAG_UNWINDS: u64 = 1;

/// `HostApi::features` and `PluginDecl::features_required`: the key-value service.
pub const FEATURE_KV: u64 = 1;
/// `HostApi::features` and `PluginDecl::features_required`: the HTTP service.
pub const FEATURE_HTTP: u64 = 2;

/// `ComponentDecl::kind`: the vtable is a `CollectorVTable`.
pub const KIND_COLLECTOR: u32 = 1;
/// `ComponentDecl::kind`: the vtable is a `FetcherVTable`.
pub const KIND_FETCHER: u32 = 2;
/// `ComponentDecl::kind`: the vtable is a `RatingVTable`.
pub const KIND_RATING: u32 = 3;

/// `ComponentDecl::flags`: the host never makes two calls on one instance at a time.
pub const COMPONENT_SERIAL: u32 = 1;
/// `ComponentDecl::flags` of a rating module: its rules can be changed while it runs
/// (`hot-config` of the API).
pub const COMPONENT_HOT_CONFIG: u32 = 2;
/// `ComponentDecl::flags` of a rating module: always enabled, priority 1; the API can change
/// neither.
pub const COMPONENT_ALWAYS_ON: u32 = 4;

/// The kind of an outcome: one of the `STATUS_` constants.
pub type RawStatus = u32;

/// `RawStatus`: as asked.
pub const STATUS_OK: u32 = 0;
/// `RawStatus`: the configuration cannot work; the component is refused.
pub const STATUS_INVALID_CONFIG: u32 = 1;
/// `RawStatus`: the request cannot be answered as it stands.
pub const STATUS_INVALID_REQUEST: u32 = 2;
/// `RawStatus`: not there; of a collector: this past is lost for ever.
pub const STATUS_NOT_FOUND: u32 = 3;
/// `RawStatus`: something else was changed meanwhile.
pub const STATUS_CONFLICT: u32 = 4;
/// `RawStatus`: the source does not answer; tried again.
pub const STATUS_UNAVAILABLE: u32 = 5;
/// `RawStatus`: the source does not answer in time; tried again.
pub const STATUS_TIMEOUT: u32 = 6;
/// `RawStatus`: the caller no longer wants it.
pub const STATUS_CANCELLED: u32 = 7;
/// `RawStatus`: the source or the caller lacks the right.
pub const STATUS_UNAUTHORIZED: u32 = 8;
/// `RawStatus`: what the source answered makes no sense.
pub const STATUS_BAD_DATA: u32 = 9;
/// `RawStatus`: never will be possible; not asked again.
pub const STATUS_UNSUPPORTED: u32 = 10;
/// `RawStatus`: the plugin's own mistake.
pub const STATUS_INTERNAL: u32 = 11;
/// `RawStatus`: the plugin panicked; the instance is abandoned.
pub const STATUS_PANIC: u32 = 12;
/// `RawStatus`: of `RawBatches::next`: there is no further batch.
pub const STATUS_END: u32 = 13;

/// `RawError::flags`: the same call may succeed later.
pub const ERROR_RETRYABLE: u32 = 1;
/// `RawError::flags`: the same rows in smaller batches may succeed (a decimal column cannot hold
/// all of them).
pub const ERROR_SPLIT: u32 = 2;

/// The symbol that a library exports: an [`EntryFn`](super::EntryFn).
pub const ENTRY_SYMBOL: &str = "rated_plugin_entry";
