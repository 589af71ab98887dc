/** @file

  Who can remove a session: a client that breaks a connection removes only the session that it
  used; a host that calls SSL_CTX_remove_session removes any, whatever happened before.

  SPDX-License-Identifier: Apache-2.0
 */

#include <openssl/err.h>

#include "api.h"
#include "check.h"
#include "tls.h"

static int removes;

static int
note_event(TSCont contp, TSEvent event, void *id)
{
  (void)contp, (void)id;
  removes += event == TS_EVENT_SSL_SESSION_REMOVE;
  return 0;
}

static SSL_CTX *
client_without_tickets(void)
{
  SSL_CTX *client = tls_client(TLS1_2_VERSION);
  SSL_CTX_set_options(client, SSL_OP_NO_TICKET);
  return client;
}

/* A client sends its own ticket with another client's session ID, which everybody could see in the
   server's hello. It resumes by the ticket, and breaks the connection. */
static void
check_stranger(SSL_CTX *server, enum tls_ending ending)
{
  SSL_CTX *victim      = client_without_tickets();
  SSL_CTX *attacker    = tls_client(TLS1_2_VERSION);
  SSL_SESSION *victims = NULL;
  SSL_SESSION *attacks = NULL;
  unsigned int id_len  = 0;
  long long removed    = api_stat(STAT_REMOVED);
  const unsigned char *id;
  CHECK_INT(tls_visit(server, victim, NULL, TLS_CLEAN, &victims), 0);
  CHECK_INT(tls_visit(server, attacker, NULL, TLS_CLEAN, &attacks), 0);
  id = SSL_SESSION_get_id(victims, &id_len);
  REQUIRE(id_len == 32 && SSL_SESSION_set1_id(attacks, id, id_len) == 1);

  removes = 0;
  CHECK_INT(tls_visit(server, attacker, attacks, ending, NULL), 1);
  CHECK_INT(removes, 0);
  CHECK_INT(api_stat(STAT_REMOVED), removed);
  CHECK_INT(tls_visit(server, victim, victims, TLS_CLEAN, NULL), 1);

  /* If the other client breaks its own connection, its session is removed. */
  CHECK_INT(tls_visit(server, victim, victims, ending, NULL), 1);
  CHECK_INT(removes, 1);
  CHECK_INT(tls_visit(server, victim, victims, TLS_CLEAN, NULL), 0);
  SSL_SESSION_free(victims);
  tls_free(victim, attacker, attacks);
}

/* The client closes without close_notify, and OpenSSL's error stays in the queue. */
static void
hang_up(struct tls_connection *connection)
{
  char byte;
  BIO_shutdown_wr(SSL_get_wbio(connection->client));
  CHECK(SSL_read(connection->server, &byte, 1) <= 0);
  CHECK_INT(ERR_GET_REASON(ERR_peek_last_error()), SSL_R_UNEXPECTED_EOF_WHILE_READING);
}

static void
close_both(struct tls_connection *connection)
{
  SSL_free(connection->server);
  SSL_set_quiet_shutdown(connection->client, 1);
  SSL_shutdown(connection->client);
  SSL_free(connection->client);
}

enum earlier { UNATTACHED, BY_TICKET, SAME_CONNECTION, EARLIERS };

/* The host removes a session while the thread's last error is that of a client that hung up. */
static void
check_host(SSL_CTX *server, int version, enum earlier earlier)
{
  SSL_CTX *client      = version == TLS1_2_VERSION ? client_without_tickets() : tls_client(version);
  SSL_CTX *unattached  = tls_server(version);
  SSL_CTX *with_ticket = tls_client(TLS1_2_VERSION);
  SSL_SESSION *session = NULL;
  struct tls_connection connection, other;
  CHECK_INT(tls_connect(server, client, NULL, &connection), 0);
  session              = SSL_get1_session(connection.client);
  SSL_SESSION *servers = SSL_get1_session(connection.server);
  removes              = 0;
  if (earlier == SAME_CONNECTION) {
    hang_up(&connection);
  } else {
    tls_end(&connection, TLS_CLEAN);
    CHECK_INT(earlier == UNATTACHED ? tls_connect(unattached, client, NULL, &other)
                                    : tls_connect(server, with_ticket, NULL, &other),
              0);
    hang_up(&other);
  }
  CHECK_INT(removes, 0);

  unsigned long newest = ERR_peek_last_error();
  SSL_CTX_remove_session(server, servers);
  CHECK_INT(removes, 1);
  /* The library leaves the host's queue alone. */
  CHECK(ERR_peek_last_error() == newest);
  ERR_clear_error();
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 0);

  close_both(earlier == SAME_CONNECTION ? &connection : &other);
  SSL_SESSION_free(session);
  SSL_SESSION_free(servers);
  SSL_CTX_free(client);
  SSL_CTX_free(unattached);
  SSL_CTX_free(with_ticket);
}

/* A client that hangs up keeps its session every time, once for each handshake. */
static void
check_hang_ups(SSL_CTX *server)
{
  SSL_CTX *client      = client_without_tickets();
  SSL_SESSION *session = NULL;
  removes              = 0;
  CHECK_INT(tls_visit(server, client, NULL, TLS_HANG_UP, &session), 0);
  for (int i = 0; i < 3; i++) {
    CHECK_INT(tls_visit(server, client, session, TLS_HANG_UP, NULL), 1);
  }
  CHECK_INT(removes, 0);
  SSL_SESSION_free(session);
  SSL_CTX_free(client);
}

int
main(void)
{
  api_open();
  CHECK_INT(TSSslSessionHookAdd(note_event, NULL), TS_SUCCESS);
  SSL_CTX *server = tls_server(TLS1_2_VERSION);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  check_stranger(server, TLS_FATAL);
  check_stranger(server, TLS_DROP);
  check_hang_ups(server);
  for (int earlier = 0; earlier < EARLIERS; earlier++) {
    check_host(server, TLS1_2_VERSION, (enum earlier)earlier);
  }
  SSL_CTX_free(server);

  /* TLS 1.3 by session ID. */
  REQUIRE(TSSslSessionCacheConfigSet("proxy.config.ssl.server.session_ticket.number", "1") == TS_SUCCESS);
  server = tls_server(TLS1_3_VERSION);
  SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  check_host(server, TLS1_3_VERSION, UNATTACHED);
  check_host(server, TLS1_3_VERSION, SAME_CONNECTION);
  SSL_CTX_free(server);
  return check_result();
}
