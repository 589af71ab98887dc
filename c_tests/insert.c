/** @file

  TSSslSessionInsert: stores, replaces, or refuses and changes nothing.

  SPDX-License-Identifier: Apache-2.0
 */

#include <time.h>

#include "api.h"
#include "check.h"
#include "tls.h"

/* Returns whether the cache has exactly this session under this ID. */
static int
holds(const TSSslSessionID *id, SSL_SESSION *session)
{
  char buffer[20000];
  int len            = (int)sizeof(buffer);
  int der_len        = 0;
  unsigned char *der = tls_der(session, &der_len);
  int needed         = TSSslSessionGetBuffer(id, buffer, &len);
  int same           = needed == der_len && len == needed && memcmp(buffer, der, (size_t)len) == 0;
  OPENSSL_free(der);
  return same;
}

static int
is_absent(const TSSslSessionID *id)
{
  int len = 0;
  return TSSslSessionGetBuffer(id, NULL, &len) == 0;
}

static void
set(const char *name, const char *value)
{
  REQUIRE(TSSslSessionCacheConfigSet(name, value) == TS_SUCCESS);
}

int
main(void)
{
  api_open();
  SSL_SESSION *one    = tls_session(0);
  SSL_SESSION *other  = tls_session(900);
  SSL_SESSION *large  = tls_session(15500);
  SSL_SESSION *larger = tls_session(16500);
  REQUIRE(i2d_SSL_SESSION(large, NULL) <= 16384 && i2d_SSL_SESSION(larger, NULL) > 16384);

  /* Stored: the cache copies ID and session. */
  TSSslSessionID id      = api_numbered_id(1);
  TSSslSessionID scratch = id;
  SSL_SESSION *changing  = SSL_SESSION_dup(one);
  CHECK_INT(TSSslSessionInsert(&scratch, (TSSslSession)changing), TS_SUCCESS);
  memset(&scratch, 0xff, sizeof(scratch));
  SSL_SESSION_set_timeout(changing, 1);
  SSL_SESSION_free(changing);
  CHECK(holds(&id, one));
  CHECK_INT(api_stat(STAT_NEW), 1);

  /* The key is the argument, not the ID in the session. */
  unsigned int own_len = 0;
  TSSslSessionID own   = api_id(32, 0);
  memcpy(own.bytes, SSL_SESSION_get_id(one, &own_len), 32);
  CHECK_INT(own_len, 32);
  CHECK(is_absent(&own));

  /* An existing entry is replaced, by a larger and by a smaller session. */
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)other), TS_SUCCESS);
  CHECK(holds(&id, other));
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)large), TS_SUCCESS);
  CHECK(holds(&id, large));
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)one), TS_SUCCESS);
  CHECK(holds(&id, one));
  CHECK_INT(api_stat(STAT_ENTRIES), 1);
  CHECK_INT(api_stat(STAT_BYTES), i2d_SSL_SESSION(one, NULL));
  CHECK_INT(api_stat(STAT_REPLACED), 3);

  /* The same session again replaces it too. */
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)one), TS_SUCCESS);
  CHECK(holds(&id, one));

  /* IDs of every length; bytes behind the length do not matter. */
  for (size_t len = 1; len <= 32; len++) {
    TSSslSessionID sized = api_id(len, 7);
    CHECK_INT(TSSslSessionInsert(&sized, (TSSslSession)one), TS_SUCCESS);
    memset(sized.bytes + len, 0x99, 32 - len);
    CHECK(holds(&sized, one));
    CHECK_INT(TSSslSessionRemove(&sized), TS_SUCCESS);
  }

  /* Refused: no ID. hostile.c tests invalid ones. */
  CHECK_INT(TSSslSessionInsert(NULL, (TSSslSession)one), TS_ERROR);
  CHECK_INT(TSSslSessionInsert(NULL, NULL), TS_ERROR);

  /* Refused: NULL session, and one that cannot be encoded (no cipher). */
  CHECK_INT(TSSslSessionInsert(&id, NULL), TS_ERROR);
  CHECK(holds(&id, one));
  SSL_SESSION *empty = SSL_SESSION_new();
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)empty), TS_ERROR);
  CHECK(holds(&id, one));
  SSL_SESSION_free(empty);

  /* Refused: one that OpenSSL encodes but cannot decode (no version). */
  SSL_SESSION *unversioned = SSL_SESSION_dup(one);
  CHECK_INT(SSL_SESSION_set_protocol_version(unversioned, 0), 1);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)unversioned), TS_ERROR);
  CHECK(holds(&id, one));
  SSL_SESSION_free(unversioned);

  /* Refused: larger than the limit, which is 16 KiB or what is set. */
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)larger), TS_ERROR);
  CHECK(holds(&id, one));
  set("tssession.session_cache.max_session_bytes", "32K");
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)larger), TS_SUCCESS);
  CHECK(holds(&id, larger));
  char exactly[16];
  snprintf(exactly, sizeof(exactly), "%d", i2d_SSL_SESSION(other, NULL) - 1);
  set("tssession.session_cache.max_session_bytes", exactly);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)other), TS_ERROR);
  CHECK(holds(&id, larger));
  snprintf(exactly, sizeof(exactly), "%d", i2d_SSL_SESSION(other, NULL));
  set("tssession.session_cache.max_session_bytes", exactly);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)other), TS_SUCCESS);
  CHECK(holds(&id, other));
  set("tssession.session_cache.max_session_bytes", "16384");

  /* Refused: larger than the limit of the whole cache. */
  set("tssession.session_cache.max_bytes", "4096");
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)large), TS_ERROR);
  CHECK(holds(&id, other));
  set("tssession.session_cache.max_bytes", "0");

  /* Refused: already expired, by its own timeout or by the configured one. */
  SSL_SESSION *old = SSL_SESSION_dup(one);
  SSL_SESSION_set_timeout(old, 300);
  tls_set_time(old, (long)time(NULL) - 301);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)old), TS_ERROR);
  CHECK(holds(&id, other));
  tls_set_time(old, (long)time(NULL) - 60);
  set("proxy.config.ssl.session_cache.timeout", "60");
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)old), TS_ERROR);
  CHECK(holds(&id, other));
  set("proxy.config.ssl.session_cache.timeout", "61");
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)old), TS_SUCCESS);
  CHECK(holds(&id, old));
  set("proxy.config.ssl.session_cache.timeout", "0");
  SSL_SESSION_free(old);

  /* Refused: cache off. */
  long long refused = api_stat(STAT_REFUSED);
  CHECK(refused > 0);
  set("proxy.config.ssl.session_cache", "0");
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)one), TS_ERROR);
  set("proxy.config.ssl.session_cache", "1");
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)one), TS_ERROR);
  set("proxy.config.ssl.session_cache", "2");
  CHECK(is_absent(&id));
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)one), TS_SUCCESS);
  CHECK(holds(&id, one));

  SSL_SESSION_free(one);
  SSL_SESSION_free(other);
  SSL_SESSION_free(large);
  SSL_SESSION_free(larger);
  return check_result();
}
