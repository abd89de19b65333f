/* Written by tests/abi/layout.rs: what Rust sees, for a C compiler to agree with. */
#include <rated_plugin.h>

#ifdef __cplusplus
#define _Static_assert static_assert
#endif

_Static_assert(offsetof(RatedBytes, ptr) == 0, "RatedBytes.ptr");
_Static_assert(offsetof(RatedBytes, len) == 8, "RatedBytes.len");
_Static_assert(sizeof(RatedBytes) == 16, "RatedBytes");

_Static_assert(offsetof(RatedBuffer, ptr) == 0, "RatedBuffer.ptr");
_Static_assert(offsetof(RatedBuffer, len) == 8, "RatedBuffer.len");
_Static_assert(offsetof(RatedBuffer, release) == 16, "RatedBuffer.release");
_Static_assert(offsetof(RatedBuffer, private_data) == 24, "RatedBuffer.private_data");
_Static_assert(sizeof(RatedBuffer) == 32, "RatedBuffer");

_Static_assert(offsetof(RatedError, status) == 0, "RatedError.status");
_Static_assert(offsetof(RatedError, flags) == 4, "RatedError.flags");
_Static_assert(offsetof(RatedError, message) == 8, "RatedError.message");
_Static_assert(sizeof(RatedError) == 40, "RatedError");

_Static_assert(offsetof(RatedCall, struct_size) == 0, "RatedCall.struct_size");
_Static_assert(offsetof(RatedCall, deadline_ns) == 8, "RatedCall.deadline_ns");
_Static_assert(offsetof(RatedCall, trace_id) == 16, "RatedCall.trace_id");
_Static_assert(offsetof(RatedCall, span_id) == 32, "RatedCall.span_id");
_Static_assert(offsetof(RatedCall, cancel) == 40, "RatedCall.cancel");
_Static_assert(sizeof(RatedCall) == 48, "RatedCall");

_Static_assert(offsetof(RatedPluginDecl, magic) == 0, "RatedPluginDecl.magic");
_Static_assert(offsetof(RatedPluginDecl, struct_size) == 8, "RatedPluginDecl.struct_size");
_Static_assert(offsetof(RatedPluginDecl, abi_major) == 12, "RatedPluginDecl.abi_major");
_Static_assert(offsetof(RatedPluginDecl, abi_minor) == 14, "RatedPluginDecl.abi_minor");
_Static_assert(offsetof(RatedPluginDecl, features_required) == 16, "RatedPluginDecl.features_required");
_Static_assert(offsetof(RatedPluginDecl, flags) == 24, "RatedPluginDecl.flags");
_Static_assert(offsetof(RatedPluginDecl, name) == 32, "RatedPluginDecl.name");
_Static_assert(offsetof(RatedPluginDecl, version) == 48, "RatedPluginDecl.version");
_Static_assert(offsetof(RatedPluginDecl, built_with) == 64, "RatedPluginDecl.built_with");
_Static_assert(offsetof(RatedPluginDecl, components) == 80, "RatedPluginDecl.components");
_Static_assert(offsetof(RatedPluginDecl, components_len) == 88, "RatedPluginDecl.components_len");
_Static_assert(offsetof(RatedPluginDecl, start) == 96, "RatedPluginDecl.start");
_Static_assert(sizeof(RatedPluginDecl) == 104, "RatedPluginDecl");

_Static_assert(offsetof(RatedComponentDecl, struct_size) == 0, "RatedComponentDecl.struct_size");
_Static_assert(offsetof(RatedComponentDecl, kind) == 8, "RatedComponentDecl.kind");
_Static_assert(offsetof(RatedComponentDecl, flags) == 12, "RatedComponentDecl.flags");
_Static_assert(offsetof(RatedComponentDecl, name) == 16, "RatedComponentDecl.name");
_Static_assert(offsetof(RatedComponentDecl, summary) == 32, "RatedComponentDecl.summary");
_Static_assert(offsetof(RatedComponentDecl, sample_config) == 48, "RatedComponentDecl.sample_config");
_Static_assert(offsetof(RatedComponentDecl, config_schema) == 64, "RatedComponentDecl.config_schema");
_Static_assert(offsetof(RatedComponentDecl, api_schema) == 80, "RatedComponentDecl.api_schema");
_Static_assert(offsetof(RatedComponentDecl, vtable) == 96, "RatedComponentDecl.vtable");
_Static_assert(sizeof(RatedComponentDecl) == 104, "RatedComponentDecl");

