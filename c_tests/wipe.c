/** @file

  Sessions that have left the cache, and ticket keys that are no longer active, are
  wiped from the memory of the process.

  SPDX-License-Identifier: Apache-2.0
 */

#include <stdlib.h>
#include <time.h>

#include "api.h"
#include "check.h"
#include "secrets.h"
#include "tls.h"

static SSL_SESSION *base;

/* Inserts a session with a secret that is then in the cache only. */
static void
insert(unsigned long id_number, int number, long timeout)
{
  unsigned char secret[48] = {0};
  TSSslSessionID id        = api_numbered_id(id_number);
  SSL_SESSION *session     = SSL_SESSION_dup(base);

  secret_bytes(number, secret);
  REQUIRE(SSL_SESSION_set1_master_key(session, secret, sizeof(secret)) == 1);
  OPENSSL_cleanse(secret, sizeof(secret));
  tls_set_time(session, (long)time(NULL));
  SSL_SESSION_set_timeout(session, timeout);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  SSL_SESSION_free(session);
  CHECK_INT(secret_in_memory(number), 1);
}

static void
update_keys(int first, int second)
{
  unsigned char keys[96];
  int numbers[] = {first, second};
  for (int i = 0; i < 2; i++) {
    memset(keys + 48 * i, numbers[i], 16);
    secret_bytes(numbers[i], keys + 48 * i + 16);
  }
  TSSslTicketKeyUpdate((char *)keys, second > 0 ? 96 : 48);
  OPENSSL_cleanse(keys, sizeof(keys));
  CHECK_INT(secret_in_memory(first), 1);
}

/* Returns whether the memory of the secret has this flag, in the kernel's list of mappings. */
static int
is_flagged(int number, const char *flag)
{
  unsigned long where;
  unsigned long from;
  unsigned long to;
  char line[512];
  int inside = 0;
  int found  = 0;
  REQUIRE(secret_count_in_process("self", number, 0, SECRET_LEN, &where) == 1);
  FILE *maps = fopen("/proc/self/smaps", "r");
  REQUIRE(maps != NULL);
  while (fgets(line, sizeof(line), maps) != NULL) {
    if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
      inside = from <= where && where < to;
    } else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
      found = strstr(line, flag) != NULL;
    }
  }
  fclose(maps);
  return found;
}

#define CHECK_GONE(number) CHECK_INT(secret_pieces_in("self", number), 0)

int
main(void)
{
  api_open();
  base = tls_session(0);

  TSSslSessionID first = api_numbered_id(1);
  insert(1, 1, 1000);
  CHECK(secret_pieces_in("self", 1) >= SECRET_LEN / SECRET_PIECE);
  CHECK(is_flagged(1, " dd"));
  CHECK_INT(TSSslSessionRemove(&first), TS_SUCCESS);
  CHECK_GONE(1);

  insert(1, 2, 1000);
  insert(1, 3, 1000);
  CHECK_GONE(2);

  /* GetBuffer leaves a copy only in the caller's buffer, whether it is complete or not. */
  char buffer[2000];
  int len = sizeof(buffer);
  CHECK_INT(TSSslSessionGetBuffer(&first, buffer, &len), len);
  CHECK_INT(secret_in_memory(3), 2);
  OPENSSL_cleanse(buffer, sizeof(buffer));
  len = 90;
  CHECK(TSSslSessionGetBuffer(&first, buffer, &len) > len);
  OPENSSL_cleanse(buffer, sizeof(buffer));
  CHECK_INT(secret_in_memory(3), 1);

  TSSslSessionCacheClear();
  CHECK_GONE(3);

  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "1"), TS_SUCCESS);
  insert(1, 4, 1000);
  insert(2, 5, 1000);
  CHECK_GONE(4);

  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache", "0"), TS_SUCCESS);
  CHECK_GONE(5);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache", "2"), TS_SUCCESS);

  /* An expired session is wiped by the next lookup of it, and by the insert of another. */
  insert(1, 6, 2);
  sleep(3);
  CHECK(TSSslSessionGet(&first) == NULL);
  CHECK_GONE(6);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "1000"), TS_SUCCESS);
  insert(1, 7, 2);
  sleep(3);
  for (unsigned long i = 0; i < 600; i++) {
    TSSslSessionID id = api_numbered_id(100 + i);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)base), TS_SUCCESS);
  }
  CHECK_GONE(7);

  /* A limit is lowered, and the remaining sessions are moved together when most others are gone. */
  insert(1, 8, 1000);
  insert(2, 9, 1000);
  CHECK_INT(TSSslSessionRemove(&first), TS_SUCCESS);
  CHECK_GONE(8);
  for (unsigned long i = 0; i < 600; i++) {
    TSSslSessionID id = api_numbered_id(100 + i);
    TSSslSessionRemove(&id);
  }
  CHECK_INT(secret_in_memory(9), 1);
  insert(3, 10, 1000);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "1"), TS_SUCCESS);
  CHECK_INT(secret_in_memory(9) + secret_in_memory(10), 1);
  CHECK(secret_pieces_in("self", 9) == 0 || secret_pieces_in("self", 10) == 0);

  /* Get makes a copy of a large session and wipes it. (OpenSSL's decoder leaves pieces.) */
  static const unsigned char padding[1500];
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "1000"), TS_SUCCESS);
  REQUIRE(SSL_SESSION_set1_ticket_appdata(base, padding, sizeof(padding)) == 1);
  insert(1, 20, 1000);
  SSL_SESSION_free((SSL_SESSION *)TSSslSessionGet(&first));
  CHECK_INT(secret_in_memory(20), 1);

  /* A ticket key that is kept for old tickets is wiped when it is dropped. */
  update_keys(11, 0);
  CHECK(is_flagged(11, " dd") && is_flagged(11, " lo"));
  update_keys(12, 11);
  CHECK_INT(secret_in_memory(11), 1);
  update_keys(13, 12);
  CHECK_GONE(11);
  CHECK_INT(secret_in_memory(12), 1);
  update_keys(14, 0);
  CHECK_GONE(12);
  CHECK_GONE(13);

  SSL_SESSION_free(base);
  return check_result();
}
