/** @file

  TSSslTicketKeyUpdate, tested with the tickets of real clients.

  SPDX-License-Identifier: Apache-2.0
 */

/* At this level the function has a result. */
#define TS_SSL_SESSION_API 9

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "api.h"
#include "check.h"
#include "own_key.h"
#include "tls.h"

#define KEY 48

/* Makes a key whose name is one letter, 16 times. */
static void
put_key(char *to, char name, char secret)
{
  memset(to, name, 16);
  memset(to + 16, secret, 32);
}

static TSReturnCode
update(const char *names)
{
  char keys[8 * KEY];
  int count = (int)strlen(names);
  for (int i = 0; i < count; i++) {
    put_key(keys + i * KEY, names[i], (char)(names[i] + 1));
  }
  TSReturnCode result = TSSslTicketKeyUpdate(keys, count * KEY);
  /* The library has copied the data. */
  memset(keys, 0, sizeof(keys));
  return result;
}

/* Returns the letter that names the key of a session's ticket, or 0 for another name. */
static char
key_of(SSL_SESSION *session)
{
  const unsigned char *ticket = NULL;
  size_t len                  = 0;
  SSL_SESSION_get0_ticket(session, &ticket, &len);
  if (ticket == NULL || len < 16) {
    return 0;
  }
  for (int i = 1; i < 16; i++) {
    if (ticket[i] != ticket[0]) {
      return 0;
    }
  }
  return (char)ticket[0];
}

static SSL_CTX *server;
static SSL_CTX *client;

static SSL_SESSION *
new_ticket(void)
{
  SSL_SESSION *session = NULL;
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  REQUIRE(session != NULL);
  return session;
}

/* Visits with a ticket, and keeps the new one. Returns 1 if it resumed, otherwise 0. */
static int
come_back(SSL_SESSION **ticket)
{
  SSL_SESSION *next = NULL;
  int resumed       = tls_visit(server, client, *ticket, TLS_CLEAN, &next);
  REQUIRE(next != NULL);
  SSL_SESSION_free(*ticket);
  *ticket = next;
  return resumed;
}

/* Returns the session with changed bytes in its ticket. A negative `at` counts from the end. */
static SSL_SESSION *
altered(SSL_SESSION *session, long at, size_t count, int flip)
{
  int len                     = 0;
  unsigned char *der          = tls_der(session, &len);
  const unsigned char *ticket = NULL;
  size_t ticket_len           = 0;
  SSL_SESSION_get0_ticket(session, &ticket, &ticket_len);
  for (int i = 0; i + (int)ticket_len <= len; i++) {
    if (memcmp(der + i, ticket, ticket_len) == 0) {
      for (size_t k = 0; k < count; k++) {
        der[i + at + (at < 0 ? (long)ticket_len : 0) + (long)k] ^= (unsigned char)flip;
      }
      break;
    }
  }
  const unsigned char *start = der;
  SSL_SESSION *result        = d2i_SSL_SESSION(NULL, &start, len);
  REQUIRE(result != NULL);
  OPENSSL_free(der);
  return result;
}

/* Returns the session with another key name in its ticket. */
static SSL_SESSION *
rename_key(SSL_SESSION *session, char to)
{
  SSL_SESSION *renamed = altered(session, 0, 16, key_of(session) ^ to);
  CHECK_INT(key_of(renamed), to);
  return renamed;
}

/* Visits with a ticket that is not authentic, or has an unknown key. It counts as neither verified nor
   renewed. */
static void
come_with_false(SSL_SESSION *ticket, int is_not_found)
{
  long long verified  = api_stat(STAT_VERIFIED);
  long long old       = api_stat(STAT_OLD_KEY);
  long long renewed   = api_stat(STAT_RENEWED);
  long long not_found = api_stat(STAT_NOT_FOUND);
  CHECK_INT(come_back(&ticket), 0);
  CHECK_INT(api_stat(STAT_VERIFIED), verified);
  CHECK_INT(api_stat(STAT_OLD_KEY), old);
  CHECK_INT(api_stat(STAT_RENEWED), renewed);
  CHECK_INT(api_stat(STAT_NOT_FOUND), not_found + is_not_found);
  SSL_SESSION_free(ticket);
}

