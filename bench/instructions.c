/** @file

  Calls one function many times, for tools/instructions.sh to count:

    instructions LIBRARY hit|miss|get|lost|remove|insert|encode|nothing COUNT SESSIONS

  There are SESSIONS sessions of 135 bytes. "lost" is "get" without a session, "encode" the share of
  OpenSSL in "insert", "nothing" that of this program in each.

  SPDX-License-Identifier: Apache-2.0
 */

#include <dlfcn.h>
#include <stdint.h>

#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include <ts/ts.h>

#include "../c_tests/check.h"

static void
find(void *library, const char *name, void *function)
{
  void *found = dlsym(library, name);
  REQUIRE(found != NULL);
  memcpy(function, &found, sizeof(found));
}

/* Makes a session as with a TLS 1.2 client. */
static SSL_SESSION *
new_session(void)
{
  unsigned char secret[48];
  SSL_CTX *ctx         = SSL_CTX_new(TLS_server_method());
  SSL *ssl             = SSL_new(ctx);
  SSL_SESSION *session = SSL_SESSION_new();
  memset(secret, 7, sizeof(secret));
  REQUIRE(SSL_SESSION_set_protocol_version(session, TLS1_2_VERSION) == 1);
  REQUIRE(SSL_SESSION_set_cipher(session, SSL_CIPHER_find(ssl, (const unsigned char *)"\xc0\x2f")) == 1);
  REQUIRE(SSL_SESSION_set1_master_key(session, secret, sizeof(secret)) == 1);
  SSL_SESSION_set_timeout(session, 7200);
  SSL_free(ssl);
  SSL_CTX_free(ctx);
  return session;
}

int
main(int argc, char **argv)
{
  REQUIRE(argc == 5);
  int count           = atoi(argv[3]);
  int sessions        = atoi(argv[4]);
  TSSslSessionID *ids = calloc((size_t)sessions, sizeof(*ids));
  REQUIRE(ids != NULL);
  __typeof__(&TSSslSessionGet) get;
  __typeof__(&TSSslSessionGetBuffer) get_buffer;
  __typeof__(&TSSslSessionInsert) insert;
  __typeof__(&TSSslSessionRemove) remove_session;
  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  REQUIRE(library != NULL);
  find(library, "TSSslSessionGet", &get);
  find(library, "TSSslSessionGetBuffer", &get_buffer);
  find(library, "TSSslSessionInsert", &insert);
  find(library, "TSSslSessionRemove", &remove_session);

  SSL_SESSION *session = new_session();
  uint64_t random      = 1;
  for (int i = 0; i < sessions; i++) {
    ids[i].len = 32;
    for (int at = 0; at < 32; at++) {
      random           = random * 6364136223846793005U + 1442695040888963407U;
      ids[i].bytes[at] = (char)(random >> 56);
    }
    REQUIRE(SSL_SESSION_set1_id(session, (const unsigned char *)ids[i].bytes, 32) == 1);
    REQUIRE(insert(&ids[i], (TSSslSession)session) == TS_SUCCESS);
  }

  for (int i = 0; i < count; i++) {
    TSSslSessionID id = ids[i % sessions];
    char der[1024];
    int len = sizeof(der);
    switch (argv[2][0]) {
    case 'h':
      REQUIRE(get_buffer(&id, der, &len) > 100);
      break;
    case 'm':
      id.bytes[0] ^= 1;
      REQUIRE(get_buffer(&id, der, &len) == 0);
      break;
    case 'g':
      SSL_SESSION_free((SSL_SESSION *)get(&id));
      break;
    case 'l':
      id.bytes[0] ^= 1;
      REQUIRE(get(&id) == NULL);
      break;
    case 'r':
      REQUIRE(remove_session(&id) == TS_SUCCESS);
      break;
    case 'i':
      SSL_SESSION_set1_id(session, (const unsigned char *)id.bytes, 32);
      REQUIRE(insert(&id, (TSSslSession)session) == TS_SUCCESS);
      break;
    case 'n':
      break;
    default: {
      unsigned char *encoded = NULL;
      SSL_SESSION_set1_id(session, (const unsigned char *)id.bytes, 32);
      int encoded_len = i2d_SSL_SESSION(session, &encoded);
      OPENSSL_clear_free(encoded, (size_t)encoded_len);
    }
    }
  }
  SSL_SESSION_free(session);
  free(ids);
  return 0;
}
