/* A rating module in C: one flat fee for each row of usage, added to the price so far.
 *
 * Build and try it:
 *
 *     cc -std=c11 -O2 -Wall -Wextra -shared -fPIC -I plugin-api/include plugin-api/examples/c/flat.c -o libflat.so
 *     rated plugin check libflat.so
 *
 * Its configuration has one key, `fee`, a text such as "0.25".
 */
#include <rated_plugin.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

__extension__ typedef __int128 int128;

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
#define SCALE_MAX 28

/* ---- Giving bytes away, failing -------------------------------------------------------------- */

static void release_buffer(RatedBuffer *buffer) {
  free(buffer->ptr);
  memset(buffer, 0, sizeof *buffer);
}

static RatedStatus fail(RatedError *error, RatedStatus status, const char *message) {
  size_t length = strlen(message);
  error->status = status;
  error->message.ptr = malloc(length);
  if (error->message.ptr != NULL) {
    memcpy(error->message.ptr, message, length);
    error->message.len = length;
    error->message.release = release_buffer;
  }
  return status;
}

/* ---- The instance: a fee, as `fee` / 10^`scale` ------------------------------------------------ */

typedef struct {
  int64_t fee;
  int scale;
} Flat;

static const char *skip_blanks(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')) at++;
  return at;
}

/* Where the text goes on after `word`; null when it is not there. */
static const char *expect(const char *at, const char *end, const char *word) {
  size_t length = strlen(word);
  if (at == NULL) return NULL;
  at = skip_blanks(at, end);
  if ((size_t)(end - at) < length || memcmp(at, word, length) != 0) return NULL;
  return at + length;
}

/* A number of at most 18 digits; null when it is none. */
static const char *read_fee(const char *at, const char *end, Flat *flat) {
  int digits = 0;
  bool is_fraction = false;
  for (; at != NULL && at < end && *at != '"'; at++) {
    if (*at == '.' && !is_fraction && digits > 0) {
      is_fraction = true;
    } else if (*at >= '0' && *at <= '9' && digits < 18) {
      flat->fee = flat->fee * 10 + (*at - '0');
      flat->scale += is_fraction;
      digits++;
    } else {
      return NULL;
    }
  }
  return digits > 0 ? at : NULL;
}

static RatedStatus create(const RatedHostApi *host, RatedHostRef reference, RatedBytes config,
                          void **out, RatedError *error) {
  const char *begin = (const char *)config.ptr, *end = begin + config.len;
  const char *at = expect(begin, end, "{");
  Flat flat = {0, 0};
  (void)host, (void)reference;
  if (at != NULL && expect(at, end, "}") == NULL) {
    at = expect(expect(expect(at, end, "\"fee\""), end, ":"), end, "\"");
    at = expect(read_fee(at, end, &flat), end, "\"");
  }
  at = expect(at, end, "}");
  if (at == NULL || skip_blanks(at, end) != end) {
    return fail(error, RATED_INVALID_CONFIG, "the only key is `fee`, a text such as \"0.25\"");
  }
  Flat *instance = malloc(sizeof *instance);
  if (instance == NULL) return fail(error, RATED_INTERNAL, "out of memory");
  *instance = flat;
  *out = instance;
  return RATED_OK;
}

static RatedStatus check(const void *instance, const RatedCall *call, RatedError *error) {
  (void)instance, (void)call, (void)error;
  return RATED_OK;
}

/* A rater is a copy: rules do not change under way. */
static RatedStatus prepare(const void *instance, const RatedCall *call, int64_t as_of_ns,
                           uint64_t revision, void **out, RatedError *error) {
  Flat *rater = malloc(sizeof *rater);
  (void)call, (void)as_of_ns, (void)revision;
  if (rater == NULL) return fail(error, RATED_INTERNAL, "out of memory");
  *rater = *(const Flat *)instance;
  *out = rater;
  return RATED_OK;
}

static RatedStatus handle(const void *instance, const RatedCall *call, const RatedRequest *request,
                          RatedResponse *response, RatedError *error) {
  (void)instance, (void)call, (void)request, (void)error;
  response->status = 404;
  return RATED_OK;
}