static void
check_keys(int version)
{
  int tls13 = version == TLS1_3_VERSION;
  server    = tls_server(version);
  client    = tls_client(version);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);

  /* Active when the call returns: the first encrypts. */
  CHECK_INT(update("ab"), TS_SUCCESS);
  SSL_SESSION *ticket = new_ticket();
  CHECK_INT(key_of(ticket), 'a');
  CHECK_INT(come_back(&ticket), 1);

  /* Clear does not remove the keys. */
  TSSslSessionID absent = api_numbered_id(1);
  CHECK(TSSslSessionGet(&absent) == NULL);
  TSSslSessionCacheClear();
  CHECK_INT(come_back(&ticket), 1);

  /* Every key decrypts. A ticket with another key than the first is renewed. */
  CHECK_INT(update("ba"), TS_SUCCESS);
  long long renewed = api_stat(STAT_RENEWED);
  long long old     = api_stat(STAT_OLD_KEY);
  CHECK_INT(come_back(&ticket), 1);
  CHECK_INT(key_of(ticket), 'b');
  CHECK_INT(api_stat(STAT_RENEWED), renewed + 1);
  CHECK_INT(api_stat(STAT_OLD_KEY), old + 1);

  /* A ticket with the first key is replaced only in TLS 1.3. */
  CHECK_INT(come_back(&ticket), 1);
  CHECK_INT(api_stat(STAT_RENEWED), renewed + 1 + tls13);
  CHECK_INT(api_stat(STAT_OLD_KEY), old + 1);

  /* The key was dropped: a full handshake, which does not fail. */
  CHECK_INT(update("c"), TS_SUCCESS);
  long long not_found = api_stat(STAT_NOT_FOUND);
  CHECK_INT(come_back(&ticket), 0);
  CHECK_INT(api_stat(STAT_NOT_FOUND), not_found + 1);
  CHECK_INT(key_of(ticket), 'c');

  /* Refused, and the active keys are unchanged: less than one key... */
  char keys[4 * KEY];
  put_key(keys, 'x', 'y');
  const int lengths[] = {0, -1, -KEY, INT_MIN, 1, KEY - 1};
  for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
    CHECK_INT(TSSslTicketKeyUpdate(keys, lengths[i]), TS_ERROR);
  }
  CHECK_INT(TSSslTicketKeyUpdate(NULL, KEY), TS_ERROR);
  CHECK_INT(TSSslTicketKeyUpdate(NULL, 0), TS_ERROR);
  /* ... the first key all zero... */
  memset(keys, 0, KEY);
  CHECK_INT(TSSslTicketKeyUpdate(keys, KEY), TS_ERROR);
  put_key(keys + KEY, 'x', 'y');
  CHECK_INT(TSSslTicketKeyUpdate(keys, 2 * KEY), TS_ERROR);
  put_key(keys, 'x', 0);
  CHECK_INT(TSSslTicketKeyUpdate(keys, KEY), TS_ERROR);
  /* ... two keys with one name but different secrets. */
  put_key(keys, 'x', 'y');
  put_key(keys + KEY, 'z', 'y');
  put_key(keys + 2 * KEY, 'x', 'y');
  keys[2 * KEY + 47] = 'q';
  CHECK_INT(TSSslTicketKeyUpdate(keys, 3 * KEY), TS_ERROR);
  CHECK_INT(come_back(&ticket), 1);
  CHECK_INT(key_of(ticket), 'c');

  /* Bytes behind the last whole key are ignored. */
  put_key(keys, 'd', 'e');
  put_key(keys + KEY, 'c', 'c' + 1);
  put_key(keys + 2 * KEY, 'f', 'g');
  CHECK_INT(TSSslTicketKeyUpdate(keys, 3 * KEY - 1), TS_SUCCESS);
  CHECK_INT(come_back(&ticket), 1);
  CHECK_INT(key_of(ticket), 'd');
  come_with_false(rename_key(ticket, 'f'), 1);

  /* A later key of zeros is ignored: a ticket with its name finds no key. */
  memset(keys + KEY, 0, KEY);
  CHECK_INT(TSSslTicketKeyUpdate(keys, 3 * KEY), TS_SUCCESS);
  CHECK_INT(come_back(&ticket), 1);
  come_with_false(rename_key(ticket, 0), 1);

  /* A ticket with a known key name but another secret, or with a wrong MAC: a full
     handshake. */
  come_with_false(rename_key(ticket, 'f'), 0);
  come_with_false(altered(ticket, -1, 1, 1), 0);

  /* The same key twice, as plugins pass it when they start. */
  CHECK_INT(update("dd"), TS_SUCCESS);
  old = api_stat(STAT_OLD_KEY);
  CHECK_INT(come_back(&ticket), 1);
  CHECK_INT(api_stat(STAT_OLD_KEY), old);

  /* Every attached context has the same keys. */
  SSL_CTX *first = server;
  server         = tls_server(version);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(come_back(&ticket), 1);
  CHECK_INT(update("g"), TS_SUCCESS);
  CHECK_INT(come_back(&ticket), 0);
  CHECK_INT(key_of(ticket), 'g');
  SSL_CTX_free(server);
  server = first;
  CHECK_INT(come_back(&ticket), 1);

  tls_free(server, client, ticket);
}

static atomic_int rotating = 1;

static void *
rotate(void *arg)
{
  (void)arg;
  /* The previous key stays for one more round, as in a rotation. */
  char names[3] = "ab";
  while (atomic_load(&rotating)) {
    CHECK_INT(update(names), TS_SUCCESS);
    names[1] = names[0];
    names[0] = (char)(names[0] == 'z' ? 'a' : names[0] + 1);
  }
  return NULL;
}

