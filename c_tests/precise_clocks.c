/** @file

  A system whose coarse clocks are precise, as in some sandboxes: no two readings are equal. The
  clock_gettime of this program replaces that of the C library.

  SPDX-License-Identifier: Apache-2.0
 */

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "tls.h"

static long readings;

int
clock_gettime(clockid_t clock, struct timespec *now)
{
  if (clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_REALTIME_COARSE) {
    readings++;
    clock = clock == CLOCK_MONOTONIC_COARSE ? CLOCK_MONOTONIC : CLOCK_REALTIME;
  }
  return (int)syscall(SYS_clock_gettime, clock, now);
}

int
main(void)
{
  api_open();
  TSSslSessionID id    = api_numbered_id(1);
  SSL_SESSION *session = tls_session(0);
  tls_set_time(session, (long)time(NULL));
  SSL_SESSION_set_timeout(session, 2);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  int len = 0;
  CHECK(TSSslSessionGetBuffer(&id, NULL, &len) > 0);
  sleep(3);
  CHECK_INT(TSSslSessionGetBuffer(&id, NULL, &len), 0);
  CHECK(readings > 0);
  SSL_SESSION_free(session);
  return check_result();
}
