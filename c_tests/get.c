/** @file

  TSSslSessionGet: the session that it returns belongs to the caller alone.

  SPDX-License-Identifier: Apache-2.0
 */

#include <pthread.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "tls.h"

static TSSslSessionID shared_id;
static unsigned char *shared_der;
static int shared_len;

static void
expect_der(SSL_SESSION *session)
{
  int len            = 0;
  unsigned char *der = tls_der(session, &len);
  CHECK_INT(len, shared_len);
  CHECK(len == shared_len && memcmp(der, shared_der, (size_t)len) == 0);
  OPENSSL_free(der);
}

/* Changes a session as a careless owner might. */
static void *
get_change_free(void *arg)
{
  (void)arg;
  for (int i = check_scaled(2000); i > 0; i--) {
    SSL_SESSION *session = (SSL_SESSION *)TSSslSessionGet(&shared_id);
    REQUIRE(session != NULL);
    expect_der(session);
    tls_set_time(session, i);
    SSL_SESSION_set_timeout(session, i);
    SSL_SESSION_set1_id(session, (const unsigned char *)"other", 5);
    SSL_SESSION_free(session);
  }
  return NULL;
}

/* Returns the server's session of a real handshake. */
static SSL_SESSION *
made_by(SSL_CTX *server, SSL_CTX *client)
{
  struct tls_connection connection;
  REQUIRE(tls_connect(server, client, NULL, &connection) == 0);
  SSL_SESSION *session = SSL_get1_session(connection.server);
  tls_end(&connection, TLS_CLEAN);
  return session;
}

static int
choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *len, const unsigned char *in, unsigned in_len,
                void *arg)
{
  (void)ssl, (void)in_len, (void)arg;
  *out = in + 1;
  *len = in[0];
  return SSL_TLSEXT_ERR_OK;
}

static int
accept_name(SSL *ssl, int *alert, void *arg)
{
  (void)ssl, (void)alert, (void)arg;
  return SSL_TLSEXT_ERR_OK;
}

/* Each bit of `kind` is something that a session can have. Three sessions of each kind are fetched twice:
   the library may make the later ones in another way than the first, but they must be equal. */
enum { TICKETS = 1, NO_MASTER_SECRET_EXTENSION = 2, NAME = 4, PROTOCOL = 8, CERTIFICATE = 16, KINDS = 32 };

static void
sessions_of_a_kind(int version, int kind)
{
  SSL_CTX *server = kind & CERTIFICATE ? tls_server_with_client_certificates(version) : tls_server(version);
  SSL_CTX *client = tls_client(version);
  if ((kind & TICKETS) == 0) {
    SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
  }
  if (kind & NO_MASTER_SECRET_EXTENSION) {
    SSL_CTX_set_options(server, SSL_OP_NO_EXTENDED_MASTER_SECRET);
  }
  if (kind & NAME) {
    SSL_CTX_set_tlsext_servername_callback(server, accept_name);
  }
  if (kind & PROTOCOL) {
    SSL_CTX_set_alpn_select_cb(server, choose_protocol, NULL);
    CHECK_INT(SSL_CTX_set_alpn_protos(client, (const unsigned char *)"\x02h2", 3), 0);
  }
  if (kind & CERTIFICATE) {
    tls_give_certificate(client, 100);
  }
  for (int i = 0; i < 3; i++) {
    TSSslSessionID id    = api_numbered_id(1000 + i);
    SSL_SESSION *session = made_by(server, client);
    SSL_SESSION_set_timeout(session, 1000 + i);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
    shared_der = tls_der(session, &shared_len);
    for (int j = 0; j < 2; j++) {
      SSL_SESSION *got = (SSL_SESSION *)TSSslSessionGet(&id);
      REQUIRE(got != NULL);
      expect_der(got);
      CHECK(SSL_SESSION_is_resumable(got) == SSL_SESSION_is_resumable(session));
      SSL_SESSION_free(got);
    }
    OPENSSL_free(shared_der);
    SSL_SESSION_free(session);
  }
  tls_free(server, client, NULL);
}

int
main(void)
{
  api_open();
  for (int kind = 0; kind < KINDS; kind++) {
    sessions_of_a_kind(TLS1_2_VERSION, kind);
    sessions_of_a_kind(TLS1_3_VERSION, kind);
  }
  SSL_SESSION *session = tls_session(500);
  shared_der           = tls_der(session, &shared_len);
  shared_id            = api_numbered_id(1);
  CHECK_INT(TSSslSessionInsert(&shared_id, (TSSslSession)session), TS_SUCCESS);

  /* Each call returns a new object with one reference. */
  SSL_SESSION *first  = (SSL_SESSION *)TSSslSessionGet(&shared_id);
  SSL_SESSION *second = (SSL_SESSION *)TSSslSessionGet(&shared_id);
  REQUIRE(first != NULL && second != NULL);
  CHECK(first != second && first != session);
  expect_der(first);
  SSL_SESSION_set_timeout(first, 12345);
  SSL_SESSION_free(first);
  expect_der(second);

  /* The object outlives its entry. */
  CHECK_INT(TSSslSessionRemove(&shared_id), TS_SUCCESS);
  CHECK(TSSslSessionGet(&shared_id) == NULL);
  expect_der(second);
  CHECK_INT(TSSslSessionInsert(&shared_id, (TSSslSession)second), TS_SUCCESS);
  SSL_SESSION_free(second);

  pthread_t threads[4];
  for (int i = 0; i < 4; i++) {
    REQUIRE(pthread_create(&threads[i], NULL, get_change_free, NULL) == 0);
  }
  for (int i = 0; i < 4; i++) {
    pthread_join(threads[i], NULL);
  }

  /* Absent, invalid, expired, cache off: NULL. */
  TSSslSessionID absent = api_numbered_id(2);
  CHECK(TSSslSessionGet(&absent) == NULL);
  CHECK(TSSslSessionGet(NULL) == NULL);
  const size_t bad[] = {0, 33, (size_t)1 << 40, SIZE_MAX};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    TSSslSessionID id = api_id(bad[i], 1);
    CHECK(TSSslSessionGet(&id) == NULL);
  }

  TSSslSessionID expiring = api_numbered_id(3);
  SSL_SESSION_set_timeout(session, 100);
  tls_set_time(session, (long)time(NULL) - 98);
  CHECK_INT(TSSslSessionInsert(&expiring, (TSSslSession)session), TS_SUCCESS);
  SSL_SESSION *living = (SSL_SESSION *)TSSslSessionGet(&expiring);
  CHECK(living != NULL);
  SSL_SESSION_free(living);
  sleep(3);
  CHECK(TSSslSessionGet(&expiring) == NULL);

  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache", "1"), TS_SUCCESS);
  CHECK(TSSslSessionGet(&shared_id) == NULL);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache", "0"), TS_SUCCESS);
  CHECK(TSSslSessionGet(&shared_id) == NULL);

  OPENSSL_free(shared_der);
  SSL_SESSION_free(session);
  return check_result();
}
