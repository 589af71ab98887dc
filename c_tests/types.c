/** @file

  The documented types and prototypes. A header with others does not compile here.

  SPDX-License-Identifier: Apache-2.0
 */

#include <stddef.h>

#include "api.h"
#include "check.h"

#ifndef API_DLOPEN
TSSslSession TSSslSessionGet(const TSSslSessionID *sessionid);
int TSSslSessionGetBuffer(const TSSslSessionID *sessionid, char *buffer, int *len_ptr);
TSReturnCode TSSslSessionRemove(const TSSslSessionID *sessionid);
#if TS_SSL_SESSION_API == 8
TSReturnCode TSSslSessionInsert(const TSSslSessionID *sessionid, TSSslSession addSession);
void TSSslTicketKeyUpdate(char *ticketData, int ticketDataLength);
#else
TSReturnCode TSSslSessionInsert(const TSSslSessionID *sessionid, TSSslSession addSession, TSSslConnection conn);
TSReturnCode TSSslTicketKeyUpdate(char *ticketData, int ticketDataLength);
#endif
TSReturnCode TSSslSessionCacheAttach(TSSslContext ctx);
TSReturnCode TSSslSessionCacheDetach(TSSslContext ctx);
TSReturnCode TSSslSessionCacheConfigSet(const char *name, const char *value);
TSReturnCode TSSslSessionCacheStatGet(const char *name, int64_t *value);
TSReturnCode TSSslSessionHookAdd(TSEventFunc func, TSCont contp);
TSReturnCode TSSslSessionHookRemove(TSEventFunc func, TSCont contp);
TSReturnCode TSSslSessionInsertBuffer(const TSSslSessionID *sessionid, const char *buffer, int len);
TSReturnCode TSSslTicketKeyFileLoad(const char *path);
TSReturnCode TSSslTicketKeyRotate(void);
int TSSslSessionCacheConfigText(char *buffer, int *len_ptr);
void TSSslSessionCacheClear(void);
const char *TSSslSessionCacheVersion(void);
#endif

/* These are incomplete structs. */
struct tsapi_ssl_session;
struct tsapi_ssl_obj;
struct tsapi_ssl_context;
struct tsapi_cont;

int
main(void)
{
  api_open();

  struct tsapi_ssl_session *session = NULL;
  struct tsapi_ssl_obj *connection  = NULL;
  struct tsapi_ssl_context *context = NULL;
  struct tsapi_cont *contp          = NULL;
  TSSslSession a                    = session;
  TSSslConnection b                 = connection;
  TSSslContext c                    = context;
  TSCont d                          = contp;
  CHECK(a == NULL && b == NULL && c == NULL && d == NULL);

  TSSslSessionID id;
  CHECK_INT(sizeof(id.len), sizeof(size_t));
  CHECK_INT(sizeof(id.bytes), 32);
  CHECK_INT(offsetof(TSSslSessionID, len), 0);
  CHECK_INT(offsetof(TSSslSessionID, bytes), sizeof(size_t));
  CHECK_INT(sizeof(id), sizeof(size_t) + 32);
  CHECK_INT(TS_SSL_MAX_SSL_SESSION_ID_LENGTH, 32);

  CHECK_INT(TS_ERROR, -1);
  CHECK_INT(TS_SUCCESS, 0);
  CHECK_INT(sizeof(TSReturnCode), sizeof(int));
  CHECK_INT(TS_EVENT_SSL_SESSION_GET, 2000);
  CHECK_INT(TS_EVENT_SSL_SESSION_NEW, 2001);
  CHECK_INT(TS_EVENT_SSL_SESSION_REMOVE, 2002);
  CHECK_INT(sizeof(TSEvent), sizeof(int));

  CHECK(strcmp(TSSslSessionCacheVersion(), TSSESSION_VERSION) == 0);

  id = api_id(32, 1);
  CHECK(TSSslSessionGet(&id) == NULL);
#if TS_SSL_SESSION_API == 8
  CHECK_INT(TSSslSessionInsert(&id, NULL), TS_ERROR);
  TSSslTicketKeyUpdate(NULL, 0);
#else
  /* The third argument is never read: it does not even have to be a valid pointer. */
  CHECK_INT(TSSslSessionInsert(&id, NULL, (TSSslConnection)(size_t)1), TS_ERROR);
  CHECK_INT(TSSslTicketKeyUpdate(NULL, 0), TS_ERROR);
#endif
  return check_result();
}
