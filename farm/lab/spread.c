/** @file

  Measures how long sessions take to reach the caches of the other members of a farm.

    spread farm.toml handshakes|events RATE SECONDS

  Three processes with libtssession and libtssession_farm are the members, with one Redis. In each, RATE
  sessions per second arrive at random times (Poisson), which do not depend on the work: an arrival waits
  if the thread is late. With "handshakes", an arrival is a full TLS 1.2 handshake with a session ID,
  with client and server in memory. With "events", the sessions are already in the member's cache, and an
  arrival is the call of the farm's hook that a handshake would make. So two processors can show the
  farm's work at rates that are too high for their handshakes.

  The measured time is from the call of the hook until Insert has returned at another member. The ID of
  each session contains its member and its number. The first second is not counted. The exit status is
  1 if a session was lost.

  SPDX-License-Identifier: Apache-2.0
 */

#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/rand.h>

#include <ts/ssl_session_cache.h>
#include <ts/ssl_session_farm.h>
#include <ts/ts.h>

#include "check.h"
#include "lab.h"
#include "tls.h"

enum { MEMBERS = 3, MAX_SESSIONS = 1 << 17 };

/* Nanoseconds of CLOCK_MONOTONIC, which all processes share; 0 for never. */
struct session {
  int64_t due;
  int64_t event;
  int64_t inserted[MEMBERS];
};

struct shared {
  atomic_int ready;
  int64_t ended[MEMBERS];
  double cpu[MEMBERS]; /* CPU seconds of the farm's threads */
  struct session sessions[MEMBERS][MAX_SESSIONS];
};

static struct shared *shared;
static int me;
static uint32_t number;

static int
on_event(TSCont cont, TSEvent event, void *id)
{
  shared->sessions[me][number].event = nanoseconds(CLOCK_MONOTONIC);
  return farm_hook(cont, event, id);
}

/* The farm calls this function, because the program's functions are found first. */
TSReturnCode
TSSslSessionInsert(const TSSslSessionID *id, TSSslSession session)
{
  static _Thread_local TSReturnCode (*insert)(const TSSslSessionID *, TSSslSession);
  uint32_t of, maker;
  if (insert == NULL) {
    find_next("TSSslSessionInsert", &insert);
  }
  TSReturnCode result = insert(id, session);
  memcpy(&of, id->bytes, sizeof(of));
  memcpy(&maker, id->bytes + sizeof(of), sizeof(maker));
  if (result == TS_SUCCESS && of < MAX_SESSIONS && maker < MEMBERS) {
    shared->sessions[maker][of].inserted[me] = nanoseconds(CLOCK_MONOTONIC);
  }
  return result;
}

static void
write_id(unsigned char *bytes, size_t len, uint32_t of)
{
  uint32_t maker = (uint32_t)me;
  REQUIRE(RAND_bytes(bytes, (int)len) == 1);
  memcpy(bytes, &of, sizeof(of));
  memcpy(bytes + sizeof(of), &maker, sizeof(maker));
}

static int
generate_id(SSL *ssl, unsigned char *bytes, unsigned int *len)
{
  (void)ssl;
  write_id(bytes, *len, number);
  return 1;
}

/* Fills the cache with sessions that are reported later. */
static TSSslSessionID *
fill_cache(uint32_t sessions)
{
  TSSslSessionID *ids  = calloc(sessions, sizeof(*ids));
  SSL_SESSION *session = tls_session(0);
  REQUIRE(ids != NULL);
  for (uint32_t i = 0; i < sessions; i++) {
    SSL_SESSION *copy = SSL_SESSION_dup(session);
    ids[i].len        = sizeof(ids[i].bytes);
    write_id((unsigned char *)ids[i].bytes, ids[i].len, i);
    REQUIRE(copy != NULL && SSL_SESSION_set1_id(copy, (unsigned char *)ids[i].bytes, (unsigned)ids[i].len) == 1);
    REQUIRE(TSSslSessionInsert(&ids[i], (TSSslSession)copy) == TS_SUCCESS);
    SSL_SESSION_free(copy);
  }
  SSL_SESSION_free(session);
  return ids;
}

static void
wait_until(int64_t time)
{
  struct timespec at = {.tv_sec = time / 1000000000, .tv_nsec = time % 1000000000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0) {
  }
}

