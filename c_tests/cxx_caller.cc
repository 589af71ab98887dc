/** @file

  A C++ caller, built for each API level: 8 and 9 use the C names, 10 the names
  that a C++ compiler makes.

  SPDX-License-Identifier: Apache-2.0
 */

#include <ts/ts.h>
#include <ts/ssl_session_cache.h>

#include <cstring>
#include <vector>

extern "C" {
#include "tls.h"
}

#include "check.h"

int
main()
{
  SSL_SESSION *session = tls_session(0);
  TSSslSessionID id{};
  id.len = 3;
  std::memcpy(id.bytes, "c++", 3);

  auto opaque = reinterpret_cast<TSSslSession>(session);
#if TS_SSL_SESSION_API == 8
  CHECK_INT(TSSslSessionInsert(&id, opaque), TS_SUCCESS);
#else
  /* The third argument is never read: it does not even have to be a valid pointer. */
  CHECK_INT(TSSslSessionInsert(&id, opaque, reinterpret_cast<TSSslConnection>(1)), TS_SUCCESS);
#endif
  int len    = 0;
  int needed = TSSslSessionGetBuffer(&id, nullptr, &len);
  CHECK(needed > 0);
  std::vector<char> buffer(static_cast<size_t>(needed));
  len = needed;
  CHECK_INT(TSSslSessionGetBuffer(&id, buffer.data(), &len), needed);
  CHECK_INT(len, needed);
  auto *copy = reinterpret_cast<SSL_SESSION *>(TSSslSessionGet(&id));
  CHECK(copy != nullptr);
  SSL_SESSION_free(copy);
  CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
  CHECK(TSSslSessionGet(&id) == nullptr);

  char keys[48];
  std::memset(keys, 1, sizeof(keys));
#if TS_SSL_SESSION_API == 8
  TSSslTicketKeyUpdate(keys, 48);
#else
  CHECK_INT(TSSslTicketKeyUpdate(keys, 48), TS_SUCCESS);
  CHECK_INT(TSSslTicketKeyUpdate(keys, 47), TS_ERROR);
#endif
  int64_t renewed = 0;
  CHECK_INT(TSSslSessionCacheStatGet("proxy.process.ssl.total_ticket_keys_renewed", &renewed), TS_SUCCESS);
  CHECK_INT(renewed, 1);

  SSL_SESSION_free(session);
  return check_result();
}
