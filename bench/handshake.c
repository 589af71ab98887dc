/** @file

  What a resumed TLS 1.2 handshake (session IDs, no tickets) costs a server, with its
  context attached to libtssession, with OpenSSL's own session cache, and with none,
  where every handshake is a full one.

  Usage: handshake [REPETITIONS [HANDSHAKES]]

  A line of JSON for each measurement goes to stdout: the median over the repetitions
  and the quartiles. How it is measured:

  - Each candidate lives in a process of its own, so that nothing one of them sets up in
    OpenSSL costs another. The processes take turns, repetition by repetition, and only
    one works at a time. Repetitions are many and short, so that whatever else the machine
    does meets all candidates. The first one is not counted.
  - A server context holds SESSIONS sessions, made by full handshakes; clients resume one
    of them at random. All threads share that context. A handshake that is not resumed,
    or not out of the cache it should be, ends the program.
  - Client and server meet in memory, in one thread: no system calls, and only what the
    server does is timed, from SSL_new to SSL_free. Connections go through it BATCH at a
    time and threads start each step together. So the clocks are read seldom, and the
    threads are all servers at the same time, as they are where clients are elsewhere.
  - Two clocks: the thread's CPU time tells what a handshake costs. Elapsed time tells how
    many are possible in a second, because a thread that waits for a lock uses no CPU.

  SPDX-License-Identifier: Apache-2.0
 */

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <ts/ssl_session_cache.h>

#include "../c_tests/check.h"

#define SESSIONS 10000
#define BATCH 16
#define MAX_THREADS 2
#define MAX_REPETITIONS 1000
/* Room for the largest flight of a handshake. */
#define BIO_ROOM (1 << 13)
/* Full handshakes take long: so many times fewer are done. */
#define FEWER_FULL 8

enum candidate { TSSESSION, OPENSSL, NO_CACHE, CANDIDATES };
enum certificate { ECDSA, RSA_2048, CERTIFICATES };

static const char *const candidate_names[CANDIDATES]     = {"tssession", "openssl", "no-cache"};
static const char *const certificate_names[CERTIFICATES] = {"ECDSA P-256", "RSA 2048"};

/* What a process is told to do, and what it has measured. */
struct task {
  enum certificate certificate;
  int threads;
  int handshakes; /* of each thread */
};

struct outcome {
  double cpu;     /* of the server, seconds in each handshake */
  double elapsed; /* the same by the clock on the wall */
};

/* A server with one certificate, and the clients that know it. */
struct site {
  SSL_CTX *server;
  SSL_CTX *clients[MAX_THREADS];
  SSL_SESSION *sessions[SESSIONS];
};

/* Where threads wait for each other. They spin: to be woken takes as long as a step. */
struct meeting {
  int threads;
  atomic_int arrived;
  atomic_int round;
};

struct connection {
  SSL *server;
  SSL *client;
  BIO *server_side;
  BIO *client_side;
};

/* One thread. */
struct lane {
  struct site *site;
  struct meeting *meeting;
  int number;
  int handshakes;
  int resumes;   /* whether clients offer a session */
  int collects;  /* whether the sessions are to be filled */
  uint64_t dice; /* never 0 */
  double cpu;
  double elapsed;
  struct connection connections[BATCH];
};

static double
seconds(clockid_t clock)
{
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void
give_certificate(SSL_CTX *ctx, enum certificate which)
{
  EVP_PKEY *key     = which == ECDSA ? EVP_EC_gen("P-256") : EVP_RSA_gen(2048);
  X509 *certificate = X509_new();
  REQUIRE(key != NULL && certificate != NULL);
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 24 * 3600);
  X509_NAME *name = X509_NAME_new();
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0);
  X509_set_subject_name(certificate, name);
  X509_set_issuer_name(certificate, name);
  X509_NAME_free(name);
  X509_set_pubkey(certificate, key);
  REQUIRE(X509_sign(certificate, key, EVP_sha256()) > 0);
  REQUIRE(SSL_CTX_use_certificate(ctx, certificate) == 1);
  REQUIRE(SSL_CTX_use_PrivateKey(ctx, key) == 1);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

static SSL_CTX *
new_context(const SSL_METHOD *method)
{
  SSL_CTX *ctx = SSL_CTX_new(method);
  REQUIRE(ctx != NULL);
  REQUIRE(SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1);
  REQUIRE(SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION) == 1);
  SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
  return ctx;
}

/* Attaches as a host does that finds the library at run time: only the candidate that
   needs it loads it. */
