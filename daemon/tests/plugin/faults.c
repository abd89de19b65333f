/* A rating module that does to its own process what its paths say, the sooner the worse. */

#define _GNU_SOURCE
#include "rated_plugin.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static RatedStatus do_harm(const void *self, const RatedCall *call, const RatedRequest *request,
                           RatedResponse *response, RatedError *error);

/* What `rate` gives: set by `GET /give-N`. */
static int given;

#define NAME "faults"
#define PATHS "{\"/{what}\": {\"get\": {}}}"
#define HANDLE do_harm
#define GIVES given
#include "fixture.c"

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

static RatedStatus do_harm(const void *self, const RatedCall *call, const RatedRequest *request,
                           RatedResponse *response, RatedError *error) {
  (void)self, (void)call, (void)error;
  answer(response, "fine");
  if (is(request, "/abort")) {
    abort();
  } else if (is(request, "/segfault")) {
    *(volatile int *)8 = 1;
  } else if (is(request, "/divide")) {
    raise(SIGFPE);
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
  } else if (is(request, "/leak-shared")) {
    leak(MAP_SHARED);
  } else if (is(request, "/fork")) {
    leave_a_child(response);
  } else if (is(request, "/close")) {
    for (int file = 0; file < 1024; file++) {
      close(file);
    }
  } else if (is(request, "/write")) {
    for (int line = 0; line < 100000; line++) {
      printf("line %d of what nobody asked for\n", line);
    }
    fflush(stdout);
    fprintf(stderr, "and to standard error\n");
  } else if (is(request, "/garbage")) {
    say_on_every_file("\x05\0\0\0hello", 9);
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
