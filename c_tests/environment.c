/** @file

  Settings from the environment. With -DMORE_RIGHTS the program behaves like a set-uid program, for which
  secure_getenv of the C library finds nothing.

  SPDX-License-Identifier: Apache-2.0
 */

#include "api.h"
#include "check.h"
#include "tls.h"

#ifdef MORE_RIGHTS
char *
secure_getenv(const char *name)
{
  (void)name;
  return NULL;
}
#endif

int
main(void)
{
  setenv("PROXY_CONFIG_SSL_SESSION_CACHE_SIZE", "5", 1);
  setenv("TSSESSION_SESSION_CACHE_MAX_SESSION_BYTES", "1K", 1);
  /* An invalid value is logged, and the default stays. */
  setenv("PROXY_CONFIG_SSL_SESSION_CACHE_TIMEOUT", "soon", 1);
  setenv("PROXY_CONFIG_SSL_SESSION_CACHE", "7", 1);
  api_open();

#ifdef MORE_RIGHTS
  SSL_SESSION *stored = tls_session(1500);
  for (unsigned long i = 0; i < 20; i++) {
    TSSslSessionID id = api_numbered_id(i);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)stored), TS_SUCCESS);
  }
  CHECK_INT(api_stat(STAT_ENTRIES), 20);
  SSL_SESSION_free(stored);
  return check_result();
#endif
  SSL_SESSION *session = tls_session(0);
  SSL_SESSION *larger  = tls_session(1500);
  for (unsigned long i = 0; i < 20; i++) {
    TSSslSessionID id = api_numbered_id(i);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)larger), TS_ERROR);
  }
  CHECK_INT(api_stat(STAT_ENTRIES), 5);

  /* A call does not override the environment, but its value is checked all the same. */
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "1000"), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "0"), TS_ERROR);
  for (unsigned long i = 0; i < 20; i++) {
    TSSslSessionID id = api_numbered_id(i);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  }
  CHECK_INT(api_stat(STAT_ENTRIES), 5);

  /* A setting with an invalid value in the environment can be set. */
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache", "0"), TS_SUCCESS);
  TSSslSessionID id = api_numbered_id(1);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_ERROR);

  SSL_SESSION_free(session);
  SSL_SESSION_free(larger);
  return check_result();
}
