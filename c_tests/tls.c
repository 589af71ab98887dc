/** @file

  Real handshakes between an OpenSSL server and an OpenSSL client, in memory.

  SPDX-License-Identifier: Apache-2.0
 */

#include "tls.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "check.h"

static EVP_PKEY *
new_key(void)
{
  EVP_PKEY *key = EVP_EC_gen("P-256");
  REQUIRE(key != NULL);
  return key;
}

static X509 *
new_certificate(EVP_PKEY *key, size_t padding, long seconds)
{
  X509 *certificate = X509_new();
  REQUIRE(certificate != NULL);
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), seconds);
  X509_NAME *name = X509_NAME_new();
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0);
  X509_set_subject_name(certificate, name);
  X509_set_issuer_name(certificate, name);
  X509_NAME_free(name);
  X509_set_pubkey(certificate, key);
  if (padding > 0) {
    ASN1_OCTET_STRING *text = ASN1_OCTET_STRING_new();
    unsigned char *bytes    = calloc(1, padding);
    REQUIRE(text != NULL && bytes != NULL && ASN1_OCTET_STRING_set(text, bytes, (int)padding) == 1);
    X509_EXTENSION *extension = X509_EXTENSION_create_by_NID(NULL, NID_netscape_comment, 0, text);
    REQUIRE(extension != NULL && X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(text);
    free(bytes);
  }
  REQUIRE(X509_sign(certificate, key, EVP_sha256()) > 0);
  return certificate;
}

static void
give_certificate(SSL_CTX *ctx, size_t padding, long seconds)
{
  EVP_PKEY *key     = new_key();
  X509 *certificate = new_certificate(key, padding, seconds);
  REQUIRE(SSL_CTX_use_certificate(ctx, certificate) == 1);
  REQUIRE(SSL_CTX_use_PrivateKey(ctx, key) == 1);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

static SSL_CTX *
new_context(const SSL_METHOD *method, int version)
{
  SSL_CTX *ctx = SSL_CTX_new(method);
  REQUIRE(ctx != NULL);
  REQUIRE(SSL_CTX_set_min_proto_version(ctx, version) == 1);
  REQUIRE(SSL_CTX_set_max_proto_version(ctx, version) == 1);
  return ctx;
}

SSL_CTX *
tls_server(int version)
{
  static const unsigned char context[] = "c_tests";
  SSL_CTX *ctx                         = new_context(TLS_server_method(), version);
  REQUIRE(SSL_CTX_set_session_id_context(ctx, context, sizeof(context)) == 1);
  give_certificate(ctx, 0, 3600);
  return ctx;
}

static int
accept_any(int ok, X509_STORE_CTX *store)
{
  (void)ok, (void)store;
  return 1;
}

SSL_CTX *
tls_server_with_client_certificates(int version)
{
  SSL_CTX *ctx = tls_server(version);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_any);
  return ctx;
}

SSL_CTX *
tls_client(int version)
{
  return new_context(TLS_client_method(), version);
}

void
tls_give_certificate(SSL_CTX *client, size_t padding)
{
  give_certificate(client, padding, 3600);
}

void
tls_give_short_certificate(SSL_CTX *client, long seconds)
{
  give_certificate(client, 0, seconds);
}

void
tls_free(SSL_CTX *server, SSL_CTX *client, SSL_SESSION *session)
{
  SSL_CTX_free(server);
  SSL_CTX_free(client);
  SSL_SESSION_free(session);
}

/* Runs both sides until neither makes progress. Returns 1 if both are done. */
static int
shake_hands(struct tls_connection *connection)
{
  for (int i = 0; i < 100; i++) {
    int client = SSL_do_handshake(connection->client);
    int server = SSL_do_handshake(connection->server);
    if (client == 1 && server == 1) {
      return 1;
    }
    if (client != 1 && SSL_get_error(connection->client, client) != SSL_ERROR_WANT_READ) {
      return 0;
    }
    if (server != 1 && SSL_get_error(connection->server, server) != SSL_ERROR_WANT_READ) {
      return 0;
    }
  }
  return 0;
}

static int
exchange_bytes(struct tls_connection *connection)
{
  char byte = 'x';
  return SSL_write(connection->server, &byte, 1) == 1 && SSL_read(connection->client, &byte, 1) == 1 &&
         SSL_write(connection->client, &byte, 1) == 1 && SSL_read(connection->server, &byte, 1) == 1;
}

