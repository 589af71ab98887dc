/** @file

  A plugin for ATS 9, 10 and 11 that shows in the access log whether a request came through a resumed
  TLS connection. The server's own log field, cqssr, misses what this library resumed. The plugin
  adds to each request the header @TLS-Resumed, which never leaves the server: 1 resumed, 0 full
  handshake, - without TLS. In plugin.config:

    log_resumed.so

  and in a format of logging.yaml:

    %<{@TLS-Resumed}cqh>

  Compile it with the headers of ATS: for ATS 9 as C, for 10 and 11 as C++ (c++ -std=c++20 -x c++):

    cc -fPIC -shared -o log_resumed.so log_resumed.c -lssl

  SPDX-License-Identifier: Apache-2.0
 */

#include <stddef.h>

#include <openssl/ssl.h>
#include <ts/ts.h>

static const char FIELD[] = "@TLS-Resumed";
enum { FIELD_LEN = sizeof(FIELD) - 1 };

static const char *
resumed(TSHttpTxn txn)
{
  TSHttpSsn session   = TSHttpTxnSsnGet(txn);
  TSVConn connection  = session == NULL ? NULL : TSHttpSsnClientVConnGet(session);
  TSSslConnection ssl = connection == NULL ? NULL : TSVConnSslConnectionGet(connection);
  if (ssl == NULL) {
    return "-";
  }
  return SSL_session_reused((SSL *)(void *)ssl) ? "1" : "0";
}

static int
on_request(TSCont contp, TSEvent event, void *edata)
{
  TSHttpTxn txn = (TSHttpTxn)edata;
  TSMBuffer buffer;
  TSMLoc header, field;
  (void)contp;
  (void)event;
  if (TSHttpTxnClientReqGet(txn, &buffer, &header) == TS_SUCCESS) {
    /* Remove what the client sent under this name. */
    while ((field = TSMimeHdrFieldFind(buffer, header, FIELD, FIELD_LEN)) != TS_NULL_MLOC) {
      TSMimeHdrFieldDestroy(buffer, header, field);
      TSHandleMLocRelease(buffer, header, field);
    }
    if (TSMimeHdrFieldCreateNamed(buffer, header, FIELD, FIELD_LEN, &field) == TS_SUCCESS) {
      TSMimeHdrFieldValueStringSet(buffer, header, field, -1, resumed(txn), 1);
      TSMimeHdrFieldAppend(buffer, header, field);
      TSHandleMLocRelease(buffer, header, field);
    }
    TSHandleMLocRelease(buffer, TS_NULL_MLOC, header);
  }
  TSHttpTxnReenable(txn, TS_EVENT_HTTP_CONTINUE);
  return 0;
}

void
TSPluginInit(int argc, const char *argv[])
{
  TSPluginRegistrationInfo info;
  (void)argc;
  (void)argv;
  info.plugin_name   = "log_resumed";
  info.vendor_name   = "tssession";
  info.support_email = "-";
  if (TSPluginRegister(&info) != TS_SUCCESS) {
    TSError("log_resumed: TSPluginRegister failed");
    return;
  }
  TSHttpHookAdd(TS_HTTP_READ_REQUEST_HDR_HOOK, TSContCreate(on_request, NULL));
}
