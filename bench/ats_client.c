/** @file

  Clients that return to a real Traffic Server with their sessions, over sockets.

    ats_client visit ADDRESS PORT HANDSHAKES SECONDS

  Visits until at least so many handshakes were made and so many seconds have passed: most by ID with
  TLS 1.2, a few by ticket with TLS 1.2 and 1.3. Some clients hang up, after the response or in the
  middle of it. Prints a line for each kind. Fails if a handshake or a response failed.

    ats_client hang-up ADDRESS PORT response|middle FILE

  Makes a TLS 1.2 session with an ID, writes it to FILE for s_client, and closes the socket without a
  close_notify, after the response or in the middle of it.

    ats_client cost ROW ROUNDS HANDSHAKES NAME=ADDRESS:PORT:PROCESS...

  Measures handshakes that resume by ID, at one server after the other in each round. Prints the CPU
  time of the servers and the rate as JSON lines. Fails if a handshake was not resumed.

  SPDX-License-Identifier: Apache-2.0
 */

#include <arpa/inet.h>
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "../c_tests/check.h"

#define THREADS 4
#define SLOTS 16
/* Once in so many visits, a client forgets its session. */
#define ANEW 16
/* Seconds. */
#define PATIENCE 20

enum { ID_12, TICKET_12, TICKET_13, KINDS };

static const struct kind {
  const char *name;
  int version;
  uint64_t options;
  /* How many of 16 visits are of this kind. */
  unsigned share;
} kinds[KINDS] = {
  [ID_12]     = {"TLS 1.2 by ID", TLS1_2_VERSION, SSL_OP_NO_TICKET, 12},
  [TICKET_12] = {"TLS 1.2 by ticket", TLS1_2_VERSION, 0, 2},
  [TICKET_13] = {"TLS 1.3 by ticket", TLS1_3_VERSION, 0, 2},
};

/* How a client leaves. */
enum leaving { CLOSE_NOTIFY, HANG_UP, HANG_UP_IN_THE_MIDDLE };

struct server {
  const char *name;
  struct sockaddr_in address;
  int process;
};

static SSL_CTX *ctxs[KINDS];

