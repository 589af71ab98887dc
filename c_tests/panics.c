/** @file

  The library panics, in a build with fault points (make faults): at the entry of every function that
  the host, OpenSSL or the system calls, and within it. The host continues, the result is the documented
  failure, errno and OpenSSL's error queue are unchanged, no lock stays taken, the counters add up,
  handshakes continue, and the panic is logged.

  Writes the names of the fault points that panicked to the file in its argument. tests/faults.rs compares
  them with the names in the library.

  SPDX-License-Identifier: Apache-2.0
 */

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include <openssl/err.h>

#include "api.h"
#include "callbacks.h"
#include "check.h"
#include "folder.h"
#include "tls.h"

extern void tssession_panic_at(const char *point, int nth);
extern int tssession_panics(void);

/* The five functions under their C++ names. */
TSSslSession cxx_get(const TSSslSessionID *) __asm__("_Z15TSSslSessionGetPK14TSSslSessionID");
int cxx_get_buffer(const TSSslSessionID *, char *, int *) __asm__("_Z21TSSslSessionGetBufferPK14TSSslSessionIDPcPi");
TSReturnCode
cxx_insert(const TSSslSessionID *, TSSslSession,
           TSSslConnection) __asm__("_Z18TSSslSessionInsertPK14TSSslSessionIDP17tsapi_ssl_sessionP13tsapi_ssl_obj");
TSReturnCode cxx_remove(const TSSslSessionID *) __asm__("_Z18TSSslSessionRemovePK14TSSslSessionID");
TSReturnCode cxx_update(char *, int) __asm__("_Z20TSSslTicketKeyUpdatePci");

static SSL_SESSION *session;
static unsigned char *der;
static int len;
static char key[48];
static FILE *report;

/* The last line that the library logged, and the number of lines about a panic. */
static char line[512];
static atomic_int panic_lines;

static void
note_line(TSCont contp, int level, const char *tag, const char *text)
{
  (void)contp, (void)tag;
  errno = EIO;
  if (strstr(text, ": a panic at ") != NULL) {
    CHECK_INT(level, TS_SSL_SESSION_CACHE_LOG_ERROR);
    snprintf(line, sizeof(line), "%s", text);
    atomic_fetch_add(&panic_lines, 1);
  }
}

static int events;

static int
note_event(TSCont contp, TSEvent event, void *id)
{
  (void)contp, (void)event, (void)id;
  events++;
  return 0;
}

/* errno and the newest error before a callback, which must not change them. */
static int errno_before;
static int reason_before;

static void
callback_begins(const char *name)
{
  errno_before  = errno;
  reason_before = -1;
  errno         = EXDEV;
  /* This callback reads the queue, so it gets no error to find. */
  if (strcmp(name, "remove_session") != 0) {
    ERR_set_mark();
    ERR_raise(ERR_LIB_USER, 77);
    reason_before = 77;
  }
}

static void
callback_ends(const char *name)
{
  (void)name;
  CHECK_INT(errno, EXDEV);
  if (reason_before >= 0) {
    CHECK_INT(ERR_GET_REASON(ERR_peek_last_error()), reason_before);
    ERR_pop_to_mark();
  }
  errno = errno_before;
}

static void
check_counters(void)
{
  CHECK_INT(api_stat(STAT_NEW) - api_stat(STAT_REPLACED) - api_stat(STAT_REMOVED) - api_stat(STAT_EVICTION) -
              api_stat(STAT_EXPIRED) - api_stat(STAT_CLEARED),
            api_stat(STAT_ENTRIES));
}

static long long
lookups(void)
{
  return api_stat(STAT_HIT) + api_stat(STAT_MISS) + api_stat(STAT_GET);
}

static int lookups_done;

static int
is_cached(unsigned long number)
{
  char buffer[1000];
  int space         = (int)sizeof(buffer);
  TSSslSessionID id = api_numbered_id(number);
  lookups_done++;
  return TSSslSessionGetBuffer(&id, buffer, &space) == len && space == len && memcmp(buffer, der, (size_t)len) == 0;
}

