/** @file

  With clocks that step and any times in sessions, no session lives too long.

  SPDX-License-Identifier: Apache-2.0
 */

#include <limits.h>

#include "api.h"
#include "check.h"
#include "clocks.h"
#include "tls.h"

enum { HOUR = 3600, DAY = 24 * HOUR, WEEK = 7 * DAY };

/* Steps the wall clock. The library reads both clocks once a second. */
static void
step_wall(long seconds)
{
  wall_ahead += seconds;
  wait_for(1);
}

static SSL_SESSION *
session_of(int version, long made, long timeout)
{
  static SSL_SESSION *base;
  if (base == NULL) {
    base = tls_session(0);
  }
  SSL_SESSION *session = SSL_SESSION_dup(base);
  REQUIRE(session != NULL && SSL_SESSION_set_protocol_version(session, version) == 1);
  tls_set_time(session, made);
  SSL_SESSION_set_timeout(session, timeout);
  return session;
}

static TSSslSessionID id = {4, "time"};

static TSReturnCode
insert(int version, long made, long timeout)
{
  SSL_SESSION *session = session_of(version, made, timeout);
  TSSslSessionRemove(&id);
  TSReturnCode result = TSSslSessionInsert(&id, (TSSslSession)session);
  SSL_SESSION_free(session);
  return result;
}

static int
is_there(void)
{
  int len         = 0;
  int by_bytes    = TSSslSessionGetBuffer(&id, NULL, &len) > 0;
  SSL_SESSION *by = (SSL_SESSION *)TSSslSessionGet(&id);
  CHECK_INT(by != NULL, by_bytes);
  SSL_SESSION_free(by);
  return by_bytes;
}

/* The session is there until just before so many seconds have passed, and then no longer. */
static void
check_lives(long seconds)
{
  CHECK(is_there());
  wait_for(seconds - 2);
  CHECK(is_there());
  wait_for(3);
  CHECK(!is_there());
}

/* A negative timeout: no function of OpenSSL sets one, but its decoder accepts it. */
static void
check_negative(int version)
{
  SSL_SESSION *session = session_of(version, (long)time(NULL) + HOUR, 0x11223344);
  int len              = 0;
  unsigned char *der   = tls_der(session, &len);
  unsigned char *end   = der + len;
  unsigned char *at    = der;
  while (at + 4 < end && memcmp(at, "\x11\x22\x33\x44", 4) != 0) {
    at++;
  }
  REQUIRE(at + 4 < end);
  TSSslSessionRemove(&id);
  CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)der, len), TS_SUCCESS);
  TSSslSessionRemove(&id);
  *at = 0xff;
  CHECK_INT(TSSslSessionInsertBuffer(&id, (char *)der, len), TS_ERROR);
  CHECK(!is_there());
  OPENSSL_free(der);
  SSL_SESSION_free(session);
}

static void
check_caps(void)
{
  static const struct {
    int version;
    long most;
  } caps[]                 = {{TLS1_VERSION, DAY}, {TLS1_2_VERSION, DAY}, {TLS1_3_VERSION, WEEK}};
  static const long huge[] = {2 * WEEK, 365L * DAY, 1L << 32, 1L << 62, LONG_MAX};
  /* OpenSSL 3.3 and later count nanoseconds, and make this timeout 0. */
  SSL_SESSION *session = session_of(TLS1_3_VERSION, 1, 1L << 62);
  int none             = SSL_SESSION_get_timeout(session) == 0;
  CHECK_INT(none, OPENSSL_VERSION_NUMBER >= 0x30300000L);
  SSL_SESSION_free(session);
  for (size_t c = 0; c < sizeof(caps) / sizeof(caps[0]); c++) {
    long most = caps[c].most;
    for (size_t i = 0; i < sizeof(huge) / sizeof(huge[0]); i++) {
      if (none && huge[i] == 1L << 62) {
        CHECK_INT(insert(caps[c].version, (long)time(NULL), huge[i]), TS_ERROR);
        continue;
      }
      CHECK_INT(insert(caps[c].version, (long)time(NULL), huge[i]), TS_SUCCESS);
      check_lives(most);
      /* Its life begins when it was made, not when it was inserted. */
      CHECK_INT(insert(caps[c].version, (long)time(NULL) - HOUR, huge[i]), TS_SUCCESS);
      check_lives(most - HOUR);
      CHECK_INT(insert(caps[c].version, (long)time(NULL) - most - 1, huge[i]), TS_ERROR);
      /* If it was made in the future, its life begins now. */
      CHECK_INT(insert(caps[c].version, (long)time(NULL) + 10 * WEEK, huge[i]), TS_SUCCESS);
      check_lives(most);
      CHECK_INT(insert(caps[c].version, LONG_MAX, huge[i]), TS_SUCCESS);
      check_lives(most);
      CHECK_INT(insert(caps[c].version, LONG_MIN, huge[i]), TS_ERROR);
    }
    /* A timeout below the cap is used as it is. */
    CHECK_INT(insert(caps[c].version, (long)time(NULL), 300), TS_SUCCESS);
    check_lives(300);
    CHECK_INT(insert(caps[c].version, (long)time(NULL), 0), TS_ERROR);
    CHECK_INT(insert(caps[c].version, (long)time(NULL) + HOUR, 0), TS_ERROR);
    check_negative(caps[c].version);
  }
}

