/** @file

  What the sessions take of the machine's memory, and that it comes back.

  SPDX-License-Identifier: Apache-2.0
 */

#include <unistd.h>

#include "api.h"
#include "check.h"
#include "resident.h"
#include "tls.h"

/* Of a session that is gone malloc keeps its part of tables that were exchanged for smaller ones. */
enum { SESSIONS = 40000, MOST_BYTES = 290, KEPT_BYTES = 90 };

static SSL_SESSION *session;

/* Stores that many, each under its own ID; returns how much memory that took. */
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

  /* What comes back can be had again. */
  taken = fill(SESSIONS);
  full  = resident();
  TSSslSessionCacheClear();
  CHECK(taken - (full - resident()) < KEPT_BYTES * SESSIONS);

  SSL_SESSION_free(session);
  return check_result();
}
