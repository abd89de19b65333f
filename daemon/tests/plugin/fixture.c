/* A rating module in C with one thing wrong, chosen by macros; without any it is sound. */

#include "rated_plugin.h"

#include <stdlib.h>
#include <string.h>

#ifndef MAGIC
#define MAGIC RATED_MAGIC
#endif
#ifndef MAJOR
#define MAJOR RATED_ABI_MAJOR
#endif
#ifndef MINOR
#define MINOR RATED_ABI_MINOR
#endif
#ifndef DECL_SIZE
#define DECL_SIZE sizeof(RatedPluginDecl)
#endif
#ifndef COMPONENT_SIZE
#define COMPONENT_SIZE sizeof(RatedComponentDecl)
#endif
#ifndef TABLE_SIZE
#define TABLE_SIZE sizeof(RatedRatingVTable)
#endif
#ifndef FLAGS
#define FLAGS RATED_FLAG_UNWINDS
#endif
#ifndef FEATURES
#define FEATURES 0
#endif
#ifndef KIND
#define KIND RATED_KIND_RATING
#endif
#ifndef NAME
#define NAME "fixture"
#endif
#ifndef ANSWER
#define ANSWER "1"
#endif
#ifndef START_STATUS
#define START_STATUS RATED_OK
#endif
#ifndef PATHS
#define PATHS "{\"/answer\": {\"get\": {}}}"
#endif
#ifndef START
#define START start
#endif
#ifndef HANDLE
#define HANDLE handle
#endif
#ifndef EXPLAIN
#define EXPLAIN NULL
#endif
#ifndef CREATE
#define CREATE create
#endif
#ifndef DESTROY
#define DESTROY destroy
#endif
#ifndef PREPARE
#define PREPARE prepare
#endif
#ifndef RELEASE
#define RELEASE destroy
#endif
#ifndef RATE
#define RATE rate
#endif
#ifndef TABLE
#define TABLE table
#endif
#ifndef COMPONENT_FLAGS
#define COMPONENT_FLAGS 0
#endif
#ifndef CREATE_STATUS
#define CREATE_STATUS RATED_OK
#endif

#define TEXT(text) {(const uint8_t *)(text), sizeof(text) - 1}

#ifdef UNDEFINED
extern int nobody_has_this(void);
#endif

static RatedStatus start(const RatedHostApi *api, RatedHostRef host) {
  (void)api, (void)host;
#ifdef UNDEFINED
  return nobody_has_this();
#endif
#ifdef KEEPS_A_KEY
  /* Once in a process, and not once more. */
  static int starts;
  if (starts++ > 0) {
    return 11;
  }
#endif
  return START_STATUS;
}

static RatedStatus create(const RatedHostApi *api, RatedHostRef host, RatedBytes config,
                          void **out, RatedError *error) {
  (void)api, (void)host, (void)config, (void)error;
#ifdef KEEPS_A_KEY
  const RatedEdit edit = {.key = TEXT("made"), .value = TEXT("once")};
  uint64_t revision = 0;
  const RatedStatus kept = api->kv_apply(host, 0, &edit, 1, &revision, error);
  if (kept != RATED_OK) {
    *out = NULL;
    return kept;
  }
#endif
  /* Nobody takes what comes with a refusal: it would be lost. */
  *out = CREATE_STATUS == RATED_OK ? malloc(1) : NULL;
  return CREATE_STATUS;
}

static void destroy(void *pointer) { free(pointer); }

static RatedStatus check(const void *self, const RatedCall *call, RatedError *error) {
  (void)self, (void)call, (void)error;
  return RATED_OK;
}

static RatedStatus prepare(const void *self, const RatedCall *call, int64_t as_of_ns,
                           uint64_t revision, void **out, RatedError *error) {
  (void)self, (void)call, (void)as_of_ns, (void)revision, (void)error;
  *out = malloc(1);
  return RATED_OK;
}

#ifdef GIVES
static void release_schema(struct ArrowSchema *schema) { schema->release = NULL; }
static void release_array(struct ArrowArray *array) { array->release = NULL; }

