/** @file

  A TLS server with several processes, like nginx and Apache. The parent attaches the context and
  forks workers, and each worker joins the farm. A client resumes at any of them.

    prefork WORKERS CERTIFICATE KEY [FARM.TOML]

  CERTIFICATE and KEY are PEM files. The server listens on a free port of 127.0.0.1 and prints
  "port N". It greets each client with the number of the worker, and closes. SIGTERM ends all.
  Without FARM.TOML each worker has its own sessions, and all have the same ticket key.

  SPDX-License-Identifier: Apache-2.0
 */

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <ts/ssl_session_cache.h>
#include <ts/ssl_session_farm.h>

#define MOST_WORKERS 64

static pid_t workers[MOST_WORKERS];
static volatile sig_atomic_t is_ending;

static void
fail(const char *what)
{
  fprintf(stderr, "prefork: %s\n", what);
  ERR_print_errors_fp(stderr);
  exit(1);
}

static SSL_CTX *
new_context(const char *certificate, const char *key)
{
  static const unsigned char id_context[] = "tssession example prefork";
  SSL_CTX *ctx                            = SSL_CTX_new(TLS_server_method());
  if (ctx == NULL || SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1 ||
      SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
    fail("no certificate");
  }
  SSL_CTX_set_session_id_context(ctx, id_context, sizeof(id_context) - 1);
  /* Attach before the fork: the workers inherit the context and the ticket key. */
  if (TSSslSessionCacheAttach((TSSslContext)ctx) != TS_SUCCESS) {
    fail("the context is not attached"); /* the reason is on standard error */
  }
  return ctx;
}

static int
listen_on_loopback(void)
{
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t len              = sizeof(address);
  int listener               = socket(AF_INET, SOCK_STREAM, 0);

  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) != 0 || listen(listener, 64) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &len) != 0) {
    fail("cannot listen on 127.0.0.1");
  }
  printf("port %d\n", ntohs(address.sin_port));
  fflush(stdout);
  return listener;
}

static void
serve(SSL_CTX *ctx, int client, int worker)
{
  struct timeval patience = {.tv_sec = 5};
  char greeting[32];
  char rest[256];
  int len  = snprintf(greeting, sizeof(greeting), "worker %d\n", worker);
  SSL *ssl = SSL_new(ctx);

  setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  if (ssl == NULL || SSL_set_fd(ssl, client) != 1) {
    fail("no SSL");
  }
  if (SSL_accept(ssl) == 1) {
    SSL_write(ssl, greeting, len);
  }
  /* Without a shutdown, SSL_free would remove the client's session. */
  if (SSL_shutdown(ssl) == 0) {
    while (SSL_read(ssl, rest, sizeof(rest)) > 0) {
    }
  }
  ERR_clear_error();
  SSL_free(ssl);
}

static void
be_worker(SSL_CTX *ctx, int listener, int number, const char *farm)
{
  signal(SIGTERM, SIG_DFL);
  /* The farm's threads belong to this process. So start it after the fork, also in each worker that
     replaces one that has ended. Without Redis the worker continues alone. */
  if (farm != NULL && TSSslSessionFarmStart(farm) != TS_SUCCESS) {
    fprintf(stderr, "prefork: worker %d is alone\n", number);
  }
  for (;;) {
    int client = accept(listener, NULL, NULL);
    if (client >= 0) {
      serve(ctx, client, number);
      close(client);
    }
  }
}

static pid_t
start_worker(SSL_CTX *ctx, int listener, int number, const char *farm)
{
  pid_t parent = getpid();
  pid_t worker = fork();
  if (worker < 0) {
    fail("no worker");
  }
  if (worker == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) {
      be_worker(ctx, listener, number, farm);
    }
    _exit(1);
  }
  return worker;
}

static void
end(int number)
{
  (void)number;
  is_ending = 1;
}

int
main(int argc, char *argv[])
{
  int count = argc == 4 || argc == 5 ? atoi(argv[1]) : 0;
  if (count < 1 || count > MOST_WORKERS) {
    fprintf(stderr, "usage: %s WORKERS CERTIFICATE KEY [FARM.TOML]\n", argv[0]);
    return 2;
  }
  const char *farm = argv[4];
  SSL_CTX *ctx     = new_context(argv[2], argv[3]);
  /* The parent reads the settings and the secrets of the farm: a worker may lack the rights. */
  if (farm != NULL && TSSslSessionFarmPrepare(farm) != TS_SUCCESS) {
    return 1;
  }
  struct sigaction action = {.sa_handler = end};
  sigaction(SIGTERM, &action, NULL);
  signal(SIGPIPE, SIG_IGN);
  int listener = listen_on_loopback();
  for (int i = 0; i < count; i++) {
    workers[i] = start_worker(ctx, listener, i, farm);
  }
  while (!is_ending) {
    pid_t ended = wait(NULL);
    for (int i = 0; i < count && !is_ending; i++) {
      if (workers[i] == ended) {
        workers[i] = start_worker(ctx, listener, i, farm);
      }
    }
  }
  for (int i = 0; i < count; i++) {
    kill(workers[i], SIGTERM);
    waitpid(workers[i], NULL, 0);
  }
  SSL_CTX_free(ctx);
  return 0;
}
