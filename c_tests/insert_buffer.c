/** @file

  TSSslSessionInsertBuffer: exactly one whole session, or nothing.

  SPDX-License-Identifier: Apache-2.0
 */

#include <limits.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "tls.h"

static int
holds(const TSSslSessionID *id, const unsigned char *der, int der_len)
{
  static char buffer[20000];
  int len = (int)sizeof(buffer);
  return TSSslSessionGetBuffer(id, buffer, &len) == der_len && len == der_len &&
         memcmp(buffer, der, (size_t)der_len) == 0;
}

int
main(void)
{
  api_open();
  SSL_SESSION *session = tls_session(500);
  SSL_SESSION *other   = tls_session(0);
  SSL_SESSION *larger  = tls_session(16500);
  int len              = 0;
  int other_len        = 0;
  int larger_len       = 0;
  unsigned char *der   = tls_der(session, &len);
  unsigned char *small = tls_der(other, &other_len);
  unsigned char *large = tls_der(larger, &larger_len);
  TSSslSessionID id    = api_numbered_id(1);

  /* The bytes end at the end of readable memory. */
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *start = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(start != MAP_FAILED && mprotect(start + page, page, PROT_NONE) == 0);
  char *exact = start + page - len;
  memcpy(exact, der, (size_t)len);

  CHECK_INT(TSSslSessionInsertBuffer(&id, exact, len), TS_SUCCESS);
  CHECK(holds(&id, der, len));
  SSL_SESSION *copy = (SSL_SESSION *)TSSslSessionGet(&id);
  CHECK(copy != NULL);
  SSL_SESSION_free(copy);
  CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)small, other_len), TS_SUCCESS);
  CHECK(holds(&id, small, other_len));

  /* A length that is not encoded as DER requires: Get still returns DER. */
  unsigned char *ber = malloc((size_t)len + 1);
  REQUIRE(ber != NULL && der[0] == 0x30 && der[1] == 0x82);
  ber[0] = 0x30;
  ber[1] = 0x83;
  ber[2] = 0;
  memcpy(ber + 3, der + 2, (size_t)len - 2);
  CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)ber, len + 1), TS_SUCCESS);
  CHECK(holds(&id, der, len));
  free(ber);
  CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)small, other_len), TS_SUCCESS);

  /* Refused, and the cached session stays: bytes that are cut off anywhere... */
  for (int cut = 0; cut < len; cut++) {
    CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)der, cut), TS_ERROR);
  }
  /* ... with a byte or a second session behind them... */
  unsigned char *two = malloc((size_t)(2 * len));
  REQUIRE(two != NULL);
  memcpy(two, der, (size_t)len);
  memcpy(two + len, der, (size_t)len);
  CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)two, len + 1), TS_ERROR);
  CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)two, 2 * len), TS_ERROR);
  /* ... other bytes... */
  memset(two, 0, (size_t)len);
  CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)two, len), TS_ERROR);
  memset(two, 0xff, (size_t)len);
  CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)two, len), TS_ERROR);
  free(two);
  /* ... no bytes... */
  CHECK_INT(TSSslSessionInsertBuffer(&id, NULL, len), TS_ERROR);
  CHECK_INT(TSSslSessionInsertBuffer(&id, NULL, 0), TS_ERROR);
  CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)der, 0), TS_ERROR);
  CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)der, -1), TS_ERROR);
  CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)der, INT_MIN), TS_ERROR);
  /* ... too many bytes, or no ID. */
  CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)large, larger_len), TS_ERROR);
  TSSslSessionID invalid = api_id(33, 1);
  CHECK_INT(TSSslSessionInsertBuffer(&invalid, (char *)der, len), TS_ERROR);
  CHECK_INT(TSSslSessionInsertBuffer(NULL, (char *)der, len), TS_ERROR);
  /* An expired session. */
  tls_set_time(session, (long)time(NULL) - 1000);
  SSL_SESSION_set_timeout(session, 999);
  int expired_len        = 0;
  unsigned char *expired = tls_der(session, &expired_len);
  CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)expired, expired_len), TS_ERROR);
  CHECK(holds(&id, small, other_len));
  CHECK_INT(api_stat(STAT_ENTRIES), 1);

  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache", "0"), TS_SUCCESS);
  CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)der, len), TS_ERROR);

  OPENSSL_free(der);
  OPENSSL_free(small);
  OPENSSL_free(large);
  OPENSSL_free(expired);
  SSL_SESSION_free(session);
  SSL_SESSION_free(other);
  SSL_SESSION_free(larger);
  munmap(start, 2 * page);
  return check_result();
}
