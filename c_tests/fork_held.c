/** @file

  A process forks while one of its threads is stopped in the middle of a call of the library: in any
  allocation of the library, or of OpenSSL on its behalf, or in the reading of a file. The fork takes a
  few milliseconds, and the child works: with the cached sessions, or, if the thread has a lock of the
  library, with an empty cache.

  A file that is read slowly does not undo what was loaded in the meantime.

  SPDX-License-Identifier: Apache-2.0
 */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "folder.h"
#include "tls.h"

/* The exit status of a child. */
#define KEPT 10
#define EMPTY 11

/* The time of a fork that does not wait. On a busy machine a few take longer. */
#define SHORT_MS 200
#define LONG_MS 5000

/* The functions of glibc. Those below replace their usual names. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

/* The thread is stopped at this allocation or read of its own, counted from 1; 0: never. */
static __thread int allocations;
static __thread int reads;

static atomic_int is_held, is_released, is_over;

static void
nap(void)
{
  struct timespec moment = {.tv_nsec = 200000};
  nanosleep(&moment, NULL);
}

static void
count(int *left)
{
  if (*left > 0 && --*left == 0) {
    atomic_store(&is_held, 1);
    while (!atomic_load(&is_released)) {
      nap();
    }
  }
}

void *
malloc(size_t size)
{
  count(&allocations);
  return __libc_malloc(size);
}

void *
calloc(size_t number, size_t size)
{
  count(&allocations);
  return __libc_calloc(number, size);
}

void *
realloc(void *old, size_t size)
{
  count(&allocations);
  return __libc_realloc(old, size);
}

int
posix_memalign(void **result, size_t alignment, size_t size)
{
  count(&allocations);
  *result = __libc_memalign(alignment, size);
  return *result == NULL;
}

void *
aligned_alloc(size_t alignment, size_t size)
{
  count(&allocations);
  return __libc_memalign(alignment, size);
}

ssize_t
read(int file, void *buffer, size_t size)
{
  count(&reads);
  return syscall(SYS_read, file, buffer, size);
}

static SSL_CTX *server, *ticket_server, *other_server, *client;
static SSL_SESSION *session, *larger;
static unsigned char *der;
static int der_len, events;
static char key_file[300], records_file[300];
static TSSslSessionID cached;

static int
note_event(TSCont contp, TSEvent event, void *data)
{
  (void)contp, (void)event, (void)data;
  events++;
  return 0;
}

/* A client visits twice, and resumes the second time. */
static void
visit_twice(SSL_CTX *ctx)
{
  SSL_SESSION *of_client = NULL;
  CHECK_INT(tls_visit(ctx, client, NULL, TLS_CLEAN, &of_client), 0);
  CHECK_INT(tls_visit(ctx, client, of_client, TLS_CLEAN, NULL), 1);
  SSL_SESSION_free(of_client);
}

static void
write_key(char letter)
{
  char key[48];
  memset(key, letter, sizeof(key));
  folder_write("new", key, sizeof(key), 0600);
  char path[300];
  snprintf(path, sizeof(path), "%s", in_folder("new"));
  REQUIRE(rename(path, key_file) == 0);
}

/* The calls in which a thread is stopped. */
static void
insert(void)
{
  static unsigned long number = 100;
  TSSslSessionID id           = api_numbered_id(number++);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
}

static void
insert_buffer(void)
{
  TSSslSessionID id = api_numbered_id(3);
  CHECK_INT(TSSslSessionInsertBuffer(&id, (const char *)der, der_len), TS_SUCCESS);
}

static void
get(void)
{
  SSL_SESSION_free((SSL_SESSION *)TSSslSessionGet(&cached));
}

static void
load_keys(void)
{
  CHECK_INT(TSSslTicketKeyFileLoad(key_file), TS_SUCCESS);
}

static void
load_records(void)
{
  CHECK_INT(TSSslSessionCacheConfigLoad(records_file), TS_SUCCESS);
}

static void
set_text(void)
{
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.server.cert.path", folder), TS_SUCCESS);
}

