/** @file

  Load: a server whose threads accept connections at five attached contexts, and processes with many
  clients that resume, while in the server

  - a thread puts a new ticket key in front of the latest ones every 10 ms;
  - one clears the cache and one changes its size, at random;
  - one calls the five functions and InsertBuffer with invalid arguments, fills the cache, and
    interferes with the sessions of clients;
  - one watches the limits.

  No handshake may fail, and no client may get the session of another. The client binds a session to
  a name: in the connection that makes the session, it asks for a random server name. In each
  connection the server reports what it finds in the session: this name, a copy of it in the
  application data of the session, and the fingerprint of the client's certificate.

  At the end the counters must be exactly what clients, hooks and callers counted themselves.

  Clients are forked before the first call of the library, and do not use it. The threads keep pace
  with the handshakes, not with the clock (except for the ticket keys), so that the share of resumed
  handshakes is the same on a slow machine.

  The argument is the number of handshakes.

  SPDX-License-Identifier: Apache-2.0
 */

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/rand.h>

/* At this level TSSslTicketKeyUpdate has a result. */
#define TS_SSL_SESSION_API 9
#include "api.h"
#include "check.h"
#include "load_clients.h"
#include "resident.h"
#include "tls.h"

/* Server threads for each kind. */
#define SERVERS 2
/* A key still decrypts for so many handshakes after it was the first. Most clients return before
   that. */
#define KEY_LIFE (4 * CLIENTS * SLOTS * KINDS)
#define MOST_KEYS 4096
#define KEY_LEN 48

/* The limits change between these values and a quarter of them. */
#define MOST_SESSIONS 768
#define MOST_BYTES (2L * 1024 * 1024)
#define MAX_SESSION_BYTES 16384

/* By so many bytes the allocator may grow: each thread has a separate arena, and keeps what is free in
   it. One session lost in each handshake would be six times that in half of 200 000 handshakes. */
#define SLACK (2L * 1024 * 1024)

/* With fewer handshakes, nearly all would be a client's first. */
#define FEWEST 240

#define ID_LEN 32

/*
 * The server.
 */

static SSL_CTX *ctxs[KINDS];
static int listeners[KINDS];
static atomic_int over;
static atomic_long handshakes;
static atomic_long log_lines;

/* The IDs of the sessions that handshakes stored, in order. */
static struct {
  pthread_mutex_t lock;
  unsigned char (*ids)[ID_LEN];
  long room;
  long count;
  long fetched;
} events = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int
note_event(TSCont contp, TSEvent event, void *data)
{
  const TSSslSessionID *id = data;
  (void)contp;
  CHECK(id->len == ID_LEN);
  pthread_mutex_lock(&events.lock);
  if (event == TS_EVENT_SSL_SESSION_NEW) {
    REQUIRE(events.count < events.room);
    memcpy(events.ids[events.count++], id->bytes, ID_LEN);
  } else if (event == TS_EVENT_SSL_SESSION_GET) {
    events.fetched++;
  }
  pthread_mutex_unlock(&events.lock);
  return 0;
}

static void
count_line(TSCont contp, int level, const char *tag, const char *line)
{
  (void)contp, (void)level, (void)tag, (void)line;
  atomic_fetch_add(&log_lines, 1);
}

static int
accept_name(SSL *ssl, int *alert, void *arg)
{
  (void)ssl, (void)alert, (void)arg;
  return SSL_TLSEXT_ERR_OK;
}

/* Called in full handshakes, after the session was made and before it is stored or put into a ticket. */
static int
tag_session(SSL *ssl, void *arg)
{
  const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  (void)arg;
  return name != NULL && SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), name, strlen(name)) == 1;
}

static void
find_answer(SSL *ssl, struct answer *answer)
{
  SSL_SESSION *session = SSL_get_session(ssl);
  X509 *certificate    = SSL_get0_peer_certificate(ssl);
  const char *name     = SSL_SESSION_get0_hostname(session);
  void *tag            = NULL;
  size_t len           = 0;

  memset(answer, 0, sizeof(*answer));
  if (name != NULL) {
    snprintf(answer->name, sizeof(answer->name), "%s", name);
  }
  if (SSL_SESSION_get0_ticket_appdata(session, &tag, &len) == 1 && len > 0 && len < sizeof(answer->tag)) {
    memcpy(answer->tag, tag, len);
  }
  if (certificate != NULL) {
    X509_digest(certificate, EVP_sha256(), answer->certificate, NULL);
  }
}

