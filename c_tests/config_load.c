/** @file

  Settings from records files of ATS: a file is loaded completely or not at all, and the sources of
  settings have priorities.

  SPDX-License-Identifier: Apache-2.0
 */

#include <time.h>

#include "api.h"
#include "check.h"
#include "folder.h"
#include "tls.h"

#define RECORD "proxy.config.ssl.session_cache"

static SSL_SESSION *session;

static TSReturnCode
load_bytes(const char *name, const char *text, size_t len)
{
  folder_write(name, text, len, 0600);
  return TSSslSessionCacheConfigLoad(in_folder(name));
}

static TSReturnCode
load(const char *name, const char *text)
{
  return load_bytes(name, text, strlen(text));
}

/* Returns the active size: the number of sessions after a hundred inserts. */
static long long
size_in_force(void)
{
  for (unsigned long i = 0; i < 100; i++) {
    TSSslSessionID id = api_numbered_id(i);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  }
  return api_stat(STAT_ENTRIES);
}

static void
check_lines(void)
{
  CHECK_INT(load("records.config", "# what the library does not know is skipped\r\n"
                                   "CONFIG proxy.config.http.server_ports STRING 8080 8443:ssl\r\n"
                                   "\t CONFIG\t" RECORD ".size   INT  0x14  # comment\r\n"
                                   "LOCAL proxy.config.ssl.server.cert.path STRING NULL\r\n"
                                   "CONFIG not.complete\r\n"
                                   "CONFIG tssession.session_cache.max_session_bytes INT 1K"),
            TS_SUCCESS);
  CHECK_INT(size_in_force(), 20);
  SSL_SESSION *large = tls_session(1500);
  TSSslSessionID id  = api_numbered_id(200);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)large), TS_ERROR);
  CHECK_INT(load("records.config", "CONFIG tssession.session_cache.max_session_bytes INT 16K\n"), TS_SUCCESS);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)large), TS_SUCCESS);
  SSL_SESSION_free(large);

  /* A smaller size keeps as many sessions as fit; a larger one keeps all. */
  CHECK_INT(load("records.config", "CONFIG " RECORD ".size INT 12\n"), TS_SUCCESS);
  CHECK_INT(api_stat(STAT_ENTRIES), 12);
  CHECK_INT(load("records.config", "CONFIG " RECORD ".size INT 4096\n"), TS_SUCCESS);
  CHECK_INT(api_stat(STAT_ENTRIES), 12);
  CHECK_INT(size_in_force() >= 100, 1);

  /* The last of several counts. */
  CHECK_INT(load("records.config", "CONFIG " RECORD ".size INT 3\nCONFIG " RECORD ".size INT 7\n"), TS_SUCCESS);
  CHECK_INT(size_in_force(), 7);
}

/* Invalid lines. Each follows a valid line, which must not become active. */
static void
check_bad_lines(void)
{
  static const char *const bad[] = {
    "CONFIG " RECORD ".size INT ten",
    "CONFIG " RECORD ".size INT 0",
    "CONFIG " RECORD ".size INT 1 2",
    "CONFIG " RECORD ".size INT",
    "CONFIG " RECORD ".size",
    "CONFIG " RECORD ".size STRING 5",
    "CONFIG proxy.config.ssl.server.ticket_key.filename INT 5",
    "CONFIG " RECORD " INT 3",
    "records:",
    "config " RECORD ".size INT 5",
  };
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    char text[500];
    snprintf(text, sizeof(text), "CONFIG " RECORD ".size INT 9\n%s\nCONFIG " RECORD ".size INT 8\n", bad[i]);
    CHECK_INT(load("bad.config", text), TS_ERROR);
    CHECK_INT(size_in_force(), 7);
  }
}

