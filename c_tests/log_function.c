/** @file

  A host that gets the log lines with a function.

  SPDX-License-Identifier: Apache-2.0
 */

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "folder.h"
#include "tls.h"

struct seen {
  int lines;
  int level;
  char tag[64];
  char line[512];
  size_t len;
  int call_back;
};

static void
note(TSCont contp, int level, const char *tag, const char *line)
{
  struct seen *seen = (struct seen *)contp;
  seen->lines++;
  seen->level = level;
  snprintf(seen->tag, sizeof(seen->tag), "%s", tag);
  snprintf(seen->line, sizeof(seen->line), "%s", line);
  seen->len = strlen(line);
  CHECK(strchr(line, '\n') == NULL);
  if (seen->call_back) {
    /* No lock is held here, so all these calls are allowed, even a bad one. */
    TSSslSessionID id = api_numbered_id(7);
    char key[48];
    memset(key, 'k', sizeof(key));
    TSSslSessionRemove(NULL);
    CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
    CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "1000"), TS_SUCCESS);
    CHECK_INT(TSSslTicketKeyFileLoad("/no/such/file"), TS_ERROR);
    CHECK_INT(TSSslSessionCacheConfigLoad("/no/such/file"), TS_ERROR);
    TSSslTicketKeyUpdate(key, sizeof(key));
    TSSslSessionCacheClear();
  }
}

static struct seen seen;

static void
listen_to(int level)
{
  memset(&seen, 0, sizeof(seen));
  CHECK_INT(TSSslSessionCacheLogSet(note, (TSCont)&seen, level), TS_SUCCESS);
}

/* Returns the number of bytes that this process writes to stderr during a call. */
static long
stderr_of(void (*act)(void))
{
  FILE *file = tmpfile();
  int before = dup(STDERR_FILENO);
  REQUIRE(file != NULL && before >= 0);
  dup2(fileno(file), STDERR_FILENO);
  act();
  dup2(before, STDERR_FILENO);
  close(before);
  long len = lseek(fileno(file), 0, SEEK_END);
  fclose(file);
  return len;
}

static void
fail(void)
{
  TSSslSessionGet(NULL);
}

static void
warn(void)
{
  char keys[50];
  memset(keys, 'w', sizeof(keys));
  TSSslTicketKeyUpdate(keys, sizeof(keys));
}

static void
check_levels(void)
{
  CHECK(stderr_of(fail) > 0);

  listen_to(TS_SSL_SESSION_CACHE_LOG_WARNING);
  CHECK_INT(stderr_of(fail), 0);
  CHECK_INT(seen.lines, 1);
  CHECK_INT(seen.level, TS_SSL_SESSION_CACHE_LOG_ERROR);
  CHECK(strcmp(seen.tag, "ssl.session_cache") == 0);
  CHECK(strcmp(seen.line, "TSSslSessionGet: the session ID is NULL") == 0);
  CHECK_INT(stderr_of(warn), 0);
  CHECK_INT(seen.lines, 2);
  CHECK_INT(seen.level, TS_SSL_SESSION_CACHE_LOG_WARNING);
  CHECK(strcmp(seen.tag, "ssl_session_ticket") == 0);
  CHECK(strstr(seen.line, "the last 2 bytes") != NULL);

  listen_to(TS_SSL_SESSION_CACHE_LOG_ERROR);
  CHECK_INT(stderr_of(warn), 0);
  CHECK_INT(seen.lines, 0);
  CHECK_INT(stderr_of(fail), 0);
  CHECK_INT(seen.lines, 1);

  const int none[] = {0, -1, 4, 100};
  for (size_t i = 0; i < 4; i++) {
    int lines = seen.lines;
    CHECK_INT(TSSslSessionCacheLogSet(NULL, NULL, none[i]), TS_ERROR);
    CHECK_INT(seen.lines, lines + 1);
    CHECK(strstr(seen.line, "; it must be 1 (errors) to 3 (debug lines)") != NULL);
  }

  CHECK_INT(TSSslSessionCacheLogSet(NULL, NULL, TS_SSL_SESSION_CACHE_LOG_WARNING), TS_SUCCESS);
  CHECK(stderr_of(fail) > 0);
}