static void
attach(SSL_CTX *ctx)
{
  TSReturnCode (*function)(TSSslContext);
  void *library = dlopen("libtssession.so", RTLD_NOW);
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
  }
  REQUIRE(library != NULL);
  void *found = dlsym(library, "TSSslSessionCacheAttach");
  REQUIRE(found != NULL);
  memcpy(&function, &found, sizeof(found));
  REQUIRE(function((TSSslContext)ctx) == TS_SUCCESS);
}

static SSL_CTX *
new_server(enum candidate candidate, enum certificate certificate)
{
  static const unsigned char context[] = "bench";
  SSL_CTX *ctx                         = new_context(TLS_server_method());
  REQUIRE(SSL_CTX_set_session_id_context(ctx, context, sizeof(context)) == 1);
  give_certificate(ctx, certificate);
  switch (candidate) {
  case TSSESSION:
    attach(ctx);
    break;
  case OPENSSL:
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_SERVER);
    /* As many as libtssession takes, so that nothing is evicted. */
    SSL_CTX_sess_set_cache_size(ctx, 102400);
    break;
  default:
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    break;
  }
  return ctx;
}

static void
meet(struct meeting *meeting)
{
  int round = atomic_load(&meeting->round);
  if (atomic_fetch_add(&meeting->arrived, 1) + 1 == meeting->threads) {
    atomic_store(&meeting->arrived, 0);
    atomic_store(&meeting->round, round + 1);
    return;
  }
  for (int turns = 1; atomic_load(&meeting->round) == round; turns++) {
    if (turns % 1000 == 0) {
      sched_yield();
    }
  }
}

/* What the server does before its first wait for the client. */
static void
server_opens(struct lane *lane, struct connection *connection)
{
  SSL *ssl = SSL_new(lane->site->server);
  REQUIRE(ssl != NULL);
  SSL_set_bio(ssl, connection->server_side, connection->server_side);
  SSL_set_accept_state(ssl);
  REQUIRE(SSL_do_handshake(ssl) != 1);
  connection->server = ssl;
}

static void
server_finishes(struct lane *lane, struct connection *connection)
{
  (void)lane;
  REQUIRE(SSL_do_handshake(connection->server) == 1);
}

static void
server_closes(struct lane *lane, struct connection *connection)
{
  (void)lane;
  SSL_shutdown(connection->server);
  SSL_free(connection->server);
}

static void
serve(struct lane *lane, void (*step)(struct lane *, struct connection *))
{
  meet(lane->meeting);
  double elapsed = seconds(CLOCK_MONOTONIC);
  double cpu     = seconds(CLOCK_THREAD_CPUTIME_ID);
  for (int i = 0; i < BATCH; i++) {
    step(lane, &lane->connections[i]);
  }
  lane->cpu += seconds(CLOCK_THREAD_CPUTIME_ID) - cpu;
  lane->elapsed += seconds(CLOCK_MONOTONIC) - elapsed;
}

/* One of the sessions that are this thread's, at random: clients are not in two
   places at once. */
static SSL_SESSION *
any_session(struct lane *lane)
{
  lane->dice ^= lane->dice << 13;
  lane->dice ^= lane->dice >> 7;
  lane->dice ^= lane->dice << 17;
  uint64_t share = (uint64_t)(SESSIONS / lane->meeting->threads);
  return lane->site->sessions[(lane->dice >> 11) % share * (uint64_t)lane->meeting->threads + (uint64_t)lane->number];
}

static void
client_opens(struct lane *lane, struct connection *connection)
{
  SSL *ssl = SSL_new(lane->site->clients[lane->number]);
  REQUIRE(ssl != NULL);
  /* The pair outlives the connection: one reference each is given away. */
  BIO_up_ref(connection->client_side);
  BIO_up_ref(connection->server_side);
  SSL_set_bio(ssl, connection->client_side, connection->client_side);
  SSL_set_connect_state(ssl);
  REQUIRE(SSL_set_tlsext_host_name(ssl, "localhost") == 1);
  if (lane->resumes) {
    REQUIRE(SSL_set_session(ssl, any_session(lane)) == 1);
  }
  REQUIRE(SSL_do_handshake(ssl) != 1);
  connection->client = ssl;
}

static void
client_closes(struct lane *lane, struct connection *connection, int number)
{
  REQUIRE(SSL_session_reused(connection->client) == lane->resumes);
  if (lane->collects) {
    lane->site->sessions[number] = SSL_get1_session(connection->client);
  }
  SSL_set_quiet_shutdown(connection->client, 1);
  SSL_shutdown(connection->client);
  SSL_free(connection->client);
  /* What was not read, such as the close_notify. The result says nothing. */
  (void)BIO_reset(connection->client_side);
  (void)BIO_reset(connection->server_side);
}

