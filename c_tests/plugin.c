/** @file

  The library as a plugin of Traffic Server, which tests/ats/server.c imitates. The cases:

    plugin told      the server reports its contexts
    plugin asked     it does not, and the library watches connections instead
    plugin wrong     errors for which the plugin leaves sessions to the server
    plugin other     the server has another OpenSSL: see other_openssl.c
    plugin copies ONE TWO
                     plugins have loaded the file ONE of the library, the server the file TWO
    plugin example PLUGIN
                     with the plugin made of examples/plugin_ats11.cc
    plugin panics REPORT
                     in a build with fault points, each function that the server calls panics, and
                     the server continues. REPORT is as for panics.c

  SPDX-License-Identifier: Apache-2.0
 */

#include "../tests/ats/server.h"

#include "api.h"
#include "check.h"
#include "folder.h"
#include "own_key.h"
#include "tls.h"

static const char *library = "libtssession.so";

/* Loads the plugin with a line of plugin.config. NULL ends its words. */
static void
start(const char *const *words)
{
  const char *argv[8] = {library};
  int argc            = 1;
  while (*words != NULL) {
    argv[argc++] = *words++;
  }
  ats_error[0] = '\0';
  ats_load(library, argc, argv);
}

#define START(...) start((const char *const[]){__VA_ARGS__, NULL})

/* Makes a context as the server does, with the server's own cache off, and its own ticket keys. */
static SSL_CTX *
new_context(void)
{
  SSL_CTX *ctx = tls_server(TLS1_2_VERSION);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, own_key);
  return ctx;
}

static SSL_CTX *
new_client(int tickets)
{
  SSL_CTX *client = tls_client(TLS1_2_VERSION);
  if (!tickets) {
    SSL_CTX_set_options(client, SSL_OP_NO_TICKET);
  }
  return client;
}

/* Makes a session at one context. Returns whether it resumes at another. */
static int
resumes(SSL_CTX *made_at, SSL_CTX *resumed_at, int tickets)
{
  SSL_CTX *client      = new_client(tickets);
  SSL_SESSION *session = NULL;
  CHECK_INT(tls_visit(made_at, client, NULL, TLS_CLEAN, &session), 0);
  int resumed = tls_visit(resumed_at, client, session, TLS_CLEAN, NULL);
  SSL_SESSION_free(session);
  SSL_CTX_free(client);
  return resumed;
}

static void
check_served(SSL_CTX *ctx)
{
  int asked = own_key_asked;
  CHECK_INT(resumes(ctx, ctx, 0), 1);
  CHECK_INT(own_key_asked, asked);
  CHECK_INT(resumes(ctx, ctx, 1), 1);
  CHECK(own_key_asked > asked);
  CHECK_INT(api_stat(STAT_CREATED), 0);
  CHECK_INT(api_stat(STAT_KEYS), 0);
}

/* Makes a connection with a context, and reports it as the server does. */
static void
connect_with(SSL_CTX *ctx)
{
  SSL *ssl = SSL_new(ctx);
  REQUIRE(ssl != NULL);
  CHECK_INT(ats_connect(ssl), 1);
  SSL_free(ssl);
}

static int
switch_context(SSL *ssl, int *alert, void *to)
{
  (void)alert;
  SSL_set_SSL_CTX(ssl, to);
  return SSL_TLSEXT_ERR_OK;
}

/* A connection begins with one context, and the server name leads to another: the callbacks of
   the first look up sessions. */
static void
check_two_certificates(void)
{
  SSL_CTX *first  = new_context();
  SSL_CTX *second = new_context();
  SSL_CTX_set_tlsext_servername_callback(first, switch_context);
  SSL_CTX_set_tlsext_servername_arg(first, second);
  ats_tell_of_context(first);
  ats_tell_of_context(second);

  struct tls_connection connection;
  SSL_CTX *client = new_client(0);
  REQUIRE(tls_connect(first, client, NULL, &connection) == 0);
  SSL_SESSION *session = SSL_get1_session(connection.client);
  X509 *shown          = SSL_get0_peer_certificate(connection.client);
  CHECK(SSL_get_SSL_CTX(connection.server) == second);
  CHECK_INT(X509_cmp(shown, SSL_CTX_get0_certificate(second)), 0);
  tls_end(&connection, TLS_CLEAN);
  CHECK_INT(tls_visit(first, client, session, TLS_CLEAN, NULL), 1);

  SSL_SESSION_free(session);
  SSL_CTX_free(client);
  SSL_CTX_free(first);
  SSL_CTX_free(second);
}

