/** @file

  Features of newer versions of OpenSSL: raw public keys instead of certificates (3.2), QUIC (3.5).

  SPDX-License-Identifier: Apache-2.0
 */

#include <arpa/inet.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "tls.h"

#if OPENSSL_VERSION_NUMBER >= 0x30200000L

static SSL_CTX *
with_raw_public_keys(SSL_CTX *ctx)
{
  static const unsigned char types[] = {TLSEXT_cert_type_rpk};
  REQUIRE(SSL_CTX_set1_client_cert_type(ctx, types, sizeof(types)) == 1);
  return ctx;
}

/* At a server that requires client certificates, a client with a raw public key instead resumes, but not one
   that has not shown its key. */
static void
check_raw_public_keys(int version, uint64_t options)
{
  SSL_CTX *demanding   = with_raw_public_keys(tls_server_with_client_certificates(version));
  SSL_CTX *open_to_all = tls_server(version);
  SSL_CTX *client      = with_raw_public_keys(tls_client(version));
  SSL_SESSION *session = NULL;
  struct tls_connection connection;

  SSL_CTX_set_options(demanding, options);
  SSL_CTX_set_options(open_to_all, options);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)demanding), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)open_to_all), TS_SUCCESS);
  CHECK_INT(tls_visit(open_to_all, client, NULL, TLS_CLEAN, &session), 0);
  tls_give_certificate(client, 0);
  CHECK_INT(tls_visit(demanding, client, session, TLS_CLEAN, NULL), 0);
  SSL_SESSION_free(session);

  CHECK_INT(tls_visit(demanding, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_connect(demanding, client, session, &connection), 1);
  CHECK(SSL_get0_peer_rpk(connection.server) != NULL);
  CHECK(SSL_get0_peer_certificate(connection.server) == NULL);
  tls_end(&connection, TLS_CLEAN);
  SSL_CTX_free(open_to_all);
  tls_free(demanding, client, session);
}

#endif

#if OPENSSL_VERSION_NUMBER >= 0x30500000L

/* A QUIC server on loopback. */
struct quic {
  SSL_CTX *ctx;
  SSL *listener;
  struct sockaddr_in address;
  int resumed; /* the last connection */
};

static int
choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *len, const unsigned char *in, unsigned int in_len,
                void *arg)
{
  (void)ssl, (void)in_len, (void)arg;
  *out = in + 1;
  *len = in[0];
  return SSL_TLSEXT_ERR_OK;
}

static int
udp_socket(struct sockaddr_in *address)
{
  socklen_t len = sizeof(*address);
  int fd        = socket(AF_INET, SOCK_DGRAM, 0);
  *address      = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)address, len) == 0);
  REQUIRE(getsockname(fd, (struct sockaddr *)address, &len) == 0);
  return fd;
}

/* Serves one connection: a byte each way, until the client ends it. */
static void *
serve(void *arg)
{
  struct quic *quic = arg;
  char byte;
  SSL *ssl = SSL_accept_connection(quic->listener, 0);
  REQUIRE(ssl != NULL);
  REQUIRE(SSL_read(ssl, &byte, 1) == 1 && SSL_write(ssl, &byte, 1) == 1);
  quic->resumed = SSL_session_reused(ssl);
  while (SSL_read(ssl, &byte, 1) > 0) {
  }
  SSL_free(ssl);
  return NULL;
}

static SSL_SESSION *last_session;
static int sessions_given;

/* Keeps the first session of each connection. */
static int
take_session(SSL *ssl, SSL_SESSION *session)
{
  (void)ssl;
  if (sessions_given++ > 0) {
    return 0;
  }
  SSL_SESSION_free(last_session);
  last_session = session;
  return 1;
}

