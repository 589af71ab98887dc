/** @file

  The functions of a Traffic Server that the farm uses, in a library that a test loads with
  RTLD_GLOBAL: as C with ATS 9's own header, and as C++ with the declarations of ATS 10. They
  do nothing but write down how they were called, in ats_log; ats_ready and ats_event
  do what the server would. In the environment:

    OWN_CACHE   the value of the record for the server's own session cache; without it there is none
    NO_HOOK     there is no hook for sessions

  SPDX-License-Identifier: Apache-2.0
 */

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef ATS_10

/* In the words of ATS 10's <ts/ts.h> and <ts/apidefs.h>, as far as names and types matter. */
enum TSEvent { TS_EVENT_NONE };
enum TSHttpHookID { TS_HTTP_FIRST };
enum TSLifecycleHookID { TS_LIFECYCLE_FIRST };
enum TSReturnCode { TS_ERROR = -1, TS_SUCCESS = 0 };
enum TSRecordDataType { TS_RECORDDATATYPE_NULL };
enum TSStatPersistence { TS_STAT_PERSISTENT = 1, TS_STAT_NON_PERSISTENT };
enum TSStatSync { TS_STAT_SYNC_SUM = 0 };
struct TSPluginRegistrationInfo {
  const char *plugin_name;
  const char *vendor_name;
  const char *support_email;
};
struct TSSslSessionID {
  size_t len;
  char bytes[32];
};
using TSCont          = struct tsapi_cont *;
using TSMutex         = struct tsapi_mutex *;
using TSThread        = struct tsapi_thread *;
using TSSslSession    = struct tsapi_ssl_session *;
using TSSslConnection = struct tsapi_ssl_obj *;
using TSMgmtInt       = int64_t;
using TSEventFunc     = int (*)(TSCont contp, TSEvent event, void *edata);
using TSThreadFunc    = void *(*)(void *data);

#define MAJOR 10
#define SESSION_HOOK 27
#define OWN_CACHE_RECORD "proxy.config.ssl.session_cache.mode"
#define EXTERN_C extern "C"

#else

#include <ts/ts.h>

#define MAJOR TS_VERSION_MAJOR
#define SESSION_HOOK TS_SSL_SESSION_HOOK
#define OWN_CACHE_RECORD "proxy.config.ssl.session_cache"
#define EXTERN_C extern

#endif

EXTERN_C char ats_log[65536];
EXTERN_C void ats_ready(void);
EXTERN_C void ats_event(int event, const char *id, size_t len);

char ats_log[65536];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static TSEventFunc hook, lifecycle;

static void
note(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  pthread_mutex_lock(&lock);
  size_t used = strlen(ats_log);
  vsnprintf(ats_log + used, sizeof(ats_log) - used, format, args);
  pthread_mutex_unlock(&lock);
  va_end(args);
}

static void
note_line(const char *function, const char *format, va_list args)
{
  char line[1024];
  vsnprintf(line, sizeof(line), format, args);
  note("%s(%s)\n", function, line);
}

void
TSError(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  note_line("TSError", format, args);
  va_end(args);
}

void
TSWarning(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  note_line("TSWarning", format, args);
  va_end(args);
}

const char *
TSHttpHookNameLookup(TSHttpHookID id)
{
  return (int)id == SESSION_HOOK && getenv("NO_HOOK") == NULL ? "TS_SSL_SESSION_HOOK" : "unknown hook";
}

TSReturnCode
TSMgmtIntGet(const char *name, TSMgmtInt *value)
{
  const char *own_cache = getenv("OWN_CACHE");
  if (own_cache == NULL || strcmp(name, OWN_CACHE_RECORD) != 0) {
    return TS_ERROR;
  }
  *value = atoi(own_cache);
  return TS_SUCCESS;
}

int
TSTrafficServerVersionGetMajor(void)
{
  return MAJOR;
}

