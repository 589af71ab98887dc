/** @file

  Eight threads make mixed calls. A session that comes out is a whole one that was
  stored under that ID. The limits hold at every moment, and the counters add up at
  the end. With waiting switched off, a refused call changes nothing.

  Then eight threads act as separate hosts, with contexts, hooks, settings and keys:
  each gets the events of its own handshakes, and every update is counted.

  SPDX-License-Identifier: Apache-2.0
 */

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "api.h"
#include "check.h"
#include "tls.h"

#define THREADS 8
#define IDS 64
#define VARIANTS 4
#define SIZE 40
#define MAX_BYTES 30000

static SSL_SESSION *variants[IDS][VARIANTS];
static unsigned char *ders[IDS][VARIANTS];
static int lens[IDS][VARIANTS];
static atomic_int running = 1;

/* xorshift, with a separate sequence for each thread. */
static unsigned
next(unsigned *state)
{
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return *state;
}

static void
make_variants(void)
{
  SSL_SESSION *base = tls_session(0);
  for (int i = 0; i < IDS; i++) {
    for (int v = 0; v < VARIANTS; v++) {
      TSSslSessionID id    = api_numbered_id((unsigned long)i);
      SSL_SESSION *session = SSL_SESSION_dup(base);
      /* All have different lengths, and differ everywhere. */
      char filler[600];
      memset(filler, 'a' + v, sizeof(filler));
      REQUIRE(SSL_SESSION_set1_id(session, (const unsigned char *)id.bytes, 32) == 1);
      REQUIRE(SSL_SESSION_set1_ticket_appdata(session, filler, (size_t)(10 + 190 * v)) == 1);
      variants[i][v] = session;
      ders[i][v]     = tls_der(session, &lens[i][v]);
    }
  }
  SSL_SESSION_free(base);
}

static int
is_a_variant(int i, const char *der, int len)
{
  for (int v = 0; v < VARIANTS; v++) {
    if (len == lens[i][v] && memcmp(der, ders[i][v], (size_t)len) == 0) {
      return 1;
    }
  }
  return 0;
}

static void *
mixed_calls(void *arg)
{
  unsigned state = 2463534242u + (unsigned)(size_t)arg;
  char buffer[2000];

  for (int n = check_scaled(100000); n > 0; n--) {
    int i             = (int)(next(&state) % IDS);
    int v             = (int)(next(&state) % VARIANTS);
    TSSslSessionID id = api_numbered_id((unsigned long)i);
    switch (next(&state) % 10) {
    case 0:
    case 1:
    case 2: {
      int len    = (int)sizeof(buffer);
      int needed = TSSslSessionGetBuffer(&id, buffer, &len);
      CHECK(needed == len);
      CHECK(needed == 0 || is_a_variant(i, buffer, len));
      break;
    }
    case 3:
    case 4: {
      SSL_SESSION *session = (SSL_SESSION *)TSSslSessionGet(&id);
      if (session != NULL) {
        int len            = 0;
        unsigned char *der = tls_der(session, &len);
        CHECK(is_a_variant(i, (const char *)der, len));
        OPENSSL_free(der);
        SSL_SESSION_set_timeout(session, 1);
        SSL_SESSION_free(session);
      }
      break;
    }
    case 5:
    case 6:
    case 7:
      CHECK(TSSslSessionInsert(&id, (TSSslSession)variants[i][v]) == TS_SUCCESS);
      break;
    case 8:
      CHECK(TSSslSessionRemove(&id) == TS_SUCCESS);
      break;
    default:
      if (next(&state) % 1000 == 0) {
        TSSslSessionCacheClear();
      }
      if (next(&state) % 100 == 0) {
        char key[48];
        memset(key, 'k', sizeof(key));
        TSSslTicketKeyUpdate(key, sizeof(key));
      }
    }
  }
  return NULL;
}

static void *
watch_bounds(void *arg)
{
  (void)arg;
  while (atomic_load(&running)) {
    CHECK(api_stat(STAT_ENTRIES) <= SIZE);
    CHECK(api_stat(STAT_BYTES) <= MAX_BYTES);
  }
  return NULL;
}

