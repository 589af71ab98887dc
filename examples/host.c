/** @file

  A TLS server whose sessions and tickets are served by libtssession. It opens the
  library with dlopen, and a plugin that uses the session functions.

    host PLUGIN.so

  It makes a certificate, listens on a free port of 127.0.0.1, prints "port N",
  greets each client and closes. Each line on standard input is a command, and is
  answered with one line: "counters" by the host, all others by the plugin.

  SPDX-License-Identifier: Apache-2.0
 */

#include <arpa/inet.h>
#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <ts/ssl_session_cache.h>

/* There is a separate library for each major version of OpenSSL. */
#if OPENSSL_VERSION_MAJOR == 3
#define LIBRARY "libtssession.so.0"
#else
#define LIBRARY "libtssession.so.0-openssl4"
#endif

static void
fail(const char *what)
{
  fprintf(stderr, "host: %s\n", what);
  ERR_print_errors_fp(stderr);
  exit(1);
}

static void *
load(const char *path)
{
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    fail(dlerror());
  }
  return library;
}

/* C does not allow a cast from the data pointer that dlsym returns to a function pointer. */
static void
find(void *library, const char *name, void *function)
{
  void *found = dlsym(library, name);
  if (found == NULL) {
    fail(dlerror());
  }
  memcpy(function, &found, sizeof(found));
}

static void
use_new_certificate(SSL_CTX *ctx)
{
  EVP_PKEY *key     = EVP_EC_gen("P-256");
  X509 *certificate = X509_new();
  if (key == NULL || certificate == NULL) {
    fail("no certificate");
  }
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
  if (X509_sign(certificate, key, EVP_sha256()) == 0 || SSL_CTX_use_certificate(ctx, certificate) != 1 ||
      SSL_CTX_use_PrivateKey(ctx, key) != 1) {
    fail("no certificate");
  }
  X509_free(certificate);
  EVP_PKEY_free(key);
}

static SSL_CTX *
new_context(void)
{
  static const unsigned char id_context[] = "tssession example host";
  SSL_CTX *ctx                            = SSL_CTX_new(TLS_server_method());
  if (ctx == NULL) {
    fail("no SSL_CTX");
  }
  use_new_certificate(ctx);
  /* OpenSSL resumes only sessions with the same session ID context. A server that
     requests client certificates resumes none without one. */
  SSL_CTX_set_session_id_context(ctx, id_context, sizeof(id_context) - 1);
  return ctx;
}

static int
listen_on_loopback(void)
{
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t len              = sizeof(address);
  int listener               = socket(AF_INET, SOCK_STREAM, 0);

  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) != 0 || listen(listener, 16) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &len) != 0) {
    fail("cannot listen on 127.0.0.1");
  }
  printf("port %d\n", ntohs(address.sin_port));
  return listener;
}

static void
serve(SSL_CTX *ctx, int client)
{
  static const char greeting[] = "hello\n";
  struct timeval patience      = {.tv_sec = 5};
  char rest[256];
  SSL *ssl = SSL_new(ctx);

  setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  if (ssl == NULL || SSL_set_fd(ssl, client) != 1) {
    fail("no SSL");
  }
  if (SSL_accept(ssl) != 1 || SSL_write(ssl, greeting, sizeof(greeting) - 1) <= 0) {
    fprintf(stderr, "host: a client was not greeted\n");
    ERR_print_errors_fp(stderr);
  }
  /* Without this, SSL_free removes the session from every cache, even when the client
     has already disconnected. */
  if (SSL_shutdown(ssl) == 0) {
    while (SSL_read(ssl, rest, sizeof(rest)) > 0) {
    }
  }
  ERR_clear_error();
  SSL_free(ssl);
  close(client);
}

typedef TSReturnCode (*AttachFunc)(TSSslContext ctx);
typedef TSReturnCode (*StatFunc)(const char *name, int64_t *value);
typedef void (*CommandFunc)(const char *line, char *answer, size_t size);

static void
print_counters(StatFunc stat)
{
  static const char *const names[] = {
    "proxy.process.ssl.ssl_session_cache_hit",
    "proxy.process.ssl.ssl_session_cache_miss",
    "proxy.process.ssl.ssl_session_cache_new_session",
    "proxy.process.ssl.ssl_session_cache_eviction",
    "tssession.session_cache.removed",
    "tssession.session_cache.entries",
    "proxy.process.ssl.total_tickets_created",
    "proxy.process.ssl.total_tickets_verified",
    "proxy.process.ssl.total_tickets_verified_old_key",
    "proxy.process.ssl.total_tickets_not_found",
    "proxy.process.ssl.total_ticket_keys_renewed",
  };
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    int64_t value = 0;
    if (stat(names[i], &value) == TS_SUCCESS) {
      printf("%s=%lld ", names[i], (long long)value);
    }
  }
  printf("\n");
}

int
main(int argc, char **argv)
{
  AttachFunc attach;
  StatFunc stat;
  CommandFunc command;

  if (argc != 2) {
    fprintf(stderr, "usage: host PLUGIN.so\n");
    return 2;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  signal(SIGPIPE, SIG_IGN);

  void *library = load(LIBRARY);
  find(library, "TSSslSessionCacheAttach", &attach);
  find(library, "TSSslSessionCacheStatGet", &stat);
  void *plugin = load(argv[1]);
  find(plugin, "plugin_command", &command);

  SSL_CTX *ctx = new_context();
  if (attach((TSSslContext)ctx) != TS_SUCCESS) {
    fail("cannot attach");
  }

  struct pollfd polls[2] = {{.fd = listen_on_loopback(), .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
  static char line[65536];
  static char answer[65536];
  while (poll(polls, 2, -1) > 0) {
    if (polls[0].revents != 0) {
      int client = accept(polls[0].fd, NULL, NULL);
      if (client >= 0) {
        serve(ctx, client);
      }
    }
    if (polls[1].revents != 0) {
      /* Commands are sent one at a time, so no second line waits in the stream's buffer. */
      if (fgets(line, sizeof(line), stdin) == NULL) {
        break;
      }
      line[strcspn(line, "\n")] = '\0';
      if (strcmp(line, "counters") == 0) {
        print_counters(stat);
      } else {
        command(line, answer, sizeof(answer));
        printf("%s\n", answer);
      }
    }
  }
  SSL_CTX_free(ctx);
  return 0;
}