/* Keys change during handshakes: resumed or not, none fails. */
static void
check_rotation_in_traffic(int version)
{
  server = tls_server(version);
  client = tls_client(version);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(update("a"), TS_SUCCESS);

  pthread_t rotator;
  atomic_store(&rotating, 1);
  REQUIRE(pthread_create(&rotator, NULL, rotate, NULL) == 0);
  SSL_SESSION *ticket = new_ticket();
  for (int i = check_scaled(300); i > 0; i--) {
    CHECK(come_back(&ticket) >= 0);
  }
  atomic_store(&rotating, 0);
  pthread_join(rotator, NULL);
  CHECK_INT(update("a"), TS_SUCCESS);

  tls_free(server, client, ticket);
}

/* A host that keeps its own ticket keys, then uses those of the library, then its own again. */
static void
check_modes(int version)
{
  static const char mode[] = "tssession.session_ticket.mode";
  server                   = tls_server(version);
  client                   = tls_client(version);
  SSL_CTX_set_tlsext_ticket_key_evp_cb(server, own_key);
  SSL_CTX_set_num_tickets(server, 1);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.server.session_ticket.number", "3"), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.server.session_ticket.enable", "0"), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheConfigSet(mode, "0"), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(SSL_CTX_get_num_tickets(server), 1);
  CHECK_INT(SSL_CTX_get_options(server) & SSL_OP_NO_TICKET, 0);
  long long created   = api_stat(STAT_CREATED);
  int asked           = own_key_asked;
  SSL_SESSION *ticket = new_ticket();
  CHECK_INT(come_back(&ticket), 1);
  CHECK(own_key_asked >= asked + 2);
  CHECK_INT(api_stat(STAT_CREATED), created);
  /* Sessions with IDs are still cached. */
  SSL_CTX *by_id       = tls_client(TLS1_2_VERSION);
  SSL_SESSION *session = NULL;
  SSL_CTX_set_options(by_id, SSL_OP_NO_TICKET);
  SSL_CTX_set_min_proto_version(server, TLS1_2_VERSION);
  SSL_CTX_set_max_proto_version(server, 0);
  CHECK_INT(tls_visit(server, by_id, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_visit(server, by_id, session, TLS_CLEAN, NULL), 1);

  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.server.session_ticket.enable", "1"), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheConfigSet(mode, "1"), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(SSL_CTX_get_num_tickets(server), 3);
  asked = own_key_asked;
  CHECK_INT(come_back(&ticket), 0);
  CHECK_INT(come_back(&ticket), 1);
  CHECK_INT(own_key_asked, asked);
  CHECK(api_stat(STAT_CREATED) > created);

  /* Back to its own: the library no longer knows the host's callback, so the host sets it again. */
  CHECK_INT(TSSslSessionCacheConfigSet(mode, "0"), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(SSL_CTX_get_num_tickets(server), 1);
  created = api_stat(STAT_CREATED);
  CHECK_INT(come_back(&ticket), 0);
  CHECK_INT(come_back(&ticket), 1);
  SSL_CTX_set_tlsext_ticket_key_evp_cb(server, own_key);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheDetach((TSSslContext)server), TS_SUCCESS);
  asked = own_key_asked;
  CHECK_INT(come_back(&ticket), 0);
  CHECK_INT(come_back(&ticket), 1);
  CHECK(own_key_asked > asked);
  CHECK_INT(api_stat(STAT_CREATED), created);

  CHECK_INT(TSSslSessionCacheConfigSet(mode, "1"), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.server.session_ticket.number", "2"), TS_SUCCESS);
  SSL_SESSION_free(ticket);
  SSL_SESSION_free(session);
  SSL_CTX_free(by_id);
  SSL_CTX_free(server);
  SSL_CTX_free(client);
}

int
main(void)
{
  api_open();

  /* Before any key is set, all contexts share a random one. */
  server          = tls_server(TLS1_2_VERSION);
  client          = tls_client(TLS1_2_VERSION);
  SSL_CTX *second = tls_server(TLS1_2_VERSION);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)second), TS_SUCCESS);
  SSL_SESSION *ticket = new_ticket();
  CHECK_INT(key_of(ticket), 0);
  CHECK_INT(come_back(&ticket), 1);
  SSL_CTX_free(server);
  server = second;
  CHECK_INT(come_back(&ticket), 1);
  CHECK_INT(api_stat(STAT_KEYS_RENEWED), 0);
  CHECK_INT(api_stat(STAT_CREATED), 1);
  CHECK_INT(api_stat(STAT_VERIFIED), 2);
  tls_free(server, client, ticket);

  check_keys(TLS1_2_VERSION);
  check_keys(TLS1_3_VERSION);
  check_rotation_in_traffic(TLS1_2_VERSION);
  check_rotation_in_traffic(TLS1_3_VERSION);
  check_modes(TLS1_2_VERSION);
  check_modes(TLS1_3_VERSION);
  return check_result();
}
