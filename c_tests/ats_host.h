/** @file

  The functions of Traffic Server that the library calls as a plugin, for a program that is
  linked with -rdynamic and loads the library with dlopen. They do what the server would as
  far as contexts, connections and numbers go; what else they are told is written down.

    -DATS_9    C names, and functions named as the library's
    -DATS_10   C++ names

  Without one that the library needs: -DNO_LIFECYCLE_HOOKS, -DNO_REENABLE.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef ATS_HOST_H
#define ATS_HOST_H

#include <stdarg.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include <ts/ts.h>

#include "check.h"

#ifdef ATS_10
#define SYMBOL(name, cxx_name) __asm__(cxx_name)
#define VCONN_START 20
#else
#define SYMBOL(name, cxx_name) __asm__(name)
#define VCONN_START 17
#endif

#define LIFECYCLE_PORTS_INITIALIZED 0
#define LIFECYCLE_SERVER_CONTEXT 3
#define LIFECYCLE_MESSAGE 5
#define LIFECYCLE_TASK_THREADS_READY 6

#define EVENT_VCONN_START 107
#define EVENT_LIFECYCLE_PORTS_INITIALIZED 60100
#define EVENT_MGMT_UPDATE 60300

struct tsapi_cont {
  TSEventFunc func;
  void *mutex;
};

/* A connection, in the place of TSVConn. */
struct connection {
  SSL *ssl;
  int reenabled;
};

struct hook {
  int number;
  TSCont cont;
};

static struct hook lifecycle_hooks[8];
static struct hook http_hooks[8];
static TSCont update_cont;
static TSCont scheduled_cont;
static int registered;

/* The server's record for its own cache: its name in this version, and a value. */
#ifdef ATS_10
static const char *own_cache_name = "proxy.config.ssl.session_cache.mode";
#else
static const char *own_cache_name = "proxy.config.ssl.session_cache";
#endif
static int64_t own_cache;

/* The folder of the server's configuration, and of its installation. */
static const char *host_folder = "/nonexistent";

static char error_line[1024];
static char warning_line[1024];
static char note_text[1024];
static int errors;

static struct {
  char name[128];
  int64_t value;
} statistics[128];
static int statistics_count;

static inline void
add_hook(struct hook *hooks, int number, TSCont cont)
{
  while (hooks->cont != NULL) {
    hooks++;
  }
  *hooks = (struct hook){number, cont};
}

static inline int
count_hooks(const struct hook *hooks)
{
  int count = 0;
  while (hooks[count].cont != NULL) {
    count++;
  }
  return count;
}

/* Does what the server does at a hook. */
static inline int
call_hooks(const struct hook *hooks, int number, int event, void *data)
{
  int called = 0;
  for (; hooks->cont != NULL; hooks++) {
    if (hooks->number == number) {
      CHECK_INT(hooks->cont->func(hooks->cont, (TSEvent)event, data), 0);
      called++;
    }
  }
  return called;
}

static inline void
tell_of_lifecycle(int number, void *data)
{
  call_hooks(lifecycle_hooks, number, EVENT_LIFECYCLE_PORTS_INITIALIZED + number, data);
}

static inline int64_t
statistic(const char *name)
{
  for (int i = 0; i < statistics_count; i++) {
    if (strcmp(statistics[i].name, name) == 0) {
      return statistics[i].value;
    }
  }
  return -1;
}

#define HOST_LINE(space, format)                                                                                       \
  do {                                                                                                                 \
    va_list args;                                                                                                      \
    va_start(args, format);                                                                                            \
    vsnprintf(space, sizeof(space), format, args);                                                                     \
    va_end(args);                                                                                                      \
  } while (0)

void host_error(const char *format, ...) SYMBOL("TSError", "_Z7TSErrorPKcz");

void
host_error(const char *format, ...)
{
  HOST_LINE(error_line, format);
  errors++;
}

void host_warning(const char *format, ...) SYMBOL("TSWarning", "_Z9TSWarningPKcz");

void
host_warning(const char *format, ...)
{
  HOST_LINE(warning_line, format);
}

void host_note(const char *format, ...) SYMBOL("TSNote", "_Z6TSNotePKcz");

void
host_note(const char *format, ...)
{
  HOST_LINE(note_text, format);
}

struct registration {
  const char *plugin_name, *vendor_name, *support_email;
};

int host_register(const struct registration *info)
  SYMBOL("TSPluginRegister", "_Z16TSPluginRegisterPK24TSPluginRegistrationInfo");

int
host_register(const struct registration *info)
{
  CHECK(info->plugin_name != NULL && info->vendor_name != NULL && info->support_email != NULL);
  registered++;
  return 0;
}

TSCont host_cont_create(TSEventFunc func, void *mutex)
  SYMBOL("TSContCreate", "_Z12TSContCreatePFiP10tsapi_cont7TSEventPvEP11tsapi_"
                         "mutex");