_Static_assert(offsetof(RatedCollectorVTable, struct_size) == 0, "RatedCollectorVTable.struct_size");
_Static_assert(offsetof(RatedCollectorVTable, create) == 8, "RatedCollectorVTable.create");
_Static_assert(offsetof(RatedCollectorVTable, destroy) == 16, "RatedCollectorVTable.destroy");
_Static_assert(offsetof(RatedCollectorVTable, check) == 24, "RatedCollectorVTable.check");
_Static_assert(offsetof(RatedCollectorVTable, collect) == 32, "RatedCollectorVTable.collect");
_Static_assert(sizeof(RatedCollectorVTable) == 40, "RatedCollectorVTable");

_Static_assert(offsetof(RatedFetcherVTable, struct_size) == 0, "RatedFetcherVTable.struct_size");
_Static_assert(offsetof(RatedFetcherVTable, create) == 8, "RatedFetcherVTable.create");
_Static_assert(offsetof(RatedFetcherVTable, destroy) == 16, "RatedFetcherVTable.destroy");
_Static_assert(offsetof(RatedFetcherVTable, check) == 24, "RatedFetcherVTable.check");
_Static_assert(offsetof(RatedFetcherVTable, scopes) == 32, "RatedFetcherVTable.scopes");
_Static_assert(sizeof(RatedFetcherVTable) == 40, "RatedFetcherVTable");

_Static_assert(offsetof(RatedRatingVTable, struct_size) == 0, "RatedRatingVTable.struct_size");
_Static_assert(offsetof(RatedRatingVTable, create) == 8, "RatedRatingVTable.create");
_Static_assert(offsetof(RatedRatingVTable, destroy) == 16, "RatedRatingVTable.destroy");
_Static_assert(offsetof(RatedRatingVTable, check) == 24, "RatedRatingVTable.check");
_Static_assert(offsetof(RatedRatingVTable, prepare) == 32, "RatedRatingVTable.prepare");
_Static_assert(offsetof(RatedRatingVTable, release_rater) == 40, "RatedRatingVTable.release_rater");
_Static_assert(offsetof(RatedRatingVTable, rate) == 48, "RatedRatingVTable.rate");
_Static_assert(offsetof(RatedRatingVTable, handle) == 56, "RatedRatingVTable.handle");
_Static_assert(offsetof(RatedRatingVTable, explain) == 64, "RatedRatingVTable.explain");
_Static_assert(sizeof(RatedRatingVTable) == 72, "RatedRatingVTable");

_Static_assert(offsetof(RatedBatches, schema) == 0, "RatedBatches.schema");
_Static_assert(offsetof(RatedBatches, next) == 8, "RatedBatches.next");
_Static_assert(offsetof(RatedBatches, release) == 16, "RatedBatches.release");
_Static_assert(offsetof(RatedBatches, private_data) == 24, "RatedBatches.private_data");
_Static_assert(sizeof(RatedBatches) == 32, "RatedBatches");

_Static_assert(offsetof(RatedCollect, struct_size) == 0, "RatedCollect.struct_size");
_Static_assert(offsetof(RatedCollect, metric) == 8, "RatedCollect.metric");
_Static_assert(offsetof(RatedCollect, scope_key) == 24, "RatedCollect.scope_key");
_Static_assert(offsetof(RatedCollect, scopes) == 40, "RatedCollect.scopes");
_Static_assert(offsetof(RatedCollect, scopes_len) == 48, "RatedCollect.scopes_len");
_Static_assert(offsetof(RatedCollect, begin_ns) == 56, "RatedCollect.begin_ns");
_Static_assert(offsetof(RatedCollect, end_ns) == 64, "RatedCollect.end_ns");
_Static_assert(sizeof(RatedCollect) == 72, "RatedCollect");

_Static_assert(offsetof(RatedRate, struct_size) == 0, "RatedRate.struct_size");
_Static_assert(offsetof(RatedRate, purpose) == 8, "RatedRate.purpose");
_Static_assert(offsetof(RatedRate, reserved) == 12, "RatedRate.reserved");
_Static_assert(offsetof(RatedRate, metric) == 16, "RatedRate.metric");
_Static_assert(offsetof(RatedRate, begin_ns) == 32, "RatedRate.begin_ns");
_Static_assert(offsetof(RatedRate, end_ns) == 40, "RatedRate.end_ns");
_Static_assert(sizeof(RatedRate) == 48, "RatedRate");

