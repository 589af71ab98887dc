/** @file

  What the caller owns is unchanged: the session and its references, and OpenSSL's
  error queue.

  OpenSSL does not show reference counts. A free function for application data of
  the session shows when the last reference is dropped.

  SPDX-License-Identifier: Apache-2.0
 */

#include <openssl/err.h>

#include "api.h"
#include "callbacks.h"
#include "check.h"
#include "tls.h"

static int freed;

static void
count_free(void *parent, void *data, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
  (void)parent, (void)ad, (void)index, (void)argl, (void)argp;
  if (data != NULL) {
    freed++;
  }
}

/* The numbers of errors that fill OpenSSL's queue, and that leave enough room to decode a certificate
   (for which OpenSSL 3.0 queues an error and removes it), or bytes that are not a session (10 errors). */
#define FULL 15
#define WITH_CERTIFICATE 12
#define WITH_GARBAGE 3

static void
fill_queue(int count)
{
  ERR_clear_error();
  for (int i = 0; i < count; i++) {
    ERR_raise(ERR_LIB_USER, 11 + i);
  }
}

/* Checks that the queue has the errors from `first` on, and no others. */
static void
expect_queue_from(int first, int count, const char *after)
{
  for (int i = first; i < count; i++) {
    int reason = ERR_GET_REASON(ERR_get_error());
    if (reason != 11 + i) {
      fprintf(stderr, "after %s with %d errors queued:\n", after, count);
    }
    CHECK_INT(reason, 11 + i);
  }
  unsigned long more = ERR_get_error();
  if (more != 0) {
    fprintf(stderr, "after %s with %d errors queued: %s\n", after, count, ERR_error_string(more, NULL));
  }
  CHECK(more == 0);
}

static void
expect_queue(int count, const char *after)
{
  expect_queue_from(0, count, after);
}