/* Takes every lock of the library, in a thread other than the one that panicked. */
static void *
use_all(void *arg)
{
  TSSslSessionID id = api_numbered_id(99);
  (void)arg;
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  CHECK(is_cached(99));
  SSL_SESSION *got = (SSL_SESSION *)TSSslSessionGet(&id);
  lookups_done++;
  CHECK(got != NULL);
  SSL_SESSION_free(got);
  CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.timeout", "0"), TS_SUCCESS);
  CHECK_INT(TSSslTicketKeyFileLoad("keys"), TS_SUCCESS);
  CHECK_INT(TSSslSessionHookAdd(note_event, (TSCont)&id), TS_SUCCESS);
  CHECK_INT(TSSslSessionHookRemove(note_event, (TSCont)&id), TS_SUCCESS);
  return NULL;
}

static void
check_all_is_well(void)
{
  pthread_t thread;

  REQUIRE(pthread_create(&thread, NULL, use_all, NULL) == 0);
  REQUIRE(pthread_join(thread, NULL) == 0);
  for (unsigned long number = 0; number < 100; number++) {
    TSSslSessionID id = api_numbered_id(number);
    int space         = 0;
    TSSslSessionGetBuffer(&id, NULL, &space);
    lookups_done++;
  }
  check_counters();
  CHECK_INT(lookups(), lookups_done);
}

/* The fault point that was armed, and the state before that. */
static const char *point;
static int panics_before;
static int lines_before;

static void
arm(const char *name, int nth)
{
  point         = name;
  panics_before = tssession_panics();
  lines_before  = atomic_load(&panic_lines);
  line[0]       = '\0';
  tssession_panic_at(name, nth);
}

/* Checks that there was exactly one panic, and one log line that names its place. */
static void
check_panic(const char *boundary)
{
  char expected[200];

  CHECK_OR(tssession_panics() == panics_before + 1, "%s: %d panics", point, tssession_panics() - panics_before);
  snprintf(expected, sizeof(expected), "%s: a panic at common/src/faults.rs:", boundary);
  CHECK_OR(atomic_load(&panic_lines) == lines_before + 1 && strncmp(line, expected, strlen(expected)) == 0 &&
             strstr(line, ": injected at ") != NULL,
           "%s: %d lines, the last is \"%s\"", point, atomic_load(&panic_lines) - lines_before, line);
  fprintf(report, "point %s\n", point);
}

/* Makes a call that panics at `name`, and checks its result, errno and the error queue, which is empty or
   has an error of the host's. */
#define PANICS_ONCE(queued, name, boundary, call, expected)                                                            \
  do {                                                                                                                 \
    ERR_clear_error();                                                                                                 \
    if (queued) {                                                                                                      \
      ERR_raise(ERR_LIB_USER, 77);                                                                                     \
    }                                                                                                                  \
    arm(name, 1);                                                                                                      \
    errno            = EXDEV;                                                                                          \
    long long result = (long long)(call);                                                                              \
    CHECK_INT(errno, EXDEV);                                                                                           \
    CHECK_INT(result, expected);                                                                                       \
    CHECK_INT(ERR_GET_REASON(ERR_peek_last_error()), (queued) ? 77 : 0);                                               \
    CHECK_INT(ERR_GET_REASON(ERR_get_error()), (queued) ? 77 : 0);                                                     \
    CHECK_INT(ERR_get_error(), 0);                                                                                     \
    check_panic(boundary);                                                                                             \
    check_all_is_well();                                                                                               \
  } while (0)

#define PANICS_WITHIN(name, boundary, call, expected)                                                                  \
  do {                                                                                                                 \
    PANICS_ONCE(0, name, boundary, call, expected);                                                                    \
    PANICS_ONCE(1, name, boundary, call, expected);                                                                    \
  } while (0)

