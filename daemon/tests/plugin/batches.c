/* A fetcher whose batches have one thing wrong, which its configuration says: `{"gives":"3"}`;
 * 0 = sound, with one scope `a`. */

#include "rated_plugin.h"

static const RatedFetcherVTable fetcher;

#define NAME "batches"
#define KIND RATED_KIND_FETCHER
#define TABLE fetcher
#include "fixture.c"

static int gives;

static void release_schema(struct ArrowSchema *schema) { schema->release = NULL; }
static void release_array(struct ArrowArray *array) { array->release = NULL; }

static RatedStatus give_schema(RatedBatches *batches, struct ArrowSchema *out, RatedError *error) {
  (void)batches, (void)error;
  static char metadata[4 + 4 + 12 + 4 + 8];
  static const int32_t numbers[] = {1, 12, 8};
  static struct ArrowSchema column, *columns[] = {&column};
  column = (struct ArrowSchema){.format = "u", .name = "scope_id", .release = release_schema};
  memcpy(metadata, &numbers[0], 4);
  memcpy(metadata + 4, &numbers[1], 4);
  memcpy(metadata + 8, "rated.schema", 12);
  memcpy(metadata + 20, &numbers[2], 4);
  memcpy(metadata + 24, "scopes/1", 8);
  if (gives == 1) {
    return RATED_OK;
  }
  if (gives == 2) {
    return RATED_END;
  }
  if (gives == 3) {
    return 99;
  }
  *out = (struct ArrowSchema){.format = gives == 4 ? "i" : "+s", .name = "", .metadata = metadata,
                              .n_children = 1, .children = columns, .release = release_schema};
  return RATED_OK;
}

static RatedStatus give_batch(RatedBatches *batches, const RatedCall *call,
                              struct ArrowArray *out, RatedError *error) {
  (void)call, (void)error;
  static int32_t offsets[2], unaligned[4];
  static const void *buffers[3], *no_nulls[] = {NULL};
  static struct ArrowArray values, *children[] = {&values};
  if (batches->private_data != NULL) {
    return gives == 5 ? 99 : RATED_END;
  }
  batches->private_data = batches;
  offsets[0] = 0, offsets[1] = 1;
  buffers[0] = NULL, buffers[1] = offsets, buffers[2] = "a";
  values = (struct ArrowArray){.length = 1, .n_buffers = 3, .buffers = buffers,
                               .release = release_array};
  *out = (struct ArrowArray){.length = 1, .n_buffers = 1, .n_children = 1, .buffers = no_nulls,
                             .children = children, .release = release_array};
  switch (gives) {
  case 6: out->release = NULL; break;
  case 7: out->n_children = -1; break;
  case 8: out->children = NULL; break;
  case 9: out->length = -1; break;
  case 10: values.length = 0; break;
  case 11: values.n_buffers = 2; break;
  case 12: values.buffers = NULL; break;
  case 13: offsets[0] = 1, offsets[1] = 0; break;
  case 14: offsets[0] = -5; break;
  case 15: buffers[2] = "\xff"; break;
  /* Not aligned to anything, though the bytes are right. */
  case 16: buffers[1] = memcpy((char *)unaligned + 1, offsets, sizeof(offsets)); break;
  /* Point to nothing. */
  case 20: buffers[1] = (const void *)16; break;
  case 21: buffers[2] = (const void *)16; break;
  }
  return RATED_OK;
}

static void release_batches(RatedBatches *batches) { (void)batches; }

static RatedStatus scopes(const void *self, const RatedCall *call, RatedBatches *out,
                          RatedError *error) {
  (void)self, (void)call, (void)error;
  *out = (RatedBatches){give_schema, give_batch, release_batches, NULL};
  switch (gives) {
  case 17: *out = (RatedBatches){0}; break;
  case 18: out->next = NULL; break;
  case 19: out->release = NULL; break;
  }
  return RATED_OK;
}

static RatedStatus make(const RatedHostApi *api, RatedHostRef host, RatedBytes config, void **out,
                        RatedError *error) {
  /* `{"gives":"3"}` */
  const size_t at = sizeof("{\"gives\":\"") - 1;
  char number[8] = {0};
  if (config.len > at) {
    memcpy(number, config.ptr + at, config.len - at < 7 ? config.len - at : 7);
  }
  gives = atoi(number);
  return create(api, host, config, out, error);
}

static const RatedFetcherVTable fetcher = {
    sizeof(RatedFetcherVTable), make, destroy, check, scopes,
};
