/** @file

  A server that is a member of a farm of machines: sessions and ticket keys are shared
  through Redis.

    farm_member FILE

  FILE has the settings, as in farm.example.toml. Prints the counters of the farm, for
  Prometheus. How such a server makes its certificate and serves, host.c shows.

  SPDX-License-Identifier: Apache-2.0
 */

#include <stdio.h>
#include <stdlib.h>

#include <openssl/ssl.h>

#include <ts/ssl_session_cache.h>
#include <ts/ssl_session_farm.h>

static int
print_counters(void)
{
  /* Between the two calls a number may grow by some digits. */
  int len    = 0;
  int space  = TSSslSessionFarmStatsText(NULL, &len) + 1024;
  char *text = malloc((size_t)space);
  if (text == NULL) {
    return 1;
  }
  len        = space;
  int needed = TSSslSessionFarmStatsText(text, &len);
  printf("%.*s", len, text);
  free(text);
  return needed == 0 || needed > len;
}

int
main(int argc, char *argv[])
{
  if (argc != 2) {
    fprintf(stderr, "usage: %s FILE\n", argv[0]);
    return 2;
  }
  /* Before anybody is served: then no ticket is made with a key that the farm does not
     know. What is wrong with the settings is on standard error. */
  if (TSSslSessionFarmStart(argv[1]) != TS_SUCCESS) {
    return 1;
  }
  SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
  if (ctx == NULL || TSSslSessionCacheAttach((TSSslContext)ctx) != TS_SUCCESS) {
    return 1;
  }
  int result = print_counters();
  SSL_CTX_free(ctx);
  return result;
}