static void
write_file(const char *text)
{
  folder_write("records.config", text, strlen(text), 0600);
}

static void
reload(const char *text)
{
  write_file(text);
  ats_error[0] = '\0';
  CHECK(ats_reload());
}

/* Returns whether a session of a few hundred bytes can be stored. */
static int
stores(void)
{
  SSL_SESSION *session = tls_session(0);
  TSSslSessionID id    = api_numbered_id(7);
  int stored           = TSSslSessionInsert(&id, (TSSslSession)session) == TS_SUCCESS;
  SSL_SESSION_free(session);
  return stored;
}

static void
check_reload(void)
{
  /* The first record is that of the server's own cache, and is ignored. */
  reload("CONFIG proxy.config.ssl.session_cache INT 0\n"
         "CONFIG tssession.session_cache.max_session_bytes INT 10\n");
  CHECK(!stores());
  reload("CONFIG tssession.session_cache.max_session_bytes INT many\n");
  CHECK(strstr(ats_error, "reload: ") != NULL && strstr(ats_error, "/records.config:1: ") != NULL);
  CHECK(!stores());
  reload("CONFIG tssession.session_cache.max_session_bytes INT 16384\n");
  CHECK_INT(ats_error[0], '\0');
  CHECK(stores());
}

static void
check_statistics(void)
{
  ats_start_task_threads();
  CHECK(ats_statistic("plugin.tssession.session_cache.entries") == api_stat(STAT_ENTRIES));
  CHECK(stores());
  TSSslSessionID absent = api_numbered_id(8);
  CHECK(TSSslSessionGet(&absent) == NULL);
  CHECK(ats_tick());
  CHECK_INT(ats_statistic("plugin.tssession.session_cache.entries"), api_stat(STAT_ENTRIES));
  CHECK_INT(ats_statistic("plugin.tssession.ssl_session_cache_hit"), api_stat(STAT_HIT));
  CHECK_INT(ats_statistic("plugin.tssession.ssl_session_cache_miss.absent"), api_stat(STAT_MISS ".absent"));
  CHECK_INT(ats_statistic("plugin.tssession.session_cache.get.absent"), api_stat(STAT_GET ".absent"));
  CHECK(ats_statistic("plugin.tssession.session_cache.get.absent") > 0);
  CHECK(ats_statistic("plugin.tssession.ssl_session_cache_new_session") > 0);
}

/* Sends an order of the operator. Returns the answer. */
static const char *
order(const char *text)
{
  ats_note[0]  = '\0';
  ats_error[0] = '\0';
  ats_send_message("tssession", text);
  CHECK((ats_note[0] == '\0') != (ats_error[0] == '\0'));
  return ats_note[0] == '\0' ? ats_error : ats_note;
}

static int
is_answered(const char *text, const char *answer)
{
  const char *line = order(text);
  int is_so        = strstr(line, answer) != NULL;
  if (!is_so) {
    fprintf(stderr, "%s: %s\n", text, line);
  }
  return is_so;
}

static void
check_orders(void)
{
  TSSslSessionCacheClear();
  CHECK(stores());
  CHECK(is_answered("stats", "tssession: stats: ssl_session_cache_hit="));
  CHECK(strstr(ats_note, " session_cache.entries=1 ") != NULL && strstr(ats_note, " ticket_keys.generation=") != NULL);
#define SEVEN "0700000000000000" FIVE_A FIVE_A FIVE_A
#define FIVE_A "5a5a5a5a5a5a5a5a"
  CHECK(is_answered("remove " SEVEN, "tssession: remove " SEVEN ": the session is removed"));
  CHECK_INT(api_stat(STAT_ENTRIES), 0);
  CHECK(is_answered("  remove " SEVEN " ", ": there is no such session"));
  CHECK(is_answered("remove 07x", "not a session ID of 1 to 32 bytes in hex"));
  CHECK(stores());
  CHECK(is_answered("clear", "tssession: clear: discarded sessions: 1"));
  CHECK_INT(api_stat(STAT_ENTRIES), 0);
  CHECK(is_answered("dump-settings", "tssession: dump-settings: proxy.config.ssl.session_cache 2 (plugin.config), "));
  CHECK(strstr(ats_note, " proxy.config.ssl.session_cache.size 4096 (plugin.config), ") != NULL);
  CHECK(strstr(ats_note, " tssession.session_ticket.mode 0 (default), ") != NULL);
  CHECK(is_answered("keys rotate", "keys rotate: tickets are the server's"));
  CHECK(is_answered("keys reload", "keys reload: tickets are the server's"));
  CHECK_INT(api_stat(STAT_KEYS), 0);
  CHECK(is_answered("what\n", "tssession: \"what\": there is no such order; the orders are clear, remove HEX-ID, "));
  CHECK(is_answered("farm status", "there is no such order"));
  CHECK(is_answered("", "there is no such order"));
  ats_note[0] = ats_error[0] = '\0';
  ats_send_message("tssessio", "clear");
  ats_send_message("tssession_", "clear");
  CHECK(ats_note[0] == '\0' && ats_error[0] == '\0');
}

