/** @file

  A host that attaches its own data to every session: each session has one datum, which is
  freed once, wherever the session comes from.

  SPDX-License-Identifier: Apache-2.0
 */

#include <pthread.h>

#include "api.h"
#include "check.h"
#include "tls.h"

static int made;
static int freed;

static void
new_data(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long number, void *arg)
{
  (void)parent, (void)pointer, (void)number, (void)arg;
  /* Inside the library, a thread is not cancelled. */
  pthread_testcancel();
  made++;
  CHECK(CRYPTO_set_ex_data(data, index, strdup("the host's")) == 1);
}

static void
free_data(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long number, void *arg)
{
  (void)parent, (void)data, (void)index, (void)number, (void)arg;
  freed += pointer != NULL;
  free(pointer);
}

/* Fetches a session several times. The letter selects its class: the first session of a class is
   decoded, later ones are made from a template. */
static void
fetch(unsigned char letter, int index, const char *expected)
{
  TSSslSessionID id    = api_numbered_id(1);
  SSL_SESSION *session = tls_session(0);
  CHECK(SSL_SESSION_set1_id_context(session, &letter, 1) == 1);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  for (int i = 0; i < 3; i++) {
    SSL_SESSION *got = (SSL_SESSION *)TSSslSessionGet(&id);
    REQUIRE(got != NULL);
    if (expected != NULL) {
      const char *data = SSL_SESSION_get_ex_data(got, index);
      CHECK(data != NULL && strcmp(data, expected) == 0);
      CHECK(data != SSL_SESSION_get_ex_data(session, index));
    }
    SSL_SESSION_free(got);
  }
  SSL_SESSION_free(session);
}

static void *
be_cancelled(void *got)
{
  TSSslSessionID id = api_numbered_id(1);
  pthread_cancel(pthread_self());
  *(TSSslSession *)got = TSSslSessionGet(&id);
  pthread_testcancel();
  return NULL;
}

int
main(void)
{
  api_open();
  /* A class that the library knows before the host attaches data, and one from after that. */
  fetch('a', -1, NULL);
  int index = SSL_SESSION_get_ex_new_index(0, NULL, new_data, NULL, free_data);
  REQUIRE(index > 0);
  fetch('b', index, "the host's");
  fetch('a', index, "the host's");
  pthread_t thread;
  TSSslSession got = NULL;
  void *result     = NULL;
  REQUIRE(pthread_create(&thread, NULL, be_cancelled, &got) == 0);
  REQUIRE(pthread_join(thread, &result) == 0);
  CHECK(result == PTHREAD_CANCELED && got != NULL);
  SSL_SESSION_free((SSL_SESSION *)got);
  CHECK(made > 0);
  CHECK_INT(freed, made);
  return check_result();
}
