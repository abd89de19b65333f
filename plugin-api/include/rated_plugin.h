/* The interface between the rating daemon `rated` and its plugins, version 1.1.
 * Generated from plugin-api/src/raw/; do not edit. See plugin-api/README.md for what each call must do. */

#ifndef RATED_PLUGIN_H
#define RATED_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

/* The Arrow C Data Interface, https://arrow.apache.org/docs/format/CDataInterface.html. */
#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

struct ArrowSchema {
  const char *format;
  const char *name;
  const char *metadata;
  int64_t flags;
  int64_t n_children;
  struct ArrowSchema **children;
  struct ArrowSchema *dictionary;
  void (*release)(struct ArrowSchema *);
  void *private_data;
};

struct ArrowArray {
  int64_t length;
  int64_t null_count;
  int64_t offset;
  int64_t n_buffers;
  int64_t n_children;
  const void **buffers;
  struct ArrowArray **children;
  struct ArrowArray *dictionary;
  void (*release)(struct ArrowArray *);
  void *private_data;
};

#endif

// The bytes `RATEDPLG` read as a little-endian integer.
#define RATED_MAGIC 5137569529074041170

// Must be equal on both sides.
#define RATED_ABI_MAJOR 1

// How many appended fields the plugin may use; a daemon loads every plugin whose minor is not
// above its own.
#define RATED_ABI_MINOR 1

// `RatedPluginDecl.flags`: built so that a panic unwinds (required; the guard cannot work without
// it).
#define RATED_FLAG_UNWINDS 1

// `RatedHostApi.features` and `RatedPluginDecl.features_required`: the key-value service.
#define RATED_FEATURE_KV 1

// `RatedHostApi.features` and `RatedPluginDecl.features_required`: the HTTP service.
#define RATED_FEATURE_HTTP 2

// `RatedComponentDecl.kind`: the vtable is a `RatedCollectorVTable`.
#define RATED_KIND_COLLECTOR 1

// `RatedComponentDecl.kind`: the vtable is a `RatedFetcherVTable`.
#define RATED_KIND_FETCHER 2

// `RatedComponentDecl.kind`: the vtable is a `RatedRatingVTable`.
#define RATED_KIND_RATING 3

// `RatedComponentDecl.flags`: the host never makes two calls on one instance at a time.
#define RATED_COMPONENT_SERIAL 1

// `RatedComponentDecl.flags` of a rating module: its rules can be changed while it runs
// (`hot-config` of the API).
#define RATED_COMPONENT_HOT_CONFIG 2

// `RatedComponentDecl.flags` of a rating module: always enabled, priority 1; the API can change
// neither.
#define RATED_COMPONENT_ALWAYS_ON 4

// `RatedStatus`: as asked.
#define RATED_OK 0

// `RatedStatus`: the configuration cannot work; the component is refused.
#define RATED_INVALID_CONFIG 1

// `RatedStatus`: the request cannot be answered as it stands.
#define RATED_INVALID_REQUEST 2

// `RatedStatus`: not there; of a collector: this past is lost for ever.
#define RATED_NOT_FOUND 3

// `RatedStatus`: something else was changed meanwhile.
#define RATED_CONFLICT 4

// `RatedStatus`: the source does not answer; tried again.
#define RATED_UNAVAILABLE 5

// `RatedStatus`: the source does not answer in time; tried again.
#define RATED_TIMEOUT 6

// `RatedStatus`: the caller no longer wants it.
#define RATED_CANCELLED 7

// `RatedStatus`: the source or the caller lacks the right.
#define RATED_UNAUTHORIZED 8

// `RatedStatus`: what the source answered makes no sense.
#define RATED_BAD_DATA 9

// `RatedStatus`: never will be possible; not asked again.
#define RATED_UNSUPPORTED 10

// `RatedStatus`: the plugin's own mistake.
#define RATED_INTERNAL 11

// `RatedStatus`: the plugin panicked; the instance is abandoned.
#define RATED_PANIC 12

// `RatedStatus`: of `RatedBatches.next`: there is no further batch.
#define RATED_END 13

// `RatedError.flags`: the same call may succeed later.
#define RATED_ERROR_RETRYABLE 1

