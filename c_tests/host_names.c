/** @file

  A host that defines the same names, as traffic_server 9 and 10 do, and opens the
  library with dlopen. The host's functions come first in the lookup of symbols. If
  the library called its own functions by name, it would call these.

  SPDX-License-Identifier: Apache-2.0
 */

#include <ts/ssl_session_cache.h>

static int calls;

TSSslSession
TSSslSessionGet(const TSSslSessionID *sessionid)
{
  (void)sessionid;
  calls++;
  return NULL;
}

int
TSSslSessionGetBuffer(const TSSslSessionID *sessionid, char *buffer, int *len_ptr)
{
  (void)sessionid, (void)buffer, (void)len_ptr;
  calls++;
  return 0;
}

TSReturnCode
TSSslSessionInsert(const TSSslSessionID *sessionid, TSSslSession addSession)
{
  (void)sessionid, (void)addSession;
  calls++;
  return TS_SUCCESS;
}

TSReturnCode
TSSslSessionRemove(const TSSslSessionID *sessionid)
{
  (void)sessionid;
  calls++;
  return TS_SUCCESS;
}

void
TSSslTicketKeyUpdate(char *ticketData, int ticketDataLength)
{
  (void)ticketData, (void)ticketDataLength;
  calls++;
}

/* From here on the names mean the library's functions. */
#include "api.h"
#include "check.h"
#include "tls.h"

int
main(void)
{
  api_open();

  SSL_CTX *server       = tls_server(TLS1_2_VERSION);
  SSL_CTX *client       = tls_client(TLS1_2_VERSION);
  SSL_SESSION *by_id    = NULL;
  SSL_SESSION *a_ticket = NULL;
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);

  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &a_ticket), 0);
  CHECK_INT(tls_visit(server, client, a_ticket, TLS_CLEAN, NULL), 1);
  SSL_CTX_set_options(client, SSL_OP_NO_TICKET);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &by_id), 0);
  CHECK_INT(tls_visit(server, client, by_id, TLS_CLEAN, NULL), 1);
  CHECK_INT(tls_visit(server, client, by_id, TLS_FATAL, NULL), 1);
  CHECK_INT(tls_visit(server, client, by_id, TLS_CLEAN, NULL), 0);

  TSSslSessionID id = api_numbered_id(1);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)by_id), TS_SUCCESS);
  SSL_SESSION *copy = (SSL_SESSION *)TSSslSessionGet(&id);
  CHECK(copy != NULL);
  CHECK_INT(calls, 0);

  SSL_SESSION_free(copy);
  SSL_SESSION_free(by_id);
  SSL_SESSION_free(a_ticket);
  SSL_CTX_free(server);
  SSL_CTX_free(client);
  return check_result();
}