/* ---- The answer: a struct array with one decimal column ---------------------------------------- */

typedef struct {
  const void *buffers[2]; /* validity (none), values */
} Column;

typedef struct {
  const void *buffers[1];
  struct ArrowArray *children[1];
  struct ArrowArray column;
} Batch;

static void release_column(struct ArrowArray *array) {
  Column *column = array->private_data;
  free((void *)column->buffers[1]);
  free(column);
  array->release = NULL;
}

static void release_batch(struct ArrowArray *array) {
  Batch *batch = array->private_data;
  /* Whoever took the column out has marked it as released. */
  if (batch->column.release != NULL) batch->column.release(&batch->column);
  free(batch);
  array->release = NULL;
}

/* Takes `values`, whatever the outcome. */
static bool make_batch(struct ArrowArray *out, int64_t rows, void *values) {
  Batch *batch = calloc(1, sizeof *batch);
  Column *column = calloc(1, sizeof *column);
  if (batch == NULL || column == NULL || values == NULL) {
    free(batch), free(column), free(values);
    return false;
  }
  column->buffers[1] = values;
  batch->column = (struct ArrowArray){.length = rows, .n_buffers = 2, .buffers = column->buffers,
                                      .release = release_column, .private_data = column};
  batch->children[0] = &batch->column;
  *out = (struct ArrowArray){.length = rows, .n_buffers = 1, .n_children = 1,
                             .buffers = batch->buffers, .children = batch->children,
                             .release = release_batch, .private_data = batch};
  return true;
}

typedef struct {
  struct ArrowSchema *children[1];
  struct ArrowSchema column;
  char format[sizeof "d:38,28"];
  char metadata[4 + 4 + 12 + 4 + 7]; /* count, key, value, each with its length */
} Schema;

static void release_schema_column(struct ArrowSchema *schema) { schema->release = NULL; }

static void release_schema(struct ArrowSchema *schema) {
  free(schema->private_data);
  schema->release = NULL;
}

static bool make_schema(struct ArrowSchema *out, int scale) {
  Schema *schema = calloc(1, sizeof *schema);
  const int32_t count = 1, key = 12, value = 7;
  if (schema == NULL) return false;
  memcpy(schema->format, "d:38,", 5);
  schema->format[5] = (char)(scale < 10 ? '0' + scale : '0' + scale / 10);
  if (scale >= 10) schema->format[6] = (char)('0' + scale % 10);
  memcpy(schema->metadata, &count, 4);
  memcpy(schema->metadata + 4, &key, 4);
  memcpy(schema->metadata + 8, "rated.schema", 12);
  memcpy(schema->metadata + 20, &value, 4);
  memcpy(schema->metadata + 24, "price/1", 7);
  schema->column = (struct ArrowSchema){.format = schema->format, .name = "price",
                                        .release = release_schema_column};
  schema->children[0] = &schema->column;
  *out = (struct ArrowSchema){.format = "+s", .name = "", .metadata = schema->metadata,
                              .n_children = 1, .children = schema->children,
                              .release = release_schema, .private_data = schema};
  return true;
}

/* ---- Rating ------------------------------------------------------------------------------------ */

/* The index of the column of prices and its scale; -1 when there is none. */
static int64_t price_column(const struct ArrowSchema *schema, int *scale) {
  for (int64_t index = 0; index < schema->n_children; index++) {
    const struct ArrowSchema *column = schema->children[index];
    if (strcmp(column->name, "price") == 0 && strncmp(column->format, "d:38,", 5) == 0) {
      *scale = atoi(column->format + 5);
      return index;
    }
  }
  return -1;
}

static bool times_power(int128 *value, int digits) {
  for (; digits > 0; digits--) {
    if (__builtin_mul_overflow(*value, (int128)10, value)) return false;
  }
  return true;
}