// `RatedError.flags`: the same rows in smaller batches may succeed (a decimal column cannot hold
// all of them).
#define RATED_ERROR_SPLIT 2

// Bytes lent for the length of one call, or for ever when they sit in a static.
typedef struct RatedBytes {
  // Null when absent, where that can be said.
  const uint8_t *ptr;
  // Bytes at `ptr`.
  size_t len;
} RatedBytes;

// One collector, fetcher or rating module of a plugin; a static.
typedef struct RatedComponentDecl {
  // `sizeof` of this struct as its maker knows it; fields beyond are not read.
  size_t struct_size;
  // `RATED_KIND_COLLECTOR`, `RATED_KIND_FETCHER` or `RATED_KIND_RATING`.
  uint32_t kind;
  // `RATED_COMPONENT_SERIAL`, `RATED_COMPONENT_HOT_CONFIG`, `RATED_COMPONENT_ALWAYS_ON`.
  uint32_t flags;
  // `[a-z][a-z0-9-]{0,31}`, unique in the daemon for each kind.
  struct RatedBytes name;
  // One sentence for people; the `description` of the API.
  struct RatedBytes summary;
  // TOML: the keys of the component's configuration table.
  struct RatedBytes sample_config;
  // JSON Schema of the configuration; may be empty.
  struct RatedBytes config_schema;
  // `OpenAPI` `paths` object (JSON) that `handle` serves, relative to the module, with
  // `components` beside the paths or without; empty = serves nothing.
  struct RatedBytes api_schema;
  // The table of the kind; a static.
  const void *vtable;
} RatedComponentDecl;

// The kind of an outcome: one of the `RATED_` constants.
typedef uint32_t RatedStatus;

// Names the instance to the host: its keys, its log target, its labels.
typedef const void *RatedHostRef;

// One call's surroundings; lives on the caller's stack.
typedef struct RatedCall {
  // `sizeof` of this struct as its maker knows it; fields beyond are not read.
  size_t struct_size;
  // Scheduler time, nanoseconds since the epoch; `INT64_MAX` = none.
  int64_t deadline_ns;
  // W3C trace context.
  uint8_t trace_id[16];
  // Of the span that makes the call.
  uint8_t span_id[8];
  // For `RatedHostApi.is_cancelled`.
  const void *cancel;
} RatedCall;

// Bytes given away: the receiver calls `release` once, from any thread.
typedef struct RatedBuffer {
  // Null when empty.
  uint8_t *ptr;
  // Bytes at `ptr`.
  size_t len;
  // Null when there is nothing to release.
  void (*release)(struct RatedBuffer *buffer);
  // The maker's own.
  void *private_data;
} RatedBuffer;

// The caller passes it zeroed; whoever fails fills it.
typedef struct RatedError {
  // The same as the call returns.
  RatedStatus status;
  // `RATED_ERROR_RETRYABLE`, `RATED_ERROR_SPLIT`.
  uint32_t flags;
  // UTF-8: a lower-case fragment without a full stop.
  struct RatedBuffer message;
} RatedError;

// Called for each key of a scan, in key order; any answer but 0 ends the scan.
typedef uint32_t (*RatedVisitFn)(void *visitor, struct RatedBytes key, struct RatedBytes value);

// One change to the instance's own keys; a null `value.ptr` removes the key.
typedef struct RatedEdit {
  // UTF-8.
  struct RatedBytes key;
  // What the key is to be; null removes it.
  struct RatedBytes value;
} RatedEdit;

// A request that the host sends for a plugin.
typedef struct RatedHttpRequest {
  // `sizeof` of this struct as its maker knows it; fields beyond are not read.
  size_t struct_size;
  // As in `RatedRequest.method`.
  uint32_t method;
  // 0.
  uint32_t reserved;
  // Absolute, `http` or `https`.
  struct RatedBytes url;
  // JSON object of header names to values.
  struct RatedBytes headers;
  // The body; may be empty.
  struct RatedBytes body;
  // JSON: see `HttpOptions` of the Rust crate; empty = defaults.
  struct RatedBytes options;
} RatedHttpRequest;

