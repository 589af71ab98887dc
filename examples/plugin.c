/** @file

  A plugin that reads, adds and removes the sessions of its host and changes the
  ticket keys. It is linked with -ltssession and loaded by host.c, which sends it
  these commands (IDs and BYTES in hex):

    last               return the ID of the newest session
    remove ID          remove a session
    export ID          return a session as DER bytes
    import ID BYTES    insert a session that another process exported
    keys keep          set a new ticket key; the previous one still decrypts
    keys fresh         set a new ticket key and no other

  SPDX-License-Identifier: Apache-2.0
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>
#include <openssl/ssl.h>

#include <ts/ssl_session_cache.h>
#include <ts/ts.h>

#define KEY_LEN 48

static TSSslSessionID newest;
static char keys[2 * KEY_LEN];

void plugin_command(const char *line, char *answer, size_t size);

/* Called when a handshake has stored a session, on its thread. */
static int
note_newest(TSCont contp, TSEvent event, void *edata)
{
  (void)contp;
  if (event == TS_EVENT_SSL_SESSION_NEW) {
    newest = *(TSSslSessionID *)edata;
  }
  return 0;
}

/* Runs when the host loads the plugin. */
__attribute__((constructor)) static void
start(void)
{
  TSSslSessionHookAdd(note_newest, NULL);
}

static void
to_hex(const char *bytes, size_t len, char *out, size_t size)
{
  out[0] = '\0';
  for (size_t i = 0; i < len && 2 * i + 2 < size; i++) {
    snprintf(out + 2 * i, 3, "%02x", (unsigned char)bytes[i]);
  }
}

/* Returns the number of bytes, and moves `in` behind them. */
static size_t
from_hex(const char **in, char *bytes, size_t size)
{
  size_t len = 0;
  unsigned byte;
  while (**in == ' ') {
    (*in)++;
  }
  while (len < size && sscanf(*in, "%2x", &byte) == 1 && **in != ' ' && **in != '\0') {
    bytes[len++] = (char)byte;
    *in += 2;
  }
  return len;
}

static const char *
export_session(const TSSslSessionID *id, char *answer, size_t size)
{
  int len      = 0;
  int needed   = TSSslSessionGetBuffer(id, NULL, &len);
  char *buffer = malloc((size_t)needed + 1);
  if (needed == 0 || buffer == NULL) {
    free(buffer);
    return "absent";
  }
  len = needed;
  /* Another thread may have stored a larger session between the two calls. */
  if (TSSslSessionGetBuffer(id, buffer, &len) <= needed) {
    to_hex(buffer, (size_t)len, answer, size);
  }
  OPENSSL_cleanse(buffer, (size_t)needed);
  free(buffer);
  return answer;
}

static const char *
import_session(const TSSslSessionID *id, const char *hex)
{
  static char bytes[16384];
  const unsigned char *start = (const unsigned char *)bytes;
  size_t len                 = from_hex(&hex, bytes, sizeof(bytes));
  SSL_SESSION *session       = d2i_SSL_SESSION(NULL, &start, (long)len);
  if (session == NULL) {
    return "not a session";
  }
  TSReturnCode result = TSSslSessionInsert(id, (TSSslSession)session);
  /* The cache keeps a copy. */
  SSL_SESSION_free(session);
  OPENSSL_cleanse(bytes, len);
  return result == TS_SUCCESS ? "ok" : "refused";
}

static const char *
rotate_keys(int keep)
{
  memcpy(keys + KEY_LEN, keys, KEY_LEN);
  if (RAND_bytes((unsigned char *)keys, KEY_LEN) != 1) {
    return "no random bytes";
  }
  /* The first key encrypts. At the first rotation the second slot is still all
     zero, and the library ignores it. */
  TSSslTicketKeyUpdate(keys, keep ? 2 * KEY_LEN : KEY_LEN);
  return "ok";
}

void
plugin_command(const char *line, char *answer, size_t size)
{
  char word[8]      = "";
  int used          = 0;
  const char *reply = "unknown command";
  TSSslSessionID id = {0, {0}};

  sscanf(line, "%7s%n", word, &used);
  const char *rest = line + used;
  if (strcmp(word, "keys") == 0) {
    reply = rotate_keys(strcmp(rest, " keep") == 0);
  } else if (strcmp(word, "last") == 0) {
    to_hex(newest.bytes, newest.len, answer, size);
    return;
  } else {
    id.len = from_hex(&rest, id.bytes, sizeof(id.bytes));
    if (strcmp(word, "remove") == 0) {
      reply = TSSslSessionRemove(&id) == TS_SUCCESS ? "ok" : "refused";
    } else if (strcmp(word, "export") == 0) {
      reply = export_session(&id, answer, size);
    } else if (strcmp(word, "import") == 0) {
      reply = import_session(&id, rest);
    }
  }
  if (reply != answer) {
    snprintf(answer, size, "%s", reply);
  }
}