int
tls_connect(SSL_CTX *server, SSL_CTX *client, SSL_SESSION *resume, struct tls_connection *connection)
{
  BIO *server_side = NULL;
  BIO *client_side = NULL;

  connection->server = SSL_new(server);
  connection->client = SSL_new(client);
  REQUIRE(connection->server != NULL && connection->client != NULL);
  REQUIRE(BIO_new_bio_pair(&server_side, 1 << 18, &client_side, 1 << 18) == 1);
  SSL_set_bio(connection->server, server_side, server_side);
  SSL_set_bio(connection->client, client_side, client_side);
  SSL_set_accept_state(connection->server);
  SSL_set_connect_state(connection->client);
  REQUIRE(SSL_set_tlsext_host_name(connection->client, "localhost") == 1);
  if (resume != NULL) {
    REQUIRE(SSL_set_session(connection->client, resume) == 1);
  }
  if (!shake_hands(connection) || !exchange_bytes(connection)) {
    ERR_print_errors_fp(stderr);
    SSL_free(connection->server);
    SSL_free(connection->client);
    return -1;
  }
  return SSL_session_reused(connection->client);
}

void
tls_end(struct tls_connection *connection, enum tls_ending ending)
{
  char byte;

  switch (ending) {
  case TLS_CLEAN:
    SSL_shutdown(connection->server);
    SSL_shutdown(connection->client);
    SSL_shutdown(connection->server);
    break;
  case TLS_HANG_UP:
    BIO_shutdown_wr(SSL_get_wbio(connection->client));
    CHECK(SSL_read(connection->server, &byte, 1) <= 0);
    CHECK_INT(ERR_GET_REASON(ERR_peek_last_error()), SSL_R_UNEXPECTED_EOF_WHILE_READING);
    ERR_clear_error();
    SSL_shutdown(connection->server);
    ERR_clear_error();
    break;
  case TLS_DROP:
    break;
  case TLS_FATAL: {
    /* A record of 32 bytes that are not encrypted. */
    static const unsigned char broken[5 + 32] = {SSL3_RT_APPLICATION_DATA, 3, 3, 0, 32};
    REQUIRE(BIO_write(SSL_get_wbio(connection->client), broken, sizeof(broken)) == (int)sizeof(broken));
    CHECK(SSL_read(connection->server, &byte, 1) < 0);
    CHECK(ERR_peek_error() != 0);
    ERR_clear_error();
    SSL_set_quiet_shutdown(connection->server, 1);
    SSL_shutdown(connection->server);
    break;
  }
  }
  SSL_free(connection->server);
  SSL_set_quiet_shutdown(connection->client, 1);
  SSL_shutdown(connection->client);
  SSL_free(connection->client);
}

int
tls_visit(SSL_CTX *server, SSL_CTX *client, SSL_SESSION *resume, enum tls_ending ending, SSL_SESSION **session)
{
  struct tls_connection connection;
  int reused = tls_connect(server, client, resume, &connection);
  if (reused < 0) {
    return reused;
  }
  if (session != NULL) {
    *session = SSL_get1_session(connection.client);
  }
  tls_end(&connection, ending);
  return reused;
}

SSL_SESSION *
tls_session(size_t padding)
{
  struct tls_connection connection;
  SSL_CTX *server = padding > 0 ? tls_server_with_client_certificates(TLS1_2_VERSION) : tls_server(TLS1_2_VERSION);
  SSL_CTX *client = tls_client(TLS1_2_VERSION);

  SSL_CTX_set_options(client, SSL_OP_NO_TICKET);
  SSL_CTX_set_max_cert_list(server, 1 << 17);
  if (padding > 0) {
    give_certificate(client, padding, 3600);
  }
  REQUIRE(tls_connect(server, client, NULL, &connection) == 0);
  SSL_SESSION *session = SSL_get1_session(connection.server);
  tls_end(&connection, TLS_CLEAN);
  SSL_CTX_free(server);
  SSL_CTX_free(client);
  return session;
}

int
tls_key_letter(SSL_CTX *server, SSL_CTX *client)
{
  SSL_SESSION *session        = NULL;
  const unsigned char *ticket = NULL;
  size_t len                  = 0;
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  SSL_SESSION_get0_ticket(session, &ticket, &len);
  /* All 16 bytes: a random name begins and ends with the same byte once in 256 times. */
  int letter = len > 16 && memcmp(ticket, ticket + 1, 15) == 0 ? ticket[0] : 0;
  SSL_SESSION_free(session);
  return letter;
}

unsigned char *
tls_der(SSL_SESSION *session, int *len)
{
  unsigned char *der = NULL;
  *len               = i2d_SSL_SESSION(session, &der);
  REQUIRE(*len > 0 && der != NULL);
  return der;
}
