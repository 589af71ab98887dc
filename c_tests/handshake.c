/** @file

  Attached contexts: which sessions handshakes store, find and remove, and which
  events the hooks get.

  SPDX-License-Identifier: Apache-2.0
 */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>

#include "api.h"
#include "check.h"
#include "tls.h"

static struct {
  int gets;
  int news;
  int removes;
  TSSslSessionID last;
} seen;

/* Set while sessions are removed from the cache when they are fetched. */
static int single_use;

static int
note_event(TSCont contp, TSEvent event, void *edata)
{
  CHECK(contp == (TSCont)&seen);
  seen.last = *(TSSslSessionID *)edata;
  CHECK(seen.last.len >= 1 && seen.last.len <= 32);
  seen.gets += event == TS_EVENT_SSL_SESSION_GET;
  seen.news += event == TS_EVENT_SSL_SESSION_NEW;
  seen.removes += event == TS_EVENT_SSL_SESSION_REMOVE;

  /* No lock is held here, so every function can be called. */
  int len     = 0;
  int present = TSSslSessionGetBuffer(&seen.last, NULL, &len) > 0;
  int used_up = event == TS_EVENT_SSL_SESSION_GET && single_use;
  CHECK_INT(present, event != TS_EVENT_SSL_SESSION_REMOVE && !used_up);
  return 0;
}

static void
expect_events(int gets, int news, int removes)
{
  CHECK_INT(seen.gets, gets);
  CHECK_INT(seen.news, news);
  CHECK_INT(seen.removes, removes);
  memset(&seen, 0, sizeof(seen));
}

static void
set(const char *name, const char *value)
{
  REQUIRE(TSSslSessionCacheConfigSet(name, value) == TS_SUCCESS);
}

static SSL_CTX *
attached(SSL_CTX *server)
{
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  return server;
}

static SSL_CTX *
client_without_tickets(void)
{
  SSL_CTX *client = tls_client(TLS1_2_VERSION);
  SSL_CTX_set_options(client, SSL_OP_NO_TICKET);
  return client;
}

static TSSslSessionID
id_of(SSL_SESSION *session)
{
  unsigned int len           = 0;
  const unsigned char *bytes = SSL_SESSION_get_id(session, &len);
  TSSslSessionID id          = api_id(len, 0);
  memcpy(id.bytes, bytes, len);
  return id;
}

/* TLS 1.2 with session IDs, with and without client certificates. */
static void
check_session_ids(SSL_CTX *server, SSL_CTX *client)
{
  SSL_SESSION *session = NULL;
  attached(attached(server));
  memset(&seen, 0, sizeof(seen));

  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  TSSslSessionID id = id_of(session);
  CHECK(seen.last.len == id.len && memcmp(seen.last.bytes, id.bytes, id.len) == 0);
  expect_events(0, 1, 0);
  long long hits   = api_stat(STAT_HIT);
  long long found  = api_stat(STAT_GET ".found");
  long long misses = api_stat(STAT_MISS);
  for (int i = 0; i < 3; i++) {
    CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
  }
  /* Each time one lookup by the handshake and one by the hook. */
  CHECK_INT(api_stat(STAT_HIT), hits + 3);
  CHECK_INT(api_stat(STAT_GET ".found"), found + 3);
  CHECK_INT(api_stat(STAT_MISS), misses);
  expect_events(3, 0, 0);

  /* A handshake that asks for another ID does not get a copy that was stored under that ID. */
  SSL_SESSION *copy = (SSL_SESSION *)TSSslSessionGet(&id);
  REQUIRE(copy != NULL);
  unsigned char other_id[32] = {42};
  SSL_SESSION *other         = SSL_SESSION_dup(copy);
  CHECK_INT(SSL_SESSION_set1_id(other, other_id, sizeof(other_id)), 1);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)other), TS_SUCCESS);
  long long refused = api_stat(STAT_MISS ".refused");
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 0);
  CHECK_INT(api_stat(STAT_MISS ".refused"), refused + 1);
  CHECK_INT(api_stat(STAT_MISS), misses + 1);
  CHECK_INT(api_stat(STAT_HIT), hits + 3);
  expect_events(0, 1, 0);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)copy), TS_SUCCESS);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
  expect_events(1, 0, 0);
  SSL_SESSION_free(other);
  SSL_SESSION_free(copy);

  /* The client hangs up: it still resumes. */
  CHECK_INT(tls_visit(server, client, session, TLS_HANG_UP, NULL), 1);
  CHECK_INT(tls_visit(server, client, session, TLS_HANG_UP, NULL), 1);
  expect_events(2, 0, 0);

  /* A fatal alert: the session never resumes again. */
  CHECK_INT(tls_visit(server, client, session, TLS_FATAL, NULL), 1);
  expect_events(1, 0, 1);
  CHECK(TSSslSessionGet(&id) == NULL);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 0);
  expect_events(0, 1, 0);
  SSL_SESSION_free(session);

  /* Freed without a shutdown: OpenSSL removes the session. */
  CHECK_INT(tls_visit(server, client, NULL, TLS_DROP, &session), 0);
  expect_events(0, 1, 1);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 0);
  expect_events(0, 1, 0);
  SSL_SESSION_free(session);

  /* Removed by a call, which fires no event. */
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  id = id_of(session);
  memset(&seen, 0, sizeof(seen));
  SSL_SESSION *kept = (SSL_SESSION *)TSSslSessionGet(&id);
  CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 0);
  expect_events(0, 1, 0);

  /* Inserted by a call, which fires no event either. */
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)kept), TS_SUCCESS);
  expect_events(0, 0, 0);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
  expect_events(1, 0, 0);
  SSL_SESSION_free(kept);

  tls_free(server, client, session);
}

