/** @file

  Calls of the library from within the library: from a hook, and from the host's allocator,
  which OpenSSL calls. If the library held a lock, the call would wait forever, and the
  alarm would end the test.

  SPDX-License-Identifier: Apache-2.0
 */

#include <unistd.h>

#include "api.h"
#include "check.h"
#include "tls.h"

static TSSslSessionID id;
static SSL_SESSION *session;
static unsigned char *der;
static int der_len;

static int
never_called(TSCont contp, TSEvent event, void *edata)
{
  (void)contp, (void)event, (void)edata;
  CHECK(0);
  return 0;
}

/* Calls every function that takes a lock, with the ID that is in use. */
static void
call_all(void)
{
  char buffer[2000];
  char key[48];
  int len = (int)sizeof(buffer);

  memset(key, 1, sizeof(key));
  CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  CHECK_INT(TSSslSessionInsertBuffer(&id, (const char *)der, der_len), TS_SUCCESS);
  CHECK_INT(TSSslSessionGetBuffer(&id, buffer, &len), der_len);
  SSL_SESSION *copy = (SSL_SESSION *)TSSslSessionGet(&id);
  CHECK(copy != NULL);
  SSL_SESSION_free(copy);
  TSSslTicketKeyUpdate(key, sizeof(key));
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.size", "1000"), TS_SUCCESS);
  CHECK_INT(TSSslSessionHookAdd(never_called, NULL), TS_SUCCESS);
  CHECK_INT(TSSslSessionHookRemove(never_called, NULL), TS_SUCCESS);
  CHECK(api_stat(STAT_ENTRIES) > 0);
  TSSslSessionCacheClear();
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
}

static int in_allocator = 1;
static int from_allocator;

static void
come_back(void)
{
  if (!in_allocator) {
    in_allocator = 1;
    call_all();
    from_allocator++;
    in_allocator = 0;
  }
}

static void *
allocate(size_t size, const char *file, int line)
{
  (void)file, (void)line;
  come_back();
  return malloc(size);
}

static void *
reallocate(void *memory, size_t size, const char *file, int line)
{
  (void)file, (void)line;
  come_back();
  return realloc(memory, size);
}

static void
release(void *memory, const char *file, int line)
{
  (void)file, (void)line;
  come_back();
  free(memory);
}

/* Runs a call in which OpenSSL calls the library again. */
#define COMES_BACK(statement)                                                                                          \
  do {                                                                                                                 \
    int before   = from_allocator;                                                                                     \
    in_allocator = 0;                                                                                                  \
    statement;                                                                                                         \
    in_allocator = 1;                                                                                                  \
    CHECK(from_allocator > before);                                                                                    \
  } while (0)

static int told[2];
static int hook_calls_all;

static int
note(TSCont contp, TSEvent event, void *edata)
{
  (void)event;
  id = *(TSSslSessionID *)edata;
  ++*(int *)contp;
  if (hook_calls_all) {
    call_all();
    /* A hook can even remove itself, and add itself again. */
    CHECK_INT(TSSslSessionHookRemove(note, contp), TS_SUCCESS);
    CHECK_INT(TSSslSessionHookAdd(note, contp), TS_SUCCESS);
  }
  return 0;
}

static void
check_hooks(void)
{
  SSL_CTX *server = tls_server(TLS1_2_VERSION);
  SSL_CTX *client = tls_client(TLS1_2_VERSION);
  SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);

  /* One function with two continuations is two hooks. */
  CHECK_INT(TSSslSessionHookAdd(note, (TSCont)&told[0]), TS_SUCCESS);
  CHECK_INT(TSSslSessionHookAdd(note, (TSCont)&told[1]), TS_SUCCESS);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, NULL), 0);
  CHECK_INT(told[0], 1);
  CHECK_INT(told[1], 1);
  /* Calls fire no events. */
  call_all();
  CHECK_INT(told[0], 1);
  CHECK_INT(TSSslSessionHookRemove(note, (TSCont)&told[0]), TS_SUCCESS);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, NULL), 0);
  CHECK_INT(told[0], 1);
  CHECK_INT(told[1], 2);

  hook_calls_all = 1;
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, NULL), 0);
  CHECK_INT(told[1], 3);
  hook_calls_all = 0;

  /* OpenSSL calls the library again during handshakes, thousands of times. */
#ifndef IN_VALGRIND
  COMES_BACK(CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, NULL), 0));
#endif
  CHECK_INT(TSSslSessionHookRemove(note, (TSCont)&told[1]), TS_SUCCESS);
  tls_free(server, client, NULL);
}

int
main(void)
{
  REQUIRE(CRYPTO_set_mem_functions(allocate, reallocate, release) == 1);
  alarm(60);
  api_open();
  session = tls_session(0);
  der     = tls_der(session, &der_len);
  id      = api_numbered_id(1);
  call_all();

  COMES_BACK(CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS));
  COMES_BACK(CHECK_INT(TSSslSessionInsertBuffer(&id, (const char *)der, der_len), TS_SUCCESS));
  COMES_BACK(SSL_SESSION_free((SSL_SESSION *)TSSslSessionGet(&id)));
  check_hooks();

  OPENSSL_free(der);
  SSL_SESSION_free(session);
  return check_result();
}
