/** @file

  SPDX-License-Identifier: Apache-2.0
 */

#include "measure.h"

#include <dlfcn.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "../c_tests/tls.h"

/* So many operations are prepared, timed together, and checked. The preparation is not timed. It leaves
   in the CPU cache what a handshake would have touched just before. */
#define BATCH 512
#define MAX_THREADS 64
#define MAX_REPETITIONS 101
#define MAX_CANDIDATES 8

static _Noreturn void
fail(const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

static double
seconds(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Prints a line. On a terminal the next one replaces it. */
static void
progress(const char *what, const char *title)
{
  fprintf(stderr, "%-30s %-40s%c", what, title, isatty(STDERR_FILENO) ? '\r' : '\n');
}

/* splitmix64: cheap, and good enough to choose keys. */
static uint64_t
next_random(uint64_t *state)
{
  uint64_t z = *state += 0x9e3779b97f4a7c15;
  z          = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z          = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/* Returns ID number `n`, as random as IDs that servers choose. */
static struct measure_id
id_number(uint64_t n)
{
  struct measure_id id = {.len = sizeof(id.bytes)};
  uint64_t state       = n * 0x2545f4914f6cdd1d + 1;
  for (size_t i = 0; i < sizeof(id.bytes); i += 8) {
    uint64_t word = next_random(&state);
    memcpy(id.bytes + i, &word, 8);
  }
  return id;
}

bool
candidate_find(struct candidate *candidate, const char *name, void *library)
{
  void *found[]   = {dlsym(library, "TSSslSessionGet"), dlsym(library, "TSSslSessionGetBuffer"),
                     dlsym(library, "TSSslSessionInsert"), dlsym(library, "TSSslSessionRemove"),
                     dlsym(library, "TSSslSessionCacheClear")};
  candidate->name = name;
  memcpy(&candidate->get, &found[0], sizeof(void *));
  memcpy(&candidate->get_buffer, &found[1], sizeof(void *));
  memcpy(&candidate->insert, &found[2], sizeof(void *));
  memcpy(&candidate->remove, &found[3], sizeof(void *));
  memcpy(&candidate->clear, &found[4], sizeof(void *));
  return found[0] != NULL && found[1] != NULL && found[2] != NULL && found[3] != NULL;
}

/* Returns a TLS 1.2 session of a real handshake, with a host name: 160 bytes of DER. */
static SSL_SESSION *
real_session(void)
{
  unsigned char *der;
  int len;
  SSL_SESSION *session = tls_session(0);
  SSL_SESSION_set_timeout(session, 7200);
  der = tls_der(session, &len);
  OPENSSL_free(der);
  if (len < 156) {
    char name[32] = "";
    memset(name, 'a', (size_t)(156 - len));
    SSL_SESSION_set1_hostname(session, name);
  }
  return session;
}

/* Turns the session into one that the server could have made for the next client. */
static void
renew(SSL_SESSION *session, const struct measure_id *id, uint64_t *random)
{
  unsigned char secret[48];
  for (size_t i = 0; i < sizeof(secret); i += 8) {
    uint64_t word = next_random(random);
    memcpy(secret + i, &word, 8);
  }
  SSL_SESSION_set1_id(session, id->bytes, (unsigned)id->len);
  SSL_SESSION_set1_master_key(session, secret, sizeof(secret));
}

enum operation { GET_BUFFER, GET, INSERT, REMOVE };
enum keys { UNIFORM, ZIPF, ONE_KEY, ONCE, ABSENT, FRESH };

struct row {
  const char *name;
  enum operation operation;
  enum keys keys;
  /* So many of ten operations insert a new session instead. */
  int inserts;
  /* Fill the cache to its capacity first. */
  bool full;
};

static const struct row rows[] = {
  {"GetBuffer hit, uniform", GET_BUFFER, UNIFORM, 0, false},
  {"GetBuffer hit, Zipf", GET_BUFFER, ZIPF, 0, false},
  {"GetBuffer hit, one key", GET_BUFFER, ONE_KEY, 0, false},
  {"GetBuffer miss", GET_BUFFER, ABSENT, 0, false},
  {"Get hit and free, uniform", GET, UNIFORM, 0, false},
  {"Get hit and free, one key", GET, ONE_KEY, 0, false},
  {"Insert, new", INSERT, FRESH, 0, false},
  {"Insert, replaces", INSERT, UNIFORM, 0, false},
  {"Remove, present", REMOVE, ONCE, 0, false},
  {"9 GetBuffer, 1 Insert", GET_BUFFER, UNIFORM, 1, false},
  {"9 Get, 1 Insert", GET, UNIFORM, 1, false},
  {"Insert, full", INSERT, FRESH, 0, true},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* The threads of all candidates share this. */
struct world {
  const struct measure_plan *plan;
  const SSL_SESSION *session;
  struct measure_id *ids;
  int sessions;
  /* Indices into `ids`, in the order of use. */
  uint32_t *uniform;
  uint32_t *zipf;
  FILE *out;
};
#define SEQUENCE (1u << 20)

struct worker {
  const struct world *world;
  const struct candidate *candidate;
  const struct row *row;
  int number;
  int threads;
  /* The sessions that it inserts, and the number of its next unused ID. */
  SSL_SESSION *pool[BATCH];
  uint64_t next_fresh;
  uint64_t random;
  uint32_t position;
  /* Filled in by a run. */
  double nanoseconds;
  uint64_t operations;
  uint64_t hits;
  int *ready;
  int *go;
  int *done;
};

static uint32_t
next_index(struct worker *worker, enum keys keys)
{
  const struct world *world = worker->world;
  switch (keys) {
  case ONE_KEY:
    return 0;
  case ONCE: {
    /* No two threads use the same key, and no key is used twice in a batch. */
    uint32_t turn = worker->position++ * (uint32_t)worker->threads + (uint32_t)worker->number;
    return (uint32_t)((uint64_t)turn * 7919 % (uint64_t)world->sessions);
  }
  case ZIPF:
    return world->zipf[worker->position++ % SEQUENCE];
  default:
    return world->uniform[worker->position++ % SEQUENCE];
  }
}

static bool
inserts(const struct row *row, int i)
{
  return row->operation == INSERT || (row->inserts > 0 && i % 10 < row->inserts);
}

/* Prepares a batch, times it, and checks it. The preparation touches the IDs and the sessions to insert,
   as a handshake does when it receives or makes them. */
static void
run_batch(struct worker *worker)
{
  const struct row *row             = worker->row;
  const struct candidate *candidate = worker->candidate;
  struct measure_id ids[BATCH];
  char buffer[4096];
  uint64_t hits = 0;

  for (int i = 0; i < BATCH; i++) {
    bool fresh = row->keys == FRESH || row->keys == ABSENT || (row->inserts > 0 && inserts(row, i));
    ids[i]     = fresh ? id_number(worker->next_fresh++) : worker->world->ids[next_index(worker, row->keys)];
    if (inserts(row, i) || row->operation == REMOVE) {
      renew(worker->pool[i], &ids[i], &worker->random);
    }
  }

  double start = seconds();
  for (int i = 0; i < BATCH; i++) {
    if (inserts(row, i)) {
      hits += candidate->insert(&ids[i], worker->pool[i], NULL) == 0;
    } else if (row->operation == GET_BUFFER) {
      int len = sizeof(buffer);
      hits += candidate->get_buffer(&ids[i], buffer, &len) > 0;
    } else if (row->operation == GET) {
      SSL_SESSION *got = candidate->get(&ids[i]);
      hits += got != NULL;
      SSL_SESSION_free(got);
    } else {
      hits += candidate->remove(&ids[i]) == 0;
    }
  }
  worker->nanoseconds += 1e9 * (seconds() - start);
  worker->operations += BATCH;
  worker->hits += hits;

  for (int i = 0; i < BATCH; i++) {
    if (inserts(row, i) && i % 60 == 0) {
      int len = sizeof(buffer);
      if (candidate->get_buffer(&ids[i], buffer, &len) == 0) {
        fail("%s: %s: an inserted session was not found", candidate->name, row->name);
      }
    }
    if (row->operation == REMOVE) {
      candidate->insert(&ids[i], worker->pool[i], NULL);
    }
    if (inserts(row, i) && !row->full && (row->inserts > 0 || row->keys == FRESH)) {
      candidate->remove(&ids[i]);
    }
  }
}

static void *
run_worker(void *argument)
{
  struct worker *worker = argument;
  double end;

  __atomic_add_fetch(worker->ready, 1, __ATOMIC_SEQ_CST);
  while (!__atomic_load_n(worker->go, __ATOMIC_SEQ_CST)) {
    sched_yield();
  }
  end = seconds() + 1e-6 * worker->world->plan->slice_us;
  do {
    run_batch(worker);
  } while (seconds() < end);
  __atomic_add_fetch(worker->done, 1, __ATOMIC_SEQ_CST);
  return NULL;
}

/* Runs the row on so many threads. Returns nanoseconds per operation of one thread. */
static double
run_row(struct worker *workers, int threads, const struct candidate *candidate, const struct row *row)
{
  int ready = 0, go = 0, done = 0;
  double nanoseconds  = 0;
  uint64_t operations = 0, hits = 0;

  for (int i = 0; i < threads; i++) {
    struct worker *worker = &workers[i];
    worker->candidate     = candidate;
    worker->row           = row;
    worker->threads       = threads;
    worker->nanoseconds   = 0;
    worker->operations = worker->hits = 0;
    worker->ready                     = &ready;
    worker->go                        = &go;
    worker->done                      = &done;
    if (i > 0) {
      worker->world->plan->start_thread(run_worker, worker);
    }
  }
  while (__atomic_load_n(&ready, __ATOMIC_SEQ_CST) < threads - 1) {
    sched_yield();
  }
  __atomic_store_n(&go, 1, __ATOMIC_SEQ_CST);
  run_worker(&workers[0]);
  while (__atomic_load_n(&done, __ATOMIC_SEQ_CST) < threads) {
    usleep(100);
  }
  for (int i = 0; i < threads; i++) {
    nanoseconds += workers[i].nanoseconds;
    operations += workers[i].operations;
    hits += workers[i].hits;
  }
  /* ATS divides its capacity among buckets, so it loses a few sessions before it is full. */
  double share = (double)hits / (double)operations;
  if (row->keys == ABSENT ? hits != 0 : share < 0.97) {
    fail("%s: %s: %.1f %% of the operations succeeded", candidate->name, row->name, 100 * share);
  }
  return nanoseconds / (double)operations;
}

static int
compare_doubles(const void *a, const void *b)
{
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void
report(const struct world *world, const char *chart, const char *title, const char *row, const char *candidate,
       double *values, int count, const char *unit, const char *better)
{
  qsort(values, (size_t)count, sizeof(double), compare_doubles);
  fprintf(world->out,
          "{\"chart\":\"%s-%s\",\"title\":\"%s, %s\",\"row\":\"%s\",\"candidate\":\"%s\",\"value\":%.2f,"
          "\"unit\":\"%s\",\"better\":\"%s\",\"low\":%.2f,\"high\":%.2f}\n",
          world->plan->where, chart, title, world->plan->where, row, candidate, values[count / 2], unit, better,
          values[count / 4], values[count - 1 - count / 4]);
  fflush(world->out);
}

static void
fill(const struct candidate *candidate, struct worker *worker, int sessions)
{
  for (int i = 0; i < sessions; i++) {
    const struct measure_id *id = &worker->world->ids[i];
    renew(worker->pool[0], id, &worker->random);
    if (candidate->insert(id, worker->pool[0], NULL) != 0) {
      fail("%s: an insert failed", candidate->name);
    }
  }
}

static void
empty(const struct candidate *candidate, const struct world *world)
{
  for (int i = 0; i < world->sessions; i++) {
    candidate->remove(&world->ids[i]);
  }
}

static struct world *
make_world(const struct measure_plan *plan, int sessions, const char *path)
{
  struct world *world = calloc(1, sizeof(*world));
  double *sums        = malloc(sizeof(double) * (size_t)sessions);
  uint64_t random     = 42;
  double sum          = 0;

  world->plan     = plan;
  world->session  = real_session();
  world->sessions = sessions;
  world->ids      = malloc(sizeof(struct measure_id) * (size_t)sessions);
  world->uniform  = malloc(sizeof(uint32_t) * SEQUENCE);
  world->zipf     = malloc(sizeof(uint32_t) * SEQUENCE);
  world->out      = fopen(path, "a");
  if (world->out == NULL) {
    fail("%s: cannot write", path);
  }
  for (int i = 0; i < sessions; i++) {
    world->ids[i] = id_number((uint64_t)i);
    sums[i]       = sum += 1.0 / (i + 1);
  }
  for (uint32_t i = 0; i < SEQUENCE; i++) {
    double point = sum * (double)(next_random(&random) >> 11) * 0x1p-53;
    int low = 0, high = sessions - 1;
    while (low < high) {
      int middle = (low + high) / 2;
      if (sums[middle] < point) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    world->zipf[i]    = (uint32_t)low;
    world->uniform[i] = (uint32_t)(next_random(&random) % (uint64_t)sessions);
  }
  free(sums);
  return world;
}

static void
free_world(struct world *world)
{
  fclose(world->out);
  SSL_SESSION_free((SSL_SESSION *)(uintptr_t)world->session);
  free(world->ids);
  free(world->uniform);
  free(world->zipf);
  free(world);
}

static struct worker *
make_workers(const struct world *world, int count)
{
  struct worker *workers = calloc((size_t)count, sizeof(*workers));
  for (int i = 0; i < count; i++) {
    workers[i].world      = world;
    workers[i].number     = i;
    workers[i].random     = (uint64_t)i + 1;
    workers[i].position   = (uint32_t)i * 7919;
    workers[i].next_fresh = (uint64_t)(i + 1) << 40;
    for (int j = 0; j < BATCH; j++) {
      workers[i].pool[j] = SSL_SESSION_dup(world->session);
    }
  }
  return workers;
}

static void
free_workers(struct worker *workers, int count)
{
  for (int i = 0; i < count; i++) {
    for (int j = 0; j < BATCH; j++) {
      SSL_SESSION_free(workers[i].pool[j]);
    }
  }
  free(workers);
}

static void
measure_rows(const struct candidate *candidates, int count, struct world *world, bool full)
{
  const struct measure_plan *plan = world->plan;
  struct worker *workers          = make_workers(world, plan->threads);
  static double values[MAX_CANDIDATES][MAX_REPETITIONS];
  char chart[64], title[128];

  for (int c = 0; c < count; c++) {
    fill(&candidates[c], workers, world->sessions);
  }
  for (int threads = 1; threads <= plan->threads; threads *= 2) {
    snprintf(chart, sizeof(chart), "%d-threads-%d", world->sessions, threads);
    snprintf(title, sizeof(title), "%d sessions, %d thread%s", world->sessions, threads, threads > 1 ? "s" : "");
    for (size_t r = 0; r < ROWS; r++) {
      if (rows[r].full != full || (plan->only != NULL && strstr(rows[r].name, plan->only) == NULL)) {
        continue;
      }
      progress(rows[r].name, title);
      for (int repetition = 0; repetition < plan->repetitions; repetition++) {
        for (int c = 0; c < count; c++) {
          values[c][repetition] = run_row(workers, threads, &candidates[c], &rows[r]);
        }
      }
      for (int c = 0; c < count; c++) {
        report(world, chart, title, rows[r].name, candidates[c].name, values[c], plan->repetitions, "ns", "lower");
      }
    }
  }
  for (int c = 0; c < count; c++) {
    empty(&candidates[c], world);
  }
  free_workers(workers, plan->threads);
}

/* A thread that inserts as fast as it can while another measures single lookups. */
struct inserter {
  struct worker worker;
  int stop;
  int stopped;
};

static void *
insert_until_stopped(void *argument)
{
  struct inserter *inserter   = argument;
  static const struct row row = {"insert", INSERT, FRESH, 0, true};
  inserter->worker.row        = &row;
  while (!__atomic_load_n(&inserter->stop, __ATOMIC_SEQ_CST)) {
    run_batch(&inserter->worker);
  }
  __atomic_store_n(&inserter->stopped, 1, __ATOMIC_SEQ_CST);
  return NULL;
}

/* The times of single calls, of which the longest ones matter. */
enum { CALLS = 400000, PERCENTILES = 4 };

static const struct {
  const char *name;
  double share;
} percentiles[PERCENTILES] = {{"median", 0.5}, {"99 %", 0.99}, {"99.9 %", 0.999}, {"99.99 %", 0.9999}};

typedef double latencies[MAX_CANDIDATES][PERCENTILES][MAX_REPETITIONS];

static void
note_latencies(double *times, int count, latencies values, int candidate, int repetition)
{
  qsort(times, (size_t)count, sizeof(double), compare_doubles);
  for (int p = 0; p < PERCENTILES; p++) {
    values[candidate][p][repetition] = times[(int)(count * percentiles[p].share)];
  }
}

static void
report_latencies(const struct world *world, const char *chart, const char *title, const struct candidate *candidates,
                 int count, latencies values)
{
  for (int p = 0; p < PERCENTILES; p++) {
    for (int c = 0; c < count; c++) {
      report(world, chart, title, percentiles[p].name, candidates[c].name, values[c][p], world->plan->repetitions, "ns",
             "lower");
    }
  }
}

static void
measure_latency(const struct candidate *candidates, int count, struct world *world)
{
  static latencies lookups, removals;
  struct worker *workers = make_workers(world, 2);
  double *times          = malloc(sizeof(double) * CALLS);

  for (int c = 0; c < count; c++) {
    fill(&candidates[c], workers, world->sessions);
  }
  for (int repetition = 0; repetition < world->plan->repetitions; repetition++) {
    for (int c = 0; c < count; c++) {
      progress("GetBuffer latency", candidates[c].name);
      struct inserter inserter  = {.worker = workers[1]};
      inserter.worker.candidate = &candidates[c];
      world->plan->start_thread(insert_until_stopped, &inserter);
      for (int i = 0; i < CALLS; i++) {
        char buffer[4096];
        int len      = sizeof(buffer);
        double start = seconds();
        candidates[c].get_buffer(&world->ids[world->uniform[i]], buffer, &len);
        times[i] = 1e9 * (seconds() - start);
      }
      __atomic_store_n(&inserter.stop, 1, __ATOMIC_SEQ_CST);
      while (!__atomic_load_n(&inserter.stopped, __ATOMIC_SEQ_CST)) {
        usleep(100);
      }
      workers[1].next_fresh = inserter.worker.next_fresh;
      note_latencies(times, CALLS, lookups, c, repetition);
    }
  }
  /* All of them, so that what is left is moved together and given back again and again. */
  for (int repetition = 0; repetition < world->plan->repetitions; repetition++) {
    for (int c = 0; c < count; c++) {
      progress("Remove latency", candidates[c].name);
      fill(&candidates[c], workers, world->sessions);
      /* The IDs are random numbers: their order in the cache is another. */
      for (int i = 0; i < world->sessions; i++) {
        double start = seconds();
        candidates[c].remove(&world->ids[i]);
        times[i] = 1e9 * (seconds() - start);
      }
      note_latencies(times, world->sessions, removals, c, repetition);
    }
  }
  report_latencies(world, "latency", "GetBuffer while another thread inserts into the full cache", candidates, count,
                   lookups);
  report_latencies(world, "latency_remove", "Remove of all sessions, one by one", candidates, count, removals);
  free(times);
  free_workers(workers, 2);
}

void
measure_speed(const struct candidate *candidates, int count, const struct measure_plan *plan, const char *path)
{
  static const int sizes[] = {10000, 90000};
  if (count > MAX_CANDIDATES || plan->threads > MAX_THREADS || plan->repetitions > MAX_REPETITIONS) {
    fail("too many candidates, threads or repetitions");
  }
  for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    struct world *world = make_world(plan, sizes[i], path);
    measure_rows(candidates, count, world, false);
    free_world(world);
  }
  struct world *world = make_world(plan, plan->capacity, path);
  measure_rows(candidates, count, world, true);
  if (plan->only == NULL || strstr("latency", plan->only) != NULL) {
    measure_latency(candidates, count, world);
  }
  free_world(world);
  progress("", "");
}

static double
resident(void)
{
  long pages = 0, dropped;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%ld %ld", &dropped, &pages) != 2) {
    fail("cannot read /proc/self/statm");
  }
  fclose(file);
  return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

void
measure_memory(const struct candidate *candidates, int count, const struct measure_plan *plan, const char *path)
{
  enum { SESSIONS = 90000 };
  static const char title[]      = "resident memory per session of 90000";
  static const char given_back[] = "memory per session that the system gets back";
  struct world *world            = make_world(plan, SESSIONS, path);
  struct worker *workers         = make_workers(world, 1);
  double before[MAX_CANDIDATES];

  for (int c = 0; c < count; c++) {
    /* Insert one session first: fixed costs of the library are not costs of sessions. */
    fill(&candidates[c], workers, 1);
    before[c] = resident();
    fill(&candidates[c], workers, SESSIONS);
    double value = (resident() - before[c]) / SESSIONS;
    report(world, "memory", title, "filled", candidates[c].name, &value, 1, "bytes", "lower");
  }
  for (int c = 0; c < count; c++) {
    double filled = resident();
    empty(&candidates[c], world);
    double value = fmax(0, (filled - resident()) / SESSIONS);
    report(world, "given-back", given_back, "given back after all were removed", candidates[c].name, &value, 1, "bytes",
           "higher");
    if (candidates[c].clear != NULL) {
      fill(&candidates[c], workers, SESSIONS);
      filled = resident();
      candidates[c].clear();
      value = fmax(0, (filled - resident()) / SESSIONS);
      report(world, "given-back", given_back, "given back after Clear", candidates[c].name, &value, 1, "bytes",
             "higher");
    }
  }
  free_workers(workers, 1);
  free_world(world);
}
