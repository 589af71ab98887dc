/** @file

  A plugin for ATS 7.1 and 8 (TS_SSL_SESSION_API 8). It shares sessions and ticket keys with other
  servers, and uses all five functions. TSSslSessionInsert has two arguments, and
  TSSslTicketKeyUpdate returns nothing.

    plugin_ats8.so IN OUT

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
  if (len != KEY_LEN) {
    return MESSAGE_REFUSED;
  }
  memmove(ring + KEY_LEN, ring, sizeof(ring) - KEY_LEN);
  memcpy(ring, key, KEY_LEN);
  keys = keys < MAX_KEYS ? keys + 1 : MAX_KEYS;
  /* Only the log shows whether the keys became active. */
  TSSslTicketKeyUpdate(ring, keys * KEY_LEN);
  return MESSAGE_DONE;
}

static enum message_kind
take_session(const TSSslSessionID *id, const char *bytes, int len)
{
  enum message_kind answer   = MESSAGE_REFUSED;
  const unsigned char *start = (const unsigned char *)bytes;
  const unsigned char *end   = start;
  SSL_SESSION *theirs        = d2i_SSL_SESSION(NULL, &end, len);
  SSL_SESSION *ours          = (SSL_SESSION *)TSSslSessionGet(id);

  /* Messages may arrive out of order: keep the newer session. */
  if (theirs != NULL && end == start + len && (ours == NULL || SESSION_TIME(ours) <= SESSION_TIME(theirs)) &&
      TSSslSessionInsert(id, (TSSslSession)theirs) == TS_SUCCESS) {
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
  int needed;

  /* Without a buffer it returns the size. */
  *bytes = NULL;
  *len   = 0;
  needed = TSSslSessionGetBuffer(id, NULL, len);
  /* Each call may meet a larger session. It was cut off if more is needed than was stored. */
  while (needed > *len) {
    if (*bytes != NULL) {
      OPENSSL_cleanse(*bytes, (size_t)*len);
      free(*bytes);
    }
    *bytes = malloc((size_t)needed);
    *len   = needed;
    if (*bytes == NULL) {
      *len = 0;
      return MESSAGE_REFUSED;
    }
    needed = TSSslSessionGetBuffer(id, *bytes, len);
  }
  return needed > 0 ? MESSAGE_SESSION : MESSAGE_ABSENT;
}
