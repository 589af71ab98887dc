/** @file

  TSSslSessionGetBuffer: each documented result, byte for byte.

  SPDX-License-Identifier: Apache-2.0
 */

#include <limits.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "tls.h"

#define CANARY 0xa5

/* Returns `pages` pages of memory that an unreadable page follows. */
static char *
guarded(size_t pages)
{
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *start = mmap(NULL, (pages + 1) * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(start != MAP_FAILED);
  REQUIRE(mprotect(start + pages * page, page, PROT_NONE) == 0);
  return start;
}

static int
all_canary(const char *from, size_t len)
{
  for (size_t i = 0; i < len; i++) {
    if ((unsigned char)from[i] != CANARY) {
      return 0;
    }
  }
  return 1;
}

/* Calls with `space` bytes at the end of the memory, and checks the result. */
static void
ask(const TSSslSessionID *id, const unsigned char *der, int needed, int space, char *memory, size_t size)
{
  int stored   = space < needed ? space : needed;
  char *buffer = memory + size - space;
  int len      = space;

  memset(memory, CANARY, size);
  CHECK_INT(TSSslSessionGetBuffer(id, buffer, &len), needed);
  CHECK_INT(len, stored);
  CHECK(memcmp(buffer, der, (size_t)stored) == 0);
  CHECK(all_canary(memory, (size_t)(buffer - memory)));
  CHECK(all_canary(buffer + stored, (size_t)(space - stored)));
}

static void
check_session(SSL_SESSION *session, unsigned long number)
{
  TSSslSessionID id  = api_numbered_id(number);
  int needed         = 0;
  unsigned char *der = tls_der(session, &needed);
  size_t page        = (size_t)sysconf(_SC_PAGESIZE);
  size_t pages       = (size_t)needed / page + 2;
  size_t size        = pages * page;
  char *memory       = guarded(pages);
  char *end          = memory + size;
  int len;

  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);

  /* space >= needed: the whole DER, and no byte more */
  ask(&id, der, needed, needed, memory, size);
  ask(&id, der, needed, needed + 1, memory, size);
  ask(&id, der, needed, needed + 1000, memory, size);

  /* space < needed: the first `space` bytes, and no byte more */
  ask(&id, der, needed, needed - 1, memory, size);
  ask(&id, der, needed, needed / 2, memory, size);
  ask(&id, der, needed, 1, memory, size);

  /* space 0 or negative: the buffer is untouched, and can be any pointer */
  const int none[] = {0, -1, -needed, INT_MIN};
  for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
    memset(memory, CANARY, size);
    len = none[i];
    CHECK_INT(TSSslSessionGetBuffer(&id, end, &len), needed);
    CHECK_INT(len, 0);
    CHECK(all_canary(memory, size));
  }

  /* no buffer: this returns the size */
  const int any[] = {0, 1, needed, INT_MAX, -1};
  for (size_t i = 0; i < sizeof(any) / sizeof(any[0]); i++) {
    len = any[i];
    CHECK_INT(TSSslSessionGetBuffer(&id, NULL, &len), needed);
    CHECK_INT(len, 0);
  }

  /* no len_ptr: the buffer is untouched */
  memset(memory, CANARY, size);
  CHECK_INT(TSSslSessionGetBuffer(&id, memory, NULL), 0);
  CHECK_INT(TSSslSessionGetBuffer(&id, NULL, NULL), 0);
  CHECK(all_canary(memory, size));

  /* len_ptr that is not aligned */
  char place[2 * sizeof(int)];
  char buffer[8];
  len = 8;
  memcpy(place + 1, &len, sizeof(len));
  int *odd = (int *)(void *)(place + 1);
  CHECK_INT(TSSslSessionGetBuffer(&id, buffer, odd), needed);
  memcpy(&len, place + 1, sizeof(len));
  CHECK_INT(len, 8);
  CHECK(memcmp(buffer, der, 8) == 0);

  /* the bytes can be decoded */
  len = (int)size;
  CHECK_INT(TSSslSessionGetBuffer(&id, memory, &len), needed);
  const unsigned char *start = (const unsigned char *)memory;
  SSL_SESSION *copy          = d2i_SSL_SESSION(NULL, &start, len);
  CHECK(copy != NULL);
  CHECK(start == (const unsigned char *)memory + needed);
  SSL_SESSION_free(copy);

  munmap(memory, size + page);
  OPENSSL_free(der);
}

/* Absent, expired, invalid ID, cache off: returns 0, sets *len_ptr to 0, and leaves the buffer alone. */
static void
expect_none(const TSSslSessionID *id)
{
  char buffer[64];
  int spaces[] = {(int)sizeof(buffer), 1, 0, -1};

  for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
    int len = spaces[i];
    memset(buffer, CANARY, sizeof(buffer));
    CHECK_INT(TSSslSessionGetBuffer(id, buffer, &len), 0);
    CHECK_INT(len, 0);
    CHECK(all_canary(buffer, sizeof(buffer)));
    len = spaces[i];
    CHECK_INT(TSSslSessionGetBuffer(id, NULL, &len), 0);
    CHECK_INT(len, 0);
  }
  CHECK_INT(TSSslSessionGetBuffer(id, buffer, NULL), 0);
}

int
main(void)
{
  api_open();

  /* From the smallest session to one with a client certificate of nearly 16 KiB. */
  const size_t paddings[] = {0, 1, 700, 3500, 8000, 15500};
  int smallest            = INT_MAX;
  int largest             = 0;
  for (size_t i = 0; i < sizeof(paddings) / sizeof(paddings[0]); i++) {
    SSL_SESSION *session = tls_session(paddings[i]);
    int len              = i2d_SSL_SESSION(session, NULL);
    smallest             = len < smallest ? len : smallest;
    largest              = len > largest ? len : largest;
    check_session(session, i);
    SSL_SESSION_free(session);
  }
  CHECK(smallest > 100 && smallest <= 150);
  CHECK(largest > 15000 && largest <= 16384);

  SSL_SESSION *session  = tls_session(0);
  TSSslSessionID absent = api_numbered_id(1000);
  expect_none(&absent);

  TSSslSessionID removed = api_numbered_id(1001);
  CHECK_INT(TSSslSessionInsert(&removed, (TSSslSession)session), TS_SUCCESS);
  CHECK_INT(TSSslSessionRemove(&removed), TS_SUCCESS);
  expect_none(&removed);

  const size_t bad[] = {0, 33, 1000, (size_t)1 << 40, SIZE_MAX};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    TSSslSessionID id = api_id(bad[i], 1);
    expect_none(&id);
  }
  expect_none(NULL);

  TSSslSessionID expiring = api_numbered_id(1002);
  SSL_SESSION_set_timeout(session, 100);
  tls_set_time(session, (long)time(NULL) - 98);
  CHECK_INT(TSSslSessionInsert(&expiring, (TSSslSession)session), TS_SUCCESS);
  int len = 0;
  CHECK(TSSslSessionGetBuffer(&expiring, NULL, &len) > 0);
  sleep(3);
  expect_none(&expiring);

  TSSslSessionID kept = api_numbered_id(0);
  CHECK(TSSslSessionGetBuffer(&kept, NULL, &len) > 0);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache", "0"), TS_SUCCESS);
  expect_none(&kept);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache", "1"), TS_SUCCESS);
  expect_none(&kept);

  SSL_SESSION_free(session);
  return check_result();
}