static double
seconds(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* xorshift, with a separate sequence for each client. */
static unsigned
next(unsigned *dice)
{
  *dice ^= *dice << 13;
  *dice ^= *dice >> 17;
  *dice ^= *dice << 5;
  return *dice;
}

static struct server
server_at(const char *name, const char *address, int port, int process)
{
  struct server server = {.name = name, .process = process};
  server.address       = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  REQUIRE(inet_pton(AF_INET, address, &server.address.sin_addr) == 1);
  return server;
}

/* Returns the connection after its handshake, or NULL if that failed. */
static SSL *
connect_to(const struct server *server, int kind, SSL_SESSION *session)
{
  struct timeval patience = {.tv_sec = PATIENCE};
  int fd                  = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  SSL *ssl                = SSL_new(ctxs[kind]);

  REQUIRE(fd >= 0 && ssl != NULL && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
  /* Otherwise the request waits for the server to acknowledge the handshake's last packet. */
  REQUIRE(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) == 0);
  REQUIRE(SSL_set_fd(ssl, fd) == 1 && (session == NULL || SSL_set_session(ssl, session) == 1));
  if (connect(fd, (const struct sockaddr *)&server->address, sizeof(server->address)) != 0) {
    perror("connect");
  } else if (SSL_connect(ssl) == 1) {
    return ssl;
  }
  ERR_print_errors_fp(stderr);
  SSL_free(ssl);
  close(fd);
  return NULL;
}

static void
leave(SSL *ssl, enum leaving leaving)
{
  int fd = SSL_get_fd(ssl);
  SSL_set_quiet_shutdown(ssl, leaving != CLOSE_NOTIFY);
  SSL_shutdown(ssl);
  ERR_clear_error();
  SSL_free(ssl);
  close(fd);
}

/*
 * Visits.
 */

struct client {
  pthread_t thread;
  const struct server *server;
  SSL_SESSION *sessions[KINDS][SLOTS];
  unsigned dice;
};

static struct {
  long handshakes;
  double end;
  atomic_long done;
  atomic_long offered[KINDS];
  atomic_long resumed[KINDS];
  atomic_long full[KINDS];
  atomic_long hung_up;
  atomic_long failed;
} visits;

/* Sends a request and reads the response. For HANG_UP_IN_THE_MIDDLE it reads only the beginning of one
   that is longer than the buffers. */
static int
is_answered(SSL *ssl, enum leaving leaving)
{
  static const char *const requests[] = {"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                                         "GET /_stats HTTP/1.1\r\nHost: a\r\n\r\n"};
  const char *request                 = requests[leaving == HANG_UP_IN_THE_MIDDLE];
  char response[4096]                 = "";
  int len                             = 0;

  if (SSL_write(ssl, request, (int)strlen(request)) <= 0) {
    return 0;
  }
  /* The response for a path that is not mapped ends with this. */
  while (strstr(response, "</BODY>") == NULL) {
    int more = SSL_read(ssl, response + len, (int)sizeof(response) - 1 - len);
    if (more <= 0) {
      return 0;
    }
    len += more;
    response[len] = '\0';
    if (leaving == HANG_UP_IN_THE_MIDDLE) {
      return 1;
    }
  }
  return 1;
}

static int
any_kind(unsigned number)
{
  int kind = 0;
  while (number >= kinds[kind].share) {
    number -= kinds[kind++].share;
  }
  return kind;
}

static void
visit(struct client *client)
{
  int kind              = any_kind(next(&client->dice) % 16);
  SSL_SESSION **session = &client->sessions[kind][next(&client->dice) % SLOTS];
  unsigned way          = next(&client->dice) % 16;
  enum leaving leaving  = way == 0 ? HANG_UP_IN_THE_MIDDLE : way < 4 ? HANG_UP : CLOSE_NOTIFY;

  if (next(&client->dice) % ANEW == 0) {
    SSL_SESSION_free(*session);
    *session = NULL;
  }
  SSL *ssl = connect_to(client->server, kind, *session);
  atomic_fetch_add(&visits.done, 1);
  if (ssl == NULL) {
    atomic_fetch_add(&visits.failed, 1);
    return;
  }
  atomic_fetch_add(&visits.offered[kind], *session != NULL);
  atomic_fetch_add(SSL_session_reused(ssl) ? &visits.resumed[kind] : &visits.full[kind], 1);
  if (!is_answered(ssl, leaving)) {
    fprintf(stderr, "%s: no answer\n", kinds[kind].name);
    ERR_print_errors_fp(stderr);
    atomic_fetch_add(&visits.failed, 1);
  }
  SSL_SESSION_free(*session);
  *session = SSL_get1_session(ssl);
  atomic_fetch_add(&visits.hung_up, leaving != CLOSE_NOTIFY);
  leave(ssl, leaving);
}

static void *
be_client(void *argument)
{
  struct client *client = argument;
  /* After 10 failures the server may no longer answer. */
  while ((atomic_load(&visits.done) < visits.handshakes || seconds() < visits.end) &&
         atomic_load(&visits.failed) < 10) {
    visit(client);
  }
  for (int kind = 0; kind < KINDS; kind++) {
    for (int i = 0; i < SLOTS; i++) {
      SSL_SESSION_free(client->sessions[kind][i]);
    }
  }
  return NULL;
}

static int
visit_all(const struct server *server, long handshakes, double how_long)
{
  static struct client clients[THREADS];

  visits.handshakes = handshakes;
  visits.end        = seconds() + how_long;
  for (unsigned i = 0; i < THREADS; i++) {
    clients[i].server = server;
    clients[i].dice   = 2463534242u + i * 2654435761u;
    REQUIRE(pthread_create(&clients[i].thread, NULL, be_client, &clients[i]) == 0);
  }
  for (int i = 0; i < THREADS; i++) {
    REQUIRE(pthread_join(clients[i].thread, NULL) == 0);
  }
  for (int kind = 0; kind < KINDS; kind++) {
    long offered = visits.offered[kind], resumed = visits.resumed[kind];
    printf("%-20s %7ld full, %7ld offered a session, %7ld resumed (%.3f %%)\n", kinds[kind].name,
           (long)visits.full[kind], offered, resumed, offered == 0 ? 0.0 : 100.0 * (double)resumed / (double)offered);
  }
  printf("%ld handshakes, %ld clients hung up, %ld failed\n", (long)visits.done, (long)visits.hung_up,
         (long)visits.failed);
  return visits.failed != 0;
}

static int
hang_up(const struct server *server, enum leaving leaving, const char *path)
{
  SSL *ssl   = connect_to(server, ID_12, NULL);
  FILE *file = fopen(path, "we");
  REQUIRE(file != NULL && ssl != NULL && is_answered(ssl, leaving));
  REQUIRE(PEM_write_SSL_SESSION(file, SSL_get_session(ssl)) == 1 && fclose(file) == 0);
  leave(ssl, leaving);
  return 0;
}

/*
 * Costs.
 */

#define MOST_SERVERS 4
#define MOST_ROUNDS 101
#define SESSIONS 256
/* Client threads: enough to keep a server with two threads busy. */
#define CROWD 2

static struct crowd {
  pthread_t thread;
  const struct server *server;
  SSL_SESSION *sessions[MOST_SERVERS][SESSIONS];
  long handshakes;
  int number;
} crowds[CROWD];

/* Returns the CPU time of all threads of a process, in nanoseconds. */
static uint64_t
cpu_time(int process)
{
  char path[64 + NAME_MAX];
  uint64_t sum = 0, of_thread;

  snprintf(path, sizeof(path), "/proc/%d/task", process);
  DIR *threads = opendir(path);
  REQUIRE(threads != NULL);
  for (struct dirent *thread; (thread = readdir(threads)) != NULL;) {
    if (thread->d_name[0] != '.') {
      snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", process, thread->d_name);
      FILE *file = fopen(path, "re");
      REQUIRE(file != NULL && fscanf(file, "%" SCNu64, &of_thread) == 1);
      fclose(file);
      sum += of_thread;
    }
  }
  closedir(threads);
  return sum;
}

/* Waits until the server closes the connection too: then it has done all its work for it. */
static void
leave_with(SSL *ssl)
{
  char rest[64];
  SSL_shutdown(ssl);
  while (recv(SSL_get_fd(ssl), rest, sizeof(rest), 0) > 0) {
  }
  leave(ssl, HANG_UP);
}

static void *
come_back(void *argument)
{
  struct crowd *crowd = argument;
  for (long i = 0; i < crowd->handshakes; i++) {
    SSL *ssl = connect_to(crowd->server, ID_12, crowd->sessions[crowd->number][i % SESSIONS]);
    REQUIRE(ssl != NULL && SSL_session_reused(ssl));
    leave_with(ssl);
  }
  return NULL;
}

struct cost {
  double cpu;
  double rate;
};

static struct cost
measure(const struct server *server, int number, long handshakes)
{
  uint64_t cpu   = cpu_time(server->process);
  double elapsed = seconds();
  for (int i = 0; i < CROWD; i++) {
    crowds[i].server     = server;
    crowds[i].number     = number;
    crowds[i].handshakes = handshakes / CROWD;
    REQUIRE(pthread_create(&crowds[i].thread, NULL, come_back, &crowds[i]) == 0);
  }
  for (int i = 0; i < CROWD; i++) {
    REQUIRE(pthread_join(crowds[i].thread, NULL) == 0);
  }
  elapsed       = seconds() - elapsed;
  double of_all = (double)(handshakes / CROWD * CROWD);
  return (struct cost){(double)(cpu_time(server->process) - cpu) / of_all / 1e3, of_all / elapsed};
}

static int
compare(const void *left, const void *right)
{
  double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

/* The median and the quartiles. */
struct spread {
  double low;
  double median;
  double high;
};

static struct spread
spread_of(double *values, int count)
{
  qsort(values, (size_t)count, sizeof(*values), compare);
  return (struct spread){values[count / 4], values[count / 2], values[count * 3 / 4]};
}

static void
print(const char *chart, const char *title, const char *row, const char *name, double *values, int count,
      const char *unit, const char *better)
{
  struct spread spread = spread_of(values, count);
  printf("{\"chart\":\"%s\",\"title\":\"%s\",\"row\":\"%s\",\"candidate\":\"%s\",\"value\":%.1f,\"unit\":\"%s\","
         "\"better\":\"%s\",\"low\":%.1f,\"high\":%.1f}\n",
         chart, title, row, name, spread.median, unit, better, spread.low, spread.high);
}

static int
measure_all(const char *row, int rounds, long handshakes, const struct server *servers, int count)
{
  static double cpu[MOST_SERVERS][MOST_ROUNDS], rate[MOST_SERVERS][MOST_ROUNDS];

  for (int number = 0; number < count; number++) {
    for (int i = 0; i < CROWD * SESSIONS; i++) {
      SSL *ssl = connect_to(&servers[number], ID_12, NULL);
      REQUIRE(ssl != NULL);
      crowds[i % CROWD].sessions[number][i / CROWD] = SSL_get1_session(ssl);
      leave_with(ssl);
    }
  }
  /* The first round warms up. */
  for (int round = -1; round < rounds; round++) {
    for (int i = 0; i < count; i++) {
      /* The servers take turns to be first. */
      int number       = (i + round + 1) % count;
      struct cost cost = measure(&servers[number], number, handshakes);
      if (round >= 0) {
        cpu[number][round]  = cost.cpu;
        rate[number][round] = cost.rate;
      }
    }
    fprintf(stderr, "\r%s: %d/%d ", row, round + 1, rounds);
  }
  fprintf(stderr, "\n");
  /* The machine's speed changes over time, so compare within each round. */
  for (int i = 1; i < count; i++) {
    double ratios[MOST_ROUNDS];
    for (int round = 0; round < rounds; round++) {
      ratios[round] = cpu[0][round] / cpu[i][round];
    }
    struct spread spread = spread_of(ratios, rounds);
    fprintf(stderr, "%s: CPU time of %s divided by that of %s in the same round: %.3f (%.3f to %.3f)\n", row,
            servers[0].name, servers[i].name, spread.median, spread.low, spread.high);
  }
  for (int i = 0; i < count; i++) {
    print("ats-tls-cpu", "Traffic Server's CPU time for a resumed TLS 1.2 connection", row, servers[i].name, cpu[i],
          rounds, "us", "lower");
    print("ats-tls-rate", "TLS 1.2 connections a second, resumed", row, servers[i].name, rate[i], rounds,
          "connections/s", "higher");
  }
  return 0;
}

int
main(int argc, char **argv)
{
  struct server servers[MOST_SERVERS];

  signal(SIGPIPE, SIG_IGN);
  for (int kind = 0; kind < KINDS; kind++) {
    ctxs[kind] = SSL_CTX_new(TLS_client_method());
    REQUIRE(ctxs[kind] != NULL && SSL_CTX_set_min_proto_version(ctxs[kind], kinds[kind].version) == 1 &&
            SSL_CTX_set_max_proto_version(ctxs[kind], kinds[kind].version) == 1);
    SSL_CTX_set_options(ctxs[kind], kinds[kind].options);
  }
  if (argc == 6 && strcmp(argv[1], "visit") == 0) {
    servers[0] = server_at("", argv[2], atoi(argv[3]), 0);
    return visit_all(&servers[0], atol(argv[4]), atof(argv[5]));
  }
  if (argc == 6 && strcmp(argv[1], "hang-up") == 0) {
    servers[0] = server_at("", argv[2], atoi(argv[3]), 0);
    return hang_up(&servers[0], strcmp(argv[4], "middle") == 0 ? HANG_UP_IN_THE_MIDDLE : HANG_UP, argv[5]);
  }
  int rounds = argc > 5 && strcmp(argv[1], "cost") == 0 ? atoi(argv[3]) : 0;
  if (rounds < 1 || rounds > MOST_ROUNDS || argc - 5 > MOST_SERVERS) {
    fprintf(stderr,
            "usage: %s visit ADDRESS PORT HANDSHAKES SECONDS\n"
            "       %s hang-up ADDRESS PORT response|middle FILE\n"
            "       %s cost ROW ROUNDS HANDSHAKES NAME=ADDRESS:PORT:PROCESS...\n",
            argv[0], argv[0], argv[0]);
    return 2;
  }
  for (int i = 5; i < argc; i++) {
    char *name    = strtok(argv[i], "=");
    char *address = strtok(NULL, ":");
    char *port    = strtok(NULL, ":");
    char *process = strtok(NULL, "");
    REQUIRE(process != NULL);
    servers[i - 5] = server_at(name, address, atoi(port), atoi(process));
  }
  return measure_all(argv[2], rounds, atol(argv[4]), servers, argc - 5);
}