#define STAT_OTHER_CONTEXT "tssession.other_id_context"

/* Attached contexts share the cache and the ticket keys. OpenSSL refuses sessions of another session ID
   context, and this is counted. */
static void
check_other_id_context(int version, uint64_t options)
{
  SSL_CTX *contexts[3];
  for (int i = 0; i < 3; i++) {
    contexts[i] = tls_server(version);
    SSL_CTX_set_options(contexts[i], options);
  }
  CHECK_INT(SSL_CTX_set_session_id_context(contexts[2], (const unsigned char *)"apart", 5), 1);
  SSL_CTX *client      = tls_client(version);
  SSL_SESSION *session = NULL;
  SSL_CTX_set_options(client, options);
  CHECK_INT(tls_visit(attached(contexts[0]), client, NULL, TLS_CLEAN, &session), 0);
  long long refused = api_stat(STAT_OTHER_CONTEXT);
  CHECK_INT(tls_visit(attached(contexts[1]), client, session, TLS_CLEAN, NULL), 1);
  CHECK_INT(api_stat(STAT_OTHER_CONTEXT), refused);
  CHECK_INT(tls_visit(attached(contexts[2]), client, session, TLS_CLEAN, NULL), 0);
  CHECK_INT(api_stat(STAT_OTHER_CONTEXT), refused + 1);
  CHECK_INT(tls_visit(contexts[0], client, NULL, TLS_CLEAN, NULL), 0);
  CHECK_INT(api_stat(STAT_OTHER_CONTEXT), refused + 1);
  tls_free(contexts[0], client, session);
  tls_free(contexts[1], contexts[2], NULL);
}

/* A handshake counts as use of a session: it survives a flood of others, although calls copy each of
   these, as a plugin that replicates does. A session that is found but refused was not used. */
static void
check_use(void)
{
  SSL_CTX *server      = attached(tls_server(TLS1_2_VERSION));
  SSL_CTX *client      = client_without_tickets();
  SSL_SESSION *session = NULL;
  SSL_SESSION *refused = NULL;

  TSSslSessionCacheClear();
  set("proxy.config.ssl.session_cache.size", "100");
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &refused), 0);
  TSSslSessionID id   = id_of(refused);
  SSL_SESSION *copy   = (SSL_SESSION *)TSSslSessionGet(&id);
  SSL_CTX *demanding  = attached(tls_server_with_client_certificates(TLS1_2_VERSION));
  SSL_CTX *certified  = client_without_tickets();
  long long refusals  = api_stat(STAT_MISS ".refused");
  unsigned long flood = 0;
  tls_give_certificate(certified, 0);
  REQUIRE(copy != NULL);
  while (flood < 2000) {
    if (flood % 100 == 0) {
      CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
    }
    if (flood % 20 == 0 && flood < 60) {
      CHECK_INT(tls_visit(demanding, certified, refused, TLS_CLEAN, NULL), 0);
    }
    TSSslSessionID other = api_numbered_id(flood++);
    int len              = 0;
    CHECK_INT(TSSslSessionInsert(&other, (TSSslSession)copy), TS_SUCCESS);
    CHECK(TSSslSessionGetBuffer(&other, NULL, &len) > 0);
    CHECK_INT(TSSslSessionInsert(&other, (TSSslSession)copy), TS_SUCCESS);
  }
  CHECK_INT(api_stat(STAT_MISS ".refused"), refusals + 3);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
  CHECK(TSSslSessionGet(&id) == NULL);
  set("proxy.config.ssl.session_cache.size", "102400");

  SSL_SESSION_free(session);
  SSL_SESSION_free(refused);
  SSL_SESSION_free(copy);
  SSL_CTX_free(server);
  SSL_CTX_free(demanding);
  SSL_CTX_free(client);
  SSL_CTX_free(certified);
}