/* Clears the error queue: the next SSL_get_error must not see an old error. */
static void
check_error_queue(void)
{
  CHECK(ERR_peek_error() == 0);
  if (check_failures < 20) {
    ERR_print_errors_fp(stderr);
  }
}

static void
serve(int kind, int fd)
{
  struct answer answer;
  char byte  = 0;
  SSL *ssl   = SSL_new(ctxs[kind]);
  int result = 0;

  CHECK(ssl != NULL && SSL_set_fd(ssl, fd) == 1);
  result = SSL_accept(ssl);
  CHECK(result == 1);
  check_error_queue();
  if (result == 1) {
    atomic_fetch_add(&handshakes, 1);
    result = SSL_read(ssl, &byte, 1);
    CHECK(result == 1);
  }
  if (result == 1) {
    char none;
    find_answer(ssl, &answer);
    CHECK(SSL_write(ssl, &answer, sizeof(answer)) == (int)sizeof(answer));
    check_error_queue();
    result = SSL_get_error(ssl, SSL_read(ssl, &none, 1));
    CHECK(byte == WITHOUT_A_WORD
            ? result == SSL_ERROR_SSL && ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING
            : result == SSL_ERROR_ZERO_RETURN);
  }
  SSL_shutdown(ssl);
  ERR_clear_error();
  SSL_free(ssl);
  close(fd);
}

static void *
accept_connections(void *arg)
{
  int kind = (int)(size_t)arg;
  for (;;) {
    int fd = accept(listeners[kind], NULL, NULL);
    if (fd < 0) {
      CHECK(atomic_load(&over));
      return NULL;
    }
    serve(kind, fd);
  }
}

static void
listen_at(int kind)
{
  struct sockaddr_un *address = &addresses[kind];
  address->sun_family         = AF_UNIX;
  address_lens[kind]          = sizeof(*address);
  listeners[kind]             = socket(AF_UNIX, SOCK_STREAM, 0);
  /* Linux chooses a name, which is not that of a file. */
  REQUIRE(bind(listeners[kind], (struct sockaddr *)address, sizeof(address->sun_family)) == 0);
  REQUIRE(listen(listeners[kind], 64) == 0);
  REQUIRE(getsockname(listeners[kind], (struct sockaddr *)address, &address_lens[kind]) == 0);
}

static SSL_CTX *
new_server(const struct kind *kind)
{
  SSL_CTX *ctx =
    kind->asks_for_certificate ? tls_server_with_client_certificates(kind->version) : tls_server(kind->version);
  SSL_CTX_set_tlsext_servername_callback(ctx, accept_name);
  if (kind->has_tag) {
    SSL_CTX_set_cert_cb(ctx, tag_session, NULL);
  }
  if (kind->by_id) {
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
  }
  REQUIRE(SSL_CTX_set_num_tickets(ctx, 1) == 1);
  REQUIRE(TSSslSessionCacheAttach((TSSslContext)ctx) == TS_SUCCESS);
  return ctx;
}

/*
 * The other threads of the server.
 */

/* Waits for so many more handshakes. Returns 0 if the load is over. */
static int
after_handshakes(unsigned number)
{
  long until = atomic_load(&handshakes) + (long)number;
  while (!atomic_load(&over)) {
    if (atomic_load(&handshakes) >= until) {
      return 1;
    }
    usleep(100);
  }
  return 0;
}

/* The ticket keys, newest first, and when each became active. */
static struct {
  char keys[MOST_KEYS][KEY_LEN];
  long since[MOST_KEYS];
  int count;
  int most;
  long rotations;
} ring;

static void
rotate(void)
{
  int keep = 0;
  /* A key is still needed for a while after a newer one. */
  while (keep < ring.count && keep < MOST_KEYS - 1 &&
         (keep == 0 || atomic_load(&handshakes) - ring.since[keep - 1] < KEY_LIFE)) {
    keep++;
  }
  memmove(ring.keys[1], ring.keys[0], sizeof(ring.keys[0]) * (size_t)keep);
  memmove(&ring.since[1], &ring.since[0], sizeof(ring.since[0]) * (size_t)keep);
  CHECK(RAND_bytes((unsigned char *)ring.keys[0], KEY_LEN) == 1);
  ring.since[0] = atomic_load(&handshakes);
  ring.count    = keep + 1;
  ring.most     = ring.count > ring.most ? ring.count : ring.most;
  CHECK(TSSslTicketKeyUpdate(ring.keys[0], ring.count * KEY_LEN) == TS_SUCCESS);
  ring.rotations++;
}

