/** @file

  A host that is linked only with OpenSSL and does not know the library, which is preloaded
  (preload/tests/preload.rs). The argument names the test.

  SPDX-License-Identifier: Apache-2.0
 */

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

#include "check.h"
#include "tls.h"

/* A function of the library; NULL if the library is not loaded. */
static void *
of_library(const char *name)
{
  void *library = dlopen("libtssession.so.0", RTLD_NOW | RTLD_NOLOAD);
  if (library == NULL) {
    return NULL;
  }
  void *found = dlsym(library, name);
  REQUIRE(found != NULL);
  return found;
}

/* A counter of the library; -1 if the library is not loaded. */
static long long
counter(const char *name)
{
  int64_t value = -1;
  int (*get)(const char *, int64_t *);
  void *found = of_library("TSSslSessionCacheStatGet");
  if (found == NULL) {
    return -1;
  }
  memcpy(&get, &found, sizeof(get));
  CHECK_INT(get(name, &value), 0);
  return (long long)value;
}

/* Whether a session of one context is resumed in another, which only the library makes possible. */
static int
resumes_elsewhere(int version, enum tls_ending ending)
{
  SSL_SESSION *session = NULL;
  SSL_CTX *client      = tls_client(version);
  SSL_CTX *first       = tls_server(version);
  SSL_CTX *second      = tls_server(version);
  if (version == TLS1_2_VERSION) {
    SSL_CTX_set_options(client, SSL_OP_NO_TICKET);
  }
  CHECK_INT(tls_visit(first, client, NULL, ending, &session), 0);
  /* The first context's own cache is gone. */
  SSL_CTX_free(first);
  int resumed = tls_visit(second, client, session, TLS_CLEAN, NULL);
  CHECK_INT(ERR_peek_error(), 0);
  tls_free(second, client, session);
  return resumed;
}

/* A context is the host's again once it is attached. */
static void
attached_once(void)
{
  SSL_CTX *client = tls_client(TLS1_2_VERSION);
  SSL_CTX *server = tls_server(TLS1_2_VERSION);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, NULL), 0);
  CHECK(SSL_CTX_sess_get_get_cb(server) != NULL);
  SSL_CTX_sess_set_get_cb(server, NULL);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, NULL), 0);
  CHECK(SSL_CTX_sess_get_get_cb(server) == NULL);
  tls_free(server, client, NULL);
}

static void
serve(void)
{
  attached_once();
  CHECK_INT(resumes_elsewhere(TLS1_2_VERSION, TLS_CLEAN), 1);
  CHECK_INT(resumes_elsewhere(TLS1_3_VERSION, TLS_CLEAN), 1);
  /* Freed without a shutdown, as Apache does. A fatal alert still ends a session. */
  CHECK_INT(resumes_elsewhere(TLS1_2_VERSION, TLS_DROP), 1);
  CHECK_INT(resumes_elsewhere(TLS1_2_VERSION, TLS_HANG_UP), 1);
  CHECK_INT(resumes_elsewhere(TLS1_2_VERSION, TLS_FATAL), 0);
}

/* A connection with two owners is not shut down when the first one frees it, whenever the second one came. */
static void
two_owners(void)
{
  SSL_CTX *client = tls_client(TLS1_2_VERSION);
  SSL_CTX *server = tls_server(TLS1_2_VERSION);
  for (int when = 0; when < 3; when++) {
    struct tls_connection connection;
    REQUIRE(tls_connect(server, client, NULL, &connection) == 0);
    if (when == 2) {
      CHECK(SSL_dup(connection.server) == connection.server);
    } else {
      CHECK_INT(SSL_up_ref(connection.server), 1);
    }
    if (when == 1) {
      CHECK_INT(SSL_accept(connection.server), 1);
    }
    SSL_free(connection.server);
    CHECK_INT(SSL_get_shutdown(connection.server), 0);
    tls_end(&connection, TLS_CLEAN);
  }

  /* Before it is known that it will be a server's. */
  SSL_CTX *both = SSL_CTX_new(TLS_method());
  SSL *early    = SSL_new(both);
  REQUIRE(early != NULL && SSL_up_ref(early) == 1);
  SSL_set_accept_state(early);
  SSL_free(early);
  CHECK_INT(SSL_get_shutdown(early), 0);
  SSL_free(early);
  SSL_CTX_free(both);
  tls_free(server, client, NULL);
}

