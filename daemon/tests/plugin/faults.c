/* A rating module that does to its own process what its paths say, the sooner the worse; or what
 * its configuration says, `{"does": "die in explain"}`, as long as the file is there that `while`
 * names, if it names one. */

#define _GNU_SOURCE
#include "rated_plugin.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static RatedStatus do_harm(const void *self, const RatedCall *call, const RatedRequest *request,
                           RatedResponse *response, RatedError *error);

static RatedStatus make(const RatedHostApi *api, RatedHostRef host, RatedBytes config, void **out,
                        RatedError *error);
static void end(void *pointer);
static RatedStatus make_rules(const void *self, const RatedCall *call, int64_t as_of_ns,
                              uint64_t revision, void **out, RatedError *error);
static void end_rules(void *pointer);
static RatedStatus rate_badly(const void *rater, const RatedCall *call, const RatedRate *request,
                              struct ArrowArray *array, struct ArrowSchema *schema,
                              struct ArrowArray *out_array, struct ArrowSchema *out_schema,
                              RatedError *error);
static RatedStatus explain_badly(const void *rater, const RatedCall *call,
                                 const RatedRate *request, struct ArrowArray *array,
                                 struct ArrowSchema *schema, size_t first_row, size_t rows,
                                 RatedBuffer *out_json, RatedError *error);

/* What `rate` gives: set by `GET /give-N`. */
static int given;

#define NAME "faults"
#define PATHS "{\"/{what}\": {\"get\": {}}}"
#define HANDLE do_harm
#define GIVES given
#define CREATE make
#define DESTROY end
#define PREPARE make_rules
#define RELEASE end_rules
#define RATE rate_badly
#define EXPLAIN explain_badly
#include "fixture.c"

static const RatedHostApi *host_api;
static RatedHostRef host_ref;
/* The configuration, as it came. */
static char settings[1024];
static char while_file[512];
static atomic_int prepared, waiting, dying, handled;

/* The text behind `"name":"` in the configuration. */
static void setting(const char *name, char *out, size_t size) {
  char start[32];
  snprintf(start, sizeof(start), "\"%s\":\"", name);
  const char *begin = strstr(settings, start);
  out[0] = 0;
  if (begin != NULL) {
    begin += strlen(start);
    const size_t length = strcspn(begin, "\"");
    snprintf(out, size, "%.*s", (int)length, begin);
  }
}

static int is_armed(void) { return while_file[0] == 0 || access(while_file, F_OK) == 0; }

static int does(const char *what) {
  char found[64];
  setting("does", found, sizeof(found));
  return strcmp(found, what) == 0 && is_armed();
}

static void harm(const char *call) {
  char what[64];
  snprintf(what, sizeof(what), "die in %s", call);
  if (does(what)) {
    abort();
  }
  snprintf(what, sizeof(what), "hang in %s", call);
  if (does(what)) {
    for (;;) {
      pause();
    }
  }
}

static RatedStatus make(const RatedHostApi *api, RatedHostRef host, RatedBytes config, void **out,
                        RatedError *error) {
  host_api = api;
  host_ref = host;
  snprintf(settings, sizeof(settings), "%.*s", (int)config.len, (const char *)config.ptr);
  setting("while", while_file, sizeof(while_file));
  harm("create");
  if (does("time out in create")) {
    return RATED_TIMEOUT;
  }
  return create(api, host, config, out, error);
}

static RatedStatus store(const char *key, const char *value, RatedError *error) {
  const RatedEdit edit = {.key = {(const uint8_t *)key, strlen(key)},
                          .value = {(const uint8_t *)value, strlen(value)}};
  uint64_t revision = 0;
  return host_api->kv_apply(host_ref, 0, &edit, 1, &revision, error);
}

static void end(void *pointer) {
  if (does("store at the end")) {
    store("ended", "1", NULL);
  }
  if (does("store what is left at the end")) {
    struct itimerval alarm = {0};
    char text[16];
    getitimer(ITIMER_REAL, &alarm);
    snprintf(text, sizeof(text), "%ld", (long)alarm.it_value.tv_sec);
    store("left", text, NULL);
  }
  destroy(pointer);
}

static RatedStatus make_rules(const void *self, const RatedCall *call, int64_t as_of_ns,
                              uint64_t revision, void **out, RatedError *error) {
  prepared++;
  harm("prepare");
  return prepare(self, call, as_of_ns, revision, out, error);
}

static void end_rules(void *pointer) {
  harm("release");
  destroy(pointer);
}

/* A batch of 13 rows is the one that harms; others wait for it. */
static void wait_for_death(int64_t rows) {
  if (rows != 13) {
    waiting++;
    while (is_armed() || dying) {
      usleep(1000);
    }
    waiting--;
    return;
  }
  while (is_armed() && waiting < 3) {
    usleep(1000);
  }
  dying = 1;
  unlink(while_file);
  abort();
}