const char *
TSConfigDirGet(void)
{
  return "/ats/config";
}

TSReturnCode
TSPluginRegister(const TSPluginRegistrationInfo *info)
{
  note("TSPluginRegister(%s, %s, %s)\n", info->plugin_name, info->vendor_name, info->support_email);
  return TS_SUCCESS;
}

TSCont
TSContCreate(TSEventFunc func, TSMutex mutex)
{
  note("TSContCreate(%s)\n", mutex == NULL ? "no mutex" : "a mutex");
  return (TSCont)func;
}

void
TSHttpHookAdd(TSHttpHookID id, TSCont cont)
{
  note("TSHttpHookAdd(%d)\n", (int)id);
  hook = (TSEventFunc)cont;
}

#ifndef NO_LIFECYCLE
void
TSLifecycleHookAdd(TSLifecycleHookID id, TSCont cont)
{
  note("TSLifecycleHookAdd(%d)\n", (int)id);
  lifecycle = (TSEventFunc)cont;
}
#endif

TSThread
TSThreadCreate(TSThreadFunc func, void *data)
{
  pthread_t thread;
  note("TSThreadCreate\n");
  if (pthread_create(&thread, NULL, func, data) != 0) {
    return NULL;
  }
  pthread_join(thread, NULL);
  return (TSThread)data;
}

int
TSStatCreate(const char *name, TSRecordDataType type, TSStatPersistence persist, TSStatSync sync)
{
  static int stats;
  note("TSStatCreate(%s, %d, %d, %d)\n", name, (int)type, (int)persist, (int)sync);
  return stats++;
}

void
TSStatIntSet(int stat, TSMgmtInt value)
{
  note("TSStatIntSet(%d, %lld)\n", stat, (long long)value);
}

/* ATS 11 declares these and has the hook in its enum, but defines none of them. */
#ifndef ATS_11

static void
note_id(const char *function, const TSSslSessionID *id)
{
  note("%s(%.*s", function, (int)id->len, id->bytes);
}

int
TSSslSessionGetBuffer(const TSSslSessionID *id, char *buffer, int *len_ptr)
{
  /* As ATS 9 does it: *len_ptr stays as it is when there is none. */
  int needed = id->bytes[0] == 'l' ? 5000 : id->bytes[0] == 's' ? 100 : 0;
  int stored = needed < *len_ptr ? needed : *len_ptr;
  note_id("TSSslSessionGetBuffer", id);
  note(", %d)\n", *len_ptr);
  if (needed > 0) {
    memset(buffer, 'd', (size_t)stored);
    *len_ptr = stored;
  }
  return needed;
}

TSReturnCode
TSSslSessionInsert(const TSSslSessionID *id, TSSslSession session, TSSslConnection connection)
{
  note_id("TSSslSessionInsert", id);
  note(", %s, %s)\n", session == NULL ? "NULL" : "a session", connection == NULL ? "NULL" : "a connection");
  return id->bytes[0] == 'r' ? TS_ERROR : TS_SUCCESS;
}

TSReturnCode
TSSslSessionRemove(const TSSslSessionID *id)
{
  note_id("TSSslSessionRemove", id);
  note(")\n");
  return id->bytes[0] == 'r' ? TS_ERROR : TS_SUCCESS;
}

#endif /* ATS_11 */

TSReturnCode
TSSslTicketKeyUpdate(char *data, int len)
{
  note("TSSslTicketKeyUpdate(%.*s)\n", len, data);
  return len < 48 ? TS_ERROR : TS_SUCCESS;
}

void
ats_ready(void)
{
  lifecycle(NULL, (TSEvent)60100, NULL);
}

void
ats_event(int event, const char *id, size_t len)
{
  TSSslSessionID session_id;
  session_id.len = len;
  memcpy(session_id.bytes, id, len < 32 ? len : 32);
  hook(NULL, (TSEvent)event, id == NULL ? NULL : &session_id);
}
