/** @file

  Without memory: each allocation of a call fails in turn, then every nth one for many n, in the library
  and in the functions of OpenSSL that it calls. Results are as documented, the error queue and errno are
  unchanged, cached sessions and active keys are not lost, handshakes continue, and log lines are written.

  The failures that end the process are counted too (docs/evidence/reliability.md has the reasons).

  SPDX-License-Identifier: Apache-2.0
 */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>

#include "api.h"
#include "callbacks.h"
#include "check.h"
#include "folder.h"
#include "tls.h"

/* The functions of glibc. Those below replace their usual names. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

/* Which allocations of this thread fail: the one after `left` others, or every `every`th one. */
static __thread struct {
  int on;
  long left;
  long every;
  long seen;
  long failed;
} memory;

static long failed_in_all;

static int
fails(void)
{
  if (!memory.on) {
    return 0;
  }
  memory.seen++;
  if (memory.every > 0 ? memory.seen % memory.every != 0 : memory.left-- != 0) {
    return 0;
  }
  memory.failed++;
  errno = ENOMEM;
  return 1;
}

void *
malloc(size_t size)
{
  return fails() ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
  return fails() ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
  return fails() ? NULL : __libc_realloc(old, size);
}

int
posix_memalign(void **result, size_t alignment, size_t size)
{
  if (fails()) {
    return ENOMEM;
  }
  *result = __libc_memalign(alignment, size);
  return *result == NULL ? ENOMEM : 0;
}

void *
aligned_alloc(size_t alignment, size_t size)
{
  return fails() ? NULL : __libc_memalign(alignment, size);
}

/* A sequence of plans. First allocation 0, 1, 2 and so on fails, until a call makes fewer allocations.
   Then every one fails, every second one and so on, until none is hit. Larger numbers are skipped more
   and more, because a certificate takes a thousand allocations. */
struct plan {
  int number;
  int is_over; /* the first part */
  int is_done;
};

static int
next_plan(struct plan *plan)
{
  memset(&memory, 0, sizeof(memory));
  if (plan->is_over) {
    memory.every = plan->number + 1;
  } else {
    memory.left = plan->number;
  }
  plan->number += 1 + plan->number / 50;
  return !plan->is_done;
}

/* Ends a plan after its call. Returns whether an allocation failed. */
static int
end_plan(struct plan *plan)
{
  int has_failed = memory.failed > 0;
  if (!has_failed) {
    plan->is_done = plan->is_over;
    plan->is_over = 1;
    plan->number  = 0;
  }
  failed_in_all += memory.failed;
  return has_failed;
}

static SSL_SESSION *session;
static SSL_SESSION *certified;
static unsigned char *der;
static int len;
static char keys[96];
static int lines;

static void
note_line(TSCont contp, int level, const char *tag, const char *text)
{
  (void)contp, (void)level, (void)tag;
  CHECK(text[0] != '\0');
  lines++;
}

static int
note_event(TSCont contp, TSEvent event, void *id)
{
  (void)contp, (void)event, (void)id;
  return 0;
}

/* For handshakes: allocations fail only in the library's callbacks. */
static int fail_in_callbacks;

static void
callback_begins(const char *name)
{
  if (fail_in_callbacks) {
    errno = EXDEV;
    if (strcmp(name, "remove_session") != 0) {
      ERR_set_mark();
      ERR_raise(ERR_LIB_USER, 77);
    }
    memory.on = 1;
  }
}

static void
callback_ends(const char *name)
{
  if (fail_in_callbacks) {
    memory.on = 0;
    CHECK_INT(errno, EXDEV);
    if (strcmp(name, "remove_session") != 0) {
      CHECK_INT(ERR_GET_REASON(ERR_peek_last_error()), 77);
      ERR_pop_to_mark();
    }
  }
}