_Static_assert(offsetof(RatedRequest, struct_size) == 0, "RatedRequest.struct_size");
_Static_assert(offsetof(RatedRequest, method) == 8, "RatedRequest.method");
_Static_assert(offsetof(RatedRequest, reserved) == 12, "RatedRequest.reserved");
_Static_assert(offsetof(RatedRequest, path) == 16, "RatedRequest.path");
_Static_assert(offsetof(RatedRequest, query) == 32, "RatedRequest.query");
_Static_assert(offsetof(RatedRequest, content_type) == 48, "RatedRequest.content_type");
_Static_assert(offsetof(RatedRequest, body) == 64, "RatedRequest.body");
_Static_assert(offsetof(RatedRequest, principal) == 80, "RatedRequest.principal");
_Static_assert(sizeof(RatedRequest) == 96, "RatedRequest");

_Static_assert(offsetof(RatedResponse, struct_size) == 0, "RatedResponse.struct_size");
_Static_assert(offsetof(RatedResponse, status) == 8, "RatedResponse.status");
_Static_assert(offsetof(RatedResponse, reserved) == 12, "RatedResponse.reserved");
_Static_assert(offsetof(RatedResponse, content_type) == 16, "RatedResponse.content_type");
_Static_assert(offsetof(RatedResponse, location) == 48, "RatedResponse.location");
_Static_assert(offsetof(RatedResponse, body) == 80, "RatedResponse.body");
_Static_assert(sizeof(RatedResponse) == 112, "RatedResponse");

_Static_assert(offsetof(RatedHttpRequest, struct_size) == 0, "RatedHttpRequest.struct_size");
_Static_assert(offsetof(RatedHttpRequest, method) == 8, "RatedHttpRequest.method");
_Static_assert(offsetof(RatedHttpRequest, reserved) == 12, "RatedHttpRequest.reserved");
_Static_assert(offsetof(RatedHttpRequest, url) == 16, "RatedHttpRequest.url");
_Static_assert(offsetof(RatedHttpRequest, headers) == 32, "RatedHttpRequest.headers");
_Static_assert(offsetof(RatedHttpRequest, body) == 48, "RatedHttpRequest.body");
_Static_assert(offsetof(RatedHttpRequest, options) == 64, "RatedHttpRequest.options");
_Static_assert(sizeof(RatedHttpRequest) == 80, "RatedHttpRequest");

_Static_assert(offsetof(RatedHttpResponse, struct_size) == 0, "RatedHttpResponse.struct_size");
_Static_assert(offsetof(RatedHttpResponse, status) == 8, "RatedHttpResponse.status");
_Static_assert(offsetof(RatedHttpResponse, reserved) == 12, "RatedHttpResponse.reserved");
_Static_assert(offsetof(RatedHttpResponse, headers) == 16, "RatedHttpResponse.headers");
_Static_assert(offsetof(RatedHttpResponse, body) == 48, "RatedHttpResponse.body");
_Static_assert(sizeof(RatedHttpResponse) == 80, "RatedHttpResponse");

_Static_assert(offsetof(RatedEdit, key) == 0, "RatedEdit.key");
_Static_assert(offsetof(RatedEdit, value) == 16, "RatedEdit.value");
_Static_assert(sizeof(RatedEdit) == 32, "RatedEdit");

_Static_assert(offsetof(RatedHostApi, struct_size) == 0, "RatedHostApi.struct_size");
_Static_assert(offsetof(RatedHostApi, abi_minor) == 8, "RatedHostApi.abi_minor");
_Static_assert(offsetof(RatedHostApi, reserved) == 12, "RatedHostApi.reserved");
_Static_assert(offsetof(RatedHostApi, features) == 16, "RatedHostApi.features");
_Static_assert(offsetof(RatedHostApi, log_enabled) == 24, "RatedHostApi.log_enabled");
_Static_assert(offsetof(RatedHostApi, log) == 32, "RatedHostApi.log");
_Static_assert(offsetof(RatedHostApi, now_ns) == 40, "RatedHostApi.now_ns");
_Static_assert(offsetof(RatedHostApi, is_cancelled) == 48, "RatedHostApi.is_cancelled");
_Static_assert(offsetof(RatedHostApi, kv_get) == 56, "RatedHostApi.kv_get");
_Static_assert(offsetof(RatedHostApi, kv_scan) == 64, "RatedHostApi.kv_scan");
_Static_assert(offsetof(RatedHostApi, kv_apply) == 72, "RatedHostApi.kv_apply");
_Static_assert(offsetof(RatedHostApi, count) == 80, "RatedHostApi.count");
_Static_assert(offsetof(RatedHostApi, observe) == 88, "RatedHostApi.observe");
_Static_assert(offsetof(RatedHostApi, http_send) == 96, "RatedHostApi.http_send");
_Static_assert(sizeof(RatedHostApi) == 104, "RatedHostApi");