static void *
rotate_keys(void *arg)
{
  struct timespec next_time;
  (void)arg;
  clock_gettime(CLOCK_MONOTONIC, &next_time);
  while (!atomic_load(&over)) {
    rotate();
    next_time.tv_nsec += 10 * 1000 * 1000;
    if (next_time.tv_nsec >= 1000 * 1000 * 1000) {
      next_time.tv_sec++;
      next_time.tv_nsec -= 1000 * 1000 * 1000;
    }
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next_time, NULL);
  }
  return NULL;
}

/* The resident bytes of the process: in each quarter of the load, the smallest value just after the
   cache was cleared. */
static struct {
  long clears;
  long least[4];
} memory;

static void *
clear_cache(void *arg)
{
  long all      = *(long *)arg;
  unsigned dice = seed(100);
  /* The first time is early, so that a short run has it too. */
  while (after_handshakes(memory.clears == 0 ? FEWEST / 2 : 100 + next(&dice) % 1000)) {
    TSSslSessionCacheClear();
    memory.clears++;
    long now     = resident();
    long quarter = atomic_load(&handshakes) * 4 / all;
    if (quarter < 4 && (memory.least[quarter] == 0 || now < memory.least[quarter])) {
      memory.least[quarter] = now;
    }
  }
  return NULL;
}

static long size_changes;

/* A thread that stores a session may have reserved room before the limit fell. It gives it back when it
   notices. */
static void
check_limits(long sessions, long bytes)
{
  int storing = KINDS * SERVERS + 1;
  CHECK(api_stat(STAT_ENTRIES) <= sessions + storing);
  CHECK(api_stat(STAT_BYTES) <= bytes + (long)storing * MAX_SESSION_BYTES);
}

static void
set_number(const char *name, long number)
{
  char text[20];
  snprintf(text, sizeof(text), "%ld", number);
  CHECK(TSSslSessionCacheConfigSet(name, text) == TS_SUCCESS);
}

static void *
change_size(void *arg)
{
  unsigned dice = seed(200);
  (void)arg;
  while (after_handshakes(size_changes == 0 ? FEWEST / 4 : 50 + next(&dice) % 400)) {
    long sessions = MOST_SESSIONS >> next(&dice) % 3;
    long bytes    = MOST_BYTES >> next(&dice) % 3;
    set_number("proxy.config.ssl.session_cache.size", sessions);
    set_number("tssession.session_cache.max_bytes", bytes);
    size_changes += 2;
    for (int i = 0; i < 10 && after_handshakes(1); i++) {
      check_limits(sessions, bytes);
    }
  }
  return NULL;
}

static long most_sessions, most_bytes;

static void *
watch_bounds(void *arg)
{
  (void)arg;
  while (!atomic_load(&over)) {
    long sessions = (long)api_stat(STAT_ENTRIES);
    long bytes    = (long)api_stat(STAT_BYTES);
    most_sessions = sessions > most_sessions ? sessions : most_sessions;
    most_bytes    = bytes > most_bytes ? bytes : most_bytes;
    usleep(50);
  }
  return NULL;
}

/*
 * The hostile caller, and its counts.
 */

/* The caller's IDs: it knows the sessions of the first OWN_IDS, but not those of FEW from OTHER_IDS on. */
#define OWN_IDS 1024
#define OTHER_IDS OWN_IDS
#define FEW 64
#define VARIANTS 4

static struct {
  long all;
  long found;
  long not_found;
  long stored;
  long refused;
} calls;

/* Sessions of different sizes. The ID in them is set before each use. */
static struct variant {
  SSL_SESSION *session;
  unsigned char *der;
  unsigned char *id;
  int len;
} variants[VARIANTS], too_large, too_old, short_lived;

/* For each of its own IDs, the variant that it stored last. */
static int own[OWN_IDS];

static SSL_SESSION *no_session;
static char *page_end;

static void
make_variant(struct variant *variant, SSL_SESSION *base, size_t padding)
{
  unsigned char *filler = calloc(1, padding);
  variant->session      = SSL_SESSION_dup(base);
  REQUIRE(filler != NULL && variant->session != NULL);
  TSSslSessionID id = api_numbered_id(12345);
  REQUIRE(SSL_SESSION_set1_id(variant->session, (const unsigned char *)id.bytes, ID_LEN) == 1);
  REQUIRE(SSL_SESSION_set1_ticket_appdata(variant->session, filler, padding) == 1);
  variant->der = tls_der(variant->session, &variant->len);
  variant->id  = memmem(variant->der, (size_t)variant->len, id.bytes, ID_LEN);
  REQUIRE(variant->id != NULL);
  free(filler);
}

