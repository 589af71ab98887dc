/** @file

  A plugin for ATS 9 (TS_SSL_SESSION_API 9), which also compiles with the header of ATS 9. It shares
  sessions and ticket keys with other servers, and uses all five functions. TSSslSessionInsert takes
  the connection too, and TSSslTicketKeyUpdate returns whether the keys became active.

    plugin_ats9.so IN OUT

  Reads messages from the file IN and writes the answers to the file OUT, see answer.h.

  SPDX-License-Identifier: Apache-2.0
 */

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <ts/ts.h>

#include "answer.h"

#define KEY_LEN 48
#define MAX_KEYS 3

/* The keys, newest first: the first encrypts, all decrypt. */
static char ring[MAX_KEYS * KEY_LEN];
static int keys;

static enum message_kind
use_key(const char *key, int len)
{
  char next[sizeof(ring)];
  int count                = keys < MAX_KEYS ? keys + 1 : MAX_KEYS;
  enum message_kind answer = MESSAGE_REFUSED;

  if (len != KEY_LEN) {
    return MESSAGE_REFUSED;
  }
  memcpy(next, key, KEY_LEN);
  memcpy(next + KEY_LEN, ring, sizeof(ring) - KEY_LEN);
  /* On failure the active keys stay as they are. */
  if (TSSslTicketKeyUpdate(next, count * KEY_LEN) == TS_SUCCESS) {
    memcpy(ring, next, sizeof(ring));
    keys   = count;
    answer = MESSAGE_DONE;
  }
  OPENSSL_cleanse(next, sizeof(next));
  return answer;
}

static enum message_kind
take_session(const TSSslSessionID *id, const char *bytes, int len)
{
  enum message_kind answer   = MESSAGE_REFUSED;
  const unsigned char *start = (const unsigned char *)bytes;
  const unsigned char *end   = start;
  SSL_SESSION *theirs        = d2i_SSL_SESSION(NULL, &end, len);
  SSL_SESSION *ours          = (SSL_SESSION *)TSSslSessionGet(id);

  /* Messages may arrive out of order: keep the newer session. There is no connection here for
     another server's session. */
  if (theirs != NULL && end == start + len && (ours == NULL || SESSION_TIME(ours) <= SESSION_TIME(theirs)) &&
      TSSslSessionInsert(id, (TSSslSession)theirs, NULL) == TS_SUCCESS) {
    answer = MESSAGE_DONE;
  }
  /* The cache keeps copies: both sessions belong to this function. */
  SSL_SESSION_free(theirs);
  SSL_SESSION_free(ours);
  /* d2i may leave an error in the queue, which would disturb handshakes on this thread. */
  ERR_clear_error();
  return answer;
}

/* Gets a session as bytes. The caller frees them. */
static enum message_kind
give_session(const TSSslSessionID *id, char **bytes, int *len)
{
  /* Enough for most sessions; those with a client certificate are larger. */
  int space = 256;
  int needed;

  for (;;) {
    *len   = space;
    *bytes = malloc((size_t)space);
    if (*bytes == NULL) {
      *len = 0;
      return MESSAGE_REFUSED;
    }
    needed = TSSslSessionGetBuffer(id, *bytes, len);
    if (needed == 0) {
      *len = 0;
      return MESSAGE_ABSENT;
    }
    if (needed <= *len) {
      return MESSAGE_SESSION;
    }
    /* It was cut off. The next call may meet an even larger one. */
    OPENSSL_cleanse(*bytes, (size_t)*len);
    free(*bytes);
    space = needed;
  }
}
