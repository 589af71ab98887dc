/** @file

  A plugin of ATS 9 that is a host of libtssession: it loads the library into the server, which has
  functions of the same names, and uses both side by side.

    ats_dlopen.so LIBRARY OUT        in plugin.config

  Writes a line for each step to OUT, and "passed" as the last line if all steps are ok. It then
  ends the server with the status that tools/ats.sh expects.

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

/* In a plugin, these names mean the server's functions. */
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
  fprintf(out, "%s: %s\n", is_so ? "ok" : "FAILED", what);
}

/* Sets the pointer at `function`. Returns whether the library has that function. */
static int
find(void *library, const char *name, void *function)
{
  void *found = dlsym(library, name);
  memcpy(function, &found, sizeof(found));
  return found != NULL;
}

/* RTLD_LOCAL: only this plugin finds the library's names. */
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

/* Makes a session like one from a handshake, with its master key made of `secret`. Returns NULL on
   failure. */
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

/* Returns whether Get and GetBuffer of a cache both give this session, or, for NULL, none. */
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
  step(one != NULL && other != NULL, "make two sessions");

  step(tssession->get != ats.get && tssession->get_buffer != ats.get_buffer && tssession->insert != ats.insert &&
         tssession->remove != ats.remove,
       "ATS and tssession have different functions");
  step(find(RTLD_DEFAULT, "TSSslSessionGet", &get) && get == ats.get, "the names still mean the functions of ATS");
  step(holds(&ats, NULL) && holds(tssession, NULL), "both caches are empty");
  step(insert(&ats, one), "ATS: Insert");
  step(holds(&ats, one) && holds(tssession, NULL), "the session is in ATS only");
  step(insert(tssession, other), "tssession: Insert another session with the same ID");
  step(holds(&ats, one) && holds(tssession, other), "each cache has its own session");
  step(tssession->remove(&id) == TS_SUCCESS, "tssession: Remove");
  step(holds(&ats, one) && holds(tssession, NULL), "the session is in ATS only");
  step(insert(tssession, other), "tssession: Insert");
  step(ats.remove(&id) == TS_SUCCESS, "ATS: Remove");
  step(holds(&ats, NULL) && holds(tssession, other), "the session is in tssession only");

  /* tssession logs this with the server's TSError. */
  step(tssession->get(NULL) == NULL, "tssession: Get without an ID");

  SSL_SESSION_free(one);
  SSL_SESSION_free(other);
}

/* The session functions of ATS work only on its own threads. */
static void *
run(void *unused)
{
  struct cache tssession = {0};
  (void)unused;
  int loaded = load(&tssession);
  step(loaded, "load the library, and find its functions");
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