/* Makes a call that panics at its entry. */
#define PANICS(function, boundary, call, expected)                                                                     \
  do {                                                                                                                 \
    PANICS_WITHIN(boundary, boundary, call, expected);                                                                 \
    fprintf(report, "function %s\n", function);                                                                        \
  } while (0)

#define STRING(x) #x
#define PANICS_C(name, call, expected) PANICS(STRING(name), STRING(name), call, expected)

/* Gets a session that is there. After a panic on the quick way, the call goes the other one. */
static int
gets(const TSSslSessionID *id)
{
  SSL_SESSION *got = (SSL_SESSION *)TSSslSessionGet(id);
  SSL_SESSION_free(got);
  lookups_done += got != NULL;
  return got != NULL;
}

/* If the first call of the process panics, the next one does its work again. */
static void
check_first_use(void)
{
  TSSslSessionID id = api_numbered_id(1);

  CHECK_INT(TSSslSessionCacheLogSet(note_line, NULL, TS_SSL_SESSION_CACHE_LOG_ERROR), TS_SUCCESS);
  arm("making the cache", 1);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_ERROR);
  check_panic("TSSslSessionInsert");
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  CHECK(is_cached(1));

  SSL_CTX *server = tls_server(TLS1_2_VERSION);
  arm("random ticket key", 1);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_ERROR);
  check_panic("TSSslSessionCacheAttach");
  CHECK_INT(api_stat(STAT_KEYS), 0);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(api_stat(STAT_KEYS), 1);
  SSL_CTX_free(server);
  check_all_is_well();
}

