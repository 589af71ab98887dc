/** @file

  The messages with which servers share sessions and ticket keys in plugin_ats8.c, plugin_ats9.c
  and plugin_ats10.cc. `len` bytes follow each message, and one message answers it. Messages carry
  secrets: a real plugin sends them through encrypted connections.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef MESSAGE_H
#define MESSAGE_H

#include <openssl/ssl.h>

#include <ts/ts.h>

/* OpenSSL 3.4 deprecates the functions without _ex. */
#if OPENSSL_VERSION_NUMBER >= 0x30400000L
#define SESSION_TIME SSL_SESSION_get_time_ex
#define SET_SESSION_TIME SSL_SESSION_set_time_ex
#else
#define SESSION_TIME SSL_SESSION_get_time
#define SET_SESSION_TIME SSL_SESSION_set_time
#endif

enum message_kind {
  /* Questions. */
  MESSAGE_KEY,     /* encrypt new tickets with this key */
  MESSAGE_SESSION, /* store this session, DER bytes; also an answer */
  MESSAGE_WANTED,  /* send the session of this ID */
  MESSAGE_REVOKED, /* remove the session of this ID */

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
