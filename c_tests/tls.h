/** @file

  Real handshakes between an OpenSSL server and an OpenSSL client, in memory.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef TLS_H
#define TLS_H

#include <stddef.h>

#include <openssl/ssl.h>

/* SSL_SESSION_set_time is deprecated from OpenSSL 3.4 on. */
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

/* A server context with a certificate of its own, for one protocol version
   (TLS1_2_VERSION, TLS1_3_VERSION). Nothing about sessions is set but the
   session ID context. */
SSL_CTX *tls_server(int version);

/* The same, and it asks for a client certificate and takes any. */
SSL_CTX *tls_server_with_client_certificates(int version);

SSL_CTX *tls_client(int version);

/* Gives a client a certificate that is about `padding` bytes larger than it need be. */
void tls_give_certificate(SSL_CTX *client, size_t padding);

/* Gives a client a certificate that ends in so many seconds. */
void tls_give_short_certificate(SSL_CTX *client, long seconds);

/* Frees what a test had; any may be NULL. */
void tls_free(SSL_CTX *server, SSL_CTX *client, SSL_SESSION *session);

/* A handshake, and a byte each way so that TLS 1.3 tickets arrive. `resume` may be
   NULL. 1: resumed, 0: a full handshake, -1: failed (and nothing to end). */
int tls_connect(SSL_CTX *server, SSL_CTX *client, SSL_SESSION *resume, struct tls_connection *connection);

void tls_end(struct tls_connection *connection, enum tls_ending ending);

/* tls_connect and tls_end in one; `*session`, if not NULL, becomes the client's session. */
int tls_visit(SSL_CTX *server, SSL_CTX *client, SSL_SESSION *resume, enum tls_ending ending, SSL_SESSION **session);

/* The server's side of a TLS 1.2 session made by a real handshake, with a client
   certificate if `padding` is not 0. The caller frees it. */
SSL_SESSION *tls_session(size_t padding);

/* The letter that a new ticket's key name consists of; 0 for another name. */
int tls_key_letter(SSL_CTX *server, SSL_CTX *client);

/* i2d_SSL_SESSION into memory of its own, with its length. */
unsigned char *tls_der(SSL_SESSION *session, int *len);

#endif /* TLS_H */