static void *
run_lane(void *argument)
{
  struct lane *lane = argument;
  for (int i = 0; i < BATCH; i++) {
    struct connection *connection = &lane->connections[i];
    REQUIRE(BIO_new_bio_pair(&connection->server_side, BIO_ROOM, &connection->client_side, BIO_ROOM) == 1);
  }
  for (int done = 0; done < lane->handshakes; done += BATCH) {
    for (int i = 0; i < BATCH; i++) {
      client_opens(lane, &lane->connections[i]);
    }
    serve(lane, server_opens);
    for (int i = 0; i < BATCH; i++) {
      /* A resumed handshake is done here. In a full one the server speaks last. */
      REQUIRE((SSL_do_handshake(lane->connections[i].client) == 1) == lane->resumes);
    }
    serve(lane, server_finishes);
    for (int i = 0; i < BATCH; i++) {
      REQUIRE(SSL_do_handshake(lane->connections[i].client) == 1);
    }
    serve(lane, server_closes);
    for (int i = 0; i < BATCH; i++) {
      client_closes(lane, &lane->connections[i], done + i);
    }
  }
  for (int i = 0; i < BATCH; i++) {
    BIO_free(lane->connections[i].server_side);
    BIO_free(lane->connections[i].client_side);
  }
  return NULL;
}

static struct outcome
run_lanes(struct site *site, int threads, int handshakes, int resumes, int collects)
{
  static uint64_t seed = 0;
  static struct lane lanes[MAX_THREADS];
  struct meeting meeting = {.threads = threads};
  pthread_t ids[MAX_THREADS];

  for (int i = 0; i < threads; i++) {
    lanes[i] = (struct lane){.site       = site,
                             .meeting    = &meeting,
                             .number     = i,
                             .handshakes = handshakes,
                             .resumes    = resumes,
                             .collects   = collects,
                             .dice       = ++seed * 0x9e3779b97f4a7c15};
    REQUIRE(pthread_create(&ids[i], NULL, run_lane, &lanes[i]) == 0);
  }
  struct outcome sum = {0, 0};
  for (int i = 0; i < threads; i++) {
    REQUIRE(pthread_join(ids[i], NULL) == 0);
    sum.cpu += lanes[i].cpu;
    sum.elapsed += lanes[i].elapsed;
  }
  double all = (double)threads * handshakes;
  return (struct outcome){sum.cpu / all, sum.elapsed / all};
}

static struct site *
new_site(enum candidate candidate, enum certificate certificate)
{
  struct site *site = calloc(1, sizeof(*site));
  REQUIRE(site != NULL);
  site->server = new_server(candidate, certificate);
  for (int i = 0; i < MAX_THREADS; i++) {
    site->clients[i] = new_context(TLS_client_method());
  }
  if (candidate != NO_CACHE) {
    run_lanes(site, 1, SESSIONS, 0, 1);
  }
  return site;
}

/* A process: does what it is told until there is nothing more to do. */
static void
work(enum candidate candidate, int in, int out)
{
  static struct site *sites[CERTIFICATES];
  struct task task;

  prctl(PR_SET_NAME, candidate_names[candidate]); /* for perf and top */
  while (read(in, &task, sizeof(task)) == (ssize_t)sizeof(task)) {
    int resumes        = candidate != NO_CACHE;
    struct site **site = &sites[task.certificate];
    if (*site == NULL) {
      *site = new_site(candidate, task.certificate);
    }
    SSL_CTX *server        = (*site)->server;
    long hits              = SSL_CTX_sess_hits(server);
    long outside           = SSL_CTX_sess_cb_hits(server);
    struct outcome outcome = run_lanes(*site, task.threads, task.handshakes, resumes, 0);
    /* Both are counted: what was found, and what of that was found by a callback. */
    hits            = SSL_CTX_sess_hits(server) - hits;
    outside         = SSL_CTX_sess_cb_hits(server) - outside;
    long handshakes = (long)task.threads * task.handshakes;
    REQUIRE(hits == (resumes ? handshakes : 0));
    REQUIRE(outside == (candidate == TSSESSION ? handshakes : 0));
    REQUIRE(write(out, &outcome, sizeof(outcome)) == (ssize_t)sizeof(outcome));
  }
}

/* The ends that the measuring process holds. */
struct worker {
  pid_t pid;
  int tasks;
  int outcomes;
};