/* Checks that nothing was lost. The settings leave room for all sessions, so none is evicted. */
static void
check_all_is_there(void)
{
  char buffer[1000];
  int space         = (int)sizeof(buffer);
  TSSslSessionID id = api_numbered_id(1);

  CHECK_INT(TSSslSessionGetBuffer(&id, buffer, &space), len);
  CHECK(space == len && memcmp(buffer, der, (size_t)len) == 0);
  CHECK_INT(api_stat(STAT_NEW) - api_stat(STAT_REPLACED) - api_stat(STAT_REMOVED) - api_stat(STAT_EVICTION) -
              api_stat(STAT_EXPIRED) - api_stat(STAT_CLEARED),
            api_stat(STAT_ENTRIES));
  CHECK(api_stat(STAT_KEYS) > 0);
}

/* Makes a call under all plans. Its result must be `good`, or `bad` if an allocation failed. The last
   argument undoes the call. */
#define UNDER_ALL_PLANS(call, good, bad, ...)                                                                          \
  for (int plan_queue = 0; plan_queue < 2; plan_queue++) {                                                             \
    struct plan plan = {0, 0, 0};                                                                                      \
    while (next_plan(&plan)) {                                                                                         \
      ERR_clear_error();                                                                                               \
      if (plan_queue) {                                                                                                \
        ERR_raise(ERR_LIB_USER, 77);                                                                                   \
      }                                                                                                                \
      errno            = EXDEV;                                                                                        \
      memory.on        = 1;                                                                                            \
      long long result = (long long)(call);                                                                            \
      memory.on        = 0;                                                                                            \
      CHECK_INT(errno, EXDEV);                                                                                         \
      int has_failed = end_plan(&plan);                                                                                \
      if (result != (long long)(good) && !(has_failed && result == (long long)(bad))) {                                \
        CHECK_INT(result, good);                                                                                       \
      }                                                                                                                \
      CHECK_INT(ERR_GET_REASON(ERR_peek_last_error()), plan_queue ? 77 : 0);                                           \
      CHECK_INT(ERR_GET_REASON(ERR_get_error()), plan_queue ? 77 : 0);                                                 \
      CHECK_INT(ERR_get_error(), 0);                                                                                   \
      __VA_ARGS__;                                                                                                     \
      check_all_is_there();                                                                                            \
    }                                                                                                                  \
  }

/* Frees a session that Get returned, without failures. Returns whether there was one. */
static int
found(SSL_SESSION *got)
{
  int on    = memory.on;
  memory.on = 0;
  int there = got != NULL;
  SSL_SESSION_free(got);
  memory.on = on;
  return there;
}

/* A bad call fails and is logged as usual, even without any memory. */
#define LOGGED(call, bad)                                                                                              \
  lines  = 0;                                                                                                          \
  memory = (__typeof__(memory)){.on = 1, .every = 1};                                                                  \
  (void)(call);                                                                                                        \
  memory.on = 0;                                                                                                       \
  CHECK_INT(lines, 1);                                                                                                 \
  UNDER_ALL_PLANS(call, bad, bad, (void)0)

/* Writes new keys each time, in the format of HAProxy. */
static void
write_lines(void)
{
  static char letter = 'A';
  char lines_of_two[130];
  letter = letter == 'Z' ? 'B' : (char)(letter + 1);
  memset(lines_of_two, letter, sizeof(lines_of_two));
  memset(lines_of_two + 65, 'a', 64);
  lines_of_two[64] = lines_of_two[129] = '\n';
  folder_write("lines", lines_of_two, sizeof(lines_of_two), 0600);
}