/* TLS 1.3 with tickets: the ticket is the session, nothing is stored. */
static void
check_tls13_tickets(void)
{
  SSL_CTX *server      = attached(tls_server(TLS1_3_VERSION));
  SSL_CTX *client      = tls_client(TLS1_3_VERSION);
  SSL_SESSION *session = NULL;
  long long created    = api_stat(STAT_CREATED);
  long long entries    = api_stat(STAT_ENTRIES);

  memset(&seen, 0, sizeof(seen));
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(api_stat(STAT_CREATED), created + 2);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
  CHECK_INT(api_stat(STAT_ENTRIES), entries);
  expect_events(0, 0, 0);
  SSL_SESSION_free(session);

  /* The number of tickets. */
  set("proxy.config.ssl.server.session_ticket.number", "3");
  attached(server);
  created = api_stat(STAT_CREATED);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, NULL), 0);
  CHECK_INT(api_stat(STAT_CREATED), created + 3);
  set("proxy.config.ssl.server.session_ticket.number", "2");

  tls_free(server, client, NULL);
}

/* TLS 1.3 with tickets off: the ticket is an ID, the session is in the cache. */
static void
check_tls13_stateful(void)
{
  set("proxy.config.ssl.server.session_ticket.enable", "0");
  SSL_CTX *server      = attached(tls_server(TLS1_3_VERSION));
  SSL_CTX *client      = tls_client(TLS1_3_VERSION);
  SSL_SESSION *session = NULL;
  long long created    = api_stat(STAT_CREATED);

  memset(&seen, 0, sizeof(seen));
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  expect_events(0, 2, 0);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
  CHECK_INT(seen.gets, 1);
  CHECK_INT(seen.removes, 0);
  CHECK_INT(api_stat(STAT_CREATED), created);

  CHECK_INT(tls_visit(server, client, session, TLS_HANG_UP, NULL), 1);
  CHECK_INT(tls_visit(server, client, session, TLS_FATAL, NULL), 1);
  CHECK(seen.removes > 0);
  SSL_SESSION_free(session);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  TSSslSessionCacheClear();
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 0);

  /* If the host itself turned tickets off, they stay off when the record is 1 again. */
  set("proxy.config.ssl.server.session_ticket.enable", "1");
  attached(server);
  CHECK_INT(SSL_CTX_get_options(server) & SSL_OP_NO_TICKET, 0);
  SSL_CTX *own_choice = tls_server(TLS1_3_VERSION);
  SSL_CTX_set_options(own_choice, SSL_OP_NO_TICKET);
  attached(own_choice);
  CHECK((SSL_CTX_get_options(own_choice) & SSL_OP_NO_TICKET) != 0);

  SSL_SESSION_free(session);
  SSL_CTX_free(own_choice);
  SSL_CTX_free(server);
  SSL_CTX_free(client);
}

/* A ClientHello callback, the earliest way to use SNI: the connection continues with another context. */
static SSL_CTX *switch_to;

static int
switch_context(SSL *ssl, int *alert, void *arg)
{
  (void)alert, (void)arg;
  CHECK(SSL_set_SSL_CTX(ssl, switch_to) == switch_to);
  return SSL_CLIENT_HELLO_SUCCESS;
}

static unsigned char shown_id[32];

