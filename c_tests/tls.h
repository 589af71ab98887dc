/** @file

  Real handshakes between an OpenSSL server and an OpenSSL client, in memory.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef TLS_H
#define TLS_H

#include <stddef.h>

#include <openssl/ssl.h>

/* OpenSSL 3.4 deprecates SSL_SESSION_set_time. */
#if OPENSSL_VERSION_NUMBER >= 0x30400000L
#define tls_set_time SSL_SESSION_set_time_ex
#else
#define tls_set_time SSL_SESSION_set_time
#endif

/* How a connection ends. */
enum tls_ending {
  TLS_CLEAN,   /* close_notify both ways */
  TLS_HANG_UP, /* the client closes without a word, and the server reads that */
  TLS_DROP,    /* the server frees it without a word */
  TLS_FATAL    /* the client sends a broken record, the server a fatal alert */
};

struct tls_connection {
  SSL *server;
  SSL *client;
};

/* Returns a server context for one protocol version (TLS1_2_VERSION,
   TLS1_3_VERSION), with a new certificate. Of the settings for sessions, only the
   session ID context is set. */
SSL_CTX *tls_server(int version);

/* The same, but it requests a client certificate, and accepts any. */
SSL_CTX *tls_server_with_client_certificates(int version);

SSL_CTX *tls_client(int version);

/* Gives a client a certificate with about `padding` additional bytes. */
void tls_give_certificate(SSL_CTX *client, size_t padding);

/* Gives a client a certificate that expires in so many seconds. */
void tls_give_short_certificate(SSL_CTX *client, long seconds);

/* Frees all three. Each can be NULL. */
void tls_free(SSL_CTX *server, SSL_CTX *client, SSL_SESSION *session);

/* Makes a handshake, and sends a byte each way so that TLS 1.3 tickets arrive. `resume` can
   be NULL. Returns 1 if it resumed, 0 after a full handshake, and -1 if it failed (then there
   is no connection to end). */
int tls_connect(SSL_CTX *server, SSL_CTX *client, SSL_SESSION *resume, struct tls_connection *connection);

void tls_end(struct tls_connection *connection, enum tls_ending ending);

/* tls_connect and tls_end together. `*session`, unless `session` is NULL, becomes the client's session. */
int tls_visit(SSL_CTX *server, SSL_CTX *client, SSL_SESSION *resume, enum tls_ending ending, SSL_SESSION **session);

/* Returns the server's TLS 1.2 session of a real handshake, with a client certificate
   if `padding` is not 0. The caller frees it. */
SSL_SESSION *tls_session(size_t padding);

/* Returns the letter of which the key name of a new ticket consists, or 0 for another name. */
int tls_key_letter(SSL_CTX *server, SSL_CTX *client);

/* Returns the DER encoding of a session, and its length. The caller frees it with OPENSSL_free. */
unsigned char *tls_der(SSL_SESSION *session, int *len);

#endif /* TLS_H */
