/** @file

  Threads insert, look up and remove sessions under a few IDs. Each call, its result, its begin and
  its end are recorded. A checker decides whether there is an order of all calls in which each took
  effect at one moment between its begin and its end. In such an order a lookup never finds a session
  before its Insert, after a later Insert or Remove, or mixed with another one.

  The checker is exact: it accepts a history if and only if there is such an order. IDs are
  independent, so each has a checker (linearizability is local: Herlihy and Wing, 1990). The checker
  goes through the begins and ends in order, and keeps every possible state of the cache: the session
  under the ID, and which of the calls in progress have taken effect. A call must have taken effect
  when it ends. A state in which it has not is replaced by those in which one of the calls in progress
  takes effect next. If no state is left, there is no order. At most one call of each thread is in
  progress, so there are few states, and the time grows only with the length of the history.

  A large cache keeps what was inserted. A cache of 1 to 4 sessions may lose a session at any time, but
  a session that was missed once does not come back.

  SPDX-License-Identifier: Apache-2.0
 */

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "api.h"
#include "check.h"
#include "tls.h"

#define THREADS 4
#define KEYS 8
#define SHAPES 4
#define ROOM 1000
#define CHUNK 1000

/* The content of an ID is the number of an insert, or one of these. */
#define NOTHING 0
/* Bytes that no call inserted. */
#define MIXTURE UINT32_MAX

enum kind { READ, WRITE };

/* A call. A Remove writes NOTHING, and a lookup that misses reads it. */
struct call {
  uint64_t begin;
  uint64_t end;
  uint32_t value;
  unsigned char kind;
  unsigned char key;
};

/*
 * The checker.
 */

#define MOST_STATES 8192

struct state {
  uint32_t value;
  /* The threads whose call is in progress and has taken effect. */
  uint32_t done;
};

struct checker {
  int may_lose;
  /* NULL if no call of this thread is in progress. */
  const struct call *under_way[THREADS];
  int count;
  struct state states[MOST_STATES];
};

static void
checker_start(struct checker *checker, int may_lose)
{
  memset(checker->under_way, 0, sizeof(checker->under_way));
  checker->may_lose  = may_lose;
  checker->count     = 1;
  checker->states[0] = (struct state){.value = NOTHING, .done = 0};
}

/* Adds a state, unless it is there. If a lookup can take effect in it, it does: lookups
   change nothing, so this excludes no order. */
static void
add_state(struct checker *checker, uint32_t value, uint32_t done)
{
  for (int t = 0; t < THREADS; t++) {
    const struct call *call = checker->under_way[t];
    if (call != NULL && call->kind == READ && call->value == value) {
      done |= 1u << t;
    }
  }
  for (int i = 0; i < checker->count; i++) {
    if (checker->states[i].value == value && checker->states[i].done == done) {
      return;
    }
  }
  REQUIRE(checker->count < MOST_STATES);
  checker->states[checker->count++] = (struct state){.value = value, .done = done};
}

static void
checker_begin(struct checker *checker, int thread, const struct call *call)
{
  checker->under_way[thread] = call;
  if (call->kind == READ) {
    for (int i = 0; i < checker->count; i++) {
      if (checker->states[i].value == call->value) {
        checker->states[i].done |= 1u << thread;
      }
    }
  }
}

/* Returns 0 if there is no order. */
static int
checker_end(struct checker *checker, int thread)
{
  uint32_t bit = 1u << thread;

  /* The list grows during this loop. */
  for (int i = 0; i < checker->count; i++) {
    struct state state = checker->states[i];
    if (state.done & bit) {
      continue;
    }
    for (int t = 0; t < THREADS; t++) {
      const struct call *call = checker->under_way[t];
      if (call != NULL && call->kind == WRITE && !(state.done & 1u << t)) {
        add_state(checker, call->value, state.done | 1u << t);
      }
    }
    if (checker->may_lose) {
      add_state(checker, NOTHING, state.done);
    }
  }
  /* All states that stay have the bit. Without it they still differ. */
  int kept = 0;
  for (int i = 0; i < checker->count; i++) {
    if (checker->states[i].done & bit) {
      checker->states[kept] = checker->states[i];
      checker->states[kept++].done &= ~bit;
    }
  }
  checker->count             = kept;
  checker->under_way[thread] = NULL;
  return kept > 0;
}