static void
change_hooks(void)
{
  CHECK_INT(TSSslSessionHookAdd(note_event, (TSCont)&events), TS_SUCCESS);
  CHECK_INT(TSSslSessionHookRemove(note_event, (TSCont)&events), TS_SUCCESS);
}

static void
attach(void)
{
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)other_server), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheDetach((TSSslContext)other_server), TS_SUCCESS);
}

static const struct {
  const char *name;
  void (*call)(void);
  int has_locks;
} calls[] = {
  {"insert", insert, 1},
  {"insert_buffer", insert_buffer, 1},
  {"get", get, 0},
  {"load_keys", load_keys, 1},
  {"load_records", load_records, 1},
  {"set_text", set_text, 0},
  {"change_hooks", change_hooks, 0},
  {"attach", attach, 0},
};

static struct {
  void (*call)(void);
  int allocations;
  int reads;
} plan;

static void *
run_plan(void *arg)
{
  /* The thread makes its first call before: that allocates memory for the thread. */
  get();
  allocations = plan.allocations;
  reads       = plan.reads;
  plan.call();
  allocations = reads = 0;
  atomic_store(&is_over, 1);
  return arg;
}

/* Makes the call in a new thread. Returns whether it was stopped in the middle. */
static int
hold_up(pthread_t *thread, void (*call)(void), int at_allocation, int at_read)
{
  plan.call        = call;
  plan.allocations = at_allocation;
  plan.reads       = at_read;
  atomic_store(&is_held, 0);
  atomic_store(&is_released, 0);
  atomic_store(&is_over, 0);
  REQUIRE(pthread_create(thread, NULL, run_plan, NULL) == 0);
  while (!atomic_load(&is_held) && !atomic_load(&is_over)) {
    nap();
  }
  return atomic_load(&is_held);
}

static void
release(pthread_t thread)
{
  atomic_store(&is_released, 1);
  REQUIRE(pthread_join(thread, NULL) == 0);
}

static void
be_child(void)
{
  char text[20000];
  int len = (int)sizeof(text);

  alarm(20);
  check_failures   = 0;
  SSL_SESSION *got = (SSL_SESSION *)TSSslSessionGet(&cached);
  int result       = got != NULL ? KEPT : EMPTY;
  SSL_SESSION_free(got);
  for (unsigned long i = 0; i < 600; i++) {
    TSSslSessionID id = api_numbered_id(i);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
    got = (SSL_SESSION *)TSSslSessionGet(&id);
    CHECK(got != NULL);
    SSL_SESSION_free(got);
  }
  /* The parent's settings are active. */
  CHECK_INT(TSSslSessionInsert(&cached, (TSSslSession)larger), TS_ERROR);
  events = 0;
  visit_twice(server);
  CHECK(events > 0);
  CHECK_INT(TSSslTicketKeyFileLoad(key_file), TS_SUCCESS);
  visit_twice(ticket_server);
  TSSslTicketKeyUpdate((char[48]){"another key of 48 bytes"}, 48);
  visit_twice(ticket_server);
  CHECK_INT(TSSslSessionCacheConfigLoad(records_file), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "1000"), TS_SUCCESS);
  attach();
  change_hooks();
  CHECK(TSSslSessionCacheStatsText(text, &len) > 0);
  TSSslSessionCacheClear();
  CHECK_INT(api_stat(STAT_ENTRIES), 0);
  pid_t grandchild = fork();
  if (grandchild == 0) {
    insert();
    exit(check_failures != 0);
  }
  check_child(grandchild);
  exit(check_failures != 0 ? 1 : result);
}

static int forks, long_forks;

/* Forks. Returns the exit status of the child. */
static int
fork_now(const char *what, int number)
{
  struct timespec before, after;
  int status = 0;
  clock_gettime(CLOCK_MONOTONIC, &before);
  pid_t child = fork();
  if (child == 0) {
    be_child();
  }
  clock_gettime(CLOCK_MONOTONIC, &after);
  long took = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
  forks++;
  long_forks += took >= SHORT_MS;
  REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
  int result = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  CHECK_OR(took < LONG_MS && (result == KEPT || result == EMPTY),
           "%s, %d: the fork took %ld ms, the child ended with %x", what, number, took, (unsigned)status);
  return result;
}

