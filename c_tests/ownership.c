/** @file

  What the caller owns stays as it was: the session with its references, and
  OpenSSL's error queue.

  OpenSSL does not tell a reference count. A free function for application data
  that hangs on the session tells when the last reference went.

  SPDX-License-Identifier: Apache-2.0
 */

#include <openssl/err.h>

#include "api.h"
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

static const unsigned long queue[] = {ERR_PACK(ERR_LIB_USER, 0, 11), ERR_PACK(ERR_LIB_USER, 0, 12),
                                      ERR_PACK(ERR_LIB_USER, 0, 13)};

static void
fill_queue(int count)
{
  ERR_clear_error();
  for (int i = 0; i < count; i++) {
    ERR_raise(ERR_LIB_USER, 11 + i);
  }
}

static void
expect_queue(int count, const char *after)
{
  for (int i = 0; i < count; i++) {
    unsigned long error = ERR_get_error();
    if (ERR_GET_REASON(error) != ERR_GET_REASON(queue[i])) {
      fprintf(stderr, "after %s with %d errors queued:\n", after, count);
    }
    CHECK_INT(ERR_GET_REASON(error), ERR_GET_REASON(queue[i]));
  }
  unsigned long more = ERR_get_error();
  if (more != 0) {
    fprintf(stderr, "after %s with %d errors queued: %s\n", after, count, ERR_error_string(more, NULL));
  }
  CHECK(more == 0);
}

/* Runs a statement with 0, 1 and 3 errors in the queue. */
#define KEEPS_QUEUE(statement)                                                                                         \
  for (int count = 0; count <= 3; count += 1 + (count == 1)) {                                                         \
    fill_queue(count);                                                                                                 \
    statement;                                                                                                         \
    expect_queue(count, #statement);                                                                                   \
  }

int
main(void)
{
  api_open();

  int index = SSL_SESSION_get_ex_new_index(0, NULL, NULL, NULL, count_free);
  REQUIRE(index >= 0);
  SSL_SESSION *session = tls_session(0);
  SSL_SESSION *larger  = tls_session(16500);
  TSSslSession opaque  = (TSSslSession)session;
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
  KEEPS_QUEUE(TSSslSessionInsertBuffer(&id, garbage, sizeof(garbage)))
  KEEPS_QUEUE(TSSslTicketKeyFileLoad("/no/such/file"))
  KEEPS_QUEUE(TSSslSessionRemove(&id))
  KEEPS_QUEUE(TSSslSessionRemove(NULL))
  KEEPS_QUEUE(TSSslTicketKeyUpdate(keys, 48))
  KEEPS_QUEUE(TSSslTicketKeyUpdate(keys, 47))
  KEEPS_QUEUE(TSSslSessionCacheAttach((TSSslContext)ctx))
  KEEPS_QUEUE(TSSslSessionCacheAttach(NULL))
  KEEPS_QUEUE(TSSslSessionCacheDetach((TSSslContext)ctx))
  KEEPS_QUEUE(TSSslSessionCacheConfigSet("no.such.record", "1"))
  KEEPS_QUEUE(TSSslSessionCacheClear())

  /* A mark that the caller has set is the one that he comes back to. */
  fill_queue(1);
  ERR_set_mark();
  ERR_raise(ERR_LIB_USER, 12);
  SSL_SESSION_free((SSL_SESSION *)TSSslSessionGet(&id));
  CHECK_INT(TSSslSessionInsert(&id, opaque), TS_SUCCESS);
  CHECK_INT(ERR_pop_to_mark(), 1);
  expect_queue(1, "a mark");

  /* The last reference is the one that we hold. */
  SSL_SESSION_free(session);
  CHECK_INT(freed, 1);

  SSL_SESSION_free(copy);
  SSL_SESSION_free(not_encodable);
  SSL_SESSION_free(larger);
  SSL_CTX_free(ctx);
  return check_result();
}