static void
check_functions(void)
{
  TSSslSessionID id     = api_numbered_id(1);
  TSSslSessionID absent = api_numbered_id(50);
  TSSslSessionID new_id = api_numbered_id(51);
  TSSslSession added    = (TSSslSession)session;
  SSL_CTX *server       = tls_server(TLS1_2_VERSION);
  TSSslContext ctx      = (TSSslContext)server;
  char buffer[1000]     = "";
  int64_t value         = -7;
  int space;

  /* Done at once, a call does not reach the fault point of the other way. */
  PANICS_C(TSSslSessionGet, (intptr_t)TSSslSessionGet(NULL), 0);
  PANICS("_Z15TSSslSessionGetPK14TSSslSessionID", "TSSslSessionGet", (intptr_t)cxx_get(NULL), 0);
  PANICS_WITHIN("TSSslSessionGet, at once", "TSSslSessionGet, at once", gets(&id), 1);
  PANICS_WITHIN("lookup, shard locked", "TSSslSessionGet, at once", gets(&id), 1);
  PANICS_C(TSSslSessionGetBuffer, (space = 1000, TSSslSessionGetBuffer(NULL, buffer, &space)), 0);
  CHECK_INT(space, 0);
  PANICS("_Z21TSSslSessionGetBufferPK14TSSslSessionIDPcPi", "TSSslSessionGetBuffer",
         (space = 1000, cxx_get_buffer(NULL, buffer, &space)), 0);
  CHECK_INT(space, 0);
  CHECK_INT(buffer[0], 0);
  PANICS_WITHIN("TSSslSessionGetBuffer, at once", "TSSslSessionGetBuffer, at once",
                (space = 1000, lookups_done++, TSSslSessionGetBuffer(&id, buffer, &space)), len);
  CHECK(space == len && memcmp(buffer, der, (size_t)len) == 0);
  PANICS_WITHIN("lookup, shard locked", "TSSslSessionGetBuffer, at once",
                (space = 1000, lookups_done++, TSSslSessionGetBuffer(&id, buffer, &space)), len);

  PANICS_C(TSSslSessionInsert, TSSslSessionInsert(&new_id, added), TS_ERROR);
  PANICS("_Z18TSSslSessionInsertPK14TSSslSessionIDP17tsapi_ssl_sessionP13tsapi_ssl_obj", "TSSslSessionInsert",
         cxx_insert(&new_id, added, NULL), TS_ERROR);
  PANICS_WITHIN("insert, shard locked", "TSSslSessionInsert", TSSslSessionInsert(&new_id, added), TS_ERROR);
  PANICS_WITHIN("insert, shard locked", "TSSslSessionInsert", TSSslSessionInsert(&id, added), TS_ERROR);
  PANICS_WITHIN("inside OpenSSL", "TSSslSessionInsert", TSSslSessionInsert(&new_id, added), TS_ERROR);
  PANICS_C(TSSslSessionInsertBuffer, TSSslSessionInsertBuffer(&new_id, (const char *)der, len), TS_ERROR);
  CHECK(is_cached(1) && !is_cached(51));

  PANICS_C(TSSslSessionRemove, TSSslSessionRemove(NULL), TS_ERROR);
  PANICS("_Z18TSSslSessionRemovePK14TSSslSessionID", "TSSslSessionRemove", cxx_remove(NULL), TS_ERROR);
  PANICS_WITHIN("TSSslSessionRemove, at once", "TSSslSessionRemove, at once", TSSslSessionRemove(&absent), TS_SUCCESS);
  PANICS_WITHIN("remove, shard locked", "TSSslSessionRemove, at once", TSSslSessionRemove(&absent), TS_SUCCESS);
  CHECK(is_cached(1));

  long long generation = api_stat(STAT_GENERATION);
  PANICS_C(TSSslTicketKeyUpdate, (TSSslTicketKeyUpdate(key, sizeof(key)), 0), 0);
  PANICS("_Z20TSSslTicketKeyUpdatePci", "TSSslTicketKeyUpdate", cxx_update(key, sizeof(key)), TS_ERROR);
  PANICS_WITHIN("ticket keys read", "TSSslTicketKeyUpdate", cxx_update(key, sizeof(key)), TS_ERROR);
  PANICS_C(TSSslTicketKeyFileLoad, TSSslTicketKeyFileLoad("keys"), TS_ERROR);
  PANICS_C(TSSslTicketKeyRotate, TSSslTicketKeyRotate(), TS_ERROR);
  PANICS_WITHIN("key file locked", "TSSslTicketKeyFileLoad", TSSslTicketKeyFileLoad("keys"), TS_ERROR);
  CHECK_INT(api_stat(STAT_GENERATION), generation);

  PANICS_C(TSSslSessionCacheAttach, TSSslSessionCacheAttach(ctx), TS_ERROR);
  CHECK(SSL_CTX_sess_get_get_cb(server) == NULL);
  CHECK_INT(TSSslSessionCacheAttach(ctx), TS_SUCCESS);
  PANICS_C(TSSslSessionCacheDetach, TSSslSessionCacheDetach(ctx), TS_ERROR);
  CHECK(SSL_CTX_sess_get_get_cb(server) != NULL);
  CHECK_INT(TSSslSessionCacheDetach(ctx), TS_SUCCESS);
  SSL_CTX_free(server);

  PANICS_C(TSSslSessionCacheConfigSet, TSSslSessionCacheConfigSet("tssession.session_cache.max_session_bytes", "100"),
           TS_ERROR);
  PANICS_WITHIN("settings locked", "TSSslSessionCacheConfigSet",
                TSSslSessionCacheConfigSet("tssession.session_cache.max_session_bytes", "100"), TS_ERROR);
  PANICS_C(TSSslSessionCacheConfigLoad, TSSslSessionCacheConfigLoad("records.config"), TS_ERROR);
  PANICS_C(TSSslSessionCacheLogSet, TSSslSessionCacheLogSet(NULL, NULL, TS_SSL_SESSION_CACHE_LOG_ERROR), TS_ERROR);
  PANICS_C(TSSslSessionCacheStatGet, TSSslSessionCacheStatGet(STAT_ENTRIES, &value), TS_ERROR);
  CHECK_INT(value, -7);
  PANICS_C(TSSslSessionCacheConfigText, (space = 1000, TSSslSessionCacheConfigText(buffer, &space)), 0);
  PANICS_C(TSSslSessionCacheStatsText, (space = 1000, TSSslSessionCacheStatsText(buffer, &space)), 0);
  CHECK_INT(space, 0);

  PANICS_C(TSSslSessionHookAdd, TSSslSessionHookAdd(note_event, NULL), TS_ERROR);
  PANICS_WITHIN("hooks being changed", "TSSslSessionHookAdd", TSSslSessionHookAdd(note_event, NULL), TS_ERROR);
  CHECK_INT(TSSslSessionHookRemove(note_event, NULL), TS_ERROR);
  CHECK_INT(TSSslSessionHookAdd(note_event, NULL), TS_SUCCESS);
  PANICS_C(TSSslSessionHookRemove, TSSslSessionHookRemove(note_event, NULL), TS_ERROR);
  PANICS_WITHIN("hooks being changed", "TSSslSessionHookRemove", TSSslSessionHookRemove(note_event, NULL), TS_ERROR);
  CHECK_INT(TSSslSessionHookRemove(note_event, NULL), TS_SUCCESS);

  /* By now the session has a template. */
  PANICS_ONCE(0, "session duplicated", "TSSslSessionGet, at once", gets(&id), 1);
  PANICS_ONCE(1, "session duplicated", "TSSslSessionGet", gets(&id), 0);

  CHECK(is_cached(1));
  PANICS_C(TSSslSessionCacheClear, (TSSslSessionCacheClear(), 0), 0);
  CHECK(is_cached(1));
  PANICS_WITHIN("clear, shard locked", "TSSslSessionCacheClear", (TSSslSessionCacheClear(), 0), 0);
  TSSslSessionCacheClear();
  CHECK_INT(api_stat(STAT_ENTRIES), 0);
  check_all_is_well();
}

