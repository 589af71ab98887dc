/** @file

  The limits, expiry, settings and counters of the cache.

  SPDX-License-Identifier: Apache-2.0
 */

#include <dirent.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "tls.h"

#define RECORD "proxy.config.ssl.session_cache"

static SSL_SESSION *session;
static int session_len;

static TSReturnCode
set(const char *name, const char *value)
{
  return TSSslSessionCacheConfigSet(name, value);
}

static void
set_number(const char *name, long value)
{
  char text[32];
  snprintf(text, sizeof(text), "%ld", value);
  CHECK_INT(set(name, text), TS_SUCCESS);
}

static TSReturnCode
insert(unsigned long number)
{
  TSSslSessionID id = api_numbered_id(number);
  return TSSslSessionInsert(&id, (TSSslSession)session);
}

static int
is_present(unsigned long number)
{
  int len           = 0;
  TSSslSessionID id = api_numbered_id(number);
  return TSSslSessionGetBuffer(&id, NULL, &len) > 0;
}

static long
count_present(unsigned long from, unsigned long to)
{
  long count = 0;
  for (unsigned long i = from; i < to; i++) {
    count += is_present(i);
  }
  return count;
}

/* stored - replaced - removed - evicted - expired - cleared = entries */
static void
check_sum(void)
{
  CHECK_INT(api_stat(STAT_NEW) - api_stat(STAT_REPLACED) - api_stat(STAT_REMOVED) - api_stat(STAT_EVICTION) -
              api_stat(STAT_EXPIRED) - api_stat(STAT_CLEARED),
            api_stat(STAT_ENTRIES));
}

static int
count_threads(void)
{
  int count  = 0;
  DIR *tasks = opendir("/proc/self/task");
  REQUIRE(tasks != NULL);
  for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
    count += task->d_name[0] != '.';
  }
  closedir(tasks);
  return count;
}

static void
check_entry_bound(long size)
{
  TSSslSessionCacheClear();
  set_number(RECORD ".size", size);
  long long evicted = api_stat(STAT_EVICTION);
  for (long i = 0; i < 5 * size + 20; i++) {
    CHECK_INT(insert((unsigned long)i), TS_SUCCESS);
    CHECK(is_present((unsigned long)i));
    CHECK(api_stat(STAT_ENTRIES) <= size);
  }
  CHECK_INT(api_stat(STAT_ENTRIES), size);
  CHECK_INT(count_present(0, (unsigned long)(5 * size + 20)), size);
  CHECK_INT(api_stat(STAT_EVICTION), evicted + 4 * size + 20);
  check_sum();
}

static void
check_byte_bound(long sessions)
{
  TSSslSessionCacheClear();
  set_number(RECORD ".size", 1000);
  set_number("tssession.session_cache.max_bytes", sessions * session_len + session_len / 2);
  for (unsigned long i = 0; i < 100; i++) {
    CHECK_INT(insert(i), TS_SUCCESS);
    CHECK(api_stat(STAT_BYTES) <= sessions * session_len + session_len / 2);
  }
  CHECK_INT(api_stat(STAT_ENTRIES), sessions);
  CHECK_INT(api_stat(STAT_BYTES), sessions * session_len);
  CHECK_INT(count_present(0, 100), sessions);
  set_number("tssession.session_cache.max_bytes", 0);
  check_sum();
}

/* Sessions of nearly the largest size, with small ones between them. */
static void
check_large_sessions(long size, long max_bytes)
{
  SSL_SESSION *small = session;
  SSL_SESSION *large = tls_session(14500);
  int large_len      = i2d_SSL_SESSION(large, NULL);
  REQUIRE(large_len > 14000 && large_len <= 16384);
  TSSslSessionCacheClear();
  set_number(RECORD ".size", size);
  set_number("tssession.session_cache.max_bytes", max_bytes);
  for (unsigned long i = 0; i < 200; i++) {
    session  = i % 3 == 0 ? small : large;
    int fits = (session == small ? session_len : large_len) <= max_bytes;
    CHECK_INT(insert(i % 70), fits ? TS_SUCCESS : TS_ERROR);
    CHECK_INT(!fits || is_present(i % 70), 1);
    CHECK(api_stat(STAT_ENTRIES) <= size && api_stat(STAT_BYTES) <= max_bytes);
  }
  session = small;
  set_number("tssession.session_cache.max_bytes", 0);
  set_number(RECORD ".size", 1000);
  check_sum();
  SSL_SESSION_free(large);
}

