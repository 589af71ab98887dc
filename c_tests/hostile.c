/** @file

  Invalid arguments: each has a defined result, nothing crashes, and no cached session
  is lost.

  SPDX-License-Identifier: Apache-2.0
 */

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "tls.h"

static char *page_end;

/* Returns an ID whose last significant byte is the last byte of readable memory. */
static const TSSslSessionID *
id_at_page_end(size_t len, const char *bytes)
{
  char *start = page_end - offsetof(TSSslSessionID, bytes) - len;
  memcpy(start, &len, sizeof(len));
  memcpy(start + offsetof(TSSslSessionID, bytes), bytes, len);
  return (const TSSslSessionID *)(const void *)start;
}

/* Returns an ID of which only the length can be read. The length is invalid, so no byte may be read. */
static const TSSslSessionID *
bad_len_at_page_end(size_t len)
{
  char *start = page_end - sizeof(len);
  memcpy(start, &len, sizeof(len));
  return (const TSSslSessionID *)(const void *)start;
}

/* Logging and waiting do not disturb the host. */
static void
check_process_state(void)
{
  /* stderr is a pipe without a reader. */
  int ends[2];
  int stderr_before = dup(STDERR_FILENO);
  REQUIRE(stderr_before >= 0 && pipe(ends) == 0);
  close(ends[0]);
  dup2(ends[1], STDERR_FILENO);
  close(ends[1]);
  errno = 1234;
  CHECK(TSSslSessionGet(NULL) == NULL);
  int errno_after = errno;
  sigset_t pending;
  sigpending(&pending);
  dup2(stderr_before, STDERR_FILENO);
  close(stderr_before);
  CHECK_INT(errno_after, 1234);
  CHECK_INT(sigismember(&pending, SIGPIPE), 0);
}

/* A thread that is cancelled while it logs ends after the call, not in it. */
static void *
be_cancelled(void *arg)
{
  TSSslSessionID id = api_numbered_id(1);
  pthread_cancel(pthread_self());
  TSSslSessionGet(NULL);
  TSSslTicketKeyFileLoad("/etc/passwd");
  TSSslTicketKeyFileLoad("/no/such/file");
  TSSslSessionInsertBuffer(&id, "0", 1);
  *(int *)arg = 1;
  pthread_testcancel();
  *(int *)arg = 2;
  return NULL;
}

static void
check_cancel(void)
{
  pthread_t thread;
  int got_to   = 0;
  void *result = NULL;
  REQUIRE(pthread_create(&thread, NULL, be_cancelled, &got_to) == 0);
  REQUIRE(pthread_join(thread, &result) == 0);
  CHECK(result == PTHREAD_CANCELED);
  CHECK_INT(got_to, 1);
}

static int
ignore_event(TSCont contp, TSEvent event, void *edata)
{
  (void)contp, (void)event, (void)edata;
  return 0;
}

int
main(void)
{
  api_open();
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *start = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(start != MAP_FAILED && mprotect(start + page, page, PROT_NONE) == 0);
  page_end = start + page;

  SSL_SESSION *session = tls_session(0);
  TSSslSession opaque  = (TSSslSession)session;
  TSSslSessionID kept  = api_numbered_id(1);
  CHECK_INT(TSSslSessionInsert(&kept, opaque), TS_SUCCESS);

  /* A struct at the end of the memory: for most lengths it is not aligned. */
  const char bytes[] = "0123456789abcdef0123456789abcdef";
  for (size_t len = 1; len <= 32; len++) {
    const TSSslSessionID *id = id_at_page_end(len, bytes);
    int space                = 0;
    CHECK_INT(TSSslSessionInsert(id, opaque), TS_SUCCESS);
    CHECK(TSSslSessionGetBuffer(id, NULL, &space) > 0);
    SSL_SESSION *copy = (SSL_SESSION *)TSSslSessionGet(id);
    CHECK(copy != NULL);
    SSL_SESSION_free(copy);
    CHECK_INT(TSSslSessionRemove(id), TS_SUCCESS);
    CHECK(TSSslSessionGet(id) == NULL);
  }

  const size_t bad[] = {0, 33, 255, 256, (size_t)1 << 31, (size_t)1 << 32, (size_t)1 << 40, SIZE_MAX - 8, SIZE_MAX};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    const TSSslSessionID *id = bad_len_at_page_end(bad[i]);
    int space                = 100;
    char buffer[100];
    CHECK(TSSslSessionGet(id) == NULL);
    CHECK_INT(TSSslSessionGetBuffer(id, buffer, &space), 0);
    CHECK_INT(TSSslSessionInsert(id, opaque), TS_ERROR);
    CHECK_INT(TSSslSessionRemove(id), TS_ERROR);
  }

  /* The ID, the buffer and the length share memory. */
  TSSslSessionID id = kept;
  int len           = (int)sizeof(id.bytes);
  CHECK(TSSslSessionGetBuffer(&id, id.bytes, &len) > 32);
  CHECK_INT(len, 32);

  /* Ticket data. */
  char keys[96];
  memset(keys, 3, sizeof(keys));
  TSSslTicketKeyUpdate(NULL, 0);
  TSSslTicketKeyUpdate(NULL, 48);
  TSSslTicketKeyUpdate(NULL, INT_MAX);
  TSSslTicketKeyUpdate(NULL, INT_MIN);
  TSSslTicketKeyUpdate(keys, INT_MIN);
  TSSslTicketKeyUpdate(keys, -48);
  TSSslTicketKeyUpdate(page_end, 0);
  CHECK_INT(api_stat(STAT_KEYS_RENEWED), 0);
  memcpy(page_end - 48, keys, 48);
  TSSslTicketKeyUpdate(page_end - 48, 48);
  CHECK_INT(api_stat(STAT_KEYS_RENEWED), 1);

  /* The functions for hosts. */
  int64_t value = 77;
  CHECK_INT(TSSslSessionCacheAttach(NULL), TS_ERROR);
  CHECK_INT(TSSslSessionCacheDetach(NULL), TS_ERROR);
  CHECK_INT(TSSslSessionCacheConfigSet(NULL, "1"), TS_ERROR);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", NULL), TS_ERROR);
  CHECK_INT(TSSslSessionCacheConfigSet("\xff\xfe", "\xff"), TS_ERROR);
  CHECK_INT(TSSslSessionCacheConfigSet("line\nbreak", "1"), TS_ERROR);
  CHECK_INT(TSSslSessionCacheStatGet(NULL, &value), TS_ERROR);
  CHECK_INT(TSSslSessionCacheStatGet(STAT_HIT, NULL), TS_ERROR);
  CHECK_INT(TSSslSessionCacheStatGet("no.such.counter", &value), TS_ERROR);
  CHECK_INT(value, 77);
  CHECK_INT(TSSslSessionHookAdd(NULL, NULL), TS_ERROR);
  CHECK_INT(TSSslSessionHookRemove(NULL, NULL), TS_ERROR);
  CHECK_INT(TSSslSessionHookRemove(ignore_event, NULL), TS_ERROR);

  check_process_state();
  check_cancel();

  /* A flood of bad calls does not fill the disk: tests/c_programs.rs counts the lines. */
  for (int i = 0; i < 10000; i++) {
    TSSslSessionRemove(NULL);
  }

  /* Nothing was lost. */
  SSL_SESSION *copy = (SSL_SESSION *)TSSslSessionGet(&kept);
  CHECK(copy != NULL);
  SSL_SESSION_free(copy);

  SSL_SESSION_free(session);
  munmap(start, 2 * page);
  return check_result();
}
