/** @file

  Lookups of others' sessions after a peer inserted a million IDs of its choice, as similar to
  those of the others as possible. tools/chosen-ids.sh runs this in callgrind, which counts only
  the instructions of the lookups.

    chosen_ids random|prefix|suffix|low SESSIONS

  SPDX-License-Identifier: Apache-2.0
 */

#include <valgrind/callgrind.h>

#include "api.h"
#include "check.h"
#include "tls.h"

enum { OTHERS = 1000, ROUNDS = 20 };

static unsigned long random_state = 88172645463325252ul;

static unsigned long
random_number(void)
{
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

static TSSslSessionID
random_id(void)
{
  TSSslSessionID id = {.len = 32};
  for (size_t i = 0; i < 32; i += sizeof(long)) {
    unsigned long number = random_number();
    memcpy(id.bytes + i, &number, sizeof(number));
  }
  return id;
}

/* Equal but for a counter: at the end, at the start, or in the high bits of each word. */
static TSSslSessionID
chosen_id(const char *kind, unsigned long n)
{
  TSSslSessionID id = {.len = 32, .bytes = "0123456789abcdef0123456789abcde"};
  unsigned number   = (unsigned)n;
  if (strcmp(kind, "random") == 0) {
    return random_id();
  }
  if (strcmp(kind, "prefix") == 0) {
    memcpy(id.bytes + 28, &number, sizeof(number));
  } else if (strcmp(kind, "suffix") == 0) {
    memcpy(id.bytes, &number, sizeof(number));
  } else {
    REQUIRE(strcmp(kind, "low") == 0);
    /* One byte in each word. A hash that only mixes upwards would lose it. */
    for (int word = 0; word < 4; word++) {
      id.bytes[word * 8 + 7] = (char)(number >> (8 * word));
    }
  }
  return id;
}

int
main(int argc, char **argv)
{
  static TSSslSessionID others[OTHERS];
  char size[32];
  int found = 0;

  REQUIRE(argc == 3);
  api_open();
  unsigned long sessions = strtoul(argv[2], NULL, 10);
  snprintf(size, sizeof(size), "%lu", sessions + OTHERS);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", size), TS_SUCCESS);
  TSSslSession session = (TSSslSession)tls_session(0);
  for (int i = 0; i < OTHERS; i++) {
    others[i] = chosen_id(argv[1], 0x80000000 + (unsigned long)i);
    CHECK_INT(TSSslSessionInsert(&others[i], session), TS_SUCCESS);
  }
  for (unsigned long n = 0; n < sessions; n++) {
    TSSslSessionID id = chosen_id(argv[1], n);
    CHECK_INT(TSSslSessionInsert(&id, session), TS_SUCCESS);
  }
  CHECK(api_stat(STAT_ENTRIES) == (long long)sessions + OTHERS);

  CALLGRIND_START_INSTRUMENTATION;
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < OTHERS; i++) {
      int len = 0;
      found += TSSslSessionGetBuffer(&others[i], NULL, &len) > 0;
      /* And an absent one. */
      others[i].bytes[15] ^= 0x40;
      found += TSSslSessionGetBuffer(&others[i], NULL, &len) > 0;
      others[i].bytes[15] ^= 0x40;
    }
  }
  CALLGRIND_STOP_INSTRUMENTATION;
  CHECK_INT(found, ROUNDS * OTHERS);

  SSL_SESSION_free((SSL_SESSION *)session);
  return check_result();
}
