/** @file

  The clients of load.c, and what both sides share. Clients use OpenSSL alone, in separate
  processes. Each visits the server again and again, with a session of that kind of visit
  if it has one. In each visit the server reports what it found in the session, which must
  be what the client bound it to.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef LOAD_CLIENTS_H
#define LOAD_CLIENTS_H

#include <errno.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/err.h>

#include "check.h"
#include "tls.h"

#define CLIENTS 6
/* Sessions that a client has of each kind. */
#define SLOTS 2
/* Once in so many visits, a client forgets its session. */
#define ANEW 5
#define NAME_LEN 32

enum { ID_12, TICKET_12, ID_13, TICKET_13, CERTIFICATE, KINDS };

static const struct kind {
  const char *name;
  int version;
  int by_id;
  int asks_for_certificate;
  /* 0 if the library makes sessions from a template, which have no application data. */
  int has_tag;
} kinds[KINDS] = {
  [ID_12]       = {"TLS 1.2 by ID", TLS1_2_VERSION, 1, 0, 0},
  [TICKET_12]   = {"TLS 1.2 by ticket", TLS1_2_VERSION, 0, 0, 1},
  [ID_13]       = {"TLS 1.3 by ID", TLS1_3_VERSION, 1, 0, 1},
  [TICKET_13]   = {"TLS 1.3 by ticket", TLS1_3_VERSION, 0, 0, 1},
  [CERTIFICATE] = {"TLS 1.2 by ID, client certificates", TLS1_2_VERSION, 1, 1, 1},
};

/* The server's report on the session of a connection. */
struct answer {
  char name[NAME_LEN + 1];
  char tag[NAME_LEN + 1];
  unsigned char certificate[EVP_MAX_MD_SIZE];
};

/* How the client will end the connection. It tells the server. */
enum { WITH_CLOSE_NOTIFY = 'c', WITHOUT_A_WORD = 'w' };

/* The counts of the clients. */
struct counts {
  atomic_long offered[KINDS];
  atomic_long resumed[KINDS];
  atomic_long full[KINDS];
  /* Of the resumed handshakes, those with a new ticket. */
  atomic_long renewed[KINDS];
  atomic_long failed;
  atomic_long wrong;
};

/* All processes share it. */
static struct counts *counts;

static struct sockaddr_un addresses[KINDS];
static socklen_t address_lens[KINDS];

/* xorshift, with a separate sequence for each client. */
static unsigned
next(unsigned *state)
{
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return *state;
}

static unsigned
seed(unsigned number)
{
  return 2463534242u + number * 2654435761u;
}

/*
 * The clients.
 */

struct slot {
  SSL_SESSION *session;
  char name[NAME_LEN + 1];
};

struct client {
  SSL_CTX *ctxs[KINDS];
  struct slot slots[KINDS][SLOTS];
  unsigned char certificate[EVP_MAX_MD_SIZE];
  unsigned dice;
};

static void
client_says(atomic_long *count, int kind, const char *what, SSL *ssl, int result)
{
  if (atomic_fetch_add(count, 1) < 10) {
    int error = SSL_get_error(ssl, result);
    fprintf(stderr, "client %d: %s, %s: %s, SSL_get_error %d, errno %d\n", (int)getpid(), kinds[kind].name,
            SSL_session_reused(ssl) ? "resumed" : "full", what, error, errno);
    ERR_print_errors_fp(stderr);
  }
}

