/** @file

  What plugin_ats8.c and plugin_ats9.c share: reads messages (message.h) from the file IN and writes
  the answers to the file OUT. A real plugin uses connections instead, and waits for messages on a
  separate thread.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef ANSWER_H
#define ANSWER_H

#include <stdio.h>
#include <stdlib.h>

#include <openssl/crypto.h>

#include <ts/ts.h>

#include "message.h"

/* The plugin defines these. */
static enum message_kind use_key(const char *key, int len);
static enum message_kind take_session(const TSSslSessionID *id, const char *bytes, int len);
static enum message_kind give_session(const TSSslSessionID *id, char **bytes, int *len);

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
    fprintf(stderr, "refused a message of kind %d\n", (int)question->kind);
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
    fprintf(stderr, "cannot open IN and OUT\n");
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

#endif /* ANSWER_H */