/* A key file with one key, then a new first key, then the file is touched. */
static void
check_key_orders(SSL_CTX *ctx)
{
  char key[48];
  memset(key, 'k', sizeof(key));
  CHECK(is_answered("keys reload", "keys reload: no file of ticket keys is configured"));
  SSL_CTX *client      = new_client(1);
  SSL_SESSION *session = NULL;
  CHECK_INT(tls_visit(ctx, client, NULL, TLS_CLEAN, &session), 0);
  long long keys = api_stat(STAT_KEYS);
  CHECK(is_answered("keys rotate", "keys rotate: active keys: 2") && keys == 1);
  CHECK_INT(api_stat(STAT_KEYS), 2);
  long long old = api_stat(STAT_OLD_KEY);
  CHECK_INT(tls_visit(ctx, client, session, TLS_CLEAN, NULL), 1);
  CHECK_INT(api_stat(STAT_OLD_KEY), old + 1);

  folder_write("keys", key, sizeof(key), 0600);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.server.ticket_key.filename", in_folder("keys")), TS_SUCCESS);
  CHECK(is_answered("keys reload", "keys reload: active keys: 1"));
  CHECK_INT(tls_visit(ctx, client, session, TLS_CLEAN, NULL), 0);
  unlink(in_folder("keys"));
  CHECK(is_answered("keys reload", "/keys: "));
  CHECK_INT(api_stat(STAT_KEYS), 1);
  tls_free(NULL, client, session);
}

static void
told(void)
{
  /* These variables are for the server's own cache. The line of plugin.config is for this one. */
  setenv("PROXY_CONFIG_SSL_SESSION_CACHE", "0", 1);
  setenv("PROXY_CONFIG_SSL_SESSION_CACHE_SIZE", "1", 1);
  api_open();
  write_file("CONFIG proxy.config.ssl.session_cache INT 0\n");
  START("--session-cache.size=4K", "--config", "records.config");
  CHECK_INT(ats_error[0], '\0');
  CHECK(strcmp(ats_note, "tssession: serves TLS sessions, 4096 at most; tickets are the server's") == 0);
  CHECK_INT(ats_registered, 1);
  SSL_CTX *ctx = new_context();
  ats_tell_of_context(ctx);
  CHECK_INT(api_stat("tssession.contexts"), 1);
  ats_open_ports();
  /* The plugin does not watch connections. */
  CHECK_INT(ats_http_hooks(), 0);
  check_served(ctx);

  /* After a reload of the certificates the sessions are still there, and the old context ends. */
  void *contexts[4];
  for (int i = 0; i < 4; i++) {
    contexts[i] = new_context();
  }
  ats_tell_of_contexts(contexts, 4);
  ats_tell_of_context(NULL);
  CHECK_INT(api_stat("tssession.contexts"), 5);
  for (int i = 1; i < 4; i++) {
    check_served(contexts[i]);
    SSL_CTX_free(contexts[i]);
  }
  SSL_CTX *reloaded = contexts[0];
  CHECK_INT(resumes(ctx, reloaded, 0), 1);
  SSL_CTX_free(ctx);
  CHECK_INT(api_stat("tssession.contexts"), 1);
  check_served(reloaded);
  check_two_certificates();
  SSL_CTX_free(reloaded);
  CHECK_INT(api_stat("tssession.contexts"), 0);

  check_reload();
  check_statistics();
  check_orders();
  START("--session-cache.size=5K");
  CHECK(strstr(ats_error, "names the plugin twice; only the first line counts") != NULL);
  CHECK(strstr(ats_error, "left to the server") == NULL);

  /* From now on the library makes the tickets of new contexts. */
  CHECK_INT(TSSslSessionCacheConfigSet("tssession.session_ticket.mode", "1"), TS_SUCCESS);
  SSL_CTX *ours = new_context();
  ats_tell_of_context(ours);
  int asked = own_key_asked;
  CHECK_INT(resumes(ours, ours, 1), 1);
  CHECK_INT(own_key_asked, asked);
  CHECK(api_stat(STAT_CREATED) > 0);
  check_key_orders(ours);
  SSL_CTX_free(ours);
}

