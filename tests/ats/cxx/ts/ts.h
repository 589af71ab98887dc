/** @file

  What the plugins here use of the headers of ATS 10.2.1 and 11.0.0 (master of 2026-08-19): names, types
  and numbers, which are the same in both. Everything has C++ linkage, except what a plugin defines.

  SPDX-License-Identifier: Apache-2.0
 */

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

enum TSReturnCode { TS_ERROR = -1, TS_SUCCESS = 0 };

enum TSEvent {
  TS_EVENT_NONE                         = 0,
  TS_EVENT_VCONN_START                  = 107,
  TS_EVENT_SSL_SESSION_GET              = 2000,
  TS_EVENT_SSL_SESSION_NEW              = 2001,
  TS_EVENT_SSL_SESSION_REMOVE           = 2002,
  TS_EVENT_LIFECYCLE_PORTS_INITIALIZED  = 60100,
  TS_EVENT_LIFECYCLE_MSG                = 60105,
  TS_EVENT_LIFECYCLE_TASK_THREADS_READY = 60106,
  TS_EVENT_MGMT_UPDATE                  = 60300,
};

/* Version 11 still has TS_SSL_SESSION_HOOK, but never calls it. */
enum TSHttpHookID {
  TS_HTTP_READ_REQUEST_HDR_HOOK,
  TS_HTTP_OS_DNS_HOOK,
  TS_HTTP_SEND_REQUEST_HDR_HOOK,
  TS_HTTP_READ_CACHE_HDR_HOOK,
  TS_HTTP_READ_RESPONSE_HDR_HOOK,
  TS_HTTP_SEND_RESPONSE_HDR_HOOK,
  TS_HTTP_REQUEST_TRANSFORM_HOOK,
  TS_HTTP_RESPONSE_TRANSFORM_HOOK,
  TS_HTTP_SELECT_ALT_HOOK,
  TS_HTTP_TXN_START_HOOK,
  TS_HTTP_TXN_CLOSE_HOOK,
  TS_HTTP_SSN_START_HOOK,
  TS_HTTP_SSN_CLOSE_HOOK,
  TS_HTTP_CACHE_LOOKUP_COMPLETE_HOOK,
  TS_HTTP_PRE_REMAP_HOOK,
  TS_HTTP_POST_REMAP_HOOK,
  TS_HTTP_REQUEST_BUFFER_READ_COMPLETE_HOOK,
  TS_HTTP_RESPONSE_CLIENT_HOOK,
  TS_HTTP_REQUEST_CLIENT_HOOK,
  TS_HTTP_TUNNEL_START_HOOK,
  TS_VCONN_START_HOOK,
  TS_VCONN_CLOSE_HOOK,
  TS_SSL_CLIENT_HELLO_HOOK,
  TS_SSL_CERT_HOOK,
  TS_SSL_SERVERNAME_HOOK,
  TS_SSL_VERIFY_SERVER_HOOK,
  TS_SSL_VERIFY_CLIENT_HOOK,
  TS_SSL_SESSION_HOOK,
  TS_VCONN_OUTBOUND_START_HOOK,
  TS_VCONN_OUTBOUND_CLOSE_HOOK,
  TS_HTTP_LAST_HOOK,
};

enum TSLifecycleHookID {
  TS_LIFECYCLE_PORTS_INITIALIZED_HOOK,
  TS_LIFECYCLE_PORTS_READY_HOOK,
  TS_LIFECYCLE_CACHE_READY_HOOK,
  TS_LIFECYCLE_SERVER_SSL_CTX_INITIALIZED_HOOK,
  TS_LIFECYCLE_CLIENT_SSL_CTX_INITIALIZED_HOOK,
  TS_LIFECYCLE_MSG_HOOK,
  TS_LIFECYCLE_TASK_THREADS_READY_HOOK,
};

enum TSMgmtSource {
  TS_MGMT_SOURCE_NULL,
  TS_MGMT_SOURCE_DEFAULT,
  TS_MGMT_SOURCE_PLUGIN,
  TS_MGMT_SOURCE_EXPLICIT,
  TS_MGMT_SOURCE_ENV,
};