/* Puts into `buffer` what is written to stderr during a call. */
static void
collect_stderr(void (*act)(void), char *buffer, size_t space)
{
  FILE *file = tmpfile();
  int before = dup(STDERR_FILENO);
  REQUIRE(file != NULL && before >= 0);
  dup2(fileno(file), STDERR_FILENO);
  act();
  dup2(before, STDERR_FILENO);
  close(before);
  rewind(file);
  size_t got  = fread(buffer, 1, space - 1, file);
  buffer[got] = '\0';
  fclose(file);
}

static void
call_badly(void)
{
  CHECK(TSSslSessionGet(NULL) == NULL);
}

static int bad_lines;

static void
note_bad_line(TSCont contp, int level, const char *tag, const char *text)
{
  (void)contp, (void)level, (void)tag;
  bad_lines += strcmp(text, "TSSslSessionGet: the session ID is NULL") == 0;
}

/* The logger panics: the call has its normal result, its line is lost, and the next line is written. */
static void
check_logger(void)
{
  const char *points[] = {"logger", "log function"};
  char text[1000];

  CHECK_INT(TSSslSessionCacheLogSet(note_bad_line, NULL, TS_SSL_SESSION_CACHE_LOG_ERROR), TS_SUCCESS);
  for (int i = 0; i < 2; i++) {
    bad_lines = 0;
    arm(points[i], 1);
    collect_stderr(call_badly, text, sizeof(text));
    CHECK_INT(tssession_panics(), panics_before + 1);
    CHECK_INT(bad_lines, 0);
    const char *said = "tssession: ERROR: (ssl.session_cache) a panic at common/src/faults.rs:";
    CHECK(strncmp(text, said, strlen(said)) == 0);
    CHECK(strchr(text, '\n') != NULL && strchr(text, '\n')[1] == '\0');
    collect_stderr(call_badly, text, sizeof(text));
    CHECK_INT(text[0], 0);
    CHECK_INT(bad_lines, 1);
    fprintf(report, "point %s\n", points[i]);
  }
  CHECK_INT(TSSslSessionCacheLogSet(note_line, NULL, TS_SSL_SESSION_CACHE_LOG_ERROR), TS_SUCCESS);
  check_all_is_well();
}