static void
free_variant(struct variant *variant)
{
  SSL_SESSION_free(variant->session);
  OPENSSL_free(variant->der);
}

static void
make_variants(void)
{
  SSL_SESSION *base = tls_session(0);
  for (size_t i = 0; i < VARIANTS; i++) {
    make_variant(&variants[i], base, 10 + 800 * i * i);
  }
  make_variant(&too_large, base, MAX_SESSION_BYTES);
  tls_set_time(base, 1);
  make_variant(&too_old, base, 10);
  SSL_SESSION_set_timeout(base, 1);
  make_variant(&short_lived, base, 10);
  SSL_SESSION_free(base);
  no_session = SSL_SESSION_new();
  REQUIRE(no_session != NULL);

  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *start = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(start != MAP_FAILED && mprotect(start + page, page, PROT_NONE) == 0);
  page_end = start + page;
}

static void
free_variants(void)
{
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  for (int i = 0; i < VARIANTS; i++) {
    free_variant(&variants[i]);
  }
  free_variant(&too_large);
  free_variant(&too_old);
  free_variant(&short_lived);
  SSL_SESSION_free(no_session);
  munmap(page_end - page, 2 * page);
}

/* For variants with valid IDs. */
static void
put_id(struct variant *variant, const TSSslSessionID *id)
{
  SSL_SESSION_set1_id(variant->session, (const unsigned char *)id->bytes, (unsigned)id->len);
  memcpy(variant->id, id->bytes, ID_LEN);
}

static int
inserted(TSReturnCode result)
{
  calls.all++;
  calls.stored += result == TS_SUCCESS;
  calls.refused += result == TS_ERROR;
  return result == TS_SUCCESS;
}

static int
looked_up(int found)
{
  calls.all++;
  calls.found += found;
  calls.not_found += !found;
  return found;
}

/* Small and large sessions take turns, so that both limits are reached. */
static struct variant *
variant_of_the_time(void)
{
  return &variants[atomic_load(&handshakes) / 1000 % VARIANTS];
}

/* An ID of its own gives the session that was stored last, or none. */
static void
use_own(unsigned *dice)
{
  static char buffer[MAX_SESSION_BYTES];
  unsigned number         = next(dice) % OWN_IDS;
  struct variant *variant = variant_of_the_time();
  TSSslSessionID id       = api_numbered_id(number);
  int len                 = (int)sizeof(buffer);

  put_id(variant, &id);
  int stored = next(dice) % 2 == 0 ? inserted(TSSslSessionInsert(&id, (TSSslSession)variant->session, NULL))
                                   : inserted(TSSslSessionInsertBuffer(&id, (const char *)variant->der, variant->len));
  CHECK(stored);
  own[number] = (int)(variant - variants);

  number  = next(dice) % OWN_IDS;
  id      = api_numbered_id(number);
  variant = &variants[own[number]];
  put_id(variant, &id);
  if (looked_up(TSSslSessionGetBuffer(&id, buffer, &len) > 0)) {
    CHECK(len == variant->len && memcmp(buffer, variant->der, (size_t)len) == 0);
  }
  SSL_SESSION *session = (SSL_SESSION *)TSSslSessionGet(&id);
  if (looked_up(session != NULL)) {
    unsigned char *der = tls_der(session, &len);
    CHECK(len == variant->len && memcmp(der, variant->der, (size_t)len) == 0);
    OPENSSL_free(der);
    SSL_SESSION_set_timeout(session, 1);
    SSL_SESSION_free(session);
  }
}

/* Stores a session that expires soon. */
static void
store_for_a_second(unsigned *dice)
{
  TSSslSessionID id = api_numbered_id(OTHER_IDS + next(dice) % FEW);
  tls_set_time(short_lived.session, time(NULL));
  inserted(TSSslSessionInsert(&id, (TSSslSession)short_lived.session, NULL));
}

/* Looks up a session of a client, if there is any, also with a buffer that is too small. Sometimes
   removes the session, or stores it in the place of another client's. */