/* The calls that the threads recorded until all of them paused. */
struct history {
  struct call calls[THREADS][CHUNK];
  int counts[THREADS];
};

/* Prints the call that no order explains, with those of the same ID shortly before and beside it. */
static void
print_around(const struct history *history, const struct call *bad)
{
  fprintf(stderr, "ID %d: no order of these calls explains the marked one:\n", bad->key);
  for (int t = 0; t < THREADS; t++) {
    for (int i = 0; i < history->counts[t]; i++) {
      const struct call *call = &history->calls[t][i];
      if (call->key == bad->key && call->begin < bad->end && call->end + 100 > bad->begin) {
        fprintf(stderr, "%s thread %d, %" PRIu64 " to %" PRIu64 ": %s %s%" PRIu32 "\n", call == bad ? "->" : "  ", t,
                call->begin, call->end, call->kind == WRITE ? "inserted" : "found",
                call->value == MIXTURE ? "a mixture, " : "", call->value);
      }
    }
  }
}

/* Lets the checkers continue with a history. Returns the call that no order explains, or NULL. Adds to
   `*overlapping` the number of calls that began during another call of the same ID. */
static const struct call *
check_history(struct checker *checkers, const struct history *history, long long *overlapping)
{
  int next[THREADS]     = {0};
  int is_begun[THREADS] = {0};

  for (;;) {
    int thread      = -1;
    uint64_t moment = UINT64_MAX;
    for (int t = 0; t < THREADS; t++) {
      if (next[t] < history->counts[t]) {
        const struct call *call = &history->calls[t][next[t]];
        uint64_t of_thread      = is_begun[t] ? call->end : call->begin;
        if (of_thread < moment) {
          moment = of_thread;
          thread = t;
        }
      }
    }
    if (thread < 0) {
      return NULL;
    }
    const struct call *call = &history->calls[thread][next[thread]];
    struct checker *checker = &checkers[call->key];
    if (!is_begun[thread]) {
      is_begun[thread] = 1;
      for (int t = 0; t < THREADS; t++) {
        if (checker->under_way[t] != NULL) {
          (*overlapping)++;
          break;
        }
      }
      checker_begin(checker, thread, call);
      continue;
    }
    is_begun[thread] = 0;
    next[thread]++;
    if (!checker_end(checker, thread)) {
      return call;
    }
  }
}

/*
 * Tests of the checker: with histories that are easy to judge, and against a search of all orders.
 */

#define MOST_CALLS 7

struct example {
  const char *name;
  int is_good;
  int is_good_if_lost;
  /* A call that ends at 0 is the end of the list. */
  struct {
    int thread;
    struct call call;
  } calls[MOST_CALLS + 1];
};

#define INSERT(thread, begin, end, value)                                                                              \
  {                                                                                                                    \
    thread,                                                                                                            \
    {                                                                                                                  \
      begin, end, value, WRITE, 0                                                                                      \
    }                                                                                                                  \
  }
#define REMOVE(thread, begin, end) INSERT(thread, begin, end, NOTHING)
#define FIND(thread, begin, end, value)                                                                                \
  {                                                                                                                    \
    thread,                                                                                                            \
    {                                                                                                                  \
      begin, end, value, READ, 0                                                                                       \
    }                                                                                                                  \
  }
#define MISS(thread, begin, end) FIND(thread, begin, end, NOTHING)

