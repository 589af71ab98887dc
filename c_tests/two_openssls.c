/** @file

  A second copy of OpenSSL in the process: the library refuses its objects, logs that, and leaves
  them alone. The argument is the shared object made of other_copy.c.

  SPDX-License-Identifier: Apache-2.0
 */

#include <dlfcn.h>

#include "api.h"
#include "check.h"
#include "tls.h"

static char line[300];

static void
note_line(TSCont contp, int level, const char *tag, const char *text)
{
  (void)contp, (void)level, (void)tag;
  snprintf(line, sizeof(line), "%s", text);
}

static SSL_CTX *(*other_context)(void);
static long (*other_mode)(SSL_CTX *);
static SSL_SESSION *(*other_session)(const unsigned char *, long);
static void (*other_free)(SSL_CTX *, SSL_SESSION *);

/* ISO C does not allow a cast from a data pointer to a function pointer. */
static void
load(void *library, const char *name, void *function)
{
  void *found = dlsym(library, name);
  REQUIRE(found != NULL);
  memcpy(function, &found, sizeof(found));
}

int
main(int argc, char **argv)
{
  REQUIRE(argc == 2);
  api_open();
  CHECK_INT(TSSslSessionCacheLogSet(note_line, NULL, TS_SSL_SESSION_CACHE_LOG_WARNING), TS_SUCCESS);
  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  REQUIRE(library != NULL);
  load(library, "other_context", &other_context);
  load(library, "other_mode", &other_mode);
  load(library, "other_session", &other_session);
  load(library, "other_free", &other_free);

  SSL_CTX *theirs = other_context();
  REQUIRE(theirs != NULL);
  long mode = other_mode(theirs);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)theirs), TS_ERROR);
  CHECK(strstr(line, "TSSslSessionCacheAttach: the SSL_CTX belongs to another OpenSSL") != NULL);
  CHECK_INT(TSSslSessionCacheDetach((TSSslContext)theirs), TS_ERROR);
  CHECK(strstr(line, "TSSslSessionCacheDetach: the SSL_CTX belongs to another OpenSSL") != NULL);
  CHECK_INT(other_mode(theirs), mode);
  CHECK_INT(api_stat("tssession.contexts"), 0);

  SSL_SESSION *ours = tls_session(0);
  int len;
  unsigned char *der = tls_der(ours, &len);
  SSL_SESSION *copy  = other_session(der, len);
  REQUIRE(copy != NULL);
  TSSslSessionID id = api_numbered_id(1);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)copy), TS_ERROR);
  CHECK(strstr(line, "the session belongs to another OpenSSL") != NULL);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)ours), TS_SUCCESS);
  other_free(theirs, copy);
  SSL_SESSION_free(ours);
  OPENSSL_free(der);
  return check_result();
}