static RatedStatus rate_badly(const void *rater, const RatedCall *call, const RatedRate *request,
                              struct ArrowArray *array, struct ArrowSchema *schema,
                              struct ArrowArray *out_array, struct ArrowSchema *out_schema,
                              RatedError *error) {
  char found[64];
  setting("does", found, sizeof(found));
  harm("rate");
  if (strcmp(found, "die of 13 rows") == 0) {
    wait_for_death(array->length);
  }
  return rate(rater, call, request, array, schema, out_array, out_schema, error);
}

static RatedStatus explain_badly(const void *rater, const RatedCall *call,
                                 const RatedRate *request, struct ArrowArray *array,
                                 struct ArrowSchema *schema, size_t first_row, size_t rows,
                                 RatedBuffer *out_json, RatedError *error) {
  (void)rater, (void)call, (void)request, (void)first_row, (void)rows, (void)out_json;
  array->release(array);
  schema->release(schema);
  harm("explain");
  return does("store in explain") ? store("explained", "1", error) : RATED_UNSUPPORTED;
}

static int is(const RatedRequest *request, const char *path) {
  return request->path.len == strlen(path) && memcmp(request->path.ptr, path, strlen(path)) == 0;
}

static void answer(RatedResponse *response, const char *text) {
  response->status = 200;
  response->body.len = strlen(text);
  response->body.ptr = (uint8_t *)strdup(text);
  response->body.release = release;
}

/* 8 GiB of address space, a page of each part written to: that is what the limits count. */
static void leak(int flags) {
  const size_t step = (size_t)64 << 20;
  for (int count = 0; count < 128; count++) {
    void *memory = mmap(NULL, step, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
    if (memory == MAP_FAILED) {
      abort();
    }
    memset(memory, 1, 4096);
  }
}

/* A child that nobody waits for and that tries to get away. */
static void leave_a_child(RatedResponse *response) {
  char text[64];
  const pid_t child = fork();
  if (child == 0) {
    setpgid(0, 0);
    setsid();
    /* Longer than the test waits for its death; one that got away ends some time. */
    for (int left = 60; left > 0; left--) {
      sleep(1);
    }
    _exit(0);
  }
  snprintf(text, sizeof(text), "%d", (int)child);
  answer(response, text);
}

static void say_on_every_file(const void *bytes, size_t size) {
  for (int file = 3; file < 1024; file++) {
    if (write(file, bytes, size) < 0) {
      continue;
    }
  }
}

/* Everything that is open, to somebody who is not killed with this process. */
static void give_away(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  union {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(16 * sizeof(int))];
  } control = {0};
  char byte = 0;
  struct iovec part = {&byte, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes};
  size_t count = 0;
  const int link = socket(AF_UNIX, SOCK_STREAM, 0);
  setting("to", address.sun_path, sizeof(address.sun_path));
  for (int file = 3; file < 64 && count < 16; file++) {
    if (file != link && fcntl(file, F_GETFD) >= 0) {
      memcpy(CMSG_DATA(&control.head) + count++ * sizeof(int), &file, sizeof(int));
    }
  }
  control.head.cmsg_level = SOL_SOCKET;
  control.head.cmsg_type = SCM_RIGHTS;
  control.head.cmsg_len = CMSG_LEN(count * sizeof(int));
  message.msg_controllen = CMSG_SPACE(count * sizeof(int));
  if (connect(link, (struct sockaddr *)&address, sizeof(address)) != 0 ||
      sendmsg(link, &message, 0) != 1) {
    exit(4);
  }
}

static RatedBytes url(void) {
  static char text[256];
  setting("url", text, sizeof(text));
  return (RatedBytes){(const uint8_t *)text, strlen(text)};
}

static uint8_t *put(uint8_t *at, const void *bytes, size_t size) {
  memcpy(at, bytes, size);
  return at + size;
}

/* Requests over HTTP past all that the runner would hold back, 16 MiB each. */
static void ask_for_much(void) {
  const uint64_t number = 1, body = (uint64_t)16 << 20, none = 0, url_size = url().len;
  const uint32_t post = 2, size = (uint32_t)(1 + 8 + 8 + 1 + 4 + 4 * 8 + url_size + body);
  const uint8_t ask = 67, http = 4;
  uint8_t *frame = calloc(size + 4, 1), *at = frame;
  at = put(at, &size, 4);
  at = put(at, &ask, 1);
  at = put(at, &none, 8);
  at = put(at, &number, 8);
  at = put(at, &http, 1);
  at = put(at, &post, 4);
  at = put(at, &url_size, 8);
  at = put(at, url().ptr, url_size);
  at = put(at, &none, 8);
  at = put(at, &body, 8);
  at = put(at + body, &none, 8);
  for (int count = 0; count < 12; count++) {
    say_on_every_file(frame, size + 4);
  }
}