/* Returns 1 if the client resumed. Its new session becomes `last_session`. */
static int
visit_by_quic(struct quic *quic, SSL_CTX *client)
{
  struct sockaddr_in own;
  pthread_t thread;
  char byte        = 'x';
  int fd           = udp_socket(&own);
  SSL *ssl         = SSL_new(client);
  BIO_ADDR *server = BIO_ADDR_new();

  REQUIRE(pthread_create(&thread, NULL, serve, quic) == 0);
  REQUIRE(ssl != NULL && server != NULL && SSL_set_fd(ssl, fd) == 1);
  REQUIRE(BIO_ADDR_rawmake(server, AF_INET, &quic->address.sin_addr, sizeof(quic->address.sin_addr),
                           quic->address.sin_port) == 1);
  REQUIRE(SSL_set1_initial_peer_addr(ssl, server) == 1);
  REQUIRE(SSL_set_alpn_protos(ssl, (const unsigned char *)"\4test", 5) == 0);
  if (last_session != NULL) {
    REQUIRE(SSL_set_session(ssl, last_session) == 1);
  }
  sessions_given = 0;
  REQUIRE(SSL_connect(ssl) == 1);
  REQUIRE(SSL_write(ssl, &byte, 1) == 1 && SSL_read(ssl, &byte, 1) == 1);
  CHECK(sessions_given > 0);
  int resumed = SSL_session_reused(ssl);
  SSL_shutdown(ssl);
  REQUIRE(pthread_join(thread, NULL) == 0);
  CHECK_INT(quic->resumed, resumed);
  SSL_free(ssl);
  BIO_ADDR_free(server);
  close(fd);
  return resumed;
}

/* With tickets nothing is stored; with IDs each session is. */
static void
check_quic(uint64_t options)
{
  static const unsigned char context[] = "c_tests";
  int by_id                            = (options & SSL_OP_NO_TICKET) != 0;
  SSL_CTX *client                      = SSL_CTX_new(OSSL_QUIC_client_method());
  SSL_CTX *certified                   = tls_server(TLS1_3_VERSION);
  struct quic quic                     = {.ctx = SSL_CTX_new(OSSL_QUIC_server_method())};

  REQUIRE(client != NULL && quic.ctx != NULL);
  SSL_CTX_set_session_cache_mode(client, SSL_SESS_CACHE_CLIENT);
  SSL_CTX_sess_set_new_cb(client, take_session);
  REQUIRE(SSL_CTX_use_certificate(quic.ctx, SSL_CTX_get0_certificate(certified)) == 1);
  REQUIRE(SSL_CTX_use_PrivateKey(quic.ctx, SSL_CTX_get0_privatekey(certified)) == 1);
  REQUIRE(SSL_CTX_set_session_id_context(quic.ctx, context, sizeof(context)) == 1);
  SSL_CTX_set_alpn_select_cb(quic.ctx, choose_protocol, NULL);
  SSL_CTX_set_options(quic.ctx, options);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)quic.ctx), TS_SUCCESS);
  quic.listener = SSL_new_listener(quic.ctx, 0);
  REQUIRE(quic.listener != NULL && SSL_set_fd(quic.listener, udp_socket(&quic.address)) == 1);
  REQUIRE(SSL_listen(quic.listener) == 1);

  TSSslSessionCacheClear();
  CHECK_INT(visit_by_quic(&quic, client), 0);
  long long entries = api_stat(STAT_ENTRIES);
  CHECK(by_id ? entries > 0 : entries == 0);
  CHECK_INT(visit_by_quic(&quic, client), 1);
  /* At the end of a QUIC connection OpenSSL removes its last session, as if it had failed. A
     resumed connection has no other. */
  CHECK_INT(visit_by_quic(&quic, client), !by_id);
  SSL_SESSION_free(last_session);
  last_session = NULL;
  close(SSL_get_fd(quic.listener));
  SSL_free(quic.listener);
  SSL_CTX_free(certified);
  tls_free(quic.ctx, client, NULL);
}

#endif

int
main(void)
{
  api_open();
  /* Ends the test if there is a deadlock. */
  alarm(120);
#if OPENSSL_VERSION_NUMBER >= 0x30200000L
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    check_raw_public_keys(version, 0);
    check_raw_public_keys(version, SSL_OP_NO_TICKET);
  }
#endif
#if OPENSSL_VERSION_NUMBER >= 0x30500000L
  check_quic(0);
  check_quic(SSL_OP_NO_TICKET);
#endif
  return check_result();
}
