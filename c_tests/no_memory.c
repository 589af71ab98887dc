/** @file

  An allocation of OpenSSL fails once in the middle of a call: the result is as documented,
  the error queue is unchanged, and the next call works.

  SPDX-License-Identifier: Apache-2.0
 */

#include <openssl/err.h>

#include "api.h"
#include "check.h"
#include "tls.h"

/* So many allocations still succeed; all if negative. */
static int left = -1;

static int
has_failed(void)
{
  return left >= 0 && left-- == 0;
}

static void *
allocate(size_t size, const char *file, int line)
{
  (void)file, (void)line;
  return has_failed() ? NULL : malloc(size);
}

static void *
reallocate(void *memory, size_t size, const char *file, int line)
{
  (void)file, (void)line;
  return has_failed() ? NULL : realloc(memory, size);
}

static void
release(void *memory, const char *file, int line)
{
  (void)file, (void)line;
  free(memory);
}

/* Each allocation of a call fails in turn. */
static void
lookups(TSSslSessionID *id, int begin_with_error)
{
  for (int nth = 0;; nth++) {
    ERR_clear_error();
    if (begin_with_error) {
      ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
    }
    unsigned long before = ERR_peek_error();
    left                 = nth;
    SSL_SESSION *got     = (SSL_SESSION *)TSSslSessionGet(id);
    int failed           = left < 0;
    left                 = -1;
    CHECK_INT(ERR_peek_error(), before);
    CHECK(got != NULL || failed);
    SSL_SESSION_free(got);
    if (!failed) {
      CHECK(nth > 1);
      return;
    }
  }
}

int
main(void)
{
  REQUIRE(CRYPTO_set_mem_functions(allocate, reallocate, release) == 1);
  api_open();
  SSL_SESSION *session = tls_session(0);
  SSL_SESSION_set1_hostname(session, "localhost");
  TSSslSessionID id = api_numbered_id(1);
  int len;

  for (int nth = 0, failed = 1; failed; nth++) {
    ERR_clear_error();
    left                = nth;
    TSReturnCode result = TSSslSessionInsert(&id, (TSSslSession)session);
    failed              = left < 0;
    left                = -1;
    CHECK_INT(result, failed ? TS_ERROR : TS_SUCCESS);
    CHECK_INT(ERR_peek_error(), 0);
  }
  /* The first lookup decodes the session, later ones use a template. */
  lookups(&id, 0);
  lookups(&id, 0);
  lookups(&id, 1);
  unsigned char *der = tls_der(session, &len);
  for (int nth = 0, failed = 1; failed; nth++) {
    ERR_clear_error();
    left                = nth;
    TSReturnCode result = TSSslSessionInsertBuffer(&id, (const char *)der, len);
    failed              = left < 0;
    left                = -1;
    CHECK_INT(result, failed ? TS_ERROR : TS_SUCCESS);
    CHECK_INT(ERR_peek_error(), 0);
  }

  OPENSSL_free(der);
  SSL_SESSION_free(session);
  return check_result();
}