/* clang-format off */
static const struct example examples[] = {
  {"a miss at first", 1, 1, {MISS(0, 1, 2)}},
  {"found after the insert", 1, 1, {INSERT(0, 1, 2, 7), FIND(1, 3, 4, 7)}},
  {"found before the insert has ended", 1, 1, {INSERT(0, 1, 4, 7), FIND(1, 2, 3, 7)}},
  {"missed during the insert", 1, 1, {INSERT(0, 1, 4, 7), MISS(1, 2, 3)}},
  {"missed, then found, during the insert", 1, 1, {INSERT(0, 1, 6, 7), MISS(1, 2, 3), FIND(1, 4, 5, 7)}},
  {"found, then missed, during the insert", 0, 1, {INSERT(0, 1, 6, 7), FIND(1, 2, 3, 7), MISS(1, 4, 5)}},
  {"found before the insert began", 0, 0, {FIND(1, 1, 2, 7), INSERT(0, 3, 4, 7)}},
  {"found a session that was not inserted", 0, 0, {INSERT(0, 1, 2, 7), FIND(1, 3, 4, 8)}},
  {"a mixture", 0, 0, {INSERT(0, 1, 2, 7), INSERT(1, 3, 6, 8), FIND(2, 4, 5, MIXTURE)}},
  {"missed after the insert", 0, 1, {INSERT(0, 1, 2, 7), MISS(1, 3, 4)}},
  {"found after the remove", 0, 0, {INSERT(0, 1, 2, 7), REMOVE(0, 3, 4), FIND(1, 5, 6, 7)}},
  {"found during the remove", 1, 1, {INSERT(0, 1, 2, 7), REMOVE(0, 3, 6), FIND(1, 4, 5, 7)}},
  {"missed, then found, during the remove", 0, 0, {INSERT(0, 1, 2, 7), REMOVE(0, 3, 8), MISS(1, 4, 5), FIND(1, 6, 7, 7)}},
  {"found after it was replaced", 0, 0, {INSERT(0, 1, 2, 7), INSERT(1, 3, 4, 8), FIND(0, 5, 6, 7)}},
  {"missed while it was replaced", 0, 1, {INSERT(0, 1, 2, 7), INSERT(1, 3, 6, 8), MISS(0, 4, 5)}},
  {"the new one, then the old one", 0, 0, {INSERT(0, 1, 2, 7), INSERT(1, 3, 8, 8), FIND(0, 4, 5, 8), FIND(0, 6, 7, 7)}},
  {"the new one, then the old one, by two threads", 0, 0, {INSERT(0, 1, 2, 7), INSERT(1, 3, 8, 8), FIND(0, 4, 5, 8), FIND(2, 6, 7, 7)}},
  {"the old one, then the new one", 1, 1, {INSERT(0, 1, 2, 7), INSERT(1, 3, 8, 8), FIND(0, 4, 5, 7), FIND(0, 6, 7, 8)}},
  {"either of two concurrent inserts", 1, 1, {INSERT(0, 1, 4, 7), INSERT(1, 2, 3, 8), FIND(2, 5, 6, 7), FIND(3, 7, 8, 7)}},
  {"first one of two concurrent inserts, then the other", 0, 0, {INSERT(0, 1, 4, 7), INSERT(1, 2, 3, 8), FIND(2, 5, 6, 7), FIND(3, 7, 8, 8)}},
  {"two threads that see another order", 0, 0, {INSERT(0, 1, 9, 7), INSERT(1, 2, 10, 8),
     FIND(2, 3, 4, 7), FIND(2, 5, 6, 8), FIND(3, 7, 8, 7)}},
  {"the remove between two concurrent inserts", 1, 1, {INSERT(0, 1, 8, 7), REMOVE(1, 2, 7), INSERT(2, 3, 9, 8),
     FIND(3, 4, 5, 7), MISS(3, 10, 11)}},
  {"inserted again after the remove", 1, 1, {INSERT(0, 1, 2, 7), REMOVE(1, 3, 4), INSERT(0, 5, 6, 8), FIND(1, 7, 8, 8)}},
  {"lost, then found again", 0, 0, {INSERT(0, 1, 2, 7), MISS(1, 3, 4), FIND(1, 5, 6, 7)}},
  {"lost, then inserted again", 0, 1, {INSERT(0, 1, 2, 7), MISS(1, 3, 4), INSERT(0, 5, 6, 8), FIND(1, 7, 8, 8)}},
};
/* clang-format on */

/* The definition, literally. Returns whether the calls that are not in `used` can follow in some order. */
static int
has_order(const struct call *const *calls, int count, unsigned used, uint32_t value, int may_lose)
{
  if (used == (1u << count) - 1) {
    return 1;
  }
  for (int i = 0; i < count; i++) {
    int is_first = !(used & 1u << i);
    for (int j = 0; j < count && is_first; j++) {
      is_first = (used & 1u << j) || calls[j]->end >= calls[i]->begin;
    }
    if (!is_first) {
      continue;
    }
    if (calls[i]->kind == READ && calls[i]->value != value && !(may_lose && calls[i]->value == NOTHING)) {
      continue;
    }
    if (has_order(calls, count, used | 1u << i, calls[i]->value, may_lose)) {
      return 1;
    }
  }
  return 0;
}