static void
check_steps(void)
{
  /* An hour back: the session still ends after its timeout. */
  CHECK_INT(insert(TLS1_2_VERSION, (long)time(NULL), 600), TS_SUCCESS);
  wait_for(300);
  step_wall(-HOUR);
  CHECK(is_there());
  wait_for(297);
  CHECK(is_there());
  wait_for(5);
  CHECK(!is_there());

  /* Inserted while the wall clock is behind: when that is put right, the session is over at once,
     because its time came from that clock. */
  CHECK_INT(insert(TLS1_2_VERSION, (long)time(NULL), 600), TS_SUCCESS);
  step_wall(HOUR);
  CHECK(!is_there());

  /* A year forward: the session is over, and does not return when the clock is set back. */
  CHECK_INT(insert(TLS1_3_VERSION, (long)time(NULL), WEEK), TS_SUCCESS);
  CHECK(is_there());
  step_wall(365L * DAY);
  CHECK(!is_there());
  step_wall(-365L * DAY);
  CHECK(!is_there());
  CHECK_INT(insert(TLS1_3_VERSION, (long)time(NULL), 600), TS_SUCCESS);
  check_lives(600);

  /* The wall clock is set back again and again. */
  CHECK_INT(insert(TLS1_2_VERSION, (long)time(NULL), LONG_MAX), TS_SUCCESS);
  for (int hours = 0; hours < 23; hours++) {
    wait_for(HOUR);
    step_wall(-HOUR - 1);
    CHECK(is_there());
  }
  wait_for(HOUR);
  step_wall(-HOUR - 1);
  CHECK(!is_there());
}

/* How long clients resume at a host that has set a timeout of a month. */
static void
check_handshakes(int version, int by_ticket, long most)
{
  SSL_CTX *server      = tls_server(version);
  SSL_CTX *client      = tls_client(version);
  SSL_SESSION *session = NULL;
  if (!by_ticket) {
    SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
  }
  SSL_CTX_set_timeout(server, 30L * DAY);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  for (int late = 0; late < 2; late++) {
    wait_for(late ? 10 : most - 5);
    /* For the client the session is still good. */
    SSL_SESSION *offered = SSL_SESSION_dup(session);
    tls_set_time(offered, (long)time(NULL));
    CHECK_INT(tls_visit(server, client, offered, TLS_CLEAN, NULL), !late);
    SSL_SESSION_free(offered);
  }
  SSL_SESSION_free(session);

  /* The host gets its own timeout back. */
  CHECK_INT(TSSslSessionCacheDetach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(SSL_CTX_get_timeout(server), 30L * DAY);
  tls_free(server, client, NULL);
}

int
main(void)
{
  api_open();
  check_caps();
  check_steps();
  check_handshakes(TLS1_2_VERSION, 0, DAY);
  check_handshakes(TLS1_2_VERSION, 1, WEEK);
  check_handshakes(TLS1_3_VERSION, 0, WEEK);
  check_handshakes(TLS1_3_VERSION, 1, WEEK);
  return check_result();
}