static const RatedCall *fetching_call;
static atomic_int refused;

static void *fetch(void *unused) {
  RatedHttpRequest request = {.struct_size = sizeof(request), .method = 1, .url = url()};
  RatedHttpResponse response = {.struct_size = sizeof(response)};
  RatedError error = {0};
  const RatedStatus status =
      host_api->http_send(host_ref, fetching_call, &request, &response, &error);
  if (status != RATED_OK && error.message.len > 0 &&
      memmem(error.message.ptr, error.message.len, "fetched at a time", 17) != NULL) {
    refused++;
  }
  return unused;
}

/* From eight threads at once; how many were refused. */
static void fetch_at_once(const RatedCall *call, RatedResponse *response) {
  pthread_t threads[8];
  pthread_attr_t attributes;
  char text[16];
  fetching_call = call;
  pthread_attr_init(&attributes);
  /* Stacks count as memory. */
  pthread_attr_setstacksize(&attributes, (size_t)1 << 20);
  for (int index = 0; index < 8; index++) {
    if (pthread_create(&threads[index], &attributes, fetch, NULL) != 0) {
      abort();
    }
  }
  for (int index = 0; index < 8; index++) {
    pthread_join(threads[index], NULL);
  }
  release(&response->body);
  snprintf(text, sizeof(text), "%d", refused);
  answer(response, text);
}

static RatedStatus do_harm(const void *self, const RatedCall *call, const RatedRequest *request,
                           RatedResponse *response, RatedError *error) {
  (void)self, (void)error;
  answer(response, "fine");
  handled++;
  if (is(request, "/abort")) {
    abort();
  } else if (is(request, "/abort-together")) {
    while (handled < 2) {
      usleep(1000);
    }
    abort();
  } else if (is(request, "/segfault")) {
    *(volatile int *)8 = 1;
  } else if (is(request, "/divide")) {
    raise(SIGFPE);
  } else if (is(request, "/panic")) {
    release(&response->body);
    response->body = (RatedBuffer){0};
    return RATED_PANIC;
  } else if (is(request, "/exit")) {
    exit(3);
  } else if (is(request, "/spin")) {
    for (volatile int forever = 1; forever;) {
    }
  } else if (is(request, "/stop")) {
    raise(SIGSTOP);
  } else if (is(request, "/ignore")) {
    signal(SIGTERM, SIG_IGN);
    signal(SIGALRM, SIG_IGN);
    for (;;) {
      pause();
    }
  } else if (is(request, "/leak")) {
    leak(MAP_PRIVATE);
  } else if (is(request, "/leak-until-null")) {
    size_t mebibytes = 0;
    void *last = NULL;
    for (void *memory; (memory = malloc(1 << 20)) != NULL; mebibytes++) {
      last = memset(memory, 1, 1 << 20);
    }
    free(last);
    char text[32];
    release(&response->body);
    snprintf(text, sizeof(text), "%zu", mebibytes);
    answer(response, text);
  } else if (is(request, "/leak-shared")) {
    leak(MAP_SHARED);
  } else if (is(request, "/fork")) {
    leave_a_child(response);
  } else if (is(request, "/close")) {
    for (int file = 0; file < 1024; file++) {
      close(file);
    }
  } else if (is(request, "/prepared")) {
    char text[16];
    release(&response->body);
    snprintf(text, sizeof(text), "%d", prepared);
    answer(response, text);
  } else if (is(request, "/write")) {
    for (int line = 0; line < 100000; line++) {
      printf("line %d of what nobody asked for\n", line);
    }
    fflush(stdout);
    fprintf(stderr, "and to standard error\n");
  } else if (is(request, "/garbage")) {
    say_on_every_file("\x05\0\0\0hello", 9);
  } else if (is(request, "/host")) {
    char text[32];
    release(&response->body);
    snprintf(text, sizeof(text), "%p", host_ref);
    answer(response, text);
  } else if (is(request, "/give-away")) {
    give_away();
    abort();
  } else if (is(request, "/ask-for-much")) {
    ask_for_much();
    for (;;) {
      pause();
    }
  } else if (is(request, "/fetch-at-once")) {
    fetch_at_once(call, response);
  } else if (is(request, "/huge-frame")) {
    say_on_every_file("\xff\xff\xff\xff", 4);
  } else if (request->path.len > 6 && memcmp(request->path.ptr, "/give-", 6) == 0) {
    char number[8] = {0};
    memcpy(number, request->path.ptr + 6,
           request->path.len < 13 ? request->path.len - 6 : sizeof(number) - 1);
    given = atoi(number);
  }
  return RATED_OK;
}
