/** @file

  The simplest session functions: one table of DER bytes behind one lock, without eviction or expiry.
  The baseline for the measurements.

  SPDX-License-Identifier: Apache-2.0
 */

#include <algorithm>
#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>

#include <openssl/ssl.h>

struct Id {
  size_t len;
  char bytes[32];
};

static std::unordered_map<std::string, std::string> sessions;
static std::shared_mutex mutex;

static std::string
key(const Id *id)
{
  return std::string(id->bytes, id->len);
}

extern "C" {

SSL_SESSION *
TSSslSessionGet(const Id *id)
{
  std::string der;
  {
    std::shared_lock<std::shared_mutex> lock(mutex);
    auto found = sessions.find(key(id));
    if (found == sessions.end()) {
      return nullptr;
    }
    der = found->second;
  }
  auto start = reinterpret_cast<const unsigned char *>(der.data());
  return d2i_SSL_SESSION(nullptr, &start, static_cast<long>(der.size()));
}

int
TSSslSessionGetBuffer(const Id *id, char *buffer, int *len)
{
  std::shared_lock<std::shared_mutex> lock(mutex);
  auto found = sessions.find(key(id));
  if (found == sessions.end()) {
    *len = 0;
    return 0;
  }
  int needed = static_cast<int>(found->second.size());
  *len       = std::min(*len, needed);
  memcpy(buffer, found->second.data(), static_cast<size_t>(*len));
  return needed;
}

int
TSSslSessionInsert(const Id *id, SSL_SESSION *session)
{
  unsigned char *der = nullptr;
  int len            = i2d_SSL_SESSION(session, &der);
  if (len <= 0) {
    return -1;
  }
  std::string bytes(reinterpret_cast<char *>(der), static_cast<size_t>(len));
  OPENSSL_clear_free(der, static_cast<size_t>(len));
  std::unique_lock<std::shared_mutex> lock(mutex);
  sessions[key(id)] = std::move(bytes);
  return 0;
}

int
TSSslSessionRemove(const Id *id)
{
  std::unique_lock<std::shared_mutex> lock(mutex);
  sessions.erase(key(id));
  return 0;
}

void
TSSslSessionCacheClear()
{
  std::unique_lock<std::shared_mutex> lock(mutex);
  sessions = {};
}
}
