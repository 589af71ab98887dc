/** @file

  The host to which the clients of tests/peers.py connect: attached contexts, each with a separate
  port on 127.0.0.1 and a thread for each connection.

    peers_host CONTEXT...

  A CONTEXT is a name with options, such as "name:tls13:early":

    tls12, tls13   this version only
    id=TEXT        the session ID context; empty for none; by default that of tls_server
    ask, demand    request a client certificate, and accept any; demand: fail without one
    no-ticket      sessions have IDs, in TLS 1.3 too
    early          accept early data
    in-turn        serve one connection after the other: in TLS 1.2 OpenSSL stores a session only
                   after the client knows it, and the client may return before that
    hello, sni     if the server name is the name of a context, continue with that context and its
                   rules for certificates: from the ClientHello callback, or from the server name
                   callback, as most hosts do

  It prints "NAME PORT" for each context. At the end of each connection it prints the context's name,
  the version, "full", "resumed" or "failed", the bytes of early data, and how it ended. Requests are
  answered. After a request for /stay, the client must end the connection.

  SPDX-License-Identifier: Apache-2.0
 */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <openssl/err.h>

#include <ts/ssl_session_cache.h>

#include "check.h"
#include "tls.h"

#define MOST 16
#define EARLY_DATA 16384

struct context {
  const char *name;
  int takes_early_data;
  int in_turn;
  int listener;
  SSL_CTX *ctx;
};

struct connection {
  const struct context *context;
  int socket;
};

static struct context contexts[MOST];
static int count;

static int
accept_any(int ok, X509_STORE_CTX *store)
{
  (void)ok, (void)store;
  return 1;
}

static void
go_on_with(SSL *ssl, const char *name, size_t len)
{
  for (int i = 0; i < count; i++) {
    if (strlen(contexts[i].name) == len && memcmp(contexts[i].name, name, len) == 0) {
      SSL_set_SSL_CTX(ssl, contexts[i].ctx);
      SSL_set_verify(ssl, SSL_CTX_get_verify_mode(contexts[i].ctx), accept_any);
    }
  }
}

static int
on_client_hello(SSL *ssl, int *alert, void *arg)
{
  const unsigned char *extension;
  size_t len;
  (void)alert, (void)arg;
  /* The length of the list, one type, the length of the name (RFC 6066, 3). */
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &extension, &len) == 1 && len > 5) {
    go_on_with(ssl, (const char *)extension + 5, len - 5);
  }
  return SSL_CLIENT_HELLO_SUCCESS;
}

static int
on_server_name(SSL *ssl, int *alert, void *arg)
{
  const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  (void)alert, (void)arg;
  if (name != NULL) {
    go_on_with(ssl, name, strlen(name));
  }
  return SSL_TLSEXT_ERR_OK;
}

static void
set_option(struct context *context, const char *option)
{
  SSL_CTX *ctx = context->ctx;
  int version  = strcmp(option, "tls12") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;

  if (strcmp(option, "tls12") == 0 || strcmp(option, "tls13") == 0) {
    REQUIRE(SSL_CTX_set_min_proto_version(ctx, version) == 1 && SSL_CTX_set_max_proto_version(ctx, version) == 1);
  } else if (strncmp(option, "id=", 3) == 0) {
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)option + 3, (unsigned)strlen(option + 3));
  } else if (strcmp(option, "ask") == 0) {
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, accept_any);
  } else if (strcmp(option, "demand") == 0) {
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_any);
  } else if (strcmp(option, "no-ticket") == 0) {
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
  } else if (strcmp(option, "early") == 0) {
    context->takes_early_data = 1;
    SSL_CTX_set_max_early_data(ctx, EARLY_DATA);
  } else if (strcmp(option, "in-turn") == 0) {
    context->in_turn = 1;
  } else if (strcmp(option, "hello") == 0) {
    SSL_CTX_set_client_hello_cb(ctx, on_client_hello, NULL);
  } else if (strcmp(option, "sni") == 0) {
    SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);
  } else {
    fprintf(stderr, "peers_host: %s: no such option\n", option);
    exit(2);
  }
}

static void
open_context(struct context *context, char *words)
{
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t len              = sizeof(address);
  char *rest                 = NULL;

  context->name = strtok_r(words, ":", &rest);
  context->ctx  = tls_server(TLS1_3_VERSION);
  REQUIRE(context->name != NULL && SSL_CTX_set_min_proto_version(context->ctx, TLS1_2_VERSION) == 1);
  for (char *option = strtok_r(NULL, ":", &rest); option != NULL; option = strtok_r(NULL, ":", &rest)) {
    set_option(context, option);
  }
  REQUIRE(TSSslSessionCacheAttach((TSSslContext)context->ctx) == TS_SUCCESS);

  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  context->listener       = socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(bind(context->listener, (struct sockaddr *)&address, len) == 0);
  REQUIRE(listen(context->listener, 64) == 0);
  REQUIRE(getsockname(context->listener, (struct sockaddr *)&address, &len) == 0);
  printf("%s %d\n", context->name, ntohs(address.sin_port));
}

