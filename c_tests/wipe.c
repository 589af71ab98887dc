/** @file

  What has left the cache, and ticket keys that are no longer in force, are not in
  the memory of the process any more.

  The secrets are only ever written down in disguise here, so that the search
  finds the library's copies and not our own.

  SPDX-License-Identifier: Apache-2.0
 */

#include <fcntl.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "api.h"
#include "check.h"
#include "tls.h"

#define DISGUISE 0x5c
#define SECRET_LEN 32

/* The first bytes of secret number `number`, in disguise. */
static void
disguised(int number, unsigned char *secret)
{
  uint64_t state = 88172645463325252u + (uint64_t)number;
  for (int i = 0; i < SECRET_LEN; i++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    secret[i] = (unsigned char)(state >> 32) ^ DISGUISE;
  }
}

static int
is_secret(const unsigned char *memory, const unsigned char *secret)
{
  for (int i = 0; i < SECRET_LEN; i++) {
    if ((memory[i] ^ DISGUISE) != secret[i]) {
      return 0;
    }
  }
  return 1;
}

/* How many times a secret stands in the writable memory of this process. */
static int
count_in_memory(int number)
{
  static unsigned char block[1 << 16];
  unsigned char secret[SECRET_LEN];
  unsigned long from;
  unsigned long to;
  char access[5];
  char line[512];
  int count  = 0;
  FILE *maps = fopen("/proc/self/maps", "r");
  int memory = open("/proc/self/mem", O_RDONLY);
  REQUIRE(maps != NULL && memory >= 0);

  disguised(number, secret);
  while (fgets(line, sizeof(line), maps) != NULL) {
    if (sscanf(line, "%lx-%lx %4s", &from, &to, access) != 3 || access[0] != 'r' || access[1] != 'w') {
      continue;
    }
    /* Blocks overlap by a secret, and the block itself is not looked at. */
    for (; from < to; from += sizeof(block) - SECRET_LEN) {
      if (from < (unsigned long)block + sizeof(block) && from + sizeof(block) > (unsigned long)block) {
        continue;
      }
      size_t want = to - from < sizeof(block) ? to - from : sizeof(block);
      ssize_t got = pread(memory, block, want, (off_t)from);
      for (ssize_t i = 0; i + SECRET_LEN <= got; i++) {
        count += is_secret(block + i, secret);
      }
    }
  }
  OPENSSL_cleanse(block, sizeof(block));
  close(memory);
  fclose(maps);
  return count;
}

static SSL_SESSION *base;

/* Inserts a session with a secret of its own, which is then in the cache only. */
static void
insert(unsigned long id_number, int number, long timeout)
{
  unsigned char secret[48] = {0};
  TSSslSessionID id        = api_numbered_id(id_number);
  SSL_SESSION *session     = SSL_SESSION_dup(base);

  disguised(number, secret);
  for (int i = 0; i < SECRET_LEN; i++) {
    secret[i] ^= DISGUISE;
  }
  REQUIRE(SSL_SESSION_set1_master_key(session, secret, sizeof(secret)) == 1);
  OPENSSL_cleanse(secret, sizeof(secret));
  SSL_SESSION_set_time(session, (long)time(NULL));
  SSL_SESSION_set_timeout(session, timeout);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  SSL_SESSION_free(session);
  CHECK_INT(count_in_memory(number), 1);
}

static void
update_keys(int number)
{
  unsigned char keys[48];
  memset(keys, number, 16);
  disguised(number, keys + 16);
  for (int i = 0; i < SECRET_LEN; i++) {
    keys[16 + i] ^= DISGUISE;
  }
  TSSslTicketKeyUpdate((char *)keys, sizeof(keys));
  OPENSSL_cleanse(keys, sizeof(keys));
  CHECK_INT(count_in_memory(number), 1);
}

int
main(void)
{
  api_open();
  base = tls_session(0);

  TSSslSessionID first = api_numbered_id(1);
  insert(1, 1, 1000);
  CHECK_INT(TSSslSessionRemove(&first), TS_SUCCESS);
  CHECK_INT(count_in_memory(1), 0);

  insert(1, 2, 1000);
  insert(1, 3, 1000);
  CHECK_INT(count_in_memory(2), 0);

  TSSslSessionCacheClear();
  CHECK_INT(count_in_memory(3), 0);

  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "1"), TS_SUCCESS);
  insert(1, 4, 1000);
  insert(2, 5, 1000);
  CHECK_INT(count_in_memory(4), 0);

  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache", "0"), TS_SUCCESS);
  CHECK_INT(count_in_memory(5), 0);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache", "2"), TS_SUCCESS);

  /* Expired: gone when somebody asks for it. */
  insert(1, 6, 2);
  sleep(3);
  CHECK(TSSslSessionGet(&first) == NULL);
  CHECK_INT(count_in_memory(6), 0);

  update_keys(7);
  update_keys(8);
  CHECK_INT(count_in_memory(7), 0);

  SSL_SESSION_free(base);
  return check_result();
}