/* A price for one row, with one thing wrong that the number says; 0 = sound. */
static void give(struct ArrowArray *out_array, struct ArrowSchema *out_schema) {
  static char metadata[4 + 4 + 12 + 4 + 7];
  static int32_t numbers[] = {1, 12, 7};
  static struct ArrowSchema column = {.format = "d:38,2", .name = "price"};
  static struct ArrowSchema *columns[] = {&column};
  static uint64_t prices[] = {125, 0};
  static uint64_t unaligned[3];
  static const void *buffers[] = {NULL, NULL};
  buffers[1] = prices;
  static struct ArrowArray values = {.length = 1, .n_buffers = 2, .buffers = buffers};
  static struct ArrowArray *children[] = {&values};
  static const void *no_nulls[] = {NULL};
  memcpy(metadata, &numbers[0], 4);
  memcpy(metadata + 4, &numbers[1], 4);
  memcpy(metadata + 8, "rated.schema", 12);
  memcpy(metadata + 20, &numbers[2], 4);
  memcpy(metadata + 24, "price/1", 7);
  column.release = release_schema;
  values.release = release_array;
  *out_schema = (struct ArrowSchema){.format = "+s", .name = "", .metadata = metadata,
                                     .n_children = 1, .children = columns,
                                     .release = release_schema};
  *out_array = (struct ArrowArray){.length = 1, .n_buffers = 1, .n_children = 1,
                                   .buffers = no_nulls, .children = children,
                                   .release = release_array};
  switch (GIVES) {
  case 1: column.format = "nonsense"; break;
  case 2: column.format = NULL; break;
  case 3: out_schema->n_children = -1; break;
  case 4: out_schema->children = NULL; break;
  case 5: out_array->length = -1; break;
  case 6: out_array->n_children = 0; break;
  case 7: out_array->children = NULL; break;
  case 8: values.buffers = NULL; break;
  case 9: values.length = 0; break;
  case 10: column.name = "\xff\xfe"; break;
  case 11: out_array->offset = INT64_MAX; break;
  case 12: out_array->release = NULL; break;
  case 13: values.n_buffers = 1; break;
  case 14: values.length = -5; break;
  /* Not aligned to anything; the bytes are right. */
  case 15: buffers[1] = (char *)memcpy((char *)unaligned + 1, prices, sizeof(prices)); break;
  /* Points to nothing. */
  case 16: buffers[1] = (const void *)16; break;
  }
}
#endif

/* Without `GIVES`: says OK and gives neither a schema nor an array. */
static RatedStatus rate(const void *rater, const RatedCall *call, const RatedRate *request,
                        struct ArrowArray *array, struct ArrowSchema *schema,
                        struct ArrowArray *out_array, struct ArrowSchema *out_schema,
                        RatedError *error) {
  (void)rater, (void)call, (void)request, (void)error;
  array->release(array);
  schema->release(schema);
#ifdef GIVES
  give(out_array, out_schema);
#else
  (void)out_array, (void)out_schema;
#endif
  return RATED_OK;
}

static void release(RatedBuffer *buffer) {
  free(buffer->ptr);
  buffer->release = NULL;
}

static RatedStatus handle(const void *self, const RatedCall *call, const RatedRequest *request,
                          RatedResponse *response, RatedError *error) {
  (void)self, (void)call, (void)request, (void)error;
  response->status = 200;
  response->body.len = sizeof(ANSWER) - 1;
  response->body.ptr = malloc(sizeof(ANSWER));
  response->body.release = release;
  memcpy(response->body.ptr, ANSWER, sizeof(ANSWER));
  return RATED_OK;
}

#ifdef REASONS
static RatedStatus explain(const void *rater, const RatedCall *call, const RatedRate *request,
                           struct ArrowArray *array, struct ArrowSchema *schema, size_t first_row,
                           size_t rows, RatedBuffer *out_json, RatedError *error) {
  (void)rater, (void)call, (void)request, (void)first_row, (void)rows, (void)error;
  array->release(array);
  schema->release(schema);
  out_json->len = sizeof(REASONS) - 1;
  out_json->ptr = malloc(sizeof(REASONS));
  out_json->release = release;
  memcpy(out_json->ptr, REASONS, sizeof(REASONS));
  return RATED_OK;
}
#undef EXPLAIN
#define EXPLAIN explain
#endif

static const RatedRatingVTable table = {
    TABLE_SIZE, CREATE, DESTROY, check, PREPARE, RELEASE, RATE, HANDLE, EXPLAIN,
};

static const RatedComponentDecl component = {
    .struct_size = COMPONENT_SIZE,
    .kind = KIND,
    .flags = COMPONENT_FLAGS,
    .name = TEXT(NAME),
    .summary = TEXT("A fixture."),
    .api_schema = TEXT(PATHS),
    .vtable = &TABLE,
};

static const RatedComponentDecl *const components[] = {&component};

static const RatedPluginDecl declaration = {
    .magic = MAGIC,
    .struct_size = DECL_SIZE,
    .abi_major = MAJOR,
    .abi_minor = MINOR,
    .features_required = FEATURES,
    .flags = FLAGS,
    .name = TEXT("fixture"),
    .version = TEXT("1.0"),
    .built_with = TEXT("cc"),
    .components = components,
    .components_len = 1,
    .start = START,
};

#ifndef NO_ENTRY
const RatedPluginDecl *rated_plugin_entry(void) {
#ifdef NO_DECLARATION
  return NULL;
#else
  return &declaration;
#endif
}
#endif
