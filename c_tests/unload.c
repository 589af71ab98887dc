/** @file

  A host that loads the library, uses it, and closes it again, more than once.
  What was registered with OpenSSL, with threads and with the process lives on.

  SPDX-License-Identifier: Apache-2.0
 */

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "tls.h"

static void
close_library(void)
{
  void *library = dlopen("libtssession.so.0", RTLD_NOW | RTLD_NOLOAD);
  REQUIRE(library != NULL);
  /* This handle, and the one of api_open. */
  CHECK_INT(dlclose(library), 0);
  CHECK_INT(dlclose(library), 0);
}

static void *
use_and_close(void *arg)
{
  TSSslSessionID id = api_numbered_id(1);
  (void)arg;
  TSSslSessionGet(&id);
  close_library();
  return NULL;
}

int
main(void)
{
  pthread_t thread;

  /* Used by a thread that ends after the close. */
  api_open();
  REQUIRE(pthread_create(&thread, NULL, use_and_close, NULL) == 0);
  REQUIRE(pthread_join(thread, NULL) == 0);

  SSL_CTX *server      = tls_server(TLS1_2_VERSION);
  SSL_CTX *client      = tls_client(TLS1_2_VERSION);
  SSL_SESSION *session = NULL;
  api_open();
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  close_library();

  /* The context does not notice. */
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);

  for (int i = 0; i < 20; i++) {
    api_open();
    TSSslSessionID id = api_numbered_id(1);
    CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
    close_library();
  }

  /* Nor does a fork. */
  pid_t child = fork();
  if (child == 0) {
    _exit(0);
  }
  int status = 1;
  CHECK_INT(waitpid(child, &status, 0), child);

  SSL_SESSION_free(session);
  SSL_CTX_free(server);
  SSL_CTX_free(client);
  return check_result();
}
