/** @file

  The functions of ATS 10 and 11 that the crate finds, as their <ts/ts.h> and <ts/DbgCtl.h>
  declare them as far as names and types matter: the compiler makes the C++ names of them.

  SPDX-License-Identifier: Apache-2.0
 */

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

enum TSEvent {};
enum TSHttpHookID {};
enum TSLifecycleHookID {};
enum TSRecordDataType {};
enum TSReturnCode {};
enum TSStatPersistence {};
enum TSStatSync {};
enum TSThreadPool {};
struct TSPluginRegistrationInfo;
struct TSSslSessionID;

using TSAction        = struct tsapi_action *;
using TSCont          = struct tsapi_cont *;
using TSHRTime        = int64_t;
using TSMgmtInt       = int64_t;
using TSMutex         = struct tsapi_mutex *;
using TSSslConnection = struct tsapi_ssl_obj *;
using TSSslSession    = struct tsapi_ssl_session *;
using TSThread        = struct tsapi_thread *;
using TSVConn         = struct tsapi_cont *;
using TSEventFunc     = int (*)(TSCont contp, TSEvent event, void *edata);
using TSThreadFunc    = void *(*)(void *data);

TSReturnCode
TSPluginRegister(const TSPluginRegistrationInfo *)
{
  return {};
}
TSCont
TSContCreate(TSEventFunc, TSMutex)
{
  return {};
}
TSMutex
TSMutexCreate()
{
  return {};
}
TSAction
TSContScheduleEveryOnPool(TSCont, TSHRTime, TSThreadPool)
{
  return {};
}
void
TSHttpHookAdd(TSHttpHookID, TSCont)
{
}
const char *
TSHttpHookNameLookup(TSHttpHookID)
{
  return {};
}
void
TSLifecycleHookAdd(TSLifecycleHookID, TSCont)
{
}
void
TSMgmtUpdateRegister(TSCont, const char *, const char *)
{
}
TSReturnCode
TSMgmtIntGet(const char *, TSMgmtInt *)
{
  return {};
}
TSSslConnection
TSVConnSslConnectionGet(TSVConn)
{
  return {};
}
void
TSVConnReenable(TSVConn)
{
}
int
TSSslSessionGetBuffer(const TSSslSessionID *, char *, int *)
{
  return {};
}
TSReturnCode
TSSslSessionInsert(const TSSslSessionID *, TSSslSession, TSSslConnection)
{
  return {};
}
TSReturnCode
TSSslSessionRemove(const TSSslSessionID *)
{
  return {};
}
TSReturnCode
TSSslTicketKeyUpdate(char *, int)
{
  return {};
}
TSThread
TSThreadCreate(TSThreadFunc, void *)
{
  return {};
}
int
TSTrafficServerVersionGetMajor()
{
  return {};
}
const char *
TSConfigDirGet()
{
  return {};
}
const char *
TSInstallDirGet()
{
  return {};
}
int
TSStatCreate(const char *, TSRecordDataType, TSStatPersistence, TSStatSync)
{
  return {};
}
void
TSStatIntSet(int, TSMgmtInt)
{
}
void
TSNote(const char *, ...)
{
}
void
TSWarning(const char *, ...)
{
}
void
TSError(const char *, ...)
{
}

class DbgCtl
{
public:
  static void print(char const *tag, char const *file, char const *function, int line, char const *format, ...);

private:
  using TagData = std::pair<char const *const, bool>;
  static const TagData *_new_reference(char const *tag);
  static std::atomic<int> _config_mode;
};

void
DbgCtl::print(char const *, char const *, char const *, int, char const *, ...)
{
}
const DbgCtl::TagData *
DbgCtl::_new_reference(char const *)
{
  return {};
}
std::atomic<int> DbgCtl::_config_mode;

/* What the crate takes it for: a pointer, and a byte behind it. */
using Pair = std::pair<char const *const, bool>;
static_assert(sizeof(Pair) == 2 * sizeof(void *) && offsetof(Pair, second) == sizeof(void *) && sizeof(bool) == 1);
static_assert(sizeof(std::atomic<int>) == sizeof(int) && sizeof(TSEvent) == sizeof(int));