/* A panic in a callback, and the visit of a client in which it happens. */
struct visit {
  const char *point;    /* where it panics */
  const char *boundary; /* the boundary that logs it */
  int version;
  int tickets;
  int resumes; /* whether the client offers a session */
  int nth;
  int outcome; /* 1: resumed, 0: a full handshake */
  enum tls_ending ending;
};

static const struct visit visits[] = {
  /* The session is not stored. */
  {"new_session", "new_session", TLS1_2_VERSION, 0, 0, 1, 0, TLS_CLEAN},
  {"inside OpenSSL", "new_session", TLS1_2_VERSION, 0, 0, 1, 0, TLS_CLEAN},
  {"insert, shard locked", "new_session", TLS1_2_VERSION, 0, 0, 1, 0, TLS_CLEAN},
  {"hook", "new_session", TLS1_2_VERSION, 0, 0, 1, 0, TLS_CLEAN},
  {"new_session", "new_session", TLS1_3_VERSION, 0, 0, 1, 0, TLS_CLEAN},
  {"get_session", "get_session", TLS1_2_VERSION, 0, 1, 1, 0, TLS_CLEAN},
  {"lookup, shard locked", "get_session", TLS1_2_VERSION, 0, 1, 1, 0, TLS_CLEAN},
  {"hook", "get_session", TLS1_2_VERSION, 0, 1, 1, 0, TLS_CLEAN},
  {"verify_step", "verify_step", TLS1_2_VERSION, 0, 1, 1, 0, TLS_CLEAN},
  {"verify_step", "verify_step", TLS1_3_VERSION, 1, 1, 1, 0, TLS_CLEAN},
  {"get_session", "get_session", TLS1_3_VERSION, 0, 1, 1, 0, TLS_CLEAN},
  /* In a visit that resumes, the first ticket key is that of the offered ticket. */
  {"ticket_key", "ticket_key", TLS1_2_VERSION, 1, 0, 1, 0, TLS_CLEAN},
  {"ticket_key", "ticket_key", TLS1_2_VERSION, 1, 1, 1, 0, TLS_CLEAN},
  {"ticket_key", "ticket_key", TLS1_3_VERSION, 1, 0, 1, 0, TLS_CLEAN},
  {"ticket_key", "ticket_key", TLS1_3_VERSION, 1, 1, 1, 0, TLS_CLEAN},
  {"ticket_key", "ticket_key", TLS1_3_VERSION, 1, 1, 2, 1, TLS_CLEAN},
  {"decrypted_ticket", "decrypted_ticket", TLS1_2_VERSION, 1, 1, 1, 0, TLS_CLEAN},
  {"decrypted_ticket", "decrypted_ticket", TLS1_3_VERSION, 1, 1, 1, 0, TLS_CLEAN},
  {"generate_ticket", "generate_ticket", TLS1_2_VERSION, 1, 0, 1, 0, TLS_CLEAN},
  {"generate_ticket", "generate_ticket", TLS1_3_VERSION, 1, 1, 1, 1, TLS_CLEAN},
  {"inside OpenSSL", "ticket_key", TLS1_2_VERSION, 1, 1, 1, 0, TLS_CLEAN},
  /* The session stays. */
  {"remove_session", "remove_session", TLS1_2_VERSION, 0, 1, 1, 1, TLS_FATAL},
  {"remove, shard locked", "remove_session", TLS1_2_VERSION, 0, 1, 1, 1, TLS_FATAL},
  {"connection_ends", "connection_ends", TLS1_2_VERSION, 0, 0, 1, 0, TLS_CLEAN},
  {"session_ends", "session_ends", TLS1_2_VERSION, 0, 0, 1, 0, TLS_CLEAN},
};