// The answer to a `RatedHttpRequest`; the caller passes it zeroed but for `struct_size`.
typedef struct RatedHttpResponse {
  // `sizeof` of this struct as its maker knows it; fields beyond are not read.
  size_t struct_size;
  // The HTTP status, whatever it is.
  uint32_t status;
  // 0.
  uint32_t reserved;
  // JSON object of lower-case header names to values.
  struct RatedBuffer headers;
  // Decompressed.
  struct RatedBuffer body;
} RatedHttpResponse;

// What the host lends to every instance. Callable from any thread until the instance is destroyed.
typedef struct RatedHostApi {
  // `sizeof` of this struct as its maker knows it; fields beyond are not read.
  size_t struct_size;
  // The host's minor version.
  uint32_t abi_minor;
  // 0.
  uint32_t reserved;
  // The services that are there: `RATED_FEATURE_KV`, `RATED_FEATURE_HTTP`.
  uint64_t features;
  // Levels: 1 error, 2 warn, 3 info, 4 debug, 5 trace.
  uint32_t (*log_enabled)(RatedHostRef host, uint32_t level);
  // `target` is the component's name.
  void (*log)(RatedHostRef host, uint32_t level, struct RatedBytes target, struct RatedBytes message);
  // The scheduler's clock, nanoseconds since the epoch: tests drive it.
  int64_t (*now_ns)(RatedHostRef host);
  // Not 0 when the answer is no longer wanted; an atomic load.
  uint32_t (*is_cancelled)(const struct RatedCall *call);
  // The value of a key as it was at `revision` (`UINT64_MAX` = now), or `RATED_NOT_FOUND`.
  RatedStatus (*kv_get)(RatedHostRef host,
                        uint64_t revision,
                        struct RatedBytes key,
                        struct RatedBuffer *out,
                        struct RatedError *error);
  // All keys with a prefix as they were at `revision` (`UINT64_MAX` = now), in key order, from one
  // snapshot; `out_revision` is the revision read.
  RatedStatus (*kv_scan)(RatedHostRef host,
                         uint64_t revision,
                         struct RatedBytes prefix,
                         RatedVisitFn visit,
                         void *visitor,
                         uint64_t *out_revision,
                         struct RatedError *error);
  // All edits, durably, if the data is still at `revision`; else none and `RATED_CONFLICT`.
  RatedStatus (*kv_apply)(RatedHostRef host,
                          uint64_t revision,
                          const struct RatedEdit *edits,
                          size_t edits_len,
                          uint64_t *out_revision,
                          struct RatedError *error);
  // Adds to a counter of the daemon's `/metrics`, labelled with the instance.
  void (*count)(RatedHostRef host, struct RatedBytes metric, uint64_t by);
  // Adds a value to a histogram of the daemon's `/metrics`, labelled with the instance.
  void (*observe)(RatedHostRef host, struct RatedBytes metric, double value);
  // Null when the host has no HTTP service.
  RatedStatus (*http_send)(RatedHostRef host,
                           const struct RatedCall *call,
                           const struct RatedHttpRequest *request,
                           struct RatedHttpResponse *response,
                           struct RatedError *error);
} RatedHostApi;

// What `rated_plugin_entry` returns; a static.
typedef struct RatedPluginDecl {
  // `RATED_MAGIC`.
  uint64_t magic;
  // `sizeof` of this struct as its maker knows it; fields beyond are not read.
  uint32_t struct_size;
  // `RATED_ABI_MAJOR`.
  uint16_t abi_major;
  // The interface's minor version that the plugin was built for.
  uint16_t abi_minor;
  // Services without which the plugin cannot work: `RATED_FEATURE_KV`, `RATED_FEATURE_HTTP`.
  uint64_t features_required;
  // `RATED_FLAG_UNWINDS`.
  uint64_t flags;
  // For people.
  struct RatedBytes name;
  // For people.
  struct RatedBytes version;
  // Compiler and interface crate, for people: `rustc 1.95.0, rated-plugin 0.1.0`.
  struct RatedBytes built_with;
  // Pointers, so that `RatedComponentDecl` may grow.
  const struct RatedComponentDecl *const *components;
  // How many components.
  size_t components_len;
  // Connects the plugin's log and panic hook to the host; called once for each loaded copy.
  RatedStatus (*start)(const struct RatedHostApi *api, RatedHostRef host);
} RatedPluginDecl;