static int
connect_to(int kind)
{
  struct timeval patience = {.tv_sec = 60};
  int fd                  = socket(AF_UNIX, SOCK_STREAM, 0);
  REQUIRE(fd >= 0 && connect(fd, (struct sockaddr *)&addresses[kind], address_lens[kind]) == 0);
  REQUIRE(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
  return fd;
}

static void
forget(struct slot *slot)
{
  SSL_SESSION_free(slot->session);
  slot->session = NULL;
}

static int
have_one_ticket(const SSL_SESSION *one, const SSL_SESSION *other)
{
  const unsigned char *tickets[2];
  size_t lens[2];
  SSL_SESSION_get0_ticket(one, &tickets[0], &lens[0]);
  SSL_SESSION_get0_ticket(other, &tickets[1], &lens[1]);
  return lens[0] == lens[1] && (lens[0] == 0 || memcmp(tickets[0], tickets[1], lens[0]) == 0);
}

static int
is_right(const struct client *client, int kind, const char *name, const struct answer *answer)
{
  static const struct answer none;
  const unsigned char *certificate = kinds[kind].asks_for_certificate ? client->certificate : none.certificate;
  return memcmp(answer->name, name, sizeof(answer->name)) == 0 &&
         memcmp(answer->tag, kinds[kind].has_tag ? name : none.tag, sizeof(answer->tag)) == 0 &&
         memcmp(answer->certificate, certificate, sizeof(answer->certificate)) == 0;
}

static void
visit(struct client *client)
{
  int kind          = (int)(next(&client->dice) % KINDS);
  struct slot *slot = &client->slots[kind][next(&client->dice) % SLOTS];
  char ending       = next(&client->dice) % 4 == 0 ? WITHOUT_A_WORD : WITH_CLOSE_NOTIFY;
  SSL *ssl          = SSL_new(client->ctxs[kind]);
  int fd            = connect_to(kind);
  struct answer answer;
  char name[NAME_LEN + 1];
  int result;

  if (next(&client->dice) % ANEW == 0) {
    forget(slot);
  }
  snprintf(name, sizeof(name), "%08x%08x%08x%08x", (unsigned)getpid(), next(&client->dice), next(&client->dice),
           next(&client->dice));
  REQUIRE(ssl != NULL && SSL_set_fd(ssl, fd) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1);
  if (slot->session != NULL) {
    REQUIRE(SSL_set_session(ssl, slot->session) == 1);
    atomic_fetch_add(&counts->offered[kind], 1);
  }
  if ((result = SSL_connect(ssl)) != 1) {
    client_says(&counts->failed, kind, "the handshake failed", ssl, result);
    forget(slot);
  } else if ((result = SSL_write(ssl, &ending, 1)) != 1 ||
             (result = SSL_read(ssl, &answer, sizeof(answer))) != (int)sizeof(answer)) {
    client_says(&counts->failed, kind, "no answer", ssl, result);
    forget(slot);
  } else {
    int resumed = SSL_session_reused(ssl);
    atomic_fetch_add(resumed ? &counts->resumed[kind] : &counts->full[kind], 1);
    if (!resumed) {
      memcpy(slot->name, name, sizeof(name));
    } else if (!have_one_ticket(slot->session, SSL_get_session(ssl))) {
      atomic_fetch_add(&counts->renewed[kind], 1);
    }
    if (!is_right(client, kind, slot->name, &answer)) {
      client_says(&counts->wrong, kind, "the session is another one's", ssl, 1);
      fprintf(stderr, "name %.32s and tag %.32s where both should be %s\n", answer.name, answer.tag, slot->name);
    }
    forget(slot);
    slot->session = SSL_get1_session(ssl);
  }
  SSL_set_quiet_shutdown(ssl, ending == WITHOUT_A_WORD);
  SSL_shutdown(ssl);
  ERR_clear_error();
  SSL_free(ssl);
  close(fd);
}

static int
be_clients(unsigned number, long visits)
{
  struct client client = {.dice = seed(number)};

  for (int kind = 0; kind < KINDS; kind++) {
    client.ctxs[kind] = tls_client(kinds[kind].version);
    if (kinds[kind].asks_for_certificate) {
      tls_give_certificate(client.ctxs[kind], 100 * number);
      X509_digest(SSL_CTX_get0_certificate(client.ctxs[kind]), EVP_sha256(), client.certificate, NULL);
    }
  }
  /* After 10 failures the server may no longer answer. */
  for (long i = 0; i < visits && atomic_load(&counts->failed) < 10; i++) {
    visit(&client);
  }
  for (int kind = 0; kind < KINDS; kind++) {
    for (int i = 0; i < SLOTS; i++) {
      forget(&client.slots[kind][i]);
    }
    SSL_CTX_free(client.ctxs[kind]);
  }
  return 0;
}

#endif /* LOAD_CLIENTS_H */