static void
check_visit(const struct visit *visit)
{
  int has_certificate = strcmp(visit->point, "verify_step") == 0;
  SSL_CTX *server = has_certificate ? tls_server_with_client_certificates(visit->version) : tls_server(visit->version);
  SSL_CTX *client = tls_client(visit->version);
  SSL_SESSION *resume = NULL;
  SSL_SESSION *after  = NULL;
  if (has_certificate) {
    tls_give_certificate(client, 0);
  }
  if (!visit->tickets) {
    SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
  }
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  long long misses = api_stat(STAT_MISS), hits = api_stat(STAT_HIT);
  if (visit->resumes) {
    CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &resume), 0);
  }
  arm(visit->point, visit->nth);
  CHECK_INT(tls_visit(server, client, resume, visit->ending, &after), visit->outcome);
  check_panic(visit->boundary);
  /* The next clients are served and resume. */
  SSL_SESSION_free(after);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &after), 0);
  CHECK_INT(tls_visit(server, client, after, TLS_CLEAN, NULL), 1);
  lookups_done += (int)(api_stat(STAT_MISS) - misses + api_stat(STAT_HIT) - hits);
  SSL_SESSION_free(after);
  tls_free(server, client, resume);
  check_all_is_well();
}

/* Early data: for this, sessions are put into OpenSSL's own cache. */
static void
check_connections(void)
{
  SSL_CTX *server = tls_server(TLS1_3_VERSION);
  SSL_CTX *client = tls_client(TLS1_3_VERSION);
  long long before;

  SSL_CTX_set_max_early_data(server, 1000);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  before              = lookups();
  SSL_SESSION *resume = NULL, *after = NULL;
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &resume), 0);
  CHECK_INT(tls_visit(server, client, resume, TLS_CLEAN, &after), 1);
  SSL_SESSION_free(resume);
  CHECK_INT(tls_visit(server, client, after, TLS_CLEAN, &resume), 1);
  /* A session that OpenSSL does not get does not stay in OpenSSL's cache. */
  arm("hook", 1);
  CHECK_INT(tls_visit(server, client, resume, TLS_CLEAN, NULL), 0);
  check_panic("get_session");
  CHECK_INT(SSL_CTX_sess_number(server), 0);
  lookups_done += (int)(lookups() - before);

  /* A session that is linked with its connection. */
  struct tls_connection connection;
  CHECK_INT(tls_connect(server, client, NULL, &connection), 0);
  SSL_SESSION *linked = SSL_get_session(connection.server);
  arm("forget_in_copy", 1);
  CHECK(SSL_SESSION_dup(linked) == NULL);
  check_panic("forget_in_copy");
  ERR_clear_error();
  SSL_SESSION *copy = SSL_SESSION_dup(linked);
  CHECK(copy != NULL);
  SSL_SESSION_free(copy);
  tls_end(&connection, TLS_CLEAN);

  SSL_SESSION_free(resume);
  SSL_SESSION_free(after);
  SSL_CTX_free(client);
  arm("free_attached", 1);
  SSL_CTX_free(server);
  check_panic("free_attached");
  check_all_is_well();
}

static void *
miss_once(void *unused)
{
  TSSslSessionID id = api_numbered_id(50);
  (void)unused;
  CHECK(TSSslSessionGet(&id) == NULL);
  return NULL;
}

/* A thread that has called the library ends. */
static void
check_end_of_thread(void)
{
  pthread_t thread;
  arm("at_end_of_thread", 1);
  REQUIRE(pthread_create(&thread, NULL, miss_once, NULL) == 0);
  REQUIRE(pthread_join(thread, NULL) == 0);
  lookups_done++;
  check_panic("at_end_of_thread");
  check_all_is_well();
}