/* Errors are logged. */
static void
check_log(void)
{
  TSSslSessionID id = api_numbered_id(1), bad_id = api_id(33, 1);
  char text[10000] = "";
  int64_t value;
  int space;

  LOGGED(found((SSL_SESSION *)TSSslSessionGet(&bad_id)), 0);
  LOGGED((space = 1, TSSslSessionGetBuffer(NULL, text, &space)), 0);
  LOGGED(TSSslSessionInsert(&id, NULL), TS_ERROR);
  LOGGED(TSSslSessionRemove(NULL), TS_ERROR);
  LOGGED(TSSslSessionCacheAttach(NULL), TS_ERROR);
  LOGGED(TSSslSessionCacheDetach(NULL), TS_ERROR);
  LOGGED(TSSslSessionCacheConfigSet("no.such.setting\xff", "1"), TS_ERROR);
  LOGGED(TSSslSessionCacheConfigLoad("absent"), TS_ERROR);
  LOGGED(TSSslTicketKeyFileLoad("absent"), TS_ERROR);
  LOGGED(TSSslSessionCacheStatGet("no.such.counter\xff", &value), TS_ERROR);
  LOGGED(TSSslSessionCacheLogSet(NULL, NULL, 9), TS_ERROR);
  LOGGED(TSSslSessionHookAdd(NULL, NULL), TS_ERROR);
  LOGGED(TSSslSessionHookRemove(NULL, NULL), TS_ERROR);
  memset(text, 'x', 10000);
  text[9000] = '\0';
  LOGGED(TSSslSessionCacheStatGet(text, &value), TS_ERROR);
}