int
main(void)
{
  api_open();
  session     = tls_session(0);
  session_len = i2d_SSL_SESSION(session, NULL);

  /* Counters before anything happened. */
  CHECK_INT(api_stat(STAT_ENTRIES), 0);
  CHECK_INT(api_stat(STAT_GET), 0);

  /* Names and ranges of settings. */
  CHECK_INT(set("proxy.config.ssl.session_cache.sizes", "1"), TS_ERROR);
  CHECK_INT(set("", ""), TS_ERROR);
  const char *bad[] = {"", "0", "-1", "many", "1.5", "0x", "99999999999999999999", "2000000000"};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    CHECK_INT(set(RECORD ".size", bad[i]), TS_ERROR);
  }
  CHECK_INT(set(RECORD, "3"), TS_ERROR);
  CHECK_INT(set(RECORD ".num_buckets", "64"), TS_SUCCESS);
  CHECK_INT(set(RECORD ".skip_cache_on_bucket_contention", "2"), TS_ERROR);
  CHECK_INT(set("proxy.config.ssl.server.ticket_key.filename", "NULL"), TS_SUCCESS);
  CHECK_INT(set("proxy.config.ssl.server.cert.path", "/etc"), TS_SUCCESS);

  /* Lookups are counted one by one. */
  CHECK_INT(insert(1), TS_SUCCESS);
  CHECK(is_present(1) && is_present(1) && !is_present(2));
  CHECK_INT(api_stat(STAT_GET ".found"), 2);
  CHECK_INT(api_stat(STAT_GET ".absent"), 1);
  CHECK_INT(api_stat(STAT_GET), 3);
  CHECK_INT(api_stat(STAT_HIT), 0);
  CHECK_INT(api_stat(STAT_MISS), 0);

  /* The limits, even of one session, in number and in bytes. */
  const long sizes[] = {1, 2, 3, 4, 5, 8, 100, 1000};
  for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    check_entry_bound(sizes[i]);
  }
  check_byte_bound(1);
  check_byte_bound(7);
  for (long size = 1; size <= 64; size *= 4) {
    check_large_sessions(size, 10000);
    check_large_sessions(size, 16384);
    check_large_sessions(size, 40000);
    check_large_sessions(size, 1 << 20);
  }

  /* A smaller size keeps as many as fit. */
  TSSslSessionCacheClear();
  for (unsigned long i = 0; i < 500; i++) {
    CHECK_INT(insert(i), TS_SUCCESS);
  }
  set_number(RECORD ".size", 200);
  CHECK_INT(api_stat(STAT_ENTRIES), 200);
  CHECK_INT(count_present(0, 500), 200);
  set_number(RECORD ".size", 102400);

  /* Calls do not count as use of a session, not even an insert of the same session: a flood of others
     evicts it. handshake.c tests a session that is used. */
  TSSslSessionCacheClear();
  set_number(RECORD ".size", 100);
  CHECK_INT(insert(0), TS_SUCCESS);
  for (unsigned long i = 1; i < 2000 && is_present(0); i++) {
    CHECK_INT(insert(0), TS_SUCCESS);
    CHECK_INT(insert(i), TS_SUCCESS);
  }
  CHECK(!is_present(0));
  set_number(RECORD ".size", 102400);
  check_sum();

  /* Inserts remove expired sessions that nobody looks up. */
  TSSslSessionCacheClear();
  long long expired = api_stat(STAT_EXPIRED);
  SSL_SESSION_set_timeout(session, 100);
  tls_set_time(session, (long)time(NULL) - 98);
  for (unsigned long i = 0; i < 1000; i++) {
    CHECK_INT(insert(i), TS_SUCCESS);
  }
  tls_set_time(session, (long)time(NULL));
  sleep(3);
  for (unsigned long i = 1000; i < 3000; i++) {
    CHECK_INT(insert(i), TS_SUCCESS);
  }
  CHECK_INT(api_stat(STAT_ENTRIES), 2000);
  CHECK_INT(api_stat(STAT_EXPIRED), expired + 1000);
  CHECK_INT(count_present(0, 1000), 0);
  CHECK_INT(count_present(1000, 3000), 2000);

  /* Expired sessions are removed before others are evicted, in whatever order they were inserted. */
  TSSslSessionCacheClear();
  set_number(RECORD ".size", 100);
  tls_set_time(session, (long)time(NULL));
  for (unsigned long i = 0; i < 100; i++) {
    int short_lived = i >= 20;
    SSL_SESSION_set_timeout(session, short_lived ? 2 : 1000);
    CHECK_INT(insert(i), TS_SUCCESS);
  }
  SSL_SESSION_set_timeout(session, 1000);
  sleep(3);
  long long evicted = api_stat(STAT_EVICTION);
  for (unsigned long i = 100; i < 160; i++) {
    CHECK_INT(insert(i), TS_SUCCESS);
  }
  CHECK(api_stat(STAT_EVICTION) - evicted <= 2);
  CHECK(count_present(0, 20) + count_present(100, 160) >= 78);
  for (unsigned long i = 0; i < 600; i++) {
    CHECK_INT(insert(100 + i % 60), TS_SUCCESS);
  }
  CHECK_INT(api_stat(STAT_ENTRIES), count_present(0, 160));
  set_number(RECORD ".size", 102400);
  TSSslSessionCacheClear();
  CHECK_INT(insert(2999), TS_SUCCESS);

  /* A shorter configured timeout applies, even to cached sessions. */
  CHECK(is_present(2999));
  set_number(RECORD ".timeout", 3);
  tls_set_time(session, (long)time(NULL));
  CHECK_INT(insert(5000), TS_SUCCESS);
  sleep(4);
  CHECK(!is_present(5000) && !is_present(2999));
  set_number(RECORD ".timeout", 0);

  /* A session dated in the future lives for its timeout from now. */
  tls_set_time(session, (long)time(NULL) + 1000000);
  SSL_SESSION_set_timeout(session, 2);
  CHECK_INT(insert(6000), TS_SUCCESS);
  CHECK(is_present(6000));
  sleep(3);
  CHECK(!is_present(6000));
  check_sum();

  /* The library has started no thread. */
  CHECK_INT(count_threads(), 1);

  SSL_SESSION_free(session);
  return check_result();
}
