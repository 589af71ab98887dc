/** @file

  A fork within a fork, for example in a signal handler that runs after the library has prepared for the
  first one. All four processes continue with the cached sessions.

  A fork handler that is registered before those of the library plays the signal handler. Therefore this
  test cannot be linked with the library.

  SPDX-License-Identifier: Apache-2.0
 */

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "tls.h"

static SSL_SESSION *session;
static int is_to_fork;
static pid_t inner = -1;

static void
fork_again(void)
{
  if (is_to_fork) {
    is_to_fork = 0;
    inner      = fork();
    REQUIRE(inner >= 0);
  }
}

static void *
use_library(void *arg)
{
  TSSslSessionID id = api_numbered_id(1), other = api_numbered_id(2);
  SSL_SESSION *got = (SSL_SESSION *)TSSslSessionGet(&id);
  (void)arg;
  CHECK(got != NULL);
  SSL_SESSION_free(got);
  CHECK_INT(TSSslSessionInsert(&other, (TSSslSession)session), TS_SUCCESS);
  CHECK_INT(TSSslSessionRemove(&other), TS_SUCCESS);
  return NULL;
}

static void
expect_success(pid_t child)
{
  int status = 1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK_INT(status, 0);
}

int
main(void)
{
  TSSslSessionID id = api_numbered_id(1);
  pthread_t thread;

  REQUIRE(pthread_atfork(fork_again, NULL, NULL) == 0);
  api_open();
  session = tls_session(0);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  is_to_fork  = 1;
  pid_t outer = fork();
  REQUIRE(outer >= 0 && inner >= 0);

  /* Ends a child that waits forever. */
  alarm(20);
  use_library(NULL);
  REQUIRE(pthread_create(&thread, NULL, use_library, NULL) == 0);
  REQUIRE(pthread_join(thread, NULL) == 0);
  if (outer > 0) {
    expect_success(outer);
  }
  /* The outer child has inherited `inner`, but only the parent can wait for it. */
  if (inner > 0 && outer > 0) {
    expect_success(inner);
  }
  SSL_SESSION_free(session);
  return check_result();
}