static int
show_id(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *len, SSL_SESSION **session)
{
  static const unsigned char cipher[2] = {0x13, 0x01}, secret[32] = {1};
  (void)md;
  *session = SSL_SESSION_new();
  REQUIRE(*session != NULL && SSL_SESSION_set1_master_key(*session, secret, sizeof(secret)) == 1 &&
          SSL_SESSION_set_cipher(*session, SSL_CIPHER_find(ssl, cipher)) == 1 &&
          SSL_SESSION_set_protocol_version(*session, TLS1_3_VERSION) == 1);
  *id  = shown_id;
  *len = sizeof(shown_id);
  return 1;
}

/* With early data, OpenSSL would remove a session that it uses. A stranger offers the ID of another
   client's TLS 1.2 session as an identity in TLS 1.3: the session stays. */
static void
check_shown_ids(void)
{
  SSL_CTX *server      = tls_server(TLS1_2_VERSION);
  SSL_CTX *client      = tls_client(TLS1_2_VERSION);
  SSL_CTX *stranger    = tls_client(TLS1_3_VERSION);
  SSL_SESSION *session = NULL;
  unsigned int len;

  REQUIRE(SSL_CTX_set_max_proto_version(server, TLS1_3_VERSION) == 1);
  SSL_CTX_set_max_early_data(server, 1000);
  SSL_CTX_set_options(client, SSL_OP_NO_TICKET);
  attached(server);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  const unsigned char *id = SSL_SESSION_get_id(session, &len);
  REQUIRE(len == sizeof(shown_id));
  memcpy(shown_id, id, len);
  SSL_CTX_set_psk_use_session_callback(stranger, show_id);
  memset(&seen, 0, sizeof(seen));
  CHECK_INT(tls_visit(server, stranger, NULL, TLS_CLEAN, NULL), 0);
  CHECK_INT(seen.removes, 0);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
  SSL_CTX_free(stranger);
  tls_free(server, client, session);
}

static atomic_int stop;

/* Attaches and frees contexts, while another thread looks for one. */
static void *
come_and_go(void *arg)
{
  while (!atomic_load(&stop)) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    REQUIRE(ctx != NULL);
    CHECK_INT(TSSslSessionCacheAttach((TSSslContext)ctx), TS_SUCCESS);
    SSL_CTX_free(ctx);
  }
  return arg;
}