// Makes an instance from its configuration (JSON). Opens no connection.
typedef RatedStatus (*RatedCreateFn)(const struct RatedHostApi *api,
                                     RatedHostRef host,
                                     struct RatedBytes config_json,
                                     void **out,
                                     struct RatedError *error);

// Ends an instance or a rater; the pointer is never used again.
typedef void (*RatedDestroyFn)(void *pointer);

// Does the outside world answer?
typedef RatedStatus (*RatedCheckFn)(const void *instance,
                                    const struct RatedCall *call,
                                    struct RatedError *error);

// One metric of one period for many scopes: the source is asked once, the batch's `scope_id`
// column tells rows apart.
typedef struct RatedCollect {
  // `sizeof` of this struct as its maker knows it; fields beyond are not read.
  size_t struct_size;
  // JSON: the metric's whole definition, `extra_args` included.
  struct RatedBytes metric;
  // The attribute that names the scope.
  struct RatedBytes scope_key;
  // The scopes asked for; rows of others are an error.
  const struct RatedBytes *scopes;
  // 0 = every scope.
  size_t scopes_len;
  // The period's begin, nanoseconds since the epoch, inclusive.
  int64_t begin_ns;
  // The period's end, exclusive.
  int64_t end_ns;
} RatedCollect;

// Batches pulled one at a time; unlike `ArrowArrayStream` it keeps the whole error.
typedef struct RatedBatches {
  // The schema of every batch; asked once, before the first batch.
  RatedStatus (*schema)(struct RatedBatches *batches,
                        struct ArrowSchema *out,
                        struct RatedError *error);
  // OK with a batch, or END.
  RatedStatus (*next)(struct RatedBatches *batches,
                      const struct RatedCall *call,
                      struct ArrowArray *out,
                      struct RatedError *error);
  // Ends the batches, at any time; called once.
  void (*release)(struct RatedBatches *batches);
  // The maker's own.
  void *private_data;
} RatedBatches;

// The table of a collector.
typedef struct RatedCollectorVTable {
  // `sizeof` of this struct as its maker knows it; fields beyond are not read.
  size_t struct_size;
  // Makes an instance; on OK writes it.
  RatedCreateFn create;
  // Ends an instance; after its raters and batches.
  RatedDestroyFn destroy;
  // Asks whether the outside world answers.
  RatedCheckFn check;
  // Measures; on OK writes the batches, of schema `usage/1`.
  RatedStatus (*collect)(const void *instance,
                         const struct RatedCall *call,
                         const struct RatedCollect *request,
                         struct RatedBatches *out,
                         struct RatedError *error);
} RatedCollectorVTable;

// The table of a fetcher.
typedef struct RatedFetcherVTable {
  // `sizeof` of this struct as its maker knows it; fields beyond are not read.
  size_t struct_size;
  // Makes an instance; on OK writes it.
  RatedCreateFn create;
  // Ends an instance; after its raters and batches.
  RatedDestroyFn destroy;
  // Asks whether the outside world answers.
  RatedCheckFn check;
  // Finds the scopes; on OK writes the batches, of schema `scopes/1`.
  RatedStatus (*scopes)(const void *instance,
                        const struct RatedCall *call,
                        struct RatedBatches *out,
                        struct RatedError *error);
} RatedFetcherVTable;

// What the rows of a batch to rate have in common.
typedef struct RatedRate {
  // `sizeof` of this struct as its maker knows it; fields beyond are not read.
  size_t struct_size;
  // 0 period, 1 quote, 2 replay.
  uint32_t purpose;
  // 0.
  uint32_t reserved;
  // The metric type rated, `alt_name` applied.
  struct RatedBytes metric;
  // The period's begin, nanoseconds since the epoch, inclusive.
  int64_t begin_ns;
  // The period's end, exclusive.
  int64_t end_ns;
} RatedRate;