static void
check_yaml(void)
{
  CHECK_INT(load("records.yaml", "records:\n"
                                 "  http:\n"
                                 "    server_ports: 8080 8443:ssl\n"
                                 "  ssl:\n"
                                 "    session_cache:\n"
                                 "      value: 2\n"
                                 "      size: 25   # comment\n"
                                 "    server:\n"
                                 "      cert:\n"
                                 "        path: null\n"
                                 "  plugins: [a, {b: c}]\n"
                                 "tssession:\n"
                                 "  session_cache: {max_bytes: 1M}\n"),
            TS_SUCCESS);
  CHECK_INT(size_in_force(), 25);
  CHECK_INT(load("short.yml", "records: {ssl: {session_cache: {size: 4K}}}"), TS_SUCCESS);
  CHECK_INT(load("empty.yaml", ""), TS_ERROR);
  CHECK_INT(load("empty.yaml", "ssl: {session_cache: {size: 5}}"), TS_ERROR);
  CHECK_INT(load("empty.yaml", "records:\n"), TS_SUCCESS);
  CHECK_INT(load("empty.yaml", "tssession: {session_cache: {max_sesion_bytes: 5}}"), TS_SUCCESS);
  CHECK_INT(load("records.yaml", "records: {ssl: {session_cache: {size: 26}}}"), TS_SUCCESS);
  CHECK_INT(size_in_force(), 26);

  static const char *const bad[] = {
    "    session_cache: {size: ten}",
    "    session_cache: {size: true}",
    "    session_cache: {size: [5]}",
    "    session_cache: {size: {a: b}}",
    "    session_cache: {mode: 3}",
    "    session_cache: *nowhere",
    "    session_cache: [",
    "    session_cache: {<<: {size: 5}}",
    "    server: 5",
    "   wrong: indentation",
    "\ttab: 1",
  };
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    char text[500];
    snprintf(text, sizeof(text), "records:\n  ssl:\n    session_cache.size: 9\n%s\n", bad[i]);
    CHECK_INT(load("bad.yaml", text), TS_ERROR);
    CHECK_INT(size_in_force(), 26);
  }
  CHECK_INT(load("bad.yaml", "- a list\n"), TS_ERROR);
  CHECK_INT(load("bad.yaml", "records:\n  a: \xff\n"), TS_ERROR);
  CHECK_INT(size_in_force(), 26);

  /* A million brackets, nested or in a row, do no harm. */
  size_t len = 1 << 20;
  char *deep = malloc(len);
  REQUIRE(deep != NULL);
  memset(deep, '[', len);
  CHECK_INT(load_bytes("bad.yaml", deep, len), TS_ERROR);
  CHECK_INT(load_bytes("bad.yaml", deep, len - 1), TS_ERROR);
  free(deep);
}

/* The environment overrides a call, a call a file, and a file the default. */
static void
check_precedence(void)
{
  CHECK_INT(load("records.config", "CONFIG " RECORD ".size INT 30\n"), TS_SUCCESS);
  CHECK_INT(size_in_force(), 30);
  CHECK_INT(TSSslSessionCacheConfigSet(RECORD ".size", "31"), TS_SUCCESS);
  CHECK_INT(size_in_force(), 31);
  CHECK_INT(load("records.config", "CONFIG " RECORD ".size INT 32\n"), TS_SUCCESS);
  CHECK_INT(size_in_force(), 31);
  CHECK_INT(TSSslSessionCacheConfigSet(RECORD ".size", "33"), TS_SUCCESS);
  CHECK_INT(size_in_force(), 33);
  /* The environment sets 60 seconds, so the file's 1 second does not count and nothing expires. */
  CHECK_INT(load("records.config", "CONFIG " RECORD ".timeout INT 1\n"), TS_SUCCESS);
  TSSslSessionID id = api_numbered_id(1);
  SSL_SESSION *old  = SSL_SESSION_dup(session);
  tls_set_time(old, (long)time(NULL) - 30);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)old), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheConfigSet(RECORD ".timeout", "1"), TS_SUCCESS);
  SSL_SESSION *copy = (SSL_SESSION *)TSSslSessionGet(&id);
  CHECK(copy != NULL);
  SSL_SESSION_free(copy);
  tls_set_time(old, (long)time(NULL) - 61);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)old), TS_ERROR);
  SSL_SESSION_free(old);
}

static void
check_what_is_not_a_file(void)
{
  CHECK_INT(TSSslSessionCacheConfigLoad(NULL), TS_ERROR);
  CHECK_INT(TSSslSessionCacheConfigLoad(""), TS_ERROR);
  CHECK_INT(TSSslSessionCacheConfigLoad(folder), TS_ERROR);
  CHECK_INT(TSSslSessionCacheConfigLoad(in_folder("absent")), TS_ERROR);
  REQUIRE(mkfifo(in_folder("fifo"), 0600) == 0);
  CHECK_INT(TSSslSessionCacheConfigLoad(in_folder("fifo")), TS_ERROR);
  CHECK_INT(TSSslSessionCacheConfigLoad("/dev/zero"), TS_ERROR);
  size_t len  = (1 << 20) + 1;
  char *large = calloc(1, len);
  REQUIRE(large != NULL);
  CHECK_INT(load_bytes("large.config", large, len), TS_ERROR);
  CHECK_INT(load_bytes("zeros.config", large, 100), TS_ERROR);
  free(large);
  CHECK_INT(size_in_force(), 33);
}

int
main(void)
{
  setenv("PROXY_CONFIG_SSL_SESSION_CACHE_TIMEOUT", "60", 1);
  api_open();
  folder_make();
  session = tls_session(0);

  check_lines();
  check_bad_lines();
  check_yaml();
  check_precedence();
  check_what_is_not_a_file();

  static const char *const names[] = {"records.config", "bad.config", "records.yaml", "short.yml",   "empty.yaml",
                                      "bad.yaml",       "fifo",       "large.config", "zeros.config"};
  folder_remove(names, sizeof(names) / sizeof(names[0]));
  SSL_SESSION_free(session);
  return check_result();
}
