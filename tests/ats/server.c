/** @file

  A stand-in for Traffic Server, with the functions that the two plugins use, in a preloaded library. It
  records the calls of plugins, and acts like the real server. Built

    as C with the header of ATS 9;
    as C++ with cxx/ts/ts.h, which names its versions, and -DATS=10 or -DATS=11.
    Version 11 has no functions for sessions and no cache of its own, but still the name of the hook.

  In the environment:

    OWN_CACHE   the value of the record for the server's own session cache (default 0)

  With -DMAIN it is a program that loads plugins, goes through the life of a server, and prints the calls:

    server PLUGIN [ARGUMENT]... [+ PLUGIN [ARGUMENT]...]...

  SPDX-License-Identifier: Apache-2.0
 */

#include "server.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ts/ts.h>

#ifndef ATS
#define ATS 9
#endif

#define REQUIRE(condition)                                                                                             \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                  \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)

struct tsapi_cont {
  TSEventFunc func;
  pthread_mutex_t *mutex;
};

/* For plugins, TSVConn is a continuation. */
struct connection {
  struct tsapi_cont cont;
  void *ssl;
  int reenabled;
};

struct hook {
  int number;
  TSCont cont;
};

char ats_log[1 << 16];
char ats_error[2048], ats_warning[2048], ats_note[8192];
const char *ats_own_cache_record = ATS == 9 ? "proxy.config.ssl.session_cache" : "proxy.config.ssl.session_cache.mode";
int64_t ats_own_cache            = ATS == 11 ? -1 : 0;
const char *ats_directory        = "/ats/config";
int ats_registered;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct hook lifecycle_hooks[16], http_hooks[16];
static TSCont to_update[4], scheduled[4];

static struct {
  char name[128];
  int64_t value;
} statistics[160];
static int statistics_count;

/* ---- The functions for tests. ---- */

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
add_hook(struct hook *hooks, int number, TSCont cont)
{
  int at = 0;
  while (hooks[at].cont != NULL) {
    at++;
  }
  REQUIRE(at < 15);
  hooks[at].number = number;
  hooks[at].cont   = cont;
}

static int
count(const struct hook *hooks)
{
  int at = 0;
  while (hooks[at].cont != NULL) {
    at++;
  }
  return at;
}

int
ats_lifecycle_hooks(void)
{
  return count(lifecycle_hooks);
}

int
ats_http_hooks(void)
{
  return count(http_hooks);
}

static void
call(TSCont cont, int event, void *data)
{
  if (cont->mutex != NULL) {
    pthread_mutex_lock(cont->mutex);
  }
  REQUIRE(cont->func(cont, (TSEvent)event, data) == 0);
  if (cont->mutex != NULL) {
    pthread_mutex_unlock(cont->mutex);
  }
}

static void
call_hooks(const struct hook *hooks, int number, int event, void *data)
{
  for (; hooks->cont != NULL; hooks++) {
    if (hooks->number == number) {
      call(hooks->cont, event, data);
    }
  }
}

static void
tell(TSLifecycleHookID hook, void *data)
{
  call_hooks(lifecycle_hooks, (int)hook, TS_EVENT_LIFECYCLE_PORTS_INITIALIZED + (int)hook, data);
}

void
ats_tell_of_context(void *ctx)
{
  tell(TS_LIFECYCLE_SERVER_SSL_CTX_INITIALIZED_HOOK, ctx);
}

void
ats_open_ports(void)
{
  tell(TS_LIFECYCLE_PORTS_INITIALIZED_HOOK, NULL);
}

/* The work of a thread of the server. */
typedef void *(*Work)(void *data);

static void
by_threads(Work work, void *const *data, int threads)
{
  pthread_t started[16];
  REQUIRE(threads <= 16);
  for (int i = 0; i < threads; i++) {
    REQUIRE(pthread_create(&started[i], NULL, work, data[i]) == 0);
  }
  for (int i = 0; i < threads; i++) {
    pthread_join(started[i], NULL);
  }
}

static void *
context_is_made(void *ctx)
{
  ats_tell_of_context(ctx);
  return NULL;
}

