/** @file

  A host for the tests and the demo. It terminates TLS with libtssession, and is a member of a farm
  if it gets a file of settings.

    member [farm.toml]

  Prints "ports A B C", for TLS 1.2 with session IDs, TLS 1.2 with tickets, and TLS 1.3 with tickets,
  on loopback. It sends each client one byte: "R" if its session was resumed, "N" if it is new.
  Commands on standard input are "stats", and "time HEX", which waits until the session with that ID
  is in the cache and prints the time in microseconds. Each answer ends with a line ".".

  SPDX-License-Identifier: Apache-2.0
 */

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <ts/ssl_session_cache.h>
#include <ts/ssl_session_farm.h>
#include <ts/ts.h>

#include "check.h"
#include "tls.h"

enum { KINDS = 3, THREADS = 4 };

struct door {
  SSL_CTX *ctx;
  int listener;
};

static struct door doors[KINDS];

static void
serve(const struct door *door, int socket)
{
  char request;
  struct timeval patience = {.tv_sec = 5};
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  SSL *ssl = SSL_new(door->ctx);
  REQUIRE(ssl != NULL && SSL_set_fd(ssl, socket) == 1);
  if (SSL_accept(ssl) == 1) {
    SSL_write(ssl, SSL_session_reused(ssl) ? "R" : "N", 1);
    /* The client sends a byte when it has its tickets. */
    SSL_read(ssl, &request, 1);
    SSL_shutdown(ssl);
  }
  SSL_free(ssl);
  close(socket);
}

static void *
accept_all(void *argument)
{
  const struct door *door = argument;
  for (;;) {
    int socket = accept(door->listener, NULL, NULL);
    if (socket >= 0) {
      serve(door, socket);
    }
  }
  return NULL;
}

static int
open_door(struct door *door, int version, uint64_t options)
{
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len              = sizeof(address);
  door->ctx                  = tls_server(version);
  SSL_CTX_set_options(door->ctx, options);
  REQUIRE(TSSslSessionCacheAttach((TSSslContext)door->ctx) == TS_SUCCESS);
  door->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(door->listener >= 0);
  REQUIRE(bind(door->listener, (struct sockaddr *)&address, len) == 0 && listen(door->listener, 128) == 0);
  REQUIRE(getsockname(door->listener, (struct sockaddr *)&address, &len) == 0);
  return ntohs(address.sin_port);
}

static long long
microseconds(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static void
print_stats(void)
{
  static char text[65536];
  int len = sizeof(text);
  len     = TSSslSessionFarmStatsText(text, &len);
  fwrite(text, 1, len > 0 ? (size_t)len : 0, stdout);
  len = sizeof(text);
  len = TSSslSessionCacheStatsText(text, &len);
  fwrite(text, 1, len > 0 ? (size_t)len : 0, stdout);
}

static void
print_time(const char *hex)
{
  TSSslSessionID id = {.len = 0};
  unsigned byte;
  char buffer[1];
  while (id.len < sizeof(id.bytes) && sscanf(hex + 2 * id.len, "%2x", &byte) == 1) {
    id.bytes[id.len++] = (char)byte;
  }
  for (int i = 0; i < 100000; i++) {
    int len = sizeof(buffer);
    if (TSSslSessionGetBuffer(&id, buffer, &len) > 0) {
      printf("%lld\n", microseconds());
      return;
    }
    usleep(50);
  }
  printf("never\n");
}

int
main(int argc, char **argv)
{
  char line[256];
  signal(SIGPIPE, SIG_IGN);
  if (argc > 1 && TSSslSessionFarmStart(argv[1]) != TS_SUCCESS) {
    return 1;
  }
  int by_id   = open_door(&doors[0], TLS1_2_VERSION, SSL_OP_NO_TICKET);
  int tickets = open_door(&doors[1], TLS1_2_VERSION, 0);
  int tls13   = open_door(&doors[2], TLS1_3_VERSION, 0);
  for (int i = 0; i < KINDS * THREADS; i++) {
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, accept_all, &doors[i % KINDS]) == 0);
  }
  printf("ports %d %d %d\n", by_id, tickets, tls13);
  fflush(stdout);
  while (fgets(line, sizeof(line), stdin) != NULL) {
    if (strncmp(line, "stats", 5) == 0) {
      print_stats();
    } else if (strncmp(line, "time ", 5) == 0) {
      print_time(line + 5);
    }
    printf(".\n");
    fflush(stdout);
  }
  return 0;
}