static int
tried_orders(const struct history *history, int may_lose)
{
  const struct call *calls[MOST_CALLS];
  int count = 0;
  for (int t = 0; t < THREADS; t++) {
    for (int i = 0; i < history->counts[t]; i++) {
      calls[count++] = &history->calls[t][i];
    }
  }
  return has_order(calls, count, 0, NOTHING, may_lose);
}

static struct history history;
static struct checker checkers[KEYS];

/* xorshift, with a separate sequence for each thread. */
static unsigned
next(unsigned *state)
{
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return *state;
}

/* Makes a random history of a few calls. Its values are few, so that many histories have an order. */
static void
make_random_history(unsigned *random)
{
  uint64_t moment      = 0;
  uint32_t value       = 0;
  int is_open[THREADS] = {0};

  memset(history.counts, 0, sizeof(history.counts));
  for (int begun = 0, running = 0; begun < MOST_CALLS || running > 0;) {
    int t             = (int)(next(random) % THREADS);
    struct call *call = &history.calls[t][history.counts[t]];
    if (is_open[t]) {
      call->end = ++moment;
      history.counts[t]++;
      is_open[t] = 0;
      running--;
    } else if (begun < MOST_CALLS) {
      *call       = (struct call){.begin = ++moment, .kind = next(random) % 2 ? WRITE : READ};
      call->value = call->kind == READ ? next(random) % (value + 2) : next(random) % 4 == 0 ? NOTHING : ++value;
      is_open[t]  = 1;
      begun++;
      running++;
    }
  }
}

static int
accepts(int may_lose)
{
  long long overlapping = 0;
  checker_start(&checkers[0], may_lose);
  return check_history(checkers, &history, &overlapping) == NULL;
}

static void
check_checker(void)
{
  int good[2] = {0, 0};

  for (size_t n = 0; n < sizeof(examples) / sizeof(examples[0]); n++) {
    const struct example *example = &examples[n];
    memset(history.counts, 0, sizeof(history.counts));
    for (int i = 0; example->calls[i].call.end > 0; i++) {
      int t                                 = example->calls[i].thread;
      history.calls[t][history.counts[t]++] = example->calls[i].call;
    }
    CHECK_OR(accepts(0) == example->is_good && accepts(1) == example->is_good_if_lost, "the checker is wrong about: %s",
             example->name);
    CHECK_INT(tried_orders(&history, 0), example->is_good);
    CHECK_INT(tried_orders(&history, 1), example->is_good_if_lost);
  }

  unsigned random = 2463534242u;
  int count       = check_scaled(100000);
  for (int n = 0; n < count; n++) {
    make_random_history(&random);
    for (int may_lose = 0; may_lose < 2; may_lose++) {
      int is_good = tried_orders(&history, may_lose);
      CHECK_INT(accepts(may_lose), is_good);
      good[may_lose] += is_good;
    }
  }
  /* Many histories had an order, and many had none. */
  for (int may_lose = 0; may_lose < 2; may_lose++) {
    CHECK(good[may_lose] > count / 20 && good[may_lose] < count - count / 20);
  }
}

/*
 * Sessions that all differ. Every byte that differs follows from the session's number. The first two
 * shapes differ in the host name, the others in the size of the application's data in the ticket;
 * OpenSSL decodes only those.
 */

#define SECRET_LEN 48

static const size_t data_lens[SHAPES] = {0, 0, 40, 600};

/* For each ID and shape, the DER bytes of a session, and where the number is written. */
static struct {
  unsigned char der[ROOM];
  int len;
  int secret_at;
  int data_at;
} shapes[KEYS][SHAPES];

static SSL_SESSION *base;

static TSSslSessionID
key_id(int key)
{
  return api_numbered_id((unsigned long)key);
}

