/** @file

  TSSslSessionGet: what comes out is the caller's own.

  SPDX-License-Identifier: Apache-2.0
 */

#include <pthread.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "tls.h"

static TSSslSessionID shared_id;
static unsigned char *shared_der;
static int shared_len;

static void
expect_der(SSL_SESSION *session)
{
  int len            = 0;
  unsigned char *der = tls_der(session, &len);
  CHECK_INT(len, shared_len);
  CHECK(len == shared_len && memcmp(der, shared_der, (size_t)len) == 0);
  OPENSSL_free(der);
}

/* Does to a session what a careless owner may do to his own. */
static void *
get_change_free(void *arg)
{
  (void)arg;
  for (int i = check_scaled(2000); i > 0; i--) {
    SSL_SESSION *session = (SSL_SESSION *)TSSslSessionGet(&shared_id);
    REQUIRE(session != NULL);
    expect_der(session);
    SSL_SESSION_set_time(session, i);
    SSL_SESSION_set_timeout(session, i);
    SSL_SESSION_set1_id(session, (const unsigned char *)"other", 5);
    SSL_SESSION_free(session);
  }
  return NULL;
}

int
main(void)
{
  api_open();
  SSL_SESSION *session = tls_session(500);
  shared_der           = tls_der(session, &shared_len);
  shared_id            = api_numbered_id(1);
  CHECK_INT(TSSslSessionInsert(&shared_id, (TSSslSession)session), TS_SUCCESS);

  /* The object is new each time, with one reference: freed twice it would be gone. */
  SSL_SESSION *first  = (SSL_SESSION *)TSSslSessionGet(&shared_id);
  SSL_SESSION *second = (SSL_SESSION *)TSSslSessionGet(&shared_id);
  REQUIRE(first != NULL && second != NULL);
  CHECK(first != second && first != session);
  expect_der(first);
  SSL_SESSION_set_timeout(first, 12345);
  SSL_SESSION_free(first);
  expect_der(second);

  /* It outlives its entry. */
  CHECK_INT(TSSslSessionRemove(&shared_id), TS_SUCCESS);
  CHECK(TSSslSessionGet(&shared_id) == NULL);
  expect_der(second);
  CHECK_INT(TSSslSessionInsert(&shared_id, (TSSslSession)second), TS_SUCCESS);
  SSL_SESSION_free(second);

  pthread_t threads[4];
  for (int i = 0; i < 4; i++) {
    REQUIRE(pthread_create(&threads[i], NULL, get_change_free, NULL) == 0);
  }
  for (int i = 0; i < 4; i++) {
    pthread_join(threads[i], NULL);
  }

  /* Absent, invalid, expired, cache off: NULL. */
  TSSslSessionID absent = api_numbered_id(2);
  CHECK(TSSslSessionGet(&absent) == NULL);
  CHECK(TSSslSessionGet(NULL) == NULL);
  const size_t bad[] = {0, 33, (size_t)1 << 40, SIZE_MAX};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    TSSslSessionID id = api_id(bad[i], 1);
    CHECK(TSSslSessionGet(&id) == NULL);
  }

  TSSslSessionID expiring = api_numbered_id(3);
  SSL_SESSION_set_timeout(session, 100);
  SSL_SESSION_set_time(session, (long)time(NULL) - 98);
  CHECK_INT(TSSslSessionInsert(&expiring, (TSSslSession)session), TS_SUCCESS);
  SSL_SESSION *living = (SSL_SESSION *)TSSslSessionGet(&expiring);
  CHECK(living != NULL);
  SSL_SESSION_free(living);
  sleep(3);
  CHECK(TSSslSessionGet(&expiring) == NULL);

  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache", "0"), TS_SUCCESS);
  CHECK(TSSslSessionGet(&shared_id) == NULL);

  OPENSSL_free(shared_der);
  SSL_SESSION_free(session);
  return check_result();
}