TSCont
host_cont_create(TSEventFunc func, void *mutex)
{
  static struct tsapi_cont conts[64];
  static int used;
  REQUIRE(used < 64);
  conts[used] = (struct tsapi_cont){func, mutex};
  return &conts[used++];
}

void *host_mutex_create(void) SYMBOL("TSMutexCreate", "_Z13TSMutexCreatev");

void *
host_mutex_create(void)
{
  static int mutex;
  return &mutex;
}

void host_hook_add(int number, TSCont cont) SYMBOL("TSHttpHookAdd", "_Z13TSHttpHookAdd12TSHttpHookIDP10tsapi_cont");

void
host_hook_add(int number, TSCont cont)
{
  add_hook(http_hooks, number, cont);
}

const char *host_hook_name(int number) SYMBOL("TSHttpHookNameLookup", "_Z20TSHttpHookNameLookup12TSHttpHookID");

const char *
host_hook_name(int number)
{
  return number == VCONN_START ? "TS_VCONN_START_HOOK" : number < VCONN_START ? "TS_ANOTHER_HOOK" : NULL;
}

#ifndef NO_LIFECYCLE_HOOKS
void host_lifecycle_hook_add(int number, TSCont cont)
  SYMBOL("TSLifecycleHookAdd", "_Z18TSLifecycleHookAdd17TSLifecycleHookIDP10tsapi_cont");

void
host_lifecycle_hook_add(int number, TSCont cont)
{
  add_hook(lifecycle_hooks, number, cont);
}
#endif

void host_update_register(TSCont cont, const char *plugin, const char *file)
  SYMBOL("TSMgmtUpdateRegister", "_Z20TSMgmtUpdateRegisterP10tsapi_"
                                 "contPKcS2_");

void
host_update_register(TSCont cont, const char *plugin, const char *file)
{
  CHECK(strcmp(plugin, "tssession") == 0 && file == NULL && cont->mutex != NULL);
  update_cont = cont;
}

int host_record(const char *name, int64_t *value) SYMBOL("TSMgmtIntGet", "_Z12TSMgmtIntGetPKcPl");

int
host_record(const char *name, int64_t *value)
{
  if (strcmp(name, own_cache_name) != 0) {
    return -1;
  }
  *value = own_cache;
  return 0;
}

SSL *host_ssl(struct connection *connection)
  SYMBOL("TSVConnSslConnectionGet", "_Z23TSVConnSslConnectionGetP10tsapi_cont");

SSL *
host_ssl(struct connection *connection)
{
  return connection->ssl;
}

#ifndef NO_REENABLE
void host_reenable(struct connection *connection) SYMBOL("TSVConnReenable", "_Z15TSVConnReenableP10tsapi_cont");

void
host_reenable(struct connection *connection)
{
  connection->reenabled++;
}
#endif

const char *host_config_dir(void) SYMBOL("TSConfigDirGet", "_Z14TSConfigDirGetv");

const char *
host_config_dir(void)
{
  return host_folder;
}

const char *host_install_dir(void) SYMBOL("TSInstallDirGet", "_Z15TSInstallDirGetv");

const char *
host_install_dir(void)
{
  return host_folder;
}

int host_stat_create(const char *name, int type, int persistence, int sync)
  SYMBOL("TSStatCreate", "_Z12TSStatCreatePKc16TSRecordDataType17TSStatPersistence10TSStatSync");

int
host_stat_create(const char *name, int type, int persistence, int sync)
{
  REQUIRE(statistics_count < 128);
  CHECK(type == 1 && persistence == 2 && sync == 0 && statistic(name) == -1);
  snprintf(statistics[statistics_count].name, sizeof(statistics[0].name), "%s", name);
  return statistics_count++;
}

void host_stat_set(int number, int64_t value) SYMBOL("TSStatIntSet", "_Z12TSStatIntSetil");

void
host_stat_set(int number, int64_t value)
{
  CHECK(number >= 0 && number < statistics_count);
  statistics[number].value = value;
}

void *host_every(TSCont cont, int64_t ms, int pool)
  SYMBOL("TSContScheduleEveryOnPool", "_Z25TSContScheduleEveryOnPoolP10tsapi_contl12TSThreadPool");

void *
host_every(TSCont cont, int64_t ms, int pool)
{
  CHECK(ms == 1000 && pool == 1 && cont->mutex != NULL);
  scheduled_cont = cont;
  return cont;
}

#ifdef ATS_9
/* The server's functions for its own cache, which is off. The library must not call them. */
static int own_calls;

#define OWN_FUNCTION(name)                                                                                             \
  int own_##name(void) __asm__(#name);                                                                                 \
  int own_##name(void)                                                                                                 \
  {                                                                                                                    \
    own_calls++;                                                                                                       \
    return 0;                                                                                                          \
  }

OWN_FUNCTION(TSSslSessionGet)
OWN_FUNCTION(TSSslSessionGetBuffer)
OWN_FUNCTION(TSSslSessionInsert)
OWN_FUNCTION(TSSslSessionRemove)
OWN_FUNCTION(TSSslTicketKeyUpdate)
#endif

#endif /* ATS_HOST_H */