/* Contexts are made and freed, often at the same address. */
static void
come_and_go(void)
{
  CHECK_INT(resumes_elsewhere(TLS1_2_VERSION, TLS_CLEAN), 1);
  for (int i = 0; i < check_scaled(300); i++) {
    CHECK_INT(resumes_elsewhere(TLS1_2_VERSION, TLS_CLEAN), 1);
  }
  CHECK_INT(counter("tssession.contexts"), 0);
}

/* The host itself adds a session to a context. When that one ends, others keep the session. */
static void
added_session(void)
{
  struct tls_connection connection;
  SSL_CTX *client = tls_client(TLS1_2_VERSION);
  SSL_CTX *first  = tls_server(TLS1_2_VERSION);
  SSL_CTX *second = tls_server(TLS1_2_VERSION);
  SSL_CTX_set_options(client, SSL_OP_NO_TICKET);
  REQUIRE(tls_connect(first, client, NULL, &connection) == 0);
  SSL_SESSION *session = SSL_get1_session(connection.client);
  CHECK_INT(SSL_CTX_add_session(first, SSL_get_session(connection.server)), 1);
  tls_end(&connection, TLS_CLEAN);
  SSL_CTX_free(first);
  CHECK_INT(tls_visit(second, client, session, TLS_CLEAN, NULL), 1);
  tls_free(second, client, session);
}

/* A context that could serve but only connects is not changed, even beside one that serves. */
static void
connect_only(void)
{
  SSL_CTX *server = tls_server(TLS1_2_VERSION);
  for (int i = 0; i < 2; i++) {
    SSL_CTX *client = i == 0 ? tls_client(TLS1_2_VERSION) : SSL_CTX_new(TLS_method());
    SSL_CTX_set_max_proto_version(client, TLS1_2_VERSION);
    SSL_CTX_set_session_cache_mode(client, SSL_SESS_CACHE_CLIENT);
    CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, NULL), 0);
    CHECK(SSL_CTX_sess_get_get_cb(client) == NULL);
    CHECK(SSL_CTX_sess_get_new_cb(client) == NULL);
    CHECK_INT(SSL_CTX_get_session_cache_mode(client), SSL_SESS_CACHE_CLIENT);
    SSL_CTX_free(client);
  }
  CHECK(SSL_CTX_sess_get_get_cb(server) != NULL);
  CHECK_INT(counter("tssession.contexts"), 1);
  SSL_CTX_free(server);
}

/* The environment sets either no tickets (TLS 1.2) or five tickets (TLS 1.3). The connection was made
   before the library could know that its context serves. */
static void
copied(const char *what)
{
  SSL_CTX *ctx    = SSL_CTX_new(TLS_method());
  SSL *before     = SSL_new(ctx);
  SSL *own_number = SSL_new(ctx);
  REQUIRE(before != NULL && own_number != NULL);
  SSL_set_num_tickets(own_number, 1);
  SSL_set_accept_state(before);
  SSL_set_accept_state(own_number);
  if (strcmp(what, "number") == 0) {
    CHECK_INT(SSL_get_num_tickets(before), 5);
    CHECK_INT(SSL_get_num_tickets(own_number), 1);
  } else {
    CHECK((SSL_get_options(before) & SSL_OP_NO_TICKET) != 0);
  }
  SSL_free(before);
  SSL_free(own_number);
  SSL_CTX_free(ctx);
}

/* The host's own keys. It counts their uses, and the name of each is one letter repeated. */
static int keys_used;
static int tickets_made;

