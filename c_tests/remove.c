/** @file

  TSSslSessionRemove, and TSSslSessionCacheClear.

  SPDX-License-Identifier: Apache-2.0
 */

#include <unistd.h>

#include "api.h"
#include "check.h"
#include "tls.h"

static int
is_present(unsigned long number)
{
  int len           = 0;
  TSSslSessionID id = api_numbered_id(number);
  return TSSslSessionGetBuffer(&id, NULL, &len) > 0;
}

int
main(void)
{
  api_open();
  SSL_SESSION *session = tls_session(0);
  for (unsigned long i = 0; i < 10; i++) {
    TSSslSessionID id = api_numbered_id(i);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  }

  /* A valid ID, present or not: its session is removed, and no other. */
  TSSslSessionID id = api_numbered_id(3);
  CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
  for (unsigned long i = 0; i < 10; i++) {
    CHECK_INT(is_present(i), i != 3);
  }
  CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
  CHECK_INT(api_stat(STAT_REMOVED), 1);
  CHECK_INT(api_stat(STAT_ENTRIES), 9);

  /* An ID that is a prefix of another one. */
  TSSslSessionID prefix = api_numbered_id(4);
  prefix.len            = 31;
  CHECK_INT(TSSslSessionRemove(&prefix), TS_SUCCESS);
  CHECK(is_present(4));

  /* No ID. hostile.c tests invalid ones. */
  CHECK_INT(TSSslSessionRemove(NULL), TS_ERROR);
  CHECK_INT(api_stat(STAT_ENTRIES), 9);

  /* Clear removes all sessions, and the cache still works. */
  TSSslSessionCacheClear();
  CHECK_INT(api_stat(STAT_ENTRIES), 0);
  CHECK_INT(api_stat(STAT_BYTES), 0);
  CHECK_INT(api_stat(STAT_CLEARED), 9);
  for (unsigned long i = 0; i < 10; i++) {
    CHECK(!is_present(i));
  }
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  CHECK(is_present(3));

  /* With the cache off. */
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache", "1"), TS_SUCCESS);
  CHECK_INT(TSSslSessionRemove(&id), TS_ERROR);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache", "0"), TS_SUCCESS);
  CHECK_INT(TSSslSessionRemove(&id), TS_ERROR);

  SSL_SESSION_free(session);
  return check_result();
}
