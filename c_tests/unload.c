/** @file

  A host loads the library, uses it and closes it, more than once, even while its threads use it. All that the
  library registered with OpenSSL, with threads and with the process still works.

  SPDX-License-Identifier: Apache-2.0
 */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "tls.h"

static void
close_library(void)
{
  void *library = dlopen("libtssession.so", RTLD_NOW | RTLD_NOLOAD);
  REQUIRE(library != NULL);
  /* This handle, and that of api_open. */
  CHECK_INT(dlclose(library), 0);
  CHECK_INT(dlclose(library), 0);
}

static void *
use_once(void *arg)
{
  TSSslSessionID id = api_numbered_id(2);
  (void)arg;
  CHECK(TSSslSessionGet(&id) == NULL);
  return NULL;
}

static void *
use_and_close(void *arg)
{
  use_once(arg);
  close_library();
  return NULL;
}

#define THREADS 4

static SSL_CTX *server;
static SSL_SESSION *session;
static atomic_int is_over;
static atomic_long rounds;

/* Uses the library all the time, with a few handshakes. */
static void *
use_for_long(void *arg)
{
  TSSslSessionID id = api_numbered_id(100 + (unsigned long)(size_t)arg);
  SSL_CTX *client   = tls_client(TLS1_2_VERSION);
  SSL_SESSION *resume;
  char buffer[1000];

  for (int i = 0; i == 0 || !atomic_load(&is_over); i++) {
    int space = (int)sizeof(buffer);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
    CHECK(TSSslSessionGetBuffer(&id, buffer, &space) > 0);
    SSL_SESSION *got = (SSL_SESSION *)TSSslSessionGet(&id);
    CHECK(got != NULL);
    SSL_SESSION_free(got);
    CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
    if (i % 16 == 0) {
      CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &resume), 0);
      CHECK_INT(tls_visit(server, client, resume, TLS_CLEAN, NULL), 1);
      SSL_SESSION_free(resume);
    }
    atomic_fetch_add(&rounds, 1);
  }
  SSL_CTX_free(client);
  return NULL;
}

/* The library is closed and opened while threads are inside it, begin to use it, and end: it stays in
   memory, at its place. */
static void
check_threads(void)
{
  pthread_t threads[THREADS], other;
  TSSslSessionID id = api_numbered_id(1);

  server  = tls_server(TLS1_2_VERSION);
  session = tls_session(0);
  api_open();
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  for (size_t i = 0; i < THREADS; i++) {
    REQUIRE(pthread_create(&threads[i], NULL, use_for_long, (void *)i) == 0);
  }
  for (int i = check_scaled(200); i > 0; i--) {
    long before = atomic_load(&rounds);
    close_library();
    void *found = dlopen("libtssession.so", RTLD_NOW | RTLD_NOLOAD);
    REQUIRE(found != NULL);
    void *get = dlsym(found, "TSSslSessionGet");
    CHECK(memcmp(&get, &TSSslSessionGet, sizeof(get)) == 0);
    CHECK_INT(dlclose(found), 0);
    /* All handles are closed, while threads use the library and a new thread begins to. */
    while (atomic_load(&rounds) < before + THREADS) {
      usleep(50);
    }
    REQUIRE(pthread_create(&other, NULL, use_once, NULL) == 0);
    REQUIRE(pthread_join(other, NULL) == 0);
    REQUIRE(dlopen("libtssession.so", RTLD_NOW | RTLD_LOCAL) != NULL);
  }
  atomic_store(&is_over, 1);
  for (size_t i = 0; i < THREADS; i++) {
    REQUIRE(pthread_join(threads[i], NULL) == 0);
  }
  SSL_SESSION *got = (SSL_SESSION *)TSSslSessionGet(&id);
  CHECK(got != NULL);
  SSL_SESSION_free(got);
  SSL_SESSION_free(session);
  SSL_CTX_free(server);
  close_library();
}

/* No other thread has used the library. (The C library keeps a library loaded while there are threads
   with a destructor in it.) */
static void *
attach_and_close(void *arg)
{
  api_open();
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)arg), TS_SUCCESS);
  close_library();
  return NULL;
}

static void
check_context(void)
{
  SSL_SESSION *resume = NULL;
  SSL_CTX *client     = tls_client(TLS1_2_VERSION);
  pthread_t thread;

  server = tls_server(TLS1_2_VERSION);
  SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
  REQUIRE(pthread_create(&thread, NULL, attach_and_close, server) == 0);
  REQUIRE(pthread_join(thread, NULL) == 0);
  /* The thread has ended: only now could the library be unloaded. */
  void *library = dlopen("libtssession.so", RTLD_NOW | RTLD_NOLOAD);
  REQUIRE(library != NULL);
  CHECK_INT(dlclose(library), 0);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &resume), 0);
  CHECK_INT(tls_visit(server, client, resume, TLS_CLEAN, NULL), 1);
  tls_free(server, client, resume);
}

int
main(void)
{
  pthread_t thread;

  check_context();
  check_threads();

  /* A thread uses the library, and ends after the close. */
  api_open();
  REQUIRE(pthread_create(&thread, NULL, use_and_close, NULL) == 0);
  REQUIRE(pthread_join(thread, NULL) == 0);

  SSL_CTX *client = tls_client(TLS1_2_VERSION);
  server          = tls_server(TLS1_2_VERSION);
  session         = NULL;
  api_open();
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  close_library();

  /* The context still works. */
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);

  for (int i = 0; i < 20; i++) {
    api_open();
    TSSslSessionID id = api_numbered_id(1);
    CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
    close_library();
  }

  /* So does a fork. */
  pid_t child = fork();
  if (child == 0) {
    _exit(0);
  }
  int status = 1;
  CHECK_INT(waitpid(child, &status, 0), child);

  tls_free(server, client, session);
  return check_result();
}