static int
own_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
  unsigned char key[16] = {1};
  OSSL_PARAM parameters[2];
  (void)ssl;
  keys_used++;
  if (encrypt) {
    memset(name, 'K', 16);
    memset(iv, 2, 16);
  }
  parameters[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, "SHA256", 0);
  parameters[1] = OSSL_PARAM_construct_end();
  return EVP_CipherInit_ex(cipher, EVP_aes_128_cbc(), NULL, key, iv, encrypt) == 1 &&
         EVP_MAC_init(mac, key, sizeof(key), parameters) == 1;
}

static int
make_ticket(SSL *ssl, void *argument)
{
  (void)ssl;
  *(int *)argument += 1;
  return 1;
}

static int tickets_read;
static int last_status;

static void
rotate_keys(void)
{
  int (*rotate)(void);
  void *found = of_library("TSSslTicketKeyRotate");
  REQUIRE(found != NULL);
  memcpy(&rotate, &found, sizeof(rotate));
  CHECK_INT(rotate(), 0);
}

static SSL_TICKET_RETURN
read_ticket(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t len, SSL_TICKET_STATUS status,
            void *argument)
{
  (void)ssl, (void)session, (void)name, (void)len, (void)argument;
  tickets_read++;
  last_status = status;
  return status == SSL_TICKET_SUCCESS         ? SSL_TICKET_RETURN_USE
         : status == SSL_TICKET_SUCCESS_RENEW ? SSL_TICKET_RETURN_USE_RENEW
                                              : SSL_TICKET_RETURN_IGNORE_RENEW;
}

/* A host's callbacks for tickets do not take the place of the library's rules. */
static void
own_callbacks(int version, int is_late)
{
  SSL_SESSION *session = NULL;
  SSL_CTX *client      = tls_client(version);
  SSL_CTX *servers[]   = {tls_server(version), tls_server_with_client_certificates(version)};
  for (int i = 0; i < 2; i++) {
    if (is_late) {
      SSL *first = SSL_new(servers[i]);
      SSL_set_accept_state(first);
      SSL_free(first);
    }
    REQUIRE(SSL_CTX_set_session_ticket_cb(servers[i], make_ticket, read_ticket, &tickets_made) == 1);
  }
  tickets_made = tickets_read = 0;
  CHECK_INT(tls_visit(servers[0], client, NULL, TLS_CLEAN, &session), 0);
  CHECK(tickets_made > 0);
  tickets_read = 0;
  CHECK_INT(tls_visit(servers[0], client, session, TLS_CLEAN, NULL), 1);
  CHECK_INT(tickets_read, 1);
  /* A host that makes its own tickets may never have had two keys. */
  rotate_keys();
  CHECK_INT(tls_visit(servers[0], client, session, TLS_CLEAN, NULL), 1);
  CHECK_INT(last_status, version == TLS1_3_VERSION ? SSL_TICKET_SUCCESS : SSL_TICKET_SUCCESS_RENEW);
  /* It demands a certificate, which the session does not have. */
  CHECK_INT(tls_visit(servers[1], client, session, TLS_CLEAN, NULL), -1);
  CHECK_INT(tickets_read, 3);
  ERR_clear_error();
  SSL_CTX_free(servers[1]);
  tls_free(servers[0], client, session);
}

