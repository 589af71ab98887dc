/** @file

  A plugin as one writes it for ATS 9 (TS_SSL_SESSION_API 9), and which compiles with the
  header of ATS 9 too: it shares sessions and ticket keys with other servers, by way of
  all five functions. Insert takes the connection, and TSSslTicketKeyUpdate tells whether
  the keys are in force.

    plugin_ats9.so IN OUT

  Answers the messages in the file IN, see message.h, in the file OUT. A plugin in use
  has connections in their place, and waits for the next message on a thread of its own.

  SPDX-License-Identifier: Apache-2.0
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <ts/ts.h>

#include "message.h"

#define KEY_LEN 48
#define MAX_KEYS 3

/* The newest first: it encrypts, all decrypt. */
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
  /* Keys that it does not like leave those in force as they are. */
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

  /* Messages overtake each other: the newer session stays. Another server's session has
     no connection here. */
  if (theirs != NULL && end == start + len &&
      (ours == NULL || SSL_SESSION_get_time(ours) <= SSL_SESSION_get_time(theirs)) &&
      TSSslSessionInsert(id, (TSSslSession)theirs, NULL) == TS_SUCCESS) {
    answer = MESSAGE_DONE;
  }
  /* The cache has copies: both of these are our own. */
  SSL_SESSION_free(theirs);
  SSL_SESSION_free(ours);
  /* This thread may have handshakes to do, which must not find what d2i left. */
  ERR_clear_error();
  return answer;
}

/* Gets a session as bytes, in memory that the caller frees. */
static enum message_kind
give_session(const TSSslSessionID *id, char **bytes, int *len)
{
  /* Enough for most: larger are sessions with a client certificate. */
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
    /* It was cut off, and there may be a larger one still when we look again. */
    OPENSSL_cleanse(*bytes, (size_t)*len);
    free(*bytes);
    space = needed;
  }
}

static void
answer(const struct message *question, const char *bytes, FILE *out)
{
  struct message reply = *question;
  char *session        = NULL;

  reply.kind = MESSAGE_REFUSED;
  reply.len  = 0;
  switch (question->kind) {
  case MESSAGE_KEY:
    reply.kind = use_key(bytes, question->len);
    break;
  case MESSAGE_SESSION:
    reply.kind = take_session(&question->id, bytes, question->len);
    break;
  case MESSAGE_WANTED:
    reply.kind = give_session(&question->id, &session, &reply.len);
    break;
  case MESSAGE_REVOKED:
    reply.kind = TSSslSessionRemove(&question->id) == TS_SUCCESS ? MESSAGE_DONE : MESSAGE_REFUSED;
    break;
  default:
    break;
  }
  if (reply.kind == MESSAGE_REFUSED) {
    fprintf(stderr, "plugin_ats9: refused a message of kind %d\n", (int)question->kind);
  }
  fwrite(&reply, sizeof(reply), 1, out);
  if (session != NULL) {
    fwrite(session, 1, (size_t)reply.len, out);
    OPENSSL_cleanse(session, (size_t)reply.len);
    free(session);
  }
}

void
TSPluginInit(int argc, const char *argv[])
{
  static char bytes[MESSAGE_MAX_LEN];
  struct message question;
  FILE *in  = argc == 3 ? fopen(argv[1], "rb") : NULL;
  FILE *out = argc == 3 ? fopen(argv[2], "wb") : NULL;

  if (in == NULL || out == NULL) {
    fprintf(stderr, "plugin_ats9: cannot open IN and OUT\n");
  } else {
    while (fread(&question, sizeof(question), 1, in) == 1 && question.len >= 0 && question.len <= MESSAGE_MAX_LEN &&
           fread(bytes, 1, (size_t)question.len, in) == (size_t)question.len) {
      answer(&question, bytes, out);
    }
    OPENSSL_cleanse(bytes, sizeof(bytes));
  }
  if (in != NULL) {
    fclose(in);
  }
  if (out != NULL) {
    fclose(out);
  }
}