static void
check_functions(void)
{
  TSSslSessionID id = api_numbered_id(1), new_id = api_numbered_id(2), large_id = api_numbered_id(3);
  static char text[20000], *long_path = text + 10000;
  int space, large_len;
  int64_t value;

  CHECK_INT(TSSslSessionInsert(&large_id, (TSSslSession)certified), TS_SUCCESS);
  unsigned char *large = tls_der(certified, &large_len);

  UNDER_ALL_PLANS(found((SSL_SESSION *)TSSslSessionGet(&id)), 1, 0, (void)0)
  UNDER_ALL_PLANS(found((SSL_SESSION *)TSSslSessionGet(&large_id)), 1, 0, (void)0)
  UNDER_ALL_PLANS(found((SSL_SESSION *)TSSslSessionGet(&new_id)), 0, 0, (void)0)
  UNDER_ALL_PLANS((space = 20000, TSSslSessionGetBuffer(&large_id, text, &space)), large_len, 0, (void)0)
  UNDER_ALL_PLANS((space = 1, TSSslSessionGetBuffer(&id, text, &space)), len, 0, CHECK_INT(space, result == len))
  UNDER_ALL_PLANS(TSSslSessionInsert(&new_id, (TSSslSession)session), TS_SUCCESS, TS_ERROR,
                  CHECK_INT(TSSslSessionRemove(&new_id), TS_SUCCESS))
  UNDER_ALL_PLANS(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS, TS_ERROR, (void)0)
  UNDER_ALL_PLANS(TSSslSessionInsert(&new_id, (TSSslSession)certified), TS_SUCCESS, TS_ERROR, (void)0)
  UNDER_ALL_PLANS(TSSslSessionInsertBuffer(&new_id, (const char *)large, large_len), TS_SUCCESS, TS_ERROR, (void)0)
  UNDER_ALL_PLANS(TSSslSessionInsertBuffer(&id, (const char *)der, len), TS_SUCCESS, TS_ERROR, (void)0)
  UNDER_ALL_PLANS(TSSslSessionInsertBuffer(&id, (const char *)der, len - 1), TS_ERROR, TS_ERROR, (void)0)
  UNDER_ALL_PLANS(TSSslSessionRemove(&new_id), TS_SUCCESS, TS_SUCCESS,
                  CHECK_INT(TSSslSessionInsert(&new_id, (TSSslSession)session), TS_SUCCESS))

  /* The active keys are unchanged, or the new ones. */
  write_lines();
  folder_write("short", keys, 47, 0600);
  folder_write("open", keys, 50, 0644);
  long long generation = api_stat(STAT_GENERATION);
#define GENERATION CHECK_INT(api_stat(STAT_GENERATION), generation += result == TS_SUCCESS)
  UNDER_ALL_PLANS((TSSslTicketKeyUpdate(keys, sizeof(keys)), api_stat(STAT_GENERATION)), generation + 1, generation,
                  generation = result)
  UNDER_ALL_PLANS(TSSslTicketKeyFileLoad("keys"), TS_SUCCESS, TS_ERROR, GENERATION;
                  folder_write("keys", keys, 96, 0600))
  UNDER_ALL_PLANS(TSSslTicketKeyFileLoad("lines"), TS_SUCCESS, TS_ERROR, GENERATION; write_lines())
  UNDER_ALL_PLANS(TSSslTicketKeyRotate(), TS_SUCCESS, TS_ERROR, GENERATION)
  UNDER_ALL_PLANS(TSSslTicketKeyFileLoad("short"), TS_ERROR, TS_ERROR, (void)0)
  UNDER_ALL_PLANS(TSSslTicketKeyFileLoad("open"), TS_SUCCESS, TS_ERROR, GENERATION;
                  folder_write("open", keys, 50, 0644))
  memset(long_path, '/', 3000);
  strcpy(long_path + 3000, folder + 1);
  strcat(long_path, "/keys");
  folder_write("keys", keys, 96, 0600);
  UNDER_ALL_PLANS(TSSslTicketKeyFileLoad(long_path), TS_SUCCESS, TS_ERROR, GENERATION;
                  folder_write("keys", keys, 96, 0600))

  /* A context. */
  for (int attached = 0; attached < 2; attached++) {
    SSL_CTX *server = tls_server(TLS1_2_VERSION);
    UNDER_ALL_PLANS(
      TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS, TS_ERROR, if (!attached) {
        CHECK((SSL_CTX_sess_get_get_cb(server) != NULL) == (result == TS_SUCCESS));
        SSL_CTX_free(server);
        server = tls_server(TLS1_2_VERSION);
        SSL_CTX_set_max_early_data(server, 100);
      })
    SSL_CTX_free(server);
  }
  SSL_CTX *server = tls_server(TLS1_2_VERSION);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  /* A client sends the ID of another client's session with its ticket, and breaks its connection. */
  SSL_SESSION *strangers = SSL_SESSION_dup(session);
  REQUIRE(strangers != NULL && SSL_SESSION_set1_id(strangers, (unsigned char *)large_id.bytes, large_id.len) == 1);
  long long removed = api_stat(STAT_REMOVED);
  UNDER_ALL_PLANS((SSL_CTX_remove_session(server, strangers), api_stat(STAT_REMOVED)), removed, removed, (void)0)
  SSL_SESSION_free(strangers);
  UNDER_ALL_PLANS(TSSslSessionCacheDetach((TSSslContext)server), TS_SUCCESS, TS_SUCCESS,
                  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS))
  SSL_CTX_free(server);

  /* Settings, counters, hooks. */
  static const char records[] =
    "# ours\nCONFIG proxy.config.ssl.session_cache.size INT 50000\n"
    "CONFIG proxy.config.ssl.server.ticket_key.filename STRING keys\n"
    "CONFIG tssession.no.such INT 1\nCONFIG proxy.config.ssl.server.cert.path STRING NULL\n";
  static const char yaml[] = "records: {ssl: {session_cache: {size: 50000}}}\n";
  folder_write("records.config", records, sizeof(records) - 1, 0600);
  folder_write("records.yaml", yaml, sizeof(yaml) - 1, 0600);
  UNDER_ALL_PLANS(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "50000"), TS_SUCCESS, TS_ERROR,
                  (void)0)
  UNDER_ALL_PLANS(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.timeout", "9000"), TS_SUCCESS, TS_ERROR,
                  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.timeout", "0"), TS_SUCCESS))
  UNDER_ALL_PLANS(TSSslSessionCacheConfigSet("proxy.config.ssl.server.cert.path", folder), TS_SUCCESS, TS_ERROR,
                  (void)0)
  UNDER_ALL_PLANS(TSSslSessionCacheConfigLoad("records.config"), TS_SUCCESS, TS_ERROR, (void)0)
  UNDER_ALL_PLANS(TSSslTicketKeyFileLoad(NULL), TS_SUCCESS, TS_ERROR, GENERATION; folder_write("keys", keys, 96, 0600))
  UNDER_ALL_PLANS(TSSslSessionCacheLogSet(note_line, NULL, TS_SSL_SESSION_CACHE_LOG_DEBUG), TS_SUCCESS, TS_ERROR,
                  (void)0)
  UNDER_ALL_PLANS(TSSslSessionCacheStatGet(STAT_MISS ".expired", &value), TS_SUCCESS, TS_ERROR, (void)0)
  int needed = 0;
  UNDER_ALL_PLANS((space = 20000, needed = TSSslSessionCacheStatsText(text, &space), needed == space && space > 3000),
                  1, 1, (void)0)
  UNDER_ALL_PLANS((space = 20000, needed = TSSslSessionCacheConfigText(text, &space), needed == space && space > 500),
                  1, 1, (void)0)
  UNDER_ALL_PLANS(TSSslSessionHookAdd(note_event, NULL), TS_SUCCESS, TS_ERROR,
                  CHECK_INT(TSSslSessionHookRemove(note_event, NULL), result))
  CHECK_INT(TSSslSessionHookAdd(note_event, NULL), TS_SUCCESS);
  CHECK_INT(TSSslSessionHookAdd(note_event, (TSCont)text), TS_SUCCESS);
  UNDER_ALL_PLANS(TSSslSessionHookRemove(note_event, NULL), TS_SUCCESS, TS_SUCCESS,
                  CHECK_INT(TSSslSessionHookRemove(note_event, NULL), TS_ERROR);
                  CHECK_INT(TSSslSessionHookAdd(note_event, NULL), TS_SUCCESS))

  /* Forks: at worst the child can only exec. */
  for (int i = 0; i < 10; i++) {
    memory    = (__typeof__(memory)){.on = 1, .left = i};
    pid_t pid = fork();
    memory.on = 0;
    if (pid == 0) {
      _exit(0);
    }
    int status = pid > 0;
    CHECK(pid < 0 || (waitpid(pid, &status, 0) == pid && status == 0));
    check_all_is_there();
  }
  UNDER_ALL_PLANS((TSSslSessionCacheClear(), api_stat(STAT_ENTRIES)), 0, 0,
                  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS))
  /* A full cache. */
  CHECK_INT(TSSslSessionCacheConfigSet("tssession.session_cache.max_bytes", "10000"), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "2"), TS_SUCCESS);
  UNDER_ALL_PLANS(TSSslSessionInsert(&new_id, (TSSslSession)session), TS_SUCCESS, TS_ERROR,
                  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
                  CHECK_INT(TSSslSessionInsert(&large_id, (TSSslSession)certified), TS_SUCCESS);
                  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS))
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "50000"), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheConfigSet("tssession.session_cache.max_bytes", "0"), TS_SUCCESS);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  OPENSSL_free(large);
}

