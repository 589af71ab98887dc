/** @file

  A process ends without harm while its threads are inside the library: by a return from main, by exit
  in main, and by exit in another thread. Exit handlers of the host, registered before and after the
  first use of the library, call it too.

  SPDX-License-Identifier: Apache-2.0
 */

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "tls.h"

#define THREADS 4
#define IDS 8

enum way { RETURN, EXIT, EXIT_IN_THREAD, WAYS };

static SSL_SESSION *session;
static unsigned char *der;
static int len;
static atomic_int calls;
static atomic_int thread_may_exit;

static void
call(unsigned long number)
{
  char buffer[1000];
  int space         = (int)sizeof(buffer);
  TSSslSessionID id = api_numbered_id(number % IDS);

  /* Results are not checked, because OpenSSL may already have ended. */
  TSSslSessionInsertBuffer(&id, (const char *)der, len);
  TSSslSessionGetBuffer(&id, buffer, &space);
  /* Not freed: only functions of OpenSSL that the library calls are under test. */
  TSSslSessionGet(&id);
  TSSslSessionRemove(&id);
  atomic_fetch_add(&calls, 1);
}

static void *
call_for_ever(void *arg)
{
  for (unsigned long i = (unsigned long)arg;; i++) {
    call(i);
    if ((size_t)arg == 0 && atomic_load(&thread_may_exit)) {
      exit(0);
    }
  }
  return NULL;
}

static void
use_at_exit(void)
{
  for (unsigned long i = 0; i < IDS; i++) {
    call(i);
  }
  TSSslSessionCacheClear();
}

/* stdio calls this after all exit handlers, so that the threads continue for a while then. */
static ssize_t
linger(void *cookie, const char *bytes, size_t size)
{
  (void)cookie, (void)bytes;
  usleep(3000);
  return (ssize_t)size;
}

/* Set in the process that tests the log line for calls after the end of OpenSSL. */
static int is_late;

static int late_lines;

static void
note_line(TSCont contp, int level, const char *tag, const char *line)
{
  (void)contp, (void)level, (void)tag;
  late_lines += strstr(line, "the process is ending, and OpenSSL has cleaned up") != NULL;
}

/* Registered before OpenSSL's exit handler, so it runs after that. OpenSSL 4 has none, and still works. */
static void
use_after_openssl(void)
{
  TSSslSessionID id = api_numbered_id(1);
  int is_there      = OPENSSL_VERSION_MAJOR >= 4;
  if (is_late) {
    CHECK_INT(TSSslSessionInsertBuffer(&id, (const char *)der, len), is_there ? TS_SUCCESS : TS_ERROR);
    CHECK_INT(TSSslSessionGet(&id) != NULL, is_there);
    CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
    CHECK_INT(late_lines, !is_there);
    _exit(check_result());
  }
}

/* Runs the child. main returns its result. */
static int
be_child(int number)
{
  enum way way = (enum way)(number % WAYS);
  pthread_t thread;

  /* Ends a child that hangs. */
  alarm(20);
  FILE *last = fopencookie(NULL, "w", (cookie_io_functions_t){.write = linger});
  REQUIRE(last != NULL && fputc('x', last) == 'x');
  if (number & 1) {
    atexit(use_at_exit);
  }
  for (size_t i = 0; i < THREADS; i++) {
    REQUIRE(pthread_create(&thread, NULL, call_for_ever, (void *)i) == 0);
  }
  while (atomic_load(&calls) < 10 + number) {
    usleep(50);
  }
  if (number & 2) {
    atexit(use_at_exit);
  }
  if (way == EXIT) {
    exit(0);
  }
  if (way == EXIT_IN_THREAD) {
    atomic_store(&thread_may_exit, 1);
    for (;;) {
      pause();
    }
  }
  return 0;
}

int
main(void)
{
  atexit(use_after_openssl);
  api_open();
  session = tls_session(0);
  der     = tls_der(session, &len);
  for (int i = check_scaled(200); i > 0; i--) {
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      return be_child(i);
    }
    check_child(child);
  }
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    is_late = 1;
    REQUIRE(TSSslSessionCacheLogSet(note_line, NULL, TS_SSL_SESSION_CACHE_LOG_WARNING) == TS_SUCCESS);
    exit(check_result());
  }
  check_child(child);
  OPENSSL_free(der);
  SSL_SESSION_free(session);
  return check_result();
}
