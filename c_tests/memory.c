/** @file

  The memory of sessions, and its return to the system.

  SPDX-License-Identifier: Apache-2.0
 */

#include <unistd.h>

#include "api.h"
#include "check.h"
#include "resident.h"
#include "tls.h"

/* KEPT_BYTES: malloc may keep a session's part of tables that smaller ones have replaced. */
enum { SESSIONS = 40000, MOST_BYTES = 290, KEPT_BYTES = 90 };

static SSL_SESSION *session;

/* Stores so many sessions. Returns the memory that they took. */
static long
fill(long sessions)
{
  long before = resident();
  for (long i = 0; i < sessions; i++) {
    TSSslSessionID id = api_numbered_id((unsigned long)i);
    SSL_SESSION_set1_id(session, (const unsigned char *)id.bytes, (unsigned)id.len);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  }
  return resident() - before;
}

int
main(void)
{
  api_open();
  session = tls_session(0);
  fill(1);

  long taken = fill(SESSIONS);
  fprintf(stderr, "%ld bytes a session\n", taken / SESSIONS);
  CHECK(taken / SESSIONS <= MOST_BYTES);
  CHECK(taken / SESSIONS >= 150);
  long full = resident();
  for (long i = 0; i < SESSIONS; i++) {
    TSSslSessionID id = api_numbered_id((unsigned long)i);
    CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
  }
  CHECK(taken - (full - resident()) < KEPT_BYTES * SESSIONS);

  /* The memory can be used again, and Clear returns it too. */
  taken = fill(SESSIONS);
  full  = resident();
  TSSslSessionCacheClear();
  CHECK(taken - (full - resident()) < KEPT_BYTES * SESSIONS);

  SSL_SESSION_free(session);
  return check_result();
}