static void
check_mixed_calls(void)
{
  pthread_t threads[THREADS];
  pthread_t watcher;

  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "40"), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheConfigSet("tssession.session_cache.max_bytes", "30000"), TS_SUCCESS);
  REQUIRE(pthread_create(&watcher, NULL, watch_bounds, NULL) == 0);
  for (size_t i = 0; i < THREADS; i++) {
    REQUIRE(pthread_create(&threads[i], NULL, mixed_calls, (void *)i) == 0);
  }
  for (size_t i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
  }
  atomic_store(&running, 0);
  pthread_join(watcher, NULL);

  int entries = 0;
  int bytes   = 0;
  for (int i = 0; i < IDS; i++) {
    char buffer[2000];
    int len           = (int)sizeof(buffer);
    TSSslSessionID id = api_numbered_id((unsigned long)i);
    if (TSSslSessionGetBuffer(&id, buffer, &len) > 0) {
      CHECK(is_a_variant(i, buffer, len));
      entries++;
      bytes += len;
    }
  }
  CHECK_INT(api_stat(STAT_ENTRIES), entries);
  CHECK_INT(api_stat(STAT_BYTES), bytes);
  CHECK_INT(api_stat(STAT_NEW) - api_stat(STAT_REPLACED) - api_stat(STAT_REMOVED) - api_stat(STAT_EVICTION) -
              api_stat(STAT_EXPIRED) - api_stat(STAT_CLEARED),
            entries);
  CHECK_INT(api_stat(STAT_REFUSED), 0);
}

/* With skip_cache_on_bucket_contention on. No two threads use the same ID, so each knows what it stored
   last. */
static atomic_int refusals;
static int stored[IDS];
static atomic_llong found;
static atomic_llong not_found;

static void *
insert_own(void *arg)
{
  int thread     = (int)(size_t)arg;
  unsigned state = 88172645u + (unsigned)thread;
  char buffer[2000];

  for (int n = check_scaled(20000); n > 0; n--) {
    int i             = thread + THREADS * (int)(next(&state) % (IDS / THREADS));
    int v             = (int)(next(&state) % VARIANTS);
    TSSslSessionID id = api_numbered_id((unsigned long)i);
    int len           = (int)sizeof(buffer);
    if (next(&state) % 16 == 0) {
      CHECK(TSSslSessionRemove(&id) == TS_SUCCESS);
      stored[i] = -1;
    }
    if (TSSslSessionInsert(&id, (TSSslSession)variants[i][v]) == TS_SUCCESS) {
      stored[i] = v;
    } else {
      atomic_fetch_add(&refusals, 1);
    }
    /* A lookup may miss because of contention, but never finds another session. */
    int needed = TSSslSessionGetBuffer(&id, buffer, &len);
    atomic_fetch_add(needed > 0 ? &found : &not_found, 1);
    if (needed > 0) {
      int v_now = stored[i];
      CHECK(v_now >= 0 && len == lens[i][v_now] && memcmp(buffer, ders[i][v_now], (size_t)len) == 0);
    }
  }
  return NULL;
}

