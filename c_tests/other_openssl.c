/** @file

  To be preloaded: a server that is linked with another OpenSSL than the library.

    -DOLDER   an older one, whose names have other versions (with other_openssl.map)
    -DOTHER   one of another make, within the program itself, whose names come first

  SPDX-License-Identifier: Apache-2.0
 */

#ifdef OLDER
void *SSL_get_SSL_CTX(const void *ssl);

void *
SSL_get_SSL_CTX(const void *ssl)
{
  (void)ssl;
  __builtin_trap();
}
#else
unsigned long OpenSSL_version_num(void);

unsigned long
OpenSSL_version_num(void)
{
  return 0x1010107f;
}
#endif