static void
own_keys(int is_kept)
{
  unsigned char raw[80] = {1};
  SSL_CTX *client       = tls_client(TLS1_3_VERSION);
  SSL_CTX *server       = tls_server(TLS1_3_VERSION);
  REQUIRE(SSL_CTX_set_tlsext_ticket_key_evp_cb(server, own_key) == 1);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, NULL), 0);
  CHECK_INT(keys_used > 0, is_kept);
  SSL_CTX_free(server);

  /* Raw keys: the ticket contains their name. */
  server = tls_server(TLS1_2_VERSION);
  SSL_CTX_free(client);
  client = tls_client(TLS1_2_VERSION);
  memset(raw, 'R', 16);
  REQUIRE(SSL_CTX_set_tlsext_ticket_keys(server, raw, sizeof(raw)) == 1);
  CHECK_INT(tls_key_letter(server, client), is_kept ? 'R' : 0);
  SSL_CTX_free(server);

  /* The same, after the first connection. */
  server = tls_server(TLS1_2_VERSION);
  CHECK_INT(tls_key_letter(server, client), 0);
  REQUIRE(SSL_CTX_set_tlsext_ticket_keys(server, raw, sizeof(raw)) == 1);
  CHECK_INT(tls_key_letter(server, client), is_kept ? 'R' : 0);
  SSL_CTX_free(server);

  /* The library's keys beside the host's callbacks for tickets. */
  server = tls_server(TLS1_2_VERSION);
  REQUIRE(SSL_CTX_set_session_ticket_cb(server, make_ticket, NULL, &tickets_made) == 1);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, NULL), 0);
  CHECK_INT(tickets_made, 1);
  CHECK(counter("proxy.process.ssl.total_tickets_created") > 0);
  tls_free(server, client, NULL);

  for (int is_late = 0; is_late < 2; is_late++) {
    own_callbacks(TLS1_2_VERSION, is_late);
    own_callbacks(TLS1_3_VERSION, is_late);
  }
}

static SSL_CTX *other;

static int
switch_to_other(SSL *ssl, int *alert, void *argument)
{
  (void)alert;
  (void)argument;
  CHECK(SSL_set_SSL_CTX(ssl, other) == other);
  return SSL_CLIENT_HELLO_SUCCESS;
}

