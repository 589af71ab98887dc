/** @file

  Preloaded, this makes a server look as if it were linked with another OpenSSL than the library.

    -DOLDER   an older one, whose symbols have other versions (with other_openssl.map)
    -DOTHER   another library in the program itself, whose symbols come first

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
