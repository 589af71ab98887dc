/** @file

  A plugin for ATS 10 and 11 (TS_SSL_SESSION_API 10), whose functions have C++ names. It shares
  sessions and ticket keys with other servers, and uses all five functions.

    plugin_ats10.so IN OUT

  Reads messages (message.h) from the file IN and writes the answers to the file OUT. A real plugin
  uses connections instead, and waits for messages on a separate thread.

  SPDX-License-Identifier: Apache-2.0
 */

#include <algorithm>
#include <fstream>
#include <iostream>
#include <memory>
#include <vector>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <ts/ts.h>

#include "message.h"

namespace
{
struct FreeSession {
  void operator()(SSL_SESSION *session) const
  {
    SSL_SESSION_free(session);
  }
};
using Session = std::unique_ptr<SSL_SESSION, FreeSession>;

/* An allocator that wipes memory when it is freed. */
template <class T> struct Wiping {
  using value_type = T;

  T *allocate(size_t count)
  {
    return std::allocator<T>().allocate(count);
  }

  void deallocate(T *memory, size_t count)
  {
    OPENSSL_cleanse(memory, count * sizeof(T));
    std::allocator<T>().deallocate(memory, count);
  }

  bool operator==(const Wiping &) const = default;
};
using Secret = std::vector<char, Wiping<char>>;

constexpr size_t KEY_LEN  = 48;
constexpr size_t MAX_KEYS = 3;

/* The keys, newest first: the first encrypts, all decrypt. */
Secret ring;

message_kind
use_key(const Secret &key)
{
  if (key.size() != KEY_LEN) {
    return MESSAGE_REFUSED;
  }
  Secret next = key;
  next.insert(next.end(), ring.begin(), ring.end());
  next.resize(std::min(next.size(), MAX_KEYS * KEY_LEN));
  /* On failure the active keys stay as they are. */
  if (TSSslTicketKeyUpdate(next.data(), static_cast<int>(next.size())) != TS_SUCCESS) {
    return MESSAGE_REFUSED;
  }
  ring.swap(next);
  return MESSAGE_DONE;
}

message_kind
take_session(const TSSslSessionID &id, const Secret &der)
{
  auto start = reinterpret_cast<const unsigned char *>(der.data());
  auto end   = start;
  Session theirs(d2i_SSL_SESSION(nullptr, &end, static_cast<long>(der.size())));
  Session ours(reinterpret_cast<SSL_SESSION *>(TSSslSessionGet(&id)));

  /* d2i may leave an error in the queue, which would disturb handshakes on this thread. */
  ERR_clear_error();
  if (!theirs || end != start + der.size()) {
    return MESSAGE_REFUSED;
  }
  /* Messages may arrive out of order: keep the newer session. */
  if (ours && SESSION_TIME(ours.get()) > SESSION_TIME(theirs.get())) {
    return MESSAGE_REFUSED;
  }
  /* There is no connection here for another server's session. */
  auto result = TSSslSessionInsert(&id, reinterpret_cast<TSSslSession>(theirs.get()), nullptr);
  return result == TS_SUCCESS ? MESSAGE_DONE : MESSAGE_REFUSED;
}

message_kind
give_session(const TSSslSessionID &id, Secret &der)
{
  /* Without a buffer it returns the size. */
  int stored = 0;
  int needed = TSSslSessionGetBuffer(&id, nullptr, &stored);
  /* Each call may meet a larger session. It was cut off if more is needed than was stored. */
  while (needed > stored) {
    der    = Secret(static_cast<size_t>(needed));
    stored = needed;
    needed = TSSslSessionGetBuffer(&id, der.data(), &stored);
  }
  der.resize(static_cast<size_t>(stored));
  return needed > 0 ? MESSAGE_SESSION : MESSAGE_ABSENT;
}

void
answer(const message &question, const Secret &bytes, std::ostream &out)
{
  message reply = question;
  Secret session;

  switch (question.kind) {
  case MESSAGE_KEY:
    reply.kind = use_key(bytes);
    break;
  case MESSAGE_SESSION:
    reply.kind = take_session(question.id, bytes);
    break;
  case MESSAGE_WANTED:
    reply.kind = give_session(question.id, session);
    break;
  case MESSAGE_REVOKED:
    reply.kind = TSSslSessionRemove(&question.id) == TS_SUCCESS ? MESSAGE_DONE : MESSAGE_REFUSED;
    break;
  default:
    reply.kind = MESSAGE_REFUSED;
  }
  if (reply.kind == MESSAGE_REFUSED) {
    std::cerr << "plugin_ats10: refused a message of kind " << question.kind << '\n';
  }
  reply.len = static_cast<int>(session.size());
  out.write(reinterpret_cast<const char *>(&reply), sizeof(reply));
  out.write(session.data(), reply.len);
}
} // namespace

void
TSPluginInit(int argc, const char *argv[])
{
  if (argc != 3) {
    std::cerr << "plugin_ats10: usage: plugin_ats10.so IN OUT\n";
    return;
  }
  std::ifstream in(argv[1], std::ios::binary);
  std::ofstream out(argv[2], std::ios::binary);
  message question;
  while (in.read(reinterpret_cast<char *>(&question), sizeof(question)) && question.len >= 0 &&
         question.len <= MESSAGE_MAX_LEN) {
    Secret bytes(static_cast<size_t>(question.len));
    if (!in.read(bytes.data(), question.len)) {
      break;
    }
    answer(question, bytes, out);
  }
}
