/** @file

  What servers that share sessions and ticket keys say to each other in the examples
  plugin_ats8.c, plugin_ats9.c and plugin_ats10.cc: a message, with `len` bytes behind
  it. Each is answered by one message. It carries secrets: outside an example it goes
  through an encrypted connection.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef MESSAGE_H
#define MESSAGE_H

#include <openssl/ssl.h>

#include <ts/ts.h>

/* Deprecated from OpenSSL 3.4 on. */
#if OPENSSL_VERSION_NUMBER >= 0x30400000L
#define SESSION_TIME SSL_SESSION_get_time_ex
#define SET_SESSION_TIME SSL_SESSION_set_time_ex
#else
#define SESSION_TIME SSL_SESSION_get_time
#define SET_SESSION_TIME SSL_SESSION_set_time
#endif

enum message_kind {
  /* Questions. */
  MESSAGE_KEY,     /* a key that new tickets are to be encrypted with */
  MESSAGE_SESSION, /* a session, as DER bytes; also an answer */
  MESSAGE_WANTED,  /* which session is asked for */
  MESSAGE_REVOKED, /* which session is not to be resumed any more */

  /* Answers. */
  MESSAGE_DONE,
  MESSAGE_REFUSED,
  MESSAGE_ABSENT
};

#define MESSAGE_MAX_LEN 65536

struct message {
  enum message_kind kind;
  int len;
  TSSslSessionID id;
};

#endif /* MESSAGE_H */
