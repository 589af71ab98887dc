/** @file

  Measures the cost of a resumed TLS 1.2 handshake (by session ID, no tickets) for a server: with its
  context attached to libtssession, with OpenSSL's own session cache, and without a cache, where every
  handshake is full.

    handshake [REPETITIONS [HANDSHAKES]]

  Prints a JSON line for each measurement: the median of the repetitions and the quartiles. The method:

  - Each candidate runs in a separate process, so that what one sets up in OpenSSL costs the others
    nothing. The processes take turns, one repetition each, and only one works at a time. There are many
    short repetitions, so that other work of the machine disturbs all candidates equally. The first
    repetition is not counted.
  - A server context has SESSIONS sessions from full handshakes, and all threads share it. Clients resume
    one of these at random. If a handshake is not resumed, or not from the expected cache, the program
    fails.
  - Client and server share a thread and talk through memory, without system calls. Only the work of the
    server is timed, from SSL_new to SSL_free. BATCH connections take each step together, and so do all
    threads. So the clocks are read rarely, and all threads work as servers at the same time, as they do
    if the clients are on other machines.
  - There are two clocks. CPU time of the thread is the cost of a handshake. Elapsed time gives the number
    of handshakes per second, because a thread that waits for a lock uses no CPU time.

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
/* Enough for the largest flight of a handshake. */
#define BIO_ROOM (1 << 13)
/* Full handshakes are slow, so this many times fewer are made. */
#define FEWER_FULL 8

enum candidate { TSSESSION, OPENSSL, NO_CACHE, CANDIDATES };
enum certificate { ECDSA, RSA_2048, CERTIFICATES };

static const char *const candidate_names[CANDIDATES]     = {"tssession", "openssl", "no-cache"};
static const char *const certificate_names[CERTIFICATES] = {"ECDSA P-256", "RSA 2048"};

/* What a process is to do, and its measurements. */
struct task {
  enum certificate certificate;
  int threads;
  int handshakes; /* of each thread */
};

struct outcome {
  double cpu;     /* of the server, seconds per handshake */
  double elapsed; /* seconds per handshake */
};

/* A server with one certificate, and its clients. */
struct site {
  SSL_CTX *server;
  SSL_CTX *clients[MAX_THREADS];
  SSL_SESSION *sessions[SESSIONS];
};

/* Where threads wait for each other. They spin, because to wake a thread takes as long as a step. */
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
  int resumes;   /* clients offer a session */
  int collects;  /* keep the new sessions */
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

/* Opens the library and attaches ctx, so that only the candidate that needs the library loads it. */
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
    /* The capacity of libtssession, so that nothing is evicted. */
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

/* The server's work before it first waits for the client. */
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

/* Returns one of this thread's sessions at random. No two threads use the same session, as no client is
   in two places at once. */
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
  /* SSL_free drops a reference to each BIO, but the pair outlives the connection. */
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
  /* Discard what was not read, such as the close_notify. The result has no meaning here. */
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
      /* A resumed handshake is complete here. In a full one the server sends the last message. */
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

/* A process for one candidate: works until there are no more tasks. */
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
    /* `hits` counts all sessions found, `outside` those among them that a callback found. */
    hits            = SSL_CTX_sess_hits(server) - hits;
    outside         = SSL_CTX_sess_cb_hits(server) - outside;
    long handshakes = (long)task.threads * task.handshakes;
    REQUIRE(hits == (resumes ? handshakes : 0));
    REQUIRE(outside == (candidate == TSSESSION ? handshakes : 0));
    REQUIRE(write(out, &outcome, sizeof(outcome)) == (ssize_t)sizeof(outcome));
  }
}

/* A process, and the measuring process's ends of its pipes. */
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

/* Returns the quantile of sorted values: a `part` of them is below it. */
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
    /* Later processes inherited the pipes of earlier ones, so end the last process first. */
    close(workers[CANDIDATES - 1 - i].tasks);
    REQUIRE(waitpid(workers[CANDIDATES - 1 - i].pid, &status, 0) > 0);
    failed |= status != 0;
  }
  return failed;
}