/* Runs a statement with 0 to `most` errors in the queue. */
#define KEEPS_QUEUE_OF(most, statement)                                                                                \
  for (int count = 0; count <= most; count += 1 + (count == 1) * (most - 2)) {                                         \
    fill_queue(count);                                                                                                 \
    statement;                                                                                                         \
    expect_queue(count, #statement);                                                                                   \
  }
#define KEEPS_QUEUE(statement) KEEPS_QUEUE_OF(FULL, statement)

static int callbacks_called, errors_at_callbacks;

static void
callback_begins(const char *name)
{
  (void)name;
  fill_queue(errors_at_callbacks);
}

static void
callback_ends(const char *name)
{
  expect_queue(errors_at_callbacks, name);
  callbacks_called++;
}

/* Clients visit, return and leave cleanly, while the queue is full in each callback. */
static void
check_callbacks(int version, uint64_t options, int early_data, int certificates)
{
  SSL_CTX *server      = certificates ? tls_server_with_client_certificates(version) : tls_server(version);
  SSL_CTX *client      = tls_client(version);
  SSL_SESSION *session = NULL;

  SSL_CTX_set_options(server, options);
  SSL_CTX_set_max_early_data(server, early_data ? 1000 : 0);
  if (certificates) {
    tls_give_certificate(client, 500);
  }
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  errors_at_callbacks = certificates ? WITH_CERTIFICATE : FULL;
  callbacks_called    = 0;
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
  CHECK(callbacks_called > 1);
  SSL_SESSION_free(session);
  SSL_CTX_free(server);
  SSL_CTX_free(client);
}

static int warnings;

static void
note_warning(TSCont contp, int level, const char *tag, const char *text)
{
  (void)contp, (void)level, (void)tag;
  warnings += strstr(text, "error queue") != NULL;
}

/* If the queue was full, the newest errors stay, and the loss of others is logged. */
static void
check_garbage(SSL_SESSION *certified)
{
  TSSslSessionID id = api_numbered_id(3);
  int most_lost     = 0;
  int len;
  unsigned char *der = tls_der(certified, &len);

  CHECK_INT(TSSslSessionCacheLogSet(note_warning, NULL, TS_SSL_SESSION_CACHE_LOG_WARNING), TS_SUCCESS);
  for (int at = 0; at < len; at += 7) {
    der[at] ^= 0xff;
    KEEPS_QUEUE_OF(WITH_GARBAGE, (void)TSSslSessionInsertBuffer(&id, (const char *)der, len))
    CHECK(most_lost > 0 || warnings == 0);
    fill_queue(FULL);
    TSSslSessionInsertBuffer(&id, (const char *)der, len);
    int lost = ERR_GET_REASON(ERR_peek_error()) - 11;
    CHECK(lost >= 0 && lost <= FULL - WITH_GARBAGE);
    expect_queue_from(lost, FULL, "garbage");
    most_lost = lost > most_lost ? lost : most_lost;
    der[at] ^= 0xff;
  }
  CHECK(most_lost > 1);
  CHECK(warnings > 0);
  CHECK_INT(TSSslSessionCacheLogSet(NULL, NULL, TS_SSL_SESSION_CACHE_LOG_WARNING), TS_SUCCESS);
  OPENSSL_free(der);
}

int
main(void)
{
  api_open();

  int index = SSL_SESSION_get_ex_new_index(0, NULL, NULL, NULL, count_free);
  REQUIRE(index >= 0);
  SSL_SESSION *session   = tls_session(0);
  SSL_SESSION *larger    = tls_session(16500);
  SSL_SESSION *certified = tls_session(500);
  TSSslSession opaque    = (TSSslSession)session;
  int der_len;
  unsigned char *der = tls_der(certified, &der_len);
  REQUIRE(SSL_SESSION_set_ex_data(session, index, &freed) == 1);
  TSSslSessionID id      = api_numbered_id(1);
  TSSslSessionID absent  = api_numbered_id(2);
  TSSslSessionID invalid = api_id(33, 1);

  for (int i = 0; i < 10; i++) {
    CHECK_INT(TSSslSessionInsert(&id, opaque), TS_SUCCESS);
  }
  CHECK_INT(TSSslSessionInsert(&invalid, opaque), TS_ERROR);
  SSL_SESSION *copy = (SSL_SESSION *)TSSslSessionGet(&id);
  REQUIRE(copy != NULL);
  CHECK_INT(freed, 0);
  SSL_SESSION_up_ref(session);
  SSL_SESSION_free(session);
  CHECK_INT(freed, 0);

  SSL_CTX *ctx = tls_server(TLS1_2_VERSION);
  char buffer[100];
  char garbage[100]          = "0 is how a session begins, but it does not go on like this";
  int len                    = 100;
  char keys[96]              = {1};
  SSL_SESSION *not_encodable = SSL_SESSION_new();
  fill_queue(0);
  KEEPS_QUEUE(SSL_SESSION_free((SSL_SESSION *)TSSslSessionGet(&id)))
  KEEPS_QUEUE(TSSslSessionGet(&absent))
  KEEPS_QUEUE(TSSslSessionGet(&invalid))
  KEEPS_QUEUE(TSSslSessionGetBuffer(&id, buffer, &len))
  KEEPS_QUEUE(TSSslSessionGetBuffer(&absent, buffer, &len))
  KEEPS_QUEUE(TSSslSessionGetBuffer(&invalid, buffer, NULL))
  KEEPS_QUEUE(TSSslSessionInsert(&id, opaque))
  KEEPS_QUEUE(TSSslSessionInsert(&id, NULL))
  KEEPS_QUEUE(TSSslSessionInsert(&id, (TSSslSession)not_encodable))
  KEEPS_QUEUE(TSSslSessionInsert(&id, (TSSslSession)larger))
  KEEPS_QUEUE_OF(WITH_GARBAGE, TSSslSessionInsertBuffer(&id, garbage, sizeof(garbage)))
  KEEPS_QUEUE_OF(WITH_CERTIFICATE, TSSslSessionInsertBuffer(&id, (const char *)der, der_len))
  KEEPS_QUEUE_OF(WITH_CERTIFICATE, SSL_SESSION_free((SSL_SESSION *)TSSslSessionGet(&id)))
  KEEPS_QUEUE(TSSslTicketKeyFileLoad("/no/such/file"))
  KEEPS_QUEUE(TSSslSessionRemove(&id))
  KEEPS_QUEUE(TSSslSessionRemove(NULL))
  KEEPS_QUEUE(TSSslTicketKeyUpdate(keys, 48))
  KEEPS_QUEUE(TSSslTicketKeyRotate())
  KEEPS_QUEUE(TSSslTicketKeyUpdate(keys, 47))
  KEEPS_QUEUE(TSSslSessionCacheAttach((TSSslContext)ctx))
  KEEPS_QUEUE(TSSslSessionCacheAttach(NULL))
  KEEPS_QUEUE(TSSslSessionCacheDetach((TSSslContext)ctx))
  KEEPS_QUEUE(TSSslSessionCacheConfigSet("no.such.record", "1"))
  KEEPS_QUEUE(TSSslSessionCacheClear())
  check_garbage(certified);
  for (int certificates = 0; certificates < 2; certificates++) {
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
      check_callbacks(version, 0, 0, certificates);
      check_callbacks(version, SSL_OP_NO_TICKET, 0, certificates);
    }
    check_callbacks(TLS1_3_VERSION, 0, 1, certificates);
  }

  /* A mark of the caller is still valid afterwards. */
  fill_queue(1);
  ERR_set_mark();
  ERR_raise(ERR_LIB_USER, 12);
  SSL_SESSION_free((SSL_SESSION *)TSSslSessionGet(&id));
  CHECK_INT(TSSslSessionInsert(&id, opaque), TS_SUCCESS);
  CHECK_INT(ERR_pop_to_mark(), 1);
  expect_queue(1, "a mark");

  /* This program holds the last reference. */
  SSL_SESSION_free(session);
  CHECK_INT(freed, 1);

  SSL_SESSION_free(copy);
  SSL_SESSION_free(not_encodable);
  SSL_SESSION_free(larger);
  SSL_SESSION_free(certified);
  OPENSSL_free(der);
  SSL_CTX_free(ctx);
  return check_result();
}