/* The prices in the larger of the two scales; null when one does not fit or memory is out. */
static void *add_fee(const Flat *flat, const struct ArrowArray *batch, int64_t index,
                     int price_scale, int scale) {
  int128 limit = 1, fee = flat->fee;
  const struct ArrowArray *column = batch->children[index];
  size_t rows = (size_t)batch->length;
  int128 *values = malloc((rows + 1) * sizeof *values);
  if (values == NULL || !times_power(&limit, 38) || !times_power(&fee, scale - flat->scale)) {
    free(values);
    return NULL;
  }
  for (size_t row = 0; row < rows; row++) {
    /* The slice of a batch starts at an offset; values may be aligned to 8 bytes only. */
    const char *buffer = column->buffers[1];
    size_t at = row + (size_t)(batch->offset + column->offset);
    int128 price;
    memcpy(&price, buffer + at * sizeof price, sizeof price);
    if (!times_power(&price, scale - price_scale) || __builtin_add_overflow(price, fee, &price) ||
        price >= limit || price <= -limit) {
      free(values);
      return NULL;
    }
    values[row] = price;
  }
  return values;
}

static RatedStatus rate_batch(const Flat *flat, const struct ArrowArray *batch,
                              const struct ArrowSchema *schema, struct ArrowArray *out_batch,
                              struct ArrowSchema *out_schema, RatedError *error) {
  int price_scale = 0;
  int64_t index = price_column(schema, &price_scale);
  if (index < 0 || price_scale < 0 || price_scale > SCALE_MAX) {
    return fail(error, RATED_BAD_DATA, "no column `price` of decimals");
  }
  int scale = price_scale > flat->scale ? price_scale : flat->scale;
  void *prices = add_fee(flat, batch, index, price_scale, scale);
  if (prices == NULL) {
    error->flags = RATED_ERROR_SPLIT;
    return fail(error, RATED_BAD_DATA, "the prices do not fit one column");
  }
  if (!make_batch(out_batch, batch->length, prices)) {
    return fail(error, RATED_INTERNAL, "out of memory");
  }
  if (!make_schema(out_schema, scale)) {
    out_batch->release(out_batch);
    return fail(error, RATED_INTERNAL, "out of memory");
  }
  return RATED_OK;
}

static RatedStatus rate(const void *rater, const RatedCall *call, const RatedRate *request,
                        struct ArrowArray *batch, struct ArrowSchema *schema,
                        struct ArrowArray *out_batch, struct ArrowSchema *out_schema,
                        RatedError *error) {
  (void)call, (void)request;
  RatedStatus status = rate_batch(rater, batch, schema, out_batch, out_schema, error);
  /* They are ours, whatever the outcome. */
  if (batch->release != NULL) batch->release(batch);
  if (schema->release != NULL) schema->release(schema);
  return status;
}

/* ---- The declaration --------------------------------------------------------------------------- */

static RatedStatus start(const RatedHostApi *host, RatedHostRef reference) {
  (void)host, (void)reference;
  return RATED_OK;
}

static const RatedRatingVTable table = {
    .struct_size = sizeof table,
    .create = create,
    .destroy = free,
    .check = check,
    .prepare = prepare,
    .release_rater = free,
    .rate = rate,
    .handle = handle,
    .explain = NULL, /* gives no reasons */
};

static const RatedComponentDecl component = {
    .struct_size = sizeof component,
    .kind = RATED_KIND_RATING,
    .name = TEXT("flat-c"),
    .summary = TEXT("One flat fee for each row"),
    .sample_config = TEXT("fee = \"0.25\"  # added to the price of each row\n"),
    .vtable = &table,
};

static const RatedComponentDecl *const components[] = {&component};

static const RatedPluginDecl plugin = {
    .magic = RATED_MAGIC,
    .struct_size = sizeof plugin,
    .abi_major = RATED_ABI_MAJOR,
    .abi_minor = RATED_ABI_MINOR,
    .flags = RATED_FLAG_UNWINDS, /* C has no panics, so none can cross the interface */
    .name = TEXT("flat-c"),
    .version = TEXT("1.0.0"),
    .built_with = TEXT("a C compiler"),
    .components = components,
    .components_len = 1,
    .start = start,
};

const RatedPluginDecl *rated_plugin_entry(void) { return &plugin; }