/* The number of all SSL_SESSION objects. */
static long sessions_alive;

static void
session_begins(void *of, void *data, CRYPTO_EX_DATA *all, int index, long number, void *arg)
{
  (void)of, (void)data, (void)all, (void)index, (void)number, (void)arg;
  sessions_alive++;
}

static void
session_ends(void *of, void *data, CRYPTO_EX_DATA *all, int index, long number, void *arg)
{
  (void)of, (void)data, (void)all, (void)index, (void)number, (void)arg;
  sessions_alive--;
}

/* Clients visit and return to a server whose callbacks have no memory. */
static void
check_handshakes(int version, int tickets, int early_data, int certificates)
{
  SSL_CTX *server          = certificates ? tls_server_with_client_certificates(version) : tls_server(version);
  SSL_CTX *client          = tls_client(version);
  enum tls_ending ending[] = {TLS_CLEAN, TLS_FATAL, TLS_HANG_UP};

  if (!tickets) {
    SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
  }
  if (early_data) {
    SSL_CTX_set_max_early_data(server, 1000);
  }
  if (certificates) {
    tls_give_certificate(client, 500);
  }
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  long alive = sessions_alive;
  for (int visits = 0; visits < 4; visits++) {
    struct plan plan = {0, 0, 0};
    do {
      SSL_SESSION *first = NULL, *second = NULL;
      if (visits > 0) {
        CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &first), 0);
      }
      if (!next_plan(&plan)) {
        SSL_SESSION_free(first);
        break;
      }
      fail_in_callbacks = 1;
      int resumed       = tls_visit(server, client, first, ending[visits > 1 ? visits - 1 : 0], &second);
      fail_in_callbacks = 0;
      int has_failed    = end_plan(&plan);
      CHECK(resumed >= 0);
      CHECK(has_failed || resumed == (visits > 0));
      SSL_SESSION_free(first);
      SSL_SESSION_free(second);
      /* No session is left in the context's own cache. */
      CHECK(!early_data || sessions_alive == alive);
      check_all_is_there();
    } while (1);
  }
  memory            = (__typeof__(memory)){.every = 1};
  fail_in_callbacks = 1;
  SSL_CTX_free(server);
  fail_in_callbacks = 0;
  SSL_CTX_free(client);
}