/* OpenSSL gives a session ID only if the last context of the connection caches too. */
static void
switched(void)
{
  SSL_SESSION *session = NULL;
  SSL_CTX *client      = tls_client(TLS1_2_VERSION);
  SSL_CTX *server      = tls_server(TLS1_2_VERSION);
  other                = tls_server(TLS1_2_VERSION);
  SSL_CTX_set_options(client, SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(other, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_client_hello_cb(server, switch_to_other, NULL);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
  CHECK_INT(counter("tssession.contexts"), 2);
  SSL_CTX_free(other);
  tls_free(server, client, session);
}

#define THREADS 8

static SSL_CTX *shared[4];
static pthread_barrier_t start;

static void *
be_thread(void *argument)
{
  SSL_CTX *client = tls_client(TLS1_2_VERSION);
  (void)argument;
  SSL_CTX_set_options(client, SSL_OP_NO_TICKET);
  pthread_barrier_wait(&start);
  for (int i = 0; i < 4; i++) {
    SSL_SESSION *session = NULL;
    CHECK_INT(tls_visit(shared[i], client, NULL, TLS_CLEAN, &session), 0);
    CHECK_INT(tls_visit(shared[(i + 1) % 4], client, session, TLS_CLEAN, NULL), 1);
    SSL_SESSION_free(session);
  }
  SSL_CTX_free(client);
  return NULL;
}

/* All threads make the first connection of each context at the same time. */
static void
threads(void)
{
  pthread_t all[THREADS];
  for (int round = 0; round < check_scaled(20); round++) {
    for (int i = 0; i < 4; i++) {
      shared[i] = tls_server(TLS1_2_VERSION);
    }
    REQUIRE(pthread_barrier_init(&start, NULL, THREADS) == 0);
    for (int i = 0; i < THREADS; i++) {
      REQUIRE(pthread_create(&all[i], NULL, be_thread, NULL) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
      REQUIRE(pthread_join(all[i], NULL) == 0);
    }
    pthread_barrier_destroy(&start);
    for (int i = 0; i < 4; i++) {
      SSL_CTX_free(shared[i]);
    }
  }
  CHECK_INT(counter("tssession.contexts"), 0);
}

/* Workers are forked before the first connection. They have the same ticket key. */
static void
workers(void)
{
  SSL_CTX *server      = tls_server(TLS1_3_VERSION);
  SSL_CTX *client      = tls_client(TLS1_3_VERSION);
  SSL_SESSION *session = NULL;
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  for (int worker = 0; worker < 2; worker++) {
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      unsigned char der[4096];
      if (worker == 0) {
        CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
        unsigned char *end = der;
        int len            = i2d_SSL_SESSION(session, &end);
        REQUIRE(len > 0 && write(ends[1], der, (size_t)len) == len);
      } else {
        const unsigned char *begin = der;
        ssize_t len                = read(ends[0], der, sizeof(der));
        REQUIRE(len > 0 && (session = d2i_SSL_SESSION(NULL, &begin, len)) != NULL);
        CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
      }
      tls_free(server, client, session);
      _exit(check_result());
    }
    check_child(child);
  }
  close(ends[0]);
  close(ends[1]);
  tls_free(server, client, NULL);
}

/* Calls that may take the preloaded library's lock. */
static void
prepare_server(SSL_CTX *ctx, SSL *ssl)
{
  SSL_set_accept_state(ssl);
  CHECK_INT(SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, NULL), 1);
}

static void *
become_server(void *is_done)
{
  SSL_CTX *ctx = SSL_CTX_new(TLS_method());
  SSL *ssl     = SSL_new(ctx);
  REQUIRE(ssl != NULL);
  while (!atomic_load((atomic_int *)is_done)) {
    prepare_server(ctx, ssl);
  }
  SSL_free(ssl);
  SSL_CTX_free(ctx);
  return NULL;
}

/* A forked child does not wait for what threads of its parent did. */
static void
forked_beside_threads(void)
{
  atomic_int is_done = 0;
  pthread_t all[2];
  SSL_CTX *ctx = SSL_CTX_new(TLS_method());
  SSL *ssl     = SSL_new(ctx);
  REQUIRE(ssl != NULL);
  for (int i = 0; i < 2; i++) {
    REQUIRE(pthread_create(&all[i], NULL, become_server, &is_done) == 0);
  }
  for (int i = 0; i < 20; i++) {
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      alarm(60);
      for (int calls = 0; calls < 50; calls++) {
        prepare_server(ctx, ssl);
      }
      _exit(check_result());
    }
    check_child(child);
  }
  atomic_store(&is_done, 1);
  for (int i = 0; i < 2; i++) {
    REQUIRE(pthread_join(all[i], NULL) == 0);
  }
  SSL_free(ssl);
  SSL_CTX_free(ctx);
}

/* Nothing is attached, and nothing is changed. */
static void
left_alone(void)
{
  CHECK_INT(resumes_elsewhere(TLS1_2_VERSION, TLS_CLEAN), 0);
  CHECK_INT(counter("tssession.contexts"), -1);
}

int
main(int argc, char *argv[])
{
  const char *what = argc > 1 ? argv[1] : "";
  if (strcmp(what, "serve") == 0) {
    serve();
    two_owners();
  } else if (strcmp(what, "come-and-go") == 0) {
    come_and_go();
  } else if (strcmp(what, "added-session") == 0) {
    added_session();
  } else if (strcmp(what, "connect-only") == 0) {
    connect_only();
  } else if (strcmp(what, "number") == 0 || strcmp(what, "no-ticket") == 0) {
    copied(what);
  } else if (strcmp(what, "own-keys") == 0) {
    own_keys(1);
  } else if (strcmp(what, "library-keys") == 0) {
    own_keys(0);
  } else if (strcmp(what, "switched") == 0) {
    switched();
  } else if (strcmp(what, "threads") == 0) {
    threads();
  } else if (strcmp(what, "workers") == 0) {
    workers();
  } else if (strcmp(what, "left-alone") == 0) {
    left_alone();
  } else if (strcmp(what, "forked-beside-threads") == 0) {
    forked_beside_threads();
  } else {
    return 2;
  }
  return check_result();
}
