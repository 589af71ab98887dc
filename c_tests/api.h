/** @file

  The library under test. Each test is built twice: linked with -ltssession, and
  (API_DLOPEN) as a host that opens the library and looks up each function.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef API_H
#define API_H

#include <string.h>

#include <ts/ssl_session_cache.h>

#ifdef API_DLOPEN

#include <dlfcn.h>

#include "check.h"

#define API_FUNCTIONS(F)                                                                                               \
  F(TSSslSessionGet)                                                                                                   \
  F(TSSslSessionGetBuffer)                                                                                             \
  F(TSSslSessionInsert)                                                                                                \
  F(TSSslSessionRemove)                                                                                                \
  F(TSSslTicketKeyUpdate)                                                                                              \
  F(TSSslSessionCacheAttach)                                                                                           \
  F(TSSslSessionCacheDetach)                                                                                           \
  F(TSSslSessionCacheConfigSet)                                                                                        \
  F(TSSslSessionCacheConfigLoad)                                                                                       \
  F(TSSslSessionCacheLogSet)                                                                                           \
  F(TSSslSessionCacheStatGet)                                                                                          \
  F(TSSslSessionCacheStatsText)                                                                                        \
  F(TSSslSessionHookAdd)                                                                                               \
  F(TSSslSessionHookRemove)                                                                                            \
  F(TSSslSessionInsertBuffer)                                                                                          \
  F(TSSslTicketKeyFileLoad)                                                                                            \
  F(TSSslTicketKeyRotate)                                                                                              \
  F(TSSslSessionCacheConfigText)                                                                                       \
  F(TSSslSessionCacheClear)                                                                                            \
  F(TSSslSessionCacheVersion)

#define API_POINTER(name) __typeof__(&name) name;
#define API_LOOK_UP(name)                                                                                              \
  REQUIRE((found = dlsym(library, #name)) != NULL);                                                                    \
  memcpy(&api.name, &found, sizeof(found));

static struct {
  API_FUNCTIONS(API_POINTER)
} api;

static inline void
api_open(void)
{
  void *found;
  void *library = dlopen("libtssession.so", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
  }
  REQUIRE(library != NULL);
  API_FUNCTIONS(API_LOOK_UP)
}

#define TSSslSessionGet api.TSSslSessionGet
#define TSSslSessionGetBuffer api.TSSslSessionGetBuffer
#define TSSslSessionInsert api.TSSslSessionInsert
#define TSSslSessionRemove api.TSSslSessionRemove
#define TSSslTicketKeyUpdate api.TSSslTicketKeyUpdate
#define TSSslSessionCacheAttach api.TSSslSessionCacheAttach
#define TSSslSessionCacheDetach api.TSSslSessionCacheDetach
#define TSSslSessionCacheConfigSet api.TSSslSessionCacheConfigSet
#define TSSslSessionCacheConfigLoad api.TSSslSessionCacheConfigLoad
#define TSSslSessionCacheLogSet api.TSSslSessionCacheLogSet
#define TSSslSessionCacheStatsText api.TSSslSessionCacheStatsText
#define TSSslSessionCacheStatGet api.TSSslSessionCacheStatGet
#define TSSslSessionHookAdd api.TSSslSessionHookAdd
#define TSSslSessionHookRemove api.TSSslSessionHookRemove
#define TSSslSessionInsertBuffer api.TSSslSessionInsertBuffer
#define TSSslTicketKeyFileLoad api.TSSslTicketKeyFileLoad
#define TSSslTicketKeyRotate api.TSSslTicketKeyRotate
#define TSSslSessionCacheConfigText api.TSSslSessionCacheConfigText
#define TSSslSessionCacheClear api.TSSslSessionCacheClear
#define TSSslSessionCacheVersion api.TSSslSessionCacheVersion

#else

static inline void
api_open(void)
{
}

#endif

/* Returns an ID of any length, valid or not. */
static inline TSSslSessionID
api_id(size_t len, int fill)
{
  TSSslSessionID id;
  memset(&id, fill, sizeof(id));
  id.len = len;
  return id;
}

/* Returns a different ID for each number. */
static inline TSSslSessionID
api_numbered_id(unsigned long number)
{
  TSSslSessionID id = api_id(32, 0x5a);
  memcpy(id.bytes, &number, sizeof(number));
  return id;
}

static inline long long
api_stat(const char *name)
{
  int64_t value = -1;
  if (TSSslSessionCacheStatGet(name, &value) != TS_SUCCESS) {
    return -1;
  }
  return value;
}

#define STAT_HIT "proxy.process.ssl.ssl_session_cache_hit"
#define STAT_MISS "proxy.process.ssl.ssl_session_cache_miss"
#define STAT_GET "tssession.session_cache.get"
#define STAT_NEW "proxy.process.ssl.ssl_session_cache_new_session"
#define STAT_EVICTION "proxy.process.ssl.ssl_session_cache_eviction"
#define STAT_CONTENTION "proxy.process.ssl.ssl_session_cache_lock_contention"
#define STAT_CREATED "proxy.process.ssl.total_tickets_created"
#define STAT_VERIFIED "proxy.process.ssl.total_tickets_verified"
#define STAT_OLD_KEY "proxy.process.ssl.total_tickets_verified_old_key"
#define STAT_NOT_FOUND "proxy.process.ssl.total_tickets_not_found"
#define STAT_RENEWED "proxy.process.ssl.total_tickets_renewed"
#define STAT_KEYS_RENEWED "proxy.process.ssl.total_ticket_keys_renewed"
#define STAT_ENTRIES "tssession.session_cache.entries"
#define STAT_BYTES "tssession.session_cache.bytes"
#define STAT_EXPIRED "tssession.session_cache.expired"
#define STAT_REMOVED "tssession.session_cache.removed"
#define STAT_REPLACED "tssession.session_cache.replaced"
#define STAT_REFUSED "tssession.session_cache.refused"
#define STAT_CLEARED "tssession.session_cache.cleared"

#define STAT_GENERATION "tssession.ticket_keys.generation"
#define STAT_KEYS "tssession.ticket_keys.count"

#endif /* API_H */