// A REST call passed on to a rating module.
typedef struct RatedRequest {
  // `sizeof` of this struct as its maker knows it; fields beyond are not read.
  size_t struct_size;
  // 1 GET, 2 POST, 3 PUT, 4 DELETE, 5 PATCH.
  uint32_t method;
  // 0.
  uint32_t reserved;
  // Below the module's name, percent-decoded, with a leading slash and no trailing one:
  // `/mappings/<id>`.
  struct RatedBytes path;
  // As the client sent it, still percent-encoded, without the question mark.
  struct RatedBytes query;
  // The `Content-Type` header; may be empty.
  struct RatedBytes content_type;
  // At most 1 MiB.
  struct RatedBytes body;
  // JSON: `{"user_id", "scope_id", "roles", "is_admin"}`; never a token.
  struct RatedBytes principal;
} RatedRequest;

// The answer to a `RatedRequest`; the caller passes it zeroed but for `struct_size`.
typedef struct RatedResponse {
  // `sizeof` of this struct as its maker knows it; fields beyond are not read.
  size_t struct_size;
  // An HTTP status, 200 to 599.
  uint32_t status;
  // 0.
  uint32_t reserved;
  // The `Content-Type` header; empty = none.
  struct RatedBuffer content_type;
  // The `Location` header, relative to the module (`/mappings/<id>`); empty = none.
  struct RatedBuffer location;
  // The body; may be empty.
  struct RatedBuffer body;
} RatedResponse;

// The table of a rating module.
typedef struct RatedRatingVTable {
  // `sizeof` of this struct as its maker knows it; fields beyond are not read.
  size_t struct_size;
  // Makes an instance; on OK writes it.
  RatedCreateFn create;
  // Ends an instance; after its raters and batches.
  RatedDestroyFn destroy;
  // Asks whether the outside world answers.
  RatedCheckFn check;
  // An immutable snapshot: the rules in force at `as_of_ns` (the begin of the period rated), as
  // they were known at `revision` of the instance's key-value data (`UINT64_MAX` = now).
  RatedStatus (*prepare)(const void *instance,
                         const struct RatedCall *call,
                         int64_t as_of_ns,
                         uint64_t revision,
                         void **out_rater,
                         struct RatedError *error);
  // Ends a rater; before its instance.
  RatedDestroyFn release_rater;
  // Moves the two input structs in, whatever the outcome; on OK writes the two output structs.
  RatedStatus (*rate)(const void *rater,
                      const struct RatedCall *call,
                      const struct RatedRate *request,
                      struct ArrowArray *array,
                      struct ArrowSchema *schema,
                      struct ArrowArray *out_array,
                      struct ArrowSchema *out_schema,
                      struct RatedError *error);
  // Answers a REST call; on OK has filled the response.
  RatedStatus (*handle)(const void *instance,
                        const struct RatedCall *call,
                        const struct RatedRequest *request,
                        struct RatedResponse *response,
                        struct RatedError *error);
  // Since 1.1; null = gives no reasons. How `rate` comes to the prices of `rows` rows from
  // `first_row` on. Moves the two input structs in as `rate` does; on OK fills the buffer, which
  // has its own `release`, with JSON, UTF-8: `{"rows": [[step, ...], ...]}`, as many lists as
  // `rows`, with `step` = `{"sets": name, "operation": "take" | "add" | "multiply" | "max",
  // "operands": [operand, ...], "result": decimal}`. An operand is `{"name": name, "value":
  // decimal}` for a number that is set already, `{"rule": {"kind": text, "id": text, any: text,
  // ...}, "value": decimal}` for one that a rule says, `{"value": decimal}` for any other.
  // Decimals are texts ("0.25"); the numbers `qty` and `price` (so far) are set before the first
  // step, after the last one `price` is the row's price. `Unsupported` = no reasons for these
  // rows. It is called on an instance of its own, never on the one that rates for bills, and can
  // change no keys.
  RatedStatus (*explain)(const void *rater,
                         const struct RatedCall *call,
                         const struct RatedRate *request,
                         struct ArrowArray *array,
                         struct ArrowSchema *schema,
                         size_t first_row,
                         size_t rows,
                         struct RatedBuffer *out_json,
                         struct RatedError *error);
} RatedRatingVTable;

#endif  /* RATED_PLUGIN_H */

#ifdef __cplusplus
extern "C" {
#endif

/* What a plugin exports: returns a static and does nothing else. */
const RatedPluginDecl *rated_plugin_entry(void);

#ifdef __cplusplus
}
#endif