static void
meddle(unsigned *dice)
{
  char buffer[100];
  int space = (int)sizeof(buffer) - 1;

  TSSslSessionID one   = api_id(ID_LEN, 0);
  TSSslSessionID other = api_id(ID_LEN, 0);
  pthread_mutex_lock(&events.lock);
  int enough = events.count >= 32;
  if (enough) {
    memcpy(one.bytes, events.ids[events.count - 1 - next(dice) % 32], ID_LEN);
    memcpy(other.bytes, events.ids[events.count - 1 - next(dice) % 32], ID_LEN);
  }
  pthread_mutex_unlock(&events.lock);
  if (!enough) {
    return;
  }

  buffer[space] = '!';
  int needed    = TSSslSessionGetBuffer(&one, buffer, &space);
  CHECK(space == (looked_up(needed > 0) ? (int)sizeof(buffer) - 1 : 0));
  CHECK(buffer[sizeof(buffer) - 1] == '!');
  SSL_SESSION *session = (SSL_SESSION *)TSSslSessionGet(&one);
  looked_up(session != NULL);
  switch (next(dice) % 32) {
  case 0:
    calls.all++;
    CHECK(TSSslSessionRemove(&one) == TS_SUCCESS);
    break;
  case 1:
    CHECK(inserted(TSSslSessionInsert(&other, (TSSslSession)session, NULL)) == (session != NULL));
    break;
  }
  SSL_SESSION_free(session);
}

static const TSSslSessionID *
at_page_end(const void *bytes, size_t len)
{
  return memcpy(page_end - len, bytes, len);
}

static void
call_with_ids_that_are_not_valid(void)
{
  static const size_t bad[] = {0, 33, 256, (size_t)1 << 32, SIZE_MAX - 8, SIZE_MAX};
  int count                 = (int)(sizeof(bad) / sizeof(bad[0]));

  for (int i = -1; i < count; i++) {
    /* No byte of the ID is readable. */
    const TSSslSessionID *id = i < 0 ? NULL : at_page_end(&bad[i], sizeof(bad[i]));
    char buffer[100];
    int space = (int)sizeof(buffer);
    CHECK(TSSslSessionGet(id) == NULL);
    CHECK(TSSslSessionGetBuffer(id, buffer, &space) == 0 && space == 0);
    CHECK(TSSslSessionRemove(id) == TS_ERROR);
    CHECK(!inserted(TSSslSessionInsert(id, (TSSslSession)variants[0].session, NULL)));
    CHECK(!inserted(TSSslSessionInsertBuffer(id, (const char *)variants[0].der, variants[0].len)));
    calls.all += 3;
  }
}

/* Valid IDs with invalid other arguments. */
static void
call_with_other_bad_arguments(unsigned *dice)
{
  TSSslSessionID own_id    = api_numbered_id(next(dice) % OWN_IDS);
  size_t len               = 1 + next(dice) % ID_LEN;
  TSSslSessionID short_id  = api_id(len, 0x77);
  const TSSslSessionID *id = at_page_end(&short_id, offsetof(TSSslSessionID, bytes) + len);
  int space                = INT_MIN;
  char buffer[1];

  looked_up(TSSslSessionGetBuffer(&own_id, buffer, &space) > 0);
  CHECK(space == 0);
  space = INT_MAX;
  looked_up(TSSslSessionGetBuffer(&own_id, NULL, &space) > 0);
  CHECK(space == 0);
  CHECK(TSSslSessionGetBuffer(&own_id, buffer, NULL) == 0);
  CHECK(!looked_up(TSSslSessionGet(id) != NULL));
  CHECK(TSSslSessionRemove(id) == TS_SUCCESS);
  calls.all += 2;

  CHECK(!inserted(TSSslSessionInsert(&own_id, NULL, NULL)));
  CHECK(!inserted(TSSslSessionInsert(&own_id, (TSSslSession)no_session, NULL)));
  CHECK(!inserted(TSSslSessionInsert(&own_id, (TSSslSession)too_large.session, NULL)));
  CHECK(!inserted(TSSslSessionInsert(&own_id, (TSSslSession)too_old.session, NULL)));
  const char *der = (const char *)variants[0].der;
  int der_len     = variants[0].len;
  CHECK(!inserted(TSSslSessionInsertBuffer(&own_id, NULL, INT_MAX)));
  CHECK(!inserted(TSSslSessionInsertBuffer(&own_id, der, INT_MIN)));
  CHECK(!inserted(TSSslSessionInsertBuffer(&own_id, der, (int)(next(dice) % (unsigned)der_len))));
  char damaged[200];
  memcpy(damaged, der, (size_t)der_len);
  damaged[der_len] = 0;
  CHECK(!inserted(TSSslSessionInsertBuffer(&own_id, damaged, der_len + 1)));
  /* If these bytes are still a session, it is stored under an ID of this caller, not of a client. */
  damaged[next(dice) % (unsigned)der_len] ^= (char)(1 << next(dice) % 8);
  TSSslSessionID damaged_id = api_numbered_id(OTHER_IDS + next(dice) % FEW);
  inserted(TSSslSessionInsertBuffer(&damaged_id, damaged, der_len));
}