static void
check_allocations(void)
{
  for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
    int kept = 0, empty = 0;
    pthread_t thread;
    for (int number = 1; check_failures == 0; number += 1 + number / 10) {
      CHECK_INT(TSSslSessionInsert(&cached, (TSSslSession)session), TS_SUCCESS);
      write_key((char)('A' + number % 26));
      int is_held_up = hold_up(&thread, calls[i].call, number, 0);
      if (is_held_up) {
        *(fork_now(calls[i].name, number) == KEPT ? &kept : &empty) += 1;
      }
      release(thread);
      if (!is_held_up) {
        break;
      }
    }
    fprintf(stderr, "%s: %d kept, %d empty\n", calls[i].name, kept, empty);
    CHECK(kept > 0);
    CHECK(calls[i].has_locks || empty == 0);
  }
}

/* No lock is held while a file is being read. */
static void
check_files(void)
{
  pthread_t thread;
  CHECK_INT(TSSslSessionInsert(&cached, (TSSslSession)session), TS_SUCCESS);
  write_key('a');
  REQUIRE(hold_up(&thread, load_keys, 0, 1));
  CHECK_INT(fork_now("keys", 0), KEPT);
  /* The thread has opened the older file. */
  write_key('b');
  load_keys();
  CHECK_INT(tls_key_letter(ticket_server, client), 'b');
  release(thread);
  CHECK_INT(tls_key_letter(ticket_server, client), 'b');

  static const char *const size[] = {"CONFIG tssession.session_cache.max_bytes INT 5000\n",
                                     "CONFIG tssession.session_cache.max_bytes INT 900000\n"};
  char path[300];
  folder_write("records.config", size[0], strlen(size[0]), 0600);
  REQUIRE(hold_up(&thread, load_records, 0, 1));
  CHECK_INT(fork_now("records", 0), KEPT);
  folder_write("new", size[1], strlen(size[1]), 0600);
  snprintf(path, sizeof(path), "%s", in_folder("new"));
  REQUIRE(rename(path, records_file) == 0);
  load_records();
  release(thread);
  TSSslSessionCacheClear();
  for (unsigned long i = 0; i < 100; i++) {
    TSSslSessionID id = api_numbered_id(i);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  }
  CHECK_INT(api_stat(STAT_ENTRIES), 100);
}

int
main(void)
{
  static const char *const files[] = {"records.config", "keys"};
  static const char records[]      = "CONFIG proxy.config.ssl.session_cache.timeout INT 3000\n";

  api_open();
  folder_make();
  folder_write("records.config", records, sizeof(records) - 1, 0600);
  snprintf(records_file, sizeof(records_file), "%s", in_folder("records.config"));
  snprintf(key_file, sizeof(key_file), "%s", in_folder("keys"));
  session       = tls_session(0);
  larger        = tls_session(1500);
  der           = tls_der(session, &der_len);
  cached        = api_numbered_id(100000);
  server        = tls_server(TLS1_2_VERSION);
  ticket_server = tls_server(TLS1_2_VERSION);
  other_server  = tls_server(TLS1_2_VERSION);
  client        = tls_client(TLS1_2_VERSION);
  SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
  CHECK_INT(TSSslSessionCacheConfigSet("tssession.session_cache.max_session_bytes", "1000"), TS_SUCCESS);
  CHECK_INT(TSSslSessionHookAdd(note_event, NULL), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)ticket_server), TS_SUCCESS);
  visit_twice(server);
  visit_twice(ticket_server);

  check_allocations();
  check_files();
  CHECK(long_forks * 10 <= forks);

  SSL_SESSION_free(session);
  SSL_SESSION_free(larger);
  OPENSSL_free(der);
  SSL_CTX_free(server);
  SSL_CTX_free(ticket_server);
  SSL_CTX_free(other_server);
  SSL_CTX_free(client);
  folder_remove(files, 2);
  return check_result();
}
