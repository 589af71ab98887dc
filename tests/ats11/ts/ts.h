/** @file

  What examples/plugin_ats11.cc needs of the header of ATS 11, as far as names and types matter:
  everything has C++ linkage, but for what a plugin defines.

  SPDX-License-Identifier: Apache-2.0
 */

#pragma once

#include <cstddef>

enum TSReturnCode { TS_ERROR = -1, TS_SUCCESS = 0 };
enum TSEvent { TS_EVENT_NONE = 0, TS_EVENT_LIFECYCLE_MSG = 60105 };
enum TSLifecycleHookID { TS_LIFECYCLE_PORTS_INITIALIZED_HOOK, TS_LIFECYCLE_MSG_HOOK = 5 };

using TSCont          = struct tsapi_cont *;
using TSMutex         = struct tsapi_mutex *;
using TSSslContext    = struct tsapi_ssl_context *;
using TSSslConnection = struct tsapi_ssl_obj *;
using TSSslSession    = struct tsapi_ssl_session *;
using TSEventFunc     = int (*)(TSCont contp, TSEvent event, void *edata);

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
void TSLifecycleHookAdd(TSLifecycleHookID id, TSCont contp);
void TSNote(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void TSError(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

TSSslSession TSSslSessionGet(const TSSslSessionID *session_id);
int TSSslSessionGetBuffer(const TSSslSessionID *session_id, char *buffer, int *len_ptr);
TSReturnCode TSSslSessionInsert(const TSSslSessionID *session_id, TSSslSession add_session, TSSslConnection ssl_conn);
TSReturnCode TSSslSessionRemove(const TSSslSessionID *session_id);

extern "C" void TSPluginInit(int argc, const char *argv[]);