/* All are refused: the active keys are those of the other thread. */
static void
call_with_bad_keys(void)
{
  char keys[2 * KEY_LEN];
  memset(keys, 0, sizeof(keys));
  CHECK(TSSslTicketKeyUpdate(NULL, 0) == TS_ERROR);
  CHECK(TSSslTicketKeyUpdate(NULL, INT_MAX) == TS_ERROR);
  CHECK(TSSslTicketKeyUpdate(keys, INT_MIN) == TS_ERROR);
  CHECK(TSSslTicketKeyUpdate(keys, sizeof(keys)) == TS_ERROR);
  CHECK(TSSslTicketKeyUpdate(page_end, 0) == TS_ERROR);
  keys[20] = 1;
  CHECK(TSSslTicketKeyUpdate(keys, KEY_LEN - 1) == TS_ERROR);
  /* Two keys with one name and different secrets. */
  keys[KEY_LEN + 20] = 2;
  CHECK(TSSslTicketKeyUpdate(keys, sizeof(keys)) == TS_ERROR);
  calls.all += 7;
}

static void *
call_with_bad_arguments(void *arg)
{
  unsigned dice = seed(300);
  (void)arg;
  while (after_handshakes(2)) {
    ERR_raise(ERR_LIB_USER, 77);
    errno = 1234;
    call_with_ids_that_are_not_valid();
    call_with_other_bad_arguments(&dice);
    call_with_bad_keys();
    meddle(&dice);
    store_for_a_second(&dice);
    for (int i = 0; i < 6; i++) {
      use_own(&dice);
    }
    /* errno and the error queue are unchanged. */
    CHECK(errno == 1234);
    CHECK(ERR_GET_REASON(ERR_get_error()) == 77);
    CHECK(ERR_peek_error() == 0);
    ERR_clear_error();
  }
  return NULL;
}

/*
 * The whole test.
 */

static long
sum(const atomic_long *numbers, int by_id)
{
  long all = 0;
  for (int kind = 0; kind < KINDS; kind++) {
    all += kinds[kind].by_id == by_id ? atomic_load(&numbers[kind]) : 0;
  }
  return all;
}

/* Looks up all sessions that were ever stored: the cache must count exactly those that it finds. */
static void
check_content(void)
{
  long sessions = 0;
  long bytes    = 0;
  for (long i = 0; i < events.count + OTHER_IDS + FEW; i++) {
    long number       = i - events.count;
    TSSslSessionID id = number >= 0 ? api_numbered_id((unsigned long)number) : api_id(ID_LEN, 0);
    int len           = 0;
    if (number < 0) {
      memcpy(id.bytes, events.ids[i], ID_LEN);
    }
    int needed = TSSslSessionGetBuffer(&id, NULL, &len);
    sessions += looked_up(needed > 0);
    bytes += needed;
  }
  CHECK_INT(api_stat(STAT_ENTRIES), sessions);
  CHECK_INT(api_stat(STAT_BYTES), bytes);
}

static void
check_sum(void)
{
  CHECK_INT(api_stat(STAT_NEW) - api_stat(STAT_REPLACED) - api_stat(STAT_REMOVED) - api_stat(STAT_EVICTION) -
              api_stat(STAT_EXPIRED) - api_stat(STAT_CLEARED),
            api_stat(STAT_ENTRIES));
}