/* The number comes first, so that it can be read. For different numbers every word differs. */
static void
fill(unsigned char *bytes, size_t len, uint32_t value)
{
  uint32_t word = value;
  for (size_t i = 0; i < len; i += sizeof(word)) {
    memcpy(bytes + i, &word, sizeof(word));
    word = word * 2654435761u + 12345u;
  }
}

static void
set_value(SSL_SESSION *session, uint32_t value)
{
  unsigned char bytes[ROOM];
  size_t data_len = data_lens[value % SHAPES];
  fill(bytes, SECRET_LEN, value);
  REQUIRE(SSL_SESSION_set1_master_key(session, bytes, SECRET_LEN) == 1);
  if (data_len > 0) {
    fill(bytes, data_len, ~value);
    REQUIRE(SSL_SESSION_set1_ticket_appdata(session, bytes, data_len) == 1);
  }
}

static SSL_SESSION *
new_session(int key, int shape)
{
  SSL_SESSION *session = SSL_SESSION_dup(base);
  /* For every other key, the ID in the session is a different one. */
  TSSslSessionID id = key_id(key % 2 ? key : key + KEYS);
  REQUIRE(session != NULL);
  REQUIRE(SSL_SESSION_set1_id(session, (const unsigned char *)id.bytes, (unsigned)id.len) == 1);
  REQUIRE(SSL_SESSION_set1_hostname(session, shape == 0 ? "a.example" : "another.example") == 1);
  REQUIRE(SSL_SESSION_set_timeout(session, 1000000) == 1);
  set_value(session, (uint32_t)shape);
  return session;
}

static int
place_of(const unsigned char *bytes, int len, size_t of_len, uint32_t value)
{
  unsigned char part[ROOM];
  fill(part, of_len, value);
  const unsigned char *place = memmem(bytes, (size_t)len, part, of_len);
  REQUIRE(place != NULL);
  return (int)(place - bytes);
}

static void
make_shapes(void)
{
  base = tls_session(0);
  for (int key = 0; key < KEYS; key++) {
    for (int shape = 0; shape < SHAPES; shape++) {
      SSL_SESSION *session = new_session(key, shape);
      int len              = 0;
      unsigned char *der   = tls_der(session, &len);
      REQUIRE(len <= ROOM);
      memcpy(shapes[key][shape].der, der, (size_t)len);
      shapes[key][shape].len       = len;
      shapes[key][shape].secret_at = place_of(der, len, SECRET_LEN, (uint32_t)shape);
      shapes[key][shape].data_at   = place_of(der, len, data_lens[shape], ~(uint32_t)shape);
      OPENSSL_free(der);
      SSL_SESSION_free(session);
    }
  }
}

/* Writes the DER bytes of a session. Returns their number. */
static int
write_der(int key, uint32_t value, unsigned char *der)
{
  int shape = (int)(value % SHAPES);
  memcpy(der, shapes[key][shape].der, (size_t)shapes[key][shape].len);
  fill(der + shapes[key][shape].secret_at, SECRET_LEN, value);
  fill(der + shapes[key][shape].data_at, data_lens[shape], ~value);
  return shapes[key][shape].len;
}

/* Returns the number of the session of `all` bytes that begins with these `len` bytes. */
static uint32_t
read_der(int key, const unsigned char *der, int len, int all)
{
  unsigned char expected[ROOM];
  uint32_t value;
  /* Try all shapes with this length. */
  for (int shape = 0; shape < SHAPES; shape++) {
    int at = shapes[key][shape].secret_at;
    if (shapes[key][shape].len != all || len < at + SECRET_LEN) {
      continue;
    }
    memcpy(&value, der + at, sizeof(value));
    if (value % SHAPES == (uint32_t)shape && write_der(key, value, expected) == all &&
        memcmp(der, expected, (size_t)len) == 0) {
      return value;
    }
  }
  return MIXTURE;
}