static struct worker
start(enum candidate candidate)
{
  int tasks[2], outcomes[2];
  REQUIRE(pipe(tasks) == 0 && pipe(outcomes) == 0);
  pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    close(tasks[1]);
    close(outcomes[0]);
    work(candidate, tasks[0], outcomes[1]);
    exit(0);
  }
  close(tasks[0]);
  close(outcomes[1]);
  return (struct worker){pid, tasks[1], outcomes[0]};
}

static int
compare(const void *left, const void *right)
{
  double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

/* Of sorted values, the one that `part` of them are below. */
static double
quantile(const double *values, int count, double part)
{
  double place = part * (count - 1);
  int below    = (int)place;
  int above    = below + 1 < count ? below + 1 : below;
  return values[below] + (place - below) * (values[above] - values[below]);
}

static void
print(const char *chart, const char *title, const char *unit, const char *better, const struct task *task,
      enum candidate candidate, double *values, int count)
{
  qsort(values, (size_t)count, sizeof(*values), compare);
  printf("{\"chart\":\"%s\",\"title\":\"%s\",\"row\":\"%s, %d thread%s\",\"candidate\":\"%s\","
         "\"value\":%.1f,\"unit\":\"%s\",\"better\":\"%s\",\"low\":%.1f,\"high\":%.1f}\n",
         chart, title, certificate_names[task->certificate], task->threads, task->threads == 1 ? "" : "s",
         candidate_names[candidate], quantile(values, count, 0.5), unit, better, quantile(values, count, 0.25),
         quantile(values, count, 0.75));
  fflush(stdout);
}

static void
measure(const struct worker *workers, enum certificate certificate, int threads, int repetitions, int handshakes)
{
  static double cpu[CANDIDATES][MAX_REPETITIONS], rate[CANDIDATES][MAX_REPETITIONS];
  struct task task = {certificate, threads, 0};

  for (int repetition = -1; repetition < repetitions; repetition++) {
    for (int i = 0; i < CANDIDATES; i++) {
      struct outcome outcome;
      int wanted      = i == NO_CACHE ? handshakes / FEWER_FULL : handshakes;
      task.handshakes = (wanted + BATCH - 1) / BATCH * BATCH;
      REQUIRE(write(workers[i].tasks, &task, sizeof(task)) == (ssize_t)sizeof(task));
      REQUIRE(read(workers[i].outcomes, &outcome, sizeof(outcome)) == (ssize_t)sizeof(outcome));
      if (repetition >= 0) {
        cpu[i][repetition]  = outcome.cpu * 1e6;
        rate[i][repetition] = threads / outcome.elapsed;
      }
    }
    fprintf(stderr, "\r%s, %d thread%s: %d/%d ", certificate_names[certificate], threads, threads == 1 ? "" : "s",
            repetition + 1, repetitions);
  }
  fprintf(stderr, "\n");
  for (int i = 0; i < CANDIDATES; i++) {
    print("handshake-cpu", "Server CPU of a TLS 1.2 handshake, resumed if cached", "us", "lower", &task,
          (enum candidate)i, cpu[i], repetitions);
  }
  for (int i = 0; i < CANDIDATES; i++) {
    print("handshake-rate", "TLS 1.2 handshakes a second, resumed if cached", "handshakes/s", "higher", &task,
          (enum candidate)i, rate[i], repetitions);
  }
}

int
main(int argc, char **argv)
{
  int repetitions = argc > 1 ? atoi(argv[1]) : 31;
  int handshakes  = argc > 2 ? atoi(argv[2]) : 1024;
  struct worker workers[CANDIDATES];

  if (repetitions < 1 || repetitions > MAX_REPETITIONS || handshakes < 1) {
    fprintf(stderr, "usage: %s [REPETITIONS [HANDSHAKES]]\n", argv[0]);
    return 2;
  }
  for (int i = 0; i < CANDIDATES; i++) {
    workers[i] = start((enum candidate)i);
  }
  for (int certificate = 0; certificate < CERTIFICATES; certificate++) {
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
      measure(workers, (enum certificate)certificate, threads, repetitions, handshakes);
    }
  }
  int failed = 0;
  for (int i = 0; i < CANDIDATES; i++) {
    int status;
    /* The later processes have inherited these pipes: end from the last one on. */
    close(workers[CANDIDATES - 1 - i].tasks);
    REQUIRE(waitpid(workers[CANDIDATES - 1 - i].pid, &status, 0) > 0);
    failed |= status != 0;
  }
  return failed;
}