static void
check_counters(void)
{
  check_content();
  check_sum();
  /* Each ID that a client offered is looked up once. */
  CHECK_INT(api_stat(STAT_HIT) + api_stat(STAT_MISS), sum(counts->offered, 1));
  CHECK_INT(api_stat(STAT_GET), calls.found + calls.not_found);
  CHECK_INT(api_stat(STAT_GET ".found"), calls.found);
  /* Each session that a handshake got was resumed. */
  CHECK_INT(events.fetched, sum(counts->resumed, 1));
  CHECK_INT(api_stat(STAT_HIT), sum(counts->resumed, 1));
  CHECK_INT(api_stat(STAT_NEW), events.count + calls.stored);
  CHECK_INT(api_stat(STAT_REFUSED), calls.refused);
  CHECK_INT(api_stat(STAT_VERIFIED), sum(counts->resumed, 0));
  CHECK_INT(api_stat(STAT_VERIFIED) + api_stat(STAT_NOT_FOUND), sum(counts->offered, 0));
  /* Tickets are renewed always in TLS 1.3, and in TLS 1.2 if their key is not the first. */
  CHECK_INT(api_stat(STAT_RENEWED), sum(counts->renewed, 0));
  CHECK_INT(atomic_load(&counts->renewed[TICKET_13]), atomic_load(&counts->resumed[TICKET_13]));
  CHECK(api_stat(STAT_RENEWED) >= api_stat(STAT_OLD_KEY));
  CHECK_INT(api_stat(STAT_CREATED), sum(counts->full, 0) + api_stat(STAT_RENEWED));
  CHECK_INT(api_stat(STAT_KEYS_RENEWED), ring.rotations);

  TSSslSessionCacheClear();
  CHECK_INT(api_stat(STAT_ENTRIES), 0);
  CHECK_INT(api_stat(STAT_BYTES), 0);
  check_sum();
}

/* A short run, as in valgrind, does not reach everything. */
static int
is_scaled(void)
{
  return getenv("CHECK_SCALE") != NULL;
}

static void
check_that_all_of_it_happened(void)
{
  CHECK(memory.clears > 0);
  CHECK(size_changes > 0);
  CHECK(atomic_load(&log_lines) > 0);
  CHECK(api_stat(STAT_REPLACED) > 0);
  CHECK(api_stat(STAT_REMOVED) > 0);
  CHECK(api_stat(STAT_EVICTION) > 0);
  CHECK(api_stat(STAT_NOT_FOUND) > 0);
}

static void
check_shares(long all)
{
  long resumed = sum(counts->resumed, 0) + sum(counts->resumed, 1);
  long full    = sum(counts->full, 0) + sum(counts->full, 1);
  for (int kind = 0; kind < KINDS; kind++) {
    long of_kind = atomic_load(&counts->resumed[kind]);
    long of_both = of_kind + atomic_load(&counts->full[kind]);
    fprintf(stderr, "%s: %ld handshakes, %ld resumed (%ld%%)\n", kinds[kind].name, of_both, of_kind,
            of_kind * 100 / of_both);
    CHECK(is_scaled() || of_kind * 3 >= of_both);
  }
  fprintf(stderr, "resumed %ld (%ld%%), full %ld, failed %ld, with a wrong session %ld\n", resumed, resumed * 100 / all,
          full, atomic_load(&counts->failed), atomic_load(&counts->wrong));
  CHECK_INT(resumed + full, all);
  CHECK_INT(atomic_load(&handshakes), all);
  CHECK(is_scaled() || resumed * 2 >= all);
}

/* In a short run a leak cannot be told from an allocator that warms up. */
static void
check_memory(long all)
{
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  CHECK(most_sessions <= MOST_SESSIONS);
  CHECK(most_bytes <= MOST_BYTES);
  if (all >= 100000) {
    CHECK(memory.least[3] - memory.least[1] <= SLACK);
    CHECK(usage.ru_maxrss * 1024 - memory.least[1] <= 2 * MOST_BYTES + SLACK);
  }
  fprintf(stderr, "at most %ld of %d sessions, %ld of %ld bytes\n", most_sessions, MOST_SESSIONS, most_bytes,
          MOST_BYTES);
  fprintf(stderr, "resident after a clear: %ld, %ld, %ld, %ld KiB in the four quarters; at most %ld KiB\n",
          memory.least[0] / 1024, memory.least[1] / 1024, memory.least[2] / 1024, memory.least[3] / 1024,
          usage.ru_maxrss);
}

