/** @file

  Which processes share a random ticket key. Workers that attach after the fork each make a different
  one, although the parent used OpenSSL's random numbers before. Workers of a parent that had a key all
  have that key, and no two of their tickets have the same initialization vector.

  SPDX-License-Identifier: Apache-2.0
 */

#include <sys/wait.h>
#include <unistd.h>

#include <openssl/rand.h>

#include "api.h"
#include "check.h"
#include "tls.h"

#define WORKERS 20
/* A ticket begins with the name of its key and the initialization vector. */
#define PART_LEN 16
#define TICKET_ROOM 2000

static SSL_CTX *server;
static SSL_CTX *client;

struct told {
  int resumed;
  int len;
  unsigned char der[TICKET_ROOM];
};

/* A worker: attaches, serves a client with the session of `before`, if there is one, and a client
   without. Reports whether the first resumed, and the session of the second. */
static void
work(const struct told *before, int to)
{
  struct told told     = {0};
  SSL_SESSION *session = NULL;

  alarm(60);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  if (before != NULL) {
    const unsigned char *der = before->der;
    SSL_SESSION *old         = d2i_SSL_SESSION(NULL, &der, before->len);
    REQUIRE(old != NULL);
    told.resumed = tls_visit(server, client, old, TLS_CLEAN, NULL);
    SSL_SESSION_free(old);
  }
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  unsigned char *der = tls_der(session, &told.len);
  REQUIRE(told.len <= TICKET_ROOM);
  memcpy(told.der, der, (size_t)told.len);
  OPENSSL_free(der);
  SSL_SESSION_free(session);
  REQUIRE(write(to, &told, sizeof(told)) == (ssize_t)sizeof(told));
}

static void
run_worker(const struct told *before, struct told *told)
{
  int ends[2];
  int status = 1;
  REQUIRE(pipe(ends) == 0);
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    work(before, ends[1]);
    if (check_failures == 0) {
      /* Not _exit: valgrind would report what the parent owns. */
      execl("/bin/true", "true", (char *)NULL);
    }
    _exit(1);
  }
  close(ends[1]);
  REQUIRE(read(ends[0], told, sizeof(*told)) == (ssize_t)sizeof(*told));
  close(ends[0]);
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK_INT(status, 0);
}

static void
take_parts(const struct told *told, unsigned char *name, unsigned char *vector)
{
  const unsigned char *der    = told->der;
  const unsigned char *ticket = NULL;
  size_t len                  = 0;
  SSL_SESSION *session        = d2i_SSL_SESSION(NULL, &der, told->len);
  REQUIRE(session != NULL);
  SSL_SESSION_get0_ticket(session, &ticket, &len);
  REQUIRE(len > 2 * (size_t)PART_LEN);
  memcpy(name, ticket, PART_LEN);
  memcpy(vector, ticket + PART_LEN, PART_LEN);
  SSL_SESSION_free(session);
}

static void
check_workers(int share_the_key)
{
  static struct told told[WORKERS];
  unsigned char names[WORKERS][PART_LEN];
  unsigned char vectors[WORKERS][PART_LEN];

  for (int i = 0; i < WORKERS; i++) {
    run_worker(i > 0 ? &told[i - 1] : NULL, &told[i]);
    take_parts(&told[i], names[i], vectors[i]);
    CHECK_INT(told[i].resumed, i > 0 && share_the_key);
    for (int j = 0; j < i; j++) {
      CHECK_INT(memcmp(names[i], names[j], PART_LEN) == 0, share_the_key);
      CHECK(memcmp(vectors[i], vectors[j], PART_LEN) != 0);
    }
  }
}

int
main(void)
{
  unsigned char bytes[32];
  char key[48];

  api_open();
  server = tls_server(TLS1_2_VERSION);
  client = tls_client(TLS1_2_VERSION);
  /* A child inherits the state of OpenSSL's random number generators. */
  REQUIRE(RAND_bytes(bytes, sizeof(bytes)) == 1 && RAND_priv_bytes(bytes, sizeof(bytes)) == 1);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, NULL), 0);

  /* The library is used, but needs no key yet. */
  TSSslSessionCacheClear();
  check_workers(0);

  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  check_workers(1);

  memset(key, 'k', sizeof(key));
  TSSslTicketKeyUpdate(key, sizeof(key));
  check_workers(1);

  tls_free(server, client, NULL);
  return check_result();
}
