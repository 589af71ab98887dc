/** @file

  The library with its default settings.

  SPDX-License-Identifier: Apache-2.0
 */

#include "api.h"
#include "check.h"
#include "tls.h"

enum { SIZE = 102400, MAX_SESSION_BYTES = 16384 };

static TSReturnCode
insert(unsigned long number, SSL_SESSION *session)
{
  TSSslSessionID id = api_numbered_id(number);
  return TSSslSessionInsert(&id, (TSSslSession)session);
}

/* Returns a session with a DER encoding of exactly so many bytes. */
static SSL_SESSION *
session_of(int len)
{
  static char data[MAX_SESSION_BYTES + 1];
  SSL_SESSION *session = tls_session(0);
  int size             = len - i2d_SSL_SESSION(session, NULL);

  do {
    REQUIRE(SSL_SESSION_set1_ticket_appdata(session, data, (size_t)size) == 1);
    size--;
  } while (i2d_SSL_SESSION(session, NULL) > len);
  REQUIRE(i2d_SSL_SESSION(session, NULL) == len);
  return session;
}

static void
check_contexts(void)
{
  SSL_CTX *server = tls_server(TLS1_3_VERSION);
  SSL_CTX_set_timeout(server, 1234);
  SSL_CTX_set_num_tickets(server, 5);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(SSL_CTX_get_session_cache_mode(server), SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL);
  CHECK_INT(SSL_CTX_get_options(server) & SSL_OP_NO_TICKET, 0);
  CHECK_INT(SSL_CTX_get_timeout(server), 1234);
  CHECK_INT(SSL_CTX_get_num_tickets(server), 5);
  SSL_CTX_free(server);
}

int
main(void)
{
  api_open();
  check_contexts();

  SSL_SESSION *session = tls_session(0);
  SSL_SESSION *largest = session_of(MAX_SESSION_BYTES);
  SSL_SESSION *larger  = session_of(MAX_SESSION_BYTES + 1);

  CHECK_INT(insert(0, largest), TS_SUCCESS);
  CHECK_INT(insert(0, larger), TS_ERROR);

  /* The limit in sessions... */
  for (unsigned long i = 0; i < SIZE + 2000; i++) {
    CHECK_INT(insert(i, session), TS_SUCCESS);
  }
  CHECK_INT(api_stat(STAT_ENTRIES), SIZE);
  TSSslSessionCacheClear();

  /* ... and in bytes: 1 KiB for each of these, shared by all. */
  for (unsigned long i = 0; i < SIZE / 16 + 100; i++) {
    CHECK_INT(insert(i, largest), TS_SUCCESS);
  }
  CHECK_INT(api_stat(STAT_BYTES), SIZE * 1024LL);

  SSL_SESSION_free(session);
  SSL_SESSION_free(largest);
  SSL_SESSION_free(larger);
  return check_result();
}
