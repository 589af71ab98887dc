/** @file

  A plugin for ATS 11, which declares four functions for TLS sessions but defines none, and never
  calls TS_SSL_SESSION_HOOK. Linked with -ltssession, the plugin has them all. It logs the ID of
  every new session, and takes orders from the operator:

    traffic_ctl plugin msg session_log 'remove ID'        remove a session; ID in hex
    traffic_ctl plugin msg session_log 'insert SESSION'   insert another machine's session; DER in hex

  The library, which serves the sessions, comes first in plugin.config:

    libtssession.so
    plugin_ats11.so

  Compile it with the headers of ATS before those of this library:

    c++ -std=c++20 -fPIC -shared -idirafter /usr/include/tssession -o plugin_ats11.so \
      plugin_ats11.cc -ltssession -lssl -lcrypto

  SPDX-License-Identifier: Apache-2.0
 */

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <ts/ts.h>

#include <ts/ssl_session_cache.h>

namespace
{
constexpr char PLUGIN[] = "session_log";

struct FreeSession {
  void operator()(SSL_SESSION *session) const
  {
    SSL_SESSION_free(session);
  }
};
using Session = std::unique_ptr<SSL_SESSION, FreeSession>;

/* The bytes of a session; the destructor wipes them. */
struct Der : std::vector<unsigned char> {
  using std::vector<unsigned char>::vector;
  Der(const Der &)            = delete;
  Der &operator=(const Der &) = delete;
  ~Der()
  {
    OPENSSL_cleanse(data(), size());
  }
};

std::string
hex(const TSSslSessionID &id)
{
  std::string text;
  for (size_t i = 0; i < id.len; i++) {
    char digits[3];
    std::snprintf(digits, sizeof(digits), "%02x", static_cast<unsigned char>(id.bytes[i]));
    text += digits;
  }
  return text;
}

/* Decodes exactly `len` bytes in hex from `text` into `bytes`. Returns whether `text` was valid. */
bool
from_hex(std::string_view text, unsigned char *bytes, size_t len)
{
  auto value = [](char digit) {
    constexpr std::string_view DIGITS = "0123456789abcdef";
    return DIGITS.find(digit);
  };
  if (text.size() != 2 * len) {
    return false;
  }
  for (size_t i = 0; i < len; i++) {
    size_t high = value(text[2 * i]), low = value(text[2 * i + 1]);
    if (high > 15 || low > 15) {
      return false;
    }
    bytes[i] = static_cast<unsigned char>(high << 4 | low);
  }
  return true;
}

/* Called when a handshake has stored a session. The handshake waits until it returns. */
int
on_session(TSCont, TSEvent event, void *data)
{
  if (event != TS_EVENT_SSL_SESSION_NEW) {
    return 0;
  }
  const auto &id = *static_cast<TSSslSessionID *>(data);
  /* Without a buffer it returns the size. */
  int space   = 0;
  int size    = TSSslSessionGetBuffer(&id, nullptr, &space);
  auto *found = reinterpret_cast<SSL_SESSION *>(TSSslSessionGet(&id));
  if (Session session{found}) {
    const SSL_CIPHER *cipher = SSL_SESSION_get0_cipher(session.get());
    TSNote("[%s] new session %s: %d bytes, %s", PLUGIN, hex(id).c_str(), size,
           cipher == nullptr ? "unknown cipher" : SSL_CIPHER_get_name(cipher));
  }
  return 0;
}

void
remove(std::string_view text)
{
  TSSslSessionID id;
  id.len = text.size() / 2;
  if (id.len > sizeof(id.bytes) || !from_hex(text, reinterpret_cast<unsigned char *>(id.bytes), id.len)) {
    TSError("[%s] not a session ID", PLUGIN);
  } else if (TSSslSessionRemove(&id) == TS_SUCCESS) {
    TSNote("[%s] session %s was removed", PLUGIN, hex(id).c_str());
  }
}

void
insert(std::string_view text)
{
  Der der(text.size() / 2);
  const unsigned char *end = der.data();
  if (!from_hex(text, der.data(), der.size())) {
    TSError("[%s] the session is not in hex", PLUGIN);
    return;
  }
  Session session{d2i_SSL_SESSION(nullptr, &end, static_cast<long>(der.size()))};
  if (session == nullptr || end != der.data() + der.size()) {
    ERR_clear_error();
    TSError("[%s] the bytes are not exactly one session", PLUGIN);
    return;
  }
  unsigned len               = 0;
  const unsigned char *bytes = SSL_SESSION_get_id(session.get(), &len);
  TSSslSessionID id;
  id.len = len;
  std::copy_n(bytes, len, id.bytes);
  /* The cache keeps a copy. The connection is never read. */
  if (TSSslSessionInsert(&id, reinterpret_cast<TSSslSession>(session.get()), nullptr) == TS_SUCCESS) {
    TSNote("[%s] session %s was inserted", PLUGIN, hex(id).c_str());
  }
}

/* Called for each message of the operator, also for those to other plugins. */
int
on_message(TSCont, TSEvent, void *data)
{
  const auto &message = *static_cast<TSPluginMsg *>(data);
  if (std::string_view(message.tag) != PLUGIN) {
    return 0;
  }
  std::string_view text(static_cast<const char *>(message.data), message.data_size);
  /* The text may end with a zero byte. */
  text = text.substr(0, text.find('\0'));
  if (text.substr(0, 7) == "remove ") {
    remove(text.substr(7));
  } else if (text.substr(0, 7) == "insert ") {
    insert(text.substr(7));
  } else {
    TSError("[%s] unknown command", PLUGIN);
  }
  return 0;
}
} // namespace

void
TSPluginInit(int, const char *[])
{
  TSPluginRegistrationInfo info{PLUGIN, "tssession", "-"};
  if (TSPluginRegister(&info) != TS_SUCCESS) {
    TSError("[%s] TSPluginRegister failed", PLUGIN);
    return;
  }
  TSSslSessionHookAdd(on_session, nullptr);
  TSLifecycleHookAdd(TS_LIFECYCLE_MSG_HOOK, TSContCreate(on_message, nullptr));
}