static void
check_skip(void)
{
  pthread_t threads[THREADS];
  long long contention = api_stat(STAT_CONTENTION);
  long long hits       = api_stat(STAT_GET ".found");
  long long misses     = api_stat(STAT_GET) - hits;
  time_t start         = time(NULL);

  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "1000"), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheConfigSet("tssession.session_cache.max_bytes", "0"), TS_SUCCESS);
  const char *skip = "proxy.config.ssl.session_cache.skip_cache_on_bucket_contention";
  CHECK_INT(TSSslSessionCacheConfigSet(skip, "1"), TS_SUCCESS);
  TSSslSessionCacheClear();
  memset(stored, 0xff, sizeof(stored));

  /* Threads rarely meet at a lock: continue until they did, for at most a minute. */
  do {
    for (size_t i = 0; i < THREADS; i++) {
      REQUIRE(pthread_create(&threads[i], NULL, insert_own, (void *)i) == 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
      pthread_join(threads[i], NULL);
    }
  } while (getenv("CHECK_SCALE") == NULL && atomic_load(&refusals) == 0 && time(NULL) - start < 60);

  CHECK_INT(TSSslSessionCacheConfigSet(skip, "0"), TS_SUCCESS);
  if (getenv("CHECK_SCALE") == NULL) {
    CHECK(atomic_load(&refusals) > 0);
    CHECK(api_stat(STAT_CONTENTION) > contention);
  }
  CHECK_INT(api_stat(STAT_REFUSED), atomic_load(&refusals));
  CHECK_INT(api_stat(STAT_REFUSED ".contention"), atomic_load(&refusals));
  CHECK_INT(api_stat(STAT_GET ".found") - hits, atomic_load(&found));
  CHECK_INT(api_stat(STAT_GET ".contention") + api_stat(STAT_GET ".absent") - misses, atomic_load(&not_found));
  CHECK_INT(api_stat(STAT_GET), hits + misses + atomic_load(&found) + atomic_load(&not_found));
  for (int i = 0; i < IDS; i++) {
    char buffer[2000];
    int len           = (int)sizeof(buffer);
    TSSslSessionID id = api_numbered_id((unsigned long)i);
    int needed        = TSSslSessionGetBuffer(&id, buffer, &len);
    int v             = stored[i];
    CHECK_INT(needed, v < 0 ? 0 : lens[i][v]);
    CHECK(v < 0 || memcmp(buffer, ders[i][v], (size_t)len) == 0);
  }
}

static atomic_int updates;

static int
count_event(TSCont contp, TSEvent event, void *data)
{
  (void)event, (void)data;
  atomic_fetch_add((atomic_int *)(void *)contp, 1);
  return 0;
}

static void *
be_a_host(void *arg)
{
  int thread = (int)(size_t)arg;
  char key[48];
  char text[32768];
  static atomic_int events[THREADS];
  TSCont contp = (TSCont)(void *)&events[thread];

  SSL_CTX *client = tls_client(TLS1_2_VERSION);
  for (int n = check_scaled(100); n > 0; n--) {
    SSL_CTX *server = tls_server(TLS1_2_VERSION);
    int before      = atomic_load(&events[thread]);
    int len         = (int)sizeof(text);
    memset(key, thread + 1, sizeof(key));
    TSSslTicketKeyUpdate(key, sizeof(key));
    atomic_fetch_add(&updates, 1);
    CHECK(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", n % 2 ? "40" : "50") == TS_SUCCESS);
    CHECK(TSSslSessionHookAdd(count_event, contp) == TS_SUCCESS);
    CHECK(TSSslSessionCacheAttach((TSSslContext)server) == TS_SUCCESS);
    if (n % 2) {
      SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
    }
    CHECK(tls_visit(server, client, NULL, TLS_CLEAN, NULL) == 0);
    CHECK(n % 2 == 0 || atomic_load(&events[thread]) > before);
    CHECK(TSSslSessionHookRemove(count_event, contp) == TS_SUCCESS);
    CHECK(TSSslSessionCacheStatsText(text, &len) > 0);
    CHECK(TSSslSessionCacheLogSet(NULL, NULL, TS_SSL_SESSION_CACHE_LOG_WARNING) == TS_SUCCESS);
    CHECK(TSSslSessionCacheDetach((TSSslContext)server) == TS_SUCCESS);
    SSL_CTX_free(server);
  }
  SSL_CTX_free(client);
  return NULL;
}

static void
check_hosts(void)
{
  pthread_t threads[THREADS];
  long long generation = api_stat(STAT_GENERATION);

  for (size_t i = 0; i < THREADS; i++) {
    REQUIRE(pthread_create(&threads[i], NULL, be_a_host, (void *)i) == 0);
  }
  for (size_t i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
  }
  CHECK_INT(api_stat(STAT_GENERATION) - generation, atomic_load(&updates));
  CHECK_INT(api_stat(STAT_KEYS), 1);
}

int
main(void)
{
  api_open();
  make_variants();
  check_mixed_calls();
  check_skip();
  check_hosts();
  for (int i = 0; i < IDS; i++) {
    for (int v = 0; v < VARIANTS; v++) {
      SSL_SESSION_free(variants[i][v]);
      OPENSSL_free(ders[i][v]);
    }
  }
  return check_result();
}