/* A mixture of two sessions is recognized, wherever one ends and the other begins. */
static void
check_mixtures_are_seen(void)
{
  unsigned char one[ROOM];
  unsigned char other[ROOM];
  int len = write_der(1, 3 + 4 * SHAPES, one);
  CHECK_INT(write_der(1, 3 + 5 * SHAPES, other), len);
  CHECK_INT(read_der(1, one, len, len), 3 + 4 * SHAPES);
  CHECK_INT(read_der(1, other, len, len), 3 + 5 * SHAPES);
  CHECK_INT(read_der(1, one, len - 1, len - 1), MIXTURE);
  CHECK_INT(read_der(0, one, len, len), MIXTURE);
  for (int i = 0; i < len; i++) {
    int differs = memcmp(one, other, (size_t)i) != 0 && memcmp(one + i, other + i, (size_t)(len - i)) != 0;
    unsigned char mixed[ROOM];
    memcpy(mixed, one, (size_t)i);
    memcpy(mixed + i, other + i, (size_t)(len - i));
    CHECK(!differs || read_der(1, mixed, len, len) == MIXTURE);
  }
}

/*
 * The threads.
 */

static struct {
  int keys;
  int chunks;
} run;

/* A clock that orders begins and ends: a smaller number is earlier. */
static _Atomic uint64_t clock_now = 1;
static pthread_barrier_t barrier;

static uint64_t
tick(void)
{
  return atomic_fetch_add(&clock_now, 1);
}

static void
insert(struct call *call, const TSSslSessionID *id, SSL_SESSION *session, const unsigned char *der, int len)
{
  TSReturnCode code;
  call->kind  = WRITE;
  call->begin = tick();
  if (session != NULL) {
    code = TSSslSessionInsert(id, (TSSslSession)session);
  } else {
    code = TSSslSessionInsertBuffer(id, (const char *)der, len);
  }
  call->end = tick();
  CHECK_INT(code, TS_SUCCESS);
}

static void
remove_session(struct call *call, const TSSslSessionID *id)
{
  call->kind        = WRITE;
  call->value       = NOTHING;
  call->begin       = tick();
  TSReturnCode code = TSSslSessionRemove(id);
  call->end         = tick();
  CHECK_INT(code, TS_SUCCESS);
}

static void
get(struct call *call, const TSSslSessionID *id)
{
  call->kind           = READ;
  call->begin          = tick();
  SSL_SESSION *session = (SSL_SESSION *)TSSslSessionGet(id);
  call->end            = tick();
  call->value          = NOTHING;
  if (session != NULL) {
    unsigned char der[ROOM];
    unsigned char *end = der;
    int len            = i2d_SSL_SESSION(session, NULL);
    call->value        = MIXTURE;
    if (len <= ROOM && i2d_SSL_SESSION(session, &end) == len) {
      call->value = read_der(call->key, der, len, len);
    }
    SSL_SESSION_free(session);
  }
}

static void
get_buffer(struct call *call, const TSSslSessionID *id, int space)
{
  unsigned char der[ROOM];
  int len     = space;
  call->kind  = READ;
  call->begin = tick();
  int needed  = TSSslSessionGetBuffer(id, (char *)der, &len);
  call->end   = tick();
  if (needed == 0) {
    call->value = NOTHING;
  } else if (len != (needed < space ? needed : space)) {
    call->value = MIXTURE;
  } else {
    call->value = read_der(call->key, der, len, needed);
  }
}

static void *
call_functions(void *arg)
{
  int thread      = (int)(size_t)arg;
  unsigned random = 88172645u + 7919u * (unsigned)thread;
  uint32_t number = 0;
  /* The sessions to insert. Each call changes them, because the library keeps copies. */
  SSL_SESSION *own[KEYS][SHAPES];
  unsigned char der[ROOM];

  for (int key = 0; key < KEYS; key++) {
    for (int shape = 0; shape < SHAPES; shape++) {
      own[key][shape] = new_session(key, shape);
    }
  }
  for (int chunk = 0; chunk < run.chunks; chunk++) {
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < CHUNK; i++) {
      struct call *call = &history.calls[thread][i];
      call->key         = (unsigned char)(next(&random) % (unsigned)run.keys);
      TSSslSessionID id = key_id(call->key);
      unsigned choice   = next(&random) % 16;
      if (choice < 5) {
        get_buffer(call, &id, ROOM);
      } else if (choice < 6) {
        /* Enough space for the secret of every shape, and for little more. */
        get_buffer(call, &id, shapes[call->key][SHAPES - 1].secret_at + SECRET_LEN);
      } else if (choice < 9) {
        get(call, &id);
      } else if (choice < 12) {
        remove_session(call, &id);
      } else {
        unsigned shape = next(&random) % SHAPES;
        /* The lowest numbers are in the shapes. */
        call->value = shape + SHAPES * (1 + (uint32_t)thread + THREADS * number++);
        if (choice < 14) {
          set_value(own[call->key][shape], call->value);
          insert(call, &id, own[call->key][shape], NULL, 0);
        } else {
          insert(call, &id, NULL, der, write_der(call->key, call->value, der));
        }
      }
    }
    pthread_barrier_wait(&barrier);
  }
  for (int key = 0; key < KEYS; key++) {
    for (int shape = 0; shape < SHAPES; shape++) {
      SSL_SESSION_free(own[key][shape]);
    }
  }
  return NULL;
}