enum TSRecordDataType { TS_RECORDDATATYPE_NULL, TS_RECORDDATATYPE_INT };
enum TSStatPersistence { TS_STAT_PERSISTENT = 1, TS_STAT_NON_PERSISTENT };
enum TSStatSync { TS_STAT_SYNC_SUM };
enum TSThreadPool { TS_THREAD_POOL_NET, TS_THREAD_POOL_TASK };

using TSAction        = struct tsapi_action *;
using TSCont          = struct tsapi_cont *;
using TSHRTime        = int64_t;
using TSMgmtInt       = int64_t;
using TSMutex         = struct tsapi_mutex *;
using TSSslConnection = struct tsapi_ssl_obj *;
using TSSslContext    = struct tsapi_ssl_context *;
using TSSslSession    = struct tsapi_ssl_session *;
using TSThread        = struct tsapi_thread *;
using TSVConn         = struct tsapi_cont *;
using TSEventFunc     = int (*)(TSCont contp, TSEvent event, void *edata);
using TSThreadFunc    = void *(*)(void *data);

struct TSSslSessionID {
  size_t len;
  char bytes[32];
};

struct TSPluginMsg {
  const char *tag;
  const void *data;
  size_t data_size;
};

struct TSPluginRegistrationInfo {
  const char *plugin_name;
  const char *vendor_name;
  const char *support_email;
};

TSReturnCode TSPluginRegister(const TSPluginRegistrationInfo *plugin_info);
TSCont TSContCreate(TSEventFunc funcp, TSMutex mutexp);
TSMutex TSMutexCreate();
TSAction TSContScheduleEveryOnPool(TSCont contp, TSHRTime every, TSThreadPool tp);
void TSHttpHookAdd(TSHttpHookID id, TSCont contp);
const char *TSHttpHookNameLookup(TSHttpHookID hook);
void TSLifecycleHookAdd(TSLifecycleHookID id, TSCont contp);
void TSMgmtUpdateRegister(TSCont contp, const char *plugin_name, const char *plugin_file_name = nullptr);
TSReturnCode TSMgmtIntGet(const char *var_name, TSMgmtInt *result);
TSReturnCode TSMgmtSourceGet(const char *var_name, TSMgmtSource *source);
TSSslConnection TSVConnSslConnectionGet(TSVConn sslp);
void TSVConnReenable(TSVConn sslvcp);
TSThread TSThreadCreate(TSThreadFunc func, void *data);
int TSTrafficServerVersionGetMajor();
const char *TSConfigDirGet();
const char *TSInstallDirGet();
int TSStatCreate(const char *the_name, TSRecordDataType the_type, TSStatPersistence persist, TSStatSync sync);
void TSStatIntSet(int the_stat, TSMgmtInt value);
void TSNote(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void TSWarning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void TSError(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Version 11 declares these four, but defines none. */
TSSslSession TSSslSessionGet(const TSSslSessionID *session_id);
int TSSslSessionGetBuffer(const TSSslSessionID *session_id, char *buffer, int *len_ptr);
TSReturnCode TSSslSessionInsert(const TSSslSessionID *session_id, TSSslSession add_session, TSSslConnection ssl_conn);
TSReturnCode TSSslSessionRemove(const TSSslSessionID *session_id);
TSReturnCode TSSslTicketKeyUpdate(char *ticketData, int ticketDataLen);

extern "C" void TSPluginInit(int argc, const char *argv[]);

/* The part of <ts/DbgCtl.h> that its inline functions use. */
class DbgCtl
{
public:
  static void print(char const *tag, char const *file, char const *function, int line, char const *fmt_str, ...)
    __attribute__((format(printf, 5, 6)));

private:
  using _TagData = std::pair<char const *const, bool>;
  static const _TagData *_new_reference(char const *tag);
  static std::atomic<int> _config_mode;
};