void
ats_tell_of_contexts(void *const *contexts, int threads)
{
  by_threads(context_is_made, contexts, threads);
}

static void *
task_threads_are_ready(void *data)
{
  tell(TS_LIFECYCLE_TASK_THREADS_READY_HOOK, NULL);
  return data;
}

void
ats_start_task_threads(void)
{
  void *nothing = NULL;
  by_threads(task_threads_are_ready, &nothing, 1);
}

int
ats_connect(void *ssl)
{
  struct connection connection;
  memset(&connection, 0, sizeof(connection));
  connection.ssl = ssl;
  call_hooks(http_hooks, TS_VCONN_START_HOOK, TS_EVENT_VCONN_START, &connection);
  return connection.reenabled;
}

void
ats_report_session(int event, const char *id, size_t len)
{
  TSSslSessionID session_id;
  session_id.len = len;
  memcpy(session_id.bytes, id, len < 32 ? len : 32);
  call_hooks(http_hooks, TS_SSL_SESSION_HOOK, event, &session_id);
}

static void *
update(void *cont)
{
  call((TSCont)cont, TS_EVENT_MGMT_UPDATE, NULL);
  return NULL;
}

static void *
run_scheduled(void *cont)
{
  call((TSCont)cont, 0, NULL);
  return NULL;
}

/* Each in a separate thread. */
static int
call_all(Work work, TSCont *conts)
{
  int called = 0;
  for (; called < 4 && conts[called] != NULL; called++) {
    void *cont = conts[called];
    by_threads(work, &cont, 1);
  }
  return called > 0;
}

int
ats_reload(void)
{
  return call_all(update, to_update);
}

int
ats_tick(void)
{
  return call_all(run_scheduled, scheduled);
}

static void *
receive(void *message)
{
  tell(TS_LIFECYCLE_MSG_HOOK, message);
  return NULL;
}

void
ats_send_message(const char *tag, const char *text)
{
  /* No NUL follows the text. */
  size_t size = strlen(text);
  char *data  = (char *)malloc(size + 1);
  REQUIRE(data != NULL);
  memcpy(data, text, size);
  data[size] = '!';
  TSPluginMsg message;
  message.tag       = tag;
  message.data      = data;
  message.data_size = size;
  void *to_thread   = &message;
  by_threads(receive, &to_thread, 1);
  free(data);
}

int64_t
ats_statistic(const char *name)
{
  for (int i = 0; i < statistics_count; i++) {
    if (strcmp(statistics[i].name, name) == 0) {
      return statistics[i].value;
    }
  }
  return -1;
}

static void
fatal(const char *what, const char *path, const char *why)
{
  fprintf(stderr, "Fatal: %s '%s'%s\n", what, path, why);
  exit(70);
}

static int is_registered;

void
ats_load(const char *path, int argc, const char *const *argv)
{
  void *library = dlopen(path, RTLD_NOW);
  if (library == NULL) {
    fatal("unable to load", path, dlerror());
  }
  void *found = dlsym(library, "TSPluginInit");
  if (found == NULL) {
    fatal("unable to find TSPluginInit function in", path, "");
  }
  void (*init)(int, const char *const *);
  memcpy(&init, &found, sizeof(found));
  is_registered = 0;
  init(argc, argv);
  if (!is_registered) {
    fatal("plugin", path, " not registered by calling TSPluginRegister");
  }
}

/* ---- The functions for plugins. ---- */