/* Every nth allocation of a long run fails, in whatever call. */
static void
check_long_run(long every)
{
  TSSslSessionID id = api_numbered_id(1), other = api_numbered_id(5), large = api_numbered_id(6);
  SSL_CTX *server     = tls_server(TLS1_2_VERSION);
  SSL_CTX *client     = tls_client(TLS1_2_VERSION);
  SSL_SESSION *resume = NULL;
  static char text[10000];
  int space;

  memory = (__typeof__(memory)){.every = every};
  for (int i = 0; i < 3; i++) {
    TSSslContext ctx     = (TSSslContext)server;
    memory.on            = 1;
    TSReturnCode added[] = {
      TSSslSessionInsert(&other, (TSSslSession)session),
      TSSslSessionInsert(&large, (TSSslSession)certified),
      TSSslSessionInsertBuffer(&id, (const char *)der, len),
      TSSslSessionHookAdd(note_event, (TSCont)text),
      TSSslTicketKeyFileLoad("keys"),
      TSSslSessionCacheConfigLoad("records.config"),
      TSSslSessionCacheLogSet(note_line, NULL, TS_SSL_SESSION_CACHE_LOG_DEBUG),
      TSSslSessionCacheAttach(ctx),
    };
    for (size_t at = 0; at < sizeof(added) / sizeof(*added); at++) {
      CHECK(added[at] == TS_SUCCESS || (added[at] == TS_ERROR && memory.failed > 0));
    }
    found((SSL_SESSION *)TSSslSessionGet(&id));
    found((SSL_SESSION *)TSSslSessionGet(&large));
    space = sizeof(text), TSSslSessionGetBuffer(&large, text, &space);
    space = sizeof(text), TSSslSessionCacheStatsText(text, &space);
    TSSslTicketKeyUpdate(keys, sizeof(keys));
    CHECK_INT(TSSslSessionRemove(&other), TS_SUCCESS);
    CHECK_INT(TSSslSessionCacheDetach(ctx), TS_SUCCESS);
    TSSslSessionHookRemove(note_event, (TSCont)text);
    memory.on = 0;
    if (TSSslSessionCacheAttach(ctx) == TS_SUCCESS) {
      SSL_SESSION *next = NULL;
      fail_in_callbacks = 1;
      CHECK(tls_visit(server, client, resume, TLS_CLEAN, &next) >= 0);
      fail_in_callbacks = 0;
      SSL_SESSION_free(resume);
      resume = next;
    }
    check_all_is_there();
  }
  failed_in_all += memory.failed;
  tls_free(server, client, resume);
}

/* The first call of a process, for which this program runs itself. */
static const char *program;

static const char *const FIRST[] = {"get", "insert", "buffer", "keys", "attach", "bad", "set"};
#define SHAPE "shape"
#define FIRSTS (int)(sizeof(FIRST) / sizeof(*FIRST))