static void
print_figures(double seconds)
{
  fprintf(stderr, "%ld handshakes of %d processes in %.1f s, %.0f a second\n", atomic_load(&handshakes), CLIENTS,
          seconds, (double)atomic_load(&handshakes) / seconds);
  fprintf(stderr, "ticket keys changed %ld times, every %.1f ms, at most %d active; tickets with a dropped key %lld\n",
          ring.rotations, seconds * 1000 / (double)ring.rotations, ring.most, api_stat(STAT_NOT_FOUND));
  fprintf(stderr, "cleared %ld times, size changed %ld times; calls of the hostile thread %ld, log lines %ld\n",
          memory.clears, size_changes, calls.all, atomic_load(&log_lines));
  fprintf(stderr, "stored %lld, replaced %lld, removed %lld, evicted %lld, expired %lld, cleared %lld\n",
          api_stat(STAT_NEW), api_stat(STAT_REPLACED), api_stat(STAT_REMOVED), api_stat(STAT_EVICTION),
          api_stat(STAT_EXPIRED), api_stat(STAT_CLEARED));
  fprintf(stderr, "hits %lld, misses %lld\n", api_stat(STAT_HIT), api_stat(STAT_MISS));
}

int
main(int argc, char **argv)
{
  static void *(*const others[])(void *) = {rotate_keys, clear_cache, change_size, watch_bounds,
                                            call_with_bad_arguments};
  enum { OTHERS = sizeof(others) / sizeof(others[0]) };
  long wanted = argc > 1 ? atol(argv[1]) : check_scaled(6000);
  long each   = ((wanted > FEWEST ? wanted : FEWEST) + CLIENTS - 1) / CLIENTS;
  long all    = each * CLIENTS;
  pid_t clients[CLIENTS];
  pthread_t servers[KINDS * SERVERS];
  pthread_t threads[OTHERS];
  struct timespec begin, end;

  signal(SIGPIPE, SIG_IGN);
  counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(counts != MAP_FAILED);
  for (int kind = 0; kind < KINDS; kind++) {
    listen_at(kind);
  }
  clock_gettime(CLOCK_MONOTONIC, &begin);
  for (unsigned i = 0; i < CLIENTS; i++) {
    clients[i] = fork();
    REQUIRE(clients[i] >= 0);
    if (clients[i] == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      return be_clients(i, each);
    }
  }

  api_open();
  /* Touch all of it now, so that it does not look like growth. */
  events.room = 2 * all;
  events.ids  = malloc((size_t)events.room * ID_LEN);
  REQUIRE(events.ids != NULL);
  memset(events.ids, 1, (size_t)events.room * ID_LEN);
  make_variants();
  REQUIRE(TSSslSessionCacheLogSet(count_line, NULL, TS_SSL_SESSION_CACHE_LOG_WARNING) == TS_SUCCESS);
  REQUIRE(TSSslSessionHookAdd(note_event, NULL) == TS_SUCCESS);
  set_number("proxy.config.ssl.session_cache.size", MOST_SESSIONS);
  set_number("tssession.session_cache.max_bytes", MOST_BYTES);
  rotate();
  for (int kind = 0; kind < KINDS; kind++) {
    ctxs[kind] = new_server(&kinds[kind]);
  }
  for (int i = 0; i < OTHERS; i++) {
    REQUIRE(pthread_create(&threads[i], NULL, others[i], &all) == 0);
  }
  for (size_t i = 0; i < KINDS * SERVERS; i++) {
    REQUIRE(pthread_create(&servers[i], NULL, accept_connections, (void *)(i % KINDS)) == 0);
  }
  for (int i = 0; i < CLIENTS; i++) {
    check_child(clients[i]);
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  if (check_failures > 0 || atomic_load(&counts->failed) > 0) {
    /* A thread that serves a client may hang. */
    fprintf(stderr, "%ld handshakes failed\n", atomic_load(&counts->failed));
    _exit(1);
  }
  atomic_store(&over, 1);
  for (int kind = 0; kind < KINDS; kind++) {
    shutdown(listeners[kind], SHUT_RDWR);
  }
  for (int i = 0; i < KINDS * SERVERS; i++) {
    pthread_join(servers[i], NULL);
  }
  for (int i = 0; i < OTHERS; i++) {
    pthread_join(threads[i], NULL);
  }

  print_figures((double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
  CHECK_INT(atomic_load(&counts->failed), 0);
  CHECK_INT(atomic_load(&counts->wrong), 0);
  if (!is_scaled()) {
    check_that_all_of_it_happened();
  }
  check_shares(all);
  check_memory(all);
  check_counters();

  TSSslSessionHookRemove(note_event, NULL);
  for (int kind = 0; kind < KINDS; kind++) {
    SSL_CTX_free(ctxs[kind]);
    close(listeners[kind]);
  }
  free_variants();
  free(events.ids);
  return check_result();
}