#define LINE(name, space)                                                                                              \
  void name(const char *format, ...)                                                                                   \
  {                                                                                                                    \
    va_list args;                                                                                                      \
    va_start(args, format);                                                                                            \
    pthread_mutex_lock(&lock);                                                                                         \
    vsnprintf(space, sizeof(space), format, args);                                                                     \
    pthread_mutex_unlock(&lock);                                                                                       \
    va_end(args);                                                                                                      \
    note(#name "(%s)\n", space);                                                                                       \
  }

LINE(TSError, ats_error)
LINE(TSWarning, ats_warning)
LINE(TSNote, ats_note)

TSReturnCode
TSPluginRegister(const TSPluginRegistrationInfo *info)
{
  REQUIRE(info->plugin_name != NULL && info->vendor_name != NULL && info->support_email != NULL);
  note("TSPluginRegister(%s, %s, %s)\n", info->plugin_name, info->vendor_name, info->support_email);
  is_registered = 1;
  ats_registered++;
  return TS_SUCCESS;
}

TSCont
TSContCreate(TSEventFunc func, TSMutex mutex)
{
  static struct tsapi_cont conts[64];
  static int used;
  REQUIRE(used < 64);
  note("TSContCreate(%s)\n", mutex == NULL ? "no mutex" : "a mutex");
  conts[used].func  = func;
  conts[used].mutex = (pthread_mutex_t *)(void *)mutex;
  return &conts[used++];
}

TSMutex
TSMutexCreate(void)
{
  static pthread_mutex_t mutexes[64];
  static int used;
  REQUIRE(used < 64);
  pthread_mutex_init(&mutexes[used], NULL);
  return (TSMutex)(void *)&mutexes[used++];
}

TSAction
TSContScheduleEveryOnPool(TSCont cont, TSHRTime every, TSThreadPool pool)
{
  static int used;
  REQUIRE(cont->mutex != NULL && used < 4);
  note("TSContScheduleEveryOnPool(%lld, %d)\n", (long long)every, (int)pool);
  scheduled[used++] = cont;
  return NULL;
}

void
TSHttpHookAdd(TSHttpHookID id, TSCont cont)
{
  note("TSHttpHookAdd(%d)\n", (int)id);
  add_hook(http_hooks, (int)id, cont);
}

const char *
TSHttpHookNameLookup(TSHttpHookID id)
{
  switch ((int)id) {
  case TS_VCONN_START_HOOK:
    return "TS_VCONN_START_HOOK";
  case TS_SSL_SESSION_HOOK:
    return "TS_SSL_SESSION_HOOK";
  default:
    return "unknown hook";
  }
}

void
TSLifecycleHookAdd(TSLifecycleHookID id, TSCont cont)
{
  note("TSLifecycleHookAdd(%d)\n", (int)id);
  add_hook(lifecycle_hooks, (int)id, cont);
}

#if ATS == 9
void
TSMgmtUpdateRegister(TSCont cont, const char *plugin)
#else
void
TSMgmtUpdateRegister(TSCont cont, const char *plugin, const char *file)
#endif
{
  static int used;
  REQUIRE(cont->mutex != NULL && used < 4);
#if ATS != 9
  REQUIRE(file == NULL);
#endif
  note("TSMgmtUpdateRegister(%s)\n", plugin);
  to_update[used++] = cont;
}

/* The record that the operator has set. ATS 10 has three for the same thing; the others keep the value 2. */
static int
is_own_cache(const char *name)
{
  const char *other = getenv("OWN_CACHE_RECORD");
  const char *value = getenv("OWN_CACHE");
  if (other != NULL) {
    ats_own_cache_record = other;
  }
  if (value != NULL) {
    ats_own_cache = atoi(value);
  }
  return ats_own_cache >= 0 && strcmp(name, ats_own_cache_record) == 0;
}

static int
is_alias(const char *name)
{
  static const char *const aliases[] = {"mode", "value", "enabled"};
  for (int i = 0; i < 3; i++) {
    static const char prefix[] = "proxy.config.ssl.session_cache.";
    if (ATS == 10 && strncmp(name, prefix, sizeof(prefix) - 1) == 0 &&
        strcmp(name + sizeof(prefix) - 1, aliases[i]) == 0) {
      return 1;
    }
  }
  return 0;
}

TSReturnCode
TSMgmtIntGet(const char *name, TSMgmtInt *value)
{
  int is_own = is_own_cache(name);
  *value     = is_own ? ats_own_cache : 2;
  return is_own || is_alias(name) ? TS_SUCCESS : TS_ERROR;
}

TSReturnCode
TSMgmtSourceGet(const char *name, TSMgmtSource *source)
{
  int is_own = is_own_cache(name);
  *source    = is_own ? TS_MGMT_SOURCE_EXPLICIT : TS_MGMT_SOURCE_DEFAULT;
  return is_own || is_alias(name) ? TS_SUCCESS : TS_ERROR;
}

TSSslConnection
TSVConnSslConnectionGet(TSVConn connection)
{
  return (TSSslConnection)((struct connection *)(void *)connection)->ssl;
}

void
TSVConnReenable(TSVConn connection)
{
  ((struct connection *)(void *)connection)->reenabled++;
}

TSThread
TSThreadCreate(TSThreadFunc func, void *data)
{
  pthread_t thread;
  note("TSThreadCreate\n");
  if (pthread_create(&thread, NULL, func, data) != 0) {
    return NULL;
  }
  pthread_detach(thread);
  return (TSThread)data;
}

int
TSTrafficServerVersionGetMajor(void)
{
  const char *version = getenv("ATS_VERSION");
  return version == NULL ? ATS : atoi(version);
}

const char *
TSConfigDirGet(void)
{
  return ats_directory;
}

const char *
TSInstallDirGet(void)
{
  return ats_directory;
}

int
TSStatCreate(const char *name, TSRecordDataType type, TSStatPersistence persistence, TSStatSync sync)
{
  REQUIRE(statistics_count < 160 && ats_statistic(name) == -1);
  note("TSStatCreate(%s, %d, %d, %d)\n", name, (int)type, (int)persistence, (int)sync);
  snprintf(statistics[statistics_count].name, sizeof(statistics[0].name), "%s", name);
  return statistics_count++;
}

void
TSStatIntSet(int number, TSMgmtInt value)
{
  REQUIRE(number >= 0 && number < statistics_count);
  note("TSStatIntSet(%d, %lld)\n", number, (long long)value);
  statistics[number].value = value;
}

#if ATS != 11

static void
note_id(const char *function, const TSSslSessionID *id)
{
  note("%s(%.*s", function, (int)id->len, id->bytes);
}

TSSslSession
TSSslSessionGet(const TSSslSessionID *id)
{
  note_id("TSSslSessionGet", id);
  note(")\n");
  return NULL;
}

/* There are sessions whose IDs begin with l (large) and s (small). If there is none, *len_ptr is unchanged. */
int
TSSslSessionGetBuffer(const TSSslSessionID *id, char *buffer, int *len_ptr)
{
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

/* IDs that begin with r are refused. */
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

#endif

TSReturnCode
TSSslTicketKeyUpdate(char *data, int len)
{
  note("TSSslTicketKeyUpdate(%.*s)\n", len, data);
  return len < 48 ? TS_ERROR : TS_SUCCESS;
}

/* Debug lines are off. */
#if ATS == 9

void
TSDebug(const char *tag, const char *format, ...)
{
  (void)tag;
  (void)format;
}

int
TSIsDebugTagSet(const char *tag)
{
  (void)tag;
  return 0;
}

#else

void
DbgCtl::print(char const *, char const *, char const *, int, char const *, ...)
{
}

const DbgCtl::_TagData *
DbgCtl::_new_reference(char const *tag)
{
  return new _TagData{tag, false};
}

std::atomic<int> DbgCtl::_config_mode;

/* The crate ats relies on this layout: a pointer, followed by a byte. */
using Pair = std::pair<char const *const, bool>;
static_assert(sizeof(Pair) == 2 * sizeof(void *) && offsetof(Pair, second) == sizeof(void *) && sizeof(bool) == 1);
static_assert(sizeof(std::atomic<int>) == sizeof(int) && sizeof(TSEvent) == sizeof(int));

#endif

#ifdef MAIN
int
main(int argc, char **argv)
{
  for (int at = 1; at < argc; at++) {
    int end = at;
    while (end < argc && strcmp(argv[end], "+") != 0) {
      end++;
    }
    ats_load(argv[at], end - at, (const char *const *)&argv[at]);
    at = end;
  }
  ats_open_ports();
  ats_start_task_threads();
  fputs(ats_log, stdout);
  return 0;
}
#endif