static void
asked(void)
{
  api_open();
  START(NULL);
  CHECK_INT(ats_error[0], '\0');
  ats_open_ports();
  CHECK_INT(ats_http_hooks(), 1);

  SSL_CTX *ctx = new_context();
  for (int i = 0; i < 3; i++) {
    connect_with(ctx);
    CHECK_INT(api_stat("tssession.contexts"), 1);
  }
  check_served(ctx);
  SSL_CTX_free(ctx);
  CHECK_INT(api_stat("tssession.contexts"), 0);

  /* A connection without TLS. */
  CHECK_INT(ats_connect(NULL), 1);
}

/* Checks that the plugin leaves sessions to the server, and logs this reason. */
static void
check_out_of_the_way(const char *why)
{
  CHECK_OR(strstr(ats_error, why) != NULL, "\"%s\" does not contain \"%s\"", ats_error, why);
  CHECK(strncmp(ats_error, "tssession: TSPluginInit: ", 25) == 0);
  CHECK(strstr(ats_error, "; sessions are left to the server") != NULL);
  CHECK_INT(ats_lifecycle_hooks() + ats_http_hooks(), 0);
  CHECK(!ats_reload() && ats_note[0] == '\0');
}

static void
wrong(void)
{
  api_open();
  /* Version 11 has no cache of its own. */
  for (int mode = 1; mode <= 2 && ats_own_cache >= 0; mode++) {
    ats_own_cache = mode;
    START("--session-cache.size=4K");
    check_out_of_the_way(mode == 1 ? " is 1)" : " is 2)");
    CHECK(strstr(ats_error, ats_own_cache_record) != NULL);
  }
  ats_own_cache = 0;
  START("--session-cache.siz=4K");
  check_out_of_the_way("--session-cache.siz=4K: there is no such setting");
  START("--session-cache.size=many");
  check_out_of_the_way("--session-cache.size=many: the value is not a whole number");
  START("--session-cache=1");
  check_out_of_the_way("--session-cache=1: this sets ATS's own cache");
  START("--config=missing.yaml");
  check_out_of_the_way("/missing.yaml: ");
  write_file("CONFIG tssession.session_cache.max_session_bytes INT many\n");
  START("--config=records.config");
  check_out_of_the_way("/records.config:1: ");
  ats_load(library, 0, NULL);
  CHECK_INT(ats_lifecycle_hooks(), 4);
  /* Plugins can still call the functions. */
  CHECK(stores());
}

static void
other(void)
{
  api_open();
  START(NULL);
  check_out_of_the_way("the server has another OpenSSL");
}

static void
copies(const char *one, const char *two)
{
  REQUIRE(dlopen(one, RTLD_NOW) != NULL);
  library = two;
  START(NULL);
  check_out_of_the_way("another copy of this library is loaded already");
}

/* Sends a message of the operator to the example. Returns the line that it logs. */
static const char *
say(const char *text)
{
  static char line[sizeof(ats_note) + sizeof(ats_error)];
  ats_note[0]  = '\0';
  ats_error[0] = '\0';
  ats_send_message("session_log", text);
  snprintf(line, sizeof(line), "%s%s", ats_note, ats_error);
  return line;
}