static void
check_forks(void)
{
  const struct {
    const char *point;
    const char *boundary;
    int in_child;
  } points[] = {
    {"before_fork", "before_fork", 0},
    {"all locks held for a fork", "before_fork", 0},
    {"after_fork_in_parent", "after_fork_in_parent", 0},
    {"after_fork_in_child", "after_fork_in_child", 1},
  };
  for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++) {
    arm(points[i].point, 1);
    errno       = EXDEV;
    pid_t child = fork();
    CHECK_INT(errno, EXDEV);
    REQUIRE(child >= 0);
    if (child == 0) {
      /* A child of a fork that panicked in the parent has a copy of the parent's report. */
      alarm(20);
      check_failures = 0;
      if (points[i].in_child) {
        check_panic(points[i].boundary);
      } else {
        tssession_panic_at(NULL, 0);
      }
      check_all_is_well();
      fflush(report);
      pid_t grandchild = fork();
      if (grandchild == 0) {
        check_all_is_well();
        _exit(check_failures != 0);
      }
      check_child(grandchild);
      _exit(check_failures != 0);
    }
    check_child(child);
    if (points[i].in_child) {
      tssession_panic_at(NULL, 0);
    } else {
      check_panic(points[i].boundary);
    }
    check_all_is_well();
    fflush(report);
  }
}

static void
end_in_child(void)
{
  fflush(report);
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(20);
    tssession_panic_at(point, 1);
    exit(0);
  }
  check_child(child);
}

/* Panics at the end of OpenSSL and of the process: the process still ends normally. */
static void
check_exits(void)
{
  const char *points[] = {"end", "wipe_at_exit"};
  char text[1000];

  /* Without a log function, lines go to stderr. */
  CHECK_INT(TSSslSessionCacheLogSet(NULL, NULL, TS_SSL_SESSION_CACHE_LOG_ERROR), TS_SUCCESS);
  for (int i = 0; i < 2; i++) {
    char expected[200];
    point = points[i];
    collect_stderr(end_in_child, text, sizeof(text));
    snprintf(expected, sizeof(expected),
             "tssession: ERROR: (ssl.session_cache) %s: a panic at common/src/faults.rs:", point);
    CHECK(strncmp(text, expected, strlen(expected)) == 0);
    CHECK(strchr(text, '\n') != NULL && strchr(text, '\n')[1] == '\0');
    fprintf(report, "point %s\n", point);
  }
}

static const char *program;

static void
load_in_child(void)
{
  fflush(report);
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    setenv("TSSESSION_PANIC_AT", "at_load", 1);
    execl(program, program, (char *)NULL);
    _exit(99);
  }
  check_child(child);
}

static void
check_load(void)
{
  char text[1000];

  collect_stderr(load_in_child, text, sizeof(text));
  CHECK(strstr(text, "at_load: a panic at common/src/faults.rs:") != NULL);
  CHECK(strchr(text, '\n') != NULL && strchr(text, '\n')[1] == '\0');
  fprintf(report, "point at_load\n");
}

int
main(int argc, char **argv)
{
  alarm(120);
  api_open();
  session = tls_session(0);
  der     = tls_der(session, &len);
  if (argc < 2) {
    /* The library panicked when it was loaded. */
    TSSslSessionID id = api_numbered_id(1);
    CHECK_INT(tssession_panics(), 1);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
    CHECK(is_cached(1));
    return check_result();
  }
  program = argv[0];
  report  = fopen(argv[1], "w");
  REQUIRE(report != NULL);
  memset(key, 'k', sizeof(key));
  folder_make();
  folder_write("keys", key, sizeof(key), 0600);
  folder_write("records.config", "CONFIG proxy.config.ssl.session_cache.timeout INT 0\n", 52, 0600);
  REQUIRE(chdir(folder) == 0);

  check_first_use();
  check_functions();
  check_logger();
  TSSslSessionID id = api_numbered_id(1);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  CHECK_INT(TSSslSessionHookAdd(note_event, NULL), TS_SUCCESS);
  for (size_t i = 0; i < sizeof(visits) / sizeof(*visits); i++) {
    check_visit(&visits[i]);
  }
  CHECK(events > 0);
  check_connections();
  check_end_of_thread();
  check_forks();
  check_exits();
  check_load();
  fclose(report);
  folder_remove((const char *const[]){"keys", "records.config"}, 2);
  OPENSSL_free(der);
  SSL_SESSION_free(session);
  return check_result();
}
