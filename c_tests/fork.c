/** @file

  A process forks while its threads are inside the library. The child has none of
  these threads, and no lock that they held.

  OpenSSL does not release its own locks in a child. The library delays a fork
  while it is inside OpenSSL. The host must do the same for its own calls, as this
  one does when it frees a session or serves a client.

  The argument is the number of forks.

  SPDX-License-Identifier: Apache-2.0
 */

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "folder.h"
#include "tls.h"

#define IDS 16
#define THREADS 8

static SSL_SESSION *session;
static char records_file[300];
static char key_file[300];
static atomic_int running         = 1;
static pthread_mutex_t in_openssl = PTHREAD_MUTEX_INITIALIZER;

static int
ignore_event(TSCont contp, TSEvent event, void *data)
{
  (void)contp, (void)event, (void)data;
  return 0;
}

/* Calls functions for hosts, and serves a client that returns. */
static void
serve(void)
{
  SSL_SESSION *of_client = NULL;
  char text[20000];
  int len = (int)sizeof(text);

  pthread_mutex_lock(&in_openssl);
  SSL_CTX *server = tls_server(TLS1_2_VERSION);
  SSL_CTX *client = tls_client(TLS1_2_VERSION);
  SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
  CHECK_INT(TSSslSessionHookAdd(ignore_event, NULL), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &of_client), 0);
  /* Another thread may have cleared the cache in the meantime. */
  CHECK(tls_visit(server, client, of_client, TLS_CLEAN, NULL) >= 0);
  SSL_SESSION_free(of_client);
  CHECK_INT(TSSslSessionCacheDetach((TSSslContext)server), TS_SUCCESS);
  TSSslSessionHookRemove(ignore_event, NULL);
  tls_free(server, client, NULL);
  pthread_mutex_unlock(&in_openssl);

  CHECK_INT(TSSslSessionCacheConfigLoad(records_file), TS_SUCCESS);
  CHECK_INT(TSSslTicketKeyFileLoad(key_file), TS_SUCCESS);
  CHECK(TSSslSessionCacheStatsText(text, &len) > 0);
  CHECK_INT(TSSslSessionCacheLogSet(NULL, NULL, TS_SSL_SESSION_CACHE_LOG_WARNING), TS_SUCCESS);
}

/* Few IDs, so that some thread always has a lock or waits for one. */
static void
use_all_functions(unsigned long number)
{
  char buffer[1000];
  char key[48];
  int len           = (int)sizeof(buffer);
  TSSslSessionID id = api_numbered_id(number % IDS);

  memset(key, (int)(number % 100) + 1, sizeof(key));
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  if (TSSslSessionGetBuffer(&id, buffer, &len) > 0) {
    CHECK_INT(TSSslSessionInsertBuffer(&id, buffer, len), TS_SUCCESS);
  }
  /* Spends most of the time in OpenSSL. */
  SSL_SESSION *copies[20];
  for (int i = 0; i < 20; i++) {
    copies[i] = (SSL_SESSION *)TSSslSessionGet(&id);
  }
  pthread_mutex_lock(&in_openssl);
  for (int i = 0; i < 20; i++) {
    SSL_SESSION_free(copies[i]);
  }
  pthread_mutex_unlock(&in_openssl);
  if (number % 7 == 0) {
    CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
  }
  if (number % 11 == 0) {
    TSSslTicketKeyUpdate(key, sizeof(key));
    TSSslSessionCacheClear();
    CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", number % 2 ? "10" : "20"), TS_SUCCESS);
  }
}

static void *
hammer(void *arg)
{
  for (unsigned long i = (unsigned long)arg; atomic_load(&running); i++) {
    use_all_functions(i);
    if (i % 100 == 0) {
      serve();
    }
  }
  return NULL;
}

int
main(int argc, char **argv)
{
  static const char *const files[] = {"records.config", "keys"};
  static const char records[]      = "CONFIG proxy.config.ssl.session_cache.size INT 30\n";
  pthread_t threads[THREADS];
  char keys[48];

  api_open();
  folder_make();
  memset(keys, 'f', sizeof(keys));
  folder_write(files[0], records, sizeof(records) - 1, 0600);
  folder_write(files[1], keys, sizeof(keys), 0600);
  snprintf(records_file, sizeof(records_file), "%s", in_folder(files[0]));
  snprintf(key_file, sizeof(key_file), "%s", in_folder(files[1]));
  session = tls_session(0);
  for (size_t i = 0; i < THREADS; i++) {
    REQUIRE(pthread_create(&threads[i], NULL, hammer, (void *)i) == 0);
  }
  for (int i = argc > 1 ? atoi(argv[1]) : check_scaled(100); i > 0; i--) {
    pthread_mutex_lock(&in_openssl);
    pid_t child = fork();
    REQUIRE(child >= 0);
    pthread_mutex_unlock(&in_openssl);
    if (child == 0) {
      /* Ends a child that hangs; the check below then fails. */
      alarm(20);
      serve();
      for (unsigned long n = 0; n < IDS; n++) {
        use_all_functions(n * 77);
      }
      TSSslSessionCacheClear();
      CHECK_INT(api_stat(STAT_ENTRIES), 0);
      CHECK_INT(api_stat(STAT_BYTES), 0);
      /* The child can fork too. */
      pid_t grandchild = fork();
      if (grandchild == 0) {
        use_all_functions(1);
        execl("/bin/true", "true", (char *)NULL);
      }
      check_child(grandchild);
      if (check_failures == 0) {
        /* Not _exit: valgrind would report what the lost threads owned. */
        execl("/bin/true", "true", (char *)NULL);
      }
      _exit(1);
    }
    check_child(child);
    if (check_failures > 0) {
      break;
    }
  }
  atomic_store(&running, 0);
  for (size_t i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
  }
  SSL_SESSION_free(session);
  folder_remove(files, 2);
  return check_result();
}