static int
be_first(const char *what, struct plan *plan)
{
  TSSslSessionID id = api_numbered_id(1);
  SSL_CTX *server   = tls_server(TLS1_2_VERSION);
  int ok            = -1;

  if (strcmp(what, SHAPE) == 0) {
    memory.on = 1;
    TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.num_buckets", "2");
    memory.on = 0;
    return memory.failed == 0 ? 10 : 11;
  }
  session   = tls_session(0);
  der       = tls_der(session, &len);
  memory.on = 1;
  if (strcmp(what, "get") == 0) {
    ok = TSSslSessionGet(&id) == NULL;
  } else if (strcmp(what, "insert") == 0) {
    ok = TSSslSessionInsert(&id, (TSSslSession)session) == TS_SUCCESS;
  } else if (strcmp(what, "buffer") == 0) {
    ok = TSSslSessionInsertBuffer(&id, (const char *)der, len) == TS_SUCCESS;
  } else if (strcmp(what, "keys") == 0) {
    TSSslTicketKeyUpdate(keys, sizeof(keys));
    ok = api_stat(STAT_KEYS) == 2;
  } else if (strcmp(what, "attach") == 0) {
    ok = TSSslSessionCacheAttach((TSSslContext)server) == TS_SUCCESS;
  } else if (strcmp(what, "bad") == 0) {
    ok = TSSslSessionGet(NULL) == NULL;
  } else {
    ok = TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.timeout", "100") == TS_SUCCESS;
  }
  memory.on      = 0;
  int has_failed = end_plan(plan);
  CHECK(ok || has_failed);
  /* After that, everything works. */
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  check_all_is_there();
  /* The keys are those of the file or of the call: there is no random one. */
  CHECK_INT(api_stat(STAT_KEYS), 2);
  /* The environment was read. */
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "77"), TS_SUCCESS);
  for (unsigned long i = 0; i < 200; i++) {
    id = api_numbered_id(i);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  }
  CHECK_INT(api_stat(STAT_ENTRIES), 100);
  return check_failures != 0 ? 1 : 10 + has_failed;
}

static void
check_first_calls(void)
{
  for (int what = 0; what < FIRSTS; what++) {
    int status = 0;
    for (int n = 0; n < 60; n++) {
      char number[16];
      snprintf(number, sizeof(number), "%d", n);
      pid_t pid = fork();
      if (pid == 0) {
        setenv("PROXY_CONFIG_SSL_SESSION_CACHE_SIZE", "100", 1);
        setenv("PROXY_CONFIG_SSL_SERVER_TICKET_KEY_FILENAME", "keys", 1);
        execl(program, program, FIRST[what], number, (char *)NULL);
        _exit(99);
      }
      REQUIRE(waitpid(pid, &status, 0) == pid);
      CHECK_OR(WIFEXITED(status) && WEXITSTATUS(status) >= 10 && WEXITSTATUS(status) <= 11,
               "the first call, %s, allocation %d fails: status %x", FIRST[what], n, (unsigned)status);
      failed_in_all += WIFEXITED(status) && WEXITSTATUS(status) == 11;
      if (WIFEXITED(status) && WEXITSTATUS(status) == 10) {
        break;
      }
    }
    CHECK_INT(WEXITSTATUS(status), 10);
  }
}

/* Failures that end the process. */
static void *
get_in_thread(void *arg)
{
  TSSslSessionID id = api_numbered_id(1);
  struct plan *plan = arg;
  next_plan(plan);
  memory.on        = 1;
  SSL_SESSION *got = (SSL_SESSION *)TSSslSessionGet(&id);
  memory.on        = 0;
  plan->is_over    = memory.failed == 0;
  SSL_SESSION_free(got);
  return NULL;
}

static void
be_new_thread(int n)
{
  struct plan plan = {n, 0, 0};
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, get_in_thread, &plan) == 0);
  REQUIRE(pthread_join(thread, NULL) == 0);
  _exit(plan.is_over ? 10 : 11);
}

static void
read_yaml(int n)
{
  struct plan plan = {n, 0, 0};
  next_plan(&plan);
  memory.on = 1;
  TSSslSessionCacheConfigLoad("records.yaml");
  memory.on = 0;
  _exit(memory.failed == 0 ? 10 : 11);
}

