/** @file

  A shared object that contains a hidden copy of OpenSSL, as some hosts and Python packages do.

  SPDX-License-Identifier: Apache-2.0
 */

#include <openssl/ssl.h>

SSL_CTX *other_context(void);
long other_mode(SSL_CTX *ctx);
SSL_SESSION *other_session(const unsigned char *der, long len);
void other_free(SSL_CTX *ctx, SSL_SESSION *session);

SSL_CTX *
other_context(void)
{
  return SSL_CTX_new(TLS_server_method());
}

long
other_mode(SSL_CTX *ctx)
{
  return SSL_CTX_get_session_cache_mode(ctx);
}

SSL_SESSION *
other_session(const unsigned char *der, long len)
{
  return d2i_SSL_SESSION(NULL, &der, len);
}

void
other_free(SSL_CTX *ctx, SSL_SESSION *session)
{
  SSL_CTX_free(ctx);
  SSL_SESSION_free(session);
}