/* TLS 1.3 with early data: each session is used once, to prevent replays. */
static void
check_single_use(void)
{
  SSL_CTX *server      = tls_server(TLS1_3_VERSION);
  SSL_CTX *client      = tls_client(TLS1_3_VERSION);
  SSL_SESSION *session = NULL;
  SSL_SESSION *next    = NULL;

  single_use = 1;
  SSL_CTX_set_max_early_data(server, 1000);
  attached(server);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  memset(&seen, 0, sizeof(seen));
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, &next), 1);
  CHECK_INT(seen.gets, 1);
  CHECK_INT(seen.removes, 1);
  /* No event, so that no plugin copies it. */
  CHECK_INT(seen.news, 0);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 0);
  CHECK_INT(tls_visit(server, client, next, TLS_CLEAN, NULL), 1);
  CHECK_INT(tls_visit(server, client, next, TLS_CLEAN, NULL), 0);
  SSL_SESSION_free(session);
  SSL_SESSION_free(next);

  /* Of two processes, only the one that made the session resumes it. */
  int status;
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 0);
    CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &next), 0);
    CHECK_INT(tls_visit(server, client, next, TLS_CLEAN, NULL), 1);
    if (check_failures == 0) {
      /* Not _exit: valgrind would report what the parent owns. */
      execl("/bin/true", "true", (char *)NULL);
    }
    _exit(1);
  }
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK_INT(status, 0);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
  SSL_SESSION_free(session);

  /* These sessions are in the library's cache only, and are cleared with all others. */
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(SSL_CTX_sess_number(server), 0);
  TSSslSessionCacheClear();
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 0);
  SSL_SESSION_free(session);

  /* A TLS 1.2 connection asks for the session, but cannot use it. */
  SSL_CTX *older           = tls_client(TLS1_2_VERSION);
  SSL_SESSION *of_older    = NULL;
  const unsigned char *its = NULL;
  REQUIRE(SSL_CTX_set_min_proto_version(server, TLS1_2_VERSION) == 1);
  SSL_CTX_set_options(older, SSL_OP_NO_TICKET);
  CHECK_INT(tls_visit(server, older, NULL, TLS_CLEAN, &of_older), 0);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  /* In TLS 1.3 the client sees the ID as a ticket. */
  size_t ticket_len = 0;
  SSL_SESSION_get0_ticket(session, &its, &ticket_len);
  REQUIRE(ticket_len == 32 && SSL_SESSION_set1_id(of_older, its, (unsigned int)ticket_len) == 1);
  CHECK_INT(tls_visit(server, older, of_older, TLS_CLEAN, NULL), 0);
  CHECK_INT(SSL_CTX_sess_number(server), 0);
  REQUIRE(SSL_CTX_set_min_proto_version(server, TLS1_3_VERSION) == 1);
  /* Somebody who knows the ID cannot end the session. */
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
  SSL_SESSION_free(session);
  SSL_SESSION_free(of_older);
  SSL_CTX_free(older);

  /* OpenSSL asks the context with which the connection began. There are several contexts. */
  SSL_CTX *gone     = tls_server(TLS1_3_VERSION);
  SSL_CTX *detached = tls_server(TLS1_3_VERSION);
  attached(gone);
  attached(detached);
  SSL_CTX_free(gone);
  CHECK_INT(TSSslSessionCacheDetach((TSSslContext)detached), TS_SUCCESS);
  switch_to = tls_server(TLS1_3_VERSION);
  SSL_CTX_set_max_early_data(switch_to, 1000);
  attached(switch_to);
  SSL_CTX_set_client_hello_cb(server, switch_context, NULL);
  memset(&seen, 0, sizeof(seen));
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, &next), 1);
  CHECK_INT(seen.removes, 1);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 0);
  CHECK_INT(tls_visit(server, client, next, TLS_CLEAN, NULL), 1);
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, come_and_go, NULL) == 0);
  for (int i = 0; i < 100; i++) {
    SSL_SESSION_free(session);
    CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
    CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
  }
  atomic_store(&stop, 1);
  REQUIRE(pthread_join(thread, NULL) == 0);
  CHECK_INT(SSL_CTX_sess_number(server), 0);
  CHECK_INT(SSL_CTX_sess_number(switch_to), 0);
  CHECK_INT(SSL_CTX_sess_number(detached), 0);
  SSL_CTX_free(switch_to);
  SSL_CTX_free(detached);
  single_use = 0;
  SSL_SESSION_free(session);
  tls_free(server, client, next);
}

/* A context that requires a client certificate does not resume a session without
   one, although both contexts have the same session ID context. Sessions have IDs
   with SSL_OP_NO_TICKET, and are tickets without it. */