/* Only debug lines have the session ID in hex, and the tags of ATS. */
static void
check_debug(void)
{
  SSL_SESSION *session = tls_session(0);
  TSSslSessionID id    = {3, "\x01\xab\x7f"};
  int len              = 0;
  struct {
    const char *tag;
    const char *what;
  } expected[] = {
    {"ssl.session_cache.insert", "stored"}, {"ssl.session_cache.get", "found"},
    {"ssl.session_cache.get", "found"},     {"ssl.session_cache.remove", "removed"},
    {"ssl.session_cache.remove", "absent"}, {"ssl.session_cache.get", "not found"},
  };
  for (int debug = 0; debug < 2; debug++) {
    listen_to(debug ? TS_SSL_SESSION_CACHE_LOG_DEBUG : TS_SSL_SESSION_CACHE_LOG_WARNING);
    if (debug) {
      /* The library logs its version once. */
      CHECK_INT(seen.lines, 1);
      CHECK(strstr(seen.line, "libtssession ") != NULL && strstr(seen.line, ", runs with OpenSSL ") != NULL);
      seen.lines = 0;
    }
    for (int i = 0; i < 6; i++) {
      if (i == 0) {
        CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
      } else if (i == 1 || i == 5) {
        CHECK_INT(TSSslSessionGetBuffer(&id, NULL, &len) > 0, i == 1);
      } else if (i == 2) {
        SSL_SESSION *copy = (SSL_SESSION *)TSSslSessionGet(&id);
        CHECK(copy != NULL);
        SSL_SESSION_free(copy);
      } else {
        CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
      }
      CHECK_INT(seen.lines, debug ? i + 1 : 0);
      if (debug) {
        CHECK_INT(seen.level, TS_SSL_SESSION_CACHE_LOG_DEBUG);
        CHECK(strcmp(seen.tag, expected[i].tag) == 0);
        CHECK(strstr(seen.line, "01ab7f") != NULL && strstr(seen.line, expected[i].what) != NULL);
      }
    }
  }
  SSL_SESSION_free(session);
}

/* A flood of errors is not logged line by line, wherever the lines go. */
static void
check_flood(void)
{
  listen_to(TS_SSL_SESSION_CACHE_LOG_WARNING);
  for (int i = 0; i < 10000; i++) {
    TSSslSessionRemove(NULL);
  }
  CHECK(seen.lines >= 90 && seen.lines < 400);
}

static void
fail_and_call_back(void)
{
  SSL_SESSION *session = tls_session(0);
  TSSslSessionID id    = api_numbered_id(7);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  seen.lines = 0;
  TSSslSessionInsert(NULL, NULL);
  SSL_SESSION_free(session);
}

static void
check_calling_back(void)
{
  listen_to(TS_SSL_SESSION_CACHE_LOG_DEBUG);
  seen.call_back = 1;
  /* Ends the test if a call waits forever for a lock. */
  alarm(60);
  /* Lines of calls within the function go to stderr. */
  CHECK(stderr_of(fail_and_call_back) > 0);
  CHECK_INT(seen.lines, 2);
  CHECK_INT(api_stat(STAT_ENTRIES), 0);

  /* Warnings about a file that is used. */
  static const char *const names[] = {"keys"};
  char keys[50];
  memset(keys, 'f', sizeof(keys));
  folder_make();
  folder_write(names[0], keys, sizeof(keys), 0644);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder(names[0])), TS_SUCCESS);
  /* Others can read it, two bytes are left over, and its keys are active. */
  CHECK_INT(seen.lines, 5);
  folder_remove(names, 1);
  alarm(0);
}

/* Each function gets lines of its own level only, even while they are exchanged. */
static atomic_int stop, wrong_level;

static void
only_errors(TSCont contp, int level, const char *tag, const char *line)
{
  (void)contp, (void)tag, (void)line;
  if (level != TS_SSL_SESSION_CACHE_LOG_ERROR) {
    atomic_fetch_add(&wrong_level, 1);
  }
}

static void
everything(TSCont contp, int level, const char *tag, const char *line)
{
  (void)contp, (void)level, (void)tag, (void)line;
}

static void *
exchange(void *arg)
{
  (void)arg;
  while (!atomic_load(&stop)) {
    TSSslSessionCacheLogSet(only_errors, NULL, TS_SSL_SESSION_CACHE_LOG_ERROR);
    TSSslSessionCacheLogSet(everything, NULL, TS_SSL_SESSION_CACHE_LOG_DEBUG);
  }
  return NULL;
}

static void
check_exchange(void)
{
  pthread_t threads[2];
  TSSslSessionID id = api_numbered_id(1);
  for (size_t i = 0; i < 2; i++) {
    REQUIRE(pthread_create(&threads[i], NULL, exchange, NULL) == 0);
  }
  for (int i = check_scaled(50000); i > 0; i--) {
    CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
  }
  atomic_store(&stop, 1);
  for (size_t i = 0; i < 2; i++) {
    pthread_join(threads[i], NULL);
  }
  CHECK_INT(wrong_level, 0);
  /* The last function gets the lines of its level. */
  listen_to(TS_SSL_SESSION_CACHE_LOG_DEBUG);
  CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
  CHECK_INT(seen.lines, 1);
}

/* A name of any length makes a readable line. */
static void
check_length(void)
{
  size_t len = 100000;
  char *name = malloc(len + 1);
  REQUIRE(name != NULL);
  memset(name, 'n', len);
  name[len] = '\0';
  listen_to(TS_SSL_SESSION_CACHE_LOG_WARNING);
  CHECK_INT(TSSslSessionCacheConfigSet(name, "1"), TS_ERROR);
  CHECK_INT(seen.lines, 1);
  CHECK(seen.len > 500 && seen.len < 3000);
  free(name);
}

int
main(void)
{
  api_open();
  /* The library's lookups of missing symbols leave no dlerror. */
  dlerror();
  TSSslSessionCacheClear();
  CHECK(dlerror() == NULL);
  check_levels();
  check_debug();
  check_flood();
  check_calling_back();
  check_exchange();
  check_length();
  return check_result();
}