/* Settings that replace the tables that were made when the library was loaded. */
static void
change_shape(int n)
{
  char number[16];
  snprintf(number, sizeof(number), "%d", n);
  execl(program, program, SHAPE, number, (char *)NULL);
  _exit(99);
}

/* Returns how many allocations end the process when they fail, and in `of` how many there are. */
static int
count_ends(void (*act)(int), int *of)
{
  int ends = 0;
  for (*of = 0; *of < 1000; ++*of) {
    int status = 0;
    pid_t pid  = fork();
    if (pid == 0) {
      /* The Rust runtime and glibc print the reason. */
      REQUIRE(freopen("/dev/null", "w", stderr) != NULL);
      act(*of);
    }
    REQUIRE(waitpid(pid, &status, 0) == pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 10) {
      return ends;
    }
    /* The Rust runtime and glibc abort, the loader exits. */
    int is_end = WIFEXITED(status) ? WEXITSTATUS(status) == 127 : WTERMSIG(status) == SIGABRT;
    CHECK(is_end || (WIFEXITED(status) && WEXITSTATUS(status) == 11));
    ends += is_end;
  }
  CHECK(0);
  return ends;
}

static void
check_ends(void)
{
  int of;
  int ends = count_ends(be_new_thread, &of);
  fprintf(stderr, "the first lookup of a thread: %d of %d allocations end the process\n", ends, of);
#ifdef API_DLOPEN
  /* One more: thread-local data of a library that was loaded later. */
  CHECK_INT(ends, 3);
#else
  CHECK_INT(ends, 2);
#endif
  ends = count_ends(change_shape, &of);
  fprintf(stderr, "other tables before the first use: %d of %d allocations end the process\n", ends, of);
  CHECK(ends > 0 && ends < of);
  ends = count_ends(read_yaml, &of);
  fprintf(stderr, "reading records.yaml: %d of %d allocations end the process\n", ends, of);
  CHECK(ends > 0 && ends < of);
}

int
main(int argc, char **argv)
{
  memset(keys, 'k', sizeof(keys));
  memset(keys + 48, 'l', 48);
  if (argc == 3) {
    struct plan plan = {atoi(argv[2]), 0, 0};
    api_open();
    next_plan(&plan);
    return be_first(argv[1], &plan);
  }
  program = argv[0];
  alarm(120);
  api_open();
  CHECK_INT(TSSslSessionCacheLogSet(note_line, NULL, TS_SSL_SESSION_CACHE_LOG_WARNING), TS_SUCCESS);
  session   = tls_session(0);
  certified = tls_session(2000);
  der       = tls_der(session, &len);
  folder_make();
  folder_write("keys", keys, 96, 0600);
  REQUIRE(chdir(folder) == 0);
  TSSslSessionID id = api_numbered_id(1);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  TSSslTicketKeyUpdate(keys, 48);

  REQUIRE(SSL_SESSION_get_ex_new_index(0, NULL, session_begins, NULL, session_ends) >= 0);

  check_log();
  CHECK_INT(TSSslSessionCacheLogSet(note_line, NULL, TS_SSL_SESSION_CACHE_LOG_DEBUG), TS_SUCCESS);
  check_functions();
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    check_handshakes(version, 0, 0, 0);
    check_handshakes(version, 1, 0, 0);
    check_handshakes(version, 0, 0, 1);
  }
  check_handshakes(TLS1_3_VERSION, 1, 1, 0);
  for (long every = 1; every <= 300; every++) {
    check_long_run(every);
  }
  check_first_calls();
  check_ends();
  fprintf(stderr, "%ld allocations failed\n", failed_in_all);
  folder_remove((const char *const[]){"keys", "lines", "short", "open", "records.config", "records.yaml"}, 6);
  SSL_SESSION_free(session);
  SSL_SESSION_free(certified);
  OPENSSL_free(der);
  return check_result();
}