static void
check_demanded_certificates(int version, uint64_t options)
{
  SSL_CTX *open_to_all = tls_server(version);
  SSL_CTX *demanding   = tls_server_with_client_certificates(version);
  SSL_CTX *client      = tls_client(version);
  SSL_SESSION *session = NULL;

  SSL_CTX_set_options(open_to_all, options);
  SSL_CTX_set_options(demanding, options);
  attached(open_to_all);
  attached(demanding);
  CHECK_INT(tls_visit(open_to_all, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_visit(open_to_all, client, session, TLS_CLEAN, NULL), 1);
  tls_give_certificate(client, 0);
  int by_id          = (options & SSL_OP_NO_TICKET) != 0;
  long long hits     = api_stat(STAT_HIT);
  long long refused  = api_stat(STAT_MISS ".refused");
  long long verified = api_stat(STAT_VERIFIED);
  long long renewed  = api_stat(STAT_RENEWED);
  CHECK_INT(tls_visit(demanding, client, session, TLS_CLEAN, NULL), 0);
  CHECK_INT(api_stat(STAT_HIT), hits);
  CHECK_INT(api_stat(STAT_MISS ".refused"), refused + by_id);
  CHECK_INT(api_stat(STAT_VERIFIED), verified + !by_id);
  CHECK_INT(api_stat(STAT_RENEWED), renewed);
  SSL_SESSION_free(session);
  CHECK_INT(tls_visit(demanding, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_visit(demanding, client, session, TLS_CLEAN, NULL), 1);
  SSL_SESSION_free(session);

  /* Without a session ID context nothing resumes, but handshakes succeed. */
  SSL_CTX_set_session_id_context(open_to_all, NULL, 0);
  SSL_CTX_set_session_id_context(demanding, NULL, 0);
  CHECK_INT(tls_visit(open_to_all, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_visit(demanding, client, session, TLS_CLEAN, NULL), 0);

  SSL_SESSION_free(session);
  SSL_CTX_free(open_to_all);
  SSL_CTX_free(demanding);
  SSL_CTX_free(client);
}

static int verify_calls;

static int
accept_counted(int is_verified, X509_STORE_CTX *run)
{
  (void)is_verified, (void)run;
  verify_calls++;
  return 1;
}

/* One context accepts any certificate. Its sessions do not resume at contexts that verify certificates, and
   those of contexts with one authority not at contexts with another. */
static void
check_unverified_certificates(int version, uint64_t options)
{
  SSL_CTX *any         = tls_server_with_client_certificates(version);
  SSL_CTX *strict      = tls_server(version);
  SSL_CTX *optional    = tls_server(version);
  SSL_CTX *client      = tls_client(version);
  SSL_SESSION *session = NULL;

  SSL_CTX_set_verify(strict, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
  SSL_CTX_set_verify(optional, SSL_VERIFY_PEER, NULL);
  SSL_CTX *servers[] = {any, strict, optional};
  for (int i = 0; i < 3; i++) {
    SSL_CTX_set_options(servers[i], options);
    attached(servers[i]);
  }
  tls_give_certificate(client, 0);
  CHECK_INT(tls_visit(any, client, NULL, TLS_CLEAN, &session), 0);
  /* Contexts that verify it refuse it in a full handshake. */
  CHECK_INT(tls_visit(strict, client, session, TLS_CLEAN, NULL), -1);
  CHECK_INT(tls_visit(optional, client, session, TLS_CLEAN, NULL), -1);
  ERR_clear_error();

  /* With a verified certificate, the session resumes everywhere. */
  for (int i = 0; i < 3; i++) {
    REQUIRE(X509_STORE_add_cert(SSL_CTX_get_cert_store(servers[i]), SSL_CTX_get0_certificate(client)) == 1);
  }
  SSL_SESSION_free(session);
  CHECK_INT(tls_visit(strict, client, NULL, TLS_CLEAN, &session), 0);
  for (int i = 0; i < 3; i++) {
    CHECK_INT(tls_visit(servers[i], client, session, TLS_CLEAN, NULL), 1);
  }

  /* Not where other authorities are trusted, whether that is refused or accepted by a callback. */
  SSL_CTX *strangers[] = {tls_server(version), tls_server_with_client_certificates(version)};
  SSL_CTX_set_verify(strangers[0], SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
  for (int i = 0; i < 2; i++) {
    SSL_CTX_set_options(strangers[i], options);
    attached(strangers[i]);
    CHECK_INT(tls_visit(strangers[i], client, session, TLS_CLEAN, NULL), i - 1);
  }
  ERR_clear_error();
  /* What the callback accepted before, it accepts again. */
  SSL_SESSION_free(session);
  CHECK_INT(tls_visit(strangers[1], client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_visit(strangers[1], client, session, TLS_CLEAN, NULL), 1);
  /* A host notes in its callback whom it serves, so it is called in full handshakes only. */
  SSL_CTX_set_verify(strangers[0], SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_counted);
  CHECK_INT(tls_visit(strangers[0], client, NULL, TLS_CLEAN, NULL), 0);
  CHECK(verify_calls > 0);
  verify_calls = 0;
  CHECK_INT(tls_visit(strangers[0], client, session, TLS_CLEAN, NULL), 1);
  CHECK_INT(verify_calls, 0);

  /* Nor after the connection's own store has become another one. */
  SSL_SESSION_free(session);
  X509_STORE *empty = X509_STORE_new();
  CHECK_INT(tls_visit(optional, client, NULL, TLS_CLEAN, &session), 0);
  REQUIRE(empty != NULL && SSL_CTX_set0_verify_cert_store(optional, empty) == 1);
  CHECK_INT(tls_visit(optional, client, session, TLS_CLEAN, NULL), -1);
  ERR_clear_error();

  SSL_SESSION_free(session);
  for (int i = 0; i < 3; i++) {
    SSL_CTX_free(servers[i]);
  }
  for (int i = 0; i < 2; i++) {
    SSL_CTX_free(strangers[i]);
  }
  SSL_CTX_free(client);
}

static int
hosts_generate(SSL *ssl, void *count)
{
  (void)ssl;
  ++*(int *)count;
  return 1;
}

static SSL_TICKET_RETURN
hosts_decrypt(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t len, SSL_TICKET_STATUS status,
              void *count)
{
  (void)ssl, (void)session, (void)name, (void)len;
  ++*(int *)count;
  return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_IGNORE_RENEW;
}

/* Callbacks that the host set after Attach stay when it attaches again. */
static void
check_hosts_ticket_callbacks(void)
{
  SSL_CTX *server      = attached(tls_server(TLS1_2_VERSION));
  SSL_CTX *client      = tls_client(TLS1_2_VERSION);
  SSL_SESSION *session = NULL;
  int calls            = 0;

  SSL_CTX_set_session_ticket_cb(server, hosts_generate, hosts_decrypt, &calls);
  attached(server);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  /* OpenSSL asks to decrypt an empty ticket, then generates one. */
  CHECK_INT(calls, 2);
  long long verified = api_stat(STAT_VERIFIED);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
  CHECK_INT(calls, 4);
  CHECK_INT(api_stat(STAT_VERIFIED), verified);

  CHECK_INT(TSSslSessionCacheDetach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, NULL), 0);
  CHECK_INT(calls, 4);

  tls_free(server, client, session);
}

static int
hosts_new(SSL *ssl, SSL_SESSION *session)
{
  (void)ssl, (void)session;
  return 0;
}

static void
check_detach(void)
{
  SSL_CTX *server      = tls_server(TLS1_2_VERSION);
  SSL_CTX *client      = client_without_tickets();
  SSL_SESSION *session = NULL;

  CHECK_INT(TSSslSessionCacheDetach((TSSslContext)server), TS_SUCCESS);

  SSL_CTX_set_session_cache_mode(server, SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_AUTO_CLEAR);
  SSL_CTX_sess_set_new_cb(server, hosts_new);
  SSL_CTX_set_timeout(server, 1234);
  SSL_CTX_set_num_tickets(server, 5);
  SSL_CTX_sess_set_cache_size(server, 99);
  set("proxy.config.ssl.session_cache.timeout", "77");
  attached(server);
  CHECK_INT(SSL_CTX_get_timeout(server), 77);
  CHECK_INT(SSL_CTX_get_session_cache_mode(server), SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL);
  CHECK(SSL_CTX_sess_get_new_cb(server) != hosts_new);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  attached(server);
  set("proxy.config.ssl.session_cache.timeout", "0");

  CHECK_INT(TSSslSessionCacheDetach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheDetach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(SSL_CTX_get_timeout(server), 1234);
  CHECK_INT(SSL_CTX_get_num_tickets(server), 5);
  CHECK_INT(SSL_CTX_sess_get_cache_size(server), 99);
  CHECK_INT(SSL_CTX_get_session_cache_mode(server), SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_AUTO_CLEAR);
  CHECK(SSL_CTX_sess_get_new_cb(server) == hosts_new);
  CHECK(SSL_CTX_sess_get_get_cb(server) == NULL);
  CHECK(SSL_CTX_sess_get_remove_cb(server) == NULL);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 0);

  /* What the host sets on an attached context stays, also after another Attach. */
  attached(server);
  SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
  SSL_CTX_set_num_tickets(server, 1);
  SSL_CTX_set_timeout(server, 60);
  attached(server);
  CHECK((SSL_CTX_get_options(server) & SSL_OP_NO_TICKET) != 0);
  CHECK_INT(SSL_CTX_get_timeout(server), 60);
  /* But a record that was set has priority as long as the context is attached. */
  CHECK_INT(SSL_CTX_get_num_tickets(server), 2);
  CHECK(SSL_CTX_sess_get_get_cb(server) != NULL);
  CHECK_INT(TSSslSessionCacheDetach((TSSslContext)server), TS_SUCCESS);
  CHECK((SSL_CTX_get_options(server) & SSL_OP_NO_TICKET) != 0);
  CHECK_INT(SSL_CTX_get_num_tickets(server), 1);
  CHECK_INT(SSL_CTX_get_timeout(server), 60);
  CHECK(SSL_CTX_sess_get_new_cb(server) == hosts_new);

  /* Of the mode, Detach keeps only the bit that the host added. */
  attached(server);
  SSL_CTX_set_session_cache_mode(server, SSL_CTX_get_session_cache_mode(server) | SSL_SESS_CACHE_CLIENT);
  CHECK_INT(TSSslSessionCacheDetach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(SSL_CTX_get_session_cache_mode(server), SSL_SESS_CACHE_BOTH | SSL_SESS_CACHE_NO_AUTO_CLEAR);

  /* Attached again, the context finds the session that is still in the cache. */
  attached(server);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);

  tls_free(server, client, session);
}

/* proxy.config.ssl.session_cache, auto_clear and timeout, as attached contexts see them. */
static void
check_modes(void)
{
  SSL_CTX *server      = tls_server(TLS1_2_VERSION);
  SSL_CTX *client      = client_without_tickets();
  SSL_SESSION *session = NULL;

  set("proxy.config.ssl.session_cache", "0");
  attached(server);
  CHECK_INT(SSL_CTX_get_session_cache_mode(server), SSL_SESS_CACHE_OFF | SSL_SESS_CACHE_NO_INTERNAL);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 0);
  SSL_SESSION_free(session);

  set("proxy.config.ssl.session_cache", "1");
  set("proxy.config.ssl.session_cache.auto_clear", "0");
  attached(server);
  CHECK_INT(SSL_CTX_get_session_cache_mode(server), SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_AUTO_CLEAR);
  set("proxy.config.ssl.session_cache.auto_clear", "1");
  set("proxy.config.ssl.session_cache.size", "55");
  attached(server);
  CHECK_INT(SSL_CTX_get_session_cache_mode(server), SSL_SESS_CACHE_SERVER);
  CHECK_INT(SSL_CTX_sess_get_cache_size(server), 55);
  memset(&seen, 0, sizeof(seen));
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
  expect_events(0, 0, 0);

  /* If the cache is off, sessions in OpenSSL's own cache do not resume either. */
  set("proxy.config.ssl.session_cache", "0");
  attached(server);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 0);
  SSL_SESSION_free(session);

  set("proxy.config.ssl.session_cache", "2");
  attached(server);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);

  /* The cache is switched off later, with the callbacks still set. */
  set("proxy.config.ssl.session_cache", "0");
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 0);
  set("proxy.config.ssl.session_cache", "2");
  SSL_SESSION_free(session);

  set("proxy.config.ssl.session_cache.timeout", "1");
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  sleep(2);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 0);
  set("proxy.config.ssl.session_cache.timeout", "0");

  tls_free(server, client, session);
}

