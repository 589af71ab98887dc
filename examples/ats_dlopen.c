/** @file

  A plugin of ATS 9 that is a host of libtssession: it loads the library into the server,
  where ATS has functions of the same names, and works with both side by side.

    ats_dlopen.so LIBRARY OUT        in plugin.config

  Writes what it did to OUT, a line for each step, and "passed" at the end if everything
  was as it should be. It then ends the server with the status that tools/ats.sh waits for.

  SPDX-License-Identifier: Apache-2.0
 */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/ssl.h>
#include <ts/ts.h>

/* The functions of one cache. */
struct cache {
  TSSslSession (*get)(const TSSslSessionID *);
  int (*get_buffer)(const TSSslSessionID *, char *, int *);
  TSReturnCode (*insert)(const TSSslSessionID *, TSSslSession, TSSslConnection);
  TSReturnCode (*remove)(const TSSslSessionID *);
};

/* Named in a plugin, the functions are those of the server. */
static const struct cache ats = {TSSslSessionGet, TSSslSessionGetBuffer, TSSslSessionInsert, TSSslSessionRemove};

static const TSSslSessionID id = {.len = 32, .bytes = "an ID that both caches are told"};

static char library_path[4096];
static char out_path[4096];
static FILE *out;
static int failures;

static void
step(int is_so, const char *what)
{
  failures += !is_so;
  fprintf(out, "%s: %s\n", is_so ? "ok" : "NOT SO", what);
}

/* Sets a pointer to a function; whether there is one. */
static int
find(void *library, const char *name, void *function)
{
  void *found = dlsym(library, name);
  memcpy(function, &found, sizeof(found));
  return found != NULL;
}

/* RTLD_LOCAL: nobody but us finds the library's names. */
static int
load(struct cache *cache)
{
  void *library = dlopen(library_path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    TSError("[ats_dlopen] %s", dlerror());
    return 0;
  }
  return find(library, "TSSslSessionGet", &cache->get) && find(library, "TSSslSessionGetBuffer", &cache->get_buffer) &&
         find(library, "TSSslSessionInsert", &cache->insert) && find(library, "TSSslSessionRemove", &cache->remove);
}

/* A session as a handshake would have made it, with a secret of its own; NULL if it cannot
   be made. */
static SSL_SESSION *
new_session(unsigned char secret)
{
  unsigned char master_key[48];
  SSL_CTX *ctx         = SSL_CTX_new(TLS_method());
  SSL *ssl             = SSL_new(ctx);
  SSL_SESSION *session = SSL_SESSION_new();
  memset(master_key, secret, sizeof(master_key));
  if (!SSL_SESSION_set_protocol_version(session, TLS1_2_VERSION) ||
      !SSL_SESSION_set_cipher(session, sk_SSL_CIPHER_value(SSL_get_ciphers(ssl), 0)) ||
      !SSL_SESSION_set1_id(session, (const unsigned char *)id.bytes, (unsigned)id.len) ||
      !SSL_SESSION_set1_master_key(session, master_key, sizeof(master_key))) {
    SSL_SESSION_free(session);
    session = NULL;
  }
  SSL_free(ssl);
  SSL_CTX_free(ctx);
  return session;
}

/* Whether Get and GetBuffer of a cache both give this session; NULL: whether both give none. */
static int
holds(const struct cache *cache, SSL_SESSION *session)
{
  char buffer[4096];
  int len            = sizeof(buffer);
  int needed         = cache->get_buffer(&id, buffer, &len);
  SSL_SESSION *got   = (SSL_SESSION *)cache->get(&id);
  unsigned char *der = NULL;
  unsigned char *own = NULL;
  int holds_it       = got == NULL && needed == 0;
  if (session != NULL) {
    int der_len = i2d_SSL_SESSION(session, &der);
    holds_it    = got != NULL && i2d_SSL_SESSION(got, &own) == der_len && memcmp(own, der, (size_t)der_len) == 0 &&
               needed == der_len && len == der_len && memcmp(buffer, der, (size_t)der_len) == 0;
  }
  SSL_SESSION_free(got);
  OPENSSL_free(der);
  OPENSSL_free(own);
  return holds_it;
}

static int
insert(const struct cache *cache, SSL_SESSION *session)
{
  return cache->insert(&id, (TSSslSession)session, NULL) == TS_SUCCESS;
}

static void
work_with(const struct cache *tssession)
{
  SSL_SESSION *one   = new_session(1);
  SSL_SESSION *other = new_session(2);
  TSSslSession (*get)(const TSSslSessionID *);
  step(one != NULL && other != NULL, "two sessions are made");

  step(tssession->get != ats.get && tssession->get_buffer != ats.get_buffer && tssession->insert != ats.insert &&
         tssession->remove != ats.remove,
       "each has functions of its own");
  step(find(RTLD_DEFAULT, "TSSslSessionGet", &get) && get == ats.get, "the names still mean those of ATS");
  step(holds(&ats, NULL) && holds(tssession, NULL), "both are empty");
  step(insert(&ats, one), "ATS: Insert");
  step(holds(&ats, one) && holds(tssession, NULL), "it is in ATS, and in ATS only");
  step(insert(tssession, other), "tssession: Insert of another session under the same ID");
  step(holds(&ats, one) && holds(tssession, other), "each has its own");
  step(tssession->remove(&id) == TS_SUCCESS, "tssession: Remove");
  step(holds(&ats, one) && holds(tssession, NULL), "it is in ATS, and in ATS only");
  step(insert(tssession, other), "tssession: Insert");
  step(ats.remove(&id) == TS_SUCCESS, "ATS: Remove");
  step(holds(&ats, NULL) && holds(tssession, other), "it is in tssession, and in tssession only");

  /* The line that this is worth comes by way of the server's TSError. */
  step(tssession->get(NULL) == NULL, "tssession: Get without an ID, which is logged");

  SSL_SESSION_free(one);
  SSL_SESSION_free(other);
}

/* The session functions of ATS need a thread that belongs to it. */
static void *
run(void *unused)
{
  struct cache tssession = {0};
  (void)unused;
  int loaded = load(&tssession);
  step(loaded, "the library is loaded, and has the functions");
  if (loaded) {
    work_with(&tssession);
  }
  fputs(failures == 0 ? "passed\n" : "failed\n", out);
  if (fclose(out) != 0) {
    TSError("[ats_dlopen] cannot write to %s", out_path);
    _exit(1);
  }
  _exit(42);
}

static int
ports_are_ready(TSCont contp, TSEvent event, void *edata)
{
  (void)contp, (void)event, (void)edata;
  TSThreadCreate(run, NULL);
  return 0;
}

void
TSPluginInit(int argc, const char *argv[])
{
  TSPluginRegistrationInfo info = {.plugin_name = "ats_dlopen", .vendor_name = "tssession", .support_email = "-"};
  if (TSPluginRegister(&info) != TS_SUCCESS || argc != 3) {
    TSFatal("[ats_dlopen] usage: ats_dlopen.so LIBRARY OUT");
  }
  snprintf(library_path, sizeof(library_path), "%s", argv[1]);
  snprintf(out_path, sizeof(out_path), "%s", argv[2]);
  out = fopen(out_path, "w");
  if (out == NULL) {
    TSFatal("[ats_dlopen] cannot write to %s", out_path);
  }
  TSLifecycleHookAdd(TS_LIFECYCLE_PORTS_READY_HOOK, TSContCreate(ports_are_ready, NULL));
}