static void
be_member(const char *settings, int shakes_hands, double rate, uint32_t sessions)
{
  SSL_CTX *server     = tls_server(TLS1_2_VERSION);
  SSL_CTX *client     = tls_client(TLS1_2_VERSION);
  TSSslSessionID *ids = shakes_hands ? NULL : fill_cache(sessions);

  SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
  SSL_CTX_set_generate_session_id(server, generate_id);
  REQUIRE(TSSslSessionCacheAttach((TSSslContext)server) == TS_SUCCESS);
  REQUIRE(TSSslSessionFarmStart(settings) == TS_SUCCESS);
  prctl(PR_SET_TIMERSLACK, 1);
  srand48(me);
  atomic_fetch_add(&shared->ready, 1);
  while (atomic_load(&shared->ready) < MEMBERS) {
    usleep(1000);
  }
  int64_t cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - nanoseconds(CLOCK_THREAD_CPUTIME_ID);
  double due  = (double)nanoseconds(CLOCK_MONOTONIC);
  for (number = 0; number < sessions; number++) {
    due -= log(1 - drand48()) / rate * 1e9;
    shared->sessions[me][number].due = (int64_t)due;
    wait_until((int64_t)due);
    if (shakes_hands) {
      REQUIRE(tls_visit(server, client, NULL, TLS_CLEAN, NULL) == 0);
    } else {
      on_event(farm_cont, TS_EVENT_SSL_SESSION_NEW, &ids[number]);
    }
  }
  shared->ended[me] = nanoseconds(CLOCK_MONOTONIC);
  for (int i = 0;
       i < 200 && (counter("published") < sessions || counter("inserted") < (MEMBERS - 1) * (int64_t)sessions); i++) {
    usleep(100000);
  }
  cpu             = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - nanoseconds(CLOCK_THREAD_CPUTIME_ID) - cpu;
  shared->cpu[me] = (double)cpu / 1e9;
}

/* Milliseconds. */
static void
print(const char *what, double *values, size_t count)
{
  qsort(values, count, sizeof(*values), compare_doubles);
  printf("%s median %.2f ms, 99 %% %.2f ms, 99.9 %% %.2f ms, most %.2f ms\n", what, values[count / 2],
         values[count * 99 / 100], values[count * 999 / 1000], values[count - 1]);
}

int
main(int argc, char **argv)
{
  int shakes_hands  = argc == 5 && strcmp(argv[2], "handshakes") == 0;
  double rate       = argc == 5 ? atof(argv[3]) : 0;
  double all        = argc == 5 ? rate * atof(argv[4]) : 0;
  uint32_t sessions = (uint32_t)all;
  uint32_t first    = (uint32_t)rate;

  if (!(all >= 1 && all <= MAX_SESSIONS) || first >= sessions || (!shakes_hands && strcmp(argv[2], "events") != 0)) {
    fprintf(stderr, "usage: %s farm.toml handshakes|events RATE SECONDS\n", argv[0]);
    return 2;
  }
  shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(shared != MAP_FAILED);
  for (me = 0; me < MEMBERS; me++) {
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      be_member(argv[1], shakes_hands, rate, sessions);
      _exit(0);
    }
  }
  for (int i = 0; i < MEMBERS; i++) {
    int status;
    REQUIRE(wait(&status) > 0 && status == 0);
  }

  size_t count = (size_t)(sessions - first) * MEMBERS, taken = 0, lost = 0;
  double *late = calloc(count, sizeof(double)), *times = calloc(count * (MEMBERS - 1), sizeof(double));
  double achieved = 0, cpu = 0;
  REQUIRE(late != NULL && times != NULL);
  for (int maker = 0; maker < MEMBERS; maker++) {
    struct session *made = shared->sessions[maker];
    for (uint32_t i = first; i < sessions; i++) {
      late[(size_t)maker * (sessions - first) + i - first] = (double)(made[i].event - made[i].due) / 1e6;
      for (int taker = 0; taker < MEMBERS; taker++) {
        if (taker == maker) {
          continue;
        }
        if (made[i].inserted[taker] == 0) {
          lost++;
        } else {
          times[taken++] = (double)(made[i].inserted[taker] - made[i].event) / 1e6;
        }
      }
    }
    achieved += sessions / ((double)(shared->ended[maker] - made[0].due) / 1e9) / MEMBERS;
    cpu += shared->cpu[maker] / MEMBERS;
  }
  printf("  %.0f a second and member wanted, %.0f made; %zu lost; the farm's threads used %.1f us of CPU a session\n",
         rate, achieved, lost, cpu / sessions * 1e6);
  print("    until another member had it:", times, taken);
  print("    arrivals were behind their time by", late, count);
  return lost != 0;
}