/* Reads until there is no more early data, or until the request is complete. */
static size_t
read_early_data(SSL *ssl, char *request, size_t size)
{
  size_t len = 0;
  size_t got;
  int result;
  do {
    result = SSL_read_early_data(ssl, request + len, size - len, &got);
    len += result == SSL_READ_EARLY_DATA_ERROR ? 0 : got;
  } while (result == SSL_READ_EARLY_DATA_SUCCESS && len < size);
  return len;
}

static const char *
how_it_ended(SSL *ssl, int result)
{
  const char *reason = ERR_reason_error_string(ERR_peek_last_error());
  switch (SSL_get_error(ssl, result)) {
  case SSL_ERROR_ZERO_RETURN:
    return "close_notify";
  case SSL_ERROR_SSL:
    return ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING ? "gone" : reason;
  default:
    return "gone";
  }
}

static void *
serve(void *arg)
{
  static const char answer[] = "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
  struct connection *it      = arg;
  struct timeval patience    = {.tv_sec = 5};
  const char *ended          = "closed";
  char request[EARLY_DATA + 1];
  char rest[256];
  int yes      = 1;
  size_t early = 0;
  SSL *ssl     = SSL_new(it->context->ctx);

  setsockopt(it->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  setsockopt(it->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(it->socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  REQUIRE(ssl != NULL && SSL_set_fd(ssl, it->socket) == 1);
  SSL_set_accept_state(ssl);
  if (it->context->takes_early_data) {
    early = read_early_data(ssl, request, EARLY_DATA);
  }
  int accepted = SSL_accept(ssl);
  int len      = (int)early;
  int result   = accepted;
  if (accepted == 1 && early == 0) {
    len = result = SSL_read(ssl, request, EARLY_DATA);
  }
  if (accepted == 1 && len > 0) {
    request[len] = '\0';
    result       = SSL_write(ssl, answer, sizeof(answer) - 1);
    if (result > 0 && strstr(request, "/stay") != NULL) {
      while ((result = SSL_read(ssl, rest, sizeof(rest))) > 0) {
      }
    }
  }
  if (result <= 0) {
    ended = how_it_ended(ssl, result);
  }
  ERR_clear_error();
  if (SSL_shutdown(ssl) == 0) {
    while (SSL_read(ssl, rest, sizeof(rest)) > 0) {
    }
  }
  const char *outcome = accepted != 1 ? "failed" : SSL_session_reused(ssl) ? "resumed" : "full";
  char line[256];
  snprintf(line, sizeof(line), "%s|%s|%s|%zu|%s", it->context->name, SSL_get_version(ssl), outcome, early, ended);
  ERR_clear_error();
  SSL_free(ssl);
  close(it->socket);
  free(it);
  /* Print only after the library has seen the end of the connection. */
  puts(line);
  return NULL;
}

int
main(int argc, char **argv)
{
  struct pollfd polls[MOST + 1];
  pthread_attr_t detached;

  if (argc < 2 || argc - 1 > MOST) {
    fprintf(stderr, "usage: peers_host CONTEXT...\n");
    return 2;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  signal(SIGPIPE, SIG_IGN);
  pthread_attr_init(&detached);
  pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  for (; count < argc - 1; count++) {
    open_context(&contexts[count], argv[count + 1]);
    polls[count] = (struct pollfd){.fd = contexts[count].listener, .events = POLLIN};
  }
  /* Run until the test closes its end of standard input. */
  polls[count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
  while (poll(polls, (nfds_t)count + 1, -1) > 0 && polls[count].revents == 0) {
    for (int i = 0; i < count; i++) {
      pthread_t thread;
      struct connection *it;
      if (polls[i].revents == 0) {
        continue;
      }
      it = malloc(sizeof(*it));
      REQUIRE(it != NULL);
      it->context = &contexts[i];
      it->socket  = accept(contexts[i].listener, NULL, NULL);
      REQUIRE(it->socket >= 0);
      if (contexts[i].in_turn) {
        serve(it);
      } else {
        REQUIRE(pthread_create(&thread, &detached, serve, it) == 0);
      }
    }
  }
  return 0;
}
