/** @file

  Measures the cost of the farm's hook for a server in a real handshake.

    hook farm.toml [REPETITIONS [HANDSHAKES]]

  Prints JSON lines, and on standard error the time that the hook adds. The method:

  - One process is a member of a farm, with its publisher, its reader and Redis at work. The farm's
    hook is removed and added again, so that repetitions with and without it take turns. Each begins
    after the events of the previous one were published.
  - Client and server share a thread and talk through memory. Only the server's work in
    SSL_do_handshake is timed, as elapsed time and as CPU time of the thread.
  - Each call of the hook is timed within the handshake, too.

  The program fails if a handshake is not of the expected kind, or causes other events.

  SPDX-License-Identifier: Apache-2.0
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ts/ssl_session_cache.h>
#include <ts/ssl_session_farm.h>
#include <ts/ts.h>

#include "check.h"
#include "lab.h"
#include "tls.h"

enum { MAX_REPETITIONS = 1000, MAX_CALLS = 1 << 20, BIO_ROOM = 1 << 13 };

struct kind {
  const char *name;
  int version;
  uint64_t options;
  int resumes;
  /* How often each handshake calls the hook, and with which event. */
  int calls;
  TSEvent event;
};

static const struct kind kinds[] = {
  {"TLS 1.2 by ID, full", TLS1_2_VERSION, SSL_OP_NO_TICKET, 0, 1, TS_EVENT_SSL_SESSION_NEW},
  {"TLS 1.2 by ID, resumed", TLS1_2_VERSION, SSL_OP_NO_TICKET, 1, 1, TS_EVENT_SSL_SESSION_GET},
  {"TLS 1.3 by ticket, full", TLS1_3_VERSION, 0, 0, 0, 0},
  {"TLS 1.3 by ticket, resumed", TLS1_3_VERSION, 0, 1, 0, 0},
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* Microseconds. */
struct times {
  double wall;
  double cpu;
};

static TSEvent expected;
static double calls[MAX_CALLS];
static int call_count;

static double
microseconds(clockid_t clock)
{
  return (double)nanoseconds(clock) / 1e3;
}

static int
on_event(TSCont cont, TSEvent event, void *id)
{
  double began = microseconds(CLOCK_MONOTONIC);
  int result   = farm_hook(cont, event, id);
  REQUIRE(event == expected && call_count < MAX_CALLS);
  calls[call_count++] = microseconds(CLOCK_MONOTONIC) - began;
  return result;
}

static void
switch_hook(int on)
{
  if (on) {
    REQUIRE(TSSslSessionHookAdd(farm_hook, farm_cont) == TS_SUCCESS);
  } else {
    REQUIRE(TSSslSessionHookRemove(on_event, farm_cont) == TS_SUCCESS);
  }
}

/* Waits until all reported events are in Redis. */
static void
wait_for_publisher(int64_t reported)
{
  for (int i = 0; i < 100000; i++) {
    int64_t gone = counter("published") + counter("missing");
    if (gone >= reported) {
      return;
    }
    usleep(100);
  }
  REQUIRE(!"published");
}

static void
server_works(SSL *server, struct times *sum)
{
  double wall = microseconds(CLOCK_MONOTONIC);
  double cpu  = microseconds(CLOCK_THREAD_CPUTIME_ID);
  SSL_do_handshake(server);
  sum->cpu += microseconds(CLOCK_THREAD_CPUTIME_ID) - cpu;
  sum->wall += microseconds(CLOCK_MONOTONIC) - wall;
}

/* Makes a handshake. Offers `*session` if the kind resumes, and replaces it by the client's new session. */
static void
shake_hands(const struct kind *kind, SSL_CTX *server_ctx, SSL_CTX *client_ctx, SSL_SESSION **session, struct times *sum)
{
  BIO *server_side = NULL;
  BIO *client_side = NULL;
  SSL *server      = SSL_new(server_ctx);
  SSL *client      = SSL_new(client_ctx);
  char byte        = 'x';
  REQUIRE(server != NULL && client != NULL);
  REQUIRE(BIO_new_bio_pair(&server_side, BIO_ROOM, &client_side, BIO_ROOM) == 1);
  SSL_set_bio(server, server_side, server_side);
  SSL_set_bio(client, client_side, client_side);
  SSL_set_accept_state(server);
  SSL_set_connect_state(client);
  if (kind->resumes && *session != NULL) {
    REQUIRE(SSL_set_session(client, *session) == 1);
  }
  for (int turns = 0; !SSL_is_init_finished(server) || !SSL_is_init_finished(client); turns++) {
    REQUIRE(turns < 10);
    SSL_do_handshake(client);
    server_works(server, sum);
  }
  /* TLS 1.3 tickets arrive with this byte. */
  REQUIRE(SSL_write(server, &byte, 1) == 1 && SSL_read(client, &byte, 1) == 1);
  REQUIRE(SSL_session_reused(server) == (kind->resumes && *session != NULL));
  SSL_SESSION_free(*session);
  *session = SSL_get1_session(client);
  SSL_set_shutdown(server, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_set_shutdown(client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(server);
  SSL_free(client);
}

/* Returns a quantile of sorted values. */
static double
quantile(const double *values, int count, double part)
{
  return values[(int)(part * (count - 1) + 0.5)];
}

static void
print(const char *chart, const char *title, const char *row, const char *candidate, double *values, int count)
{
  qsort(values, (size_t)count, sizeof(*values), compare_doubles);
  printf(
    "{\"chart\":\"farm-hook-%s\",\"title\":\"%s\",\"row\":\"%s\",\"candidate\":\"%s\",\"value\":%.2f,\"unit\":\"us\","
    "\"better\":\"lower\",\"low\":%.2f,\"high\":%.2f}\n",
    chart, title, row, candidate, quantile(values, count, 0.5), quantile(values, count, 0.25),
    quantile(values, count, 0.75));
}

static void
print_difference(const char *row, const char *clock, double *differences, int count)
{
  qsort(differences, (size_t)count, sizeof(*differences), compare_doubles);
  fprintf(stderr, "%s: the hook adds %+.2f us of %s [%+.2f..%+.2f], goal 10\n", row, quantile(differences, count, 0.5),
          clock, quantile(differences, count, 0.25), quantile(differences, count, 0.75));
}

static void
measure(const struct kind *kind, int repetitions, int handshakes)
{
  static double wall[2][MAX_REPETITIONS], cpu[2][MAX_REPETITIONS], wall_more[MAX_REPETITIONS],
    cpu_more[MAX_REPETITIONS];
  static int64_t reported;
  SSL_CTX *server      = tls_server(kind->version);
  SSL_CTX *client      = tls_client(kind->version);
  SSL_SESSION *session = NULL;

  SSL_CTX_set_options(server, kind->options);
  REQUIRE(TSSslSessionCacheAttach((TSSslContext)server) == TS_SUCCESS);
  struct times unused = {0, 0};
  switch_hook(0);
  shake_hands(kind, server, client, &session, &unused);
  call_count = 0;
  expected   = kind->event;
  /* The first repetition is not counted. */
  for (int repetition = -1; repetition < repetitions; repetition++) {
    for (int turn = 0; turn < 2; turn++) {
      int on           = turn ^ (repetition & 1);
      struct times sum = {0, 0};
      int before       = call_count;
      if (on) {
        switch_hook(1);
      }
      for (int i = 0; i < handshakes; i++) {
        shake_hands(kind, server, client, &session, &sum);
      }
      if (on) {
        switch_hook(0);
      }
      REQUIRE(call_count - before == on * handshakes * kind->calls);
      reported += kind->event == TS_EVENT_SSL_SESSION_NEW ? call_count - before : 0;
      wait_for_publisher(reported);
      if (repetition >= 0) {
        wall[on][repetition] = sum.wall / handshakes;
        cpu[on][repetition]  = sum.cpu / handshakes;
      } else {
        call_count = 0;
      }
    }
    if (repetition >= 0) {
      wall_more[repetition] = wall[1][repetition] - wall[0][repetition];
      cpu_more[repetition]  = cpu[1][repetition] - cpu[0][repetition];
    }
  }
  switch_hook(1);
  const char *wall_title = "Server's time in a handshake", *cpu_title = "Server's CPU time in a handshake";
  print("wall", wall_title, kind->name, "without", wall[0], repetitions);
  print("wall", wall_title, kind->name, "with the farm", wall[1], repetitions);
  print("cpu", cpu_title, kind->name, "without", cpu[0], repetitions);
  print("cpu", cpu_title, kind->name, "with the farm", cpu[1], repetitions);
  print_difference(kind->name, "time", wall_more, repetitions);
  print_difference(kind->name, "CPU time", cpu_more, repetitions);
  if (call_count > 0) {
    qsort(calls, (size_t)call_count, sizeof(*calls), compare_doubles);
    fprintf(stderr, "%s: the hook itself, %d calls: median %.2f us, 90 %% %.2f us, 99 %% %.2f us, 99.9 %% %.2f us\n",
            kind->name, call_count, quantile(calls, call_count, 0.5), quantile(calls, call_count, 0.9),
            quantile(calls, call_count, 0.99), quantile(calls, call_count, 0.999));
  }
  tls_free(server, client, session);
}

int
main(int argc, char **argv)
{
  int repetitions = argc > 2 ? atoi(argv[2]) : 101;
  int handshakes  = argc > 3 ? atoi(argv[3]) : 64;

  if (argc < 2 || repetitions < 1 || repetitions > MAX_REPETITIONS || handshakes < 1) {
    fprintf(stderr, "usage: %s farm.toml [REPETITIONS [HANDSHAKES]]\n", argv[0]);
    return 2;
  }
  REQUIRE(TSSslSessionFarmStart(argv[1]) == TS_SUCCESS);
  for (int i = 0; i < KINDS; i++) {
    measure(&kinds[i], repetitions, handshakes);
  }
  return 0;
}