int
main(void)
{
  api_open();
  /* Few shards, so that one has many of the 100 sessions of check_use. */
  set("proxy.config.ssl.session_cache.num_buckets", "1");
  CHECK_INT(TSSslSessionHookAdd(note_event, (TSCont)&seen), TS_SUCCESS);
  CHECK_INT(TSSslSessionHookAdd(note_event, (TSCont)&seen), TS_SUCCESS);

  check_session_ids(tls_server(TLS1_2_VERSION), client_without_tickets());
  SSL_CTX *certified = client_without_tickets();
  tls_give_certificate(certified, 3000);
  check_session_ids(tls_server_with_client_certificates(TLS1_2_VERSION), certified);
  check_use();
  check_tls13_tickets();
  check_tls13_stateful();
  check_single_use();
  check_shown_ids();
  for (int i = 0; i < 4; i++) {
    int version      = i & 1 ? TLS1_3_VERSION : TLS1_2_VERSION;
    uint64_t options = i & 2 ? SSL_OP_NO_TICKET : 0;
    check_other_id_context(version, options);
    check_demanded_certificates(version, options);
    check_unverified_certificates(version, options);
  }
  check_hosts_ticket_callbacks();
  check_detach();
  check_modes();

  memset(&seen, 0, sizeof(seen));
  CHECK_INT(TSSslSessionHookRemove(note_event, (TSCont)&seen), TS_SUCCESS);
  CHECK_INT(TSSslSessionHookRemove(note_event, (TSCont)&seen), TS_ERROR);
  check_detach();
  expect_events(0, 0, 0);
  return check_result();
}