/* The example sees each new session, removes one, and inserts one. */
static void
example(const char *path)
{
  api_open();
  START(NULL);
  ats_load(path, 1, &path);
  CHECK_INT(ats_registered, 2);

  SSL_CTX *ctx         = new_context();
  SSL_CTX *client      = new_client(0);
  SSL_SESSION *session = NULL;
  ats_tell_of_context(ctx);
  CHECK_INT(tls_visit(ctx, client, NULL, TLS_CLEAN, &session), 0);
  unsigned id_len         = 0, der_len;
  const unsigned char *id = SSL_SESSION_get_id(session, &id_len);
  char id_hex[80] = "", expected[200], command[10000] = "insert ";
  for (unsigned i = 0; i < id_len; i++) {
    sprintf(id_hex + 2 * i, "%02x", id[i]);
  }
  /* The cached session. */
  TSSslSessionID its = {.len = id_len};
  char der[4000];
  int space = sizeof(der);
  memcpy(its.bytes, id, id_len);
  der_len = (unsigned)TSSslSessionGetBuffer(&its, der, &space);
  for (unsigned i = 0; i < der_len; i++) {
    sprintf(command + 7 + 2 * i, "%02x", (unsigned char)der[i]);
  }
  snprintf(expected, sizeof(expected), "[session_log] new session %s: %u bytes, %s", id_hex, der_len,
           SSL_CIPHER_get_name(SSL_SESSION_get0_cipher(session)));
  CHECK(strcmp(ats_note, expected) == 0);

  CHECK_INT(tls_visit(ctx, client, session, TLS_CLEAN, NULL), 1);
  char removal[100];
  snprintf(removal, sizeof(removal), "remove %s", id_hex);
  CHECK(strstr(say(removal), "was removed") != NULL);
  CHECK_INT(tls_visit(ctx, client, session, TLS_CLEAN, NULL), 0);
  CHECK(strstr(say(command), "was inserted") != NULL);
  CHECK_INT(tls_visit(ctx, client, session, TLS_CLEAN, NULL), 1);
  CHECK(strstr(say("remove 0g"), "not a session ID") != NULL);
  CHECK(strstr(say("insert 0102"), "not exactly one session") != NULL);
  CHECK(strstr(say("insert 1"), "not in hex") != NULL);
  CHECK(strstr(say("what"), "unknown command") != NULL);
  tls_free(ctx, client, session);
}

static void (*panic_at)(const char *point, int nth);
static FILE *report;

/* Makes the server call the function of this name, which panics. */
#define PANICS(name, what_the_server_does)                                                                             \
  do {                                                                                                                 \
    ats_error[0] = '\0';                                                                                               \
    panic_at(name, 1);                                                                                                 \
    what_the_server_does;                                                                                              \
    const char *said = "tssession: " name ": a panic at common/src/faults.rs:";                                        \
    CHECK(strncmp(ats_error, said, strlen(said)) == 0);                                                                \
    fprintf(report, "point %s\n", name);                                                                               \
  } while (0)

static void
panics(const char *path)
{
  api_open();
  void *found = dlsym(dlopen("libtssession.so", RTLD_NOW | RTLD_NOLOAD), "tssession_panic_at");
  REQUIRE(found != NULL);
  memcpy(&panic_at, &found, sizeof(found));
  report = fopen(path, "a");
  REQUIRE(report != NULL);
  write_file("");
  /* From here on, lines go to the server. */
  CHECK(TSSslSessionGet(NULL) == NULL);

  PANICS("TSPluginInit", ats_load(library, 0, NULL));
  fprintf(report, "function TSPluginInit\n");
  CHECK_INT(ats_lifecycle_hooks(), 0);
  START("--config=records.config");
  PANICS("on_ports", ats_open_ports());
  CHECK_INT(ats_http_hooks(), 0);
  ats_open_ports();

  SSL_CTX *ctx = new_context();
  PANICS("on_connection", connect_with(ctx));
  CHECK_INT(api_stat("tssession.contexts"), 0);
  connect_with(ctx);
  check_served(ctx);
  SSL_CTX_free(ctx);

  ctx = new_context();
  PANICS("on_context", ats_tell_of_context(ctx));
  CHECK_INT(api_stat("tssession.contexts"), 0);
  ats_tell_of_context(ctx);
  check_served(ctx);
  SSL_CTX_free(ctx);

  PANICS("on_reload", ats_reload());
  PANICS("on_task_threads", ats_start_task_threads());
  CHECK(!ats_tick());
  check_statistics();
  PANICS("on_message", ats_send_message("tssession", "stats"));
  PANICS("on_tick", ats_tick());
  check_statistics();
  fclose(report);
}

int
main(int argc, char **argv)
{
  REQUIRE(argc >= 2 && argc <= 4);
  folder_make();
  ats_directory = folder;
  if (strcmp(argv[1], "told") == 0) {
    told();
  } else if (strcmp(argv[1], "asked") == 0) {
    asked();
  } else if (strcmp(argv[1], "other") == 0) {
    other();
  } else if (strcmp(argv[1], "copies") == 0) {
    copies(argv[2], argv[3]);
  } else if (strcmp(argv[1], "example") == 0) {
    example(argv[2]);
  } else if (strcmp(argv[1], "panics") == 0) {
    panics(argv[2]);
  } else {
    REQUIRE(strcmp(argv[1], "wrong") == 0);
    wrong();
  }
  /* The server's functions for its own cache, which is off, were not called. */
  CHECK(strstr(ats_log, "\nTSSsl") == NULL);
  unlink(in_folder("records.config"));
  folder_remove(NULL, 0);
  return check_result();
}
