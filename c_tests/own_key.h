/** @file

  A ticket key of the host: own_key is for SSL_CTX_set_tlsext_ticket_key_evp_cb.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef OWN_KEY_H
#define OWN_KEY_H

#include <string.h>

#include <openssl/rand.h>
#include <openssl/ssl.h>

#include "check.h"

/* How often OpenSSL asked the host for it. */
static int own_key_asked;

static int
own_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
  static unsigned char key[16] = {'a', ' ', 'k', 'e', 'y'};
  OSSL_PARAM params[]          = {OSSL_PARAM_construct_octet_string("key", key, sizeof(key)),
                                  OSSL_PARAM_construct_utf8_string("digest", (char[]){"SHA256"}, 0), OSSL_PARAM_construct_end()};
  (void)ssl;
  own_key_asked++;
  if (encrypt) {
    memset(name, 'n', 16);
    REQUIRE(RAND_bytes(iv, 16) == 1);
  }
  return EVP_MAC_CTX_set_params(mac, params) == 1 &&
         EVP_CipherInit_ex(cipher, EVP_aes_128_cbc(), NULL, key, iv, encrypt) == 1;
}

#endif /* OWN_KEY_H */