/* The number of IDs, and the room for sessions. */
struct setting {
  int keys;
  /* NULL for more than is needed. */
  const char *size;
};

static const struct setting settings[] = {
  {1, NULL}, {2, NULL}, {KEYS, NULL}, {2, "1"}, {KEYS, "2"}, {KEYS, "4"},
};

#define SETTINGS ((long long)(sizeof(settings) / sizeof(settings[0])))

static long long
run_setting(const struct setting *setting, long long calls)
{
  pthread_t threads[THREADS];
  long long overlapping = 0;
  long long found       = 0;
  long long checked     = 0;
  const char *size      = "proxy.config.ssl.session_cache.size";

  CHECK_INT(TSSslSessionCacheConfigSet(size, setting->size != NULL ? setting->size : "102400"), TS_SUCCESS);
  TSSslSessionCacheClear();
  for (int key = 0; key < KEYS; key++) {
    checker_start(&checkers[key], setting->size != NULL);
  }
  run.keys   = setting->keys;
  run.chunks = (int)(calls / ((long long)CHUNK * THREADS)) + 1;
  REQUIRE(pthread_barrier_init(&barrier, NULL, THREADS + 1) == 0);
  for (int t = 0; t < THREADS; t++) {
    history.counts[t] = CHUNK;
    REQUIRE(pthread_create(&threads[t], NULL, call_functions, (void *)(size_t)t) == 0);
  }
  for (int chunk = 0; chunk < run.chunks; chunk++) {
    pthread_barrier_wait(&barrier);
    /* The threads call now. */
    pthread_barrier_wait(&barrier);
    const struct call *bad = check_history(checkers, &history, &overlapping);
    if (bad != NULL) {
      print_around(&history, bad);
      exit(1);
    }
    for (int t = 0; t < THREADS; t++) {
      for (int i = 0; i < CHUNK; i++) {
        found += history.calls[t][i].kind == READ && history.calls[t][i].value != NOTHING;
      }
    }
    checked += (long long)CHUNK * THREADS;
  }
  for (int t = 0; t < THREADS; t++) {
    pthread_join(threads[t], NULL);
  }
  pthread_barrier_destroy(&barrier);
  /* Without overlaps the test would show nothing. (valgrind runs one thread at a time.) */
  CHECK(overlapping > 0 || getenv("CHECK_SCALE") != NULL);
  CHECK(found > checked / 20);
  fprintf(stderr,
          "%d IDs, room for %s: %lld calls, %lld of them beside another one of the same ID, %lld lookups that found: "
          "linearizable\n",
          setting->keys, setting->size != NULL ? setting->size : "all", checked, overlapping, found);
  return checked;
}

/* The argument is the smallest number of calls. */
int
main(int argc, char **argv)
{
  long long calls   = argc > 1 ? atoll(argv[1]) : check_scaled(300000);
  long long checked = 0;

  api_open();
  check_checker();
  make_shapes();
  check_mixtures_are_seen();
  if (check_failures > 0) {
    return check_result();
  }
  for (long long i = 0; i < SETTINGS; i++) {
    checked += run_setting(&settings[i], calls / SETTINGS);
  }
  CHECK(checked >= calls);
  fprintf(stderr, "%lld calls: %s\n", checked, check_failures == 0 ? "linearizable" : "see above");
  SSL_SESSION_free(base);
  return check_result();
}
